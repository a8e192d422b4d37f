//! What was accepted: found again, looked at, given up.

use super::{Supabase, asking, branching, dumps, inplace, lifecycle, replicas, statuses};
use crate::{
    base::moment::{Moment, Span},
    provider::{
        Code, Error, Result,
        model::{Job, Key, Observed, Progress, Promoted},
    },
};
use serde::Deserialize;
use serde_json::Value;

/// How long a workflow that was asked for may be missing from the list.
const LATE: Span = Span::seconds(30);

/// A workflow of a branch.
#[derive(Deserialize)]
struct Run {
    id: String,
    branch_id: Option<String>,
    #[serde(default)]
    run_steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    name: String,
    status: String,
}

impl Supabase {
    /// Returns what `key` has made or is making. `intent` is what was written down before anything was asked.
    ///
    /// # Errors
    /// [`Code::Unknown`] when nobody can know.
    pub(super) async fn found(&self, key: &Key, intent: Option<&Value>) -> Result<Option<Job>> {
        if let Some(dump) = self.dumps().by_key(key)? {
            return Ok(Some(dumps::job(dump.id)));
        }
        // Whatever is asked of the platform is written down first.
        let Some(intent) = intent else { return Ok(None) };
        match intent["kind"].as_str().unwrap_or_default() {
            branching::KIND => self.find_branch(key, intent).await,
            inplace::KIND => self.find_restore(key, intent).await,
            replicas::KIND => self.find_replica(key, intent).await,
            kind @ ("reset" | "promote") => self.find_workflow(kind, intent).await,
            kind @ (lifecycle::PAUSE | lifecycle::RESUME) => self.find_switch(kind).await,
            kind => Err(Error::new(Code::Internal, format!("the journal holds an intent of kind `{kind}`"))),
        }
    }

    /// Looks at a job and takes it one part further.
    ///
    /// # Errors
    /// Why it failed.
    pub(super) async fn looked_at(&self, job: &Job) -> Result<Observed> {
        match job.kind.as_str() {
            dumps::KIND => self.observe_dump(&job.id).await,
            branching::KIND => self.observe_branch(job).await,
            inplace::KIND => self.observe_restore(job).await,
            replicas::KIND => self.observe_replica(job).await,
            "reset" | "promote" => self.observe_workflow(job).await,
            kind @ (lifecycle::PAUSE | lifecycle::RESUME) => self.observe_switch(kind).await,
            kind => Err(Error::new(Code::Internal, format!("there are no jobs of kind `{kind}`"))),
        }
    }

    /// Gives a job up and removes what it has made so far.
    ///
    /// # Errors
    /// That it cannot be given up, and why.
    pub(super) async fn given_up(&self, job: &Job) -> Result<()> {
        match job.kind.as_str() {
            dumps::KIND => self.dumps().discard(&job.id),
            branching::KIND => self.cancel_branch(job).await,
            replicas::KIND => self.cancel_replica(job).await,
            inplace::KIND => Err(self.cancel_restore(job)),
            lifecycle::PAUSE | lifecycle::RESUME => Err(lifecycle::goes_on(job)),
            _ => Err(Error::unsupported(
                "the platform cannot stop a workflow",
                "see its logs in the dashboard",
            )),
        }
    }

    /// Returns the job of a workflow that was about to be asked for, when one of that branch came since.
    async fn find_workflow(&self, kind: &str, intent: &Value) -> Result<Option<Job>> {
        let detail = &intent["detail"];
        let before: Vec<String> = asking::read(intent["before"].clone(), "actions")?;
        let asked_at: Moment = asking::read(detail["asked_at"].clone(), "actions")?;
        loop {
            let runs: Vec<Run> = self.ask("/actions?limit=50").await?;
            let is_new = |run: &Run| {
                !before.contains(&run.id) && run.branch_id.as_deref() == detail["branch"].as_str()
            };
            if let Some(run) = runs.into_iter().find(is_new) {
                return Ok(Some(Job { kind: kind.into(), id: run.id, detail: detail.clone() }));
            }
            if !self.may_still_appear(asked_at, LATE).await {
                let name = &detail["name"];
                let what = format!(
                    "whether a {kind} of branch {name} was begun {asked_at} cannot be known: none shows"
                );
                return Err(Error::new(Code::Unknown, what)
                    .hint("see the branch in the dashboard, and decide the call"));
            }
        }
    }

    /// Looks at a workflow: over when its steps are and the branch is up again. That a step has ended does not say how,
    /// which only the branch does.
    async fn observe_workflow(&self, job: &Job) -> Result<Observed> {
        if job.id.is_empty() {
            let what = format!(
                "the platform accepted the {} without a number, and its end cannot be told",
                job.kind
            );
            return Err(Error::new(Code::Tool, what)
                .with_side_effects()
                .hint("see the branch in the dashboard"));
        }
        let reference = job.detail["reference"].as_str().unwrap_or_default();
        let asked_at: Moment = asking::read(job.detail["asked_at"].clone(), "actions")?;
        let waiting = |phase: String| {
            Ok(Observed::Running(Progress { again_in: Some(self.pace(asked_at)), ..Progress::phase(phase) }))
        };
        match self.ask::<Run>(&format!("/actions/{}", job.id)).await {
            Ok(run) => {
                if let Some(dead) = run.run_steps.iter().find(|step| step.status == "DEAD") {
                    return Err(self.failed(job, &format!("its step `{}` is DEAD", dead.name)));
                }
                if let Some(step) = run.run_steps.iter().find(|step| step.status != "EXITED") {
                    return waiting(format!("{} is {}", step.name, step.status));
                }
            }
            // The platform keeps them for a while only; the branch says the rest.
            Err(e) if e.code == Code::NotFound => {}
            Err(e) => return Err(e),
        }
        let rows = self.branch_rows().await?;
        let row = rows.iter().find(|row| row.project_ref == reference);
        let row =
            row.ok_or_else(|| Error::new(Code::NotFound, format!("branch {} is gone", job.detail["name"])))?;
        if row.status.ends_with("_FAILED") {
            return Err(self.failed(job, &format!("the branch is {}", row.status)));
        }
        let inside = self.inside(reference).await?;
        let status = inside.as_ref().map_or("not found yet", |inside| inside.status.as_str());
        if status != statuses::HEALTHY || statuses::is_working(&row.status) {
            return waiting(format!("{status}, {}", row.status));
        }
        if let Some(why) = self.why_silent(reference).await? {
            return waiting(format!("does not answer yet: {why}"));
        }
        let branch = row.branch(&self.target, inside.as_ref())?;
        if job.kind == "reset" {
            return Ok(Observed::Done(branch.handle()));
        }
        // A merge carries migrations and functions over; the rows stay where they are.
        let promoted = Promoted { target: self.name(), branch: branch.name, carried: "migrations".into() };
        serde_json::to_value(promoted)
            .map(Observed::Done)
            .map_err(|e| Error::new(Code::Internal, e.to_string()))
    }

    fn failed(&self, job: &Job, why: &str) -> Error {
        let what =
            format!("the {} of branch {} in `{}` failed: {why}", job.kind, job.detail["name"], self.name());
        Error::new(Code::Tool, what)
            .with_side_effects()
            .hint(format!("see the logs of the workflow `{}` in the dashboard", job.id))
    }
}
