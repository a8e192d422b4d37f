//! Leases: which run uses which target, shared or exclusively.
//!
//! A lease counts only while a process holds its run's lock. It covers one state
//! folder; runs of other folders on the same target are not seen.

use super::{Error, Holder, Journal, lock, schema};
use crate::base::{moment::Moment, sqlite::Db};
use rusqlite::{OptionalExtension as _, params};
use std::fmt;

/// How a run uses a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseMode {
    /// Other runs may use it too, if they share it.
    Shared,
    /// No other run may use it.
    Exclusive,
}

impl LeaseMode {
    const fn as_str(self) -> &'static str {
        match self {
            LeaseMode::Shared => "shared",
            LeaseMode::Exclusive => "exclusive",
        }
    }

    fn from_text(text: &str) -> LeaseMode {
        if text == "shared" { LeaseMode::Shared } else { LeaseMode::Exclusive }
    }
}

impl fmt::Display for LeaseMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A target that a run uses, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The target's identity, independent of its name.
    pub target: String,
    /// What the run calls it.
    pub name: String,
    /// How the run uses it.
    pub mode: LeaseMode,
}

/// A lease that another run has.
struct ConflictingLease {
    run: String,
    name: String,
    mode: LeaseMode,
    holder: Holder,
    since: String,
}

impl Journal {
    /// Leases every target for a run, or none of them. Leases of runs that no process moves give way. A run that
    /// asks again for a target keeps the stronger of the two.
    ///
    /// # Errors
    /// [`Error::Leased`] with the first target of which either run needs to be the only one to use it.
    pub fn acquire_leases(&self, wanted: &[Lease], run: &str, holder: &Holder) -> Result<(), Error> {
        if wanted.is_empty() {
            return Ok(());
        }
        let at = |e: rusqlite::Error| schema::to_journal_error(&self.state, &e);
        let db = self.lock_db();
        let all = db.begin_write().map_err(at)?;
        for lease in wanted {
            while let Some(rival) = find_conflict(&all, lease, run).map_err(at)? {
                if lock::is_run_held(&self.state, &rival.run) {
                    return Err(self.leased_error(lease, rival));
                }
                delete_leases(&all, &rival.run).map_err(at)?;
            }
            insert_lease(&all, lease, run, holder, self.clock.now()).map_err(at)?;
        }
        all.commit().map_err(at)
    }

    /// Gives back every lease of a run.
    ///
    /// # Errors
    /// [`Error::NotWritable`], [`Error::Unreadable`].
    pub fn release_leases(&self, run: &str) -> Result<(), Error> {
        let db = self.lock_db();
        let all = db.begin_write();
        all.and_then(|all| delete_leases(&all, run).and_then(|()| all.commit()))
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

    fn leased_error(&self, lease: &Lease, rival: ConflictingLease) -> Error {
        let ConflictingLease { run, name, mode, holder, since } = rival;
        // Stored as text; a value that does not parse is shown as now.
        let since = Moment::parse(&since).unwrap_or_else(|_| self.clock.now());
        Error::Leased { target: lease.target.clone(), name, run, mode, holder, since }
    }
}

/// Returns another run's lease that conflicts with the wanted one.
fn find_conflict(all: &Db, wanted: &Lease, run: &str) -> rusqlite::Result<Option<ConflictingLease>> {
    all.prepare(
        "select run, name, mode, pid, host, since from leases
         where target = ?1 and run <> ?2 and 'exclusive' in (mode, ?3) limit 1",
    )?
    .query_row(params![wanted.target, run, wanted.mode.as_str()], |row| {
        let mode = LeaseMode::from_text(&row.get::<_, String>(2)?);
        let holder = Holder { pid: row.get(3)?, host: row.get(4)? };
        Ok(ConflictingLease { run: row.get(0)?, name: row.get(1)?, mode, holder, since: row.get(5)? })
    })
    .optional()
}

fn insert_lease(all: &Db, lease: &Lease, run: &str, by: &Holder, at: Moment) -> rusqlite::Result<()> {
    all.prepare(
        "insert into leases (target, run, name, mode, pid, host, since) values (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         on conflict (target, run) do update set
            mode = case when 'exclusive' in (mode, excluded.mode) then 'exclusive' else 'shared' end,
            name = excluded.name, pid = excluded.pid, host = excluded.host, since = excluded.since",
    )?
    .execute(params![lease.target, run, lease.name, lease.mode.as_str(), by.pid, by.host, at.to_string()])
    .map(drop)
}

fn delete_leases(all: &Db, run: &str) -> rusqlite::Result<()> {
    all.prepare("delete from leases where run = ?1")?.execute([run]).map(drop)
}
