//! Backups, as rows of the world's file.

use super::{
    spec::PastBackup,
    time::{from_micros, span_to_micros, to_micros},
    tx::{WorldTx, store_error},
};
use crate::{
    base::suggest,
    provider::{
        Code, Error, Result,
        model::{Backup, CallKey, Restorable},
    },
};
use rusqlite::{Row, params};

/// A backup: a place on a timeline, and the digest of the database there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::provider::sim) struct BackupRow {
    pub(in crate::provider::sim) id: String,
    /// The label that its maker gave it.
    pub(in crate::provider::sim) label: Option<String>,
    /// The timeline it is of.
    pub(in crate::provider::sim) line: i64,
    /// The place up to which it goes.
    pub(in crate::provider::sim) stop: i64,
    /// The digest of its database; empty while it is being made.
    pub(super) digest: String,
    pub(in crate::provider::sim) bytes: i64,
    /// `completed` or `running`.
    pub(in crate::provider::sim) status: String,
    /// When it was begun, in microseconds since 1970.
    pub(super) started_at: i64,
    /// When it was complete.
    pub(in crate::provider::sim) finished_at: Option<i64>,
    /// The key of the call that made it.
    pub(in crate::provider::sim) key: Option<String>,
}

impl BackupRow {
    /// Returns a backup that is being made, with nothing in it yet.
    pub(super) fn new_running(id: String, label: Option<&str>, timeline: i64, started_at: i64) -> Self {
        Self {
            id,
            label: label.map(Into::into),
            line: timeline,
            stop: 0,
            digest: String::new(),
            bytes: 0,
            status: "running".into(),
            started_at,
            finished_at: None,
            key: None,
        }
    }

    /// Returns the backup as providers return it.
    pub(in crate::provider::sim) fn to_backup(&self, target: &str) -> Backup {
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
    pub(in crate::provider::sim) fn list_backup_rows(&self) -> Result<Vec<BackupRow>> {
        self.query_rows(&format!("{SELECT_BACKUPS} order by started_at, id"), [], read_backup_row)
    }

    /// Returns one backup.
    pub(in crate::provider::sim) fn demand_backup(&self, id: &str) -> Result<BackupRow> {
        let all = self.list_backup_rows()?;
        let names: Vec<&str> = all.iter().map(|b| b.id.as_str()).collect();
        all.iter().find(|b| b.id == id).cloned().ok_or_else(|| {
            Error::new(Code::NotFound, format!("`{}` has no backup `{id}`", self.target))
                .with_hint(suggest::suggest_name_or_list_known(id, names))
        })
    }

    /// Inserts or updates a backup.
    pub(in crate::provider::sim) fn save_backup(&self, b: &BackupRow) -> Result<()> {
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
    pub(super) fn add_past_backup(&self, timeline: i64, past: &PastBackup<'_>) -> Result<()> {
        let finished = to_micros(past.finished);
        let started = finished - span_to_micros(self.spec.backup_duration());
        let backup = BackupRow::new_running(past.id.into(), past.label, timeline, started);
        let mut backup = self.complete_backup(backup, finished)?;
        if past.damaged {
            backup.digest = "damaged".into();
            self.save_backup(&backup)?;
        }
        Ok(())
    }

    /// Reads a backup through and returns what is wrong with it, if anything is.
    pub(in crate::provider::sim) fn find_damage(&self, backup: &BackupRow) -> Result<Option<String>> {
        let found = self.content_facts_at(backup.line, backup.stop)?.digest;
        Ok((found != backup.digest).then(|| "its rows do not have the checksum that was written down".into()))
    }

    /// Deletes a backup and returns whether there was one.
    pub(in crate::provider::sim) fn delete_backup(&self, id: &str) -> Result<bool> {
        let Some(backup) = self.list_backup_rows()?.into_iter().find(|b| b.id == id) else {
            return Ok(false);
        };
        if backup.finished_at.is_none() {
            return Err(Error::new(Code::Conflict, format!("the backup `{id}` is being made"))
                .with_hint("wait for it"));
        }
        self.delete_row("backups", id).map(|()| true)
    }
}

/// Returns the backup that a call makes; `bytes` is the size of its database now.
pub(in crate::provider::sim) fn new_backup_row(
    key: &CallKey,
    label: Option<&str>,
    timeline: i64,
    bytes: u64,
    at: i64,
) -> BackupRow {
    BackupRow {
        bytes: i64::try_from(bytes).unwrap_or(i64::MAX),
        key: Some(key.0.clone()),
        ..BackupRow::new_running(format!("backup-{key}"), label, timeline, at)
    }
}
