//! A world inside a transaction, through which everything in it is read and written.

use super::{
    content_cache::ContentCache,
    spec::WorldSpec,
    time::{from_micros, span_to_micros},
};
use crate::{
    base::{
        moment::{Moment, Span},
        sqlite::Db,
    },
    provider::{Code, Error, Result},
};

/// A world at one moment, inside a transaction.
pub(in crate::provider::sim) struct WorldTx<'a> {
    /// The connection, inside a transaction.
    pub(super) conn: &'a Db,
    /// What the world's text says.
    pub(in crate::provider::sim) spec: &'a WorldSpec,
    /// The cache of its databases.
    pub(super) cache: &'a ContentCache,
    pub(in crate::provider::sim) target: &'a str,
    /// The world's time, in microseconds since 1970.
    pub(in crate::provider::sim) now: i64,
}

impl WorldTx<'_> {
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
    pub(in crate::provider::sim) fn made_at(&self) -> Result<Moment> {
        let made = self.conn.query_row("select made_at from world", [], |row| row.get(0));
        made.map(from_micros).map_err(|e| store_error(&e))
    }

    /// Returns the world's time.
    pub(super) fn current_moment(&self) -> Moment {
        from_micros(self.now)
    }

    /// Removes the row of a table with this id, if there is one.
    pub(in crate::provider::sim) fn delete_row(&self, table: &str, id: &str) -> Result<()> {
        self.conn
            .execute(&format!("delete from {table} where id = ?1"), [id])
            .map(drop)
            .map_err(|e| store_error(&e))
    }

    /// Sets the world's clock forward.
    pub(in crate::provider::sim) fn advance_clock(&self, span: Span) -> Result<()> {
        let sql = "update world set clock_offset = clock_offset + ?1";
        self.conn.execute(sql, [span_to_micros(span)]).map(drop).map_err(|e| store_error(&e))
    }
}

/// Turns SQLite's error about a world's file into an error of the simulator.
pub(in crate::provider::sim) fn store_error(e: &rusqlite::Error) -> Error {
    match e.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => {
            Error::new(Code::Unavailable, "another process is busy with the world").with_hint("try again")
        }
        // A disk that fails says nothing of a job that was accepted: it may be asked again.
        Some(rusqlite::ErrorCode::SystemIoFailure) => {
            Error::new(Code::Unavailable, format!("the world's file cannot be read or written: {e}"))
                .with_hint("look at the disk of the state folder")
        }
        Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
            Error::new(Code::Tool, format!("the world's file is damaged: {e}"))
                .with_hint("remove its file in `worlds/` of the state folder to begin a new one")
        }
        _ => Error::new(Code::Tool, format!("the world's file cannot be used: {e}"))
            .with_hint("look at `worlds/` in the state folder"),
    }
}
