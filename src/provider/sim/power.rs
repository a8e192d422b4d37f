//! A simulated target, switched off and on.

use super::{
    Sim,
    backups::{decode, json},
    jobs,
    store::Present,
    switches::POWER,
};
use crate::{
    base::moment::Span,
    provider::{
        Accept, Code, Error, Lifecycle, Provider as _, Result,
        model::{Addon, Job, Key, Observed, Progress},
    },
};
use async_trait::async_trait;
use serde_json::Value;

#[async_trait]
impl Lifecycle for Sim {
    async fn ready(&self) -> Result<Observed> {
        let project = self.project().await?;
        if project.status == "healthy" {
            return Ok(Observed::Done(json(project)?));
        }
        let again_in = Some(Span::seconds(10));
        Ok(Observed::Running(Progress { again_in, ..Progress::phase(project.status) }))
    }

    async fn pause(&self, key: &Key, _: &dyn Accept) -> Result<Job> {
        self.switch_over(key, "project.pause", |p| {
            p.demand_on(Code::Refused)?;
            p.demand_unrestored(Code::Conflict)?;
            p.demand_no_backup()?;
            p.set_switch(POWER, "pausing", p.now)?;
            p.accept(jobs::PAUSE, key, p.target, p.world.pause_duration(), 0, &Value::Null)
        })
    }

    async fn resume(&self, key: &Key, _: &dyn Accept) -> Result<Job> {
        self.switch_over(key, "project.resume", |p| {
            let power = p.switch(POWER)?.value;
            if power != "paused" {
                let message = format!("`{}` is {power} and cannot be resumed", p.target);
                return Err(Error::new(Code::Refused, message).hint("only what is paused can be resumed"));
            }
            p.set_switch(POWER, "resuming", p.now)?;
            p.accept(jobs::RESUME, key, p.target, p.world.resume_duration(), 0, &Value::Null)
        })
    }

    async fn addons(&self) -> Result<Vec<Addon>> {
        self.store()?.look(|p| Ok(p.world.addons.clone()))
    }
}

impl Sim {
    fn switch_over(
        &self,
        key: &Key,
        kind: &str,
        act: impl FnOnce(&Present<'_>) -> Result<Job>,
    ) -> Result<Job> {
        decode(self.store()?.effect(Some(key), kind, &self.target, |p| json(act(p)?))?)
    }
}
