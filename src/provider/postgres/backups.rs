//! The capability `Backups` of a cluster: each method hands over to the file that does the work.

use super::{
    cluster::{Cluster, server},
    engine::{BuiltinEngine, StoredBackup, deletion},
    events, jobs,
    records::{BranchPhase, BranchRecord, CopyRecord},
    restore::{branch, in_place, plan},
    restore_points, verification, window,
};
use crate::provider::{
    Backups, Code, Error, Result,
    model::{
        Backup, BackupDeletion, BackupRequest, CallKey, Job, RecoveryWindow, RestorePoint, RestoreRequest,
        TableEvent, TableEventQuery, UnfinishedRestore, Verification,
    },
};
use async_trait::async_trait;

/// The port of every branch. Branches have no network; the port is only part of the socket's file name.
const BRANCH_PORT: u16 = 5432;

#[async_trait]
impl Backups for Cluster {
    async fn list(&self) -> Result<Vec<Backup>> {
        Ok(BuiltinEngine::for_cluster(self)?.list_backups()?.iter().map(StoredBackup::to_backup).collect())
    }

    async fn get(&self, id: &str) -> Result<Backup> {
        Ok(BuiltinEngine::for_cluster(self)?.get_backup(id)?.to_backup())
    }

    async fn create(&self, request: &BackupRequest, key: &CallKey) -> Result<Job> {
        Ok(jobs::backup_job(BuiltinEngine::for_cluster(self)?.start_backup(request, key).await?))
    }

    async fn plan_delete(&self, id: &str) -> Result<BackupDeletion> {
        deletion::plan_deletion(self, id).await
    }

    async fn delete(&self, plan: &BackupDeletion, _: &CallKey) -> Result<()> {
        deletion::delete_backup(self, plan).await
    }

    async fn verify(&self, id: &str) -> Result<Verification> {
        verification::verify_backup(self, id).await
    }

    async fn restore(&self, request: &RestoreRequest, key: &CallKey) -> Result<Job> {
        if let Some(made) = jobs::find_job(self, key)? {
            return Ok(made);
        }
        match &request.into {
            Some(name) => restore_into_branch(self, request, name, key).await,
            None => in_place::plan_and_record_restore(self, request, key).await,
        }
    }

    fn find_unfinished_restore(&self) -> Result<Option<UnfinishedRestore>> {
        in_place::find_unfinished_restore(self)
    }

    async fn recovery_window(&self) -> Result<RecoveryWindow> {
        window::compute_window(self).await
    }

    async fn table_events(&self, query: &TableEventQuery) -> Result<Vec<TableEvent>> {
        events::find_events(self, query).await
    }

    async fn create_restore_point(&self, name: &str, key: &CallKey) -> Result<RestorePoint> {
        restore_points::make_and_archive_restore_point(self, name, key).await
    }

    async fn find_restore_point(&self, name: &str, key: &CallKey) -> Result<Option<RestorePoint>> {
        restore_points::find_restore_point(self, name, key).await
    }
}

async fn restore_into_branch(
    cluster: &Cluster,
    request: &RestoreRequest,
    name: &str,
    key: &CallKey,
) -> Result<Job> {
    branch::check_branch_name(name)?;
    if cluster.records.read_branch(name)?.is_some() {
        return Err(Error::new(Code::Conflict, format!("there is already a branch `{name}`"))
            .with_hint("delete it first, or choose another name"));
    }
    let programs = cluster.programs()?;
    let id = key.to_string().to_lowercase();
    let folder = branch::choose_branch_folder(cluster, &programs, &id).await;
    let plan = plan::plan_restore(cluster, request, &folder).await?;
    let socket = server::choose_socket_folder(&folder, &cluster.records.unique_name(&id));
    let record = BranchRecord {
        name: name.into(),
        target: cluster.name.clone(),
        key: key.clone(),
        run: request.run.clone(),
        temporary: request.temporary,
        created_at: cluster.clock.now(),
        copy: CopyRecord::new(plan.system_identifier, plan.recovery, folder, socket),
        id,
        port: BRANCH_PORT,
        phase: BranchPhase::Copying,
    };
    cluster.records.claim_branch_name(&record)?;
    Ok(branch::branch_job(&record))
}
