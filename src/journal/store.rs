//! The journal of a state folder: opens it, and finds, takes, reads and verifies runs.

use super::{
    Error, Holder, JournalEntry, Record, Run, RunStatus, RunSummary, Source, Tombstone, VerifiedChain,
    chain::{self, Chain, RecordRow},
    holder::LockNote,
    lock::{self, RunLock},
    place::{StateFolderConsent, list_runs_with_traces},
    record_queue::{RecordObserver, RunWriter},
    rows::{self, RunRow, RunRowId},
    schema,
};
use crate::base::lock::lock_unpoisoned;
use crate::base::{
    clock::Clock,
    former_name,
    moment::Moment,
    sqlite::{Db, DbPool, PooledDb},
    suggest,
};
use rusqlite::{Connection, OptionalExtension as _};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock},
};

/// The reason that a summary gives for a run whose process is gone.
const PROCESS_GONE: &str = "the process that ran it is gone";
/// Why a run is interrupted whose process may be alive where the state folder acts.
const PROCESS_ELSEWHERE: &str =
    "no process runs it here; whether one does where the state folder acts is not known";

/// The journal of one state folder.
pub struct Journal {
    pub(super) state: PathBuf,
    pub(super) clock: Arc<dyn Clock>,
    db: Arc<Mutex<PooledDb>>,
    /// The connection for what need not survive a power cut, once something is written with it.
    pub(super) unsynced: Mutex<Option<Arc<Mutex<PooledDb>>>>,
    /// The observer of an in-memory journal; `None` for one on disk.
    pub(super) observer: Option<Arc<dyn RecordObserver>>,
    pub(super) consent: StateFolderConsent,
    /// Set once it is known that a command may act here.
    pub(super) admitted: OnceLock<()>,
}

impl Journal {
    /// Opens the journal of a state folder, making both where they are missing.
    ///
    /// # Errors
    /// [`Error::NotWritable`], [`Error::NewerSchema`], [`Error::Unreadable`].
    pub fn open(state: &Path, clock: Arc<dyn Clock>) -> Result<Journal, Error> {
        Self::open_with_consent(state, clock, StateFolderConsent::default())
    }

    /// Opens the journal as [`Journal::open`] does, for somebody who has consented to something about the state folder.
    ///
    /// # Errors
    /// As [`Journal::open`], and [`Error::JournalGone`].
    pub fn open_with_consent(
        state: &Path,
        clock: Arc<dyn Clock>,
        consent: StateFolderConsent,
    ) -> Result<Journal, Error> {
        if let Some(gone) = find_lost_journal(state)?.filter(|_| !consent.allows_rolled_back()) {
            return Err(gone);
        }
        let db = share_connection(schema::open_or_create_journal(state)?);
        Ok(Self::on_disk(state, clock, db, consent))
    }

    /// Opens the journal of a state folder if there is one.
    ///
    /// # Errors
    /// As [`Journal::open_with_consent`].
    pub fn open_if_exists(
        state: &Path,
        clock: Arc<dyn Clock>,
        consent: StateFolderConsent,
    ) -> Result<Option<Journal>, Error> {
        if find_lost_journal(state)?.is_some() {
            let journal = Self::open_with_consent(state, clock, consent)?;
            // The runs that the lost one had are settled now, or the next command would miss them again.
            journal.check_or_adopt_place()?;
            return Ok(Some(journal));
        }
        if !schema::journal_path(state).exists() {
            return Ok(None);
        }
        let db = share_connection(schema::open_existing_connection(state)?);
        Ok(Some(Self::on_disk(state, clock, db, consent)))
    }

    fn on_disk(
        state: &Path,
        clock: Arc<dyn Clock>,
        db: Arc<Mutex<PooledDb>>,
        consent: StateFolderConsent,
    ) -> Journal {
        let (unsynced, admitted) = (Mutex::default(), OnceLock::new());
        Journal { state: state.into(), clock, db, unsynced, observer: None, consent, admitted }
    }

    /// Makes a journal in memory, for rehearsals. It keeps what a journal on disk keeps, loses what that would lose when
    /// a process dies, and has no locks. Its connection comes from the pool `idle` and goes back to it.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn open_in_memory(
        clock: Arc<dyn Clock>,
        observer: Arc<dyn RecordObserver>,
        idle: &Arc<DbPool>,
    ) -> Result<Journal, Error> {
        let state = PathBuf::new();
        let db = PooledDb::from_pool(idle, schema::open_in_memory)
            .map_err(|e| schema::to_journal_error(&state, &e))?;
        let db = Arc::new(Mutex::new(db));
        let (consent, admitted) = (StateFolderConsent::default(), OnceLock::new());
        let unsynced = Mutex::new(Some(Arc::clone(&db)));
        Ok(Journal { state, clock, db, unsynced, observer: Some(observer), consent, admitted })
    }

    /// Asks the process that holds a run to stop.
    ///
    /// # Errors
    /// [`Error::NotWritable`], [`Error::Unreadable`].
    pub fn request_stop(&self, id: &str, by: &str) -> Result<(), Error> {
        self.check_or_adopt_place()?;
        self.with_db(|db| rows::insert_stop_request(db, id, by, self.clock.now()))
    }

    /// Returns who asked the process that holds a run to stop.
    ///
    /// # Errors
    /// [`Error::Unreadable`].
    pub fn find_stop_requester(&self, id: &str) -> Result<Option<String>, Error> {
        self.with_db(|db| rows::select_stop_requester(db, id))
    }

    /// Returns whether a process holds a run.
    pub fn is_run_held(&self, id: &str) -> bool {
        lock::is_run_held(&self.state, id)
    }

    /// Returns the process that holds a run, where one does and has said who it is.
    pub fn find_holder(&self, id: &str) -> Option<Holder> {
        LockNote::read(&lock::lock_path(&self.state, id))
            .map(|note| note.holder)
            .filter(|_| self.is_run_held(id))
    }

    /// Returns the full id for `last` or the beginning of an id.
    ///
    /// # Errors
    /// [`Error::NoSuchRun`], [`Error::Ambiguous`].
    pub fn resolve_run_id(&self, given: &str) -> Result<String, Error> {
        let ids = self.with_db(rows::select_run_ids)?;
        let wanted = given.trim().to_ascii_lowercase();
        let mut found: Vec<String> = match wanted.as_str() {
            "last" => ids.iter().take(1).cloned().collect(),
            "" => Vec::new(),
            prefix => ids.iter().filter(|id| id.starts_with(prefix)).cloned().collect(),
        };
        match found.len() {
            0 => Err(self
                .find_tombstone(&wanted)?
                .map_or_else(|| no_such_run_error(given, &ids), |tombstone| pruned_error(&tombstone))),
            1 => Ok(found.remove(0)),
            _ => Err(Error::Ambiguous { given: given.into(), candidates: found }),
        }
    }

    /// Returns the tombstone of a run, if it was removed.
    ///
    /// # Errors
    /// [`Error::Unreadable`].
    pub fn find_tombstone(&self, id: &str) -> Result<Option<Tombstone>, Error> {
        let found = rows::select_tombstone(&self.lock_db(), id).optional();
        found.map_err(|e| schema::to_journal_error(&self.state, &e))
    }

    /// Takes a run, so that no other process can hold it, and checks every record of it.
    ///
    /// # Errors
    /// [`Error::NoSuchRun`], [`Error::Held`], [`Error::HeldByUnknown`], [`Error::Broken`], [`Error::FormerVersion`].
    pub fn acquire_run(&self, id: &str) -> Result<Run, Error> {
        let id = self.require_run(id)?;
        self.check_or_adopt_place()?;
        let lock = self.lock_run(&id, self.clock.now())?;
        let writer = self.open_run_connection()?;
        let (row_id, chain) = self.replay_chain(&lock_shared_db(&writer), &id, |_| {})?;
        if former_name::is_former_version(&chain.version)
            && chain.fold.status.is_some_and(|status| !status.is_final())
        {
            return Err(Error::FormerVersion { run: id, version: chain.version });
        }
        if let Some(lock) = &lock {
            // A state from before there were numbers has none.
            lock.write_synced_number(chain.tail.seq);
        }
        // The process that was asked to stop, and was at its things, is gone.
        self.with_db(|db| rows::delete_stop_request(db, &id))?;
        self.release_all_claims(&id)?;
        Ok(Run::from_chain(self.build_run_writer(writer, row_id, lock), chain))
    }

    /// Returns every run, newest first, also one whose records do not read.
    ///
    /// # Errors
    /// [`Error::Unreadable`].
    pub fn list_runs(&self) -> Result<Vec<RunSummary>, Error> {
        self.read_run_rows(None)?.into_iter().map(|row| self.summarize_row(row)).collect()
    }

    /// Returns the summary of a run.
    ///
    /// # Errors
    /// [`Error::NoSuchRun`], [`Error::Unreadable`].
    pub fn summarize_run(&self, id: &str) -> Result<RunSummary, Error> {
        self.read_run_rows(Some(id))?
            .pop()
            .map_or_else(|| Err(no_such_run_error(id, &[])), |row| self.summarize_row(row))
    }

    /// Returns every record of a run that is on disk, in order.
    ///
    /// # Errors
    /// [`Error::NoSuchRun`], [`Error::Unreadable`], [`Error::Broken`].
    pub fn read_records(&self, id: &str) -> Result<Vec<JournalEntry>, Error> {
        let id = self.require_run(id)?;
        let rows = self.with_db(|db| {
            let mut all = Vec::new();
            rows::for_each_record(db, rows::select_row_id(db, &id)?, |row| all.push(row)).map(|()| all)
        })?;
        rows.iter().map(|row| chain::decode_entry(&id, row)).collect()
    }

    /// Returns the records of a run up to the first that is not what was written, and what is wrong with that.
    ///
    /// # Errors
    /// [`Error::NoSuchRun`], [`Error::Unreadable`].
    pub fn read_intact_records(&self, id: &str) -> Result<(Vec<JournalEntry>, Option<Error>), Error> {
        let id = self.require_run(id)?;
        let mut chain = Chain::empty_for_run(&id);
        let (mut intact, mut wrong) = (Vec::new(), None);
        self.with_db(|db| {
            rows::for_each_record(db, rows::select_row_id(db, &id)?, |row| {
                if wrong.is_none() {
                    match chain.replay_row(&row).and_then(|()| chain::decode_entry(&id, &row)) {
                        Ok(entry) => intact.push(entry),
                        Err(why) => wrong = Some(why),
                    }
                }
            })
        })?;
        Ok((intact, wrong))
    }

    /// Returns the sources of an edition of a run, in the order in which they were given; 0 is the first edition.
    ///
    /// # Errors
    /// [`Error::NoSuchRun`], [`Error::Unreadable`].
    pub fn read_sources(&self, id: &str, edition: u32) -> Result<Vec<Source>, Error> {
        let id = self.require_run(id)?;
        self.with_db(|db| rows::select_sources(db, rows::select_row_id(db, &id)?, edition))
    }

    /// Checks that a run is what was written: no record changed, missing or moved, and, given a head, that this head is
    /// in the chain. A run may have gone on since the head was printed.
    ///
    /// # Errors
    /// [`Error::Broken`] with the first wrong record, [`Error::NoSuchRun`], [`Error::InvalidHead`].
    pub fn verify_run(&self, id: &str, head: Option<&str>) -> Result<VerifiedChain, Error> {
        let id = self.require_run(id)?;
        let mut seen = head.map(|head| chain::matches_head_prefix("", head)).transpose()?.is_none();
        let db = self.lock_db();
        let (_, chain) = self.replay_chain(&db, &id, |hash| {
            seen = seen || head.is_some_and(|head| chain::matches_head_prefix(hash, head) == Ok(true));
        })?;
        if !seen {
            let what = "the records that led to the known head are missing";
            return Err(chain.tail.broken_error_at(chain.tail.seq + 1, what));
        }
        Ok(VerifiedChain { records: chain.tail.seq, head: chain.tail.hash })
    }

    /// Replays a run's chain and checks what is stored beside it, in one read transaction.
    pub(super) fn replay_chain(
        &self,
        db: &Db,
        id: &str,
        mut on_hash: impl FnMut(&str),
    ) -> Result<(RunRowId, Chain), Error> {
        let at = |e: rusqlite::Error| schema::to_journal_error(&self.state, &e);
        let view = db.begin_read().map_err(at)?;
        let row_id = rows::select_row_id(&view, id)
            .optional()
            .map_err(at)?
            .ok_or_else(|| no_such_run_error(id, &[]))?;
        let mut chain = Chain::empty_for_run(id);
        let mut wrong = Ok(());
        rows::for_each_record(&view, row_id, |row| {
            if wrong.is_ok() {
                wrong = chain.replay_row(&row);
                on_hash(&row.hash);
            }
        })
        .map_err(at)?;
        wrong?;
        let status = rows::select_status(&view, row_id).map_err(at)?;
        let editions =
            (0..=chain.fold.editions.newest).map(|edition| rows::select_sources(&view, row_id, edition));
        chain.check_sources_and_status(&editions.collect::<Result<Vec<_>, _>>().map_err(at)?, &status)?;
        Ok((row_id, chain))
    }

    /// Returns `id` if there is such a run.
    pub(super) fn require_run(&self, id: &str) -> Result<String, Error> {
        let found = self.with_db(|db| rows::select_row_id(db, id).optional())?;
        found.map(|_| id.to_owned()).ok_or_else(|| no_such_run_error(id, &[]))
    }

    /// Takes the lock of a run; a journal in memory has none.
    pub(super) fn lock_run(&self, id: &str, now: Moment) -> Result<Option<RunLock>, Error> {
        match self.observer {
            Some(_) => Ok(None),
            None => lock::acquire_lock(&self.state, id, now).map(Some),
        }
    }

    /// Returns a connection for one run: a new one, or, to a journal in memory, the only one.
    pub(super) fn open_run_connection(&self) -> Result<Arc<Mutex<PooledDb>>, Error> {
        match self.observer {
            Some(_) => Ok(Arc::clone(&self.db)),
            None => Ok(share_connection(schema::open_existing_connection(&self.state)?)),
        }
    }

    pub(super) fn build_run_writer(
        &self,
        db: Arc<Mutex<PooledDb>>,
        row_id: RunRowId,
        lock: Option<RunLock>,
    ) -> RunWriter {
        RunWriter { db, row_id, clock: Arc::clone(&self.clock), observer: self.observer.clone(), lock }
    }

    pub(super) fn lock_db(&self) -> MutexGuard<'_, PooledDb> {
        lock_shared_db(&self.db)
    }

    pub(super) fn with_db<T>(&self, read: impl FnOnce(&Db) -> rusqlite::Result<T>) -> Result<T, Error> {
        read(&self.lock_db()).map_err(|e| schema::to_journal_error(&self.state, &e))
    }

    fn read_run_rows(&self, id: Option<&str>) -> Result<Vec<RunRow>, Error> {
        self.with_db(|db| rows::select_run_rows(db, id))
    }

    /// Returns the summary of a row; a `running` run that no process holds reads `interrupted`.
    fn summarize_row(&self, row: RunRow) -> Result<RunSummary, Error> {
        let dead =
            |g: &RunRow| g.status == RunStatus::Running.as_str() && !lock::is_run_held(&self.state, &g.id);
        if !dead(&row) {
            return Ok(to_summary(row));
        }
        // It may have ended between reading the store and testing the lock: read again.
        let mut again = self.read_run_rows(Some(&row.id))?.pop().unwrap_or(row);
        if dead(&again) {
            again.status = RunStatus::Interrupted.as_str().into();
            let why = if self.may_act_elsewhere() { PROCESS_ELSEWHERE } else { PROCESS_GONE };
            again.reason = Some(why.into());
        }
        Ok(to_summary(again))
    }
}

/// Returns the error of a folder that had runs and whose journal is gone, if it is one: no new journal takes the place
/// of that one without a word.
fn find_lost_journal(state: &Path) -> Result<Option<Error>, Error> {
    if !schema::is_journal_empty(state)? {
        return Ok(None);
    }
    let runs: Vec<String> = list_runs_with_traces(state)?.into_iter().collect();
    let path = schema::journal_path(state);
    Ok((!runs.is_empty()).then_some(Error::JournalGone { path, runs }))
}

pub(super) fn share_connection(db: Connection) -> Arc<Mutex<PooledDb>> {
    Arc::new(Mutex::new(PooledDb::from_owned(Db::new(db))))
}

pub(super) fn lock_shared_db(db: &Mutex<PooledDb>) -> MutexGuard<'_, PooledDb> {
    // A panic elsewhere leaves a connection usable: an open transaction was rolled back as it unwound.
    lock_unpoisoned(db)
}

/// Returns the summary that a row holds, or says of one that does not read why.
fn to_summary(row: RunRow) -> RunSummary {
    decode_summary(&row).unwrap_or_else(|why| {
        let at = |row: &RecordRow| Moment::parse(&row.at).unwrap_or(Moment(jiff::Timestamp::UNIX_EPOCH));
        let (runbook, title) = match chain::decode_entry(&row.id, &row.first) {
            Ok(JournalEntry { record: Record::Started { runbook, title, .. }, .. }) => (runbook, title),
            _ => (UNREADABLE.into(), UNREADABLE.into()),
        };
        // Whatever is kept beside it, nobody knows how it stands, unless it was given up as it is.
        let (status, left_behind) = match chain::decode_entry(&row.id, &row.last) {
            Ok(JournalEntry { record: Record::Finished { status, left_behind, .. }, .. }) => {
                (status, left_behind)
            }
            _ => (RunStatus::Interrupted, Vec::new()),
        };
        RunSummary {
            runbook,
            title,
            status,
            reason: Some(why.to_string()),
            error: None,
            started_at: at(&row.first),
            finished_at: status.is_final().then(|| at(&row.last)),
            last_at: at(&row.last),
            calls: row.last.calls,
            left_behind,
            params: Value::Null,
            version: String::new(),
            id: row.id,
        }
    })
}

/// What stands for the runbook of a run whose records do not read.
const UNREADABLE: &str = "(cannot be read)";

fn decode_summary(row: &RunRow) -> Result<RunSummary, Error> {
    let RunRow { id, status, reason, first, last } = row.clone();
    let calls = last.calls;
    let (first, last) = (chain::decode_entry(&id, &first)?, chain::decode_entry(&id, &last)?);
    let broken = |what: &str| Error::Broken { run: id.clone(), seq: 1, what: what.into(), is_linked: false };
    let Record::Started { runbook, title, params, version, .. } = first.record else {
        return Err(broken("it does not start the run"));
    };
    let status: RunStatus =
        serde_json::from_value(status.into()).map_err(|_| broken("the status kept beside it is none"))?;
    let (finished_at, error, left_behind) = match last.record {
        Record::Finished { error, left_behind, .. } => (Some(last.at), error, left_behind),
        _ => (None, None, Vec::new()),
    };
    let (started_at, last_at) = (first.at, last.at);
    let reason = if !status.is_final() && former_name::is_former_version(&version) {
        Some(former_name::explain_former_run_refusal(&version))
    } else {
        reason
    };
    Ok(RunSummary {
        id,
        runbook,
        title,
        status,
        reason,
        error,
        started_at,
        finished_at,
        last_at,
        calls,
        left_behind,
        params,
        version,
    })
}

fn pruned_error(tombstone: &Tombstone) -> Error {
    let Tombstone { run, status, pruned_at, .. } = tombstone;
    let end = if status.is_final() { format!("ended as {status}") } else { "was broken".to_owned() };
    Error::NoSuchRun { given: run.clone(), hint: format!("it {end} and was pruned at {pruned_at}") }
}

fn no_such_run_error(given: &str, ids: &[String]) -> Error {
    let hint = suggest::nearest_name(given, ids.iter().map(String::as_str)).map_or_else(
        || "`redrill runs list` shows what there is".into(),
        |id| format!("did you mean `{id}`?"),
    );
    Error::NoSuchRun { given: given.into(), hint }
}
