//! Read replicas. The platform lists them only with the organization's projects.
//!
//! A request for a replica returns no id. The new replica is the one that the list did not have before, so the list is
//! recorded before the request.

use super::{project::Supabase, requests, statuses, transport::unreadable_answer_error};
use crate::{
    base::moment::Moment,
    provider::{
        Code, Error, PlannedJob, Replicas, Result,
        model::{CallKey, Job, JobStatus, Progress, Replica, ReplicaRequest},
    },
};
use async_trait::async_trait;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The kind of job that makes a replica.
pub(super) const REPLICA_JOB: &str = "replica";
/// How many projects a page of the list has.
const PAGE_SIZE: usize = 100;

/// A database of a project, as the list of the organization's projects shows it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct ReplicaRow {
    /// The replica's id.
    pub identifier: String,
    r#type: String,
    region: Option<String>,
    status: String,
}

/// The databases of one project, of which at least the primary is always listed.
#[derive(Deserialize)]
struct ListedDatabases {
    databases: Vec<ReplicaRow>,
}

/// The detail of a replica's job.
#[derive(Debug, Serialize, Deserialize)]
struct ReplicaJob {
    /// The replicas before the request.
    before: Vec<String>,
    region: String,
    asked_at: Moment,
}

impl ReplicaJob {
    fn from_detail(detail: &Value) -> Result<Self> {
        serde_json::from_value(detail.clone())
            .map_err(|e| Error::new(Code::Internal, format!("the job of a replica cannot be read: {e}")))
    }
}

/// Reads the detail of a replica's job.
///
/// # Errors
/// [`Code::Internal`] for what nobody records.
pub(super) fn check_replica_detail(detail: &Value) -> Result<()> {
    ReplicaJob::from_detail(detail).map(drop)
}

impl ReplicaRow {
    fn to_replica(&self, target: &str) -> Replica {
        Replica {
            id: self.identifier.clone(),
            target: target.into(),
            region: self.region.clone(),
            status: statuses::map_replica_status(&self.status),
            host: None,
            port: None,
            lag: None,
            key: None,
        }
    }
}

impl Supabase {
    async fn request_replica(&self, region: String, job: Job) -> Result<Job> {
        // The platform's own page says `region`, which it does not take.
        let body = json!({ "read_replica_region": region });
        let path = format!("/v1/projects/{}/read-replicas/setup", self.reference);
        self.api.send_write(Method::POST, &path, Some(&body)).await.map_err(add_replica_requirements_hint)?;
        Ok(job)
    }

    /// Returns the project's replicas, in the order in which the platform lists them.
    ///
    /// # Errors
    /// What the API says.
    pub(super) async fn list_replica_rows(&self) -> Result<Vec<ReplicaRow>> {
        #[derive(Deserialize)]
        struct ProjectsPage {
            projects: Vec<ListedProject>,
            pagination: Option<Pagination>,
        }
        #[derive(Deserialize)]
        struct Pagination {
            count: Option<usize>,
        }
        #[derive(Deserialize)]
        struct ListedProject {
            r#ref: String,
            /// The databases, which only matter of the project itself.
            databases: Option<Value>,
        }
        let slug = self.fetch_project_details().await?.organization_slug;
        let slug = slug
            .ok_or_else(|| unreadable_answer_error("`/v1/projects/…`", "`organization_slug` is missing"))?;
        let mut offset = 0;
        loop {
            let path = format!("/v1/organizations/{slug}/projects?limit={PAGE_SIZE}&offset={offset}");
            let page: ProjectsPage = requests::decode_answer(self.api.get(&path).await?, &path)?;
            let count = page.projects.len();
            if let Some(project) = page.projects.into_iter().find(|project| project.r#ref == self.reference) {
                let databases = project.databases.ok_or_else(|| {
                    unreadable_answer_error(&format!("`{path}`"), "`databases` of the project is missing")
                })?;
                let listed = json!({ "databases": databases });
                let mut listed: ListedDatabases = requests::decode_answer(listed, &path)?;
                listed.databases.retain(|row| row.r#type == "READ_REPLICA");
                return Ok(listed.databases);
            }
            offset += count;
            let total = page.pagination.and_then(|pages| pages.count);
            if count == 0 || total.is_some_and(|total| offset >= total) {
                let what = format!("the organization `{slug}` does not list `{}`", self.display_name());
                return Err(Error::new(Code::NotFound, what)
                    .with_hint("the token needs to see the organization's projects"));
            }
        }
    }

    /// Returns the replica that was not there before the request.
    async fn find_new_replica(&self, detail: &ReplicaJob) -> Result<Option<ReplicaRow>> {
        let mut rows = self.list_replica_rows().await?;
        rows.retain(|row| !detail.before.contains(&row.identifier));
        rows.retain(|row| row.region.as_ref().is_none_or(|region| *region == detail.region));
        if rows.len() > 1 {
            let names: Vec<_> = rows.iter().map(|row| format!("`{}`", row.identifier)).collect();
            return Err(Error::new(
                Code::Unknown,
                format!(
                    "several replicas came since {}, and any may be this one: {}",
                    detail.asked_at,
                    names.join(", ")
                ),
            )
            .with_hint("see who else makes replicas of this project, and decide the call"));
        }
        Ok(rows.pop())
    }

    /// Returns the job of a replica whose request may have been sent, if a new replica appeared.
    ///
    /// # Errors
    /// [`Code::Unknown`] when none did: it may still appear.
    pub(super) async fn find_replica_job(&self, key: &CallKey, intent: &Value) -> Result<Option<Job>> {
        let detail = ReplicaJob::from_detail(&intent["detail"])?;
        if self.find_new_replica(&detail).await?.is_none() {
            let what = format!(
                "a replica in `{}` was about to be asked for {}, and none came since",
                detail.region, detail.asked_at
            );
            return Err(Error::new(Code::Unknown, what)
                .with_hint("see whether one comes up in the dashboard, and decide the call"));
        }
        Ok(Some(Job { kind: REPLICA_JOB.into(), id: key.to_string(), detail: intent["detail"].clone() }))
    }

    /// Polls a replica that is being created. One that failed stays: it is the one that is new, and may be somebody else's.
    ///
    /// # Errors
    /// What the API says; [`Code::Unknown`] where several may be this one.
    pub(super) async fn poll_replica(&self, job: &Job) -> Result<JobStatus> {
        let detail = ReplicaJob::from_detail(&job.detail)?;
        let waiting = |phase: String| {
            JobStatus::Running(Progress {
                again_in: Some(self.poll_interval(detail.asked_at)),
                ..Progress::with_phase(phase)
            })
        };
        let Some(row) = self.find_new_replica(&detail).await? else {
            return Ok(waiting("asked for, and not in the list yet".into()));
        };
        let replica = row.to_replica(&self.display_name());
        match replica.status.as_str() {
            "ready" => serde_json::to_value(replica)
                .map(JobStatus::Done)
                .map_err(|e| Error::new(Code::Internal, e.to_string())),
            "failed" => {
                let name = &row.identifier;
                let failed = Error::new(Code::Tool, format!("replica `{name}` is {}", row.status));
                Ok(JobStatus::Failed(
                    failed
                        .with_left_behind(format!("replica {name} (may be somebody else's)"))
                        .with_hint(format!(
                            "if it is not somebody else's, remove it: `redrill db replicas delete -t {} {name}`",
                            self.display_name()
                        )),
                ))
            }
            _ => Ok(waiting(row.status)),
        }
    }

    /// Cancels a replica that is being created.
    ///
    /// # Errors
    /// What the API says; [`Code::Unavailable`] while it is not in the list.
    pub(super) async fn cancel_replica(&self, job: &Job) -> Result<()> {
        let new = self.find_new_replica(&ReplicaJob::from_detail(&job.detail)?).await?;
        let what = match new {
            Some(row) => format!("`{}` is new, and may be somebody else's", row.identifier),
            None => "it is not in the list yet".to_owned(),
        };
        Err(Error::unsupported(what, "see in the dashboard which one it is, and remove it there"))
    }

    async fn remove_replica(&self, id: &str) -> Result<()> {
        let path = format!("/v1/projects/{}/read-replicas/remove", self.reference);
        match self.api.send_write(Method::POST, &path, Some(&json!({ "database_identifier": id }))).await {
            Err(e) if e.code == Code::NotFound => Ok(()),
            removed => removed,
        }
    }
}

/// Adds the platform's requirements for replicas to its refusal, which does not state them.
fn add_replica_requirements_hint(error: Error) -> Error {
    if error.hint.is_some() || error.code == Code::Unknown {
        return error;
    }
    error.with_hint(
        "replicas need the Pro plan, AWS, PostgreSQL 15, compute of at least Small and physical backups; below XL \
         there are at most two of them, from XL five",
    )
}

#[async_trait]
impl Replicas for Supabase {
    async fn list(&self) -> Result<Vec<Replica>> {
        Ok(self.list_replica_rows().await?.iter().map(|row| row.to_replica(&self.display_name())).collect())
    }

    async fn create(&self, request: &ReplicaRequest, key: &CallKey) -> Result<Job> {
        self.plan_create(request, key).await?.request.await
    }

    async fn plan_create<'a>(
        &'a self,
        request: &'a ReplicaRequest,
        key: &'a CallKey,
    ) -> Result<PlannedJob<'a>> {
        let region = match &request.region {
            Some(region) => region.clone(),
            None => self.fetch_project_details().await?.region,
        };
        let before = self.list_replica_rows().await?.into_iter().map(|row| row.identifier).collect();
        let detail = json!(ReplicaJob { before, region: region.clone(), asked_at: self.clock.now() });
        let traces = json!({ "kind": REPLICA_JOB, "detail": detail });
        let job = Job { kind: REPLICA_JOB.into(), id: key.to_string(), detail };
        Ok(PlannedJob::with_traces(traces, Box::pin(self.request_replica(region, job))))
    }

    async fn delete(&self, id: &str) -> Result<()> {
        // Also where the list does not show it, which may lag behind. Whoever asks looks when it is gone.
        self.remove_replica(id).await
    }
}
