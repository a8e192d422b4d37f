//! Waiting for a job, which is done once, here: until it is done, has failed or is gone, and what comes of it at its timeout.

use super::{context::CallContext, job_watch::JobWatch};
use crate::{
    base::{clock::Stopwatch, moment::Span},
    provider::{
        Code, Error, Provider, Result, SideEffects,
        model::{Job, JobStatus, Progress},
    },
};
use serde_json::Value;
use std::future::Future;

/// The pause between two looks whether a cancelled job is gone.
const GONE_INTERVAL: Span = Span::from_secs(1);

/// What polling ended with.
enum PollEnd {
    /// It is done, with this value.
    Done(Value),
    /// It has failed, which may have any code; an error with the same code that comes from a look means something else.
    Failed(Error),
    /// The time was up first.
    TimeUp,
}

/// What looks at a job have failed with.
#[derive(Default)]
struct LookFailures {
    /// Whether the job is this machine's own work: what nobody knows of that goes on when a person has seen to it.
    of_local_work: bool,
    first: Option<Error>,
    /// What the last look has failed with, if it has.
    last: Option<Error>,
}

impl CallContext<'_> {
    /// Waits for a job and returns its result. At the timeout the job is cancelled and what it made is removed.
    ///
    /// That a look fails, or does not show the job, ends nothing, unless everything of the job is this machine's own work.
    /// A job that is not shown for as long as its request may take to land is believed to be gone. One that cannot be looked
    /// at when the time is up may be done, and is not cancelled; nor is one that is shown as over, of which only the belief in
    /// how it ended is left.
    ///
    /// # Errors
    /// What the job failed with, or [`Code::Timeout`] when it is gone; [`Code::Unknown`] when it may still be at work.
    pub(super) async fn wait_for_job_or_cancel(
        &self,
        provider: &dyn Provider,
        job: &Job,
        timeout: Span,
        watch: JobWatch,
    ) -> Result<Value> {
        let clock = self.fleet.clock();
        let look = || async {
            match watch.interpret_poll(&clock.uptime(), provider.poll_job(job).await)? {
                JobStatus::Failed(error) => Ok(JobStatus::Failed(
                    self.remove_what_failed_job_made(provider, job, error, &watch).await,
                )),
                status => Ok(status),
            }
        };
        let mut failures = LookFailures { of_local_work: watch.is_local_work(), ..LookFailures::default() };
        let why = match self.poll(provider, timeout, &mut failures, look).await {
            Ok(PollEnd::Done(value)) => return Ok(value),
            Ok(PollEnd::TimeUp) => match (watch.lag_left(&clock.uptime()), failures.last) {
                (Some(left), _) => return Err(unsettled_end_error(job, timeout, left)),
                (None, Some(e)) if !watch.is_local_work() => return Err(unseen_job_error(job, timeout, &e)),
                (None, last) => unfinished_job_error(job, timeout, last.as_ref()),
            },
            // A provider that failed for a while may have dropped the job since: report that first failure.
            Err(e) if e.code == Code::NotFound => {
                return Err(watch.doubtful_job_error(job, failures.first.unwrap_or(e)));
            }
            Ok(PollEnd::Failed(e)) | Err(e) => return Err(e),
        };
        // What was never seen may not have landed yet, and what has not landed cannot be cancelled.
        if let Some(left) = watch.landing_time_left_if_unseen(&clock.uptime()) {
            self.report_phase(format!("looking whether the {} comes after all, to cancel it", job.kind));
            provider.let_time_pass(clock.as_ref(), left).await;
        }
        self.cancel_job(provider, job, why, &watch).await
    }

    /// Polls with `look` until it is done and returns its result; `None` when the time is up first.
    ///
    /// # Errors
    /// What it has failed with, or the first error of a poll that says more than that the poll failed.
    pub(super) async fn poll_until_done<F: Future<Output = Result<JobStatus>> + Send>(
        &self,
        provider: &dyn Provider,
        timeout: Span,
        look: impl FnMut() -> F + Send,
    ) -> Result<Option<Value>> {
        match self.poll(provider, timeout, &mut LookFailures::default(), look).await? {
            PollEnd::Done(value) => Ok(Some(value)),
            PollEnd::Failed(e) => Err(e),
            PollEnd::TimeUp => Ok(None),
        }
    }

    /// Polls with `look` until the end, and keeps the errors that say only that a poll failed.
    ///
    /// # Errors
    /// The first error of a poll that says more.
    async fn poll<F: Future<Output = Result<JobStatus>> + Send>(
        &self,
        provider: &dyn Provider,
        timeout: Span,
        failures: &mut LookFailures,
        mut look: impl FnMut() -> F + Send,
    ) -> Result<PollEnd> {
        let clock = self.fleet.clock();
        let watch = Stopwatch::start(clock.as_ref());
        let mut waited = Span::ZERO;
        loop {
            let answer = look().await;
            log_poll(&answer);
            failures.last = None;
            let again_in = match answer {
                Ok(JobStatus::Done(value)) => return Ok(PollEnd::Done(value)),
                Ok(JobStatus::Failed(e)) => return Ok(PollEnd::Failed(e)),
                Ok(JobStatus::Running(progress) | JobStatus::NotBegun(progress)) => {
                    self.host.report_progress(&progress);
                    progress.again_in
                }
                Err(e) if failures.of_local_work && e.code == Code::Unknown => {
                    return Err(Error { message: e.message_with_hint(), ..e });
                }
                Err(e) if e.code.is_look_failure() => {
                    self.report_phase(format!("cannot be looked at: {}", e.message));
                    failures.first.get_or_insert_with(|| e.clone());
                    failures.last = Some(e);
                    None
                }
                Err(e) => return Err(e),
                // Only a job has such an end, and its watch waits for it.
                Ok(JobStatus::Lagging(..)) => None,
            };
            if watch.elapsed() >= timeout {
                return Ok(PollEnd::TimeUp);
            }
            let pause = again_in.unwrap_or_else(|| next_poll_delay(waited));
            provider.let_time_pass(clock.as_ref(), pause).await;
            waited = Span(waited.0.saturating_add(pause.0));
        }
    }

    /// Cancels a job and returns `why` as its error, or the job's own end if it turns out to have one. Of one that cannot be
    /// cancelled, or is shown on after that was answered, and may still be at work, nobody knows what comes: [`Code::Unknown`].
    async fn cancel_job(
        &self,
        provider: &dyn Provider,
        job: &Job,
        why: Error,
        watch: &JobWatch,
    ) -> Result<Value> {
        let Err(refusal) = provider.cancel(job).await else {
            if watch.is_local_work() {
                return Err(cancelled_error(provider, job, why).await);
            }
            if self.is_gone_within(provider, job, watch.shown_within()).await {
                return Err(why);
            }
            let still = format!("it was still shown {} after that was answered", watch.shown_within());
            return Err(uncancelled_error(job, &why, &Error::new(Code::NotApplied, still)));
        };
        // It was taken as far as it goes just now: another look would only wait for the same once more.
        if watch.is_local_work() && refusal.code == Code::Unknown {
            let message = format!("{}; {}", why.message, refusal.message_with_hint());
            return Err(Error { message, hint: None, ..refusal });
        }
        let is_doubtful = |is_done| watch.is_doubtful(&self.fleet.clock().uptime(), is_done);
        match provider.poll_job(job).await {
            Ok(JobStatus::Done(value)) if !is_doubtful(true) => Ok(value),
            Ok(JobStatus::Failed(own)) if !is_doubtful(false) => Err(failed_meanwhile_error(
                why,
                &refusal,
                self.remove_what_failed_job_made(provider, job, own, watch).await,
            )),
            Err(e) if !watch.is_assumed() && e.code == Code::NotFound => Err(why),
            Ok(_) | Err(_) => Err(uncancelled_error(job, &why, &refusal)),
        }
    }

    /// Removes what a failed job has made, and returns its error. A platform may take a while until that is gone: what is waited
    /// for is said before.
    async fn remove_what_failed_job_made(
        &self,
        provider: &dyn Provider,
        job: &Job,
        error: Error,
        watch: &JobWatch,
    ) -> Error {
        if !watch.is_local_work() {
            let within = watch.shown_within();
            let until = self.fleet.clock().now().saturating_add(within).round_up_to_second();
            self.report_phase(format!(
                "has failed; what it has made is removed, and looked for until it is gone, for {within} from now at most \
                 (until {until}; Ctrl-C stops, a resume looks on)"
            ));
        }
        provider.remove_what_failed_job_made(job, error).await
    }

    /// Looks until a job whose cancellation was answered is not shown any more, for `within` at most.
    async fn is_gone_within(&self, provider: &dyn Provider, job: &Job, within: Span) -> bool {
        let clock = self.fleet.clock();
        let (stopwatch, mut waited) = (Stopwatch::start(clock.as_ref()), Span::ZERO);
        loop {
            // A simulated target's time passes without the process's own.
            let is_last = waited.max(stopwatch.elapsed()) >= within;
            match provider.is_job_shown(job).await {
                Ok(false) => return true,
                Ok(true) | Err(_) if is_last => return false,
                Ok(true) | Err(_) => {}
            }
            self.report_phase(format!(
                "cancelled; looking until the {} is gone, for {within} at most",
                job.kind
            ));
            provider.let_time_pass(clock.as_ref(), GONE_INTERVAL).await;
            waited = Span(waited.0.saturating_add(GONE_INTERVAL.0));
        }
    }

    fn report_phase(&self, phase: String) {
        self.host.report_progress(&Progress::with_phase(phase));
    }
}

/// Returns the error of a job whose time is up and that is to be cancelled.
fn unfinished_job_error(job: &Job, timeout: Span, last_failure: Option<&Error>) -> Error {
    let unseen = last_failure.map_or_else(String::new, |e| format!(", and cannot be looked at: {e}"));
    Error::new(Code::Timeout, format!("the {} was not done within {timeout}{unseen}", job.kind))
        .with_hint("give it more with `timeout:`")
}

/// Returns the error of this machine's own job that was cancelled, with what it had changed until then.
async fn cancelled_error(provider: &dyn Provider, job: &Job, why: Error) -> Error {
    match provider.poll_job(job).await {
        Ok(JobStatus::Failed(own)) if own.side_effects != SideEffects::None => {
            let message = format!("{}; {}", why.message, own.message);
            Error { message, side_effects: own.side_effects, left_behind: own.left_behind, ..why }
        }
        _ => why,
    }
}

/// Returns the error of a job whose time is up and that cannot be looked at: nobody knows whether it is done.
fn unseen_job_error(job: &Job, timeout: Span, last_failure: &Error) -> Error {
    let Job { kind, id, .. } = job;
    let message = format!(
        "the {kind} `{id}` was not seen to be done within {timeout}, and cannot be looked at, so that it may be done or \
         still at work, and was not cancelled: {}",
        last_failure.message_with_hint()
    );
    Error::new(Code::Unknown, message)
}

/// Returns the error of a job that is shown as over when its time is up, and of whose end nobody can be sure for `left` more.
fn unsettled_end_error(job: &Job, timeout: Span, left: Span) -> Error {
    let Job { kind, id, .. } = job;
    let what = format!(
        "it is not known within {timeout} how the {kind} `{id}` ended: it is shown as over, and what shows that may lag \
         behind for {left} more"
    );
    Error::new(Code::Unknown, what)
}

/// Returns the error of a job that was not cancelled when its time was up, because it had failed: `own` is that failure. A
/// cancellation without an answer may be what made it fail.
fn failed_meanwhile_error(why: Error, refusal: &Error, own: Error) -> Error {
    let message = format!("{}, and has failed: {}", why.message, own.message);
    if refusal.code == Code::Unknown {
        return Error { message, side_effects: own.side_effects, left_behind: own.left_behind, ..why };
    }
    Error { message, ..own }
}

/// Returns the error of a job that is waited for no longer, could not be cancelled, and may still be at work.
fn uncancelled_error(job: &Job, why: &Error, refusal: &Error) -> Error {
    let message = format!(
        "{}, and the {} `{}` may still be at work, because it was not cancelled: {}",
        why.message,
        job.kind,
        job.id,
        refusal.message_with_hint()
    );
    Error::new(Code::Unknown, message)
}

fn log_poll(answer: &Result<JobStatus>) {
    match answer {
        Ok(JobStatus::Done(_)) => tracing::debug!("poll: done"),
        Ok(JobStatus::Running(progress)) => tracing::debug!(phase = progress.phase, "poll: at work"),
        Ok(JobStatus::NotBegun(progress)) => tracing::debug!(phase = progress.phase, "poll: not begun"),
        Ok(JobStatus::Lagging(..)) => tracing::debug!("poll: shown as over, and not known to be"),
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
