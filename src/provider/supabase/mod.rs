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
    Backups, Branches, Code, Error, Lifecycle, Network, Provider, Raw, Replicas, Result, Schedules, Security,
    Settings, Sql,
    fleet::Opening,
    model::{Branch, Identity, Job, Key, Observed, Project},
};
use crate::base::clock::Clock;
use async_trait::async_trait;
use dumps::Dumps;
use serde_json::Value;
use std::{path::PathBuf, sync::Arc};
use transport::Api;

/// A project, or a branch of one, which is a project of its own.
#[derive(Clone)]
struct Supabase {
    /// The target's name.
    target: String,
    protect: bool,
    /// The reference of the project that is asked: of the branch, where this is one.
    reference: String,
    branch: Option<Branch>,
    api: Arc<Api>,
    clock: Arc<dyn Clock>,
    /// Where dumps are kept.
    backups: PathBuf,
    /// Where it is noted what was seen of what takes long.
    state: PathBuf,
    database: Address,
}

/// Where the target's settings say that its database is reached.
#[derive(Clone, Default)]
struct Address {
    /// A host name, an address, or the folder of a socket.
    host: Option<String>,
    port: Option<u16>,
}

/// Opens a project; asks nothing yet.
///
/// # Errors
/// What its settings lack.
pub fn open(opening: &Opening<'_>) -> Result<Arc<dyn Provider>> {
    let target = opening.target;
    let settings = settings::Settings::read(opening)?;
    let api = Api::new(settings.token.as_deref(), settings.api_url.as_deref(), opening.clock)
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
    fn name(&self) -> String {
        match &self.branch {
            Some(branch) => format!("{}/{}", self.target, branch.name),
            None => self.target.clone(),
        }
    }

    fn dumps(&self) -> Dumps<'_> {
        Dumps { folder: &self.backups, target: self.name(), reference: &self.reference }
    }

    fn no_backup(&self, id: &str) -> Error {
        Error::new(Code::NotFound, format!("`{}` has no backup `{id}`", self.name()))
            .hint("see `backup::list`")
    }
}

#[async_trait]
impl Provider for Supabase {
    async fn identity(&self) -> Result<Identity> {
        Supabase::identity(self).await
    }

    async fn project(&self) -> Result<Project> {
        self.item().await
    }

    async fn find(&self, key: &Key, intent: Option<&Value>) -> Result<Option<Job>> {
        self.found(key, intent).await
    }

    async fn observe(&self, job: &Job) -> Result<Observed> {
        self.looked_at(job).await
    }

    async fn cancel(&self, job: &Job) -> Result<()> {
        self.given_up(job).await
    }

    fn backups(&self) -> Result<&dyn Backups> {
        Ok(self)
    }

    fn branches(&self) -> Result<&dyn Branches> {
        match &self.branch {
            None => Ok(self),
            Some(_) => Err(Error::unsupported(
                format!("`{}` is a branch, and has none of its own", self.name()),
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
