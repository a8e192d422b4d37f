//! Backups of a cluster, as a target answers for them.

use super::{
    branch,
    builtin::{Builtin, Look},
    cluster::Cluster,
    deletion, disk, inplace, mark, plan,
    records::{BranchRecord, Phase},
    window,
};
use crate::provider::{
    Accept, Backups, Code, Error, Result,
    model::{
        Backup, BackupRequest, Deleted, Event, EventQuery, Job, Key, Mark, Observed, RestoreRequest,
        Verification, Window,
    },
};
use async_trait::async_trait;
use serde_json::Value;

/// The kind of job that makes a backup.
pub(super) const KIND: &str = "backup";
/// The port of every branch: without a network it is but a part of its socket's name, in a folder of its own.
const BRANCH_PORT: u16 = 5432;

/// Returns the job that makes a backup.
pub(super) fn job(id: String) -> Job {
    Job { kind: KIND.into(), id, detail: Value::Null }
}

/// Looks at a backup that is being made and takes it one part further.
///
/// # Errors
/// Why it cannot be made; it has then been removed.
pub(super) async fn observe(cluster: &Cluster, job: &Job) -> Result<Observed> {
    Ok(match Builtin::of(cluster)?.observe(&job.id).await? {
        Look::Running(progress) => Observed::Running(progress),
        Look::Completed(stored) => Observed::Done(stored.backup().handle()),
    })
}

#[async_trait]
impl Backups for Cluster {
    async fn list(&self) -> Result<Vec<Backup>> {
        Ok(Builtin::of(self)?.list()?.iter().map(super::builtin::Stored::backup).collect())
    }

    async fn get(&self, id: &str) -> Result<Backup> {
        Ok(Builtin::of(self)?.get(id)?.backup())
    }

    async fn create(&self, request: &BackupRequest, key: &Key) -> Result<Job> {
        Ok(job(Builtin::of(self)?.create(request, key).await?))
    }

    async fn plan_delete(&self, id: &str) -> Result<Deleted> {
        deletion::plan(self, id).await
    }

    async fn delete(&self, plan: &Deleted, _: &Key) -> Result<()> {
        deletion::delete(self, plan).await
    }

    async fn verify(&self, id: &str) -> Result<Verification> {
        window::verify(self, id).await
    }

    async fn restore(&self, request: &RestoreRequest, key: &Key, _: &dyn Accept) -> Result<Job> {
        if let Some(made) = super::find(self, key)? {
            return Ok(made);
        }
        match &request.into {
            Some(name) => restore_into(self, request, name, key).await,
            None => inplace::accept(self, request, key).await,
        }
    }

    async fn window(&self) -> Result<Window> {
        window::window(self).await
    }

    async fn events(&self, query: &EventQuery) -> Result<Vec<Event>> {
        window::events(self, query).await
    }

    async fn mark(&self, name: &str, key: &Key) -> Result<Mark> {
        mark::make(self, name, key).await
    }

    async fn find_mark(&self, name: &str, key: &Key) -> Result<Option<Mark>> {
        mark::find(self, name, key).await
    }
}

async fn restore_into(cluster: &Cluster, request: &RestoreRequest, name: &str, key: &Key) -> Result<Job> {
    branch::check_name(name)?;
    if cluster.records.branch(name)?.is_some() {
        return Err(Error::new(Code::Conflict, format!("there is already a branch `{name}`"))
            .hint("delete it first, or choose another name"));
    }
    let tools = cluster.tools()?;
    let id = key.to_string().to_lowercase();
    let folder = branch::folder(cluster, &tools, &id).await;
    let plan = plan::restore(cluster, request, &folder).await?;
    let record = BranchRecord {
        name: name.into(),
        target: cluster.name.clone(),
        key: key.clone(),
        run: request.run.clone(),
        temporary: request.temporary,
        created_at: cluster.clock.now(),
        system_identifier: plan.system_identifier,
        recovery: plan.recovery,
        socket: disk::socket_folder(&folder, &cluster.records.unique(&id)),
        folder,
        id,
        port: BRANCH_PORT,
        phase: Phase::Copying,
        child: None,
        starts: 0,
        reached: None,
        timeline: None,
    };
    cluster.records.claim_branch(&record)?;
    Ok(branch::job(&record))
}
