//! Removing runs for good. What stays is a tombstone: that there was such a run, how it ended, and its head.

use super::{Error, Journal, Tombstone, lock, place, rows, schema};
use std::fs;

impl Journal {
    /// Removes a run that has ended, with its records, sources, leases and quarantines.
    ///
    /// # Errors
    /// [`Error::NotEnded`], [`Error::NoSuchRun`], [`Error::Held`], [`Error::HeldByUnknown`], or what the store says.
    pub fn prune_run(&self, id: &str) -> Result<Tombstone, Error> {
        self.admit_action()?;
        let at = |e: rusqlite::Error| schema::to_journal_error(&self.state, &e);
        let summary = self.summarize_run(id)?;
        if !summary.status.is_final() {
            return Err(Error::NotEnded { run: id.into(), status: summary.status });
        }
        // Its process may still be releasing leases. The lock is held to the end so that its file can be removed.
        let lock = lock::acquire_lock(&self.state, id, self.clock.now())?;
        let db = self.lock_db();
        let tx = db.begin_write().map_err(at)?;
        let row_id = rows::select_row_id(&tx, id).map_err(at)?;
        let (records, head) = rows::select_last_record(&tx, row_id).map_err(at)?;
        let (run, runbook, status) = (summary.id, summary.runbook, summary.status);
        let tombstone = Tombstone { run, runbook, status, records, head, pruned_at: self.clock.now() };
        rows::replace_with_tombstone(&tx, row_id, &tombstone).map_err(at)?;
        tx.commit().map_err(at)?;
        // The tombstone has the number of its records. What is left behind means nothing, so a failure is ignored.
        drop(place::remove_number(&self.state, id));
        drop(fs::remove_file(lock::lock_path(&self.state, id)));
        drop(lock);
        Ok(tombstone)
    }
}
