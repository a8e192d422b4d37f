//! An open world, in which every effect happens once.
//!
//! A world is one SQLite database. Every effect is one transaction together with its row in the effect log. A key that is
//! in the log already is not acted on again: it gets the answer of then. Several processes may have one world open.

use super::{
    content::Content,
    content_cache::ContentCache,
    create::{
        FORMAT_VERSION, PREVIOUS_VERSION, WorldStart, configure_connection, create_world, create_world_file,
        migrate_world,
    },
    effects::{EffectRow, read_effect_row},
    spec::WorldSpec,
    time::{micros_to_span, span_to_micros, to_micros},
    tx::{WorldTx, store_error},
};
use crate::base::lock::lock_unpoisoned;
use crate::{
    base::{
        clock::Clock,
        moment::Span,
        sqlite::{Db, DbPool, PooledDb},
    },
    provider::{Code, Error, Result, model::CallKey},
};
use rusqlite::{Connection, MAIN_DB};
use serde_json::Value;
use std::{
    collections::{BTreeMap, btree_map},
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
};

/// An open world.
pub(in crate::provider::sim) struct WorldStore {
    db: Mutex<PooledDb>,
    contents: Mutex<BTreeMap<i64, Content>>,
    clock: Arc<dyn Clock>,
    target: String,
    id: String,
    spec: Arc<WorldSpec>,
    cache: Arc<ContentCache>,
}

impl WorldStore {
    /// Opens the world in `path`, which is made from `text` first where there is none.
    pub(in crate::provider::sim) fn open(
        path: &Path,
        target: &str,
        text: &str,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        if !path.exists() {
            create_world_file(path, target, text, clock.now())?;
        }
        let conn = Connection::open(path).map_err(|e| store_error(&e))?;
        configure_connection(&conn).map_err(|e| store_error(&e))?;
        Self::from_db(Db::new(conn), target, clock)
    }

    /// Returns a world in memory.
    pub(in crate::provider::sim) fn in_memory(
        target: &str,
        text: &str,
        id: &str,
        beginning: &WorldStart<'_>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let conn = Connection::open_in_memory().map_err(|e| store_error(&e))?;
        let db = Db::new(conn);
        create_world(&db, target, text, id, beginning)?;
        Self::from_db(db, target, clock)
    }

    /// Returns the world's description, and the bytes of its file.
    pub(in crate::provider::sim) fn export_image(&self) -> Result<(Arc<WorldSpec>, Vec<u8>)> {
        let image = self.lock_db().serialize_database().map_err(|e| store_error(&e))?;
        Ok((Arc::clone(&self.spec), image))
    }

    /// Returns a world in memory that begins as `image`. Its changes are forgotten with it, and its connection goes to
    /// the pool `idle` for the next.
    pub(in crate::provider::sim) fn from_image(
        image: &[u8],
        target: &str,
        id: &str,
        (spec, cache, idle): (Arc<WorldSpec>, Arc<ContentCache>, &Arc<DbPool>),
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let make = || {
            let mut conn = Connection::open_in_memory()?;
            conn.deserialize_read_exact(MAIN_DB, image, image.len(), false)?;
            Ok(Db::new(conn))
        };
        let db = Mutex::new(PooledDb::from_pool(idle, make).map_err(|e| store_error(&e))?);
        Ok(Self { db, contents: Mutex::default(), clock, target: target.into(), id: id.into(), spec, cache })
    }

    /// Returns a copy of the world as it is now, in memory, which goes its own way by the same clock.
    pub(in crate::provider::sim) fn copy_to_memory(&self) -> Result<Self> {
        let copy = self.lock_caught_up_db()?.copy_to_memory().map_err(|e| store_error(&e))?;
        Ok(Self {
            db: Mutex::new(PooledDb::from_owned(copy)),
            contents: Mutex::default(),
            clock: Arc::clone(&self.clock),
            target: self.target.clone(),
            id: self.id.clone(),
            spec: Arc::clone(&self.spec),
            cache: Arc::clone(&self.cache),
        })
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
        let spec = Arc::new(WorldSpec::parse(&text, &format!("the world of `{target}`"))?);
        if version == PREVIOUS_VERSION {
            migrate_world(&db, target, &spec)?;
        }
        let db = Mutex::new(PooledDb::from_owned(db));
        let (contents, cache) = (Mutex::default(), Arc::default());
        Ok(Self { db, contents, clock, target: target.into(), id, spec, cache })
    }

    /// Returns the world's own id.
    pub(in crate::provider::sim) fn id(&self) -> &str {
        &self.id
    }

    /// Returns what the world is, for people.
    pub(in crate::provider::sim) fn title(&self) -> &str {
        &self.spec.title
    }

    /// Reads the world, after completing everything that is due.
    pub(in crate::provider::sim) fn read_current_world<T>(
        &self,
        read: impl FnOnce(&WorldTx<'_>) -> Result<T>,
    ) -> Result<T> {
        let db = self.lock_caught_up_db()?;
        let view = db.begin_read().map_err(|e| store_error(&e))?;
        read(&self.world_tx(&view)?)
    }

    /// Does something once: `act` and its row in the log are one transaction. A key that was answered before gets that
    /// answer again.
    pub(in crate::provider::sim) fn apply_effect(
        &self,
        key: Option<&CallKey>,
        kind: &str,
        what: &str,
        act: impl FnOnce(&WorldTx<'_>) -> Result<Value>,
    ) -> Result<Value> {
        let answer = self.apply_effect_if_needed(key, kind, what, |p| act(p).map(Some))?;
        answer.ok_or_else(|| Error::new(Code::Internal, format!("`{kind}` of `{what}` gave no answer")))
    }

    /// Does something once as [`WorldStore::apply_effect`] does, if there is anything to do: `None` is no effect and leaves
    /// no row.
    pub(in crate::provider::sim) fn apply_effect_if_needed(
        &self,
        key: Option<&CallKey>,
        kind: &str,
        what: &str,
        act: impl FnOnce(&WorldTx<'_>) -> Result<Option<Value>>,
    ) -> Result<Option<Value>> {
        let db = self.lock_caught_up_db()?;
        let change = db.begin_write().map_err(|e| store_error(&e))?;
        let tx = self.world_tx(&change)?;
        if let Some(key) = key
            && let Some(before) = tx.find_effect(key)?
        {
            return if before.kind == kind {
                Ok(Some(before.answer))
            } else {
                Err(key_reuse_error(key, &before))
            };
        }
        let Some(answer) = act(&tx)? else { return Ok(None) };
        tx.append_effect(key, kind, what, &answer)?;
        change.commit().map_err(|e| commit_error(&e))?;
        Ok(Some(answer))
    }

    /// Adds `span` to the world's clock.
    ///
    /// Waiting does this often, so it does not wait for the disk: a power cut may take back time in which nothing else
    /// was written.
    pub(in crate::provider::sim) fn advance_clock(&self, span: Span) -> Result<()> {
        self.move_clock("update world set clock_offset = clock_offset + ?1", span.max(Span::ZERO))
    }

    /// Returns how much later the world's clock is than the machine's.
    pub(in crate::provider::sim) fn clock_lead(&self) -> Result<Span> {
        let lead = self.lock_db().query_row("select clock_offset from world", [], |row| row.get(0));
        lead.map(micros_to_span).map_err(|e| store_error(&e))
    }

    /// Sets the world's clock forward, so that it is at least `lead` later than the machine's.
    pub(in crate::provider::sim) fn raise_clock_lead(&self, lead: Span) -> Result<()> {
        self.move_clock("update world set clock_offset = max(clock_offset, ?1)", lead)
    }

    fn move_clock(&self, sql: &str, span: Span) -> Result<()> {
        let db = self.lock_db();
        let add = || db.execute(sql, [span_to_micros(span)]).map(drop);
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
    pub(in crate::provider::sim) fn effect_log(&self) -> Result<Vec<EffectRow>> {
        let db = self.lock_db();
        let mut statement = db
            .prepare("select seq, key, kind, what, at, answer from effects order by seq")
            .map_err(|e| store_error(&e))?;
        let rows = statement.query_map([], read_effect_row).map_err(|e| store_error(&e))?;
        rows.collect::<rusqlite::Result<_>>().map_err(|e| store_error(&e))
    }

    /// Gives `work` the database of a timeline as it is in `tx`.
    pub(in crate::provider::sim) fn with_content<T>(
        &self,
        tx: &WorldTx<'_>,
        timeline: i64,
        work: impl FnOnce(&mut Content) -> Result<T>,
    ) -> Result<T> {
        let mut contents = lock_unpoisoned(&self.contents);
        let content = match contents.entry(timeline) {
            btree_map::Entry::Occupied(there) => there.into_mut(),
            btree_map::Entry::Vacant(place) => {
                let entries = tx.history_entries(timeline, 0, i64::MAX)?;
                let made = self.cache.take_content(&entries).map_or_else(|| Content::replay(&entries), Ok)?;
                place.insert(made)
            }
        };
        for entry in tx.history_entries(timeline, content.replayed_up_to(), i64::MAX)? {
            content.apply_entry(&entry, None)?;
        }
        work(content)
    }

    /// Drops the database of a timeline: its transaction was not committed.
    pub(in crate::provider::sim) fn forget_content(&self, timeline: i64) {
        lock_unpoisoned(&self.contents).remove(&timeline);
    }

    /// Caches the database of a timeline that is gone.
    pub(in crate::provider::sim) fn release_content(&self, timeline: i64) {
        let content = lock_unpoisoned(&self.contents).remove(&timeline);
        if let Some(content) = content {
            self.cache.put_content(content);
        }
    }

    /// Returns the connection, after completing everything that is due in a transaction of its own.
    fn lock_caught_up_db(&self) -> Result<MutexGuard<'_, PooledDb>> {
        let db = self.lock_db();
        if self.world_tx(&db)?.has_due_work()? {
            let change = db.begin_write().map_err(|e| store_error(&e))?;
            self.world_tx(&change)?.complete_due_work()?;
            change.commit().map_err(|e| store_error(&e))?;
        }
        Ok(db)
    }

    fn lock_db(&self) -> MutexGuard<'_, PooledDb> {
        lock_unpoisoned(&self.db)
    }

    fn world_tx<'a>(&'a self, conn: &'a Db) -> Result<WorldTx<'a>> {
        let (made, offset): (i64, i64) = conn
            .query_row("select made_at, clock_offset from world", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .map_err(|e| store_error(&e))?;
        let now = to_micros(self.clock.now()).saturating_add(offset).max(made);
        Ok(WorldTx { conn, spec: &self.spec, cache: &self.cache, target: &self.target, now })
    }
}

impl Drop for WorldStore {
    fn drop(&mut self) {
        let contents = std::mem::take(&mut *lock_unpoisoned(&self.contents));
        for content in contents.into_values() {
            self.cache.put_content(content);
        }
    }
}

fn key_reuse_error(key: &CallKey, before: &EffectRow) -> Error {
    let message = format!("the key `{key}` was used for `{}` of `{}` before", before.kind, before.what);
    Error::new(Code::Internal, message)
}

/// Returns the error of a commit that failed: unless another process was busy, the effect may be on the disk or not.
fn commit_error(e: &rusqlite::Error) -> Error {
    let known = store_error(e);
    if known.code == Code::Unavailable {
        return known;
    }
    Error::new(Code::Unknown, format!("the world's file does not say whether the effect was kept: {e}"))
        .with_hint("the effect log has its key if it was")
}
