//! Supabase projects, through the Management API as it is.

#[cfg(test)]
mod stage;
mod transport;

use super::{
    Backups, Branches, Code, Error, Provider, Result, Security, Sql,
    fleet::Opening,
    model::{Branch, Identity, Job, Key, Observed, Project},
};
use crate::base::{clock::Clock, suggest};
use async_trait::async_trait;
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
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    r#ref: String,
    token: Option<String>,
    api_url: Option<String>,
    backup_dir: Option<PathBuf>,
}

/// Opens a project; asks nothing yet.
///
/// # Errors
/// What its settings lack.
pub fn open(opening: &Opening<'_>) -> Result<Arc<dyn Provider>> {
    let target = opening.target;
    let settings = settings(opening)?;
    let backups = match &settings.backup_dir {
        Some(folder) => opening.base.join(folder),
        None => opening.state.join("supabase").join(&target.name).join("backups"),
    };
    Ok(Arc::new(Supabase {
        target: target.name.clone(),
        protect: target.protect,
        api: Arc::new(Api::new(settings.token.as_deref(), settings.api_url.as_deref(), opening.clock)?),
        reference: settings.r#ref,
        branch: None,
        clock: Arc::clone(opening.clock),
        backups,
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

    async fn find(&self, _: &Key, _: Option<&Value>) -> Result<Option<Job>> {
        Err(Error::unsupported("not yet", "later"))
    }

    async fn observe(&self, _: &Job) -> Result<Observed> {
        Err(Error::unsupported("not yet", "later"))
    }

    async fn cancel(&self, _: &Job) -> Result<()> {
        Err(Error::unsupported("not yet", "later"))
    }

    fn backups(&self) -> Result<&dyn Backups> {
        Err(Error::unsupported("not yet", "later"))
    }

    fn branches(&self) -> Result<&dyn Branches> {
        Err(Error::unsupported("not yet", "later"))
    }

    fn sql(&self) -> Result<&dyn Sql> {
        Err(Error::unsupported("not yet", "later"))
    }

    fn security(&self) -> Result<&dyn Security> {
        Err(Error::unsupported("not yet", "later"))
    }
}
