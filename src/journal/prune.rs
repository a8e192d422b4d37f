//! Removing runs for good. What stays is a tombstone: that there was such a run, how it ended, and its head.

use super::{Error, Journal, RunStatus, Tombstone, lock, place, rows, schema};
use std::fs;

impl Journal {
    /// Removes a run that has ended, with its records, sources, leases and quarantines. One whose records are not
    /// those that were written can never end, and is removed as well.
    ///
    /// # Errors
    /// [`Error::NotEnded`], [`Error::Broken`] for one that can still be ended, [`Error::NoSuchRun`], [`Error::Held`],
    /// [`Error::HeldByUnknown`], or what the store says.
    pub fn prune_run(&self, id: &str) -> Result<Tombstone, Error> {
        self.check_or_adopt_place()?;
        let at = |e: rusqlite::Error| schema::to_journal_error(&self.state, &e);
        let summary = self.summarize_run(id)?;
        if !summary.status.is_final() {
            self.require_broken_run(id, summary.status)?;
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
        drop(place::remove_synced_number(&self.state, id));
        drop(fs::remove_file(lock::lock_path(&self.state, id)));
        drop(lock);
        Ok(tombstone)
    }

    /// Refuses a run that can still come to an end.
    fn require_broken_run(&self, id: &str, status: RunStatus) -> Result<(), Error> {
        match self.verify_run(id, None) {
            Ok(_) => Err(Error::NotEnded { run: id.into(), status }),
            Err(Error::Broken { is_linked: false, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
