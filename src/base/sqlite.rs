//! A connection to SQLite: each statement is read once, and a change may be part of a larger one.
//!
//! A database that is only borrowed lives in one change that is never kept: when it is given back, it is what it was.

use rusqlite::{CachedStatement, Connection, MAIN_DB, Params, Row};
use std::{
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, PoisonError},
};

/// More statements than any room has.
const STATEMENTS: usize = 256;

/// A connection.
pub struct Db(Connection);

/// What is done inside is kept as a whole, by [`Change::keep`], or not at all.
pub struct Change<'a> {
    db: &'a Db,
    is_part: bool,
    is_open: bool,
}

/// Connections to equal databases that nobody uses.
pub type Idle = Mutex<Vec<Db>>;

/// A connection that is given back, if it came from somewhere.
pub struct Loan {
    /// There until it is given back.
    db: Option<Db>,
    home: Option<Arc<Idle>>,
}

impl Db {
    /// Returns the same connection, with room for every statement.
    pub fn new(conn: Connection) -> Self {
        conn.set_prepared_statement_cache_capacity(STATEMENTS);
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

    /// Returns a statement, read anew only the first time.
    pub fn prepare(&self, sql: &str) -> rusqlite::Result<CachedStatement<'_>> {
        self.0.prepare_cached(sql)
    }

    /// Returns the number of the row that was added last.
    pub fn last_insert_rowid(&self) -> i64 {
        self.0.last_insert_rowid()
    }

    /// Returns the connection itself, for what is done once in its life.
    pub fn raw(&self) -> &Connection {
        &self.0
    }

    /// Returns the bytes of the whole file.
    pub fn image(&mut self) -> rusqlite::Result<Vec<u8>> {
        self.0.serialize(MAIN_DB).map(|image| image.to_vec())
    }

    /// Closes the file, and says whether that went well.
    pub fn close(self) -> rusqlite::Result<()> {
        self.0.close().map_err(|(_, e)| e)
    }

    /// Begins a change.
    pub fn change(&self) -> rusqlite::Result<Change<'_>> {
        let is_part = self.is_changing();
        self.execute(if is_part { "savepoint part" } else { "begin immediate" }, [])?;
        Ok(Change { db: self, is_part, is_open: true })
    }

    /// Begins a look, during which everything stays as it is.
    pub fn view(&self) -> rusqlite::Result<Change<'_>> {
        let is_part = self.is_changing();
        if !is_part {
            self.execute("begin", [])?;
        }
        Ok(Change { db: self, is_part, is_open: !is_part })
    }

    /// Returns whether this is inside a change.
    pub fn is_changing(&self) -> bool {
        !self.0.is_autocommit()
    }
}

impl Change<'_> {
    /// Keeps the change. When that fails, an earlier failure may have ended it already.
    pub fn keep(mut self) -> rusqlite::Result<()> {
        self.db.execute(if self.is_part { "release part" } else { "commit" }, [])?;
        self.is_open = false;
        Ok(())
    }

    fn undo(&self) -> rusqlite::Result<()> {
        if !self.db.is_changing() {
            return Ok(());
        }
        if !self.is_part {
            return self.db.execute("rollback", []).map(drop);
        }
        self.db.execute("rollback to part", [])?;
        self.db.execute("release part", []).map(drop)
    }
}

impl Deref for Change<'_> {
    type Target = Db;

    fn deref(&self) -> &Db {
        self.db
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        if self.is_open {
            // A connection that cannot go back is of no use to anybody, and says so at its next use.
            drop(self.undo());
        }
    }
}

impl Loan {
    /// Returns a connection that goes nowhere.
    pub fn own(db: Db) -> Self {
        Self { db: Some(db), home: None }
    }

    /// Borrows a connection from those that are idle, or takes the one that `make` makes there.
    pub fn of(home: &Arc<Idle>, make: impl FnOnce() -> rusqlite::Result<Db>) -> rusqlite::Result<Self> {
        let idle = home.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let db = idle.map_or_else(make, Ok)?;
        db.execute("begin", [])?;
        Ok(Self { db: Some(db), home: Some(Arc::clone(home)) })
    }
}

impl Deref for Loan {
    type Target = Db;

    fn deref(&self) -> &Db {
        self.db.as_ref().expect("it is given back when this is dropped")
    }
}

impl DerefMut for Loan {
    fn deref_mut(&mut self) -> &mut Db {
        self.db.as_mut().expect("it is given back when this is dropped")
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let (Some(db), Some(home)) = (self.db.take(), &self.home) else { return };
        if db.execute("rollback", []).is_ok() {
            home.lock().unwrap_or_else(PoisonError::into_inner).push(db);
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
            let change = db.change().expect("begins");
            add(&change);
            if kept {
                change.keep().expect("kept");
            } else {
                drop(change);
            }
            assert_eq!(count(&db), i64::from(kept));
            assert!(!db.is_changing());
        }
    }

    #[test]
    fn a_part_of_a_change_can_be_undone_alone() {
        let db = db();
        let whole = db.change().expect("begins");
        add(&whole);
        let part = db.change().expect("begins");
        add(&part);
        drop(part);
        assert_eq!(count(&db), 1);
        drop(db.view().expect("looks"));
        whole.keep().expect("kept");
        assert_eq!(count(&db), 1);
    }

    #[test]
    fn a_borrowed_database_is_given_back_as_it_was() {
        let idle = Arc::<Idle>::default();
        for _ in 0..2 {
            let loan = Loan::of(&idle, || Ok(db())).expect("lent");
            assert_eq!(count(&loan), 0);
            let change = loan.change().expect("begins");
            add(&change);
            change.keep().expect("kept for now");
            assert_eq!(count(&loan), 1);
        }
        assert_eq!(idle.lock().expect("not poisoned").len(), 1);
    }
}
