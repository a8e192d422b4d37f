//! Policies and the audit of one database.

use super::{audit, sql::Address};
use crate::provider::{
    Result, Security,
    model::{AuditReport, Policy},
};
use async_trait::async_trait;

/// A database that is looked at, over a connection of its own each time.
pub(super) struct Inspection {
    /// How to reach it.
    pub address: Address,
    /// Whether it is a source or a branch, which decides what can be wrong with it.
    pub place: audit::Place,
}

#[async_trait]
impl Security for Inspection {
    async fn policies(&self) -> Result<Vec<Policy>> {
        let client = self.address.connect().await?;
        audit::policies(&client).await
    }

    async fn audit(&self) -> Result<AuditReport> {
        let client = self.address.connect().await?;
        audit::audit(&client, self.place).await
    }
}
