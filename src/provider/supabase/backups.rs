//! Backups of a project: our own dumps and the platform's, side by side.

use super::{
    dump::Dump,
    platform_backups::{DailyBackup, moment_from_unix, parse_platform_id, platform_backup_error},
    project::Supabase,
};
use crate::{
    base::moment::Span,
    provider::{
        Backups, Error, PlannedJob, Result,
        model::{
            Backup, BackupDeletion, BackupRequest, BackupUsability, CallKey, Job, RecoveryWindow,
            RestorePoint, RestoreRequest, TableEvent, TableEventQuery, Verification,
        },
    },
};
use async_trait::async_trait;
use serde_json::{Value, json};

/// The age of the latest restorable moment that is worth a warning. The platform archives every two minutes.
const ARCHIVE_LAG_GRACE: Span = Span::from_secs(10 * 60);

#[async_trait]
impl Backups for Supabase {
    async fn list(&self) -> Result<Vec<Backup>> {
        let mut backups = self.list_platform_backups().await?;
        backups.extend(self.dump_store().list_dumps()?.iter().map(Dump::to_backup));
        backups.sort_by(|a, b| (a.started_at, &a.id).cmp(&(b.started_at, &b.id)));
        Ok(backups)
    }

    async fn get(&self, id: &str) -> Result<Backup> {
        if parse_platform_id(id).is_none() {
            return Ok(self.dump_store().find_dump(id)?.to_backup());
        }
        let found = self.list_platform_backups().await?.into_iter().find(|backup| backup.id == id);
        found.ok_or_else(|| self.backup_not_found_error(id))
    }

    async fn create(&self, request: &BackupRequest, key: &CallKey) -> Result<Job> {
        self.request_dump(request, key).await
    }

    async fn plan_delete(&self, id: &str) -> Result<BackupDeletion> {
        if parse_platform_id(id).is_some() {
            self.get(id).await?;
            return Err(platform_backup_error(
                id,
                "delete",
                "it goes by itself when its time is over; dumps of `backup::create` can be deleted",
            ));
        }
        let bytes = self.dump_store().find_dump(id)?.to_backup().bytes;
        let window = self.fetch_platform_backups().await?.window_bounds_in_seconds();
        let earliest = window.map(|(earliest, _)| moment_from_unix(earliest)).transpose()?;
        Ok(BackupDeletion {
            id: id.into(),
            also: Vec::new(),
            bytes,
            earliest_before: earliest,
            earliest_after: earliest,
        })
    }

    async fn delete(&self, plan: &BackupDeletion, _: &CallKey) -> Result<()> {
        self.dump_store().stop_and_delete(&plan.id)
    }

    async fn verify(&self, id: &str) -> Result<Verification> {
        if parse_platform_id(id).is_some() {
            self.get(id).await?;
            return Err(platform_backup_error(
                id,
                "read",
                "restore it into a branch, when it is the latest, and look at that; or verify a dump of `backup::create`",
            ));
        }
        let major = self.dump_store().find_dump(id)?.server_major;
        self.dump_store().verify_dump(id, &self.find_client_programs(major)?).await
    }

    async fn restore(&self, request: &RestoreRequest, key: &CallKey) -> Result<Job> {
        self.plan_restore(request, key).await?.request.await
    }

    async fn plan_restore<'a>(
        &'a self,
        request: &'a RestoreRequest,
        key: &'a CallKey,
    ) -> Result<PlannedJob<'a>> {
        match &request.into {
            Some(name) => self.plan_into_branch(request, name, key).await,
            None => self.plan_restore_in_place(request, key).await,
        }
    }

    /// Returns what can be restored. `latest` is the last moment for which WAL was archived: on an idle database it
    /// lies far behind now, though nothing was lost.
    async fn recovery_window(&self) -> Result<RecoveryWindow> {
        let platform = self.fetch_platform_backups().await?;
        let (earliest, latest) = match platform.window_bounds_in_seconds() {
            Some((earliest, latest)) => (Some(moment_from_unix(earliest)?), Some(moment_from_unix(latest)?)),
            None => (None, None),
        };
        let mut warnings = Vec::new();
        if !platform.pitr_enabled {
            warnings.push("point-in-time recovery is not booked: only whole backups can be restored".into());
        }
        if let Some(latest) =
            latest.filter(|latest| self.clock.now().duration_since(*latest) > ARCHIVE_LAG_GRACE)
        {
            warnings.push(format!(
                "the latest moment is {latest}: the platform adds one when something was written, so that an idle \
                 database lags behind without having lost anything"
            ));
        }
        let mut backups: Vec<BackupUsability> =
            self.dump_store().list_dumps()?.iter().map(Dump::to_usability).collect();
        backups.extend(platform.backups.iter().map(DailyBackup::to_usability));
        Ok(RecoveryWindow {
            earliest,
            latest,
            latest_lsn: None,
            gaps: Vec::new(),
            backups,
            timelines: Vec::new(),
            warnings,
        })
    }

    async fn table_events(&self, _: &TableEventQuery) -> Result<Vec<TableEvent>> {
        Err(Error::unsupported(
            "the platform shows its archive to nobody, so that the moment of a drop cannot be found in it",
            "look for the statement in the project's logs, and restore to the second before it",
        ))
    }

    async fn plan_restore_point(&self, name: &str) -> Result<Value> {
        Ok(json!(self.plan_named_restore_point(name).await?))
    }

    async fn create_restore_point(&self, name: &str, _: &CallKey) -> Result<RestorePoint> {
        self.request_restore_point(name).await
    }

    async fn find_restore_point(&self, name: &str, _: &CallKey) -> Result<Option<RestorePoint>> {
        self.require_restore_point_absent(name).await.map(|()| None)
    }

    async fn find_restore_point_made_since_plan(
        &self,
        name: &str,
        plan: &Value,
    ) -> Result<Option<RestorePoint>> {
        self.fetch_available_restore_point(name, plan).await
    }
}
