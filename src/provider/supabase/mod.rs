//! Supabase projects, through the Management API as it is.

mod asking;
mod audit;
mod backups;
mod branches;
mod branching;
mod contents;
mod dumps;
mod inplace;
mod jobs;
mod loading;
mod login;
mod marks;
mod platform;
mod programs;
mod replicas;
mod security;
#[cfg(test)]
mod stage;
mod statuses;
#[cfg(test)]
mod tests;
mod transport;
mod work;

use super::{
    Backups, Branches, Code, Error, Provider, Replicas, Result, Security, Sql,
    fleet::Opening,
    model::{Branch, Identity, Job, Key, Observed, Project},
};
use crate::base::{clock::Clock, suggest};
use async_trait::async_trait;
use dumps::Dumps;
use serde::Deserialize;
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    r#ref: String,
    token: Option<String>,
    api_url: Option<String>,
    backup_dir: Option<PathBuf>,
    db_host: Option<String>,
    db_port: Option<u16>,
}

/// Opens a project; asks nothing yet.
///
/// # Errors
/// What its settings lack.
pub fn open(opening: &Opening<'_>) -> Result<Arc<dyn Provider>> {
    let target = opening.target;
    let settings = settings(opening)?;
    let state = opening.state.join("supabase").join(&target.name);
    let backups = match &settings.backup_dir {
        Some(folder) => opening.base.join(folder),
        None => state.join("backups"),
    };
    Ok(Arc::new(Supabase {
        target: target.name.clone(),
        protect: target.protect,
        api: Arc::new(Api::new(settings.token.as_deref(), settings.api_url.as_deref(), opening.clock)?),
        reference: settings.r#ref,
        branch: None,
        clock: Arc::clone(opening.clock),
        backups,
        state,
        database: Address { host: settings.db_host, port: settings.db_port },
    }))
}

fn settings(opening: &Opening<'_>) -> Result<Settings> {
    let target = opening.target;
    target.settings.clone().try_into().map_err(|e: toml::de::Error| {
        let error =
            Error::new(Code::Invalid, format!("the settings of target `{}`: {}", target.name, e.message()));
        match suggest::hint_for_unknown_field(e.message()) {
            Some(hint) => error.hint(hint),
            None => error.hint("`ref` is the twenty letters of the project, as in its address"),
        }
    })
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
        let project = self.api.get(&format!("/v1/projects/{}", self.reference)).await?;
        Ok(Identity {
            id: format!("supabase:{}", self.reference),
            description: format!("{} ({})", project["name"].as_str().unwrap_or("a project"), self.reference),
        })
    }

    async fn project(&self) -> Result<Project> {
        Err(Error::unsupported("not yet", "later"))
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
        Err(Error::unsupported("not yet", "later"))
    }

    fn replicas(&self) -> Result<&dyn Replicas> {
        Ok(self)
    }

    fn security(&self) -> Result<&dyn Security> {
        Ok(self)
    }
}
