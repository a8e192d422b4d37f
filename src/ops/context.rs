//! What an operation works with: the fleet, the key of its call, its caller, and waiting, which is done once, here.

use super::canonical::parse_target_ref;
use crate::{
    base::{moment::Span, value},
    provider::{
        Accept, Code, Error, Fleet, Provider, Result,
        model::{CallKey, Job, JobStatus, Progress},
    },
};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::{future::Future, sync::Arc};

/// The caller of an operation, as the operation sees it.
pub trait CallHost: Accept {
    /// Reports the progress of the operation.
    fn report_progress(&self, progress: &Progress);
    /// Reports the column order of a query's rows.
    fn report_columns(&self, _columns: &[String]) {}
}

/// What one call of an operation works with.
pub struct CallContext<'a> {
    pub fleet: &'a Fleet,
    /// The call's identity in the world.
    pub key: &'a CallKey,
    /// The id of the run, when there is one.
    pub run: Option<&'a str>,
    /// What was recorded before a crash: what the world accepted, or what was about to be asked.
    pub accepted: Option<Value>,
    pub host: &'a dyn CallHost,
}

impl CallContext<'_> {
    /// Returns the target or branch that a parameter names, opened.
    ///
    /// # Errors
    /// [`Code::NotFound`], also when the branch of that name is a later one.
    pub(super) async fn open_target(&self, given: &Value) -> Result<Arc<dyn Provider>> {
        let target_ref = parse_target_ref(given)?;
        if let Some(id) = value::untag_as(given, value::BRANCH_TAG).and_then(|b| b["id"].as_str()) {
            let name = target_ref.branch.as_deref().unwrap_or_default();
            let branch = self.fleet.open_target(&target_ref.target)?.branches()?.get(name).await?;
            if branch.id != id {
                return Err(Error::new(Code::NotFound, format!("branch `{target_ref}` is gone"))
                    .with_hint(format!("a later branch has its name: it was made {}", branch.created_at)));
            }
        }
        self.fleet.open_target_ref(&target_ref).await
    }

    /// Returns where a provider records how the world was, before it asks a platform that keeps no key.
    pub(super) fn intent(&self) -> Intent<'_> {
        Intent(self.host)
    }

    /// Returns what was recorded there before a crash, when nothing was accepted since.
    pub(super) fn intended(&self) -> Option<&Value> {
        self.accepted.as_ref()?.get(INTENT)
    }

    /// Returns the job of this call: the one that was recorded before a crash, else the one that `start` starts now,
    /// recorded before anything waits for it.
    ///
    /// # Errors
    /// The error of `start`, or [`Code::Internal`] when the record holds no job.
    pub(super) async fn adopt_or_start_job(&self, start: impl Future<Output = Result<Job>>) -> Result<Job> {
        if let Some(recorded) = self.accepted.clone().filter(|recorded| !is_intent(recorded)) {
            return serde_json::from_value(recorded).map_err(|e| {
                Error::new(Code::Internal, format!("the journal holds no job where one belongs: {e}"))
            });
        }
        let job = start.await?;
        self.record_accepted(&job).await?;
        Ok(job)
    }

    /// Waits for a job and returns its result. At the timeout the job is cancelled and what it made is removed.
    ///
    /// # Errors
    /// What the job failed with, or [`Code::Timeout`]; what could not be removed again is named in it.
    pub(super) async fn wait_for_job(
        &self,
        provider: &dyn Provider,
        job: &Job,
        timeout: Span,
    ) -> Result<Value> {
        let mut first_failure = None;
        let why = match self.poll(provider, timeout, &mut first_failure, || provider.observe(job)).await {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => Error::new(Code::Timeout, format!("the {} was not done within {timeout}", job.kind))
                .with_hint("give it more with `timeout:`"),
            Err(e) if e.code == Code::Denied => e,
            // A provider that failed for a while may have dropped the job since: report that first failure.
            Err(e) if e.code == Code::NotFound => return Err(first_failure.unwrap_or(e)),
            Err(e) => return Err(e),
        };
        cancel_job(provider, job, why).await
    }

    /// Polls with `look` until it is done and returns its result; `None` when the time is up first.
    ///
    /// # Errors
    /// The first error of a poll that says more than that the poll failed.
    pub(super) async fn poll_until<F: Future<Output = Result<JobStatus>> + Send>(
        &self,
        provider: &dyn Provider,
        timeout: Span,
        look: impl FnMut() -> F + Send,
    ) -> Result<Option<Value>> {
        self.poll(provider, timeout, &mut None, look).await
    }

    /// Does what [`CallContext::poll_until`] does, and keeps the first error that says only that a poll failed.
    async fn poll<F: Future<Output = Result<JobStatus>> + Send>(
        &self,
        provider: &dyn Provider,
        timeout: Span,
        first_failure: &mut Option<Error>,
        mut look: impl FnMut() -> F + Send,
    ) -> Result<Option<Value>> {
        let clock = self.fleet.clock();
        let deadline = clock.now().saturating_add(timeout);
        let mut waited = Span::ZERO;
        loop {
            let answer = look().await;
            log_poll(&answer);
            let again_in = match answer {
                Ok(JobStatus::Done(value)) => return Ok(Some(value)),
                Ok(JobStatus::Running(progress)) => {
                    self.host.report_progress(&progress);
                    progress.again_in
                }
                Err(e) if is_poll_failure(e.code) => {
                    first_failure.get_or_insert(e);
                    None
                }
                Err(e) => return Err(e),
            };
            if clock.now() >= deadline {
                return Ok(None);
            }
            let pause = again_in.unwrap_or_else(|| next_poll_delay(waited));
            provider.pause(clock.as_ref(), pause).await;
            waited = Span(waited.0.saturating_add(pause.0));
        }
    }

    /// Records what the world accepted.
    ///
    /// # Errors
    /// Why it cannot be recorded.
    pub(super) async fn record_accepted(&self, what: &impl serde::Serialize) -> Result<()> {
        let what = serde_json::to_value(what).map_err(|e| Error::new(Code::Internal, e.to_string()))?;
        self.host.accepted(what).await
    }
}

/// The field that tells a record of what was about to be asked from one of what was accepted.
const INTENT: &str = "$intent";

/// Returns whether a record says what was about to be asked, not what was accepted.
pub fn is_intent(recorded: &Value) -> bool {
    recorded.get(INTENT).is_some()
}

/// Where a provider records how the world was, before it asks for something that carries no key.
pub(super) struct Intent<'a>(&'a dyn CallHost);

#[async_trait]
impl Accept for Intent<'_> {
    async fn accepted(&self, what: Value) -> Result<()> {
        self.0.accepted(json!({ INTENT: what })).await
    }
}

fn log_poll(answer: &Result<JobStatus>) {
    match answer {
        Ok(JobStatus::Done(_)) => tracing::debug!("poll: done"),
        Ok(JobStatus::Running(progress)) => tracing::debug!(phase = progress.phase, "poll: at work"),
        Err(error) => tracing::info!(code = %error.code, message = error.message, "poll: no answer"),
    }
}

/// Returns whether an error says only that the job could not be polled.
fn is_poll_failure(code: Code) -> bool {
    matches!(code, Code::Throttled | Code::Unavailable | Code::Timeout | Code::Unknown)
}

/// Cancels a job and returns `why` as its error, or the job's result if it turns out to be done. What it made and cannot
/// be removed is named in the error; for a job that cannot be cancelled, the provider's hint is added.
async fn cancel_job(provider: &dyn Provider, job: &Job, why: Error) -> Result<Value> {
    let Err(refusal) = provider.cancel(job).await else { return Err(why) };
    let why = match refusal {
        Error { code: Code::Unsupported, hint: Some(hint), .. } => {
            let own = why.hint.clone().map(|own| format!("{own}; ")).unwrap_or_default();
            why.with_hint(format!("{own}{hint}"))
        }
        _ => why,
    };
    match provider.observe(job).await {
        Ok(JobStatus::Done(value)) => Ok(value),
        Err(e) if !is_poll_failure(e.code) && e.code != Code::Denied => Err(why),
        Ok(JobStatus::Running(_)) | Err(_) => Err(why.with_left_behind(format!("{} {}", job.kind, job.id))),
    }
}

/// Returns the pause before the next poll, given the time waited so far: a late poll adds at most a twentieth to it.
fn next_poll_delay(waited: Span) -> Span {
    Span(waited.0 / 20).clamp(Span::from_millis(20), Span::from_millis(500))
}
