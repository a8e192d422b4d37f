//! One run, held: what is known of its calls, and the only way to add to it.
//!
//! Records are numbered and hashed under the lock of `state`, in the order in which they were added, and written
//! under the lock of `writer`. Whoever writes takes along all that has been added, so threads that add at the
//! same time share one commit.

use super::{
    Durability, Error, NewRun, Outcome, Past, Record, Status,
    chain::{Chain, Row, Tail, digest},
    fold::Fold,
    lock::Lock,
    schema,
};
use crate::base::{clock::Clock, moment::Moment};
use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use serde_json::Value;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One run, held by this process until this is dropped.
pub struct Run {
    id: String,
    ord: i64,
    clock: Arc<dyn Clock>,
    last_at: Moment,
    state: Mutex<State>,
    writer: Mutex<Connection>,
    // Last: the connection is closed before another process may take the run.
    _lock: Lock,
}

struct State {
    fold: Fold,
    tail: Tail,
    /// Added and not yet on disk.
    pending: Vec<Row>,
    /// The last record that is on disk.
    durable: u64,
    /// The status and reason that the store keeps for lists.
    kept: (Option<Status>, Option<String>),
    /// Why nothing can be written any more.
    failed: Option<String>,
}

/// What one commit writes.
struct Batch {
    rows: Vec<Row>,
    /// The status and reason, when the store keeps others.
    standing: Option<(Option<Status>, Option<String>)>,
}

impl Run {
    /// Makes a run in the store: its sources and its first record, in one commit.
    pub(super) fn start(
        mut db: Connection,
        id: String,
        new: &NewRun,
        clock: Arc<dyn Clock>,
        lock: Lock,
    ) -> Result<Run, Error> {
        let failed = |why: &dyn ToString| Error::Failed { run: id.clone(), why: why.to_string() };
        let record = Record::Started {
            runbook: new.runbook.clone(),
            title: new.title.clone(),
            digest: digest(&new.sources),
            params: new.params.clone(),
            version: new.version.clone(),
            git: new.git.clone(),
        };
        let body = record.canonical().map_err(|e| failed(&e))?;
        let now = clock.now();
        let mut chain = Chain::of(&id);
        chain.fold.add(record).map_err(|why| Error::Illegal { run: id.clone(), why })?;
        let row = chain.tail.add(now, chain.fold.calls(), body);
        let ord = insert_run(&mut db, &id, new, &row).map_err(|e| failed(&schema::describe(&e)))?;
        chain.last_at = now;
        Ok(Run::resume(db, ord, id, chain, clock, lock))
    }

    /// Returns the run whose chain was followed to its end.
    pub(super) fn resume(
        db: Connection,
        ord: i64,
        id: String,
        chain: Chain,
        clock: Arc<dyn Clock>,
        lock: Lock,
    ) -> Run {
        let Chain { tail, fold, last_at, .. } = chain;
        let kept = (fold.status, fold.reason.clone());
        let state = State { pending: Vec::new(), durable: tail.seq, kept, failed: None, fold, tail };
        Run { id, ord, clock, last_at, state: Mutex::new(state), writer: Mutex::new(db), _lock: lock }
    }

    /// Returns the run's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns what is known of a call, records of this process included.
    pub fn past(&self, call: &str) -> Past {
        self.state().fold.past(call)
    }

    /// Returns how often a call was begun.
    pub fn attempts(&self, call: &str) -> u32 {
        self.state().fold.attempts(call)
    }

    /// Returns who a name turned out to be at its first use in this run.
    pub fn target(&self, name: &str) -> Option<Value> {
        self.state().fold.targets.get(name).cloned()
    }

    /// Returns what the run ends with, once that has been recorded.
    pub fn ending(&self) -> Option<Outcome> {
        self.state().fold.ending.clone()
    }

    /// Returns where the run stands. A run whose process died reads `Running` until it is resumed.
    pub fn status(&self) -> Status {
        // A held run has its first record, and with it a status.
        self.state().fold.status.unwrap_or(Status::Running)
    }

    /// Returns the hash of the last record that was added: 64 hex digits, of which 16 are enough to show.
    pub fn head(&self) -> String {
        self.state().tail.hash.clone()
    }

    /// Returns the time of the last record that was on disk when the run was taken.
    pub fn last_at(&self) -> Moment {
        self.last_at
    }

    /// Adds a record.
    ///
    /// # Errors
    /// [`Error::Illegal`] when it does not fit where the run stands; [`Error::Failed`] when it (or, earlier,
    /// another record) could not be written.
    pub fn append(&self, record: Record, durability: Durability) -> Result<(), Error> {
        let seq = {
            let mut state = self.state();
            self.sound(&state)?;
            let body = record.canonical().map_err(|e| self.failed(e.to_string()))?;
            state.fold.add(record).map_err(|why| Error::Illegal { run: self.id.clone(), why })?;
            let calls = state.fold.calls();
            let row = state.tail.add(self.clock.now(), calls, body);
            state.pending.push(row);
            state.tail.seq
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
        let last = self.state().tail.seq;
        self.write_up_to(last)
    }

    /// Writes what is pending, unless another thread has written `seq` by the time it is this one's turn.
    fn write_up_to(&self, seq: u64) -> Result<(), Error> {
        if self.is_durable(seq)? {
            return Ok(());
        }
        // Poisoned: a thread panicked with a batch in its hands, and that batch is lost.
        let mut db = self.writer.lock().map_err(|_| self.failed("a thread died while it wrote".into()))?;
        if self.is_durable(seq)? {
            return Ok(());
        }
        let (batch, last) = self.batch();
        let written = batch.write(&mut db, self.ord);
        let mut state = self.state();
        match written {
            Ok(()) => {
                state.durable = last;
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

    /// Returns everything that is pending, and the number of its last record.
    fn batch(&self) -> (Batch, u64) {
        let mut state = self.state();
        let standing = (state.fold.status, state.fold.reason.clone());
        let changed = standing != state.kept;
        if changed {
            state.kept.clone_from(&standing);
        }
        let rows = std::mem::take(&mut state.pending);
        (Batch { rows, standing: changed.then_some(standing) }, state.tail.seq)
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
    fn write(&self, db: &mut Connection, run: i64) -> rusqlite::Result<()> {
        let all = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for row in &self.rows {
            insert(&all, run, row)?;
        }
        if let Some((status, reason)) = &self.standing {
            all.prepare_cached("update runs set status = ?2, reason = ?3 where ord = ?1")?
                .execute(params![run, status.map(Status::as_str), reason])?;
        }
        all.commit()
    }
}

fn insert_run(db: &mut Connection, id: &str, new: &NewRun, first: &Row) -> rusqlite::Result<i64> {
    let all = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    all.execute("insert into runs (id, status) values (?1, ?2)", params![id, Status::Running.as_str()])?;
    let run = all.last_insert_rowid();
    for (ord, source) in (0_i64..).zip(&new.sources) {
        all.prepare_cached("insert into sources (run, ord, path, text) values (?1, ?2, ?3, ?4)")?
            .execute(params![run, ord, source.path, source.text])?;
    }
    insert(&all, run, first)?;
    all.commit()?;
    Ok(run)
}

fn insert(all: &Transaction<'_>, run: i64, row: &Row) -> rusqlite::Result<()> {
    all.prepare_cached(
        "insert into records (run, seq, at, calls, body, hash) values (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![run, row.seq.cast_signed(), row.at, row.calls.cast_signed(), row.body, row.hash])
    .map(drop)
}
