//! Branches of a simulated target.

use super::{
    target::Sim,
    world::{
        from_json,
        jobs::{self, PromotionDetail},
        to_json,
    },
};
use crate::provider::{
    Branches, Code, Provider, Result,
    model::{Branch, CallKey, Job},
};
use async_trait::async_trait;
use serde_json::Value;
use std::sync::Arc;

#[async_trait]
impl Branches for Sim {
    async fn list(&self) -> Result<Vec<Branch>> {
        self.open_store()?
            .read_current_world(|tx| Ok(tx.list_branch_rows()?.into_iter().map(|row| row.branch).collect()))
    }

    async fn get(&self, name: &str) -> Result<Branch> {
        self.open_store()?.read_current_world(|tx| tx.find_branch(name))
    }

    async fn open(&self, name: &str) -> Result<Arc<dyn Provider>> {
        Ok(Arc::new(self.open_branch(name).await?))
    }

    async fn delete(&self, name: &str, id: &str) -> Result<()> {
        let store = self.open_store()?;
        let line = store.apply_effect_if_needed(None, "branch.delete", name, |tx| {
            let Some(row) = tx.list_branch_rows()?.into_iter().find(|row| row.branch.id == id) else {
                return Ok(None);
            };
            tx.cancel_job_for(id)?;
            tx.delete_row("branches", id)?;
            Ok(Some(row.line.into()))
        })?;
        if let Some(line) = line.and_then(|line| line.as_i64()) {
            store.release_content(line);
        }
        Ok(())
    }

    async fn reset(&self, branch: &Branch, key: &CallKey) -> Result<Job> {
        from_json(self.open_store()?.apply_effect(Some(key), "branch.reset", &branch.name, |tx| {
            let row = tx.demand_ready_branch(&branch.id)?;
            let cut = tx.find_timeline(row.line)?.fork.map_or(0, |(_, cut)| cut);
            let bytes = tx.content_facts_at(row.line, cut)?.bytes;
            tx.update_branch(&branch.id, "preparing", row.line)?;
            let takes = tx.spec.restore_duration();
            to_json(tx.accept_job(jobs::RESET, key, &branch.id, takes, bytes, &Value::Null)?)
        })?)
    }

    async fn promote(&self, branch: &Branch, key: &CallKey) -> Result<Job> {
        from_json(self.open_store()?.apply_effect(Some(key), "branch.promote", &branch.name, |tx| {
            tx.demand_powered_on(Code::Refused)?;
            tx.demand_not_being_replaced(Code::Conflict)?;
            tx.demand_no_backup_job()?;
            let row = tx.demand_ready_branch(&branch.id)?;
            let cut = tx.log_end()?;
            let bytes = tx.content_facts_at(row.line, cut)?.bytes;
            let detail = to_json(PromotionDetail { line: row.line, cut, branch: row.branch.name })?;
            to_json(tx.accept_job(
                jobs::PROMOTE,
                key,
                tx.target,
                tx.spec.restore_duration(),
                bytes,
                &detail,
            )?)
        })?)
    }
}
