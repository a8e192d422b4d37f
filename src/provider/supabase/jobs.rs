//! Jobs of every kind: finding one again after a crash, polling it, cancelling it.

use super::{Supabase, asking, branching, dumps, inplace, lifecycle, replicas, statuses};
use crate::{
    base::moment::{Moment, Span},
    provider::{
        Code, Error, Result,
        model::{CallKey, Job, JobStatus, Progress, PromotionOutcome},
    },
};
use serde::Deserialize;
use serde_json::Value;

/// How long a workflow may take to appear in the list after its request was accepted.
const WORKFLOW_GRACE: Span = Span::from_secs(30);

/// A workflow of a branch.
#[derive(Deserialize)]
struct WorkflowRun {
    id: String,
    branch_id: Option<String>,
    #[serde(default)]
    run_steps: Vec<WorkflowStep>,
}

#[derive(Deserialize)]
struct WorkflowStep {
    name: String,
    status: String,
}

impl Supabase {
    /// Returns the job started with `key`. `intent` is what was recorded before the request was sent.
    ///
    /// # Errors
    /// [`Code::Unknown`] when it cannot be determined whether the request took effect.
    pub(super) async fn find_job(&self, key: &CallKey, intent: Option<&Value>) -> Result<Option<Job>> {
        if let Some(dump) = self.dump_store().find_by_key(key)? {
            return Ok(Some(dumps::dump_job(dump.id)));
        }
        // An intent is recorded before every request, so without one nothing was sent.
        let Some(intent) = intent else { return Ok(None) };
        match intent["kind"].as_str().unwrap_or_default() {
            branching::BRANCH_JOB => self.find_branch_job(key, intent).await,
            inplace::RESTORE_JOB => self.find_restore_job(key, intent).await,
            replicas::REPLICA_JOB => self.find_replica_job(key, intent).await,
            kind @ ("reset" | "promote") => self.find_workflow_job(kind, intent).await,
            kind @ (lifecycle::PAUSE_JOB | lifecycle::RESUME_JOB) => self.find_switch_job(kind).await,
            kind => Err(Error::new(Code::Internal, format!("the journal holds an intent of kind `{kind}`"))),
        }
    }

    /// Polls a job, and advances it if its next part is ours to do.
    ///
    /// # Errors
    /// Why it failed.
    pub(super) async fn poll_job(&self, job: &Job) -> Result<JobStatus> {
        match job.kind.as_str() {
            dumps::DUMP_JOB => self.poll_dump(&job.id).await,
            branching::BRANCH_JOB => self.poll_branch(job).await,
            inplace::RESTORE_JOB => self.poll_restore(job).await,
            replicas::REPLICA_JOB => self.poll_replica(job).await,
            "reset" | "promote" => self.poll_workflow(job).await,
            kind @ (lifecycle::PAUSE_JOB | lifecycle::RESUME_JOB) => self.poll_switch(kind).await,
            kind => Err(Error::new(Code::Internal, format!("there are no jobs of kind `{kind}`"))),
        }
    }

    /// Gives a job up and removes what it has made so far.
    ///
    /// # Errors
    /// That it cannot be given up, and why.
    pub(super) async fn cancel_job(&self, job: &Job) -> Result<()> {
        match job.kind.as_str() {
            dumps::DUMP_JOB => self.dump_store().stop_and_delete(&job.id),
            branching::BRANCH_JOB => self.cancel_branch(job).await,
            replicas::REPLICA_JOB => self.cancel_replica(job).await,
            inplace::RESTORE_JOB => Err(self.restore_cancel_error(job)),
            lifecycle::PAUSE_JOB | lifecycle::RESUME_JOB => Err(lifecycle::uncancellable_error(job)),
            _ => Err(Error::unsupported(
                "the platform cannot stop a workflow",
                "see its logs in the dashboard",
            )),
        }
    }

    /// Returns the job of a workflow that was about to be asked for, when one of that branch came since.
    async fn find_workflow_job(&self, kind: &str, intent: &Value) -> Result<Option<Job>> {
        let detail = &intent["detail"];
        let before: Vec<String> = asking::decode_answer(intent["before"].clone(), "actions")?;
        let asked_at: Moment = asking::decode_answer(detail["asked_at"].clone(), "actions")?;
        loop {
            let runs: Vec<WorkflowRun> = self.get_project_resource("/actions?limit=50").await?;
            let is_new = |run: &WorkflowRun| {
                !before.contains(&run.id) && run.branch_id.as_deref() == detail["branch"].as_str()
            };
            if let Some(run) = runs.into_iter().find(is_new) {
                return Ok(Some(Job { kind: kind.into(), id: run.id, detail: detail.clone() }));
            }
            if !self.sleep_unless_expired(asked_at, WORKFLOW_GRACE).await {
                let name = &detail["name"];
                let what = format!(
                    "whether a {kind} of branch {name} was begun {asked_at} cannot be known: none shows"
                );
                return Err(Error::new(Code::Unknown, what)
                    .with_hint("see the branch in the dashboard, and decide the call"));
            }
        }
    }

    /// Polls a workflow. It is done when its steps have exited and the branch is up again: only the branch tells
    /// whether the steps succeeded.
    async fn poll_workflow(&self, job: &Job) -> Result<JobStatus> {
        if job.id.is_empty() {
            let what = format!(
                "the platform accepted the {} without a number, and its end cannot be told",
                job.kind
            );
            return Err(Error::new(Code::Tool, what)
                .with_side_effects()
                .with_hint("see the branch in the dashboard"));
        }
        let reference = job.detail["reference"].as_str().unwrap_or_default();
        let asked_at: Moment = asking::decode_answer(job.detail["asked_at"].clone(), "actions")?;
        let waiting = |phase: String| {
            Ok(JobStatus::Running(Progress {
                again_in: Some(self.poll_interval(asked_at)),
                ..Progress::with_phase(phase)
            }))
        };
        match self.get_project_resource::<WorkflowRun>(&format!("/actions/{}", job.id)).await {
            Ok(run) => {
                if let Some(dead) = run.run_steps.iter().find(|step| step.status == "DEAD") {
                    return Err(self.workflow_error(job, &format!("its step `{}` is DEAD", dead.name)));
                }
                if let Some(step) = run.run_steps.iter().find(|step| step.status != "EXITED") {
                    return waiting(format!("{} is {}", step.name, step.status));
                }
            }
            // The platform forgets workflows after a while; the branch's status decides.
            Err(e) if e.code == Code::NotFound => {}
            Err(e) => return Err(e),
        }
        let rows = self.list_branch_rows().await?;
        let row = rows.iter().find(|row| row.project_ref == reference);
        let row =
            row.ok_or_else(|| Error::new(Code::NotFound, format!("branch {} is gone", job.detail["name"])))?;
        if row.status.ends_with("_FAILED") {
            return Err(self.workflow_error(job, &format!("the branch is {}", row.status)));
        }
        let inside = self.fetch_branch_details(reference).await?;
        let status = inside.as_ref().map_or("not found yet", |inside| inside.status.as_str());
        if status != statuses::ACTIVE_HEALTHY || statuses::is_workflow_running(&row.status) {
            return waiting(format!("{status}, {}", row.status));
        }
        if let Some(why) = self.why_not_ready(reference).await? {
            return waiting(format!("does not answer yet: {why}"));
        }
        let branch = row.to_branch(&self.target, inside.as_ref())?;
        if job.kind == "reset" {
            return Ok(JobStatus::Done(branch.to_handle()));
        }
        // A merge carries migrations and functions over; the rows stay where they are.
        let promoted = PromotionOutcome {
            target: self.display_name(),
            branch: branch.name,
            carried: "migrations".into(),
        };
        serde_json::to_value(promoted)
            .map(JobStatus::Done)
            .map_err(|e| Error::new(Code::Internal, e.to_string()))
    }

    fn workflow_error(&self, job: &Job, why: &str) -> Error {
        let what = format!(
            "the {} of branch {} in `{}` failed: {why}",
            job.kind,
            job.detail["name"],
            self.display_name()
        );
        Error::new(Code::Tool, what)
            .with_side_effects()
            .with_hint(format!("see the logs of the workflow `{}` in the dashboard", job.id))
    }
}
