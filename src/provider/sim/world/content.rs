//! The rows of a database at one point of its history, in an in-memory SQLite.
//!
//! The rows follow from the statements alone: a statement that would reach outside (files, other databases, the
//! connection's own settings) is refused before it runs.

use super::{
    entry::{HistoryEntry, HistoryHash},
    functions::{self, StatementContext},
    statement::Statement,
};
use crate::base::lock::lock_unpoisoned;
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
    sync::{Arc, Mutex, MutexGuard},
    time::Instant,
};

/// What a statement did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::provider::sim) struct StatementOutcome {
    /// How many rows it touched.
    pub(in crate::provider::sim) rows: u64,
    /// `drop` or `truncate`, and the table.
    pub(in crate::provider::sim) event: Option<(&'static str, String)>,
}

/// What the authorizer saw of a user's statement; `on` while one is prepared and runs.
#[derive(Debug, Default)]
struct AuthorizerState {
    on: bool,
    denied: Option<&'static str>,
    dropped: Option<String>,
}

/// A database that statements made.
pub(in crate::provider::sim) struct Content {
    conn: Connection,
    context: Arc<StatementContext>,
    authorizer: Arc<Mutex<AuthorizerState>>,
    row_security: BTreeMap<String, bool>,
    dropped: BTreeSet<String>,
    head: i64,
    hash: HistoryHash,
}

impl Content {
    /// Returns a database in which nothing has happened.
    pub(super) fn empty() -> Result<Self> {
        let context = Arc::new(StatementContext::default());
        let authorizer = Arc::<Mutex<AuthorizerState>>::default();
        let conn = open_guarded_memory_db(&context, &authorizer).map_err(|e| statement_error(&e, None))?;
        Ok(Self {
            conn,
            context,
            authorizer,
            row_security: BTreeMap::new(),
            dropped: BTreeSet::new(),
            head: 0,
            hash: HistoryHash::default(),
        })
    }

    /// Returns the database that statements make.
    pub(super) fn replay(entries: &[HistoryEntry]) -> Result<Self> {
        let mut content = Self::empty()?;
        for entry in entries {
            content.apply_entry(entry, None)?;
        }
        Ok(content)
    }

    /// Returns the place up to which history was replayed.
    pub(super) fn replayed_up_to(&self) -> i64 {
        self.head
    }

    /// Returns the hash of the history that is in.
    pub(super) fn history_hash(&self) -> HistoryHash {
        self.hash
    }

    /// Runs a statement and keeps what it did; one that fails has done nothing.
    pub(in crate::provider::sim) fn apply_entry(
        &mut self,
        entry: &HistoryEntry,
        timeout: Option<Span>,
    ) -> Result<StatementOutcome> {
        let applied = self.execute_entry(entry, timeout, true)?;
        self.head = entry.lsn;
        self.hash = self.hash.extend_with(entry);
        Ok(applied)
    }

    /// Runs a statement and rolls it back.
    pub(in crate::provider::sim) fn dry_run_entry(
        &mut self,
        entry: &HistoryEntry,
        timeout: Span,
    ) -> Result<StatementOutcome> {
        self.execute_entry(entry, Some(timeout), false)
    }

    fn execute_entry(
        &mut self,
        entry: &HistoryEntry,
        timeout: Option<Span>,
        commits: bool,
    ) -> Result<StatementOutcome> {
        self.context.set_statement(entry.at, entry.xid);
        let statement = Statement::parse(&entry.sql);
        match &statement {
            Statement::RowSecurity { table, on } => {
                self.demand_table(table)?;
                if commits {
                    self.row_security.insert(table.to_lowercase(), *on);
                }
                Ok(StatementOutcome { rows: 0, event: None })
            }
            Statement::Plain { sql, empties } => {
                let rows = self.with_timeout(timeout, |content| content.execute_write(sql, commits))?;
                let rows = if statement.counts_rows() { rows } else { 0 };
                let dropped = self.lock_authorizer().dropped.take();
                if let (Some(table), true) = (&dropped, commits) {
                    self.row_security.remove(&table.to_lowercase());
                    self.dropped.insert(table.to_lowercase());
                }
                let event = dropped.map(|t| ("drop", t)).or(empties.clone().map(|t| ("truncate", t)));
                Ok(StatementOutcome { rows, event })
            }
        }
    }

    fn execute_write(&self, sql: &str, commits: bool) -> Result<u64> {
        let broken = |e: rusqlite::Error| statement_error(&e, None);
        let tx = Transaction::new_unchecked(&self.conn, TransactionBehavior::Deferred).map_err(broken)?;
        self.with_authorizer(|| {
            let mut statement = self.conn.prepare(sql)?;
            let mut rows = statement.query([])?;
            while rows.next()?.is_some() {}
            Ok(())
        })?;
        let count = self.conn.changes();
        if commits { tx.commit() } else { tx.rollback() }.map_err(broken)?;
        Ok(count)
    }

    /// Runs `work` for a user, with the authorizer on.
    fn with_authorizer<T>(&self, work: impl FnOnce() -> rusqlite::Result<T>) -> Result<T> {
        *self.lock_authorizer() = AuthorizerState { on: true, ..AuthorizerState::default() };
        let result = work();
        let denied = {
            let mut authorizer = self.lock_authorizer();
            authorizer.on = false;
            authorizer.denied.take()
        };
        result.map_err(|e| statement_error(&e, denied))
    }

    /// Runs one statement that reads, as it would be at `at` (microseconds since 1970).
    pub(in crate::provider::sim) fn query_at(&mut self, sql: &str, timeout: Span, at: i64) -> Result<Rows> {
        self.context.set_statement(at, self.head);
        let Statement::Plain { sql, .. } = Statement::parse(sql) else { return Err(write_in_query_error()) };
        self.with_timeout(Some(timeout), |content| content.select_rows(&sql))
    }

    fn select_rows(&self, sql: &str) -> Result<Rows> {
        let rows = self.with_authorizer(|| {
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
                    object.insert(column.clone(), cell_to_json(row.get_ref(i)?));
                }
                found.push(object);
            }
            Ok(Some(Rows { columns, rows: found }))
        })?;
        rows.ok_or_else(write_in_query_error)
    }

    fn with_timeout<T>(&mut self, timeout: Option<Span>, work: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        let broken = |e: rusqlite::Error| statement_error(&e, None);
        if let Some(timeout) = timeout {
            let (begun, allowed) = (Instant::now(), timeout.to_std());
            self.conn.progress_handler(1000, Some(move || begun.elapsed() > allowed)).map_err(broken)?;
        }
        let result = work(self);
        self.conn.progress_handler(0, None::<fn() -> bool>).map_err(broken)?;
        result
    }

    fn lock_authorizer(&self) -> MutexGuard<'_, AuthorizerState> {
        lock_unpoisoned(&self.authorizer)
    }

    fn demand_table(&self, table: &str) -> Result<()> {
        if self.table_names()?.iter().any(|t| t.eq_ignore_ascii_case(table)) {
            return Ok(());
        }
        Err(Error::new(Code::Sql, format!("the database refused the statement: no such table: {table}")))
    }

    /// Returns the names of the tables, sorted.
    pub(in crate::provider::sim) fn table_names(&self) -> Result<Vec<String>> {
        let sql = "select name from sqlite_schema where type = 'table' and name not like 'sqlite\\_%' escape '\\' order by name";
        self.query_column(sql)
    }

    /// Returns the tables that have no primary key, sorted.
    pub(super) fn tables_without_key(&self) -> Result<Vec<String>> {
        let sql = "select s.name from sqlite_schema s where s.type = 'table' and s.name not like 'sqlite\\_%' escape '\\'
                   and not exists (select 1 from pragma_table_info(s.name) where pk > 0) order by s.name";
        self.query_column(sql)
    }

    fn query_column(&self, sql: &str) -> Result<Vec<String>> {
        let read = || {
            self.conn.prepare_cached(sql)?.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()
        };
        read().map_err(|e| statement_error(&e, None))
    }

    /// Returns whether row-level security of `table` was switched on or off by a statement, and which.
    pub(in crate::provider::sim) fn switched_row_security(&self, table: &str) -> Option<bool> {
        self.row_security.get(&table.to_lowercase()).copied()
    }

    /// Returns whether a table of this name was dropped, and its policies with it.
    pub(super) fn was_dropped(&self, table: &str) -> bool {
        self.dropped.contains(&table.to_lowercase())
    }

    /// Returns the size in bytes.
    pub(in crate::provider::sim) fn size_in_bytes(&self) -> Result<u64> {
        let sql = "select page_count * page_size from pragma_page_count, pragma_page_size";
        self.conn
            .query_row(sql, [], |row| row.get::<_, i64>(0))
            .map(i64::unsigned_abs)
            .map_err(|e| statement_error(&e, None))
    }

    /// Returns every row of a table.
    pub(in crate::provider::sim) fn table_rows(&self, table: &str) -> Result<Rows> {
        self.select_rows(&format!("select * from \"{}\"", table.replace('"', "\"\"")))
    }

    /// Gives `read` the connection, for reading the schema and nothing else.
    pub(in crate::provider::sim) fn with_schema<T>(&self, read: impl FnOnce(&Connection) -> T) -> T {
        read(&self.conn)
    }

    /// Returns a digest of the schema and of every row.
    pub(in crate::provider::sim) fn digest(&self) -> Result<String> {
        let mut hash = Sha256::new();
        let mut add = |text: &str| {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
        };
        for sql in self.query_column("select coalesce(sql, name) from sqlite_schema order by type, name")? {
            add(&sql);
        }
        for table in self.table_names()? {
            let rows = self.table_rows(&table)?;
            add(&format!("{table} {:?} {:?}", self.switched_row_security(&table), rows.columns));
            for row in rows.rows {
                add(&Value::Object(row).to_string());
            }
        }
        Ok(data_encoding::HEXLOWER.encode(&hash.finalize()))
    }
}

fn open_guarded_memory_db(
    context: &Arc<StatementContext>,
    authorizer: &Arc<Mutex<AuthorizerState>>,
) -> rusqlite::Result<Connection> {
    let mut conn = Connection::open_in_memory()?;
    conn.execute_batch("pragma foreign_keys = on")?;
    functions::install_functions(&conn, context)?;
    let authorizer = Arc::clone(authorizer);
    conn.authorizer(Some(move |context: AuthContext<'_>| {
        let mut authorizer = lock_unpoisoned(&authorizer);
        if authorizer.on { authorize_action(&context.action, &mut authorizer) } else { Authorization::Allow }
    }))?;
    Ok(conn)
}

/// Decides whether a user's statement may do `action`, and notes a table that it drops.
fn authorize_action(action: &AuthAction<'_>, authorizer: &mut AuthorizerState) -> Authorization {
    let denied = match action {
        AuthAction::DropTable { table_name } => {
            authorizer.dropped = Some((*table_name).to_owned());
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
    authorizer.denied = Some(denied);
    Authorization::Deny
}

fn cell_to_json(cell: ValueRef<'_>) -> Value {
    match cell {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(n) => n.into(),
        // JSON has no infinities.
        ValueRef::Real(x) => Number::from_f64(x).map_or_else(|| Value::String(x.to_string()), Value::Number),
        ValueRef::Text(text) => Value::String(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Value::String(format!("\\x{}", data_encoding::HEXLOWER.encode(bytes))),
    }
}

fn write_in_query_error() -> Error {
    Error::new(Code::Sql, "the statement writes, and a query only reads").with_hint("use `db execute`")
}

/// Turns SQLite's error about a user's statement into an error of the simulator.
fn statement_error(e: &rusqlite::Error, denied: Option<&str>) -> Error {
    if let Some(what) = denied {
        return Error::unsupported(
            format!("the simulator does not run {what}"),
            "write one statement over tables of the database itself",
        );
    }
    if matches!(e, rusqlite::Error::MultipleStatement) {
        return Error::new(Code::Invalid, "more than one statement was given")
            .with_hint("send them one at a time");
    }
    if e.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) {
        return Error::new(Code::Timeout, "the statement took longer than it was given")
            .with_hint("give it a longer `timeout`");
    }
    let message = match e {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    };
    let foreign =
        ["syntax error", "no such function", "unrecognized token"].iter().any(|w| message.contains(w));
    let error = Error::new(Code::Sql, format!("the database refused the statement: {message}"));
    if foreign { error.with_hint("the simulator speaks SQLite's dialect of SQL") } else { error }
}

/// Returns the version of the database.
pub(in crate::provider::sim) fn version_text() -> String {
    format!("simulated (SQLite {})", rusqlite::version())
}
