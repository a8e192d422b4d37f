//! Supabase projects, through the Management API as it is.

mod config;
mod lifecycle;
mod network;
mod project;
mod raw;
mod schedules;
mod settings;
mod sql;
#[cfg(test)]
mod stage;
mod transport;

use super::{
    Backups, Branches, Error, Lifecycle, Network, Provider, Raw, Result, Schedules, Security, Settings, Sql,
    fleet::Opening,
    model::{Branch, Identity, Job, Key, Observed, Project},
};
use crate::base::clock::Clock;
use async_trait::async_trait;
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
    }))
}

#[async_trait]
impl Provider for Supabase {
    async fn identity(&self) -> Result<Identity> {
        Supabase::identity(self).await
    }

    async fn project(&self) -> Result<Project> {
        self.item().await
    }

    async fn find(&self, _: &Key, intent: Option<&Value>) -> Result<Option<Job>> {
        match intent.and_then(|intent| intent["kind"].as_str()) {
            Some(kind @ (lifecycle::PAUSE | lifecycle::RESUME)) => self.find_switch(kind).await,
            _ => Err(Error::unsupported("not yet", "later")),
        }
    }

    async fn observe(&self, job: &Job) -> Result<Observed> {
        match job.kind.as_str() {
            kind @ (lifecycle::PAUSE | lifecycle::RESUME) => self.observe_switch(kind).await,
            _ => Err(Error::unsupported("not yet", "later")),
        }
    }

    async fn cancel(&self, job: &Job) -> Result<()> {
        match job.kind.as_str() {
            lifecycle::PAUSE | lifecycle::RESUME => Err(lifecycle::goes_on(job)),
            _ => Err(Error::unsupported("not yet", "later")),
        }
    }

    fn backups(&self) -> Result<&dyn Backups> {
        Err(Error::unsupported("not yet", "later"))
    }

    fn branches(&self) -> Result<&dyn Branches> {
        Err(Error::unsupported("not yet", "later"))
    }

    fn sql(&self) -> Result<&dyn Sql> {
        Ok(self)
    }

    fn security(&self) -> Result<&dyn Security> {
        Err(Error::unsupported("not yet", "later"))
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
