//! The records of a run on their way to disk.
//!
//! Records are numbered and hashed under the lock of `state`, in the order in which they were added, and written
//! under the lock of the writer's `db`. Whoever writes takes along all that has been added, so threads that add at the
//! same time share one commit.

use super::{
    Durability, Error, Record, Source,
    chain::{self, Chain, RecordRow},
    fold::RunState,
    lock::RunLock,
    rows::{self, RunRowId},
    schema,
};
use crate::base::{
    clock::Clock,
    lock::lock_unpoisoned,
    sqlite::{Db, PooledDb},
};
use serde_json::{Map, Value};
use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Instant,
};

/// An observer of appends to an in-memory journal: a rehearsal kills the process at these points.
pub trait RecordObserver: Send + Sync {
    /// Called before a record is appended.
    fn before_append(&self, record: &Record);
    /// Called after a record was appended: it is on disk, or buffered.
    fn after_append(&self, record: &Record);
}

/// The sources with which a run goes on in place of the recorded ones.
pub struct EditedSources {
    pub sources: Vec<Source>,
    /// The parameters that they have and the run was not given, with their values.
    pub params: Map<String, Value>,
}

/// The records of a held run: those that are written, and those that are to be.
pub(super) struct RecordQueue {
    run: String,
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
enum WriteLevel {
    Written,
    Synced,
}

/// The records and changes that one commit writes.
struct Batch {
    rows: Vec<RecordRow>,
    edited: Option<(u32, Vec<Source>)>,
    /// Where the run stands, when the store has something else.
    run_state: Option<RunState>,
    /// The last record that is written with it.
    last: u64,
}
impl RecordQueue {
    /// Returns the queue of a fully replayed chain.
    pub(super) fn from_chain(writer: RunWriter, chain: Chain) -> Self {
        let state = WriteState {
            pending: Vec::new(),
            edited: None,
            written: chain.tail.seq,
            synced: chain.tail.seq,
            stored: chain.fold.run_state(),
            failed: None,
            chain,
        };
        Self { run: state.chain.tail.run.clone(), state: Mutex::new(state), writer }
    }

    /// Reads the chain, with the records that are not yet written.
    pub(super) fn read_chain<T>(&self, read: impl FnOnce(&Chain) -> T) -> T {
        read(&self.lock_state().chain)
    }

    /// Records that this process resumes the run: with the sources that it has, or with edited ones, which are stored.
    ///
    /// # Errors
    /// As [`RecordQueue::append_record`].
    pub(super) fn record_resume(&self, version: &str, edited: Option<EditedSources>) -> Result<(), Error> {
        let digest = edited.as_ref().map(|edited| chain::digest_sources(&edited.sources));
        let (is_edited, version) = (edited.is_some(), version.to_owned());
        let (sources, params) = match edited {
            Some(EditedSources { sources, params }) => (Some(sources), params),
            None => (None, Map::new()),
        };
        let record = Record::Resumed { version, edited: is_edited, digest, gives_up: false, params };
        self.append_and_notify_observer(record, |record| {
            let seq = {
                let mut state = self.lock_state();
                self.check_writable(&state)?;
                let row = state.chain.append_record(record, self.writer.clock.now())?;
                state.pending.push(row);
                let newest = state.chain.fold.editions.newest;
                state.edited = sources.map(|sources| (newest, sources));
                state.chain.tail.seq
            };
            self.write_up_to(seq, WriteLevel::Synced)
        })
    }

    /// Adds a record.
    ///
    /// # Errors
    /// [`Error::Illegal`] when it does not fit where the run stands; [`Error::WriteFailed`] when it (or, earlier,
    /// another record) could not be written.
    pub(super) fn append_record(&self, record: Record, durability: Durability) -> Result<(), Error> {
        self.append_and_notify_observer(record, |record| self.append_unobserved(record, durability))
    }

    /// Appends a record, telling the observer before and after.
    fn append_and_notify_observer(
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

    fn append_unobserved(&self, record: Record, durability: Durability) -> Result<(), Error> {
        let seq = {
            let mut state = self.lock_state();
            self.check_writable(&state)?;
            let row = state.chain.append_record(record, self.writer.clock.now())?;
            state.pending.push(row);
            state.chain.tail.seq
        };
        match durability {
            Durability::Buffered => Ok(()),
            Durability::Written => self.write_up_to(seq, WriteLevel::Written),
            Durability::Synced => self.write_up_to(seq, WriteLevel::Synced),
        }
    }

    /// Syncs every record that was added and is not synced; returns at once when there is none.
    ///
    /// # Errors
    /// [`Error::WriteFailed`].
    pub(super) fn sync_records(&self) -> Result<(), Error> {
        let last = self.lock_state().chain.tail.seq;
        self.write_up_to(last, WriteLevel::Synced)
    }

    /// Writes every record that was added and is not written; returns at once when there is none. A power cut may lose
    /// them.
    ///
    /// # Errors
    /// [`Error::WriteFailed`].
    pub(super) fn write_records_unsynced(&self) -> Result<(), Error> {
        let last = self.lock_state().chain.tail.seq;
        self.write_up_to(last, WriteLevel::Written)
    }

    /// Writes what is pending, unless another thread has written `seq` by the time it is this one's turn.
    fn write_up_to(&self, seq: u64, level: WriteLevel) -> Result<(), Error> {
        if self.has_record_reached(seq, level)? {
            return Ok(());
        }
        // Poisoned: a thread panicked while it wrote a batch, and that batch is lost.
        let db =
            self.writer.db.lock().map_err(|_| self.write_error("a thread died while it wrote".into()))?;
        if self.has_record_reached(seq, level)? {
            return Ok(());
        }
        let batch = self.take_pending_batch(level);
        let started = Instant::now();
        let written =
            self.set_commit_durability(&db, level).and_then(|()| batch.write_rows(&db, self.writer.row_id));
        tracing::debug!(up_to = batch.last, ?level, ok = written.is_ok(), took = ?started.elapsed(), "records written");
        if let (Ok(()), WriteLevel::Synced, Some(lock)) = (&written, level, &self.writer.lock) {
            lock.write_synced_number(batch.last);
        }
        let mut state = self.lock_state();
        match written {
            Ok(()) => {
                state.written = batch.last;
                if level == WriteLevel::Synced {
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
    fn set_commit_durability(&self, db: &Db, level: WriteLevel) -> rusqlite::Result<()> {
        if self.writer.lock.is_none() {
            return Ok(());
        }
        let word = if level == WriteLevel::Synced { "full" } else { "normal" };
        db.raw_connection().pragma_update(None, "synchronous", word)
    }

    /// Returns everything that is pending. With nothing pending, what is written is synced by a commit of something else.
    fn take_pending_batch(&self, level: WriteLevel) -> Batch {
        let mut state = self.lock_state();
        let run_state = state.chain.fold.run_state();
        let changed = run_state != state.stored || (level == WriteLevel::Synced && state.pending.is_empty());
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

    fn has_record_reached(&self, seq: u64, level: WriteLevel) -> Result<bool, Error> {
        let state = self.lock_state();
        let last = if level == WriteLevel::Synced { state.synced } else { state.written };
        self.check_writable(&state).map(|()| last >= seq)
    }

    fn check_writable(&self, state: &WriteState) -> Result<(), Error> {
        state.failed.clone().map_or(Ok(()), |why| Err(self.write_error(why)))
    }

    fn write_error(&self, why: String) -> Error {
        Error::WriteFailed { run: self.run.clone(), why }
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
    use crate::journal::CallState;

    /// Breaks a run's connection, adds to it, mends the connection, and adds again.
    fn break_and_mend(breaks: &str, mends: &str, says: &str) {
        let test = TestJournal::new();
        let run = test.create_run();
        run.append_record(begin_record("a"), Durability::Synced).expect("written");
        run.append_record(end_record("r", ok_outcome(1)), Durability::Buffered).expect("kept in memory");
        let sql = |sql: &str| {
            run.records
                .writer
                .db
                .lock()
                .expect("not poisoned")
                .raw_connection()
                .execute_batch(sql)
                .expect("runs");
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
            while run.records.lock_state().chain.tail.seq < 9 {
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
                let _held = run.records.writer.db.lock();
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
