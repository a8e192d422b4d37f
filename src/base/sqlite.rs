//! A connection to SQLite: statements are cached, and transactions nest (the inner ones are savepoints).
//!
//! A pooled connection lives in one transaction that is never committed: it goes back unchanged.

use crate::base::lock::lock_unpoisoned;
use rusqlite::{CachedStatement, Connection, MAIN_DB, Params, Row, params_from_iter, types::Value};
use std::{
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex},
};

/// How many prepared statements a connection caches; no part of the program has more.
const STATEMENT_CACHE_CAPACITY: usize = 256;

/// A connection with a cache of prepared statements.
pub struct Db(Connection);

/// A transaction, or a savepoint in a larger one. Rolled back on drop unless it was committed.
pub struct Transaction<'a> {
    db: &'a Db,
    is_savepoint: bool,
    is_open: bool,
}

/// Idle connections to databases with the same content.
pub type DbPool = Mutex<Vec<Db>>;

/// A connection that goes back to its pool on drop, if it came from one.
pub struct PooledDb {
    /// `None` only while it is being dropped.
    db: Option<Db>,
    pool: Option<Arc<DbPool>>,
}

impl Db {
    /// Wraps a connection and sizes its statement cache.
    pub fn new(conn: Connection) -> Self {
        conn.set_prepared_statement_cache_capacity(STATEMENT_CACHE_CAPACITY);
        Self(conn)
    }

    /// Runs a statement and returns how many rows it touched.
    ///
    /// # Errors
    /// What SQLite says, here and below.
    pub fn execute(&self, sql: &str, values: impl Params) -> rusqlite::Result<usize> {
        self.prepare(sql)?.execute(values)
    }

    /// Returns the one row that a statement finds.
    pub fn query_row<T>(
        &self,
        sql: &str,
        values: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        self.prepare(sql)?.query_row(values, read)
    }

    /// Returns a prepared statement, from the cache if it is there.
    pub fn prepare(&self, sql: &str) -> rusqlite::Result<CachedStatement<'_>> {
        self.0.prepare_cached(sql)
    }

    /// Returns the id of the row that was inserted last.
    pub fn last_insert_rowid(&self) -> i64 {
        self.0.last_insert_rowid()
    }

    /// Returns the underlying connection, for pragmas and scripts.
    pub fn raw_connection(&self) -> &Connection {
        &self.0
    }

    /// Returns the bytes of the whole database.
    pub fn serialize_database(&mut self) -> rusqlite::Result<Vec<u8>> {
        self.0.serialize(MAIN_DB).map(|image| image.to_vec())
    }

    /// Returns a copy in memory, which has what an open transaction has changed so far.
    ///
    /// Rows are copied one by one: the bytes of a database in memory are those before its transaction.
    pub fn copy_to_memory(&self) -> rusqlite::Result<Db> {
        let copy = Connection::open_in_memory()?;
        copy.execute_batch("pragma foreign_keys = off; begin")?;
        let sql = "select type = 'table', name, sql from sqlite_schema where name not like 'sqlite_%' order by 1 desc";
        let mut parts = self.0.prepare(sql)?;
        let mut parts = parts.query([])?;
        while let Some(part) = parts.next()? {
            copy.execute_batch(&part.get::<_, String>(2)?)?;
            if part.get(0)? {
                copy_rows(&self.0, &copy, &part.get::<_, String>(1)?)?;
            }
        }
        copy.execute_batch("commit; pragma foreign_keys = on")?;
        Ok(Self::new(copy))
    }

    /// Closes the connection and reports any error.
    pub fn close(self) -> rusqlite::Result<()> {
        self.0.close().map_err(|(_, e)| e)
    }

    /// Begins a write transaction, or a savepoint if one is open already.
    pub fn begin_write(&self) -> rusqlite::Result<Transaction<'_>> {
        let is_savepoint = self.is_in_transaction();
        self.execute(if is_savepoint { "savepoint part" } else { "begin immediate" }, [])?;
        Ok(Transaction { db: self, is_savepoint, is_open: true })
    }

    /// Begins a read transaction: every read in it sees the same state.
    pub fn begin_read(&self) -> rusqlite::Result<Transaction<'_>> {
        let is_savepoint = self.is_in_transaction();
        if !is_savepoint {
            self.execute("begin", [])?;
        }
        Ok(Transaction { db: self, is_savepoint, is_open: !is_savepoint })
    }

    /// Returns whether a transaction is open.
    pub fn is_in_transaction(&self) -> bool {
        !self.0.is_autocommit()
    }
}

/// Copies the rows of a table from one database to another.
fn copy_rows(from: &Connection, to: &Connection, table: &str) -> rusqlite::Result<()> {
    let mut select = from.prepare(&format!("select * from \"{table}\""))?;
    let width = select.column_count();
    let places = vec!["?"; width].join(", ");
    let mut insert = to.prepare(&format!("insert into \"{table}\" values ({places})"))?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let cells = (0..width).map(|at| row.get(at)).collect::<rusqlite::Result<Vec<Value>>>()?;
        insert.execute(params_from_iter(cells))?;
    }
    Ok(())
}

impl Transaction<'_> {
    /// Commits. This fails if an earlier failure has already ended the transaction.
    pub fn commit(mut self) -> rusqlite::Result<()> {
        self.db.execute(if self.is_savepoint { "release part" } else { "commit" }, [])?;
        self.is_open = false;
        Ok(())
    }

    fn roll_back(&self) -> rusqlite::Result<()> {
        if !self.db.is_in_transaction() {
            return Ok(());
        }
        if !self.is_savepoint {
            return self.db.execute("rollback", []).map(drop);
        }
        self.db.execute("rollback to part", [])?;
        self.db.execute("release part", []).map(drop)
    }
}

impl Deref for Transaction<'_> {
    type Target = Db;

    fn deref(&self) -> &Db {
        self.db
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if self.is_open {
            // If the rollback fails the connection is unusable, and its next use reports that.
            drop(self.roll_back());
        }
    }
}

impl PooledDb {
    /// Wraps a connection that belongs to no pool.
    pub fn from_owned(db: Db) -> Self {
        Self { db: Some(db), pool: None }
    }

    /// Takes an idle connection from the pool, or a new one from `make`; it returns to the pool on drop.
    pub fn from_pool(
        pool: &Arc<DbPool>,
        make: impl FnOnce() -> rusqlite::Result<Db>,
    ) -> rusqlite::Result<Self> {
        let idle = lock_unpoisoned(pool).pop();
        let db = idle.map_or_else(make, Ok)?;
        db.execute("begin", [])?;
        Ok(Self { db: Some(db), pool: Some(Arc::clone(pool)) })
    }
}

impl Deref for PooledDb {
    type Target = Db;

    fn deref(&self) -> &Db {
        self.db.as_ref().expect("it is given back when this is dropped")
    }
}

impl DerefMut for PooledDb {
    fn deref_mut(&mut self) -> &mut Db {
        self.db.as_mut().expect("it is given back when this is dropped")
    }
}

impl Drop for PooledDb {
    fn drop(&mut self) {
        let (Some(db), Some(pool)) = (self.db.take(), &self.pool) else { return };
        if db.execute("rollback", []).is_ok() {
            lock_unpoisoned(pool).push(db);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn db() -> Db {
        let conn = Connection::open_in_memory().expect("memory");
        conn.execute_batch("create table t (n)").expect("a table");
        Db::new(conn)
    }

    fn count(db: &Db) -> i64 {
        db.query_row("select count(*) from t", [], |row| row.get(0)).expect("counts")
    }

    fn add(db: &Db) {
        db.execute("insert into t values (1)", []).expect("added");
    }

    #[test]
    fn a_change_is_kept_as_a_whole_or_not_at_all() {
        let db = db();
        for kept in [false, true] {
            let change = db.begin_write().expect("begins");
            add(&change);
            if kept {
                change.commit().expect("kept");
            } else {
                drop(change);
            }
            assert_eq!(count(&db), i64::from(kept));
            assert!(!db.is_in_transaction());
        }
    }

    #[test]
    fn a_part_of_a_change_can_be_undone_alone() {
        let db = db();
        let whole = db.begin_write().expect("begins");
        add(&whole);
        let part = db.begin_write().expect("begins");
        add(&part);
        drop(part);
        assert_eq!(count(&db), 1);
        drop(db.begin_read().expect("begins"));
        whole.commit().expect("kept");
        assert_eq!(count(&db), 1);
    }

    #[test]
    fn a_copy_has_what_is_not_committed_yet_and_goes_its_own_way() {
        let db = db();
        let change = db.begin_write().expect("begins");
        add(&change);
        let copy = change.copy_to_memory().expect("copied");
        add(&copy);
        assert_eq!((count(&change), count(&copy)), (1, 2));
    }

    #[test]
    fn a_pooled_database_goes_back_as_it_was() {
        let idle = Arc::<DbPool>::default();
        for _ in 0..2 {
            let pooled = PooledDb::from_pool(&idle, || Ok(db())).expect("lent");
            assert_eq!(count(&pooled), 0);
            let change = pooled.begin_write().expect("begins");
            add(&change);
            change.commit().expect("kept for now");
            assert_eq!(count(&pooled), 1);
        }
        assert_eq!(idle.lock().expect("not poisoned").len(), 1);
    }
}
