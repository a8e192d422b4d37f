//! Policies and the audit of one database.

use super::{audit, sql::DatabaseAddress};
use crate::provider::{
    Result, Security,
    model::{AuditReport, Policy},
};
use async_trait::async_trait;

/// The policies and the audit of one database, each over a connection of its own.
pub(super) struct DatabaseSecurity {
    pub address: DatabaseAddress,
    /// Whether it is a source or a branch, which decides what can be wrong with it.
    pub scope: audit::AuditScope,
}

#[async_trait]
impl Security for DatabaseSecurity {
    async fn policies(&self) -> Result<Vec<Policy>> {
        let client = self.address.connect().await?;
        audit::fetch_policies(&client).await
    }

    async fn audit(&self) -> Result<AuditReport> {
        let client = self.address.connect().await?;
        audit::run_audit(&client, self.scope).await
    }
}
