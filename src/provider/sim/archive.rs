//! Backups and restore points, as rows of the world's file.

use super::{
    history::format_lsn,
    store::{WorldTx, from_micros, store_error, to_micros},
    world::PastBackup,
};
use crate::{
    base::suggest,
    provider::{
        Code, Error, Result,
        model::{Backup, CallKey, Restorable, RestorePoint},
    },
};
use rusqlite::{OptionalExtension as _, Row, params};

/// A backup: a place on a timeline, and the digest of the rows there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BackupRow {
    pub(super) id: String,
    /// What its maker called it.
    pub(super) label: Option<String>,
    /// The line it is of.
    pub(super) line: i64,
    /// The place up to which it goes.
    pub(super) stop: i64,
    /// The digest of its rows; of nothing while it is being made.
    pub(super) digest: String,
    pub(super) bytes: i64,
    /// `completed` or `running`.
    pub(super) status: String,
    /// When it was begun, in microseconds since 1970.
    pub(super) started_at: i64,
    /// When it was complete.
    pub(super) finished_at: Option<i64>,
    /// The key of the call that made it.
    pub(super) key: Option<String>,
}

/// A restore point.
pub(super) struct RestorePointRow {
    /// The line it is on.
    pub(super) line: i64,
    pub(super) lsn: i64,
    /// The key of the call that made it.
    pub(super) key: Option<String>,
    /// The restore point as providers return it.
    pub(super) mark: RestorePoint,
}

impl BackupRow {
    /// Returns the backup as providers return it.
    pub(super) fn to_backup(&self, target: &str) -> Backup {
        Backup {
            id: self.id.clone(),
            target: target.into(),
            label: self.label.clone(),
            method: "simulated".into(),
            status: self.status.clone(),
            started_at: from_micros(self.started_at),
            finished_at: self.finished_at.map(from_micros),
            bytes: self.bytes.unsigned_abs(),
            restorable: vec![Restorable::Branch, Restorable::InPlace],
            key: self.key.clone().map(CallKey),
        }
    }
}

const SELECT_BACKUPS: &str =
    "select id, label, line, stop, digest, bytes, status, started_at, finished_at, key from backups";

fn read_backup_row(row: &Row<'_>) -> rusqlite::Result<BackupRow> {
    Ok(BackupRow {
        id: row.get(0)?,
        label: row.get(1)?,
        line: row.get(2)?,
        stop: row.get(3)?,
        digest: row.get(4)?,
        bytes: row.get(5)?,
        status: row.get(6)?,
        started_at: row.get(7)?,
        finished_at: row.get(8)?,
        key: row.get(9)?,
    })
}

impl WorldTx<'_> {
    /// Returns every backup, oldest first.
    pub(super) fn list_backup_rows(&self) -> Result<Vec<BackupRow>> {
        self.query_rows(&format!("{SELECT_BACKUPS} order by started_at, id"), [], read_backup_row)
    }

    /// Returns one backup.
    pub(super) fn demand_backup(&self, id: &str) -> Result<BackupRow> {
        let all = self.list_backup_rows()?;
        let names: Vec<&str> = all.iter().map(|b| b.id.as_str()).collect();
        all.iter().find(|b| b.id == id).cloned().ok_or_else(|| {
            Error::new(Code::NotFound, format!("`{}` has no backup `{id}`", self.target))
                .with_hint(suggest::suggest_name(id, names))
        })
    }

    /// Inserts or updates a backup.
    pub(super) fn save_backup(&self, b: &BackupRow) -> Result<()> {
        let sql = "insert or replace into backups values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
        let values = params![
            b.id,
            b.label,
            b.line,
            b.stop,
            b.digest,
            b.bytes,
            b.status,
            b.started_at,
            b.finished_at,
            b.key
        ];
        self.conn.execute(sql, values).map(drop).map_err(|e| store_error(&e))
    }

    /// Completes a backup that is being made, as of `at`.
    pub(super) fn complete_backup(&self, mut backup: BackupRow, at: i64) -> Result<BackupRow> {
        backup.stop = self.lsn_at_time(backup.line, at, true)?;
        let facts = self.content_facts_at(backup.line, backup.stop)?;
        backup.digest = facts.digest;
        backup.bytes = i64::try_from(facts.bytes).unwrap_or(i64::MAX);
        backup.status = "completed".into();
        backup.finished_at = Some(at);
        self.save_backup(&backup)?;
        Ok(backup)
    }

    /// Adds a backup that was there before the world was made.
    pub(super) fn add_past_backup(&self, line: i64, past: &PastBackup<'_>) -> Result<()> {
        let finished = to_micros(past.finished);
        let backup = BackupRow {
            id: past.id.into(),
            label: past.label.map(Into::into),
            line,
            stop: 0,
            digest: String::new(),
            bytes: 0,
            status: "running".into(),
            started_at: finished - span_to_micros(self.world.backup_duration()),
            finished_at: None,
            key: None,
        };
        let mut backup = self.complete_backup(backup, finished)?;
        if past.damaged {
            backup.digest = "damaged".into();
            self.save_backup(&backup)?;
        }
        Ok(())
    }

    /// Reads a backup through and returns what is wrong with it.
    pub(super) fn find_damage(&self, backup: &BackupRow) -> Result<Option<String>> {
        let found = self.content_facts_at(backup.line, backup.stop)?.digest;
        Ok((found != backup.digest).then(|| "its rows do not have the checksum that was written down".into()))
    }

    /// Makes a restore point.
    pub(super) fn add_restore_point(
        &self,
        name: &str,
        line: i64,
        at: i64,
        key: Option<&CallKey>,
    ) -> Result<RestorePoint> {
        let (lsn, _) = self.allocate_transaction(name.len())?;
        let sql = "insert into marks values (?1, ?2, ?3, ?4, ?5)";
        self.conn
            .execute(sql, params![name, line, lsn, at, key.map(|k| &k.0)])
            .map_err(|e| store_error(&e))?;
        Ok(RestorePoint { name: name.into(), lsn: format_lsn(lsn), time: from_micros(at) })
    }

    /// Returns a restore point.
    pub(super) fn find_restore_point(&self, name: &str) -> Result<Option<RestorePointRow>> {
        let sql = "select line, lsn, at, key from marks where name = ?1";
        let read = |row: &Row<'_>| {
            let lsn = row.get(1)?;
            let mark =
                RestorePoint { name: name.into(), lsn: format_lsn(lsn), time: from_micros(row.get(2)?) };
            Ok(RestorePointRow { line: row.get(0)?, lsn, key: row.get(3)?, mark })
        };
        self.conn.query_row(sql, [name], read).optional().map_err(|e| store_error(&e))
    }

    /// Returns the names of the restore points.
    pub(super) fn restore_point_names(&self) -> Result<Vec<String>> {
        self.query_rows("select name from marks order by lsn", [], |row| row.get(0))
    }
}

/// Returns a span in microseconds.
pub(super) fn span_to_micros(span: crate::base::moment::Span) -> i64 {
    i64::try_from(span.0.as_micros()).unwrap_or(i64::MAX)
}
