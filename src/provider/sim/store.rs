//! A world's file: one SQLite database, in which every effect happens once.
//!
//! Every effect is one transaction together with its row in the effect log. A key that is in the log already is not
//! acted on again: it is answered what it was answered then. Several processes may have one world open.

use super::{
    content::{Content, HistoryEntry},
    furnish::populate_environment,
    shelf::ContentCache,
    world::{PastEvent, WorldSpec},
};
use crate::{
    base::{
        clock::Clock,
        file,
        moment::{Moment, Span},
        sqlite::{Db, DbPool, PooledDb},
    },
    provider::{Code, Error, Result, model::CallKey},
};
use rusqlite::{Connection, MAIN_DB, OptionalExtension as _, params};
use serde_json::Value;
use std::{
    collections::{BTreeMap, btree_map},
    fs,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// The version of the file's format.
const FORMAT_VERSION: i64 = 2;
/// The version before, which is migrated when it is opened.
const PREVIOUS_VERSION: i64 = 1;
/// Where a new world's log begins, and with which transaction: as a young PostgreSQL cluster would.
const FIRST_LSN: i64 = 0x0300_0000;
const FIRST_XID: i64 = 731;

/// One row of the effect log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectRow {
    /// Its place in the order of effects, from 1.
    pub seq: i64,
    /// The key of the call that asked, where there was one.
    pub key: Option<CallKey>,
    /// What kind: `backup.create`, `sql.execute`.
    pub kind: String,
    /// What it was done to.
    pub what: String,
    /// When, by the world's clock.
    pub at: Moment,
    pub answer: Value,
}

/// A world that exists.
pub(super) struct WorldStore {
    db: Mutex<PooledDb>,
    contents: Mutex<BTreeMap<i64, Content>>,
    clock: Arc<dyn Clock>,
    target: String,
    id: String,
    world: Arc<WorldSpec>,
    shelf: Arc<ContentCache>,
}

/// A world at one moment, inside a transaction.
pub(super) struct WorldTx<'a> {
    /// The connection, inside a transaction.
    pub(super) conn: &'a Db,
    /// The world's specification.
    pub(super) world: &'a WorldSpec,
    /// The cache of its databases.
    pub(super) shelf: &'a ContentCache,
    pub(super) target: &'a str,
    /// The world's time, in microseconds since 1970.
    pub(super) now: i64,
}

impl WorldStore {
    /// Opens the world in `path`, which is made from `text` first where there is none.
    pub(super) fn open(path: &Path, target: &str, text: &str, clock: Arc<dyn Clock>) -> Result<Self> {
        if !path.exists() {
            create_world_file(path, target, text, clock.now())?;
        }
        let conn = Connection::open(path).map_err(|e| store_error(&e))?;
        configure_connection(&conn).map_err(|e| store_error(&e))?;
        Self::from_db(Db::new(conn), target, clock)
    }

    /// Returns a world in memory.
    pub(super) fn in_memory(target: &str, text: &str, id: &str, clock: Arc<dyn Clock>) -> Result<Self> {
        let conn = Connection::open_in_memory().map_err(|e| store_error(&e))?;
        let db = Db::new(conn);
        create_world(&db, target, text, id, clock.now())?;
        Self::from_db(db, target, clock)
    }

    /// Returns what the world is written of, and the bytes of all of it.
    pub(super) fn export_image(&self) -> Result<(Arc<WorldSpec>, Vec<u8>)> {
        let image = self.lock_db().serialize_database().map_err(|e| store_error(&e))?;
        Ok((Arc::clone(&self.world), image))
    }

    /// Returns a world in memory that begins as the one whose bytes these are. What becomes of it is forgotten with
    /// it, and its connection waits among the `idle` for the next.
    pub(super) fn from_image(
        image: &[u8],
        target: &str,
        id: &str,
        (world, shelf, idle): (Arc<WorldSpec>, Arc<ContentCache>, &Arc<DbPool>),
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let make = || {
            let mut conn = Connection::open_in_memory()?;
            conn.deserialize_read_exact(MAIN_DB, image, image.len(), false)?;
            Ok(Db::new(conn))
        };
        let db = Mutex::new(PooledDb::from_pool(idle, make).map_err(|e| store_error(&e))?);
        Ok(Self { db, contents: Mutex::default(), clock, target: target.into(), id: id.into(), world, shelf })
    }

    fn from_db(db: Db, target: &str, clock: Arc<dyn Clock>) -> Result<Self> {
        let version: i64 =
            db.query_row("pragma user_version", [], |row| row.get(0)).map_err(|e| store_error(&e))?;
        if version != FORMAT_VERSION && version != PREVIOUS_VERSION {
            let message = format!(
                "the world of `{target}` has the format {version}, this redrill reads {FORMAT_VERSION}"
            );
            return Err(Error::new(Code::Refused, message)
                .with_hint("remove its file in `worlds/` of the state folder to begin a new one"));
        }
        let (id, text): (String, String) = db
            .query_row("select id, text from world", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .map_err(|e| store_error(&e))?;
        let world = Arc::new(WorldSpec::parse(&text, &format!("the world of `{target}`"))?);
        if version == PREVIOUS_VERSION {
            migrate_world(&db, target, &world)?;
        }
        let db = Mutex::new(PooledDb::from_owned(db));
        let (contents, shelf) = (Mutex::default(), Arc::default());
        Ok(Self { db, contents, clock, target: target.into(), id, world, shelf })
    }

    /// Returns the world's own id.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Returns what the world is, for people.
    pub(super) fn title(&self) -> &str {
        &self.world.title
    }

    /// Reads the world, after completing everything that is due.
    pub(super) fn read_world<T>(&self, see: impl FnOnce(&WorldTx<'_>) -> Result<T>) -> Result<T> {
        let db = self.lock_current_db()?;
        let view = db.begin_read().map_err(|e| store_error(&e))?;
        see(&self.world_tx(&view)?)
    }

    /// Does something once: `act` and its row in the log are one transaction. What `key` was answered before is
    /// answered again.
    pub(super) fn apply_effect(
        &self,
        key: Option<&CallKey>,
        kind: &str,
        what: &str,
        act: impl FnOnce(&WorldTx<'_>) -> Result<Value>,
    ) -> Result<Value> {
        let answer = self.apply_effect_if_needed(key, kind, what, |p| act(p).map(Some))?;
        answer.ok_or_else(|| Error::new(Code::Internal, format!("`{kind}` of `{what}` gave no answer")))
    }

    /// The same for what may find nothing to do: `None` is no effect and leaves no row.
    pub(super) fn apply_effect_if_needed(
        &self,
        key: Option<&CallKey>,
        kind: &str,
        what: &str,
        act: impl FnOnce(&WorldTx<'_>) -> Result<Option<Value>>,
    ) -> Result<Option<Value>> {
        let db = self.lock_current_db()?;
        let change = db.begin_write().map_err(|e| store_error(&e))?;
        let present = self.world_tx(&change)?;
        if let Some(key) = key
            && let Some(before) = present.find_effect(key)?
        {
            return if before.kind == kind {
                Ok(Some(before.answer))
            } else {
                Err(key_reuse_error(key, &before))
            };
        }
        let Some(answer) = act(&present)? else { return Ok(None) };
        present.append_effect(key, kind, what, &answer)?;
        change.commit().map_err(|e| commit_error(&e))?;
        Ok(Some(answer))
    }

    /// Adds `span` to the world's clock.
    ///
    /// Waiting does this often, so it does not wait for the disk: a power cut may take back time in which nothing else
    /// was written, and nothing more.
    pub(super) fn advance_clock(&self, span: Span) -> Result<()> {
        let micros = i64::try_from(span.0.as_micros()).unwrap_or(i64::MAX).max(0);
        let db = self.lock_db();
        let add = || db.execute("update world set clock_offset = clock_offset + ?1", [micros]).map(drop);
        if db.is_in_transaction() {
            return add().map_err(|e| store_error(&e));
        }
        let unsynced = || {
            db.raw_connection().execute_batch("pragma synchronous = normal")?;
            let added = add();
            db.raw_connection().execute_batch("pragma synchronous = full")?;
            added
        };
        unsynced().map_err(|e| store_error(&e))
    }

    /// Returns the effect log, oldest first.
    pub(super) fn effect_log(&self) -> Result<Vec<EffectRow>> {
        let db = self.lock_db();
        let mut statement = db
            .prepare("select seq, key, kind, what, at, answer from effects order by seq")
            .map_err(|e| store_error(&e))?;
        let rows = statement.query_map([], read_effect_row).map_err(|e| store_error(&e))?;
        rows.collect::<rusqlite::Result<_>>().map_err(|e| store_error(&e))
    }

    /// Gives `work` the rows of a line as they are in `present`.
    pub(super) fn with_content<T>(
        &self,
        present: &WorldTx<'_>,
        line: i64,
        work: impl FnOnce(&mut Content) -> Result<T>,
    ) -> Result<T> {
        let mut contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        let content = match contents.entry(line) {
            btree_map::Entry::Occupied(there) => there.into_mut(),
            btree_map::Entry::Vacant(place) => {
                let entries = present.history_entries(line, 0, i64::MAX)?;
                let made = self
                    .shelf
                    .take_content(&entries)
                    .map_or_else(|| WorldTx::replay_entries(&entries), Ok)?;
                place.insert(made)
            }
        };
        for entry in present.history_entries(line, content.head(), i64::MAX)? {
            content.apply_entry(&entry, None)?;
        }
        work(content)
    }

    /// Drops what is materialised of a line: its transaction did not come to pass.
    pub(super) fn forget_content(&self, line: i64) {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner).remove(&line);
    }

    /// Puts away what is materialised of a line that is no more.
    pub(super) fn cache_content(&self, line: i64) {
        let content = self.contents.lock().unwrap_or_else(PoisonError::into_inner).remove(&line);
        if let Some(content) = content {
            self.shelf.put_content(content);
        }
    }

    /// Returns the connection after everything that is due has been done, in a transaction of its own.
    fn lock_current_db(&self) -> Result<MutexGuard<'_, PooledDb>> {
        let db = self.lock_db();
        if self.world_tx(&db)?.has_due_work()? {
            let change = db.begin_write().map_err(|e| store_error(&e))?;
            self.world_tx(&change)?.complete_due_work()?;
            change.commit().map_err(|e| store_error(&e))?;
        }
        Ok(db)
    }

    fn lock_db(&self) -> MutexGuard<'_, PooledDb> {
        self.db.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn world_tx<'a>(&'a self, conn: &'a Db) -> Result<WorldTx<'a>> {
        let (made, offset): (i64, i64) = conn
            .query_row("select made_at, clock_offset from world", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .map_err(|e| store_error(&e))?;
        let now = to_micros(self.clock.now()).saturating_add(offset).max(made);
        Ok(WorldTx { conn, world: &self.world, shelf: &self.shelf, target: &self.target, now })
    }
}

impl Drop for WorldStore {
    fn drop(&mut self) {
        let contents = std::mem::take(self.contents.get_mut().unwrap_or_else(PoisonError::into_inner));
        for content in contents.into_values() {
            self.shelf.put_content(content);
        }
    }
}

impl WorldTx<'_> {
    /// Returns what was done under `key`.
    pub(super) fn find_effect(&self, key: &CallKey) -> Result<Option<EffectRow>> {
        let sql = "select seq, key, kind, what, at, answer from effects where key = ?1";
        self.conn.query_row(sql, [&key.0], read_effect_row).optional().map_err(|e| store_error(&e))
    }

    /// Returns what `sql` finds, read row by row.
    pub(super) fn query_rows<T>(
        &self,
        sql: &str,
        values: impl rusqlite::Params,
        read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let all = || self.conn.prepare(sql)?.query_map(values, read)?.collect::<rusqlite::Result<Vec<_>>>();
        all().map_err(|e| store_error(&e))
    }

    /// Returns when the world was made.
    pub(super) fn made_at(&self) -> Result<Moment> {
        let made = self.conn.query_row("select made_at from world", [], |row| row.get(0));
        made.map(from_micros).map_err(|e| store_error(&e))
    }

    fn append_effect(&self, key: Option<&CallKey>, kind: &str, what: &str, answer: &Value) -> Result<()> {
        let sql = "insert into effects (key, kind, what, at, answer) values (?1, ?2, ?3, ?4, ?5)";
        let values = params![key.map(|k| &k.0), kind, what, self.now, answer.to_string()];
        self.conn.execute(sql, values).map(drop).map_err(|e| store_error(&e))
    }
}

fn read_effect_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<EffectRow> {
    let answer: String = row.get(5)?;
    Ok(EffectRow {
        seq: row.get(0)?,
        key: row.get::<_, Option<String>>(1)?.map(CallKey),
        kind: row.get(2)?,
        what: row.get(3)?,
        at: from_micros(row.get(4)?),
        answer: serde_json::from_str(&answer).unwrap_or_default(),
    })
}

fn key_reuse_error(key: &CallKey, before: &EffectRow) -> Error {
    let message = format!("the key `{key}` was used for `{}` of `{}` before", before.kind, before.what);
    Error::new(Code::Internal, message)
}

/// Makes a world's file whole beside `path` and then gives it its name, so that nobody ever sees half a world.
fn create_world_file(path: &Path, target: &str, text: &str, now: Moment) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let failed = |why: std::io::Error| {
        Error::new(
            Code::Unavailable,
            format!("the world of `{target}` cannot be made in {}: {why}", folder.display()),
        )
        .with_hint("choose another state folder with `--state`")
    };
    fs::create_dir_all(folder).map_err(failed)?;
    let beside = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    let conn = Connection::open(beside.path()).map_err(|e| store_error(&e))?;
    configure_connection(&conn).map_err(|e| store_error(&e))?;
    let db = Db::new(conn);
    create_world(&db, target, text, &new_world_id()?, now)?;
    db.close().map_err(|e| store_error(&e))?;
    match beside.persist_noclobber(path) {
        Ok(_) => file::sync_folder(folder).map_err(failed),
        // Another process was faster: its world is the world.
        Err(e) if e.error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(failed(e.error)),
    }
}

fn new_world_id() -> Result<String> {
    let mut bytes = [0; 10];
    getrandom::fill(&mut bytes)
        .map_err(|e| Error::new(Code::Internal, format!("the machine gives no random numbers: {e}")))?;
    Ok(data_encoding::BASE32_NOPAD.encode(&bytes).to_lowercase())
}

fn configure_connection(conn: &Connection) -> rusqlite::Result<()> {
    conn.busy_timeout(Duration::from_secs(30))?;
    conn.execute_batch("pragma journal_mode = wal; pragma synchronous = full; pragma foreign_keys = on")
}

/// Fills an empty file with a world, anchored at `now`.
fn create_world(db: &Db, target: &str, text: &str, id: &str, now: Moment) -> Result<()> {
    let world = WorldSpec::parse_and_check(text, &format!("the world of `{target}`"))?;
    let anchor = from_micros(to_micros(now));
    let said = |e: rusqlite::Error| store_error(&e);
    let making = db.begin_write().map_err(said)?;
    making.raw_connection().execute_batch(include_str!("schema.sql")).map_err(said)?;
    making.raw_connection().pragma_update(None, "user_version", FORMAT_VERSION).map_err(said)?;
    let sql = "insert into world (id, text, made_at, lsn, xid) values (?1, ?2, ?3, ?4, ?5)";
    making.execute(sql, params![id, text, to_micros(anchor), FIRST_LSN, FIRST_XID]).map_err(said)?;
    let shelf = ContentCache::default();
    let present = WorldTx { conn: &making, world: &world, shelf: &shelf, target, now: to_micros(anchor) };
    fill_world(&present, &world, anchor)?;
    making.commit().map_err(said)
}

fn fill_world(present: &WorldTx<'_>, world: &WorldSpec, anchor: Moment) -> Result<()> {
    let past = world.past_events(anchor);
    let begun = past.first().map_or(anchor, |(at, _)| *at);
    let line = present.begin_timeline(None, 1, None, to_micros(begun))?;
    let mut content = Content::empty()?;
    for (at, what) in past {
        match what {
            PastEvent::Statement(sql) => {
                let (lsn, xid) = present.allocate_transaction(sql.len())?;
                let entry = HistoryEntry { lsn, xid, at: to_micros(at), sql };
                let applied = content.apply_entry(&entry, None)?;
                present.append_entry(line, &entry, &applied)?;
            }
            PastEvent::Mark(name) => drop(present.add_restore_point(&name, line, to_micros(at), None)?),
        }
    }
    for backup in world.past_backups(anchor) {
        present.add_past_backup(line, &backup)?;
    }
    populate_environment(present, world)
}

/// Migrates a world from the previous format to this one.
fn migrate_world(db: &Db, target: &str, world: &WorldSpec) -> Result<()> {
    let said = |e: rusqlite::Error| store_error(&e);
    let moving = db.begin_write().map_err(said)?;
    let version: i64 = moving.query_row("pragma user_version", [], |row| row.get(0)).map_err(said)?;
    // Another process may have been faster.
    if version == PREVIOUS_VERSION {
        let made: i64 = moving.query_row("select made_at from world", [], |row| row.get(0)).map_err(said)?;
        let shelf = ContentCache::default();
        let present = WorldTx { conn: &moving, world, shelf: &shelf, target, now: made };
        populate_environment(&present, world)?;
        moving.raw_connection().pragma_update(None, "user_version", FORMAT_VERSION).map_err(said)?;
    }
    moving.commit().map_err(said)
}

/// Returns a moment in microseconds since 1970.
pub(super) fn to_micros(moment: Moment) -> i64 {
    moment.0.as_microsecond()
}

/// Returns the moment that many microseconds after 1970.
pub(super) fn from_micros(micros: i64) -> Moment {
    Moment(jiff::Timestamp::from_microsecond(micros).unwrap_or(jiff::Timestamp::MAX))
}

/// Returns what a commit that failed means: unless somebody else was busy, the disk may have it or not.
fn commit_error(e: &rusqlite::Error) -> Error {
    let known = store_error(e);
    if known.code == Code::Unavailable {
        return known;
    }
    Error::new(Code::Unknown, format!("the world's file does not say whether the effect was kept: {e}"))
        .with_hint("the effect log has its key if it was")
}

/// Turns SQLite's error about a world's file into an error of the simulator.
pub(super) fn store_error(e: &rusqlite::Error) -> Error {
    match e.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => {
            Error::new(Code::Unavailable, "another process is busy with the world").with_hint("try again")
        }
        // What a job that was accepted came to, a disk that fails does not say.
        Some(rusqlite::ErrorCode::SystemIoFailure) => {
            Error::new(Code::Unavailable, format!("the world's file cannot be read or written: {e}"))
                .with_hint("look at the disk of the state folder")
        }
        _ => Error::new(Code::Tool, format!("the world's file cannot be used: {e}"))
            .with_hint("look at `worlds/` in the state folder"),
    }
}
