//! Supabase projects, through the Management API as it is.

mod asking;
mod audit;
mod backups;
mod branches;
mod branching;
mod config;
mod contents;
mod dumps;
mod inplace;
mod jobs;
mod lifecycle;
mod loading;
mod login;
mod marks;
mod network;
mod platform;
mod programs;
mod project;
mod raw;
mod replicas;
mod schedules;
mod security;
mod settings;
mod sql;
#[cfg(test)]
mod stage;
mod statuses;
#[cfg(test)]
mod tests;
mod transport;
mod work;

pub use sql::wording;

use super::{
    Backups, Branches, Code, Error, Lifecycle, Network, OpenContext, Provider, Raw, Replicas, Result,
    Schedules, Security, Settings, Sql,
    model::{Branch, CallKey, Identity, Job, JobStatus, Project},
};
use crate::base::clock::Clock;
use async_trait::async_trait;
use dumps::DumpStore;
use serde_json::Value;
use std::{path::PathBuf, sync::Arc};
use transport::ApiClient;

/// A Supabase project. A branch is one too: it has a reference and an API path of its own.
#[derive(Clone)]
struct Supabase {
    target: String,
    protect: bool,
    /// The project reference that goes into API paths; for a branch, the branch's own.
    reference: String,
    branch: Option<Branch>,
    api: Arc<ApiClient>,
    clock: Arc<dyn Clock>,
    /// Where dumps are kept.
    backups: PathBuf,
    /// The folder in which progress of long operations is kept.
    state: PathBuf,
    database: DatabaseAddress,
}

/// The database address given in the target's settings; what is absent, the platform is asked for.
#[derive(Clone, Default)]
struct DatabaseAddress {
    /// A host name, an address, or the folder of a socket.
    host: Option<String>,
    port: Option<u16>,
}

/// Opens a project; asks nothing yet.
///
/// # Errors
/// [`Code::Invalid`] when a setting is missing or wrong.
pub fn open(opening: &OpenContext<'_>) -> Result<Arc<dyn Provider>> {
    let target = opening.target;
    let settings = settings::SupabaseConfig::from_target(opening)?;
    let api = ApiClient::new(settings.token.as_deref(), settings.api_url.as_deref(), opening.clock)
        .map_err(|e| Error { message: format!("target `{}`: {}", target.name, e.message), ..e })?;
    Ok(Arc::new(Supabase {
        target: target.name.clone(),
        protect: target.protect,
        api: Arc::new(api),
        reference: settings.reference,
        branch: None,
        clock: Arc::clone(opening.clock),
        backups: settings.backups,
        state: opening.state.join("supabase").join(&target.name),
        database: settings.database,
    }))
}

impl Supabase {
    /// Returns the name under which it was asked for: `prod`, `prod/drill-aaaaaaaaaa`.
    fn display_name(&self) -> String {
        match &self.branch {
            Some(branch) => format!("{}/{}", self.target, branch.name),
            None => self.target.clone(),
        }
    }

    fn dump_store(&self) -> DumpStore<'_> {
        DumpStore { folder: &self.backups, target: self.display_name(), reference: &self.reference }
    }

    fn backup_not_found(&self, id: &str) -> Error {
        Error::new(Code::NotFound, format!("`{}` has no backup `{id}`", self.display_name()))
            .with_hint("see `backup::list`")
    }
}

#[async_trait]
impl Provider for Supabase {
    async fn identity(&self) -> Result<Identity> {
        Supabase::fetch_identity(self).await
    }

    async fn project(&self) -> Result<Project> {
        self.fetch_project().await
    }

    async fn find(&self, key: &CallKey, intent: Option<&Value>) -> Result<Option<Job>> {
        self.find_job(key, intent).await
    }

    async fn observe(&self, job: &Job) -> Result<JobStatus> {
        self.poll_job(job).await
    }

    async fn cancel(&self, job: &Job) -> Result<()> {
        self.cancel_job(job).await
    }

    fn backups(&self) -> Result<&dyn Backups> {
        Ok(self)
    }

    fn branches(&self) -> Result<&dyn Branches> {
        match &self.branch {
            None => Ok(self),
            Some(_) => Err(Error::unsupported(
                format!("`{}` is a branch, and has none of its own", self.display_name()),
                format!("make another branch of `{}`", self.target),
            )),
        }
    }

    fn sql(&self) -> Result<&dyn Sql> {
        Ok(self)
    }

    fn replicas(&self) -> Result<&dyn Replicas> {
        Ok(self)
    }

    fn security(&self) -> Result<&dyn Security> {
        Ok(self)
    }

    fn lifecycle(&self) -> Result<&dyn Lifecycle> {
        Ok(self)
    }

    fn schedules(&self) -> Result<&dyn Schedules> {
        Ok(self)
    }

    fn settings(&self) -> Result<&dyn Settings> {
        Ok(self)
    }

    fn network(&self) -> Result<&dyn Network> {
        Ok(self)
    }

    fn raw(&self) -> Result<&dyn Raw> {
        Ok(self)
    }
}
