//! A simulated target, switched off and on.

use super::{
    Sim,
    backups::{from_json, to_json},
    jobs,
    store::WorldTx,
    switches::POWER,
};
use crate::{
    base::moment::Span,
    provider::{
        Accept, Code, Error, Lifecycle, Provider as _, Result,
        model::{Addon, CallKey, Job, JobStatus, Progress},
    },
};
use async_trait::async_trait;
use serde_json::Value;

#[async_trait]
impl Lifecycle for Sim {
    async fn ready(&self) -> Result<JobStatus> {
        let project = self.project().await?;
        if project.status == "healthy" {
            return Ok(JobStatus::Done(to_json(project)?));
        }
        let again_in = Some(Span::from_secs(10));
        Ok(JobStatus::Running(Progress { again_in, ..Progress::with_phase(project.status) }))
    }

    async fn pause(&self, key: &CallKey, _: &dyn Accept) -> Result<Job> {
        self.switch_power(key, "project.pause", |p| {
            p.demand_powered_on(Code::Refused)?;
            p.demand_no_restore_job(Code::Conflict)?;
            p.demand_no_backup_job()?;
            p.set_switch(POWER, "pausing", p.now)?;
            p.accept_job(jobs::PAUSE, key, p.target, p.world.pause_duration(), 0, &Value::Null)
        })
    }

    async fn resume(&self, key: &CallKey, _: &dyn Accept) -> Result<Job> {
        self.switch_power(key, "project.resume", |p| {
            let power = p.read_switch(POWER)?.value;
            if power != "paused" {
                let message = format!("`{}` is {power} and cannot be resumed", p.target);
                return Err(
                    Error::new(Code::Refused, message).with_hint("only what is paused can be resumed")
                );
            }
            p.set_switch(POWER, "resuming", p.now)?;
            p.accept_job(jobs::RESUME, key, p.target, p.world.resume_duration(), 0, &Value::Null)
        })
    }

    async fn addons(&self) -> Result<Vec<Addon>> {
        self.open_store()?.read_world(|p| Ok(p.world.addons.clone()))
    }
}

impl Sim {
    fn switch_power(
        &self,
        key: &CallKey,
        kind: &str,
        act: impl FnOnce(&WorldTx<'_>) -> Result<Job>,
    ) -> Result<Job> {
        from_json(self.open_store()?.apply_effect(Some(key), kind, &self.target, |p| to_json(act(p)?))?)
    }
}
