//! Jobs of every kind: finding one again after a crash, polling it, cancelling it.

use super::{
    target::Sim,
    world::{WorldTx, from_json, jobs, to_json},
};
use crate::provider::{
    Provider as _, Result,
    model::{CallKey, Job, JobStatus},
};
use serde_json::Value;

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

    /// Cancels a job and removes what it has made so far.
    ///
    /// # Errors
    /// Why it cannot be cancelled.
    pub(super) fn cancel_job(&self, job: &Job) -> Result<()> {
        let act = |tx: &WorldTx<'_>| Ok(tx.cancel_job(job)?.then(|| job.id.clone().into()));
        self.open_store()?.apply_effect_if_needed(None, "job.cancel", &job.id, act).map(drop)
    }
}
