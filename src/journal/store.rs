//! The journal of a state folder: making runs, finding them, looking at them.

use super::{
    Entry, Error, Holder, NewRun, Record, Run, Source, Status, Summary, Tombstone, Verified,
    chain::{self, Chain},
    lock::{self, Lock},
    rows::{self, Glance, Ord},
    run::{Hand, Witness},
    schema,
};
use crate::base::{
    clock::Clock,
    former_name,
    moment::Moment,
    sqlite::{Db, Idle, Loan},
    suggest,
};
use rusqlite::{Connection, OptionalExtension as _};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What a summary says of a run whose process is gone.
const GONE: &str = "the process that ran it is gone";

/// The journal of one state folder.
pub struct Journal {
    pub(super) state: PathBuf,
    pub(super) clock: Arc<dyn Clock>,
    db: Arc<Mutex<Loan>>,
    /// Whoever stands beside a journal that is in memory only; one that is on disk has no such company.
    scratch: Option<Arc<dyn Witness>>,
}

impl Journal {
    /// Opens the journal of a state folder, making both where they are missing.
    ///
    /// # Errors
    /// [`Error::NotWritable`], [`Error::Newer`], [`Error::Unreadable`].
    pub fn open(state: &Path, clock: Arc<dyn Clock>) -> Result<Journal, Error> {
        Ok(Journal { state: state.into(), clock, db: shared(schema::make(state)?), scratch: None })
    }

    /// Opens the journal of a state folder for those who only look; nothing where there is none.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn peek(state: &Path, clock: Arc<dyn Clock>) -> Result<Option<Journal>, Error> {
        if !schema::file(state).exists() {
            return Ok(None);
        }
        let db = shared(schema::open(state)?);
        Ok(Some(Journal { state: state.into(), clock, db, scratch: None }))
    }

    /// Makes a journal in memory, which goes with it. It keeps what another does, loses what another would lose when a
    /// process dies, and has no locks: for rehearsals, where thousands of runs are killed in thought only.
    ///
    /// # Errors
    /// As [`Journal::open`].
    ///
    /// Its connection is one of the `idle`, and waits among them for the next.
    pub fn scratch(
        clock: Arc<dyn Clock>,
        witness: Arc<dyn Witness>,
        idle: &Arc<Idle>,
    ) -> Result<Journal, Error> {
        let state = PathBuf::new();
        let db = Loan::of(idle, schema::in_memory).map_err(|e| schema::trouble(&state, &e))?;
        let db = Arc::new(Mutex::new(db));
        Ok(Journal { state, clock, db, scratch: Some(witness) })
    }

    /// Makes a new run and holds it. Its first record is on disk when this returns.
    ///
    /// # Errors
    /// [`Error::Leased`], [`Error::NotWritable`], [`Error::Unreadable`], [`Error::Illegal`]. There is no such run then.
    pub fn create(&self, new: &NewRun) -> Result<Run, Error> {
        self.create_as(&new_id(&self.state)?, new)
    }

    /// Makes a new run under an id that nobody else has, and holds it.
    ///
    /// # Errors
    /// As [`Journal::create`].
    pub fn create_as(&self, id: &str, new: &NewRun) -> Result<Run, Error> {
        let now = self.clock.now();
        let lock = self.lock(id, now)?;
        // A lease of a run that does not come to be gives way like that of any other that nobody holds.
        self.lease(&new.leases, id, &Holder::this_process())?;
        let started = Record::Started {
            runbook: new.runbook.clone(),
            title: new.title.clone(),
            digest: chain::digest(&new.sources),
            params: new.params.clone(),
            version: new.version.clone(),
            git: new.git.clone(),
        };
        let mut chain = Chain::of(id);
        let first = chain.add(started, now)?;
        let writer = self.connect()?;
        let ord = rows::insert_run(&locked(&writer), new, id, &first);
        let ord = ord.map_err(|e| schema::trouble(&self.state, &e))?;
        Ok(Run::hold(self.hand(writer, ord, lock), chain))
    }

    /// Asks the process that moves a run to stop.
    ///
    /// # Errors
    /// [`Error::NotWritable`], [`Error::Unreadable`].
    pub fn ask_to_stop(&self, id: &str, by: &str) -> Result<(), Error> {
        self.read(|db| rows::request(db, id, by, self.clock.now()))
    }

    /// Returns who asks the process that moves a run to stop.
    ///
    /// # Errors
    /// [`Error::Unreadable`].
    pub fn asked_to_stop(&self, id: &str) -> Result<Option<String>, Error> {
        self.read(|db| rows::requested(db, id))
    }

    /// Returns whether a process moves a run.
    pub fn is_moved(&self, id: &str) -> bool {
        lock::is_taken(&self.state, id)
    }

    /// Returns the full id for `last` or the beginning of an id.
    ///
    /// # Errors
    /// [`Error::NoSuchRun`], [`Error::Ambiguous`].
    pub fn resolve(&self, given: &str) -> Result<String, Error> {
        let ids = self.read(rows::ids)?;
        let wanted = given.trim().to_ascii_lowercase();
        let mut found: Vec<String> = match wanted.as_str() {
            "last" => ids.iter().take(1).cloned().collect(),
            "" => Vec::new(),
            prefix => ids.iter().filter(|id| id.starts_with(prefix)).cloned().collect(),
        };
        match found.len() {
            0 => Err(self.tombstone(&wanted)?.map_or_else(|| no_such_run(given, &ids), |s| pruned(&s))),
            1 => Ok(found.remove(0)),
            _ => Err(Error::Ambiguous { given: given.into(), candidates: found }),
        }
    }

    /// Takes a run, so that no other process can move it, and checks every record of it.
    ///
    /// # Errors
    /// [`Error::NoSuchRun`], [`Error::Held`], [`Error::Taken`], [`Error::Broken`], [`Error::Former`].
    pub fn take(&self, id: &str) -> Result<Run, Error> {
        let id = self.known(id)?;
        let lock = self.lock(&id, self.clock.now())?;
        let writer = self.connect()?;
        let (ord, chain) = self.examine(&locked(&writer), &id, |_| {})?;
        if former_name::has_begun(&chain.version)
            && chain.fold.status.is_some_and(|status| !status.is_final())
        {
            return Err(Error::Former { run: id, version: chain.version });
        }
        // Whoever was asked to stop has.
        self.read(|db| rows::forget_request(db, &id))?;
        Ok(Run::hold(self.hand(writer, ord, lock), chain))
    }

    /// Returns every run, newest first.
    ///
    /// # Errors
    /// [`Error::Unreadable`], [`Error::Broken`].
    pub fn runs(&self) -> Result<Vec<Summary>, Error> {
        self.glances(None)?.into_iter().map(|glance| self.settled(glance)).collect()
    }

    /// Returns a run at a glance.
    ///
    /// # Errors
    /// [`Error::NoSuchRun`], [`Error::Unreadable`], [`Error::Broken`].
    pub fn summary(&self, id: &str) -> Result<Summary, Error> {
        self.glances(Some(id))?.pop().map_or_else(|| Err(no_such_run(id, &[])), |glance| self.settled(glance))
    }

    /// Returns every record of a run that is on disk, in order.
    ///
    /// # Errors
    /// [`Error::NoSuchRun`], [`Error::Unreadable`], [`Error::Broken`].
    pub fn records(&self, id: &str) -> Result<Vec<Entry>, Error> {
        let id = self.known(id)?;
        let rows = self.read(|db| {
            let mut all = Vec::new();
            rows::each(db, rows::ord(db, &id)?, |row| all.push(row)).map(|()| all)
        })?;
        rows.iter().map(|row| chain::entry(&id, row)).collect()
    }

    /// Returns the texts that an edition of a run is made of, in the order in which they were given; 0 is the first.
    ///
    /// # Errors
    /// [`Error::NoSuchRun`], [`Error::Unreadable`].
    pub fn sources(&self, id: &str, edition: u32) -> Result<Vec<Source>, Error> {
        let id = self.known(id)?;
        self.read(|db| rows::sources(db, rows::ord(db, &id)?, edition))
    }

    /// Checks that a run is what was written: no record changed, missing or moved, and where a head is known that
    /// it is still there. A run may have gone on since that head was printed.
    ///
    /// # Errors
    /// [`Error::Broken`] with the first record that is not right, [`Error::NoSuchRun`], [`Error::NotAHead`].
    pub fn verify(&self, id: &str, head: Option<&str>) -> Result<Verified, Error> {
        let id = self.known(id)?;
        let mut seen = head.map(|head| chain::is_head("", head)).transpose()?.is_none();
        let db = self.db();
        let (_, chain) = self.examine(&db, &id, |hash| {
            seen = seen || head.is_some_and(|head| chain::is_head(hash, head) == Ok(true));
        })?;
        if !seen {
            let what = "the records that led to the known head are missing";
            return Err(chain.tail.broken(chain.tail.seq + 1, what));
        }
        Ok(Verified { records: chain.tail.seq, head: chain.tail.hash })
    }

    /// Follows a run's chain and checks what is kept beside it, in one view of the store.
    fn examine(&self, db: &Db, id: &str, mut seen: impl FnMut(&str)) -> Result<(Ord, Chain), Error> {
        let at = |e: rusqlite::Error| schema::trouble(&self.state, &e);
        let view = db.view().map_err(at)?;
        let ord = rows::ord(&view, id).optional().map_err(at)?.ok_or_else(|| no_such_run(id, &[]))?;
        let mut chain = Chain::of(id);
        let mut wrong = Ok(());
        rows::each(&view, ord, |row| {
            if wrong.is_ok() {
                wrong = chain.follow(&row);
                seen(&row.hash);
            }
        })
        .map_err(at)?;
        wrong?;
        let status = rows::status(&view, ord).map_err(at)?;
        let editions = (0..=chain.fold.newest).map(|edition| rows::sources(&view, ord, edition));
        chain.agree(&editions.collect::<Result<Vec<_>, _>>().map_err(at)?, &status)?;
        Ok((ord, chain))
    }

    /// Returns the id, if there is such a run.
    fn known(&self, id: &str) -> Result<String, Error> {
        let found = self.read(|db| rows::ord(db, id).optional())?;
        found.map(|_| id.to_owned()).ok_or_else(|| no_such_run(id, &[]))
    }

    /// Takes the lock of a run; in memory there is nobody to keep out.
    fn lock(&self, id: &str, now: Moment) -> Result<Option<Lock>, Error> {
        match self.scratch {
            Some(_) => Ok(None),
            None => lock::take(&self.state, id, now).map(Some),
        }
    }

    /// Returns a connection for one run: its own, or the only one there is to a journal in memory.
    fn connect(&self) -> Result<Arc<Mutex<Loan>>, Error> {
        match self.scratch {
            Some(_) => Ok(Arc::clone(&self.db)),
            None => Ok(shared(schema::open(&self.state)?)),
        }
    }

    fn hand(&self, writer: Arc<Mutex<Loan>>, ord: Ord, lock: Option<Lock>) -> Hand {
        Hand { writer, ord, clock: Arc::clone(&self.clock), witness: self.scratch.clone(), lock }
    }

    pub(super) fn db(&self) -> MutexGuard<'_, Loan> {
        locked(&self.db)
    }

    fn read<T>(&self, read: impl FnOnce(&Db) -> rusqlite::Result<T>) -> Result<T, Error> {
        read(&self.db()).map_err(|e| schema::trouble(&self.state, &e))
    }

    fn glances(&self, id: Option<&str>) -> Result<Vec<Glance>, Error> {
        self.read(|db| rows::glances(db, id))
    }

    /// Returns a summary that does not say `running` of a run which nobody moves.
    fn settled(&self, glance: Glance) -> Result<Summary, Error> {
        let dead = |g: &Glance| g.status == Status::Running.as_str() && !lock::is_taken(&self.state, &g.id);
        if !dead(&glance) {
            return summary(glance);
        }
        // It may have ended between the look at the store and the look at the lock: look again.
        let mut again = self.glances(Some(&glance.id))?.pop().unwrap_or(glance);
        if dead(&again) {
            again.status = Status::Interrupted.as_str().into();
            again.reason = Some(GONE.into());
        }
        summary(again)
    }
}

fn shared(db: Connection) -> Arc<Mutex<Loan>> {
    Arc::new(Mutex::new(Loan::own(Db::new(db))))
}

fn locked(db: &Mutex<Loan>) -> MutexGuard<'_, Loan> {
    // A panic elsewhere leaves a connection usable: an open transaction was rolled back as it unwound.
    db.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the summary of what was read.
fn summary(glance: Glance) -> Result<Summary, Error> {
    let Glance { id, status, reason, first, last } = glance;
    let calls = last.calls;
    let (first, last) = (chain::entry(&id, &first)?, chain::entry(&id, &last)?);
    let broken = |what: &str| Error::Broken { run: id.clone(), seq: 1, what: what.into() };
    let Record::Started { runbook, title, params, version, .. } = first.record else {
        return Err(broken("it does not start the run"));
    };
    let status: Status =
        serde_json::from_value(status.into()).map_err(|_| broken("the status kept beside it is none"))?;
    let (finished_at, error, left_behind) = match last.record {
        Record::Finished { error, left_behind, .. } => (Some(last.at), error, left_behind),
        _ => (None, None, Vec::new()),
    };
    let (started_at, last_at) = (first.at, last.at);
    let reason = match status.is_final() {
        false if former_name::has_begun(&version) => Some(former_name::refuse_open_run(&version)),
        _ => reason,
    };
    Ok(Summary {
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

/// Returns a fresh id: 8 lower-case base32 characters for which there is no lock file.
fn new_id(state: &Path) -> Result<String, Error> {
    loop {
        let mut bytes = [0; 5];
        getrandom::fill(&mut bytes)
            .map_err(|e| Error::NotWritable { path: state.into(), why: format!("no random numbers: {e}") })?;
        let id = data_encoding::BASE32_NOPAD.encode(&bytes).to_lowercase();
        if !schema::runs(state).join(format!("{id}.lock")).exists() {
            return Ok(id);
        }
    }
}

fn pruned(stone: &Tombstone) -> Error {
    let Tombstone { run, status, pruned_at, .. } = stone;
    Error::NoSuchRun {
        given: run.clone(),
        hint: format!("it ended as {status} and was pruned at {pruned_at}"),
    }
}

fn no_such_run(given: &str, ids: &[String]) -> Error {
    let hint = suggest::nearest(given, ids.iter().map(String::as_str)).map_or_else(
        || "`redrill runs list` shows what there is".into(),
        |id| format!("did you mean `{id}`?"),
    );
    Error::NoSuchRun { given: given.into(), hint }
}
