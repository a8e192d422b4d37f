//! PostgreSQL clusters on this machine.
//!
//! - Queries work wherever the server is; backups, restores and branches need its data on this machine.
//! - Every program runs as the OS user that the data belongs to, whoever runs redrill.
//! - What is true is read from the world: files, processes, the server's own words. An exit code proves nothing.

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

#[cfg(test)]
pub(crate) use scratch::postgres_or_skip;

use super::{
    Backups, Branches, Code, Error, Lifecycle, Network, Provider, Replicas, Result, Security, Sql,
    fleet::Opening,
    model::{Identity, Job, Key, Observed, Project},
};
use async_trait::async_trait;
use builtin::Builtin;
use cluster::Cluster;
use security::Inspection;
use serde_json::Value;
use settings::Settings;
use sql::Database;
use standbys::Standbys;
use std::sync::Arc;

/// A PostgreSQL target.
struct Postgres {
    name: String,
    protect: bool,
    database: Database,
    security: Inspection,
    standbys: Standbys,
    /// The cluster itself, when its data is on this machine.
    cluster: Option<Cluster>,
}

/// Opens a PostgreSQL target.
///
/// # Errors
/// What its settings lack.
pub fn open(opening: &Opening<'_>) -> Result<Arc<dyn Provider>> {
    let settings = Settings::read(opening)?;
    let cluster = Cluster::new(opening, &settings);
    let target = opening.target;
    Ok(Arc::new(Postgres {
        name: target.name.clone(),
        protect: target.protect,
        security: Inspection { address: settings.address.clone(), place: audit::Place::Source },
        standbys: Standbys {
            target: target.name.clone(),
            database: Database { address: settings.address.clone() },
        },
        database: Database { address: settings.address },
        cluster,
    }))
}

impl Postgres {
    fn local(&self) -> Result<&Cluster> {
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
            Some(cluster) => (machine(), cluster.data.display().to_string()),
            None => (address.host.clone(), format!("port {}", address.port)),
        };
        let control = match &self.cluster {
            Some(cluster) => cluster.control().await.ok(),
            None => None,
        };
        let system_identifier = if let Some(control) = control {
            control.system_identifier
        } else {
            let client = address.connect().await?;
            let ask = "select system_identifier from pg_control_system()";
            sql::text(&client, ask).await?.unwrap_or_default()
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

    async fn find(&self, key: &Key, _: Option<&Value>) -> Result<Option<Job>> {
        self.cluster.as_ref().map_or(Ok(None), |cluster| find(cluster, key))
    }

    async fn observe(&self, job: &Job) -> Result<Observed> {
        let cluster = self.local()?;
        match job.kind.as_str() {
            backup::KIND => backup::observe(cluster, job).await,
            branch::KIND => branch::observe(cluster, job).await,
            inplace::KIND => inplace::observe(cluster, job).await,
            _ => Err(no_such_job(job)),
        }
    }

    async fn cancel(&self, job: &Job) -> Result<()> {
        let cluster = self.local()?;
        match job.kind.as_str() {
            backup::KIND => Builtin::of(cluster)?.discard(&job.id),
            branch::KIND => match branch::of_job(cluster, job)? {
                Some(record) => branch::remove(cluster, record).await,
                None => Ok(()),
            },
            inplace::KIND => inplace::cancel(cluster, job).await,
            _ => Err(no_such_job(job)),
        }
    }

    fn backups(&self) -> Result<&dyn Backups> {
        Ok(self.local()?)
    }

    fn branches(&self) -> Result<&dyn Branches> {
        Ok(self.local()?)
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

/// Returns what was made with `key`, or is being made.
fn find(cluster: &Cluster, key: &Key) -> Result<Option<Job>> {
    if let Some(record) = branch::by_key(cluster, key)? {
        return Ok(Some(branch::job(&record)));
    }
    if let Some(job) = inplace::find(cluster, key)? {
        return Ok(Some(job));
    }
    if cluster.backup_dir().is_err() {
        return Ok(None);
    }
    Ok(Builtin::of(cluster)?.by_key(key)?.map(|stored| backup::job(stored.id)))
}

/// Returns the name of this machine.
fn machine() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

fn no_such_job(job: &Job) -> Error {
    Error::new(Code::Invalid, format!("a PostgreSQL target knows no job of the kind `{}`", job.kind))
}
