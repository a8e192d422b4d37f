//! What the looks at an accepted job mean: that it is at work, over, gone, or that nobody knows.

use crate::{
    base::{clock::Uptime, lock::lock_unpoisoned, moment::Span},
    provider::{
        Code, Error, Result, SideEffects,
        model::{Job, JobStatus, LandingLimit, Progress},
    },
};
use std::sync::Mutex;

/// What else than the job's own end a look may show that calls it over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OtherEnd {
    /// Nothing.
    None,
    /// Somebody else's job, for so long after the first look.
    SomebodyElses(Span),
    /// How it was before the request, for so long after the first look: a look may lag behind. Once one has shown it at
    /// work, which is more than not done, it is done by its own; one that failed before may have been shown at work, too.
    /// Where it was so before the last change but one, a look may show that also after one that has shown it at work.
    Earlier { landing_time: Span, stale_look_time: Span },
}

/// What the looks at a job have shown so far.
pub(super) struct JobWatch {
    landing: LandingLimit,
    other_end: OtherEnd,
    /// For how long on end a job that is at work may not be shown.
    shown_within: Span,
    shown: Mutex<JobSighting>,
}

/// What the looks have shown of a job, and since when.
#[derive(Default)]
struct JobSighting {
    began_at: Option<Uptime>,
    was_seen: bool,
    was_at_work: bool,
    /// Since when it is not shown.
    absent_since: Option<Uptime>,
    /// The end that was shown last by something that may lag behind, and when it is believed if all looks until then
    /// show the same.
    lagging_end: Option<(JobStatus, Uptime)>,
}

impl JobWatch {
    /// Begins a watch for `timeout` at most.
    pub(super) fn new(landing: LandingLimit, timeout: Span, other_end: OtherEnd) -> Self {
        let shown_within = landing.max_delay().unwrap_or(timeout);
        Self { landing, other_end, shown_within, shown: Mutex::default() }
    }

    /// Returns what one look means for the job.
    pub(super) fn interpret_poll(&self, now: &Uptime, polled: Result<JobStatus>) -> Result<JobStatus> {
        let mut shown = lock_unpoisoned(&self.shown);
        shown.began_at.get_or_insert_with(|| now.clone());
        match polled {
            Err(e) if e.code == Code::NotFound => {
                let since = shown.absent_since.get_or_insert_with(|| now.clone());
                if now.since_in_same_boot(since).is_some_and(|absent| absent >= self.shown_within) {
                    return Err(e);
                }
                Ok(JobStatus::Running(Progress::with_phase("not shown now")))
            }
            Ok(status) => {
                (shown.was_seen, shown.absent_since) = (true, None);
                shown.was_at_work |= matches!(status, JobStatus::Running(_));
                let status = match status {
                    JobStatus::NotBegun(progress) => JobStatus::Running(progress),
                    status => status,
                };
                let status = shown.confirm_lagging_status(now, status);
                let doubt =
                    shown.explain_doubtful_end(now, self.other_end, matches!(status, JobStatus::Done(_)));
                match (status, doubt) {
                    (JobStatus::Done(_) | JobStatus::Failed(_), Some(why)) => {
                        Ok(JobStatus::Running(Progress::with_phase(why)))
                    }
                    (status, _) => Ok(status),
                }
            }
            // Whatever else a platform answers to a look says nothing of the job; nor does that somebody may not look.
            Err(e) if !self.is_local_work() || e.code == Code::Denied => {
                Err(Error { code: Code::Unavailable, ..e })
            }
            failed => failed,
        }
    }

    /// Returns whether everything of the job is this machine's own work.
    pub(super) fn is_local_work(&self) -> bool {
        self.landing.cannot_land_late()
    }

    /// Returns how long the end of a job that is shown as over must still be shown alike until it is believed, if it is that.
    pub(super) fn lag_left(&self, now: &Uptime) -> Option<Span> {
        let shown = lock_unpoisoned(&self.shown);
        let (_, believed_at) = shown.lagging_end.as_ref()?;
        believed_at.since_in_same_boot(now).filter(|left| *left > Span::ZERO)
    }

    /// Returns for how long on end a job that is at work may not be shown.
    pub(super) fn shown_within(&self) -> Span {
        self.shown_within
    }

    /// Returns whether a look that calls the job over may show another end than its own.
    pub(super) fn is_doubtful(&self, now: &Uptime, is_done: bool) -> bool {
        lock_unpoisoned(&self.shown).explain_doubtful_end(now, self.other_end, is_done).is_some()
    }

    /// Returns whether nobody says until when its request may land, so that a job which is not shown may still be there.
    pub(super) fn is_assumed(&self) -> bool {
        matches!(self.landing, LandingLimit::Assumed(_))
    }

    /// Returns how long the request of a job that was never seen may still take to land, if it may.
    pub(super) fn landing_time_left_if_unseen(&self, now: &Uptime) -> Option<Span> {
        let shown = lock_unpoisoned(&self.shown);
        let passed =
            shown.began_at.as_ref().and_then(|began| now.since_in_same_boot(began)).unwrap_or(Span::ZERO);
        let left = Span(self.shown_within.0.saturating_sub(passed.0));
        (!shown.was_seen && left > Span::ZERO).then_some(left)
    }

    /// Returns the error of a job that is believed to be gone, which only a bound that somebody states makes certain.
    pub(super) fn doubtful_job_error(&self, job: &Job, mut error: Error) -> Error {
        if self.is_assumed() {
            error.side_effects = SideEffects::Unknown;
            error.left_behind.push(format!("{} {}, which may still appear", job.kind, job.id));
        }
        error
    }
}

impl JobSighting {
    /// Returns the end that a look shows which may lag behind, once it was shown alike for long enough.
    fn confirm_lagging_status(&mut self, now: &Uptime, status: JobStatus) -> JobStatus {
        let JobStatus::Lagging(end, lag) = status else {
            self.lagging_end = None;
            return status;
        };
        let believed_at = match self.lagging_end.take() {
            Some((shown, believed_at)) if shown == *end => believed_at,
            _ => now.saturating_add(lag),
        };
        let is_settled = now.since_in_same_boot(&believed_at).is_some_and(|passed| passed >= Span::ZERO);
        self.lagging_end = Some(((*end).clone(), believed_at));
        if is_settled {
            return *end;
        }
        JobStatus::Running(Progress::with_phase(format!(
            "it is shown as over; how it ended is known when it was shown alike for {lag}"
        )))
    }

    /// Returns why a look that calls the job over may show another end than its own, if it may.
    fn explain_doubtful_end(&self, now: &Uptime, other_end: OtherEnd, is_done: bool) -> Option<&'static str> {
        let passed = self.began_at.as_ref().and_then(|began| now.since_in_same_boot(began));
        let is_within = |span| passed.is_none_or(|passed| passed < span);
        match other_end {
            OtherEnd::SomebodyElses(span) if is_within(span) => {
                Some("one is there; whether it is this one is known when no other can come")
            }
            OtherEnd::Earlier { landing_time, stale_look_time }
                if is_within(stale_look_time)
                    || is_within(landing_time) && !(self.was_at_work && is_done) =>
            {
                Some(
                    "shown as over; whether that is from before the request is known when no look lags so far behind",
                )
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const BOUND: Span = Span::from_secs(60);

    fn at(seconds: i64) -> Uptime {
        Uptime { boot: "a".into(), millis: seconds * 1000 }
    }

    fn failure(code: Code) -> Result<JobStatus> {
        Err(Error::new(code, "no"))
    }

    #[test]
    fn what_a_platform_answers_to_a_look_ends_no_job() {
        let watch = JobWatch::new(LandingLimit::Assumed(BOUND), BOUND, OtherEnd::None);
        for code in [Code::Refused, Code::Denied, Code::Invalid, Code::Conflict, Code::Internal, Code::Sql] {
            let error = watch.interpret_poll(&at(0), failure(code)).expect_err("a look that failed");
            assert!(error.code.is_look_failure(), "{code:?}");
        }
        let own = JobWatch::new(LandingLimit::Fenced("a process of this machine"), BOUND, OtherEnd::None);
        let denied = own.interpret_poll(&at(0), failure(Code::Denied)).expect_err("a look that failed");
        assert!(denied.code.is_look_failure(), "{denied:?}");
        assert_eq!(
            own.interpret_poll(&at(0), failure(Code::Refused)).expect_err("the job's").code,
            Code::Refused
        );
    }

    #[test]
    fn one_look_that_does_not_show_a_job_proves_nothing_however_late() {
        let watch = JobWatch::new(LandingLimit::Assumed(BOUND), BOUND, OtherEnd::None);
        let job = Job { kind: "branch".into(), id: "drill".into(), detail: Value::Null };
        let running = || Ok(JobStatus::Running(Progress::with_phase("at work")));
        let absent = |now| watch.interpret_poll(&at(now), failure(Code::NotFound));
        watch.interpret_poll(&at(0), running()).expect("it is shown");
        assert!(absent(1000).is_ok() && absent(1059).is_ok());
        watch.interpret_poll(&at(1060), running()).expect("it is shown again");
        assert!(absent(1100).is_ok());
        let gone = absent(1160).expect_err("it is not shown for as long as a request takes to land");
        assert_eq!(watch.doubtful_job_error(&job, gone).side_effects, SideEffects::Unknown);
    }

    #[test]
    fn what_its_job_does_not_name_is_believed_when_no_other_can_come() {
        let watch = JobWatch::new(LandingLimit::Assumed(BOUND), BOUND, OtherEnd::SomebodyElses(BOUND));
        let look = |now| watch.interpret_poll(&at(now), Ok(JobStatus::Done(Value::Null))).expect("a look");
        assert!(matches!(look(0), JobStatus::Running(_)) && matches!(look(59), JobStatus::Running(_)));
        assert_eq!(look(60), JobStatus::Done(Value::Null));
    }

    #[test]
    fn an_end_that_something_shows_which_may_lag_behind_counts_when_it_is_shown_alike_for_as_long() {
        let watch = JobWatch::new(LandingLimit::Assumed(BOUND), BOUND, OtherEnd::None);
        let done = JobStatus::Done(Value::Null);
        let failed = JobStatus::Failed(Error::new(Code::Tool, "MIGRATIONS_FAILED"));
        let look = |now, end: &JobStatus| {
            let shown = JobStatus::Lagging(Box::new(end.clone()), BOUND);
            watch.interpret_poll(&at(now), Ok(shown)).expect("a look")
        };
        let is_running = |status| matches!(status, JobStatus::Running(_));
        assert!(is_running(look(0, &done)) && is_running(look(10, &failed)));
        assert!(is_running(look(60, &failed)), "it was shown otherwise less long ago");
        let running = Ok(JobStatus::Running(Progress::with_phase("it does not answer")));
        watch.interpret_poll(&at(65), running).expect("a look");
        assert!(
            is_running(look(70, &failed)) && is_running(look(129, &failed)),
            "it was at work less long ago"
        );
        assert_eq!(look(130, &failed), failed);
    }

    fn earlier(stale_look_time: Span) -> OtherEnd {
        OtherEnd::Earlier { landing_time: BOUND, stale_look_time }
    }

    #[test]
    fn what_was_so_before_the_last_change_but_one_is_believed_when_no_look_can_show_that() {
        let watch = JobWatch::new(LandingLimit::Assumed(BOUND), BOUND, earlier(Span::from_secs(30)));
        let look = |now, status| watch.interpret_poll(&at(now), Ok(status)).expect("a look");
        look(0, JobStatus::Running(Progress::with_phase("pausing")));
        let is_done = |now| look(now, JobStatus::Done(Value::Null)) == JobStatus::Done(Value::Null);
        assert!(!is_done(29), "it may be from before the resume");
        assert!(is_done(30));
    }

    #[test]
    fn an_end_that_is_not_believed_yet_is_no_work() {
        let watch = JobWatch::new(LandingLimit::Assumed(BOUND), BOUND, earlier(Span::ZERO));
        let done = JobStatus::Done(Value::Null);
        let lagging = JobStatus::Lagging(Box::new(done.clone()), Span::from_secs(10));
        let look =
            |now, status: &JobStatus| watch.interpret_poll(&at(now), Ok(status.clone())).expect("a look");
        assert!(matches!(look(0, &lagging), JobStatus::Running(_)));
        assert!(matches!(look(1, &done), JobStatus::Running(_)), "it may be from before");
    }

    #[test]
    fn what_may_be_from_before_the_request_is_believed_once_it_was_seen_at_work_or_no_look_lags_so_far() {
        let watch = || JobWatch::new(LandingLimit::Assumed(BOUND), BOUND, earlier(Span::ZERO));
        let done = |watch: &JobWatch, now| {
            let judged = watch.interpret_poll(&at(now), Ok(JobStatus::Done(Value::Null))).expect("a look");
            judged == JobStatus::Done(Value::Null)
        };
        let paused_before = watch();
        assert!(!done(&paused_before, 0) && !done(&paused_before, 59) && done(&paused_before, 60));
        let seen_at_work = watch();
        assert!(!done(&seen_at_work, 0), "it lags behind");
        let running = Ok(JobStatus::Running(Progress::with_phase("pausing")));
        seen_at_work.interpret_poll(&at(1), running).expect("a look");
        assert!(done(&seen_at_work, 2));
        let not_begun = watch();
        let waiting = Ok(JobStatus::NotBegun(Progress::with_phase("healthy")));
        not_begun.interpret_poll(&at(0), waiting).expect("a look");
        assert!(!done(&not_begun, 1) && done(&not_begun, 60), "how it was before is no work");
        let failed = Ok(JobStatus::Failed(Error::new(Code::Refused, "PAUSE_FAILED")));
        let judged = watch().interpret_poll(&at(0), failed).expect("a look");
        assert!(matches!(judged, JobStatus::Running(_)), "the one before has failed, not this one");
        let lagging = watch();
        let running = Ok(JobStatus::Running(Progress::with_phase("healthy")));
        lagging.interpret_poll(&at(0), running).expect("how it was before the one before");
        let failed = || Ok(JobStatus::Failed(Error::new(Code::Refused, "PAUSE_FAILED")));
        let judged = |now| lagging.interpret_poll(&at(now), failed()).expect("a look");
        assert!(matches!(judged(1), JobStatus::Running(_)), "the one before may have failed since");
        assert!(matches!(judged(60), JobStatus::Failed(_)));
    }
}
