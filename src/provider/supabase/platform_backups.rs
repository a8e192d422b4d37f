//! The platform's own backups and its window for point-in-time recovery.
//!
//! `GET /v1/projects/{ref}/database/backups` is the only endpoint: it gives no size, no expiry and no label.

use super::{project::Supabase, statuses, transport::unreadable_answer_error};
use crate::{
    base::moment::Moment,
    provider::{
        Code, Error, Result,
        model::{Backup, BackupUsability, Restorable},
    },
};
use serde::Deserialize;

/// The prefix of the id of a platform backup.
const PLATFORM_ID_PREFIX: &str = "platform-";
/// The platform's answer about its backups.
#[derive(Debug, Deserialize)]
pub(super) struct PlatformBackups {
    /// Whether point-in-time recovery is on; the platform then takes no daily backups.
    pub pitr_enabled: bool,
    pub backups: Vec<DailyBackup>,
    physical_backup_data: WindowBounds,
}

/// One daily backup.
#[derive(Debug, Deserialize)]
pub(super) struct DailyBackup {
    pub id: i64,
    is_physical_backup: bool,
    status: String,
    inserted_at: String,
}

/// The window of moments, empty where there is none.
#[derive(Debug, Deserialize)]
struct WindowBounds {
    earliest_physical_backup_date_unix: Option<i64>,
    latest_physical_backup_date_unix: Option<i64>,
}

impl DailyBackup {
    fn is_restorable(&self) -> bool {
        self.is_physical_backup && self.status == "COMPLETED"
    }

    fn why_not_restorable(&self) -> Option<String> {
        match (self.is_restorable(), self.is_physical_backup) {
            (true, _) => None,
            (false, true) => Some(format!("it is {}", self.status)),
            (false, false) => {
                Some("it is a logical one, which the platform restores from its dashboard only".into())
            }
        }
    }

    /// Returns whether the backup can be restored, and why not.
    pub(super) fn to_usability(&self) -> BackupUsability {
        BackupUsability { id: self.backup_id(), usable: self.is_restorable(), why: self.why_not_restorable() }
    }

    fn taken_at(&self) -> Result<Moment> {
        // The platform's own moments come with and without a zone; without one they are UTC.
        let text = self.inserted_at.replacen(' ', "T", 1);
        Moment::parse(&text)
            .or_else(|_| Moment::parse(&format!("{text}Z")))
            .map_err(|e| backups_error(&format!("the moment of backup `{}`: {e}", self.backup_id())))
    }

    fn backup_id(&self) -> String {
        to_platform_id(self.id)
    }
}

impl PlatformBackups {
    /// Returns the earliest and the latest moment that can be restored, in whole seconds.
    pub(super) fn window_bounds_in_seconds(&self) -> Option<(i64, i64)> {
        let bounds = &self.physical_backup_data;
        Some((bounds.earliest_physical_backup_date_unix?, bounds.latest_physical_backup_date_unix?))
            .filter(|_| self.pitr_enabled)
    }

    /// Returns the newest backup that can be restored.
    pub(super) fn latest_restorable(&self) -> Option<&DailyBackup> {
        let usable = self.backups.iter().filter(|backup| backup.is_restorable());
        usable.max_by_key(|backup| (backup.taken_at().ok(), backup.id))
    }

    /// Returns whether the project can be restored at all. With point-in-time recovery the list of daily backups
    /// is empty, yet the project is protected.
    pub(super) fn can_be_restored(&self) -> bool {
        self.window_bounds_in_seconds().is_some()
            || self.backups.iter().any(|backup| backup.status == "COMPLETED")
    }

    fn to_backup(&self, daily: &DailyBackup, target: &str) -> Result<Backup> {
        let mut restorable = Vec::new();
        if daily.is_restorable() {
            if self.latest_restorable().is_some_and(|latest| latest.id == daily.id) {
                restorable.push(Restorable::Branch);
            }
            restorable.push(Restorable::InPlace);
        }
        let at = daily.taken_at()?;
        Ok(Backup {
            id: daily.backup_id(),
            target: target.into(),
            label: None,
            method: if daily.is_physical_backup { "physical" } else { "logical" }.into(),
            status: statuses::map_backup_status(&daily.status),
            started_at: at,
            finished_at: (daily.status == "COMPLETED").then_some(at),
            bytes: 0,
            restorable,
            key: None,
        })
    }
}

/// Returns the id of the backup of the platform with this number.
pub(super) fn to_platform_id(number: i64) -> String {
    format!("{PLATFORM_ID_PREFIX}{number}")
}

/// Returns the number in the id of a backup that the platform made.
pub(super) fn parse_platform_id(id: &str) -> Option<i64> {
    id.strip_prefix(PLATFORM_ID_PREFIX)?.parse().ok()
}

/// Returns the error for an action that the platform does not offer on its own backups.
pub(super) fn platform_backup_error(id: &str, verb: &str, nearest: &str) -> Error {
    let reason = format!("backup `{id}` is the platform's own, and the platform has no way to {verb} one");
    Error::unsupported(reason, nearest)
}

impl Supabase {
    /// Fetches the platform's answer about its backups.
    ///
    /// # Errors
    /// As [`Supabase::get_project_resource`].
    pub(super) async fn fetch_platform_backups(&self) -> Result<PlatformBackups> {
        self.get_project_resource("/database/backups").await
    }

    /// Returns the platform's own backups.
    ///
    /// # Errors
    /// As [`Supabase::get_project_resource`].
    pub(super) async fn list_platform_backups(&self) -> Result<Vec<Backup>> {
        let platform = self.fetch_platform_backups().await?;
        platform.backups.iter().map(|daily| platform.to_backup(daily, &self.display_name())).collect()
    }

    /// Returns the error of a backup that the project does not have.
    pub(super) fn backup_not_found_error(&self, id: &str) -> Error {
        Error::new(Code::NotFound, format!("`{}` has no backup `{id}`", self.display_name()))
            .with_hint("see `backup::list`")
    }
}

/// Returns a moment that the platform gave in seconds.
///
/// # Errors
/// [`Code::Unavailable`] for a number outside the calendar.
pub(super) fn moment_from_unix(unix: i64) -> Result<Moment> {
    jiff::Timestamp::from_second(unix)
        .map(Moment)
        .map_err(|_| backups_error(&format!("`{unix}` is no moment")))
}

fn backups_error(why: &str) -> Error {
    unreadable_answer_error("`…/database/backups`", why)
}
