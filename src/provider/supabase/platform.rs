//! The platform's own backups, and time as far as it keeps it.
//!
//! `GET /v1/projects/{ref}/database/backups` is all there is: no size, no expiry, no label, no single one.

use super::{Supabase, dumps::Dump, statuses};
use crate::{
    base::moment::{Moment, Span},
    provider::{
        Code, Error, Result,
        model::{Backup, Restorable, Usable, Window},
    },
};
use serde::Deserialize;

/// What the id of a backup that the platform made begins with.
const PREFIX: &str = "platform-";
/// After how long without a newer moment the platform says too little for comfort: it archives every two minutes.
const LAG: Span = Span::seconds(10 * 60);

/// What the platform says of its backups.
#[derive(Debug, Deserialize)]
pub(super) struct Kept {
    /// Whether it keeps every moment of a window; then it takes no daily backups any more.
    #[serde(default)]
    pub pitr_enabled: bool,
    /// The daily ones.
    #[serde(default)]
    pub backups: Vec<Daily>,
    #[serde(default)]
    physical_backup_data: Bounds,
}

/// One daily backup.
#[derive(Debug, Deserialize)]
pub(super) struct Daily {
    /// Its number.
    pub id: i64,
    is_physical_backup: bool,
    status: String,
    inserted_at: String,
}

#[derive(Debug, Default, Deserialize)]
struct Bounds {
    earliest_physical_backup_date_unix: Option<i64>,
    latest_physical_backup_date_unix: Option<i64>,
}

impl Daily {
    fn is_usable(&self) -> bool {
        self.is_physical_backup && self.status == "COMPLETED"
    }

    fn why_unusable(&self) -> Option<String> {
        match (self.is_usable(), self.is_physical_backup) {
            (true, _) => None,
            (false, true) => Some(format!("it is {}", self.status)),
            (false, false) => {
                Some("it is a logical one, which the platform restores from its dashboard only".into())
            }
        }
    }

    fn at(&self) -> Result<Moment> {
        // The platform's own moments come with and without a zone; without one they are UTC.
        let text = self.inserted_at.replacen(' ', "T", 1);
        Moment::parse(&text)
            .or_else(|_| Moment::parse(&format!("{text}Z")))
            .map_err(|e| Error::new(Code::Internal, format!("backup `{}`: {e}", self.name())))
    }

    fn name(&self) -> String {
        format!("{PREFIX}{}", self.id)
    }
}

impl Kept {
    /// Returns the earliest and the latest moment that can be restored, in whole seconds.
    pub(super) fn bounds(&self) -> Option<(i64, i64)> {
        let bounds = &self.physical_backup_data;
        Some((bounds.earliest_physical_backup_date_unix?, bounds.latest_physical_backup_date_unix?))
            .filter(|_| self.pitr_enabled)
    }

    /// Returns the newest backup that can be restored.
    pub(super) fn latest(&self) -> Option<&Daily> {
        let usable = self.backups.iter().filter(|backup| backup.is_usable());
        usable.max_by_key(|backup| (backup.at().ok(), backup.id))
    }

    /// Returns whether anything at all is there to go back to. With every moment kept the list of daily backups is
    /// empty, which is not the same as unprotected.
    pub(super) fn protects(&self) -> bool {
        self.bounds().is_some() || self.backups.iter().any(|backup| backup.status == "COMPLETED")
    }

    fn backup(&self, daily: &Daily, target: &str) -> Result<Backup> {
        let mut restorable = Vec::new();
        if daily.is_usable() {
            if self.latest().is_some_and(|latest| latest.id == daily.id) {
                restorable.push(Restorable::Branch);
            }
            restorable.push(Restorable::InPlace);
        }
        let at = daily.at()?;
        Ok(Backup {
            id: daily.name(),
            target: target.into(),
            label: None,
            method: if daily.is_physical_backup { "physical" } else { "logical" }.into(),
            status: statuses::of_backup(&daily.status),
            started_at: at,
            finished_at: (daily.status == "COMPLETED").then_some(at),
            bytes: 0,
            restorable,
            key: None,
        })
    }
}

/// Returns the number in the id of a backup that the platform made.
pub(super) fn number(id: &str) -> Option<i64> {
    id.strip_prefix(PREFIX)?.parse().ok()
}

/// Returns why a backup that the platform made cannot be touched.
pub(super) fn untouchable(id: &str, verb: &str, nearest: &str) -> Error {
    let reason = format!("backup `{id}` is the platform's own, and the platform has no way to {verb} one");
    Error::unsupported(reason, nearest)
}

impl Supabase {
    /// Returns what the platform says of its backups.
    ///
    /// # Errors
    /// As [`Supabase::ask`].
    pub(super) async fn kept(&self) -> Result<Kept> {
        self.ask("/database/backups").await
    }

    /// Returns the platform's own backups.
    ///
    /// # Errors
    /// As [`Supabase::ask`].
    pub(super) async fn platform_backups(&self) -> Result<Vec<Backup>> {
        let kept = self.kept().await?;
        kept.backups.iter().map(|daily| kept.backup(daily, &self.name())).collect()
    }

    /// Returns what can be restored. `latest` is the last moment for which WAL was archived: on a database at rest it
    /// lies far behind now, though nothing was lost.
    ///
    /// # Errors
    /// As [`Supabase::ask`].
    pub(super) async fn recovery_window(&self) -> Result<Window> {
        let kept = self.kept().await?;
        let (earliest, latest) = match kept.bounds() {
            Some((earliest, latest)) => (Some(moment(earliest)?), Some(moment(latest)?)),
            None => (None, None),
        };
        let mut warnings = Vec::new();
        if !kept.pitr_enabled {
            warnings.push("point-in-time recovery is not booked: only whole backups can be restored".into());
        }
        if let Some(latest) = latest.filter(|latest| self.clock.now().since(*latest) > LAG) {
            warnings.push(format!(
                "the latest moment is {latest}: the platform adds one when something was written, so that an idle \
                 database lags behind without having lost anything"
            ));
        }
        let mut backups: Vec<Usable> = self.dumps().list()?.iter().map(Dump::usable).collect();
        backups.extend(kept.backups.iter().map(|daily| Usable {
            id: daily.name(),
            usable: daily.is_usable(),
            why: daily.why_unusable(),
        }));
        Ok(Window {
            earliest,
            latest,
            latest_lsn: None,
            gaps: Vec::new(),
            backups,
            timelines: Vec::new(),
            warnings,
        })
    }
}

/// Returns a moment that the platform gave in seconds.
///
/// # Errors
/// [`Code::Internal`] for one that is out of the calendar.
pub(super) fn moment(unix: i64) -> Result<Moment> {
    jiff::Timestamp::from_second(unix)
        .map(Moment)
        .map_err(|_| Error::new(Code::Internal, format!("the platform gave `{unix}` for a moment")))
}
