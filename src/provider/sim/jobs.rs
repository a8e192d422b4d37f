//! Jobs of every kind: finding one again after a crash, polling it, cancelling it.

use super::{
    target::Sim,
    world::{WorldTx, from_json, jobs, switches::POWER, to_json},
};
use crate::provider::{
    Provider as _, Result,
    model::{CallKey, Job, JobStatus, Progress},
};
use serde_json::{Value, json};

/// The effects whose answer is a job.
const JOB_EFFECTS: &[&str] = &[
    "backup.create",
    "restore.branch",
    "restore.in_place",
    "replica.create",
    "branch.reset",
    "branch.promote",
    "project.pause",
    "project.resume",
];

impl Sim {
    /// Returns the job that was started with `key`, or one that stands for what took effect at once.
    ///
    /// # Errors
    /// Whatever the world's file says.
    pub(super) fn find_recorded_job(&self, key: &CallKey) -> Result<Option<Job>> {
        let effect = self.open_store()?.read_current_world(|tx| tx.find_effect(key))?;
        effect
            .map(|e| match e.kind.as_str() {
                kind if JOB_EFFECTS.contains(&kind) => from_json(e.answer),
                _ => Ok(Job { kind: e.kind, id: key.0.clone(), detail: Value::Null }),
            })
            .transpose()
    }

    /// Polls a job.
    ///
    /// # Errors
    /// Why it failed.
    pub(super) async fn poll_recorded_job(&self, job: &Job) -> Result<JobStatus> {
        match self.open_store()?.read_current_world(|tx| tx.poll_job(job))? {
            JobStatus::Done(_) if [jobs::PAUSE, jobs::RESUME].contains(&job.kind.as_str()) => {
                Ok(JobStatus::Done(to_json(self.project().await?)?))
            }
            observed => Ok(observed),
        }
    }

    /// Returns the job of a pause or a resume by how the target stands, as a platform that keeps no key tells it.
    ///
    /// # Errors
    /// Whatever the world's file says.
    pub(super) fn infer_power_job(&self, key: &CallKey, traces: Option<&Value>) -> Result<Option<Job>> {
        let Some(kind) = traces.and_then(|traces| traces["kind"].as_str()) else { return Ok(None) };
        let power = self.read_power()?;
        let is_as_wanted = power == power_after(kind) || power == power_during(kind);
        Ok(is_as_wanted.then(|| Job { kind: kind.into(), id: format!("{kind}-{key}"), detail: Value::Null }))
    }

    /// Polls a pause or a resume by how the target stands.
    ///
    /// # Errors
    /// Whatever the world's file says; [`Code::NotFound`](crate::provider::Code::NotFound) for any other job.
    pub(super) async fn infer_power_status(&self, job: &Job) -> Result<JobStatus> {
        let kind = job.kind.as_str();
        if ![jobs::PAUSE, jobs::RESUME].contains(&kind) {
            return Err(jobs::missing_job_error(&self.target, job));
        }
        Ok(match self.read_power()? {
            power if power == power_after(kind) => JobStatus::Done(to_json(self.project().await?)?),
            power if power == power_during(kind) => JobStatus::Running(Progress::with_phase(power)),
            power => JobStatus::NotBegun(Progress::with_phase(power)),
        })
    }

    fn read_power(&self) -> Result<String> {
        self.open_store()?.read_current_world(|tx| Ok(tx.read_switch(POWER)?.value))
    }

    /// Cancels a job and removes what it has made so far.
    ///
    /// # Errors
    /// Why it cannot be cancelled.
    pub(super) fn cancel_job(&self, job: &Job) -> Result<()> {
        let act = |tx: &WorldTx<'_>| Ok(tx.cancel_job(job)?.then(|| job.id.clone().into()));
        self.open_store()?.apply_effect_if_needed(None, "job.cancel", &job.id, act).map(drop)
    }
}

/// Returns by what a pause or a resume is found where the platform keeps no key.
pub(super) fn power_traces(kind: &str) -> Value {
    json!({ "kind": kind })
}

/// Returns how a target stands that was paused or resumed.
fn power_after(kind: &str) -> &'static str {
    if kind == jobs::PAUSE { "paused" } else { "on" }
}

/// Returns how a target stands that is paused or resumed now.
fn power_during(kind: &str) -> &'static str {
    if kind == jobs::PAUSE { "pausing" } else { "resuming" }
}
