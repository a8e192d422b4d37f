//! The file `journal.db`: how it is opened, its tables, and how an older schema becomes a newer one.
//!
//! Nothing but SQLite may open `journal.db` in a process that has it open: closing any other handle drops SQLite's
//! own locks on it (POSIX locks belong to the process, not to the handle).

use super::{Error, holder};
use crate::base::{file::sync_folder, sqlite::Db};
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

/// How long a write waits for the writes of other processes; each of theirs takes milliseconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(20);
/// The size of a database without tables: one page.
const EMPTY_SIZE_MAX: u64 = 4096;

/// Each step from one schema version to the next. Steps are added, never changed.
const MIGRATIONS: &[&str] = &["
    create table runs (
        ord    integer primary key,       -- in the order in which they were made
        id     text not null unique,
        status text not null,             -- folded from the records, kept for lists
        reason text
    ) strict;
    create table sources (
        run  integer not null references runs (ord),
        ord  integer not null,
        path text not null,
        text text not null,
        primary key (run, ord)
    ) strict, without rowid;
    create table records (
        run   integer not null references runs (ord),
        seq   integer not null,
        at    text not null,
        calls integer not null,           -- calls made up to here: a list need not count them
        body  text not null,
        hash  text not null,
        primary key (run, seq)
    ) strict, without rowid;
    create table tombstones (             -- runs that were removed
        run       text primary key,
        runbook   text not null,
        status    text not null,
        records   integer not null,
        head      text not null,
        pruned_at text not null
    ) strict, without rowid;
    create table leases (
        target text not null,
        run    text not null,
        name   text not null,
        mode   text not null,
        pid    integer not null,
        host   text not null,
        since  text not null,
        primary key (target, run)
    ) strict, without rowid;
", "
    create table editions (               -- texts with which a run was taken up after somebody had changed them
        run     integer not null references runs (ord),
        edition integer not null,         -- from 1; the first texts are in `sources`
        ord     integer not null,
        path    text not null,
        text    text not null,
        primary key (run, edition, ord)
    ) strict, without rowid;
    create table requests (               -- to the process that moves a run: stop, somebody else wants to go on
        run text primary key,
        by  text not null,
        at  text not null
    ) strict, without rowid;
", "
    create table quarantines (            -- things at which a request of a call may still land
        place   text not null,            -- the identity of the target or branch
        part    text not null,            -- empty: all of it
        run     text not null,
        call    text not null,
        boot    text not null,            -- until when nothing of it was sent any more: the boot, and the time since it
        sent_by integer not null,
        span    integer,                  -- how long after that it may land, in milliseconds; null: nobody knows
        primary key (place, part, run, call)
    ) strict, without rowid;
", "
    create table places (                 -- where the state acts: the last one; those before were left
        ord         integer primary key,
        note        text not null,        -- JSON, as in the file `place`
        by          text not null,        -- who took the state over; empty for the first place
        rolled_back integer not null      -- whether it was said to have been rolled back
    ) strict;
", "
    create table claims (                 -- things that a call of a process which holds its run is at
        place text not null,              -- as in `quarantines`
        part  text not null,
        run   text not null,
        call  text not null,
        primary key (place, part, run, call)
    ) strict, without rowid;
", "
    create table past_values (            -- what an element was before a call changed it: a look may still show that
        place      text not null,         -- as in `quarantines`
        element    text not null,
        value      text,                  -- JSON; null: nobody knows
        run        text not null,
        call       text not null,
        boot       text not null,         -- when it was changed at the latest: the boot, and the time since it
        changed_by integer not null,
        lag        integer not null,      -- how far a look may lag behind, in milliseconds
        primary key (place, element, run, call)
    ) strict, without rowid;
"];

/// Returns the path of the journal of a state folder.
pub(super) fn journal_path(state: &Path) -> PathBuf {
    state.join("journal.db")
}

/// Returns the folder of the locks.
pub(super) fn locks_folder(state: &Path) -> PathBuf {
    state.join("runs")
}

/// Opens the journal of a state folder, making whatever is missing.
///
/// # Errors
/// [`Error::NotWritable`], [`Error::NewerSchema`], [`Error::Unreadable`].
pub(super) fn open_or_create_journal(state: &Path) -> Result<Connection, Error> {
    let refused = |why: io::Error| Error::NotWritable { path: state.into(), why: why.to_string() };
    let folder = locks_folder(state);
    let is_new = !folder.exists();
    fs::create_dir_all(&folder).map_err(refused)?;
    if is_new {
        let parent = state.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        sync_folder(parent).and_then(|()| sync_folder(state)).map_err(refused)?;
    }
    // When two processes turn the write-ahead log on at once, one gets an SQLITE_BUSY that no timeout waits for.
    let _turn = wait_for_state_lock(state)?;
    let (mut db, _) =
        open_connection(state, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
    make_commits_durable(&db).map_err(|e| to_journal_error(state, &e))?;
    migrate_schema(&mut db, state, MIGRATIONS)?;
    Ok(db)
}

/// Waits until no other process makes something in the state folder; others wait until the file is closed.
pub(super) fn wait_for_state_lock(state: &Path) -> Result<File, Error> {
    let refused = |why: io::Error| Error::NotWritable { path: state.into(), why: why.to_string() };
    let turn = File::open(locks_folder(state)).map_err(refused)?;
    turn.lock().map_err(refused)?;
    Ok(turn)
}

/// Returns whether there is no journal, or one without any tables: a new one, or what is left when files of it are removed.
pub(super) fn is_journal_empty(state: &Path) -> Result<bool, Error> {
    let size = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
    let path = journal_path(state);
    match (size(&path), size(&state.join("journal.db-wal"))) {
        (0, 0) => Ok(true),
        // Larger than the page that every database has. With its log, even an empty file may be a whole journal.
        (large, _) if large > EMPTY_SIZE_MAX => Ok(false),
        _ => open_connection(state, OpenFlags::SQLITE_OPEN_READ_WRITE).map(|(_, version)| version == 0),
    }
}

/// Opens a journal that is there. Nothing is made or written, unless its schema is an older one.
///
/// # Errors
/// As [`open_or_create_journal`].
pub(super) fn open_existing_connection(state: &Path) -> Result<Connection, Error> {
    let (db, version) = open_connection(state, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    if version < newest_schema_version(MIGRATIONS) {
        // Or another process is making it at this moment.
        return open_or_create_journal(state);
    }
    make_commits_durable(&db).map_err(|e| to_journal_error(state, &e))?;
    Ok(db)
}

/// Opens the file and returns its schema version. A version that is too new is an error.
fn open_connection(state: &Path, flags: OpenFlags) -> Result<(Connection, u32), Error> {
    let at = |e: rusqlite::Error| to_journal_error(state, &e);
    let db = Connection::open_with_flags(journal_path(state), flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(at)?;
    db.busy_timeout(BUSY_TIMEOUT).map_err(at)?;
    let (found, known) = (schema_version(&db).map_err(at)?, newest_schema_version(MIGRATIONS));
    if found > known {
        return Err(Error::NewerSchema { path: journal_path(state), found, known });
    }
    Ok((db, found))
}

fn schema_version(db: &Connection) -> rusqlite::Result<u32> {
    db.query_row("pragma user_version", [], |row| row.get(0))
}

fn newest_schema_version(steps: &[&str]) -> u32 {
    u32::try_from(steps.len()).unwrap_or(u32::MAX)
}

/// Makes every commit durable.
fn make_commits_durable(db: &Connection) -> rusqlite::Result<()> {
    db.pragma_update(None, "journal_mode", "wal")?;
    db.pragma_update(None, "synchronous", "full")?;
    // On macOS a plain fsync leaves the data in the drive's cache; elsewhere this changes nothing.
    db.pragma_update(None, "fullfsync", true)?;
    db.pragma_update(None, "foreign_keys", true)
}

/// Opens a journal that is there, for what need not survive a power cut: this connection waits for no disk.
///
/// # Errors
/// As [`open_existing_connection`].
pub(super) fn open_unsynced(state: &Path) -> Result<Connection, Error> {
    let db = open_existing_connection(state)?;
    db.pragma_update(None, "synchronous", "normal").map_err(|e| to_journal_error(state, &e))?;
    Ok(db)
}

/// Makes a journal in memory.
pub(super) fn open_in_memory() -> rusqlite::Result<Db> {
    let db = Connection::open_in_memory()?;
    MIGRATIONS.iter().try_for_each(|step| db.execute_batch(step))?;
    Ok(Db::new(db))
}

/// Brings the schema up to the last of `steps`, each in a transaction of its own.
fn migrate_schema(db: &mut Connection, state: &Path, steps: &[&str]) -> Result<(), Error> {
    let at = |e: rusqlite::Error| to_journal_error(state, &e);
    loop {
        let step = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(at)?;
        let found = schema_version(&step).map_err(at)?;
        if found > newest_schema_version(steps) {
            return Err(Error::NewerSchema {
                path: journal_path(state),
                found,
                known: newest_schema_version(steps),
            });
        }
        let Some(sql) = steps.get(found as usize) else { return Ok(()) };
        step.execute_batch(sql).map_err(at)?;
        step.pragma_update(None, "user_version", found + 1).map_err(at)?;
        step.commit().map_err(at)?;
    }
}

/// Returns the journal error for an SQLite error in a state folder.
pub(super) fn to_journal_error(state: &Path, error: &rusqlite::Error) -> Error {
    let why = describe_sqlite_error(error);
    match error.sqlite_error_code() {
        Some(
            ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::DiskFull | ErrorCode::PermissionDenied,
        ) => Error::NotWritable { path: state.into(), why },
        Some(ErrorCode::DatabaseBusy) => {
            let holders = holder::list_holders(&locks_folder(state));
            Error::Busy { path: journal_path(state), waited: BUSY_TIMEOUT.as_secs(), holders }
        }
        _ => Error::Unreadable { path: journal_path(state), why },
    }
}

/// Describes an SQLite error, in plain words for the codes that matter.
pub(super) fn describe_sqlite_error(error: &rusqlite::Error) -> String {
    let said = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "the disk is full (SQLITE_FULL)",
        Some(ErrorCode::ReadOnly) => "it is read-only (SQLITE_READONLY)",
        Some(ErrorCode::SystemIoFailure) => "the disk does not do what it is told (SQLITE_IOERR)",
        Some(ErrorCode::DatabaseBusy) => "another process kept it busy for too long (SQLITE_BUSY)",
        Some(ErrorCode::NotADatabase) => "it is not a database (SQLITE_NOTADB)",
        Some(ErrorCode::DatabaseCorrupt) => "it is damaged (SQLITE_CORRUPT)",
        _ => return error.to_string(),
    };
    match error {
        rusqlite::Error::SqliteFailure(_, Some(detail)) => format!("{said}: {detail}"),
        _ => said.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_syncs_every_commit() {
        let state = tempfile::tempdir().expect("a folder");
        let db = open_or_create_journal(state.path()).expect("made");
        let ask = |pragma: &str| -> String {
            db.query_row(&format!("select cast((select * from pragma_{pragma}) as text)"), [], |row| {
                row.get(0)
            })
            .expect(pragma)
        };
        assert_eq!((ask("journal_mode"), ask("synchronous")), ("wal".into(), "2".into()));
    }

    #[test]
    fn a_newer_journal_is_refused_and_left_alone() {
        let state = tempfile::tempdir().expect("a folder");
        drop(open_or_create_journal(state.path()).expect("made"));
        let known = newest_schema_version(MIGRATIONS);
        let db = Connection::open(journal_path(state.path())).expect("opens");
        db.pragma_update(None, "user_version", known + 1).expect("set");
        drop(db);
        let before = fs::read(journal_path(state.path())).expect("reads");
        for refused in [open_or_create_journal(state.path()), open_existing_connection(state.path())] {
            let path = journal_path(state.path());
            assert_eq!(refused.err(), Some(Error::NewerSchema { path, found: known + 1, known }));
        }
        assert_eq!(fs::read(journal_path(state.path())).expect("reads"), before);
    }

    #[test]
    fn an_older_journal_is_brought_up_step_by_step_and_keeps_what_is_in_it() {
        let steps = &["create table a (x)", "alter table a add column y default 7", "create table c (z)"];
        let state = tempfile::tempdir().expect("a folder");
        let mut db = Connection::open(journal_path(state.path())).expect("opens");
        migrate_schema(&mut db, state.path(), &steps[..1]).expect("version 1");
        db.execute("insert into a values (1)", []).expect("a row");
        for _ in 0..2 {
            migrate_schema(&mut db, state.path(), steps).expect("version 3");
            let row: (i64, i64) =
                db.query_row("select x, y from a", [], |r| Ok((r.get(0)?, r.get(1)?))).expect("is there");
            assert_eq!((row, schema_version(&db)), ((1, 7), Ok(3)));
        }
        let older = migrate_schema(&mut db, state.path(), &steps[..2]);
        assert_eq!(older, Err(Error::NewerSchema { path: journal_path(state.path()), found: 3, known: 2 }));
    }

    #[test]
    fn a_journal_of_the_first_version_is_brought_up_with_its_runs() {
        let state = tempfile::tempdir().expect("a folder");
        let mut db = Connection::open(journal_path(state.path())).expect("opens");
        migrate_schema(&mut db, state.path(), &MIGRATIONS[..1]).expect("version 1");
        db.execute("insert into runs (id, status) values ('abcd2345', 'running')", []).expect("a run");
        drop(db);
        let db = open_existing_connection(state.path()).expect("opens");
        assert_eq!(schema_version(&db), Ok(newest_schema_version(MIGRATIONS)));
        let runs: i64 = db.query_row("select count(*) from runs", [], |row| row.get(0)).expect("counts");
        let editions: i64 =
            db.query_row("select count(*) from editions", [], |row| row.get(0)).expect("counts");
        assert_eq!((runs, editions), (1, 0));
    }

    #[test]
    fn a_step_that_fails_leaves_the_version_before_it() {
        let state = tempfile::tempdir().expect("a folder");
        let mut db = Connection::open(journal_path(state.path())).expect("opens");
        let steps = &["create table a (x)", "create table b (x); create table a (x)"];
        assert!(matches!(migrate_schema(&mut db, state.path(), steps), Err(Error::Unreadable { .. })));
        assert_eq!(schema_version(&db), Ok(1));
        assert!(db.prepare("select * from b").is_err(), "half of a step was kept");
    }

    #[test]
    fn a_file_that_is_no_database_is_named() {
        let state = tempfile::tempdir().expect("a folder");
        fs::write(journal_path(state.path()), "notes about the journal, ".repeat(400)).expect("written");
        let error = open_existing_connection(state.path()).expect_err("refused");
        assert!(matches!(&error, Error::Unreadable { why, .. } if why.contains("SQLITE_NOTADB")), "{error}");
    }

    #[test]
    fn a_folder_that_takes_no_files_is_named() {
        let place = tempfile::tempdir().expect("a folder");
        let state = place.path().join("file").join("state");
        fs::write(place.path().join("file"), "").expect("written");
        let error = open_or_create_journal(&state).expect_err("refused");
        assert!(matches!(&error, Error::NotWritable { path, .. } if *path == state), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("--state")));
    }
}
