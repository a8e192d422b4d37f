//! PostgreSQL clusters on this machine.
//!
//! - Queries work against any reachable server; backups, restores and branches need its data on this machine.
//! - Programs run as the OS user that owns the data, whoever runs redrill.
//! - State is read from files, processes and the server itself. An exit code proves nothing.

mod archive_search;
mod archive_view;
mod audit;
mod backups;
mod branches;
mod cluster;
mod config;
mod engine;
mod events;
mod jobs;
pub mod lab;
pub(super) mod landing;
mod lifecycle;
mod loaded_files;
mod network;
mod open_branch;
pub mod platform_cluster;
mod programs;
mod records;
mod replicas;
mod restore;
mod restore_points;
mod security;
mod setting_lists;
mod settings;
mod sql;
mod statements;
#[cfg(test)]
pub(super) mod test_cluster;
#[cfg(test)]
mod tests;
mod verification;
mod wal;
mod window;

use super::{
    Backups, Branches, Error, Lifecycle, Network, OpenContext, Provider, Replicas, Result, Security, Sql,
    model::{CallKey, EffectKind, GivenUpJob, Identity, Job, JobStatus, LandingLimit, Project, RecordedJob},
};
use async_trait::async_trait;
use cluster::Cluster;
use config::PostgresConfig;
use replicas::Standbys;
use security::DatabaseSecurity;
use serde_json::Value;
use sql::Database;
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
/// What is wrong with its configuration.
pub fn open(opening: &OpenContext<'_>) -> Result<Arc<dyn Provider>> {
    let config = PostgresConfig::read(opening)?;
    let cluster = Cluster::new(opening, &config);
    let target = opening.target;
    Ok(Arc::new(Postgres {
        name: target.name.clone(),
        protect: target.protect,
        security: DatabaseSecurity { address: config.address.clone(), scope: audit::AuditScope::Source },
        standbys: Standbys {
            target: target.name.clone(),
            database: Database { address: config.address.clone() },
        },
        database: Database { address: config.address },
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

    async fn find_job(&self, key: &CallKey, _: Option<&Value>) -> Result<Option<Job>> {
        self.cluster.as_ref().map_or(Ok(None), |cluster| jobs::find_job(cluster, key))
    }

    fn check_recorded_job(&self, recorded: RecordedJob<'_>) -> Result<()> {
        jobs::check_recorded_job(recorded)
    }

    async fn poll_job(&self, job: &Job) -> Result<JobStatus> {
        JobStatus::treat_poll_error_as_failure(jobs::poll_job(self.local_cluster()?, job).await)
    }

    async fn cancel(&self, job: &Job) -> Result<()> {
        jobs::cancel_job(self.local_cluster()?, job).await
    }

    async fn give_job_up(&self, job: &Job) -> Result<GivenUpJob> {
        jobs::give_job_up(self.local_cluster()?, job).await
    }

    async fn settle_job_as_done(&self, job: &Job) -> Result<()> {
        jobs::settle_job_as_done(self.local_cluster()?, job).await
    }

    fn landing_limit(&self, kind: EffectKind) -> LandingLimit {
        landing::landing_limit_of_kind(kind)
    }

    fn backups(&self) -> Result<&dyn Backups> {
        Ok(self.local_cluster()?)
    }

    fn branches(&self) -> Result<&dyn Branches> {
        Ok(self.local_cluster()?)
    }

    fn sql(&self) -> Result<&dyn Sql> {
        Ok(self)
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

/// Returns the name of this machine.
fn read_hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}
