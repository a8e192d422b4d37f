//! Makes the file of a world, and migrates a file of the previous format.

use super::{
    content_cache::ContentCache,
    populate::{add_initial_history, create_and_fill_environment},
    spec::WorldSpec,
    time::{from_micros, to_micros},
    tx::{WorldTx, store_error},
};
use crate::{
    base::{file, moment::Moment, sqlite::Db},
    provider::{Code, Error, Result},
};
use rusqlite::{Connection, params};
use std::{fs, io, path::Path, time::Duration};

/// The version of the file's format.
pub(super) const FORMAT_VERSION: i64 = 2;
/// The version before, from which a file is migrated when it is opened.
pub(super) const PREVIOUS_VERSION: i64 = 1;
/// Where a new world's log begins, as that of a young PostgreSQL cluster does.
const FIRST_LSN: i64 = 0x0300_0000;
/// The transaction id with which it begins.
const FIRST_XID: i64 = 731;

/// Makes a world's file under another name and renames it to `path` when it is whole, so that nobody ever sees half a
/// world.
pub(super) fn create_world_file(path: &Path, target: &str, text: &str, now: Moment) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let failed = |why: io::Error| {
        Error::new(
            Code::Unavailable,
            format!("the world of `{target}` cannot be made in {}: {why}", folder.display()),
        )
        .with_hint("choose another state folder with `--state`")
    };
    fs::create_dir_all(folder).map_err(failed)?;
    let temporary = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    let filled = fill_world_file(temporary.path(), target, text, now);
    for ending in ["-wal", "-shm"] {
        // There is one only where the file could not be made whole.
        let mut log = temporary.path().as_os_str().to_owned();
        log.push(ending);
        drop(fs::remove_file(log));
    }
    filled?;
    match temporary.persist_noclobber(path) {
        Ok(_) => file::sync_folder(folder).map_err(failed),
        // Another process was faster: its world is the world.
        Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(failed(e.error)),
    }
}

/// Makes a world in the file `path`, which is whole when this returns.
fn fill_world_file(path: &Path, target: &str, text: &str, now: Moment) -> Result<()> {
    let conn = Connection::open(path).map_err(|e| store_error(&e))?;
    configure_connection(&conn).map_err(|e| store_error(&e))?;
    let db = Db::new(conn);
    create_world(&db, target, text, &new_world_id()?, &WorldStart { anchor: now, statements: &[] })?;
    checkpoint_wal(&db)?;
    db.close().map_err(|e| store_error(&e))
}

/// Moves everything from the log into the file. Closing does that too, and says nothing where it could not: on a full disk
/// the file was then renamed without its log, and never read again.
fn checkpoint_wal(db: &Db) -> Result<()> {
    let read = |row: &rusqlite::Row<'_>| row.get(0);
    let is_blocked: bool =
        db.query_row("pragma wal_checkpoint(truncate)", [], read).map_err(|e| store_error(&e))?;
    if is_blocked {
        return Err(Error::new(Code::Unavailable, "the new world could not be written into its file"));
    }
    Ok(())
}

fn new_world_id() -> Result<String> {
    let mut bytes = [0; 10];
    getrandom::fill(&mut bytes)
        .map_err(|e| Error::new(Code::Internal, format!("the machine gives no random numbers: {e}")))?;
    Ok(data_encoding::BASE32_NOPAD.encode(&bytes).to_lowercase())
}

/// Sets how a connection to a world's file waits for others, and how it keeps what it commits.
pub(super) fn configure_connection(conn: &Connection) -> rusqlite::Result<()> {
    conn.busy_timeout(Duration::from_secs(30))?;
    conn.execute_batch("pragma journal_mode = wal; pragma synchronous = full; pragma foreign_keys = on")
}

/// When a world begins, and what is in its history beside what its text says.
pub(in crate::provider::sim) struct WorldStart<'a> {
    /// The moment from which the times of its text count back.
    pub(in crate::provider::sim) anchor: Moment,
    /// Statements and when they were committed.
    pub(in crate::provider::sim) statements: &'a [(Moment, String)],
}

/// Makes a world in an empty database.
pub(super) fn create_world(
    db: &Db,
    target: &str,
    text: &str,
    id: &str,
    beginning: &WorldStart<'_>,
) -> Result<()> {
    let spec = WorldSpec::parse_and_check(text, &format!("the world of `{target}`"))?;
    let anchor = from_micros(to_micros(beginning.anchor));
    let failed = |e: rusqlite::Error| store_error(&e);
    let change = db.begin_write().map_err(failed)?;
    change.raw_connection().execute_batch(include_str!("schema.sql")).map_err(failed)?;
    change.raw_connection().pragma_update(None, "user_version", FORMAT_VERSION).map_err(failed)?;
    let sql = "insert into world (id, text, made_at, lsn, xid) values (?1, ?2, ?3, ?4, ?5)";
    change.execute(sql, params![id, text, to_micros(anchor), FIRST_LSN, FIRST_XID]).map_err(failed)?;
    let cache = ContentCache::default();
    let tx = WorldTx { conn: &change, spec: &spec, cache: &cache, target, now: to_micros(anchor) };
    add_initial_history(&tx, anchor, beginning.statements)?;
    change.commit().map_err(failed)
}

/// Migrates a world from the previous format to this one.
pub(super) fn migrate_world(db: &Db, target: &str, spec: &WorldSpec) -> Result<()> {
    let failed = |e: rusqlite::Error| store_error(&e);
    let change = db.begin_write().map_err(failed)?;
    let version: i64 = change.query_row("pragma user_version", [], |row| row.get(0)).map_err(failed)?;
    // Another process may have been faster.
    if version == PREVIOUS_VERSION {
        let made: i64 =
            change.query_row("select made_at from world", [], |row| row.get(0)).map_err(failed)?;
        let cache = ContentCache::default();
        let tx = WorldTx { conn: &change, spec, cache: &cache, target, now: made };
        create_and_fill_environment(&tx)?;
        change.raw_connection().pragma_update(None, "user_version", FORMAT_VERSION).map_err(failed)?;
    }
    change.commit().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_cannot_be_emptied_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("world.db");
        let open = || {
            let conn = Connection::open(&path).expect("opens");
            configure_connection(&conn).expect("configured");
            conn.busy_timeout(Duration::ZERO).expect("set");
            Db::new(conn)
        };
        let (writer, reader) = (open(), open());
        writer.execute("create table t (x)", []).expect("made");
        let view = reader.begin_read().expect("begins");
        let count = "select count(*) from t";
        assert_eq!(view.query_row(count, [], |row| row.get::<_, i64>(0)), Ok(0));
        writer.execute("insert into t values (1)", []).expect("a row");
        assert_eq!(checkpoint_wal(&writer).map_err(|e| e.code), Err(Code::Unavailable));
        drop(view);
        checkpoint_wal(&writer).expect("nobody is in the way");
        let log = folder.path().join("world.db-wal");
        assert_eq!(fs::metadata(log).expect("is there").len(), 0);
    }
}
