//! How a job of a platform ends: what it failed with, what it leaves, and when that is believed.

use super::*;
use crate::{
    ops::protocol::{JobEffect, begin_or_continue_job},
    provider::{
        Backups, Branches, PlannedJob, Security, Sql,
        model::{Identity, Job, JobStatus, LandingLimit, Project},
    },
};

/// What a failed job left that could not be removed.
const LEFT: &str = "branch prod/drill";

/// A platform on which what each look at a job shows is given by how many came before; all else is a sandbox's.
struct LookedAtJobs<L> {
    sandbox: Arc<dyn Provider>,
    look: L,
    looks: AtomicUsize,
    /// What a cancellation is answered with.
    refusal: Code,
    landing: LandingLimit,
}

#[async_trait]
impl<L: Fn(usize) -> Result<JobStatus> + Send + Sync> Provider for LookedAtJobs<L> {
    async fn identity(&self) -> Result<Identity> {
        self.sandbox.identity().await
    }

    async fn project(&self) -> Result<Project> {
        self.sandbox.project().await
    }

    async fn find_job(&self, _: &CallKey, _: Option<&Value>) -> Result<Option<Job>> {
        Ok(None)
    }

    async fn poll_job(&self, _: &Job) -> Result<JobStatus> {
        (self.look)(self.looks.fetch_add(1, Ordering::Relaxed))
    }

    async fn remove_what_failed_job_made(&self, _: &Job, error: Error) -> Error {
        error.with_left_behind(LEFT)
    }

    async fn cancel(&self, _: &Job) -> Result<()> {
        Err(Error::new(self.refusal, "not now").with_hint("ask the platform"))
    }

    fn landing_limit(&self, _: EffectKind) -> LandingLimit {
        self.landing
    }

    async fn let_time_pass(&self, clock: &dyn Clock, span: Span) {
        clock.sleep(span).await;
    }

    fn backups(&self) -> Result<&dyn Backups> {
        self.sandbox.backups()
    }

    fn branches(&self) -> Result<&dyn Branches> {
        self.sandbox.branches()
    }

    fn sql(&self) -> Result<&dyn Sql> {
        self.sandbox.sql()
    }

    fn security(&self) -> Result<&dyn Security> {
        self.sandbox.security()
    }
}

/// A branch that is accepted.
struct AcceptedBranch {
    believed_after: Span,
}

#[async_trait]
impl JobEffect for AcceptedBranch {
    fn name_effect_for_messages(&self) -> String {
        "the branch".into()
    }

    fn kind(&self) -> EffectKind {
        EffectKind::Branch
    }

    fn changed_things(&self) -> Vec<Thing> {
        Vec::new()
    }

    async fn plan(&self) -> Result<PlannedJob<'_>> {
        let job = Job { kind: "branch".into(), id: "drill".into(), detail: Value::Null };
        let planned = PlannedJob::without_traces(Box::pin(async { Ok(job) }));
        Ok(PlannedJob { believed_after: self.believed_after, ..planned })
    }
}

/// Makes the branch within a time; returns what came of it, and how long it took.
async fn take_branch(
    timeout: &str,
    refusal: Code,
    look: impl Fn(usize) -> Result<JobStatus> + Send + Sync,
) -> (EffectResult<Value>, Span) {
    take_branch_on(&MemoryHost::default(), timeout, refusal, look).await
}

/// Does what [`take_branch`] does on a host.
async fn take_branch_on(
    host: &MemoryHost,
    timeout: &str,
    refusal: Code,
    look: impl Fn(usize) -> Result<JobStatus> + Send + Sync,
) -> (EffectResult<Value>, Span) {
    take_branch_that_may_land(LandingLimit::Assumed(LANDING_BOUND), host, timeout, refusal, look).await
}

/// Does what [`take_branch_on`] does where a request may land so late.
async fn take_branch_that_may_land(
    landing: LandingLimit,
    host: &MemoryHost,
    timeout: &str,
    refusal: Code,
    look: impl Fn(usize) -> Result<JobStatus> + Send + Sync,
) -> (EffectResult<Value>, Span) {
    let (fleet, sandbox) = slow_sandbox();
    let jobs = LookedAtJobs { sandbox, look, looks: AtomicUsize::new(0), refusal, landing };
    let args = decode_args("branch::create", None, json!({"into": "drill", "timeout": timeout}));
    let (began, branch) = (fleet.clock().uptime(), AcceptedBranch { believed_after: Span::ZERO });
    let taken = begin_or_continue_job(&call_context(&fleet, host, None), &args, &jobs, &branch).await;
    (taken, fleet.clock().uptime().since_in_same_boot(&began).expect("one boot"))
}

fn at_work() -> JobStatus {
    JobStatus::Running(Progress::with_phase("at work"))
}

fn failed(code: Code) -> JobStatus {
    JobStatus::Failed(Error::new(code, "there is no backup `dump-1`"))
}

/// Returns an end that counts when it was shown alike for as long as a request may take to land.
fn lagging(end: JobStatus) -> JobStatus {
    JobStatus::Lagging(Box::new(end), LANDING_BOUND)
}

#[tokio::test]
async fn a_job_that_failed_because_something_is_not_there_is_not_itself_gone() {
    for unseen in [0, 1] {
        let (taken, _) = take_branch("10m", Code::Unavailable, |look| match look {
            look if look < unseen => Err(Error::new(Code::Unavailable, "an error of its own")),
            0 | 1 => Ok(at_work()),
            _ => Ok(failed(Code::NotFound)),
        })
        .await;
        let Err(EffectFailure::Failed(error)) = taken else { panic!("it has failed: {taken:?}") };
        assert_eq!((error.code, error.message.as_str()), (Code::NotFound, "there is no backup `dump-1`"));
        assert_eq!(
            (error.side_effects, error.left_behind.as_slice()),
            (SideEffects::Some, &[LEFT.into()][..])
        );
    }
}

#[tokio::test]
async fn what_a_job_left_that_failed_while_it_was_not_cancelled_is_removed_or_named() {
    for (refusal, code) in [(Code::Unavailable, Code::Tool), (Code::Unknown, Code::Timeout)] {
        // Two looks take the time that the call has; the third is after the cancellation.
        let look = |look| Ok(if look < 2 { at_work() } else { failed(Code::Tool) });
        let (taken, _) = take_branch("20ms", refusal, look).await;
        let Err(EffectFailure::Failed(error)) = taken else { panic!("it has failed: {taken:?}") };
        assert_eq!(error.code, code, "{error:?}");
        assert!(error.message.contains("within 20ms, and has failed: there is no backup"), "{error}");
        assert_eq!(
            (error.side_effects, error.left_behind.as_slice()),
            (SideEffects::Some, &[LEFT.into()][..])
        );
    }
}

#[tokio::test]
async fn a_job_whose_work_is_over_is_undecided_while_nobody_can_be_sure_of_its_end_and_is_not_at_work() {
    // A look fails when the time is up, too.
    for fails_at in [None, Some(1)] {
        let look = |look| match look {
            look if Some(look) == fails_at => Err(Error::new(Code::Unavailable, "an error of its own")),
            _ => Ok(lagging(JobStatus::Done(json!("made")))),
        };
        let (taken, passed) = take_branch("20ms", Code::Unsupported, look).await;
        let Err(EffectFailure::Undecided(why)) = taken else { panic!("nobody knows: {taken:?}") };
        assert!(
            why.contains("it is shown as over, and what shows that may lag behind for 59s 980ms more"),
            "{why}"
        );
        assert!(passed < LANDING_BOUND, "its time ends the waiting: {passed}");
        let (taken, passed) = take_branch("2m", Code::Unsupported, look).await;
        assert_eq!(taken, Ok(json!("made")), "{fails_at:?}");
        assert!(passed >= LANDING_BOUND, "{passed}");
    }
}

#[tokio::test]
async fn a_job_that_nobody_could_look_at_any_more_says_why_once_no_look_lags_so_far_behind() {
    let look = |look| match look {
        0 => Ok(lagging(JobStatus::Done(json!("made")))),
        _ => Err(Error::new(Code::Unavailable, "an error of its own")),
    };
    let (taken, passed) = take_branch("2m", Code::Unsupported, look).await;
    let Err(EffectFailure::Undecided(why)) = taken else { panic!("nobody knows: {taken:?}") };
    assert!(passed >= LANDING_BOUND, "{passed}");
    assert!(why.contains("cannot be looked at") && why.contains("an error of its own"), "{why}");
}

#[tokio::test]
async fn a_job_whose_end_the_call_could_never_know_is_not_asked_for() {
    let (fleet, provider) = slow_sandbox();
    for (timeout, is_asked) in [("1m", false), ("61s", true)] {
        let args = decode_args("branch::create", None, json!({"into": "drill", "timeout": timeout}));
        let (host, branch) = (MemoryHost::default(), AcceptedBranch { believed_after: LANDING_BOUND });
        let taken =
            begin_or_continue_job(&call_context(&fleet, &host, None), &args, &*provider, &branch).await;
        assert_eq!(lock_unpoisoned(&host.evidence).is_empty(), !is_asked, "{timeout}: {taken:?}");
        if !is_asked {
            let Err(EffectFailure::Failed(error)) = taken else { panic!("it was not asked for: {taken:?}") };
            assert_eq!((error.code, error.side_effects), (Code::Invalid, SideEffects::None), "{error}");
        }
    }
}

#[tokio::test]
async fn what_is_waited_for_when_a_job_has_failed_is_said_with_its_end() {
    let host = MemoryHost::default();
    let (taken, _) = take_branch_on(&host, "10m", Code::Unavailable, |_| Ok(failed(Code::Tool))).await;
    assert!(matches!(taken, Err(EffectFailure::Failed(_))), "{taken:?}");
    let last = lock_unpoisoned(&host.phases).pop().expect("something is said");
    for part in ["what it has made is removed", "for 1m from now", "until 2026-11-20T12:01:01", "Ctrl-C"] {
        assert!(last.contains(part), "{part}: {last}");
    }
}

#[tokio::test]
async fn why_a_job_cannot_be_looked_at_or_cancelled_comes_with_what_to_do_about_it() {
    let unseen = |_| Err(Error::new(Code::Denied, "the token is over").with_hint("make a new one"));
    for (taken, hint) in [
        (take_branch("20ms", Code::Unsupported, unseen).await.0, "the token is over; make a new one"),
        (take_branch("20ms", Code::Unsupported, |_| Ok(at_work())).await.0, "not now; ask the platform"),
    ] {
        let Err(EffectFailure::Undecided(why)) = taken else { panic!("nobody knows: {taken:?}") };
        assert!(why.contains(hint), "{why}");
    }
}

/// A platform may know at the next look; what this machine does itself goes on when a person has seen to it.
#[tokio::test]
async fn what_nobody_knows_of_this_machines_own_work_stops_the_run_at_once() {
    let look = |look| match look {
        0 => Err(Error::new(Code::Unknown, "it could not be undone").with_hint("mend that")),
        _ => Ok(JobStatus::Done(json!("made"))),
    };
    let host = MemoryHost::default();
    let own = LandingLimit::Fenced("a process of this machine");
    let (taken, _) = take_branch_that_may_land(own, &host, "10m", Code::Unsupported, look).await;
    assert_eq!(taken, Err(EffectFailure::Undecided("it could not be undone; mend that".into())));
    let (taken, _) = take_branch("10m", Code::Unsupported, look).await;
    assert_eq!(taken, Ok(json!("made")));
}
