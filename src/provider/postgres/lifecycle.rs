//! The capability `Lifecycle`: whether a cluster is ready. Starting and stopping it is its host's business.

use super::Postgres;
use crate::provider::{
    Code, Error, Lifecycle, Provider as _, Result, Sql as _,
    model::{Addon, CallKey, Job, JobStatus, Progress},
};
use async_trait::async_trait;
use serde_json::json;

#[async_trait]
impl Lifecycle for Postgres {
    async fn check_ready(&self) -> Result<JobStatus> {
        match self.database.health().await {
            Ok(health) if health.ok => Ok(JobStatus::Done(json!(self.project().await?))),
            Ok(health) => Ok(JobStatus::Running(Progress::with_phase(health.status))),
            Err(e) if e.code == Code::Unavailable => Ok(JobStatus::Running(Progress::with_phase(e.message))),
            Err(e) => Err(e),
        }
    }

    async fn pause(&self, _: &CallKey) -> Result<Job> {
        Err(self.power_unsupported_error())
    }

    async fn resume(&self, _: &CallKey) -> Result<Job> {
        Err(self.power_unsupported_error())
    }

    async fn addons(&self) -> Result<Vec<Addon>> {
        Ok(Vec::new())
    }
}

impl Postgres {
    fn power_unsupported_error(&self) -> Error {
        Error::unsupported(
            format!("`{}` is not switched on and off from here", self.name),
            "use the service manager of the server's host",
        )
    }
}
