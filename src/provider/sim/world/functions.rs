//! SQL functions whose results SQLite takes from the machine, and here the statement decides.
//!
//! A statement runs again whenever its database is rebuilt: in another process, years later. So time is the
//! statement's own, randomness comes from its transaction id, and what depends on the connection is refused.

use jiff::Timestamp;
use rusqlite::{
    Connection, Error, Result,
    functions::{Context, FunctionFlags},
    params_from_iter,
    types::Value,
};
use sha2::{Digest as _, Sha256};
use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
};

/// The time and the transaction id of a statement: all that it may know of the world outside its database.
#[derive(Debug, Default)]
pub(super) struct StatementContext {
    /// Microseconds since 1970.
    at: AtomicI64,
    xid: AtomicI64,
    draws: AtomicU64,
}

impl StatementContext {
    /// Sets the time (microseconds since 1970) and the transaction id of the next statement.
    pub(super) fn set_statement(&self, at: i64, xid: i64) {
        self.at.store(at, Relaxed);
        self.xid.store(xid, Relaxed);
        self.draws.store(0, Relaxed);
    }

    pub(in crate::provider::sim) fn now(&self) -> Timestamp {
        Timestamp::from_microsecond(self.at.load(Relaxed)).unwrap_or_default()
    }

    /// Returns the next 32 pseudo-random bytes of this statement.
    fn draw_random_bytes(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.xid.load(Relaxed).to_be_bytes());
        hash.update(self.draws.fetch_add(1, Relaxed).to_be_bytes());
        hash.finalize().into()
    }
}

/// SQLite's functions of time, and how many arguments they take; -1 is any number.
const TIME_FUNCTIONS: &[(&str, i32)] = &[
    ("date", -1),
    ("time", -1),
    ("datetime", -1),
    ("julianday", -1),
    ("unixepoch", -1),
    ("strftime", -1),
    ("timediff", 2),
];

/// Functions that depend on the connection, which a replay does not share, and how many arguments they take.
const REFUSED_FUNCTIONS: &[(&str, i32)] = &[
    ("changes", 0),
    ("total_changes", 0),
    ("last_insert_rowid", 0),
    ("load_extension", 1),
    ("load_extension", 2),
];

/// Installs the functions on a connection.
pub(super) fn install_functions(conn: &Connection, context: &Arc<StatementContext>) -> Result<()> {
    install_current_time_functions(conn, context)?;
    install_random_function(conn, context)?;
    for (name, arity) in TIME_FUNCTIONS {
        install_time_function(conn, context, name, *arity)?;
    }
    for (name, arity) in REFUSED_FUNCTIONS {
        let why = format!("{name}() depends on the connection and would not replay alike");
        conn.create_scalar_function(*name, *arity, FunctionFlags::SQLITE_UTF8, move |_| {
            Err::<Value, _>(Error::UserFunctionError(why.clone().into()))
        })?;
    }
    Ok(())
}

fn install_current_time_functions(conn: &Connection, context: &Arc<StatementContext>) -> Result<()> {
    let formats = [
        ("now", "%Y-%m-%dT%H:%M:%S%.fZ"),
        ("current_timestamp", "%Y-%m-%d %H:%M:%S"),
        ("current_date", "%Y-%m-%d"),
        ("current_time", "%H:%M:%S"),
    ];
    for (name, format) in formats {
        let context = Arc::clone(context);
        conn.create_scalar_function(name, 0, FunctionFlags::SQLITE_UTF8, move |_| {
            Ok(context.now().strftime(format).to_string())
        })?;
    }
    Ok(())
}

fn install_random_function(conn: &Connection, context: &Arc<StatementContext>) -> Result<()> {
    let whole = Arc::clone(context);
    conn.create_scalar_function("random", 0, FunctionFlags::SQLITE_UTF8, move |_| {
        Ok(whole.draw_random_bytes().iter().take(8).fold(0_i64, |n, byte| (n << 8) | i64::from(*byte)))
    })?;
    let bytes = Arc::clone(context);
    conn.create_scalar_function("randomblob", 1, FunctionFlags::SQLITE_UTF8, move |call| {
        let length = usize::try_from(call.get::<i64>(0)?.clamp(1, 1 << 20)).unwrap_or(1);
        let mut drawn = Vec::new();
        while drawn.len() < length {
            drawn.extend(bytes.draw_random_bytes());
        }
        drawn.truncate(length);
        Ok(drawn)
    })
}

/// Replaces a function of time by one that spells out `now` and calls the original, on a connection of its own.
fn install_time_function(
    conn: &Connection,
    context: &Arc<StatementContext>,
    name: &'static str,
    arity: i32,
) -> Result<()> {
    let original = Connection::open_in_memory()?;
    let context = Arc::clone(context);
    conn.create_scalar_function(name, arity, FunctionFlags::SQLITE_UTF8, move |call| {
        let arguments = replace_now(call, name, &context)?;
        let holes = vec!["?"; arguments.len()].join(", ");
        original.query_row(&format!("select {name}({holes})"), params_from_iter(arguments), |row| {
            row.get::<_, Value>(0)
        })
    })
}

/// Returns the arguments of a call with the present moment where it is meant: left out, or `now`.
fn replace_now(call: &Context<'_>, name: &str, context: &StatementContext) -> Result<Vec<Value>> {
    let present = || Value::Text(context.now().strftime("%Y-%m-%d %H:%M:%S%.f").to_string());
    let mut arguments = (0..call.len()).map(|i| call.get::<Value>(i)).collect::<Result<Vec<_>>>()?;
    let first = usize::from(name == "strftime");
    if arguments.len() == first {
        arguments.push(present());
    }
    for argument in &mut arguments[first..] {
        if matches!(argument, Value::Text(text) if text.trim().eq_ignore_ascii_case("now")) {
            *argument = present();
        }
    }
    Ok(arguments)
}
