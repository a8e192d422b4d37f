//! Removing runs for good. What stays is a tombstone: that there was such a run, how it ended, and its head.

use super::{Error, Journal, Status, lock, rows, schema};
use crate::base::moment::Moment;
use rusqlite::OptionalExtension as _;
use std::fs;

/// What stays of a run that was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstone {
    /// The run.
    pub run: String,
    /// The runbook's path or name, as it was given.
    pub runbook: String,
    /// How it ended.
    pub status: Status,
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
    /// [`Error::NotEnded`], [`Error::NoSuchRun`], [`Error::Held`], [`Error::Taken`], or what the store says.
    pub fn prune(&self, id: &str) -> Result<Tombstone, Error> {
        let at = |e: rusqlite::Error| schema::trouble(&self.state, &e);
        let summary = self.summary(id)?;
        if !summary.status.is_final() {
            return Err(Error::NotEnded { run: id.into(), status: summary.status });
        }
        // Its process may be giving back leases still. Held to the end, so that the file of the lock can go too.
        let lock = lock::take(&self.state, id, self.clock.now())?;
        let db = self.db();
        let all = db.change().map_err(at)?;
        let ord = rows::ord(&all, id).map_err(at)?;
        let (records, head) = rows::last(&all, ord).map_err(at)?;
        let (run, runbook, status) = (summary.id, summary.runbook, summary.status);
        let stone = Tombstone { run, runbook, status, records, head, pruned_at: self.clock.now() };
        rows::bury(&all, ord, &stone).map_err(at)?;
        all.keep().map_err(at)?;
        // Left behind it is an empty word, so a failure is none of the caller's business.
        drop(fs::remove_file(lock::path(&self.state, id)));
        drop(lock);
        Ok(stone)
    }

    /// Returns what stays of a run that was removed; nothing where none of that name was.
    ///
    /// # Errors
    /// [`Error::Unreadable`].
    pub fn tombstone(&self, id: &str) -> Result<Option<Tombstone>, Error> {
        let found = rows::tombstone(&self.db(), id).optional();
        found.map_err(|e| schema::trouble(&self.state, &e))
    }
}
