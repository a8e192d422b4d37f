//! The file: how it is opened, what is in it, and how an older one becomes a newer one.

use super::Error;
use crate::base::file::sync_folder;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

/// How long a write waits for the writes of other processes; each of theirs takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

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
"];

/// Returns where the journal of a state folder lies.
pub(super) fn file(state: &Path) -> PathBuf {
    state.join("journal.db")
}

/// Returns the folder of the locks.
pub(super) fn runs(state: &Path) -> PathBuf {
    state.join("runs")
}

/// Opens the journal of a state folder, making whatever is missing.
///
/// # Errors
/// [`Error::NotWritable`], [`Error::Newer`], [`Error::Unreadable`].
pub(super) fn make(state: &Path) -> Result<Connection, Error> {
    let refused = |why: io::Error| Error::NotWritable { path: state.into(), why: why.to_string() };
    let folder = runs(state);
    let is_new = !folder.exists();
    fs::create_dir_all(&folder).map_err(refused)?;
    if is_new {
        let parent = state.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        sync_folder(parent).and_then(|()| sync_folder(state)).map_err(refused)?;
    }
    // Two processes that both turn the write-ahead log on meet an SQLITE_BUSY that no timeout waits for.
    let turn = File::open(&folder).map_err(refused)?;
    turn.lock().map_err(refused)?;
    let mut db = connect(state, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
    migrate(&mut db, state, MIGRATIONS)?;
    Ok(db)
}

/// Opens a journal that is there. Nothing is made or written, unless its schema is an older one.
///
/// # Errors
/// As [`make`].
pub(super) fn open(state: &Path) -> Result<Connection, Error> {
    let db = connect(state, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    match version(&db).map_err(|e| trouble(state, &e))? {
        found if found == newest(MIGRATIONS) => Ok(db),
        _ => make(state),
    }
}

fn connect(state: &Path, flags: OpenFlags) -> Result<Connection, Error> {
    let at = |e: rusqlite::Error| trouble(state, &e);
    let db = Connection::open_with_flags(file(state), flags | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(at)?;
    db.busy_timeout(PATIENCE).map_err(at)?;
    let (found, known) = (version(&db).map_err(at)?, newest(MIGRATIONS));
    if found > known {
        return Err(Error::Newer { path: file(state), found, known });
    }
    settle(&db).map_err(at)?;
    Ok(db)
}

fn version(db: &Connection) -> rusqlite::Result<u32> {
    db.query_row("pragma user_version", [], |row| row.get(0))
}

fn newest(steps: &[&str]) -> u32 {
    u32::try_from(steps.len()).unwrap_or(u32::MAX)
}

/// Sets what makes a commit durable.
fn settle(db: &Connection) -> rusqlite::Result<()> {
    db.pragma_update(None, "journal_mode", "wal")?;
    db.pragma_update(None, "synchronous", "full")?;
    // On macOS a plain fsync leaves the data in the drive's cache; elsewhere this changes nothing.
    db.pragma_update(None, "fullfsync", true)?;
    db.pragma_update(None, "foreign_keys", true)
}

/// Brings the schema up to the last of `steps`, each in a transaction of its own.
fn migrate(db: &mut Connection, state: &Path, steps: &[&str]) -> Result<(), Error> {
    let at = |e: rusqlite::Error| trouble(state, &e);
    loop {
        let step = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(at)?;
        let found = version(&step).map_err(at)?;
        if found > newest(steps) {
            return Err(Error::Newer { path: file(state), found, known: newest(steps) });
        }
        let Some(sql) = steps.get(found as usize) else { return Ok(()) };
        step.execute_batch(sql).map_err(at)?;
        step.pragma_update(None, "user_version", found + 1).map_err(at)?;
        step.commit().map_err(at)?;
    }
}

/// Returns the error for what SQLite says about a state folder.
pub(super) fn trouble(state: &Path, error: &rusqlite::Error) -> Error {
    let why = describe(error);
    match error.sqlite_error_code() {
        Some(
            ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::DiskFull | ErrorCode::PermissionDenied,
        ) => Error::NotWritable { path: state.into(), why },
        _ => Error::Unreadable { path: file(state), why },
    }
}

/// Returns what SQLite says, with the words of the trade for what matters.
pub(super) fn describe(error: &rusqlite::Error) -> String {
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
