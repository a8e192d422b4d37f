//! Leases: which run uses which target, shared or exclusively.
//!
//! A lease counts only while a process holds its run's lock. It covers one state
//! folder; runs of other folders on the same target are not seen.

use super::{Error, Holder, Journal, Lease, LeaseMode, lock, rows, schema};
use crate::base::{moment::Moment, sqlite::Db};
use rusqlite::{OptionalExtension as _, params};

/// A lease that another run has.
struct ConflictingLease {
    run: String,
    name: String,
    mode: LeaseMode,
    holder: Holder,
    since: Moment,
}

impl Journal {
    /// Leases every target for a run, or none of them. Leases of runs that no process holds give way. A run that leases a
    /// target a second time keeps the stronger mode of the two.
    ///
    /// # Errors
    /// [`Error::Leased`] with the first target that another run has and one of the two needs exclusively.
    pub fn acquire_leases(&self, wanted: &[Lease], run: &str, holder: &Holder) -> Result<(), Error> {
        if wanted.is_empty() {
            return Ok(());
        }
        let at = |e: rusqlite::Error| schema::to_journal_error(&self.state, &e);
        let db = self.lock_db();
        let tx = db.begin_write().map_err(at)?;
        for lease in wanted {
            while let Some(conflict) = find_conflict(&tx, lease, run).map_err(at)? {
                if lock::is_run_held(&self.state, &conflict.run) {
                    return Err(leased_error(lease, conflict));
                }
                delete_leases(&tx, &conflict.run).map_err(at)?;
            }
            insert_or_strengthen_lease(&tx, lease, run, holder, self.clock.now()).map_err(at)?;
        }
        tx.commit().map_err(at)
    }

    /// Gives back every lease of a run.
    ///
    /// # Errors
    /// [`Error::NotWritable`], [`Error::Unreadable`].
    pub fn release_leases(&self, run: &str) -> Result<(), Error> {
        let db = self.lock_db();
        let tx = db.begin_write();
        tx.and_then(|tx| delete_leases(&tx, run).and_then(|()| tx.commit()))
            .map_err(|e| schema::to_journal_error(&self.state, &e))
    }

    /// Returns the leases that a run has.
    ///
    /// # Errors
    /// [`Error::Unreadable`].
    pub fn list_leases(&self, run: &str) -> Result<Vec<Lease>, Error> {
        let db = self.lock_db();
        let all = || {
            let mut all =
                db.prepare("select target, name, mode from leases where run = ?1 order by target")?;
            let read = |row: &rusqlite::Row<'_>| {
                Ok(Lease {
                    target: row.get(0)?,
                    name: row.get(1)?,
                    mode: LeaseMode::from_text(&row.get::<_, String>(2)?),
                })
            };
            all.query_map([run], read)?.collect::<rusqlite::Result<_>>()
        };
        all().map_err(|e| schema::to_journal_error(&self.state, &e))
    }
}

/// Returns the error of a lease that another run keeps from this one.
fn leased_error(lease: &Lease, conflict: ConflictingLease) -> Error {
    let ConflictingLease { run, name, mode, holder, since } = conflict;
    Error::Leased { target: lease.target.clone(), name, run, mode, holder, since }
}

/// Returns another run's lease that conflicts with the wanted one.
fn find_conflict(tx: &Db, wanted: &Lease, run: &str) -> rusqlite::Result<Option<ConflictingLease>> {
    tx.prepare(
        "select run, name, mode, pid, host, since from leases
         where target = ?1 and run <> ?2 and 'exclusive' in (mode, ?3) limit 1",
    )?
    .query_row(params![wanted.target, run, wanted.mode.as_str()], |row| {
        let mode = LeaseMode::from_text(&row.get::<_, String>(2)?);
        let holder = Holder { pid: row.get(3)?, host: row.get(4)? };
        let since = rows::parse_column(row, 5, |text| Moment::parse(&text))?;
        Ok(ConflictingLease { run: row.get(0)?, name: row.get(1)?, mode, holder, since })
    })
    .optional()
}

fn insert_or_strengthen_lease(
    tx: &Db,
    lease: &Lease,
    run: &str,
    by: &Holder,
    at: Moment,
) -> rusqlite::Result<()> {
    tx.prepare(
        "insert into leases (target, run, name, mode, pid, host, since) values (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         on conflict (target, run) do update set
            mode = case when 'exclusive' in (mode, excluded.mode) then 'exclusive' else 'shared' end,
            name = excluded.name, pid = excluded.pid, host = excluded.host, since = excluded.since",
    )?
    .execute(params![lease.target, run, lease.name, lease.mode.as_str(), by.pid, by.host, at.to_string()])
    .map(drop)
}

fn delete_leases(tx: &Db, run: &str) -> rusqlite::Result<()> {
    tx.prepare("delete from leases where run = ?1")?.execute([run]).map(drop)
}
