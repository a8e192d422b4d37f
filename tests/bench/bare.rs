//! What no durable record can do without: an insert and a commit that syncs, with nothing around it.

use crate::Result;
use rusqlite::{Connection, TransactionBehavior};
use std::path::Path;

/// A database that is set up as the journal is.
pub(crate) struct BareJournal {
    db: Connection,
    next: i64,
}

impl BareJournal {
    /// Opens the database of a folder, which begins a log of its own, as the journal's does when a process opens it.
    pub(crate) fn open(folder: &Path) -> Result<BareJournal> {
        let db = Connection::open(folder.join("bare.db"))?;
        db.pragma_update(None, "journal_mode", "wal")?;
        db.pragma_update(None, "synchronous", "full")?;
        db.execute_batch(
            "create table if not exists records (run integer, seq integer, at text, calls integer, body text, hash text,
                                                 primary key (run, seq)) strict, without rowid",
        )?;
        let next = db.query_row("select count(*) from records", [], |row| row.get(0))?;
        Ok(BareJournal { db, next })
    }

    /// Commits one record with a body of `size` bytes.
    pub(crate) fn commit_record(&mut self, size: usize) -> Result<()> {
        self.commit_records(&[size])
    }

    /// Commits records with bodies of these sizes, all at once.
    pub(crate) fn commit_records(&mut self, sizes: &[usize]) -> Result<()> {
        let (at, hash) = ("2026-11-20T01:00:00.123456789Z", "f".repeat(64));
        let all = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for size in sizes {
            self.next += 1;
            let record = (self.next, at, self.next, "x".repeat(*size), &hash);
            all.prepare_cached("insert into records values (1, ?1, ?2, ?3, ?4, ?5)")?.execute(record)?;
        }
        Ok(all.commit()?)
    }
}
