//! Whether a cluster is ready. It is switched on and off on its host, by whoever looks after it there.

use super::Postgres;
use crate::provider::{
    Accept, Code, Error, Lifecycle, Provider as _, Result, Sql as _,
    model::{Addon, Job, Key, Observed, Progress},
};
use async_trait::async_trait;
use serde_json::json;

#[async_trait]
impl Lifecycle for Postgres {
    async fn ready(&self) -> Result<Observed> {
        match self.database.health().await {
            Ok(health) if health.ok => Ok(Observed::Done(json!(self.project().await?))),
            Ok(health) => Ok(Observed::Running(Progress::phase(health.status))),
            Err(e) if e.code == Code::Unavailable => Ok(Observed::Running(Progress::phase(e.message))),
            Err(e) => Err(e),
        }
    }

    async fn pause(&self, _: &Key, _: &dyn Accept) -> Result<Job> {
        Err(self.elsewhere())
    }

    async fn resume(&self, _: &Key, _: &dyn Accept) -> Result<Job> {
        Err(self.elsewhere())
    }

    async fn addons(&self) -> Result<Vec<Addon>> {
        Ok(Vec::new())
    }
}

impl Postgres {
    fn elsewhere(&self) -> Error {
        Error::unsupported(
            format!("`{}` is not switched on and off from here", self.name),
            "use the service manager of the server's host",
        )
    }
}
