//! Leases: which run uses which target, and whether beside others or alone.
//!
//! A lease is worth as much as its run's lock: a run that no process moves holds nothing up. It covers one state
//! folder; what another folder does with the same target is not seen here.

use super::{Error, Holder, Journal, lock, schema};
use crate::base::{moment::Moment, sqlite::Db};
use rusqlite::{OptionalExtension as _, params};
use std::fmt;

/// How a run uses a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Beside others that share it.
    Shared,
    /// Alone.
    Exclusive,
}

impl Mode {
    const fn as_str(self) -> &'static str {
        match self {
            Mode::Shared => "shared",
            Mode::Exclusive => "exclusive",
        }
    }

    fn of(text: &str) -> Mode {
        if text == "shared" { Mode::Shared } else { Mode::Exclusive }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The wish to use a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Who the target is, whatever it is called.
    pub target: String,
    /// What the run calls it.
    pub name: String,
    /// How the run uses it.
    pub mode: Mode,
}

/// A lease that another run has.
struct Rival {
    run: String,
    name: String,
    mode: Mode,
    holder: Holder,
    since: String,
}

impl Journal {
    /// Leases every target for a run, or none of them. Leases of runs that no process moves give way. A run that
    /// asks again for a target keeps the stronger of the two.
    ///
    /// # Errors
    /// [`Error::Leased`] with the first target of which either run needs to be the only one to use it.
    pub fn lease(&self, wanted: &[Lease], run: &str, holder: &Holder) -> Result<(), Error> {
        if wanted.is_empty() {
            return Ok(());
        }
        let at = |e: rusqlite::Error| schema::trouble(&self.state, &e);
        let db = self.db();
        let all = db.change().map_err(at)?;
        for lease in wanted {
            while let Some(rival) = rival(&all, lease, run).map_err(at)? {
                if lock::is_taken(&self.state, &rival.run) {
                    return Err(self.leased(lease, rival));
                }
                give_back(&all, &rival.run).map_err(at)?;
            }
            note(&all, lease, run, holder, self.clock.now()).map_err(at)?;
        }
        all.keep().map_err(at)
    }

    /// Gives back every lease of a run.
    ///
    /// # Errors
    /// [`Error::NotWritable`], [`Error::Unreadable`].
    pub fn release(&self, run: &str) -> Result<(), Error> {
        let db = self.db();
        let all = db.change();
        all.and_then(|all| give_back(&all, run).and_then(|()| all.keep()))
            .map_err(|e| schema::trouble(&self.state, &e))
    }

    /// Returns the leases that a run has.
    ///
    /// # Errors
    /// [`Error::Unreadable`].
    pub fn leases(&self, run: &str) -> Result<Vec<Lease>, Error> {
        let db = self.db();
        let all = || {
            let mut all =
                db.prepare("select target, name, mode from leases where run = ?1 order by target")?;
            let read = |row: &rusqlite::Row<'_>| {
                Ok(Lease {
                    target: row.get(0)?,
                    name: row.get(1)?,
                    mode: Mode::of(&row.get::<_, String>(2)?),
                })
            };
            all.query_map([run], read)?.collect::<rusqlite::Result<_>>()
        };
        all().map_err(|e| schema::trouble(&self.state, &e))
    }

    fn leased(&self, lease: &Lease, rival: Rival) -> Error {
        let Rival { run, name, mode, holder, since } = rival;
        // Kept as text by `note`; whoever edits it by hand is shown the present.
        let since = Moment::parse(&since).unwrap_or_else(|_| self.clock.now());
        Error::Leased { target: lease.target.clone(), name, run, mode, holder, since }
    }
}

/// Returns a lease of another run that the wanted one cannot stand beside.
fn rival(all: &Db, wanted: &Lease, run: &str) -> rusqlite::Result<Option<Rival>> {
    all.prepare(
        "select run, name, mode, pid, host, since from leases
         where target = ?1 and run <> ?2 and 'exclusive' in (mode, ?3) limit 1",
    )?
    .query_row(params![wanted.target, run, wanted.mode.as_str()], |row| {
        let mode = Mode::of(&row.get::<_, String>(2)?);
        let holder = Holder { pid: row.get(3)?, host: row.get(4)? };
        Ok(Rival { run: row.get(0)?, name: row.get(1)?, mode, holder, since: row.get(5)? })
    })
    .optional()
}

fn note(all: &Db, lease: &Lease, run: &str, by: &Holder, at: Moment) -> rusqlite::Result<()> {
    all.prepare(
        "insert into leases (target, run, name, mode, pid, host, since) values (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         on conflict (target, run) do update set
            mode = case when 'exclusive' in (mode, excluded.mode) then 'exclusive' else 'shared' end,
            name = excluded.name, pid = excluded.pid, host = excluded.host, since = excluded.since",
    )?
    .execute(params![lease.target, run, lease.name, lease.mode.as_str(), by.pid, by.host, at.to_string()])
    .map(drop)
}

fn give_back(all: &Db, run: &str) -> rusqlite::Result<()> {
    all.prepare("delete from leases where run = ?1")?.execute([run]).map(drop)
}
