//! The end of a run that cannot be gone on with: its records are those that were written, and one of them does not read
//! here, or does not fit those before it.

use super::{
    Error, Journal, JournalEntry, Record, RunStatus,
    chain::{self, ChainTail},
    lock::RunLock,
    rows::{self, RunRowId},
};

/// A run whose records do not all read, held by this process until this is dropped.
pub struct UnfitRun<'j> {
    journal: &'j Journal,
    row_id: RunRowId,
    tail: ChainTail,
    calls: u64,
    /// The records that read.
    entries: Vec<JournalEntry>,
    /// The numbers of those that do not.
    unread: Vec<u64>,
    lock: Option<RunLock>,
}

impl Journal {
    /// Takes a run of which a record does not read or does not fit, so that no other process can hold it.
    ///
    /// # Errors
    /// [`Error::Broken`] where its records are not those that were written; otherwise as [`Journal::acquire_run`].
    pub fn acquire_unfit_run(&self, id: &str) -> Result<UnfitRun<'_>, Error> {
        let id = self.require_run(id)?;
        self.check_or_adopt_place()?;
        let lock = self.lock_run(&id, self.clock.now())?;
        let mut tail = ChainTail::empty_for_run(&id);
        let (mut calls, mut entries, mut unread, mut linked) = (0, Vec::new(), Vec::new(), Ok(()));
        let row_id = self.with_db(|db| {
            let row_id = rows::select_row_id(db, &id)?;
            rows::for_each_record(db, row_id, |row| {
                if linked.is_ok() {
                    linked = tail.verify_and_advance(&row);
                }
                calls = row.calls;
                match chain::decode_entry(&id, &row) {
                    Ok(entry) => entries.push(entry),
                    Err(_) => unread.push(row.seq),
                }
            })?;
            Ok(row_id)
        })?;
        linked?;
        Ok(UnfitRun { journal: self, row_id, tail, calls, entries, unread, lock })
    }
}

impl UnfitRun<'_> {
    /// Returns the records that read, in order.
    pub fn entries(&self) -> &[JournalEntry] {
        &self.entries
    }

    /// Returns the numbers of the records that do not read.
    pub fn unreadable_record_numbers(&self) -> &[u64] {
        &self.unread
    }

    /// Records that the run was given up, and what it may have left, on disk when this returns.
    ///
    /// # Errors
    /// [`Error::NotWritable`], [`Error::Unreadable`]: the run is then what it was.
    pub fn end_as_abandoned(mut self, left_behind: Vec<String>) -> Result<(), Error> {
        let finished = Record::Finished { status: RunStatus::Abandoned, error: None, left_behind };
        let Self { journal, row_id, calls, .. } = self;
        let unwritable = |why: String| Error::WriteFailed { run: self.tail.run.clone(), why };
        let body = finished.to_canonical_json().map_err(|e| unwritable(e.to_string()))?;
        let row = self.tail.push_record(journal.clock.now(), calls, body);
        journal.with_db(|db| {
            let tx = db.begin_write()?;
            rows::insert_record(&tx, row_id, &row)?;
            rows::update_run_state(&tx, row_id, &(Some(RunStatus::Abandoned), None))?;
            tx.commit()
        })?;
        if let Some(lock) = &self.lock {
            lock.write_synced_number(row.seq);
        }
        journal.release_leases(&self.tail.run)
    }
}
