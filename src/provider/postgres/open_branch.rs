//! An open branch, as a provider.

use super::{audit, cluster::Cluster, records::BranchRecord, security::DatabaseSecurity, sql::Database};
use crate::provider::{
    Backups, Branches, Code, Error, Provider, Result, Security, Settings, Sql,
    model::{CallKey, EffectKind, Identity, Job, JobStatus, LandingLimit, Project},
};
use async_trait::async_trait;
use serde_json::Value;

/// A branch that is ready.
pub(super) struct OpenBranch {
    record: BranchRecord,
    database: Database,
    security: DatabaseSecurity,
}

impl OpenBranch {
    /// Returns a branch of `cluster`.
    pub(super) fn new(cluster: &Cluster, record: &BranchRecord) -> Self {
        let address = record.server_address(&cluster.address);
        Self {
            record: record.clone(),
            security: DatabaseSecurity { address: address.clone(), scope: audit::AuditScope::Branch },
            database: Database { address },
        }
    }

    fn full_name(&self) -> String {
        format!("{}/{}", self.record.target, self.record.name)
    }

    fn no_jobs_error(&self) -> Error {
        Error::new(Code::NotFound, format!("branch `{}` has no jobs of its own", self.full_name()))
    }
}

#[async_trait]
impl Provider for OpenBranch {
    async fn identity(&self) -> Result<Identity> {
        Ok(Identity {
            id: format!("postgres:{}:branch:{}", self.record.copy.system_identifier, self.record.id),
            description: format!("branch `{}` in {}", self.full_name(), self.record.copy.folder.display()),
        })
    }

    async fn project(&self) -> Result<Project> {
        let health = self.database.health().await?;
        Ok(Project {
            name: self.full_name(),
            provider: "postgres".into(),
            status: health.status,
            version: health.version,
            identity: self.identity().await?.description,
            protect: false,
        })
    }

    async fn find_job(&self, _: &CallKey, _: Option<&Value>) -> Result<Option<Job>> {
        Ok(None)
    }

    async fn poll_job(&self, _: &Job) -> Result<JobStatus> {
        Err(self.no_jobs_error())
    }

    async fn cancel(&self, _: &Job) -> Result<()> {
        Err(self.no_jobs_error())
    }

    fn landing_limit(&self, kind: EffectKind) -> LandingLimit {
        super::landing::landing_limit_of_kind(kind)
    }

    fn backups(&self) -> Result<&dyn Backups> {
        Err(Error::unsupported(
            format!("branch `{}` archives nothing, so that it cannot reach its source", self.full_name()),
            format!("back up `{}` itself", self.record.target),
        ))
    }

    fn branches(&self) -> Result<&dyn Branches> {
        Err(Error::unsupported(
            format!("`{}` is a branch, and has none of its own", self.full_name()),
            format!("make another branch of `{}`", self.record.target),
        ))
    }

    fn sql(&self) -> Result<&dyn Sql> {
        Ok(&self.database)
    }

    fn security(&self) -> Result<&dyn Security> {
        Ok(&self.security)
    }

    fn settings(&self) -> Result<&dyn Settings> {
        Ok(&self.database)
    }
}
