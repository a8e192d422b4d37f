//! Supabase projects, through the Management API as it is.

mod audit;
mod backups;
mod branches;
mod config;
mod dump;
mod jobs;
pub(super) mod landing;
mod lifecycle;
#[cfg(test)]
mod mock_api;
mod network;
mod platform_backups;
mod project;
mod raw;
mod redact;
mod replicas;
mod requests;
mod restore;
mod restore_points;
mod schedules;
mod security;
mod settings;
mod sql;
mod statuses;
#[cfg(test)]
mod tests;
mod transport;

pub use sql::statements;

use super::{
    Backups, Branches, Error, Lifecycle, Network, OpenContext, Provider, Raw, Replicas, Result, Schedules,
    Security, Settings, Sql,
    model::{CallKey, EffectKind, GivenUpJob, Identity, Job, JobStatus, LandingLimit, Project, RecordedJob},
};
use async_trait::async_trait;
use config::SupabaseConfig;
use project::Supabase;
use serde_json::Value;
use std::sync::Arc;
use transport::ApiClient;

/// Opens a project. Sends no request.
///
/// # Errors
/// [`Code::Invalid`](super::Code::Invalid) when a setting is missing or wrong.
pub fn open(opening: &OpenContext<'_>) -> Result<Arc<dyn Provider>> {
    let target = opening.target;
    let config = SupabaseConfig::from_target(opening)?;
    let api = ApiClient::new(config.token.as_deref(), config.api_url.as_deref(), opening.clock)
        .map_err(|e| Error { message: format!("target `{}`: {}", target.name, e.message), ..e })?;
    Ok(Arc::new(Supabase {
        target: target.name.clone(),
        protect: target.protect,
        api: Arc::new(api),
        reference: config.reference,
        branch: None,
        clock: Arc::clone(opening.clock),
        backups: config.backups,
        state: opening.state.join("supabase").join(&target.name),
        database: config.database,
        landing_time: config.landing_time,
    }))
}

#[async_trait]
impl Provider for Supabase {
    async fn identity(&self) -> Result<Identity> {
        Supabase::fetch_identity(self).await
    }

    async fn project(&self) -> Result<Project> {
        self.fetch_project().await
    }

    async fn find_job(&self, key: &CallKey, intent: Option<&Value>) -> Result<Option<Job>> {
        self.find_project_job(key, intent).await
    }

    async fn poll_job(&self, job: &Job) -> Result<JobStatus> {
        self.poll_project_job(job).await
    }

    async fn remove_what_failed_job_made(&self, job: &Job, error: Error) -> Error {
        self.discard_failed_job(job, error).await
    }

    async fn cancel(&self, job: &Job) -> Result<()> {
        self.cancel_job(job).await
    }

    async fn give_job_up(&self, job: &Job) -> Result<GivenUpJob> {
        self.give_dump_up(job).await
    }

    fn check_recorded_job(&self, recorded: RecordedJob<'_>) -> Result<()> {
        Supabase::check_project_job_record(recorded)
    }

    async fn is_job_shown(&self, job: &Job) -> Result<bool> {
        self.is_project_job_shown(job).await
    }

    fn landing_limit(&self, kind: EffectKind) -> LandingLimit {
        self.configured_landing_limit(kind)
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
