//! The rows of a database at one point of its history, in an in-memory SQLite.
//!
//! A content is what its statements made of it and nothing else: statements that would look outside (files, other
//! databases, the connection's own settings) are refused before they run.

use super::{
    functions::{self, Scene},
    shelf::Past,
    statement::Statement,
};
use crate::{
    base::moment::Span,
    provider::{Code, Error, Result, model::Rows},
};
use rusqlite::{
    Connection, ErrorCode, Transaction, TransactionBehavior,
    hooks::{AuthAction, AuthContext, Authorization},
    types::ValueRef,
};
use serde_json::{Map, Number, Value};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

/// One committed statement, or one about to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// The place of its commit.
    pub(super) lsn: i64,
    /// The number of its transaction.
    pub(super) xid: i64,
    /// When it was committed, in microseconds since 1970.
    pub(super) at: i64,
    /// What it said.
    pub(super) sql: String,
}

/// What a statement did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Applied {
    /// How many rows it touched.
    pub(super) rows: u64,
    /// `drop` or `truncate`, and the table.
    pub(super) event: Option<(&'static str, String)>,
}

/// What the authorizer saw of a user's statement; `on` while one is prepared and runs.
#[derive(Debug, Default)]
struct Seen {
    on: bool,
    denied: Option<&'static str>,
    dropped: Option<String>,
}

/// A materialised database.
pub(super) struct Content {
    conn: Connection,
    scene: Arc<Scene>,
    seen: Arc<Mutex<Seen>>,
    row_security: BTreeMap<String, bool>,
    dropped: BTreeSet<String>,
    head: i64,
    past: Past,
}

impl Content {
    /// Returns a database in which nothing has happened.
    pub(super) fn empty() -> Result<Self> {
        let scene = Arc::new(Scene::default());
        let seen = Arc::<Mutex<Seen>>::default();
        let conn = open(&scene, &seen).map_err(|e| refusal(&e, None))?;
        Ok(Self {
            conn,
            scene,
            seen,
            row_security: BTreeMap::new(),
            dropped: BTreeSet::new(),
            head: 0,
            past: Past::default(),
        })
    }

    /// Returns the place up to which history is in.
    pub(super) fn head(&self) -> i64 {
        self.head
    }

    /// Returns the hash of the history that is in.
    pub(super) fn past(&self) -> Past {
        self.past
    }

    /// Runs a statement and keeps what it did; one that fails has done nothing.
    pub(super) fn apply(&mut self, entry: &Entry, timeout: Option<Span>) -> Result<Applied> {
        let applied = self.run(entry, timeout, true)?;
        self.head = entry.lsn;
        self.past = self.past.and(entry);
        Ok(applied)
    }

    /// Runs a statement and takes back what it did.
    pub(super) fn attempt(&mut self, entry: &Entry, timeout: Span) -> Result<Applied> {
        self.run(entry, Some(timeout), false)
    }

    fn run(&mut self, entry: &Entry, timeout: Option<Span>, keep: bool) -> Result<Applied> {
        self.scene.set(entry.at, entry.xid);
        let statement = Statement::read(&entry.sql);
        match &statement {
            Statement::RowSecurity { table, on } => {
                self.demand_table(table)?;
                if keep {
                    self.row_security.insert(table.to_lowercase(), *on);
                }
                Ok(Applied { rows: 0, event: None })
            }
            Statement::Plain { sql, empties } => {
                let rows = self.timed(timeout, |content| content.write(sql, keep))?;
                let rows = if statement.counts_rows() { rows } else { 0 };
                let dropped = self.seen().dropped.take();
                if let (Some(table), true) = (&dropped, keep) {
                    self.row_security.remove(&table.to_lowercase());
                    self.dropped.insert(table.to_lowercase());
                }
                let event = dropped.map(|t| ("drop", t)).or(empties.clone().map(|t| ("truncate", t)));
                Ok(Applied { rows, event })
            }
        }
    }

    fn write(&self, sql: &str, keep: bool) -> Result<u64> {
        let broken = |e: rusqlite::Error| refusal(&e, None);
        let tx = Transaction::new_unchecked(&self.conn, TransactionBehavior::Deferred).map_err(broken)?;
        self.watched(|| {
            let mut statement = self.conn.prepare(sql)?;
            let mut rows = statement.query([])?;
            while rows.next()?.is_some() {}
            Ok(())
        })?;
        let count = self.conn.changes();
        if keep { tx.commit() } else { tx.rollback() }.map_err(broken)?;
        Ok(count)
    }

    /// Does something for a user, under the eyes of the authorizer.
    fn watched<T>(&self, work: impl FnOnce() -> rusqlite::Result<T>) -> Result<T> {
        *self.seen() = Seen { on: true, ..Seen::default() };
        let result = work();
        let denied = {
            let mut seen = self.seen();
            seen.on = false;
            seen.denied.take()
        };
        result.map_err(|e| refusal(&e, denied))
    }

    /// Runs one statement that reads, as it would be at `at` (microseconds since 1970).
    pub(super) fn query(&mut self, sql: &str, timeout: Span, at: i64) -> Result<Rows> {
        self.scene.set(at, self.head);
        let Statement::Plain { sql, .. } = Statement::read(sql) else { return Err(writes()) };
        self.timed(Some(timeout), |content| content.read(&sql))
    }

    fn read(&self, sql: &str) -> Result<Rows> {
        let rows = self.watched(|| {
            let mut statement = self.conn.prepare_cached(sql)?;
            if !statement.readonly() {
                return Ok(None);
            }
            let columns: Vec<String> = statement.column_names().map(Into::into).collect();
            let mut found = Vec::new();
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let mut object = Map::new();
                for (i, column) in columns.iter().enumerate() {
                    object.insert(column.clone(), value(row.get_ref(i)?));
                }
                found.push(object);
            }
            Ok(Some(Rows { columns, rows: found }))
        })?;
        rows.ok_or_else(writes)
    }

    fn timed<T>(&mut self, timeout: Option<Span>, work: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        let broken = |e: rusqlite::Error| refusal(&e, None);
        if let Some(timeout) = timeout {
            let (begun, allowed) = (Instant::now(), timeout.to_std());
            self.conn.progress_handler(1000, Some(move || begun.elapsed() > allowed)).map_err(broken)?;
        }
        let result = work(self);
        self.conn.progress_handler(0, None::<fn() -> bool>).map_err(broken)?;
        result
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn demand_table(&self, table: &str) -> Result<()> {
        if self.tables()?.iter().any(|t| t.eq_ignore_ascii_case(table)) {
            return Ok(());
        }
        Err(Error::new(Code::Sql, format!("the database refused the statement: no such table: {table}")))
    }

    /// Returns the names of the tables, sorted.
    pub(super) fn tables(&self) -> Result<Vec<String>> {
        let sql = "select name from sqlite_schema where type = 'table' and name not like 'sqlite\\_%' escape '\\' order by name";
        self.column(sql)
    }

    /// Returns the tables that have no primary key, sorted.
    pub(super) fn tables_without_key(&self) -> Result<Vec<String>> {
        let sql = "select s.name from sqlite_schema s where s.type = 'table' and s.name not like 'sqlite\\_%' escape '\\'
                   and not exists (select 1 from pragma_table_info(s.name) where pk > 0) order by s.name";
        self.column(sql)
    }

    fn column(&self, sql: &str) -> Result<Vec<String>> {
        let read = || {
            self.conn.prepare_cached(sql)?.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()
        };
        read().map_err(|e| refusal(&e, None))
    }

    /// Returns whether row-level security of `table` was switched on or off by a statement, and which.
    pub(super) fn row_security(&self, table: &str) -> Option<bool> {
        self.row_security.get(&table.to_lowercase()).copied()
    }

    /// Returns whether a table of this name was dropped, and its policies with it.
    pub(super) fn was_dropped(&self, table: &str) -> bool {
        self.dropped.contains(&table.to_lowercase())
    }

    /// Returns the size in bytes.
    pub(super) fn bytes(&self) -> Result<u64> {
        let sql = "select page_count * page_size from pragma_page_count, pragma_page_size";
        self.conn
            .query_row(sql, [], |row| row.get::<_, i64>(0))
            .map(i64::unsigned_abs)
            .map_err(|e| refusal(&e, None))
    }

    /// Returns every row of a table.
    pub(super) fn rows(&self, table: &str) -> Result<Rows> {
        self.read(&format!("select * from \"{}\"", table.replace('"', "\"\"")))
    }

    /// Gives `look` the connection, on which it may read the schema and nothing else.
    pub(super) fn with_schema<T>(&self, look: impl FnOnce(&Connection) -> T) -> T {
        look(&self.conn)
    }

    /// Returns a digest of the schema and of every row.
    pub(super) fn digest(&self) -> Result<String> {
        let mut hash = Sha256::new();
        let mut add = |text: &str| {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
        };
        for sql in self.column("select coalesce(sql, name) from sqlite_schema order by type, name")? {
            add(&sql);
        }
        for table in self.tables()? {
            let rows = self.rows(&table)?;
            add(&format!("{table} {:?} {:?}", self.row_security(&table), rows.columns));
            for row in rows.rows {
                add(&Value::Object(row).to_string());
            }
        }
        Ok(data_encoding::HEXLOWER.encode(&hash.finalize()))
    }
}

fn open(scene: &Arc<Scene>, seen: &Arc<Mutex<Seen>>) -> rusqlite::Result<Connection> {
    let mut conn = Connection::open_in_memory()?;
    conn.execute_batch("pragma foreign_keys = on")?;
    functions::install(&conn, scene)?;
    let seen = Arc::clone(seen);
    conn.authorizer(Some(move |context: AuthContext<'_>| {
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.on { judge(&context.action, &mut seen) } else { Authorization::Allow }
    }))?;
    Ok(conn)
}

/// Decides whether a user's statement may do something, and notes a table that it drops.
fn judge(action: &AuthAction<'_>, seen: &mut Seen) -> Authorization {
    let denied = match action {
        AuthAction::DropTable { table_name } => {
            seen.dropped = Some((*table_name).to_owned());
            return Authorization::Allow;
        }
        AuthAction::Pragma { .. } => "PRAGMA",
        AuthAction::Attach { .. } | AuthAction::Detach { .. } => "ATTACH and DETACH",
        AuthAction::Transaction { .. } | AuthAction::Savepoint { .. } => "transaction control",
        AuthAction::CreateVtable { .. } => "virtual tables",
        AuthAction::CreateTempTable { .. }
        | AuthAction::CreateTempIndex { .. }
        | AuthAction::CreateTempView { .. }
        | AuthAction::CreateTempTrigger { .. } => "temporary tables, views and triggers",
        _ => return Authorization::Allow,
    };
    seen.denied = Some(denied);
    Authorization::Deny
}

fn value(cell: ValueRef<'_>) -> Value {
    match cell {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(n) => n.into(),
        // JSON has no infinities.
        ValueRef::Real(x) => Number::from_f64(x).map_or_else(|| Value::String(x.to_string()), Value::Number),
        ValueRef::Text(text) => Value::String(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Value::String(format!("\\x{}", data_encoding::HEXLOWER.encode(bytes))),
    }
}

fn writes() -> Error {
    Error::new(Code::Sql, "the statement writes, and a query only reads").hint("use `db execute`")
}

/// Returns what SQLite said about a user's statement, as this room says it.
fn refusal(e: &rusqlite::Error, denied: Option<&str>) -> Error {
    if let Some(what) = denied {
        return Error::unsupported(
            format!("the simulator does not run {what}"),
            "write one statement over tables of the database itself",
        );
    }
    if matches!(e, rusqlite::Error::MultipleStatement) {
        return Error::new(Code::Invalid, "more than one statement was given")
            .hint("send them one at a time");
    }
    if e.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) {
        return Error::new(Code::Timeout, "the statement took longer than it was given")
            .hint("give it a longer `timeout`");
    }
    let message = match e {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    };
    let foreign =
        ["syntax error", "no such function", "unrecognized token"].iter().any(|w| message.contains(w));
    let error = Error::new(Code::Sql, format!("the database refused the statement: {message}"));
    if foreign { error.hint("the simulator speaks SQLite's dialect of SQL") } else { error }
}
