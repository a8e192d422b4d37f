//! Pausing and resuming a simulated target.

use super::{
    target::Sim,
    world::{WorldTx, from_json, jobs, switches::POWER, to_json},
};
use crate::{
    base::moment::Span,
    provider::{
        Code, Error, Lifecycle, Provider as _, Result,
        model::{Addon, CallKey, Job, JobStatus, Progress},
    },
};
use async_trait::async_trait;
use serde_json::Value;

#[async_trait]
impl Lifecycle for Sim {
    async fn check_ready(&self) -> Result<JobStatus> {
        let project = self.project().await?;
        if project.status == "healthy" {
            return Ok(JobStatus::Done(to_json(project)?));
        }
        let again_in = Some(Span::from_secs(10));
        Ok(JobStatus::Running(Progress { again_in, ..Progress::with_phase(project.status) }))
    }

    async fn pause(&self, key: &CallKey) -> Result<Job> {
        self.switch_power(key, "project.pause", |tx| {
            tx.demand_powered_on(Code::Refused)?;
            tx.demand_not_being_replaced(Code::Conflict)?;
            tx.demand_no_backup_job()?;
            tx.set_switch(POWER, "pausing", tx.now)?;
            tx.accept_job(jobs::PAUSE, key, tx.target, tx.spec.pause_duration(), 0, &Value::Null)
        })
    }

    async fn resume(&self, key: &CallKey) -> Result<Job> {
        self.switch_power(key, "project.resume", |tx| {
            let power = tx.read_switch(POWER)?.value;
            if power != "paused" {
                let message = format!("`{}` is {power} and cannot be resumed", tx.target);
                return Err(
                    Error::new(Code::Refused, message).with_hint("only what is paused can be resumed")
                );
            }
            tx.set_switch(POWER, "resuming", tx.now)?;
            tx.accept_job(jobs::RESUME, key, tx.target, tx.spec.resume_duration(), 0, &Value::Null)
        })
    }

    async fn addons(&self) -> Result<Vec<Addon>> {
        self.open_store()?.read_current_world(|tx| Ok(tx.spec.addons.clone()))
    }
}

impl Sim {
    fn switch_power(
        &self,
        key: &CallKey,
        kind: &str,
        act: impl FnOnce(&WorldTx<'_>) -> Result<Job>,
    ) -> Result<Job> {
        from_json(self.open_store()?.apply_effect(Some(key), kind, &self.target, |tx| to_json(act(tx)?))?)
    }
}
