//! What the looks at an accepted job mean: that it is at work, over, gone, or that nobody knows.

use crate::{
    base::{clock::Uptime, lock::lock_unpoisoned, moment::Span},
    provider::{
        Code, Error, Provider, Result, SideEffects,
        model::{Job, JobStatus, Landing, Progress},
    },
};
use serde_json::Value;
use std::sync::Mutex;

/// What the looks at a job have shown so far.
pub(super) struct JobWatch {
    pub(super) landing: Landing,
    /// How long after the first look it may be done at the earliest: until then it may be somebody else's.
    not_before: Span,
    /// For how long on end a job that is at work may not be shown.
    shown_within: Span,
    shown: Mutex<JobSighting>,
}

/// Whether a job was seen.
#[derive(Default)]
struct JobSighting {
    began_at: Option<Uptime>,
    was_seen: bool,
    /// Since when it is not shown.
    absent_since: Option<Uptime>,
}

impl JobWatch {
    /// Begins a watch for `timeout`; what is done sooner than `not_before` may be somebody else's.
    pub(super) fn new(landing: Landing, timeout: Span, not_before: Span) -> Self {
        let shown_within = landing.max_delay().unwrap_or(timeout);
        Self { landing, not_before, shown_within, shown: Mutex::default() }
    }

    /// Returns what one look means for the job.
    pub(super) fn judge_look(&self, now: &Uptime, polled: Result<JobStatus>) -> Result<JobStatus> {
        let mut shown = lock_unpoisoned(&self.shown);
        shown.began_at.get_or_insert_with(|| now.clone());
        match polled {
            Err(e) if e.code == Code::NotFound => {
                let since = shown.absent_since.get_or_insert_with(|| now.clone());
                if now.since(since).is_some_and(|absent| absent >= self.shown_within) {
                    return Err(e);
                }
                Ok(JobStatus::Running(Progress::with_phase("not shown now")))
            }
            Ok(status) => {
                (shown.was_seen, shown.absent_since) = (true, None);
                let passed = shown.began_at.as_ref().and_then(|began| now.since(began));
                let is_early = passed.is_none_or(|passed| passed < self.not_before);
                match status {
                    JobStatus::Done(_) | JobStatus::Failed(_) if is_early => {
                        let phase = "one is there; whether it is this one is known when no other can come";
                        Ok(JobStatus::Running(Progress::with_phase(phase)))
                    }
                    status => Ok(status),
                }
            }
            // Whatever else a platform answers to a look says nothing of the job.
            Err(e) if !self.landing.is_fenced() && e.code != Code::Denied => {
                Err(Error { code: Code::Unavailable, ..e })
            }
            failed => failed,
        }
    }

    /// Returns how long the request of a job that was never seen may still take to land, if it may.
    pub(super) fn unlanded(&self, now: &Uptime) -> Option<Span> {
        let shown = lock_unpoisoned(&self.shown);
        let passed = shown.began_at.as_ref().and_then(|began| now.since(began)).unwrap_or(Span::ZERO);
        let left = Span(self.shown_within.0.saturating_sub(passed.0));
        (!shown.was_seen && left > Span::ZERO).then_some(left)
    }

    /// Returns the error of a job that is believed to be gone, which only a bound that somebody states makes certain.
    pub(super) fn doubt(&self, job: &Job, error: Error) -> Error {
        match self.landing {
            Landing::Assumed(_) => {
                let left_behind = vec![format!("{} {}, which may still appear", job.kind, job.id)];
                Error { side_effects: SideEffects::Unknown, left_behind, ..error }
            }
            _ => error,
        }
    }
}

/// Cancels a job and returns `why` as its error, or the job's result if it turns out to be done. Of one that cannot be
/// cancelled and may still be at work, nobody knows what comes: [`Code::Unknown`].
pub(super) async fn cancel_job(
    provider: &dyn Provider,
    job: &Job,
    why: Error,
    landing: Landing,
) -> Result<Value> {
    let Err(refusal) = provider.cancel(job).await else { return Err(why) };
    match provider.poll_job(job).await {
        Ok(JobStatus::Done(value)) => Ok(value),
        Ok(JobStatus::Failed(_)) => Err(why),
        Err(e) if !matches!(landing, Landing::Assumed(_)) && e.code == Code::NotFound => Err(why),
        Ok(JobStatus::Running(_)) | Err(_) => Err(uncancelled_error(job, &why, &refusal)),
    }
}

/// Returns the error of a job that is waited for no longer, could not be cancelled, and may still be at work.
fn uncancelled_error(job: &Job, why: &Error, refusal: &Error) -> Error {
    let hint = refusal.hint.as_ref().map_or_else(String::new, |hint| format!("; {hint}"));
    let Error { message: refused, .. } = refusal;
    let message = format!(
        "{}, and the {} `{}` may still be at work, because it was not cancelled: {refused}{hint}",
        why.message, job.kind, job.id
    );
    Error::new(Code::Unknown, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Span = Span::from_secs(60);

    fn at(seconds: i64) -> Uptime {
        Uptime { boot: "a".into(), millis: seconds * 1000 }
    }

    fn failure(code: Code) -> Result<JobStatus> {
        Err(Error::new(code, "no"))
    }

    #[test]
    fn what_a_platform_answers_to_a_look_ends_no_job() {
        let watch = JobWatch::new(Landing::Assumed(BOUND), BOUND, Span::ZERO);
        for code in [Code::Refused, Code::Invalid, Code::Conflict, Code::Internal, Code::Sql] {
            let error = watch.judge_look(&at(0), failure(code)).expect_err("a look that failed");
            assert!(error.code.is_look_failure(), "{code:?}");
        }
        let own = JobWatch::new(Landing::Fenced("a process of this machine"), BOUND, Span::ZERO);
        assert_eq!(
            own.judge_look(&at(0), failure(Code::Refused)).expect_err("the job's").code,
            Code::Refused
        );
    }

    #[test]
    fn one_look_that_does_not_show_a_job_proves_nothing_however_late() {
        let watch = JobWatch::new(Landing::Assumed(BOUND), BOUND, Span::ZERO);
        let job = Job { kind: "branch".into(), id: "drill".into(), detail: Value::Null };
        let running = || Ok(JobStatus::Running(Progress::with_phase("at work")));
        let absent = |now| watch.judge_look(&at(now), failure(Code::NotFound));
        watch.judge_look(&at(0), running()).expect("it is shown");
        assert!(absent(1000).is_ok() && absent(1059).is_ok());
        watch.judge_look(&at(1060), running()).expect("it is shown again");
        assert!(absent(1100).is_ok());
        let gone = absent(1160).expect_err("it is not shown for as long as a request takes to land");
        assert_eq!(watch.doubt(&job, gone).side_effects, SideEffects::Unknown);
    }

    #[test]
    fn what_its_job_does_not_name_is_believed_when_no_other_can_come() {
        let watch = JobWatch::new(Landing::Assumed(BOUND), BOUND, BOUND);
        let look = |now| watch.judge_look(&at(now), Ok(JobStatus::Done(Value::Null))).expect("a look");
        assert!(matches!(look(0), JobStatus::Running(_)) && matches!(look(59), JobStatus::Running(_)));
        assert_eq!(look(60), JobStatus::Done(Value::Null));
    }
}
