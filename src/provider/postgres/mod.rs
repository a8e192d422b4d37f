//! PostgreSQL clusters on this machine.
//!
//! - Queries work against any reachable server; backups, restores and branches need its data on this machine.
//! - Programs run as the OS user that owns the data, whoever runs redrill.
//! - State is read from files, processes and the server itself. An exit code proves nothing.

mod admission;
mod audit;
mod backup;
mod branch;
mod builtin;
mod cluster;
mod configuration;
mod control;
mod copying;
mod deletion;
pub(super) mod disk;
mod horizon;
mod inplace;
mod isolation;
pub mod lab;
mod lifecycle;
mod manifest;
mod mark;
mod opened;
mod plan;
pub(super) mod process;
pub(super) mod records;
mod recovery;
#[cfg(test)]
pub(super) mod scratch;
mod security;
mod server;
mod settings;
mod sql;
pub mod stand_in;
mod standbys;
#[cfg(test)]
mod tests;
pub(super) mod tools;
mod wal;
mod window;

use super::{
    Backups, Branches, Code, Error, Lifecycle, Network, Provider, Replicas, Result, Security, Sql,
    fleet::OpenContext,
    model::{CallKey, Identity, Job, JobStatus, Project},
};
use async_trait::async_trait;
use builtin::BuiltinEngine;
use cluster::Cluster;
use security::DatabaseSecurity;
use serde_json::Value;
use settings::PostgresConfig;
use sql::Database;
use standbys::Standbys;
use std::sync::Arc;

/// A PostgreSQL target.
struct Postgres {
    name: String,
    protect: bool,
    database: Database,
    security: DatabaseSecurity,
    standbys: Standbys,
    /// The cluster itself, when its data is on this machine.
    cluster: Option<Cluster>,
}

/// Opens a PostgreSQL target.
///
/// # Errors
/// What its settings lack.
pub fn open(opening: &OpenContext<'_>) -> Result<Arc<dyn Provider>> {
    let settings = PostgresConfig::read(opening)?;
    let cluster = Cluster::new(opening, &settings);
    let target = opening.target;
    Ok(Arc::new(Postgres {
        name: target.name.clone(),
        protect: target.protect,
        security: DatabaseSecurity { address: settings.address.clone(), place: audit::AuditScope::Source },
        standbys: Standbys {
            target: target.name.clone(),
            database: Database { address: settings.address.clone() },
        },
        database: Database { address: settings.address },
        cluster,
    }))
}

impl Postgres {
    fn local_cluster(&self) -> Result<&Cluster> {
        self.cluster.as_ref().ok_or_else(|| {
            Error::unsupported(
                format!("the data of `{}` is not on this machine, so it can be neither backed up nor restored from here", self.name),
                "run redrill on the cluster's own host and set `data_dir`; queries and audits work from here",
            )
        })
    }
}

#[async_trait]
impl Provider for Postgres {
    async fn identity(&self) -> Result<Identity> {
        let address = &self.database.address;
        let (host, place) = match &self.cluster {
            // A copy of the cluster on another machine, with the same folders, is another target.
            Some(cluster) => (read_hostname(), cluster.data.display().to_string()),
            None => (address.host.clone(), format!("port {}", address.port)),
        };
        let control = match &self.cluster {
            Some(cluster) => cluster.read_control_file().await.ok(),
            None => None,
        };
        let system_identifier = if let Some(control) = control {
            control.system_identifier
        } else {
            let client = address.connect().await?;
            let ask = "select system_identifier from pg_control_system()";
            sql::fetch_text(&client, ask).await?.unwrap_or_default()
        };
        Ok(Identity {
            id: format!("postgres:{system_identifier}:{host}:{place}"),
            description: format!("cluster {system_identifier} at {host}, {place}"),
        })
    }

    async fn project(&self) -> Result<Project> {
        let health = self.database.health().await?;
        let identity = self.identity().await.map_or_else(|e| e.message, |identity| identity.description);
        Ok(Project {
            name: self.name.clone(),
            provider: "postgres".into(),
            status: health.status,
            version: health.version,
            identity,
            protect: self.protect,
        })
    }

    async fn find(&self, key: &CallKey, _: Option<&Value>) -> Result<Option<Job>> {
        self.cluster.as_ref().map_or(Ok(None), |cluster| find_job(cluster, key))
    }

    async fn observe(&self, job: &Job) -> Result<JobStatus> {
        let cluster = self.local_cluster()?;
        match job.kind.as_str() {
            backup::JOB_KIND => backup::poll_backup(cluster, job).await,
            branch::JOB_KIND => branch::poll_branch(cluster, job).await,
            inplace::JOB_KIND => inplace::poll_restore(cluster, job).await,
            _ => Err(unknown_job_error(job)),
        }
    }

    async fn cancel(&self, job: &Job) -> Result<()> {
        let cluster = self.local_cluster()?;
        match job.kind.as_str() {
            backup::JOB_KIND => BuiltinEngine::for_cluster(cluster)?.discard_backup(&job.id),
            branch::JOB_KIND => match branch::find_branch_of_job(cluster, job)? {
                Some(record) => branch::remove_branch(cluster, record).await,
                None => Ok(()),
            },
            inplace::JOB_KIND => inplace::cancel_restore(cluster, job).await,
            _ => Err(unknown_job_error(job)),
        }
    }

    fn backups(&self) -> Result<&dyn Backups> {
        Ok(self.local_cluster()?)
    }

    fn branches(&self) -> Result<&dyn Branches> {
        Ok(self.local_cluster()?)
    }

    fn sql(&self) -> Result<&dyn Sql> {
        Ok(&self.database)
    }

    fn security(&self) -> Result<&dyn Security> {
        Ok(&self.security)
    }

    fn lifecycle(&self) -> Result<&dyn Lifecycle> {
        Ok(self)
    }

    fn replicas(&self) -> Result<&dyn Replicas> {
        Ok(&self.standbys)
    }

    fn settings(&self) -> Result<&dyn super::Settings> {
        Ok(&self.database)
    }

    fn network(&self) -> Result<&dyn Network> {
        Ok(&self.database)
    }
}

/// Returns the job that was started with `key`: a branch, a restore in place or a backup.
fn find_job(cluster: &Cluster, key: &CallKey) -> Result<Option<Job>> {
    if let Some(record) = branch::find_branch_by_key(cluster, key)? {
        return Ok(Some(branch::branch_job(&record)));
    }
    if let Some(job) = inplace::find_restore_job(cluster, key)? {
        return Ok(Some(job));
    }
    if cluster.backup_dir().is_err() {
        return Ok(None);
    }
    Ok(BuiltinEngine::for_cluster(cluster)?
        .find_backup_by_key(key)?
        .map(|stored| backup::backup_job(stored.id)))
}

/// Returns the name of this machine.
fn read_hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

fn unknown_job_error(job: &Job) -> Error {
    Error::new(Code::Invalid, format!("a PostgreSQL target knows no job of the kind `{}`", job.kind))
}
