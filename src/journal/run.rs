//! One run, held: what is known of its calls, and the only way to add to it.
//!
//! Records are numbered and hashed under the lock of `state`, in the order in which they were added, and written
//! under the lock of `writer`. Whoever writes takes along all that has been added, so threads that add at the
//! same time share one commit.

use super::{
    Durability, Error, Outcome, Past, Record, Source, Status,
    chain::{self, Chain, Row},
    lock::Lock,
    rows::{self, Ord, Standing},
    schema,
};
use crate::base::{
    clock::Clock,
    moment::Moment,
    sqlite::{Db, Loan},
};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Whoever stands beside a journal in memory while it is written: a rehearsal, in which processes die there.
pub trait Witness: Send + Sync {
    /// Hears of a record that is about to be added to a run.
    fn adding(&self, record: &Record);
    /// Hears that a record was added: it is kept, or rides with the next.
    fn added(&self, record: &Record);
}

/// One run, held by this process until this is dropped.
pub struct Run {
    id: String,
    last_at: Moment,
    state: Mutex<State>,
    hand: Hand,
}

/// What a run is written with.
pub(super) struct Hand {
    pub(super) writer: Arc<Mutex<Loan>>,
    pub(super) ord: Ord,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) witness: Option<Arc<dyn Witness>>,
    // Last: the connection is closed before another process may take the run.
    #[expect(dead_code, reason = "it is held, not looked at")]
    pub(super) lock: Option<Lock>,
}

struct State {
    chain: Chain,
    /// Added and not yet on disk.
    pending: Vec<Row>,
    /// An edition of the texts that is not yet on disk either.
    edited: Option<(u32, Vec<Source>)>,
    /// The last record that is on disk.
    durable: u64,
    /// What the store keeps for lists.
    kept: Standing,
    /// Why nothing can be written any more.
    failed: Option<String>,
}

/// What one commit writes.
struct Batch {
    rows: Vec<Row>,
    edited: Option<(u32, Vec<Source>)>,
    /// Where the run stands, when the store keeps something else.
    standing: Option<Standing>,
    /// The last record there is then.
    last: u64,
}

impl Run {
    /// Returns the run whose chain was followed to its end.
    pub(super) fn hold(hand: Hand, chain: Chain) -> Run {
        let state = State {
            pending: Vec::new(),
            edited: None,
            durable: chain.tail.seq,
            kept: chain.fold.standing(),
            failed: None,
            chain,
        };
        Run { id: state.chain.tail.run.clone(), last_at: state.chain.last_at, state: Mutex::new(state), hand }
    }

    /// Returns the run's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns what is known of a call, records of this process included.
    pub fn past(&self, call: &str) -> Past {
        self.state().chain.fold.past(call)
    }

    /// Returns how often a call was begun.
    pub fn attempts(&self, call: &str) -> u32 {
        self.state().chain.fold.attempts(call)
    }

    /// Returns the names of all calls that begin with `path`, in no order.
    pub fn calls_below(&self, path: &str) -> Vec<String> {
        self.state().chain.fold.calls_below(path)
    }

    /// Returns the calls that were begun and are not over, by name.
    pub fn open_calls(&self) -> Vec<String> {
        self.state().chain.fold.open_calls()
    }

    /// Returns who a name turned out to be at its first use in this run.
    pub fn target(&self, name: &str) -> Option<Value> {
        self.state().chain.fold.targets.get(name).cloned()
    }

    /// Returns who every name turned out to be that this run has used.
    pub fn targets(&self) -> BTreeMap<String, Value> {
        self.state().chain.fold.targets.iter().map(|(name, who)| (name.clone(), who.clone())).collect()
    }

    /// Returns what the run ends with, once that has been recorded.
    pub fn ending(&self) -> Option<Outcome> {
        self.state().chain.fold.ending.clone()
    }

    /// Returns where the run stands. A run whose process died reads `Running` until it is resumed.
    pub fn status(&self) -> Status {
        // A held run has its first record, and with it a status.
        self.state().chain.fold.status.unwrap_or(Status::Running)
    }

    /// Returns the hash of the last record that was added: 64 hex digits, of which 16 are enough to show.
    pub fn head(&self) -> String {
        self.state().chain.tail.hash.clone()
    }

    /// Returns the time of the last record that was on disk when the run was taken.
    pub fn last_at(&self) -> Moment {
        self.last_at
    }

    /// Returns the names of the calls that were about to take effect, in no order.
    pub fn begun_calls(&self) -> Vec<String> {
        self.state().chain.fold.begun()
    }

    /// Returns which of its texts the run goes on with: 0 is the first, others are edited ones.
    pub fn edition(&self) -> u32 {
        self.state().chain.fold.edition
    }

    /// Records that this process takes the run up: with the texts that it has, or with others, which are kept.
    ///
    /// # Errors
    /// As [`Run::append`].
    pub fn resume(&self, version: &str, edited: Option<Vec<Source>>) -> Result<(), Error> {
        let digest = edited.as_deref().map(chain::digest);
        let record = Record::Resumed { version: version.to_owned(), edited: edited.is_some(), digest };
        self.before_a_witness(record, |record| {
            let seq = {
                let mut state = self.state();
                self.sound(&state)?;
                let row = state.chain.add(record, self.hand.clock.now())?;
                state.pending.push(row);
                let newest = state.chain.fold.newest;
                state.edited = edited.map(|sources| (newest, sources));
                state.chain.tail.seq
            };
            self.write_up_to(seq)
        })
    }

    /// Adds a record.
    ///
    /// # Errors
    /// [`Error::Illegal`] when it does not fit where the run stands; [`Error::Failed`] when it (or, earlier,
    /// another record) could not be written.
    pub fn append(&self, record: Record, durability: Durability) -> Result<(), Error> {
        self.before_a_witness(record, |record| self.add(record, durability))
    }

    /// Adds a record, and tells whoever stands beside before and after.
    fn before_a_witness(
        &self,
        record: Record,
        add: impl FnOnce(Record) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let Some(witness) = &self.hand.witness else { return add(record) };
        witness.adding(&record);
        add(record.clone())?;
        witness.added(&record);
        Ok(())
    }

    fn add(&self, record: Record, durability: Durability) -> Result<(), Error> {
        let seq = {
            let mut state = self.state();
            self.sound(&state)?;
            let row = state.chain.add(record, self.hand.clock.now())?;
            state.pending.push(row);
            state.chain.tail.seq
        };
        match durability {
            Durability::Rides => Ok(()),
            Durability::Now => self.write_up_to(seq),
        }
    }

    /// Returns when every record that was added is on disk; at once when all of them are.
    ///
    /// # Errors
    /// [`Error::Failed`].
    pub fn flush(&self) -> Result<(), Error> {
        let last = self.state().chain.tail.seq;
        self.write_up_to(last)
    }

    /// Writes what is pending, unless another thread has written `seq` by the time it is this one's turn.
    fn write_up_to(&self, seq: u64) -> Result<(), Error> {
        if self.is_durable(seq)? {
            return Ok(());
        }
        // Poisoned: a thread panicked with a batch in its hands, and that batch is lost.
        let db = self.hand.writer.lock().map_err(|_| self.failed("a thread died while it wrote".into()))?;
        if self.is_durable(seq)? {
            return Ok(());
        }
        let batch = self.batch();
        let written = batch.write(&db, self.hand.ord);
        let mut state = self.state();
        match written {
            Ok(()) => {
                state.durable = batch.last;
                Ok(())
            }
            Err(why) => {
                // Never tried again: after a failed sync the system may call pages clean that never reached the disk.
                let why = schema::describe(&why);
                state.failed = Some(why.clone());
                Err(self.failed(why))
            }
        }
    }

    /// Returns everything that is pending.
    fn batch(&self) -> Batch {
        let mut state = self.state();
        let standing = state.chain.fold.standing();
        let changed = standing != state.kept;
        if changed {
            state.kept.clone_from(&standing);
        }
        let last = state.chain.tail.seq;
        let edited = state.edited.take();
        Batch {
            rows: std::mem::take(&mut state.pending),
            edited,
            standing: changed.then_some(standing),
            last,
        }
    }

    fn is_durable(&self, seq: u64) -> Result<bool, Error> {
        let state = self.state();
        self.sound(&state).map(|()| state.durable >= seq)
    }

    fn sound(&self, state: &State) -> Result<(), Error> {
        state.failed.clone().map_or(Ok(()), |why| Err(self.failed(why)))
    }

    fn failed(&self, why: String) -> Error {
        Error::Failed { run: self.id.clone(), why }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic happens between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Batch {
    fn write(&self, db: &Db, run: Ord) -> rusqlite::Result<()> {
        let all = db.change()?;
        for row in &self.rows {
            rows::insert(&all, run, row)?;
        }
        if let Some((edition, sources)) = &self.edited {
            rows::edit(&all, run, *edition, sources)?;
        }
        if let Some(standing) = &self.standing {
            rows::keep(&all, run, standing)?;
        }
        all.keep()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Stage, begin, end, ok};
    use super::*;

    /// Breaks a run's connection, adds to it, mends the connection, and adds again.
    fn break_and_mend(breaks: &str, mends: &str, says: &str) {
        let stage = Stage::new();
        let run = stage.run();
        run.append(begin("a"), Durability::Now).expect("written");
        run.append(end("r", ok(1)), Durability::Rides).expect("kept in memory");
        let sql =
            |sql: &str| run.hand.writer.lock().expect("not poisoned").raw().execute_batch(sql).expect("runs");
        sql(breaks);
        let big = ok("x".repeat(1 << 20));
        let first = run.append(end("a", big), Durability::Now).expect_err("cannot be written");
        assert!(matches!(&first, Error::Failed { why, .. } if why.contains(says)), "{first}");
        assert!(first.hint().is_some_and(|hint| hint.contains(run.id())));
        sql(mends);
        assert_eq!(run.append(begin("b"), Durability::Rides), Err(first.clone()));
        assert_eq!(run.append(begin("b"), Durability::Now), Err(first.clone()));
        assert_eq!(run.flush(), Err(first));
        let id = run.id().to_owned();
        drop(run);
        assert_eq!(stage.kinds(&id), ["started", "begin"], "nothing of the failed commit is there");
        let again = stage.journal.take(&id).expect("taken anew");
        assert!(matches!(again.past("a"), Past::Begun { .. }));
        again.append(end("a", ok(1)), Durability::Now).expect("writes again");
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
        let stage = Stage::new();
        let run = stage.run();
        let other = stage.other();
        let frames = || -> i64 {
            other.query_row("pragma wal_checkpoint(passive)", [], |row| row.get(1)).expect("asks")
        };
        let before = frames();
        other.execute_batch("begin immediate").expect("no other can write now");
        std::thread::scope(|threads| {
            for n in 0..8 {
                let run = &run;
                threads.spawn(move || run.append(begin(&n.to_string()), Durability::Now).expect("written"));
            }
            while run.state().chain.tail.seq < 9 {
                std::thread::yield_now();
            }
            other.execute_batch("rollback").expect("free again");
        });
        assert_eq!(stage.kinds(run.id()).len(), 9);
        // A commit writes one page at least; the first took what was there when its turn came.
        assert!(frames() - before < 8, "{} pages for 8 records", frames() - before);
    }

    #[test]
    fn a_writer_that_panicked_ends_all_writing() {
        let stage = Stage::new();
        let run = stage.run();
        std::thread::scope(|threads| {
            let died = threads.spawn(|| {
                let _held = run.hand.writer.lock();
                panic!("in the middle of a write");
            });
            assert!(died.join().is_err());
        });
        assert!(matches!(run.append(begin("a"), Durability::Now), Err(Error::Failed { .. })));
    }
}
