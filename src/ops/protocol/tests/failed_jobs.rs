//! A job of a platform that has failed: what it failed with, and what it leaves.

use super::*;
use crate::{
    ops::protocol::{JobEffect, perform_job},
    provider::{
        Backups, Branches, PlannedJob, Security, Sql,
        model::{Identity, Job, JobStatus, Landing, Project},
    },
};

/// What a failed job left that could not be removed.
const LEFT: &str = "branch prod/drill";

/// A platform on which a job fails by itself after some looks; all else is a sandbox's.
struct FailingJobs {
    sandbox: Arc<dyn Provider>,
    /// What a job fails with.
    own: Error,
    /// How many looks show it at work, and how many of those fail.
    at_work: usize,
    unseen: usize,
    looks: AtomicUsize,
    /// What its cancellation is answered with.
    refusal: Error,
}

impl FailingJobs {
    fn new(own: Code, at_work: usize, unseen: usize, refusal: Code) -> (Fleet, Self) {
        let (fleet, sandbox) = slow_sandbox();
        let own = Error::new(own, "there is no backup `dump-1`");
        let (looks, refusal) = (AtomicUsize::new(0), Error::new(refusal, "not now"));
        (fleet, Self { sandbox, own, at_work, unseen, looks, refusal })
    }
}

#[async_trait]
impl Provider for FailingJobs {
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
        match self.looks.fetch_add(1, Ordering::Relaxed) {
            look if look < self.unseen => Err(Error::new(Code::Unavailable, "an error of its own")),
            look if look < self.at_work => Ok(JobStatus::Running(Progress::with_phase("at work"))),
            _ => Ok(JobStatus::Failed(self.own.clone())),
        }
    }

    async fn discard_failed(&self, _: &Job, error: Error) -> Error {
        error.with_left_behind(LEFT)
    }

    async fn cancel(&self, _: &Job) -> Result<()> {
        Err(self.refusal.clone())
    }

    fn landing(&self, _: EffectKind) -> Landing {
        Landing::Assumed(LANDING_BOUND)
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
struct AcceptedBranch;

#[async_trait]
impl JobEffect for AcceptedBranch {
    fn subject(&self) -> String {
        "the branch".into()
    }

    fn kind(&self) -> EffectKind {
        EffectKind::Branch
    }

    fn things(&self) -> Vec<Thing> {
        Vec::new()
    }

    async fn plan(&self) -> Result<PlannedJob<'_>> {
        let job = Job { kind: "branch".into(), id: "drill".into(), detail: Value::Null };
        Ok(PlannedJob::without_traces(Box::pin(async { Ok(job) })))
    }
}

/// Makes the branch within a time, and returns what that failed with.
async fn fail_branch((fleet, jobs): (Fleet, FailingJobs), timeout: &str) -> Error {
    let args = decode_args("branch::create", None, json!({"into": "drill", "timeout": timeout}));
    let host = MemoryHost::default();
    match perform_job(&call_context(&fleet, &host, None), &args, &jobs, &AcceptedBranch).await {
        Err(EffectFailure::Failed(error)) => error,
        other => panic!("it has failed: {other:?}"),
    }
}

#[tokio::test]
async fn a_job_that_failed_because_something_is_not_there_is_not_itself_gone() {
    for unseen in [0, 1] {
        let error = fail_branch(FailingJobs::new(Code::NotFound, 2, unseen, Code::Unavailable), "10m").await;
        assert_eq!((error.code, error.message.as_str()), (Code::NotFound, "there is no backup `dump-1`"));
        assert_eq!((error.side_effects, error.left_behind.as_slice()), (SideEffects::Some, &[LEFT.into()][..]));
    }
}

#[tokio::test]
async fn what_a_job_left_that_failed_while_it_was_not_cancelled_is_removed_or_named() {
    // Two looks take no time that the call has; the third is after the cancellation.
    for (refusal, code) in [(Code::Unavailable, Code::Tool), (Code::Unknown, Code::Timeout)] {
        let error = fail_branch(FailingJobs::new(Code::Tool, 2, 0, refusal), "20ms").await;
        assert_eq!(error.code, code, "{error:?}");
        assert!(error.message.contains("within 20ms, and has failed: there is no backup"), "{error}");
        assert_eq!((error.side_effects, error.left_behind.as_slice()), (SideEffects::Some, &[LEFT.into()][..]));
    }
}
