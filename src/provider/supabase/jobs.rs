//! Jobs of every kind: finding one again after a crash, polling it, cancelling it.

use super::{
    branches::{self, PROMOTE_JOB, RESET_JOB},
    dump::{self, DUMP_JOB},
    lifecycle::{self, PAUSE_JOB, RESUME_JOB},
    project::Supabase,
    replicas::{self, REPLICA_JOB},
    restore::{self, BRANCH_JOB, RESTORE_JOB},
};
use crate::base::{clock::Stopwatch, moment::Span};
use crate::provider::{
    Code, Error, Result,
    model::{CallKey, GivenUpJob, Job, JobStatus, RecordedJob, UndoneJob},
};
use serde_json::Value;

/// The pause between two looks whether something that is removed is gone.
const GONE_INTERVAL: Span = Span::from_secs(2);

/// Returns of what kind the job is that was about to be asked for.
///
/// # Errors
/// [`Code::Internal`] where nothing says so.
fn read_job_kind(traces: &Value) -> Result<&str> {
    traces["kind"].as_str().ok_or_else(|| {
        Error::new(Code::Internal, "what was recorded of a job does not say of which kind it is")
    })
}

impl Supabase {
    /// Reads what was recorded of a job.
    ///
    /// # Errors
    /// [`Code::Internal`] for what nobody records.
    pub(super) fn check_project_job_record(recorded: RecordedJob<'_>) -> Result<()> {
        let (kind, detail) = match recorded {
            RecordedJob::Planned(traces) => (read_job_kind(traces)?, &traces["detail"]),
            RecordedJob::Accepted(job) => (job.kind.as_str(), &job.detail),
        };
        match (kind, recorded) {
            (DUMP_JOB, _) | (PAUSE_JOB | RESUME_JOB, RecordedJob::Accepted(_)) => Ok(()),
            (PAUSE_JOB | RESUME_JOB, RecordedJob::Planned(traces)) => {
                lifecycle::read_earlier_status(kind, traces).map(drop)
            }
            (BRANCH_JOB, _) => restore::check_branch_detail(detail),
            (RESTORE_JOB, _) => restore::check_restore_detail(detail),
            (REPLICA_JOB, _) => replicas::check_replica_detail(detail),
            (RESET_JOB | PROMOTE_JOB, RecordedJob::Planned(traces)) => {
                branches::check_workflow_traces(traces)
            }
            (RESET_JOB | PROMOTE_JOB, RecordedJob::Accepted(_)) => branches::check_workflow_detail(detail),
            _ => Err(Error::new(Code::Internal, format!("nobody records a job of the kind `{kind}`"))),
        }
    }

    /// Returns the job started with `key`. `intent` is what was recorded before the request was sent.
    ///
    /// # Errors
    /// [`Code::Unknown`] when it cannot be determined whether the request took effect.
    pub(super) async fn find_project_job(
        &self,
        key: &CallKey,
        intent: Option<&Value>,
    ) -> Result<Option<Job>> {
        if let Some(dump) = self.dump_store().find_dump_by_key(key)? {
            return Ok(Some(dump::dump_job(dump.id)));
        }
        // An intent is recorded before every request, so without one nothing was sent.
        let Some(intent) = intent else { return Ok(None) };
        match read_job_kind(intent)? {
            BRANCH_JOB => self.find_branch_job(intent).await,
            RESTORE_JOB => self.find_restore_job(key, intent).await,
            REPLICA_JOB => self.find_replica_job(key, intent).await,
            kind @ (RESET_JOB | PROMOTE_JOB) => self.report_workflow_as_unknown(kind, intent).await,
            kind @ (PAUSE_JOB | RESUME_JOB) => self.infer_power_job(kind, intent).await,
            kind => Err(Error::new(Code::Internal, format!("the journal holds an intent of kind `{kind}`"))),
        }
    }

    /// Polls a job, and advances it if its next part is ours to do.
    ///
    /// # Errors
    /// Why it failed.
    pub(super) async fn poll_project_job(&self, job: &Job) -> Result<JobStatus> {
        match job.kind.as_str() {
            DUMP_JOB => JobStatus::treat_poll_error_as_failure(self.poll_dump(&job.id).await),
            BRANCH_JOB => self.poll_branch(job).await,
            RESTORE_JOB => self.poll_restore(job).await,
            REPLICA_JOB => self.poll_replica(job).await,
            RESET_JOB | PROMOTE_JOB => self.poll_workflow(job).await,
            kind @ (PAUSE_JOB | RESUME_JOB) => self.poll_power_change(kind).await,
            kind => Err(Error::new(Code::Internal, format!("there are no jobs of kind `{kind}`"))),
        }
    }

    /// Removes what a failed job has made, and returns its error. Only a branch has a name that tells it from somebody else's.
    pub(super) async fn discard_failed_job(&self, job: &Job, error: Error) -> Error {
        match job.kind.as_str() {
            BRANCH_JOB => self.discard_failed_branch(job, error).await,
            _ => error,
        }
    }

    /// Returns whether a job is still shown, or what it is making; takes it no further.
    ///
    /// # Errors
    /// What the API says.
    pub(super) async fn is_project_job_shown(&self, job: &Job) -> Result<bool> {
        if job.kind == BRANCH_JOB {
            return self.is_branch_listed(|row| row.name == job.id).await;
        }
        match self.poll_project_job(job).await {
            Ok(JobStatus::Failed(_)) => Ok(false),
            Ok(_) => Ok(true),
            Err(e) if e.code == Code::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Removes a dump that nobody waits for any more, unless it is done. Everything else is the platform's.
    ///
    /// # Errors
    /// What is left of it.
    pub(super) async fn give_dump_up(&self, job: &Job) -> Result<GivenUpJob> {
        if job.kind != DUMP_JOB {
            return Ok(GivenUpJob::OfPlatform);
        }
        match self.poll_dump(&job.id).await {
            Ok(JobStatus::Done(_)) => Ok(GivenUpJob::Done),
            Err(e) if e.code == Code::NotFound => Ok(GivenUpJob::Undone(UndoneJob::default())),
            _ => {
                self.dump_store().stop_and_delete(&job.id).map(|()| GivenUpJob::Undone(UndoneJob::default()))
            }
        }
    }

    /// Looks until something whose removal was answered is not shown any more, for as long as that may take at most.
    pub(super) async fn wait_until_gone<F: Future<Output = Result<bool>>>(
        &self,
        is_shown: impl Fn() -> F,
    ) -> bool {
        let watch = Stopwatch::start(self.clock.as_ref());
        loop {
            let is_last = watch.elapsed() >= self.landing_time;
            match is_shown().await {
                Ok(false) => return true,
                Ok(true) | Err(_) if is_last => return false,
                Ok(true) | Err(_) => self.clock.sleep(GONE_INTERVAL).await,
            }
        }
    }

    /// Cancels a job and removes what it has made so far.
    ///
    /// # Errors
    /// Why it cannot be cancelled.
    pub(super) async fn cancel_job(&self, job: &Job) -> Result<()> {
        match job.kind.as_str() {
            DUMP_JOB => self.dump_store().stop_and_delete(&job.id),
            BRANCH_JOB => self.cancel_branch(job).await,
            REPLICA_JOB => self.cancel_replica(job).await,
            RESTORE_JOB => Err(self.restore_cancel_error(job)),
            PAUSE_JOB | RESUME_JOB => Err(lifecycle::uncancellable_error(job)),
            _ => Err(Error::unsupported(
                "the platform cannot stop a workflow",
                "see its logs in the dashboard",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_recorded_of_a_job_reads_or_is_an_error() {
        let moment = "2026-11-20T12:00:00Z";
        let workflow = json!({"reference": "r", "branch": "b", "name": "drill", "asked_at": moment});
        let traces = json!({"kind": RESET_JOB, "before": ["w1"], "detail": workflow});
        let job =
            |kind: &str, detail: &Value| Job { kind: kind.into(), id: "1".into(), detail: detail.clone() };
        let accepted = job(RESET_JOB, &workflow);
        Supabase::check_project_job_record(RecordedJob::Planned(&traces)).expect("as it is recorded");
        Supabase::check_project_job_record(RecordedJob::Accepted(&accepted)).expect("as it is recorded");
        let is_unreadable = |checked: Result<()>| checked.is_err_and(|e| e.code == Code::Internal);
        for part in ["reference", "branch", "name", "asked_at"] {
            let mut odd = workflow.clone();
            odd.as_object_mut().expect("a map").remove(part);
            let accepted = job(PROMOTE_JOB, &odd);
            assert!(
                is_unreadable(Supabase::check_project_job_record(RecordedJob::Accepted(&accepted))),
                "{part}"
            );
        }
        for kind in [BRANCH_JOB, RESTORE_JOB, REPLICA_JOB, RESET_JOB, "export", ""] {
            let accepted = job(kind, &json!({"asked_at": moment}));
            assert!(
                is_unreadable(Supabase::check_project_job_record(RecordedJob::Accepted(&accepted))),
                "{kind}"
            );
            let traces = json!({"kind": kind, "detail": {"asked_at": moment}});
            assert!(
                is_unreadable(Supabase::check_project_job_record(RecordedJob::Planned(&traces))),
                "{kind}"
            );
        }
        for traces in [json!({"detail": workflow}), json!({"kind": PAUSE_JOB}), json!(5)] {
            assert!(
                is_unreadable(Supabase::check_project_job_record(RecordedJob::Planned(&traces))),
                "{traces}"
            );
        }
    }
}
