//! Policies and the audit of a simulated target.

use super::{
    target::Sim,
    world::audit::{audit_content, effective_policies},
};
use crate::provider::{
    Result, Security,
    model::{AuditReport, Policy},
};
use async_trait::async_trait;

#[async_trait]
impl Security for Sim {
    async fn policies(&self) -> Result<Vec<Policy>> {
        let store = self.open_store()?;
        store.read_current_world(|tx| {
            let line = self.answering_timeline(tx)?;
            store.with_content(tx, line, |content| effective_policies(tx, content))
        })
    }

    async fn audit(&self) -> Result<AuditReport> {
        let store = self.open_store()?;
        store.read_current_world(|tx| {
            let line = self.answering_timeline(tx)?;
            store.with_content(tx, line, |content| audit_content(tx, content, self.branch.is_some()))
        })
    }
}
