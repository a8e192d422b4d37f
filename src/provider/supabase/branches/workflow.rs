//! Workflows that the platform runs on a branch: a reset, and the merge that promotes it.

use super::rows::BranchRow;
use crate::{
    base::moment::Moment,
    provider::{
        Code, Error, PlannedJob, Result,
        model::{Branch, Job, JobStatus, Progress, PromotionOutcome},
        supabase::{project::Supabase, statuses},
    },
};
use reqwest::Method;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// The kind of job that resets a branch.
pub(in crate::provider::supabase) const RESET_JOB: &str = "reset";
/// The kind of job that promotes a branch.
pub(in crate::provider::supabase) const PROMOTE_JOB: &str = "promote";

/// A workflow of a branch.
#[derive(Deserialize)]
struct WorkflowRun {
    id: String,
    branch_id: Option<String>,
    run_steps: Vec<WorkflowStep>,
}

/// What is recorded of a workflow before it is asked for.
#[derive(Deserialize)]
struct WorkflowTraces {
    /// The workflows that were there before.
    before: Vec<String>,
    detail: WorkflowDetail,
}

/// The detail of a workflow's job.
#[derive(Deserialize)]
struct WorkflowDetail {
    /// The reference of the branch's project.
    reference: String,
    /// The branch's id in the list.
    branch: String,
    name: String,
    asked_at: Moment,
}

/// Reads the traces of a workflow's job.
///
/// # Errors
/// [`Code::Internal`] for what nobody records.
pub(in crate::provider::supabase) fn check_workflow_traces(traces: &Value) -> Result<()> {
    decode_recorded_workflow::<WorkflowTraces>(traces).map(drop)
}

/// Reads the detail of a workflow's job.
///
/// # Errors
/// [`Code::Internal`] for what nobody records.
pub(in crate::provider::supabase) fn check_workflow_detail(detail: &Value) -> Result<()> {
    decode_recorded_workflow::<WorkflowDetail>(detail).map(drop)
}

/// Decodes what was recorded of a workflow.
///
/// # Errors
/// [`Code::Internal`] for what nobody records.
fn decode_recorded_workflow<T: DeserializeOwned>(recorded: &Value) -> Result<T> {
    T::deserialize(recorded)
        .map_err(|e| Error::new(Code::Internal, format!("the job of a workflow cannot be read: {e}")))
}

#[derive(Deserialize)]
struct WorkflowStep {
    name: String,
    status: String,
}

impl Supabase {
    /// Plans a workflow (`reset` or `promote`) on a branch.
    pub(super) async fn plan_workflow<'a>(
        &'a self,
        verb: &'static str,
        branch: &Branch,
    ) -> Result<PlannedJob<'a>> {
        let row = self.find_existing_row(branch).await?;
        let before = self.list_workflow_ids().await?;
        let detail = json!({
            "reference": row.project_ref, "branch": row.id, "name": row.name, "asked_at": self.clock.now(),
        });
        let traces = json!({ "kind": verb, "before": before, "detail": detail });
        let planned = PlannedJob::with_traces(traces, Box::pin(self.request_workflow(verb, row, detail)));
        Ok(PlannedJob { believed_after: self.landing_time, ..planned })
    }

    /// Requests a workflow and returns its job.
    async fn request_workflow(&self, verb: &str, row: BranchRow, detail: Value) -> Result<Job> {
        let path =
            format!("/v1/branches/{}/{}", row.project_ref, if verb == PROMOTE_JOB { "merge" } else { verb });
        let answer = self.api.send_write_for_answer(Method::POST, &path, Some(&json!({}))).await?;
        match answer["workflow_run_id"].as_str().filter(|id| !id.is_empty()) {
            Some(id) => Ok(Job { kind: verb.into(), id: id.into(), detail }),
            // The list of workflows tells which one it is.
            None => Err(Error::new(
                Code::Unknown,
                format!("the answer to the {verb} of branch `{}` names no workflow", row.name),
            )),
        }
    }

    /// Returns the ids of the latest workflows.
    async fn list_workflow_ids(&self) -> Result<Vec<String>> {
        let runs: Vec<WorkflowRun> = self.get_project_resource("/actions?limit=50").await?;
        Ok(runs.into_iter().map(|run| run.id).collect())
    }

    /// Says of a workflow whose request may have been sent that nobody knows: every push, reset and promotion of a branch is a
    /// workflow, and none of them says what it is or who asked for it.
    ///
    /// # Errors
    /// [`Code::Unknown`], with the workflows that were not shown before.
    pub(in crate::provider::supabase) async fn report_workflow_as_unknown(
        &self,
        kind: &str,
        intent: &Value,
    ) -> Result<Option<Job>> {
        let WorkflowTraces { before, detail } = decode_recorded_workflow(intent)?;
        let WorkflowDetail { branch, name, asked_at, .. } = detail;
        let mut runs: Vec<WorkflowRun> = self.get_project_resource("/actions?limit=50").await?;
        runs.retain(|run| !before.contains(&run.id) && run.branch_id.as_ref() == Some(&branch));
        let ids: Vec<_> = runs.iter().map(|run| format!("`{}`", run.id)).collect();
        let shown = match ids.as_slice() {
            [] => "no new workflow of it shows".to_owned(),
            [id] => format!("the workflow {id} was not shown before, and may be it"),
            ids => format!("the workflows {} were not shown before, and any may be it", ids.join(", ")),
        };
        let what =
            format!("whether a {kind} of branch `{name}` was begun {asked_at} cannot be known: {shown}");
        Err(Error::new(Code::Unknown, what).with_hint("see the branch in the dashboard, and decide the call"))
    }

    /// Polls a workflow. It is over when its steps have exited and the branch is up again. Only the list of branches tells
    /// whether the steps succeeded, and that may lag behind: what it shows may be from before.
    pub(in crate::provider::supabase) async fn poll_workflow(&self, job: &Job) -> Result<JobStatus> {
        if job.id.is_empty() {
            let what = format!(
                "the platform accepted the {} without a number, and its end cannot be told",
                job.kind
            );
            return Err(Error::new(Code::Tool, what)
                .with_side_effects()
                .with_hint("see the branch in the dashboard"));
        }
        let detail: WorkflowDetail = decode_recorded_workflow(&job.detail)?;
        let (reference, asked_at) = (detail.reference.as_str(), detail.asked_at);
        let waiting = |phase: String| {
            Ok(JobStatus::Running(Progress {
                again_in: Some(self.poll_interval(asked_at)),
                ..Progress::with_phase(phase)
            }))
        };
        match self.get_project_resource::<WorkflowRun>(&format!("/actions/{}", job.id)).await {
            Ok(run) => {
                if let Some(dead) = run.run_steps.iter().find(|step| step.status == "DEAD") {
                    return Ok(self.failed_workflow_status(
                        job,
                        &detail.name,
                        &format!("its step `{}` is DEAD", dead.name),
                    ));
                }
                if let Some(step) = run.run_steps.iter().find(|step| step.status != "EXITED") {
                    return waiting(format!("{} is {}", step.name, step.status));
                }
                if run.run_steps.is_empty() {
                    return waiting("accepted, and not begun".into());
                }
            }
            // The branch's status is the same before the workflow as after it, and proves nothing alone.
            Err(e) if e.code == Code::NotFound => {
                return waiting(format!("the platform does not show the workflow `{}`", job.id));
            }
            Err(e) => return Err(e),
        }
        let rows = self.list_branch_rows().await?;
        let row = rows.iter().find(|row| row.project_ref == reference);
        let row =
            row.ok_or_else(|| Error::new(Code::NotFound, format!("branch `{}` is gone", detail.name)))?;
        if row.status.ends_with("_FAILED") {
            let why = format!("the branch is {}", row.status);
            return Ok(self.wrap_possibly_stale_end(self.failed_workflow_status(job, &detail.name, &why)));
        }
        let details = self.fetch_branch_details(reference).await?;
        let status = details.as_ref().map_or("not found yet", |details| details.status.as_str());
        if status != statuses::ACTIVE_HEALTHY || statuses::is_workflow_running(&row.status) {
            return waiting(format!("{status}, {}", row.status));
        }
        if let Some(why) = self.why_not_ready(reference).await? {
            return waiting(format!("does not answer yet: {why}"));
        }
        let branch = row.to_branch(&self.target, details.as_ref())?;
        if job.kind == RESET_JOB {
            return Ok(self.wrap_possibly_stale_end(JobStatus::Done(branch.to_handle())));
        }
        // A merge carries migrations and functions over; the rows stay where they are.
        let promoted = PromotionOutcome {
            target: self.display_name(),
            branch: branch.name,
            carried: "migrations".into(),
        };
        serde_json::to_value(promoted)
            .map(|promoted| self.wrap_possibly_stale_end(JobStatus::Done(promoted)))
            .map_err(|e| Error::new(Code::Internal, e.to_string()))
    }

    fn failed_workflow_status(&self, job: &Job, name: &str, why: &str) -> JobStatus {
        let what = format!("the {} of branch `{name}` in `{}` failed: {why}", job.kind, self.display_name());
        let failed = Error::new(Code::Tool, what).with_side_effects();
        JobStatus::Failed(
            failed.with_hint(format!("see the logs of the workflow `{}` in the dashboard", job.id)),
        )
    }
}
