//! A world's file: one SQLite database, and what makes an effect happen once.
//!
//! Every effect is one transaction together with its row in the effect log. A key that is in the log already is not
//! acted on again: it is answered what it was answered then. Several processes may have one world open.

use super::{
    content::{Content, Entry},
    furnish::furnish,
    shelf::Shelf,
    world::{Past, World},
};
use crate::{
    base::{
        clock::Clock,
        file,
        moment::{Moment, Span},
        sqlite::{Db, Idle, Loan},
    },
    provider::{Code, Error, Result, model::Key},
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
const VERSION: i64 = 2;
/// The version before, which is moved on when it is opened.
const BEFORE: i64 = 1;
/// Where a new world's log begins, and with which transaction: as a young PostgreSQL cluster would.
const FIRST_LSN: i64 = 0x0300_0000;
const FIRST_XID: i64 = 731;

/// One row of the effect log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// Its place in the order of effects, from 1.
    pub seq: i64,
    /// The key of the call that asked, where there was one.
    pub key: Option<Key>,
    /// What kind: `backup.create`, `sql.execute`.
    pub kind: String,
    /// What it was done to.
    pub what: String,
    /// When, by the world's clock.
    pub at: Moment,
    /// What was answered.
    pub answer: Value,
}

/// A world that exists.
pub(super) struct Store {
    db: Mutex<Loan>,
    contents: Mutex<BTreeMap<i64, Content>>,
    clock: Arc<dyn Clock>,
    target: String,
    id: String,
    world: Arc<World>,
    shelf: Arc<Shelf>,
}

/// A world at one moment, inside a transaction.
pub(super) struct Present<'a> {
    /// The connection, inside a transaction.
    pub(super) conn: &'a Db,
    /// What was written of the world.
    pub(super) world: &'a World,
    /// What is known of its databases.
    pub(super) shelf: &'a Shelf,
    /// The target's name.
    pub(super) target: &'a str,
    /// The world's time, in microseconds since 1970.
    pub(super) now: i64,
}

impl Store {
    /// Opens the world in `path`, which is made from `text` first where there is none.
    pub(super) fn open(path: &Path, target: &str, text: &str, clock: Arc<dyn Clock>) -> Result<Self> {
        if !path.exists() {
            make_file(path, target, text, clock.now())?;
        }
        let conn = Connection::open(path).map_err(|e| broken(&e))?;
        configure(&conn).map_err(|e| broken(&e))?;
        Self::over(Db::new(conn), target, clock)
    }

    /// Returns a world in memory.
    pub(super) fn in_memory(target: &str, text: &str, id: &str, clock: Arc<dyn Clock>) -> Result<Self> {
        let conn = Connection::open_in_memory().map_err(|e| broken(&e))?;
        let db = Db::new(conn);
        make(&db, target, text, id, clock.now())?;
        Self::over(db, target, clock)
    }

    /// Returns what the world is written of, and the bytes of all of it.
    pub(super) fn image(&self) -> Result<(Arc<World>, Vec<u8>)> {
        let image = self.db().image().map_err(|e| broken(&e))?;
        Ok((Arc::clone(&self.world), image))
    }

    /// Returns a world in memory that begins as the one whose bytes these are. What becomes of it is forgotten with
    /// it, and its connection waits among the `idle` for the next.
    pub(super) fn of_image(
        image: &[u8],
        target: &str,
        id: &str,
        (world, shelf, idle): (Arc<World>, Arc<Shelf>, &Arc<Idle>),
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let make = || {
            let mut conn = Connection::open_in_memory()?;
            conn.deserialize_read_exact(MAIN_DB, image, image.len(), false)?;
            Ok(Db::new(conn))
        };
        let db = Mutex::new(Loan::of(idle, make).map_err(|e| broken(&e))?);
        Ok(Self { db, contents: Mutex::default(), clock, target: target.into(), id: id.into(), world, shelf })
    }

    fn over(db: Db, target: &str, clock: Arc<dyn Clock>) -> Result<Self> {
        let version: i64 =
            db.query_row("pragma user_version", [], |row| row.get(0)).map_err(|e| broken(&e))?;
        if version != VERSION && version != BEFORE {
            let message =
                format!("the world of `{target}` has the format {version}, this redrill reads {VERSION}");
            return Err(Error::new(Code::Refused, message)
                .hint("remove its file in `worlds/` of the state folder to begin a new one"));
        }
        let (id, text): (String, String) = db
            .query_row("select id, text from world", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .map_err(|e| broken(&e))?;
        let world = Arc::new(World::parse(&text, &format!("the world of `{target}`"))?);
        if version == BEFORE {
            move_on(&db, target, &world)?;
        }
        let db = Mutex::new(Loan::own(db));
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

    /// Looks at the world, in which everything that was due by now has happened.
    pub(super) fn look<T>(&self, see: impl FnOnce(&Present<'_>) -> Result<T>) -> Result<T> {
        let db = self.settled()?;
        let view = db.view().map_err(|e| broken(&e))?;
        see(&self.present(&view)?)
    }

    /// Does something once: `act` and its row in the log are one transaction. What `key` was answered before is
    /// answered again.
    pub(super) fn effect(
        &self,
        key: Option<&Key>,
        kind: &str,
        what: &str,
        act: impl FnOnce(&Present<'_>) -> Result<Value>,
    ) -> Result<Value> {
        let answer = self.effect_if(key, kind, what, |p| act(p).map(Some))?;
        answer.ok_or_else(|| Error::new(Code::Internal, format!("`{kind}` of `{what}` gave no answer")))
    }

    /// The same for what may find nothing to do: `None` is no effect and leaves no row.
    pub(super) fn effect_if(
        &self,
        key: Option<&Key>,
        kind: &str,
        what: &str,
        act: impl FnOnce(&Present<'_>) -> Result<Option<Value>>,
    ) -> Result<Option<Value>> {
        let db = self.settled()?;
        let change = db.change().map_err(|e| broken(&e))?;
        let present = self.present(&change)?;
        if let Some(key) = key
            && let Some(before) = present.effect(key)?
        {
            return if before.kind == kind { Ok(Some(before.answer)) } else { Err(other_use(key, &before)) };
        }
        let Some(answer) = act(&present)? else { return Ok(None) };
        present.record(key, kind, what, &answer)?;
        change.keep().map_err(|e| uncertain(&e))?;
        Ok(Some(answer))
    }

    /// Adds `span` to the world's clock.
    ///
    /// Waiting does this often, so it does not wait for the disk: a power cut may take back time in which nothing else
    /// was written, and nothing more.
    pub(super) fn pass(&self, span: Span) -> Result<()> {
        let micros = i64::try_from(span.0.as_micros()).unwrap_or(i64::MAX).max(0);
        let db = self.db();
        let add = || db.execute("update world set clock_offset = clock_offset + ?1", [micros]).map(drop);
        if db.is_changing() {
            return add().map_err(|e| broken(&e));
        }
        let unsynced = || {
            db.raw().execute_batch("pragma synchronous = normal")?;
            let added = add();
            db.raw().execute_batch("pragma synchronous = full")?;
            added
        };
        unsynced().map_err(|e| broken(&e))
    }

    /// Returns the effect log, oldest first.
    pub(super) fn log(&self) -> Result<Vec<Effect>> {
        let db = self.db();
        let mut statement = db
            .prepare("select seq, key, kind, what, at, answer from effects order by seq")
            .map_err(|e| broken(&e))?;
        let rows = statement.query_map([], effect).map_err(|e| broken(&e))?;
        rows.collect::<rusqlite::Result<_>>().map_err(|e| broken(&e))
    }

    /// Gives `work` the rows of a line as they are in `present`.
    pub(super) fn with_content<T>(
        &self,
        present: &Present<'_>,
        line: i64,
        work: impl FnOnce(&mut Content) -> Result<T>,
    ) -> Result<T> {
        let mut contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        let content = match contents.entry(line) {
            btree_map::Entry::Occupied(there) => there.into_mut(),
            btree_map::Entry::Vacant(place) => {
                let entries = present.entries(line, 0, i64::MAX)?;
                let made = self.shelf.take(&entries).map_or_else(|| Present::content_of(&entries), Ok)?;
                place.insert(made)
            }
        };
        for entry in present.entries(line, content.head(), i64::MAX)? {
            content.apply(&entry, None)?;
        }
        work(content)
    }

    /// Drops what is materialised of a line: its transaction did not come to pass.
    pub(super) fn forget_content(&self, line: i64) {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner).remove(&line);
    }

    /// Puts away what is materialised of a line that is no more.
    pub(super) fn shelve_content(&self, line: i64) {
        let content = self.contents.lock().unwrap_or_else(PoisonError::into_inner).remove(&line);
        if let Some(content) = content {
            self.shelf.put(content);
        }
    }

    /// Returns the connection after everything that is due has been done, in a transaction of its own.
    fn settled(&self) -> Result<MutexGuard<'_, Loan>> {
        let db = self.db();
        if self.present(&db)?.is_due()? {
            let change = db.change().map_err(|e| broken(&e))?;
            self.present(&change)?.settle()?;
            change.keep().map_err(|e| broken(&e))?;
        }
        Ok(db)
    }

    fn db(&self) -> MutexGuard<'_, Loan> {
        self.db.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn present<'a>(&'a self, conn: &'a Db) -> Result<Present<'a>> {
        let (made, offset): (i64, i64) = conn
            .query_row("select made_at, clock_offset from world", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .map_err(|e| broken(&e))?;
        let now = micros(self.clock.now()).saturating_add(offset).max(made);
        Ok(Present { conn, world: &self.world, shelf: &self.shelf, target: &self.target, now })
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let contents = std::mem::take(self.contents.get_mut().unwrap_or_else(PoisonError::into_inner));
        for content in contents.into_values() {
            self.shelf.put(content);
        }
    }
}

impl Present<'_> {
    /// Returns what was done under `key`.
    pub(super) fn effect(&self, key: &Key) -> Result<Option<Effect>> {
        let sql = "select seq, key, kind, what, at, answer from effects where key = ?1";
        self.conn.query_row(sql, [&key.0], effect).optional().map_err(|e| broken(&e))
    }

    /// Returns what `sql` finds, read row by row.
    pub(super) fn rows<T>(
        &self,
        sql: &str,
        values: impl rusqlite::Params,
        read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let all = || self.conn.prepare(sql)?.query_map(values, read)?.collect::<rusqlite::Result<Vec<_>>>();
        all().map_err(|e| broken(&e))
    }

    /// Returns when the world was made.
    pub(super) fn made_at(&self) -> Result<Moment> {
        let made = self.conn.query_row("select made_at from world", [], |row| row.get(0));
        made.map(moment).map_err(|e| broken(&e))
    }

    fn record(&self, key: Option<&Key>, kind: &str, what: &str, answer: &Value) -> Result<()> {
        let sql = "insert into effects (key, kind, what, at, answer) values (?1, ?2, ?3, ?4, ?5)";
        let values = params![key.map(|k| &k.0), kind, what, self.now, answer.to_string()];
        self.conn.execute(sql, values).map(drop).map_err(|e| broken(&e))
    }
}

fn effect(row: &rusqlite::Row<'_>) -> rusqlite::Result<Effect> {
    let answer: String = row.get(5)?;
    Ok(Effect {
        seq: row.get(0)?,
        key: row.get::<_, Option<String>>(1)?.map(Key),
        kind: row.get(2)?,
        what: row.get(3)?,
        at: moment(row.get(4)?),
        answer: serde_json::from_str(&answer).unwrap_or_default(),
    })
}

fn other_use(key: &Key, before: &Effect) -> Error {
    let message = format!("the key `{key}` was used for `{}` of `{}` before", before.kind, before.what);
    Error::new(Code::Internal, message)
}

/// Makes a world's file whole beside `path` and then gives it its name, so that nobody ever sees half a world.
fn make_file(path: &Path, target: &str, text: &str, now: Moment) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let failed = |why: std::io::Error| {
        Error::new(
            Code::Unavailable,
            format!("the world of `{target}` cannot be made in {}: {why}", folder.display()),
        )
        .hint("choose another state folder with `--state`")
    };
    fs::create_dir_all(folder).map_err(failed)?;
    let beside = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    let conn = Connection::open(beside.path()).map_err(|e| broken(&e))?;
    configure(&conn).map_err(|e| broken(&e))?;
    let db = Db::new(conn);
    make(&db, target, text, &new_id()?, now)?;
    db.close().map_err(|e| broken(&e))?;
    match beside.persist_noclobber(path) {
        Ok(_) => file::sync_folder(folder).map_err(failed),
        // Another process was faster: its world is the world.
        Err(e) if e.error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(failed(e.error)),
    }
}

fn new_id() -> Result<String> {
    let mut bytes = [0; 10];
    getrandom::fill(&mut bytes)
        .map_err(|e| Error::new(Code::Internal, format!("the machine gives no random numbers: {e}")))?;
    Ok(data_encoding::BASE32_NOPAD.encode(&bytes).to_lowercase())
}

fn configure(conn: &Connection) -> rusqlite::Result<()> {
    conn.busy_timeout(Duration::from_secs(30))?;
    conn.execute_batch("pragma journal_mode = wal; pragma synchronous = full; pragma foreign_keys = on")
}

/// Fills an empty file with a world, anchored at `now`.
fn make(db: &Db, target: &str, text: &str, id: &str, now: Moment) -> Result<()> {
    let world = World::read(text, &format!("the world of `{target}`"))?;
    let anchor = moment(micros(now));
    let said = |e: rusqlite::Error| broken(&e);
    let making = db.change().map_err(said)?;
    making.raw().execute_batch(include_str!("schema.sql")).map_err(said)?;
    making.raw().pragma_update(None, "user_version", VERSION).map_err(said)?;
    let sql = "insert into world (id, text, made_at, lsn, xid) values (?1, ?2, ?3, ?4, ?5)";
    making.execute(sql, params![id, text, micros(anchor), FIRST_LSN, FIRST_XID]).map_err(said)?;
    let shelf = Shelf::default();
    let present = Present { conn: &making, world: &world, shelf: &shelf, target, now: micros(anchor) };
    fill(&present, &world, anchor)?;
    making.keep().map_err(said)
}

fn fill(present: &Present<'_>, world: &World, anchor: Moment) -> Result<()> {
    let past = world.past(anchor);
    let begun = past.first().map_or(anchor, |(at, _)| *at);
    let line = present.begin_line(None, 1, None, micros(begun))?;
    let mut content = Content::empty()?;
    for (at, what) in past {
        match what {
            Past::Statement(sql) => {
                let (lsn, xid) = present.advance(sql.len())?;
                let entry = Entry { lsn, xid, at: micros(at), sql };
                let applied = content.apply(&entry, None)?;
                present.append(line, &entry, &applied)?;
            }
            Past::Mark(name) => drop(present.add_mark(&name, line, micros(at), None)?),
        }
    }
    for backup in world.backups(anchor) {
        present.add_past_backup(line, &backup)?;
    }
    furnish(present, world)
}

/// Moves a world of the format before on to this one.
fn move_on(db: &Db, target: &str, world: &World) -> Result<()> {
    let said = |e: rusqlite::Error| broken(&e);
    let moving = db.change().map_err(said)?;
    let version: i64 = moving.query_row("pragma user_version", [], |row| row.get(0)).map_err(said)?;
    // Another process may have been faster.
    if version == BEFORE {
        let made: i64 = moving.query_row("select made_at from world", [], |row| row.get(0)).map_err(said)?;
        let shelf = Shelf::default();
        let present = Present { conn: &moving, world, shelf: &shelf, target, now: made };
        furnish(&present, world)?;
        moving.raw().pragma_update(None, "user_version", VERSION).map_err(said)?;
    }
    moving.keep().map_err(said)
}

/// Returns a moment in microseconds since 1970.
pub(super) fn micros(moment: Moment) -> i64 {
    moment.0.as_microsecond()
}

/// Returns the moment that many microseconds after 1970.
pub(super) fn moment(micros: i64) -> Moment {
    Moment(jiff::Timestamp::from_microsecond(micros).unwrap_or(jiff::Timestamp::MAX))
}

/// Returns what a commit that failed means: unless somebody else was busy, the disk may have it or not.
fn uncertain(e: &rusqlite::Error) -> Error {
    let known = broken(e);
    if known.code == Code::Unavailable {
        return known;
    }
    Error::new(Code::Unknown, format!("the world's file does not say whether the effect was kept: {e}"))
        .hint("the effect log has its key if it was")
}

/// Returns what SQLite said about a world's file, as this room says it.
pub(super) fn broken(e: &rusqlite::Error) -> Error {
    match e.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => {
            Error::new(Code::Unavailable, "another process is busy with the world").hint("try again")
        }
        // What a job that was accepted came to, a disk that fails does not say.
        Some(rusqlite::ErrorCode::SystemIoFailure) => {
            Error::new(Code::Unavailable, format!("the world's file cannot be read or written: {e}"))
                .hint("look at the disk of the state folder")
        }
        _ => Error::new(Code::Tool, format!("the world's file cannot be used: {e}"))
            .hint("look at `worlds/` in the state folder"),
    }
}
