//! A run that this process holds: the state of its calls, and the only way to append to it.
//!
//! Records are numbered and hashed under the lock of `state`, in the order in which they were added, and written
//! under the lock of the writer's `db`. Whoever writes takes along all that has been added, so threads that add at the
//! same time share one commit.

use super::{
    CallState, Conclusion, Durability, Error, FoldedCall, Record, RunStatus, Source, UnreadableRecord,
    chain::{self, Chain, RecordRow},
    fold::RunState,
    lock::RunLock,
    rows::{self, RunRowId},
    schema,
};
use crate::base::lock::lock_unpoisoned;
use crate::base::{
    clock::Clock,
    moment::Moment,
    sqlite::{Db, PooledDb},
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

/// An observer of appends to an in-memory journal: a rehearsal kills the process at these points.
pub trait RecordObserver: Send + Sync {
    /// Called before a record is appended.
    fn before_append(&self, record: &Record);
    /// Called after a record was appended: it is on disk, or buffered.
    fn after_append(&self, record: &Record);
}

/// One run, held by this process until this is dropped.
pub struct Run {
    id: String,
    last_at: Moment,
    state: Mutex<WriteState>,
    writer: RunWriter,
}

/// What a held run is written with.
pub(super) struct RunWriter {
    pub(super) db: Arc<Mutex<PooledDb>>,
    pub(super) row_id: RunRowId,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) observer: Option<Arc<dyn RecordObserver>>,
    // Last: the connection is closed before another process may take the run.
    pub(super) lock: Option<RunLock>,
}

struct WriteState {
    chain: Chain,
    /// Added and not yet on disk.
    pending: Vec<RecordRow>,
    /// An edition of the sources that is not yet on disk either.
    edited: Option<(u32, Vec<Source>)>,
    /// The last record that is written: a kill of the process does not lose it.
    written: u64,
    /// The last record that is synced: a power cut does not lose it.
    synced: u64,
    /// What the store has for lists.
    stored: RunState,
    /// Why nothing can be written any more.
    failed: Option<String>,
}

/// How far a record has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    Written,
    Synced,
}

/// The records and changes that one commit writes.
struct Batch {
    rows: Vec<RecordRow>,
    edited: Option<(u32, Vec<Source>)>,
    /// Where the run stands, when the store has something else.
    run_state: Option<RunState>,
    /// The last record there is then.
    last: u64,
}

impl Run {
    /// Returns the run of a fully replayed chain.
    pub(super) fn from_chain(writer: RunWriter, chain: Chain) -> Run {
        let state = WriteState {
            pending: Vec::new(),
            edited: None,
            written: chain.tail.seq,
            synced: chain.tail.seq,
            stored: chain.fold.run_state(),
            failed: None,
            chain,
        };
        Run {
            id: state.chain.tail.run.clone(),
            last_at: state.chain.last_at,
            state: Mutex::new(state),
            writer,
        }
    }

    /// Returns the run's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns what is known of a call, records of this process included.
    ///
    /// # Errors
    /// What is recorded of it does not read.
    pub fn call_state(&self, call: &str) -> Result<CallState, UnreadableRecord> {
        self.lock_state().chain.fold.call_state(call)
    }

    /// Returns the error of a call whose recorded value does not read as what it must be.
    pub fn unreadable_call(&self, call: &str, what: String) -> UnreadableRecord {
        self.lock_state().chain.fold.unreadable_call(call, what)
    }

    /// Returns a call as its records leave it, if there are any.
    pub fn recorded_call(&self, call: &str) -> Option<FoldedCall> {
        self.lock_state().chain.fold.call(call).cloned()
    }

    /// Returns whether there is a record of a call.
    pub fn is_recorded(&self, call: &str) -> bool {
        self.lock_state().chain.fold.call(call).is_some()
    }

    /// Returns whether a call was made as this operation with these arguments.
    pub fn matches_call(&self, call: &str, op: &str, args: &Value) -> bool {
        self.lock_state().chain.fold.matches_call(call, op, args)
    }

    /// Returns where a call stands among the records: at which it ended, or began if it has not; 0 where there is none.
    pub fn call_order(&self, call: &str) -> u64 {
        self.lock_state().chain.fold.call_order(call)
    }

    /// Returns whether a call was recorded before the record number `order`, and after all that somebody allowed the edited
    /// sources not to ask for: what is allowed to be missing goes on to be what came of it.
    pub fn is_outdated_by(&self, call: &str, order: u64) -> bool {
        self.lock_state().chain.fold.is_outdated_by(call, order)
    }

    /// Returns how often a call was begun.
    pub fn count_attempts(&self, call: &str) -> u32 {
        self.lock_state().chain.fold.count_attempts(call)
    }

    /// Returns the names of all calls that begin with `path`, in no order.
    pub fn call_names_below(&self, path: &str) -> Vec<String> {
        self.lock_state().chain.fold.call_names_below(path)
    }

    /// Returns the names of the calls that last began, or were made, after another one, in no order.
    pub fn call_names_after(&self, call: &str) -> Vec<String> {
        self.lock_state().chain.fold.call_names_after(call)
    }

    /// Returns the calls that were begun and are not over, by name.
    pub fn open_calls(&self) -> Vec<String> {
        let state = self.lock_state();
        let mut names: Vec<String> = state.chain.fold.open_calls().map(|(name, _)| name.to_owned()).collect();
        names.sort();
        names
    }

    /// Returns when a call last began or ended, records of this process included.
    pub fn call_changed_at(&self, call: &str) -> Option<Moment> {
        self.lock_state().chain.fold.call(call)?.changed_at()
    }

    /// Returns whether an effect of a call may have been made and the journal does not know of it: it was rolled back.
    pub fn is_call_doubtful(&self, call: &str) -> bool {
        self.lock_state().chain.fold.is_call_doubtful(call)
    }

    /// Returns whether somebody has said that the journal was rolled back: what the run did may not be recorded.
    pub fn is_rolled_back(&self) -> bool {
        self.lock_state().chain.fold.is_rolled_back()
    }

    /// Returns whether some attempt at a call had this key.
    pub fn is_key_known(&self, key: &str) -> bool {
        self.lock_state().chain.fold.is_key_known(key)
    }

    /// Returns the identity that a target name resolved to at its first use in this run.
    ///
    /// # Errors
    /// What is recorded does not read as one.
    pub fn target_identity<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, UnreadableRecord> {
        self.lock_state().chain.fold.target_identity(name)
    }

    /// Returns the identity of every target name that this run has used.
    ///
    /// # Errors
    /// What is recorded of one of them does not read.
    pub fn target_identities<T: DeserializeOwned>(&self) -> Result<BTreeMap<String, T>, UnreadableRecord> {
        let state = self.lock_state();
        let fold = &state.chain.fold;
        let named =
            |name: &str| Some(fold.target_identity(name).transpose()?.map(|who| (name.to_owned(), who)));
        fold.target_names().filter_map(named).collect()
    }

    /// Returns the name of every target that this run has used, in no order.
    pub fn target_names(&self) -> Vec<String> {
        self.lock_state().chain.fold.target_names().map(str::to_owned).collect()
    }

    /// Returns whether it is recorded what the run ends with.
    pub fn is_ending(&self) -> bool {
        self.lock_state().chain.fold.is_ending()
    }

    /// Returns what the run ends with, once that has been recorded.
    ///
    /// # Errors
    /// It does not read.
    pub fn conclusion(&self) -> Result<Option<Conclusion>, UnreadableRecord> {
        self.lock_state().chain.fold.conclusion()
    }

    /// Returns where the run stands. A run whose process died reads `Running` until it is resumed.
    pub fn status(&self) -> RunStatus {
        // A held run has its first record, and with it a status.
        self.lock_state().chain.fold.status.unwrap_or(RunStatus::Running)
    }

    /// Returns the hash of the last record that was added: 64 hex digits, of which 16 are enough to show.
    pub fn head_hash(&self) -> String {
        self.lock_state().chain.tail.hash.clone()
    }

    /// Returns the time of the last record that was on disk when the run was taken.
    pub fn last_record_at(&self) -> Moment {
        self.last_at
    }

    /// Returns the names of the calls that were begun at least once, in no order.
    pub fn started_calls(&self) -> Vec<String> {
        self.lock_state().chain.fold.started_calls()
    }

    /// Returns the names of the calls of one operation, in no order.
    pub fn calls_of(&self, op: &str) -> Vec<String> {
        self.lock_state().chain.fold.calls_of(op)
    }

    /// Returns the calls of one operation that are over, in the order of their names, each with whether it ended under the
    /// edition of the sources in force, and well.
    pub fn ended_calls_of(&self, op: &str) -> BTreeMap<String, bool> {
        self.lock_state().chain.fold.ended_calls_of(op)
    }

    /// Returns the recorded calls and clean-up that somebody allowed the edited sources not to ask for first.
    pub fn allowed_missing(&self) -> BTreeSet<String> {
        self.lock_state().chain.fold.allowed_missing()
    }

    /// Returns the edition of the sources in force: 0 is the original, higher ones are edits.
    pub fn source_edition(&self) -> u32 {
        self.lock_state().chain.fold.editions.in_force
    }

    /// Returns the edition of the sources by which the run is given up: see [`super::RunFold::edition_to_give_up`].
    pub fn edition_to_give_up(&self) -> u32 {
        self.lock_state().chain.fold.edition_to_give_up()
    }

    /// Records that this process takes the run up to give it up, with the edition of [`Run::edition_to_give_up`].
    ///
    /// # Errors
    /// As [`Run::append_record`].
    pub fn record_giving_up(&self, version: &str) -> Result<(), Error> {
        let (version, digest) = (version.to_owned(), None);
        let resumed = Record::Resumed { version, edited: false, digest, gives_up: true };
        self.append_record(resumed, Durability::Synced)
    }

    /// Records that this process resumes the run: with the sources that it has, or with edited ones, which are stored.
    ///
    /// # Errors
    /// As [`Run::append_record`].
    pub fn record_resume(&self, version: &str, edited: Option<Vec<Source>>) -> Result<(), Error> {
        let digest = edited.as_deref().map(chain::digest_sources);
        let (version, gives_up) = (version.to_owned(), false);
        let record = Record::Resumed { version, edited: edited.is_some(), digest, gives_up };
        self.append_observed(record, |record| {
            let seq = {
                let mut state = self.lock_state();
                self.check_writable(&state)?;
                let row = state.chain.append_record(record, self.writer.clock.now())?;
                state.pending.push(row);
                let newest = state.chain.fold.editions.newest;
                state.edited = edited.map(|sources| (newest, sources));
                state.chain.tail.seq
            };
            self.write_up_to(seq, Reach::Synced)
        })
    }

    /// Adds a record.
    ///
    /// # Errors
    /// [`Error::Illegal`] when it does not fit where the run stands; [`Error::WriteFailed`] when it (or, earlier,
    /// another record) could not be written.
    pub fn append_record(&self, record: Record, durability: Durability) -> Result<(), Error> {
        self.append_observed(record, |record| self.add_record(record, durability))
    }

    /// Appends a record, telling the observer before and after.
    fn append_observed(
        &self,
        record: Record,
        add: impl FnOnce(Record) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let Some(observer) = &self.writer.observer else { return add(record) };
        observer.before_append(&record);
        add(record.clone())?;
        observer.after_append(&record);
        Ok(())
    }

    fn add_record(&self, record: Record, durability: Durability) -> Result<(), Error> {
        let seq = {
            let mut state = self.lock_state();
            self.check_writable(&state)?;
            let row = state.chain.append_record(record, self.writer.clock.now())?;
            state.pending.push(row);
            state.chain.tail.seq
        };
        match durability {
            Durability::Buffered => Ok(()),
            Durability::Written => self.write_up_to(seq, Reach::Written),
            Durability::Synced => self.write_up_to(seq, Reach::Synced),
        }
    }

    /// Syncs every record that was added and is not synced; returns at once when there is none.
    ///
    /// # Errors
    /// [`Error::WriteFailed`].
    pub fn sync_records(&self) -> Result<(), Error> {
        let last = self.lock_state().chain.tail.seq;
        self.write_up_to(last, Reach::Synced)
    }

    /// Writes every record that was added and is not written; returns at once when there is none. A power cut may lose
    /// them.
    ///
    /// # Errors
    /// [`Error::WriteFailed`].
    pub fn write_records(&self) -> Result<(), Error> {
        let last = self.lock_state().chain.tail.seq;
        self.write_up_to(last, Reach::Written)
    }

    /// Writes what is pending, unless another thread has written `seq` by the time it is this one's turn.
    fn write_up_to(&self, seq: u64, reach: Reach) -> Result<(), Error> {
        if self.has_reached(seq, reach)? {
            return Ok(());
        }
        // Poisoned: a thread panicked while it wrote a batch, and that batch is lost.
        let db =
            self.writer.db.lock().map_err(|_| self.write_error("a thread died while it wrote".into()))?;
        if self.has_reached(seq, reach)? {
            return Ok(());
        }
        let batch = self.take_batch(reach);
        let started = Instant::now();
        let written = self.set_reach(&db, reach).and_then(|()| batch.write_rows(&db, self.writer.row_id));
        tracing::debug!(up_to = batch.last, ?reach, ok = written.is_ok(), took = ?started.elapsed(), "records written");
        if let (Ok(()), Reach::Synced, Some(lock)) = (&written, reach, &self.writer.lock) {
            lock.note_synced(batch.last);
        }
        let mut state = self.lock_state();
        match written {
            Ok(()) => {
                state.written = batch.last;
                if reach == Reach::Synced {
                    state.synced = batch.last;
                }
                Ok(())
            }
            Err(why) => {
                // Never retried: after a failed fsync the kernel may mark pages clean that never reached the disk.
                let why = schema::describe_sqlite_error(&why);
                state.failed = Some(why.clone());
                Err(self.write_error(why))
            }
        }
    }

    /// Sets whether the next commit waits for the disk. A journal in memory has none, and is in a transaction already.
    fn set_reach(&self, db: &Db, reach: Reach) -> rusqlite::Result<()> {
        if self.writer.lock.is_none() {
            return Ok(());
        }
        let word = if reach == Reach::Synced { "full" } else { "normal" };
        db.raw_connection().pragma_update(None, "synchronous", word)
    }

    /// Returns everything that is pending. With nothing pending, what is written is synced by a commit of something else.
    fn take_batch(&self, reach: Reach) -> Batch {
        let mut state = self.lock_state();
        let run_state = state.chain.fold.run_state();
        let changed = run_state != state.stored || (reach == Reach::Synced && state.pending.is_empty());
        if changed {
            state.stored.clone_from(&run_state);
        }
        let last = state.chain.tail.seq;
        let edited = state.edited.take();
        Batch {
            rows: std::mem::take(&mut state.pending),
            edited,
            run_state: changed.then_some(run_state),
            last,
        }
    }

    fn has_reached(&self, seq: u64, reach: Reach) -> Result<bool, Error> {
        let state = self.lock_state();
        let last = if reach == Reach::Synced { state.synced } else { state.written };
        self.check_writable(&state).map(|()| last >= seq)
    }

    fn check_writable(&self, state: &WriteState) -> Result<(), Error> {
        state.failed.clone().map_or(Ok(()), |why| Err(self.write_error(why)))
    }

    fn write_error(&self, why: String) -> Error {
        Error::WriteFailed { run: self.id.clone(), why }
    }

    fn lock_state(&self) -> MutexGuard<'_, WriteState> {
        // Nothing that can panic happens between two changes that belong together.
        lock_unpoisoned(&self.state)
    }
}

impl Batch {
    fn write_rows(&self, db: &Db, run: RunRowId) -> rusqlite::Result<()> {
        let tx = db.begin_write()?;
        for row in &self.rows {
            rows::insert_record(&tx, run, row)?;
        }
        if let Some((edition, sources)) = &self.edited {
            rows::insert_edition(&tx, run, *edition, sources)?;
        }
        if let Some(run_state) = &self.run_state {
            rows::update_run_state(&tx, run, run_state)?;
        }
        tx.commit()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{TestJournal, begin_record, end_record, ok_outcome};
    use super::*;

    /// Breaks a run's connection, adds to it, mends the connection, and adds again.
    fn break_and_mend(breaks: &str, mends: &str, says: &str) {
        let test = TestJournal::new();
        let run = test.create_run();
        run.append_record(begin_record("a"), Durability::Synced).expect("written");
        run.append_record(end_record("r", ok_outcome(1)), Durability::Buffered).expect("kept in memory");
        let sql = |sql: &str| {
            run.writer.db.lock().expect("not poisoned").raw_connection().execute_batch(sql).expect("runs");
        };
        sql(breaks);
        let big = ok_outcome("x".repeat(1 << 20));
        let first =
            run.append_record(end_record("a", big), Durability::Synced).expect_err("cannot be written");
        assert!(matches!(&first, Error::WriteFailed { why, .. } if why.contains(says)), "{first}");
        assert!(first.hint().is_some_and(|hint| hint.contains(run.id())));
        sql(mends);
        assert_eq!(run.append_record(begin_record("b"), Durability::Buffered), Err(first.clone()));
        assert_eq!(run.append_record(begin_record("b"), Durability::Synced), Err(first.clone()));
        assert_eq!(run.sync_records(), Err(first));
        let id = run.id().to_owned();
        drop(run);
        assert_eq!(test.record_kinds(&id), ["started", "begin"], "nothing of the failed commit is there");
        let again = test.journal.acquire_run(&id).expect("taken anew");
        assert!(matches!(again.call_state("a"), Ok(CallState::Started { .. })));
        again.append_record(end_record("a", ok_outcome(1)), Durability::Synced).expect("writes again");
    }

    #[test]
    fn a_full_disk_is_said_and_ends_all_writing() {
        // SQLite does not go below the size that the file has: the next page is one too many.
        break_and_mend("pragma max_page_count = 1", "pragma max_page_count = 100000", "SQLITE_FULL");
    }

    #[test]
    fn a_read_only_journal_is_said_and_ends_all_writing() {
        break_and_mend("pragma query_only = on", "pragma query_only = off", "SQLITE_READONLY");
    }

    #[test]
    fn threads_that_wait_for_a_write_share_the_next_commit() {
        let test = TestJournal::new();
        let run = test.create_run();
        let other = test.second_connection();
        let frames = || -> i64 {
            other.query_row("pragma wal_checkpoint(passive)", [], |row| row.get(1)).expect("asks")
        };
        let before = frames();
        other.execute_batch("begin immediate").expect("no other can write now");
        std::thread::scope(|threads| {
            for n in 0..8 {
                let run = &run;
                threads.spawn(move || {
                    run.append_record(begin_record(&n.to_string()), Durability::Synced).expect("written");
                });
            }
            while run.lock_state().chain.tail.seq < 9 {
                std::thread::yield_now();
            }
            other.execute_batch("rollback").expect("free again");
        });
        assert_eq!(test.record_kinds(run.id()).len(), 9);
        // A commit writes one page at least; the first took what was there when its turn came.
        assert!(frames() - before < 8, "{} pages for 8 records", frames() - before);
    }

    #[test]
    fn a_writer_that_panicked_ends_all_writing() {
        let test = TestJournal::new();
        let run = test.create_run();
        std::thread::scope(|threads| {
            let died = threads.spawn(|| {
                let _held = run.writer.db.lock();
                panic!("in the middle of a write");
            });
            assert!(died.join().is_err());
        });
        assert!(matches!(
            run.append_record(begin_record("a"), Durability::Synced),
            Err(Error::WriteFailed { .. })
        ));
    }
}
