//! Read replicas: there is no list of them, so it is read off the list of the organization's projects.
//!
//! Asking for one gives nothing back. Which one it became is the difference between the list before, which is written
//! down first, and the list since.

use super::{Supabase, asking, statuses};
use crate::{
    base::moment::{Moment, Span},
    provider::{
        Accept, Code, Error, Replicas, Result,
        model::{Job, Key, Observed, Progress, Replica, ReplicaRequest},
    },
};
use async_trait::async_trait;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The kind of job that makes a replica.
pub(super) const KIND: &str = "replica";
/// How many projects a page of the list has.
const PAGE: usize = 100;
/// How long a replica that was asked for may be missing from the list.
const LATE: Span = Span::seconds(60);
/// How long a replica that was removed may stay in the list.
const GONE: Span = Span::seconds(300);

/// A database of a project, as the list of the organization's projects shows it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Row {
    /// What names it.
    pub identifier: String,
    r#type: String,
    region: Option<String>,
    #[serde(default)]
    status: String,
}

/// What waiting for a replica needs to know.
#[derive(Debug, Serialize, Deserialize)]
struct Making {
    /// The replicas that there were.
    before: Vec<String>,
    region: String,
    asked_at: Moment,
}

impl Making {
    fn of(detail: &Value) -> Result<Self> {
        serde_json::from_value(detail.clone())
            .map_err(|e| Error::new(Code::Internal, format!("the job of a replica cannot be read: {e}")))
    }
}

impl Row {
    fn replica(&self, target: &str) -> Replica {
        Replica {
            id: self.identifier.clone(),
            target: target.into(),
            region: self.region.clone(),
            status: statuses::of_replica(&self.status),
            host: None,
            port: None,
            lag: None,
            key: None,
        }
    }
}

impl Supabase {
    /// Returns the project's replicas, in the order in which the platform lists them.
    ///
    /// # Errors
    /// What the API says.
    pub(super) async fn replica_rows(&self) -> Result<Vec<Row>> {
        #[derive(Deserialize)]
        struct Listed {
            r#ref: String,
            #[serde(default)]
            databases: Vec<Row>,
        }
        let Some(slug) = self.described().await?.organization_slug else {
            return Err(Error::new(
                Code::Internal,
                "the platform does not say which organization the project is of",
            ));
        };
        let mut offset = 0;
        loop {
            let path = format!("/v1/organizations/{slug}/projects?limit={PAGE}&offset={offset}");
            let mut page = self.api.get(&path).await?;
            let projects: Vec<Listed> = asking::read(page["projects"].take(), &path)?;
            let count = projects.len();
            if let Some(project) = projects.into_iter().find(|project| project.r#ref == self.reference) {
                return Ok(project
                    .databases
                    .into_iter()
                    .filter(|row| row.r#type == "READ_REPLICA")
                    .collect());
            }
            offset += count;
            let total = page["pagination"]["count"].as_u64().and_then(|n| usize::try_from(n).ok());
            if count == 0 || total.is_some_and(|total| offset >= total) {
                let what = format!("the organization `{slug}` does not list `{}`", self.name());
                return Err(Error::new(Code::NotFound, what)
                    .hint("the token needs to see the organization's projects"));
            }
        }
    }

    /// Returns the replica that came after the others.
    async fn newcomer(&self, making: &Making) -> Result<Option<Row>> {
        let mut rows = self.replica_rows().await?;
        rows.retain(|row| !making.before.contains(&row.identifier));
        rows.retain(|row| row.region.as_ref().is_none_or(|region| *region == making.region));
        if rows.len() > 1 {
            let names: Vec<_> = rows.iter().map(|row| format!("`{}`", row.identifier)).collect();
            return Err(Error::new(
                Code::Unknown,
                format!(
                    "several replicas came since {}, and any may be this one: {}",
                    making.asked_at,
                    names.join(", ")
                ),
            )
            .hint("see who else makes replicas of this project, and decide the call"));
        }
        Ok(rows.pop())
    }

    /// Returns the job of the replica that was about to be asked for, when one came since.
    ///
    /// # Errors
    /// [`Code::Unknown`] when none did: it may still come.
    pub(super) async fn find_replica(&self, key: &Key, intent: &Value) -> Result<Option<Job>> {
        let making = Making::of(&intent["detail"])?;
        while self.newcomer(&making).await?.is_none() {
            if !self.may_still_appear(making.asked_at, LATE).await {
                let what = format!(
                    "a replica in `{}` was about to be asked for {}, and none came since",
                    making.region, making.asked_at
                );
                return Err(Error::new(Code::Unknown, what)
                    .hint("see whether one comes up in the dashboard, and decide the call"));
            }
        }
        Ok(Some(Job { kind: KIND.into(), id: key.to_string(), detail: intent["detail"].clone() }))
    }

    /// Looks at a replica that is being made.
    ///
    /// # Errors
    /// [`Code::Tool`] when it failed; it has then been removed.
    pub(super) async fn observe_replica(&self, job: &Job) -> Result<Observed> {
        let making = Making::of(&job.detail)?;
        let waiting = |phase: String| {
            Observed::Running(Progress {
                again_in: Some(self.pace(making.asked_at)),
                ..Progress::phase(phase)
            })
        };
        let Some(row) = self.newcomer(&making).await? else {
            return Ok(waiting("asked for, and not in the list yet".into()));
        };
        let replica = row.replica(&self.name());
        match replica.status.as_str() {
            "ready" => serde_json::to_value(replica)
                .map(Observed::Done)
                .map_err(|e| Error::new(Code::Internal, e.to_string())),
            "failed" => {
                let failed =
                    Error::new(Code::Tool, format!("replica `{}` is {}", row.identifier, row.status));
                Err(match self.remove_replica(&row.identifier).await {
                    Ok(()) => failed,
                    Err(_) => failed.leaving(format!("replica {}", row.identifier)),
                })
            }
            _ => Ok(waiting(row.status)),
        }
    }

    /// Gives a replica up that is being made.
    ///
    /// # Errors
    /// What the API says; [`Code::Unavailable`] while it is not in the list.
    pub(super) async fn cancel_replica(&self, job: &Job) -> Result<()> {
        match self.newcomer(&Making::of(&job.detail)?).await? {
            Some(row) => self.remove_replica(&row.identifier).await,
            None => Err(Error::new(Code::Unavailable, "the replica is not in the list yet")),
        }
    }

    async fn has_replica(&self, id: &str) -> Result<bool> {
        Ok(self.replica_rows().await?.iter().any(|row| row.identifier == id))
    }

    async fn remove_replica(&self, id: &str) -> Result<()> {
        let path = format!("/v1/projects/{}/read-replicas/remove", self.reference);
        match self.api.send(Method::POST, &path, Some(&json!({ "database_identifier": id }))).await {
            Ok(_) => Ok(()),
            Err(e) if e.code == Code::NotFound => Ok(()),
            Err(e) => Err(e),
        }
    }
}

/// Says what the platform wants before it makes a replica: its own refusals do not.
fn with_limits(error: Error) -> Error {
    if error.hint.is_some() || error.code == Code::Unknown {
        return error;
    }
    error.hint(
        "replicas need the Pro plan, AWS, PostgreSQL 15, compute of at least Small and physical backups; below XL \
         there are at most two of them, from XL five",
    )
}

#[async_trait]
impl Replicas for Supabase {
    async fn list(&self) -> Result<Vec<Replica>> {
        Ok(self.replica_rows().await?.iter().map(|row| row.replica(&self.name())).collect())
    }

    async fn create(&self, request: &ReplicaRequest, key: &Key, intent: &dyn Accept) -> Result<Job> {
        let region = match &request.region {
            Some(region) => region.clone(),
            None => self.described().await?.region,
        };
        let before = self.replica_rows().await?.into_iter().map(|row| row.identifier).collect();
        let detail = json!(Making { before, region: region.clone(), asked_at: self.clock.now() });
        intent.accepted(json!({ "kind": KIND, "detail": detail })).await?;
        // The platform's own page says `region`, which it does not take.
        let body = json!({ "read_replica_region": region });
        let path = format!("/v1/projects/{}/read-replicas/setup", self.reference);
        self.api.send(Method::POST, &path, Some(&body)).await.map_err(with_limits)?;
        Ok(Job { kind: KIND.into(), id: key.to_string(), detail })
    }

    async fn delete(&self, id: &str) -> Result<()> {
        if !self.has_replica(id).await? {
            return Ok(());
        }
        self.remove_replica(id).await?;
        let asked_at = self.clock.now();
        while self.has_replica(id).await? {
            if !self.may_still_appear(asked_at, GONE).await {
                let what = format!("replica `{id}` is being removed, and still in the list");
                return Err(Error::new(Code::Timeout, what).with_side_effects());
            }
        }
        Ok(())
    }
}
