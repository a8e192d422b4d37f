//! What an operation works with: the fleet, the key of its call, its caller, and waiting, which is done once, here.

use super::{
    canonical::parse_target_ref,
    evidence::Evidence,
    job_watch::{JobWatch, cancel_job},
    thing::Thing,
};
use crate::{
    base::{
        clock::{Stopwatch, Uptime},
        moment::{Moment, Span},
        value,
    },
    provider::{
        Code, Error, Fleet, Provider, Result,
        model::{CallKey, Job, JobStatus, Progress},
    },
};
use async_trait::async_trait;
use serde_json::Value;
use std::{any::Any, future::Future, sync::Arc};

/// The caller of an operation, as the operation sees it.
#[async_trait]
pub trait CallHost: Send + Sync {
    /// Reports the progress of the operation.
    fn report_progress(&self, progress: &Progress);
    /// Reports the column order of a query's rows.
    fn report_columns(&self, _columns: &[String]) {}
    /// Records what the call is about to do, or was given to wait on. It is on disk when this returns.
    async fn record_evidence(&self, evidence: &Evidence) -> Result<()>;
    /// Waits until no other call of this state folder is at these things, and no request of one can still land at them;
    /// others wait until the claim is dropped. [`Code::Timeout`] when that takes longer than `limit`.
    async fn claim_things(&self, things: &[Thing], limit: Option<Span>) -> Result<ThingClaim>;
    /// Puts things under quarantine: a request of this call, sent until `sent_by` at the latest, may land there for
    /// `span` after that, or for a time that nobody knows.
    async fn begin_quarantine(&self, things: &[Thing], sent_by: &Uptime, span: Option<Span>) -> Result<()>;
    /// Ends the quarantines of this call at all things but these, which stay as [`CallHost::begin_quarantine`] puts them.
    async fn narrow_quarantines(&self, things: &[Thing], sent_by: &Uptime, span: Option<Span>) -> Result<()>;
    /// Ends the quarantines of this call.
    async fn lift_quarantines(&self) -> Result<()>;
    /// Asks a person whether a lost request is looked for until `until`, when it can land no more. Returns who ends the
    /// looking; `None` when it goes on, also because nobody is there. The question is withdrawn when this is dropped.
    async fn offer_to_stop_looking(&self, _subject: &str, _until: Moment) -> Option<String> {
        None
    }
}

/// A claim to things, given back on drop.
#[derive(Debug, Default)]
pub struct ThingClaim {
    /// What keeps other calls away until it is dropped.
    pub hold: Option<ThingHold>,
    /// Until when an earlier attempt of this call may have sent a request that may still land, as of the last of them.
    pub open_since: Option<Uptime>,
    /// Whether an earlier attempt of this call was accepted, so that nobody knows until when it is at work.
    pub is_at_work: bool,
}

/// What keeps other calls away from things for as long as it is there.
pub type ThingHold = Box<dyn Any + Send + Sync>;

/// What one call of an operation works with.
pub struct CallContext<'a> {
    pub fleet: &'a Fleet,
    /// The call's identity in the world.
    pub key: &'a CallKey,
    /// The id of the run, when there is one.
    pub run: Option<&'a str>,
    /// What was recorded of the call before.
    pub recorded: Option<Evidence>,
    /// Whether the call was begun before, by this process or another one.
    pub is_taken_up: bool,
    /// How often the call was begun: after the first time, a request of an earlier attempt may still land.
    pub attempts: u32,
    /// Whether the effect may have been made although nothing is recorded of it: the journal was rolled back.
    pub is_doubtful: bool,
    /// Whether the call is only settled: nothing that was not asked for is asked for any more.
    pub settles_only: bool,
    pub host: &'a dyn CallHost,
}

impl CallContext<'_> {
    /// Returns whether it was decided to make the call anew.
    pub(super) fn is_redone(&self) -> bool {
        self.attempts > 1
    }

    /// Returns the target or branch that a parameter names, opened.
    ///
    /// # Errors
    /// [`Code::NotFound`], also when the branch of that name is a later one. [`Code::Unknown`], whatever the reason, when a
    /// call that was begun cannot ask there what came of it: a branch that is not shown may have been changed all the same.
    pub(super) async fn open_target(&self, given: &Value) -> Result<Arc<dyn Provider>> {
        self.open_recorded_target(given).await.map_err(|e| {
            if self.is_taken_up {
                Error::new(Code::Unknown, format!("its target cannot be asked: {}", e.message))
            } else {
                e
            }
        })
    }

    async fn open_recorded_target(&self, given: &Value) -> Result<Arc<dyn Provider>> {
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

    /// Waits for a job and returns its result. At the timeout the job is cancelled and what it made is removed.
    ///
    /// That a look fails, or does not show the job, ends nothing, unless everything of the job is this machine's own work.
    /// A job that is not shown for as long as its request may take to land is believed to be gone. One that cannot be looked
    /// at when the time is up may be done, and is not cancelled.
    ///
    /// # Errors
    /// What the job failed with, or [`Code::Timeout`] when it is gone; [`Code::Unknown`] when it may still be at work.
    pub(super) async fn wait_for_job(
        &self,
        provider: &dyn Provider,
        job: &Job,
        timeout: Span,
        watch: JobWatch,
    ) -> Result<Value> {
        let clock = self.fleet.clock();
        let look = || async {
            match watch.judge_look(&clock.uptime(), provider.poll_job(job).await)? {
                JobStatus::Failed(error) => Ok(JobStatus::Failed(provider.discard_failed(job, error).await)),
                status => Ok(status),
            }
        };
        let mut failures = LookFailures::default();
        let why = match self.poll(provider, timeout, &mut failures, look).await {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => match failures.last {
                Some(e) if !watch.is_own_work() => return Err(unseen_job_error(job, timeout, &e)),
                last => unfinished_job_error(job, timeout, last.as_ref()),
            },
            // A provider that failed for a while may have dropped the job since: report that first failure.
            Err(e) if e.code == Code::NotFound => return Err(watch.doubt(job, failures.first.unwrap_or(e))),
            Err(e) => return Err(e),
        };
        // What was never seen may not have landed yet, and what has not landed cannot be cancelled.
        if let Some(unlanded) = watch.unlanded(&clock.uptime()) {
            provider.let_time_pass(clock.as_ref(), unlanded).await;
        }
        cancel_job(provider, job, why, (&watch, clock.as_ref())).await
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
        self.poll(provider, timeout, &mut LookFailures::default(), look).await
    }

    /// Does what [`CallContext::poll_until`] does, and keeps the errors that say only that a poll failed.
    async fn poll<F: Future<Output = Result<JobStatus>> + Send>(
        &self,
        provider: &dyn Provider,
        timeout: Span,
        failures: &mut LookFailures,
        mut look: impl FnMut() -> F + Send,
    ) -> Result<Option<Value>> {
        let clock = self.fleet.clock();
        let watch = Stopwatch::start(clock.as_ref());
        let mut waited = Span::ZERO;
        loop {
            let answer = look().await;
            log_poll(&answer);
            failures.last = None;
            let again_in = match answer {
                Ok(JobStatus::Done(value)) => return Ok(Some(value)),
                Ok(JobStatus::Running(progress)) => {
                    self.host.report_progress(&progress);
                    progress.again_in
                }
                Err(e) if e.code.is_look_failure() => {
                    self.host.report_progress(&Progress::with_phase(format!(
                        "cannot be looked at: {}",
                        e.message
                    )));
                    failures.first.get_or_insert_with(|| e.clone());
                    failures.last = Some(e);
                    None
                }
                Ok(JobStatus::Failed(e)) | Err(e) => return Err(e),
                // Only a job has such an end, and its watch waits for it.
                Ok(JobStatus::Lagging(..)) => None,
            };
            if watch.passed() >= timeout {
                return Ok(None);
            }
            let pause = again_in.unwrap_or_else(|| next_poll_delay(waited));
            provider.let_time_pass(clock.as_ref(), pause).await;
            waited = Span(waited.0.saturating_add(pause.0));
        }
    }
}

/// What looks at a job have failed with.
#[derive(Default)]
struct LookFailures {
    first: Option<Error>,
    /// What the last look has failed with, if it has.
    last: Option<Error>,
}

/// Returns the error of a job whose time is up and that is to be cancelled.
fn unfinished_job_error(job: &Job, timeout: Span, last_failure: Option<&Error>) -> Error {
    let unseen = last_failure.map_or_else(String::new, |e| format!(", and cannot be looked at: {e}"));
    Error::new(Code::Timeout, format!("the {} was not done within {timeout}{unseen}", job.kind))
        .with_hint("give it more with `timeout:`")
}

/// Returns the error of a job whose time is up and that cannot be looked at: nobody knows whether it is done.
fn unseen_job_error(job: &Job, timeout: Span, last_failure: &Error) -> Error {
    let Job { kind, id, .. } = job;
    let message = format!(
        "the {kind} `{id}` was not seen to be done within {timeout}, and cannot be looked at, so that it may be done or \
         still at work, and was not cancelled: {last_failure}"
    );
    Error::new(Code::Unknown, message)
}

fn log_poll(answer: &Result<JobStatus>) {
    match answer {
        Ok(JobStatus::Done(_)) => tracing::debug!("poll: done"),
        Ok(JobStatus::Running(progress)) => tracing::debug!(phase = progress.phase, "poll: at work"),
        Ok(JobStatus::Lagging(..)) => tracing::debug!("poll: over, and how is not known yet"),
        Ok(JobStatus::Failed(error)) => {
            tracing::info!(code = %error.code, message = error.message, "poll: failed");
        }
        Err(error) => tracing::info!(code = %error.code, message = error.message, "poll: no answer"),
    }
}

/// Returns the pause before the next poll, given the time waited so far: a late poll adds at most a twentieth to it.
pub(super) fn next_poll_delay(waited: Span) -> Span {
    Span(waited.0 / 20).clamp(Span::from_millis(20), Span::from_millis(500))
}
