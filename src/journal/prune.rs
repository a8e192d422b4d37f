//! Removing runs for good. What stays is a tombstone: that there was such a run, how it ended, and its head.

use super::{Error, Journal, RunStatus, lock, rows, schema};
use crate::base::moment::Moment;
use rusqlite::OptionalExtension as _;
use std::fs;

/// What stays of a run that was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstone {
    pub run: String,
    /// The runbook's path or name, as it was given.
    pub runbook: String,
    pub status: RunStatus,
    /// How many records it had.
    pub records: u64,
    /// The hash of the last one.
    pub head: String,
    /// When it was removed.
    pub pruned_at: Moment,
}

impl Journal {
    /// Removes a run that has ended, with its records, sources and leases.
    ///
    /// # Errors
    /// [`Error::NotEnded`], [`Error::NoSuchRun`], [`Error::Held`], [`Error::HeldByUnknown`], or what the store says.
    pub fn prune_run(&self, id: &str) -> Result<Tombstone, Error> {
        let at = |e: rusqlite::Error| schema::to_journal_error(&self.state, &e);
        let summary = self.summarize_run(id)?;
        if !summary.status.is_final() {
            return Err(Error::NotEnded { run: id.into(), status: summary.status });
        }
        // Its process may still be releasing leases. The lock is held to the end so that its file can be removed.
        let lock = lock::acquire_lock(&self.state, id, self.clock.now())?;
        let db = self.lock_db();
        let all = db.begin_write().map_err(at)?;
        let ord = rows::select_row_id(&all, id).map_err(at)?;
        let (records, head) = rows::select_last_record(&all, ord).map_err(at)?;
        let (run, runbook, status) = (summary.id, summary.runbook, summary.status);
        let stone = Tombstone { run, runbook, status, records, head, pruned_at: self.clock.now() };
        rows::replace_with_tombstone(&all, ord, &stone).map_err(at)?;
        all.commit().map_err(at)?;
        // A lock file left behind means nothing, so a failure is ignored.
        drop(fs::remove_file(lock::lock_path(&self.state, id)));
        drop(lock);
        Ok(stone)
    }

    /// Returns what stays of a run that was removed; nothing where none of that name was.
    ///
    /// # Errors
    /// [`Error::Unreadable`].
    pub fn find_tombstone(&self, id: &str) -> Result<Option<Tombstone>, Error> {
        let found = rows::select_tombstone(&self.lock_db(), id).optional();
        found.map_err(|e| schema::to_journal_error(&self.state, &e))
    }
}
