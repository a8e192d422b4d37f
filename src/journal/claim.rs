//! Claims: things of targets that a call is at, from before it has read anything there until it is done.
//!
//! Two calls of one state folder are never at one thing at once. A claim counts only while a process holds the lock of
//! its run: what a call has sent whose process died is kept by its quarantine, and where it has sent nothing, there is
//! nothing to keep.

use super::{
    Error, Journal, Quarantine, lock, quarantine, schema,
    store::{lock_shared_db, share_connection},
};
use crate::base::{
    lock::lock_unpoisoned,
    sqlite::{Db, PooledDb},
};
use rusqlite::params;
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

/// A thing that a call is at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The identity of the target or branch.
    pub place: String,
    /// The part of it; `None` for all of it.
    pub part: Option<String>,
    pub run: String,
    pub call: String,
}

impl Journal {
    /// Claims things for a call of a run if `judge` finds nothing in the way. It is shown every quarantine, and every
    /// claim of another run that a process holds; nobody changes either meanwhile.
    ///
    /// # Errors
    /// [`Error::NotWritable`], [`Error::Unreadable`].
    pub fn claim_unless<Free, Kept>(
        &self,
        run: &str,
        wanted: &[Claim],
        judge: impl FnOnce(Vec<Quarantine>, &[Claim]) -> Result<Free, Kept>,
    ) -> Result<Result<Free, Kept>, Error> {
        self.change_claims(|tx| {
            let claims = self.list_live_claims(tx, run)?;
            let judged = judge(quarantine::select_quarantines(tx)?, &claims);
            if judged.is_ok() {
                wanted.iter().try_for_each(|claim| insert_claim_if_absent(tx, claim))?;
            }
            Ok(judged)
        })
    }

    /// Gives back what a call of a run has claimed.
    ///
    /// # Errors
    /// [`Error::NotWritable`], [`Error::Unreadable`].
    pub fn release_claims(&self, run: &str, call: &str) -> Result<(), Error> {
        let sql = "delete from claims where run = ?1 and call = ?2";
        self.change_claims(|tx| tx.prepare(sql)?.execute(params![run, call]).map(drop))
    }

    /// Gives back what the calls of a run have claimed. Whoever asks holds the run, so no other process makes its
    /// calls.
    pub(super) fn release_all_claims(&self, run: &str) -> Result<(), Error> {
        self.change_claims(|tx| delete_all_claims(tx, run))
    }

    /// Returns the claims of other runs that some process holds, and deletes those of runs that nobody holds.
    fn list_live_claims(&self, tx: &Db, run: &str) -> rusqlite::Result<Vec<Claim>> {
        let mut claims = select_claims(tx)?;
        claims.retain(|claim| claim.run != run);
        let runs: BTreeSet<String> = claims.iter().map(|claim| claim.run.clone()).collect();
        for dead in runs.iter().filter(|run| !lock::is_run_held(&self.state, run)) {
            delete_all_claims(tx, dead)?;
            claims.retain(|claim| claim.run != *dead);
        }
        Ok(claims)
    }

    /// Returns the connection for what need not survive a power cut.
    fn open_unsynced(&self) -> Result<Arc<Mutex<PooledDb>>, Error> {
        let mut unsynced = lock_unpoisoned(&self.unsynced);
        let db = match unsynced.take() {
            Some(db) => db,
            None => share_connection(schema::open_unsynced(&self.state)?),
        };
        *unsynced = Some(Arc::clone(&db));
        Ok(db)
    }

    /// Changes claims in one transaction, which is not synced: a power cut takes the claims along with the processes
    /// that have them.
    fn change_claims<T>(&self, change: impl FnOnce(&Db) -> rusqlite::Result<T>) -> Result<T, Error> {
        let db = self.open_unsynced()?;
        let db = lock_shared_db(&db);
        let tx = db.begin_write();
        let changed = tx.and_then(|tx| change(&tx).and_then(|changed| tx.commit().map(|()| changed)));
        changed.map_err(|e| schema::to_journal_error(&self.state, &e))
    }
}

fn select_claims(db: &Db) -> rusqlite::Result<Vec<Claim>> {
    let read = |row: &rusqlite::Row<'_>| {
        let part = Some(row.get(1)?).filter(|part: &String| !part.is_empty());
        Ok(Claim { place: row.get(0)?, part, run: row.get(2)?, call: row.get(3)? })
    };
    let sql = "select place, part, run, call from claims order by run, call";
    db.prepare(sql)?.query_map([], read)?.collect()
}

fn insert_claim_if_absent(tx: &Db, claim: &Claim) -> rusqlite::Result<()> {
    let Claim { place, part, run, call } = claim;
    tx.prepare("insert or ignore into claims (place, part, run, call) values (?1, ?2, ?3, ?4)")?
        .execute(params![place, quarantine::part_column_value(part.as_deref()), run, call])
        .map(drop)
}

fn delete_all_claims(tx: &Db, run: &str) -> rusqlite::Result<()> {
    tx.prepare("delete from claims where run = ?1")?.execute([run]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::super::tests::TestJournal;
    use super::*;

    fn claim_of(run: &str, call: &str) -> Claim {
        Claim { place: "x".into(), part: Some("tls".into()), run: run.into(), call: call.into() }
    }

    /// Claims the thing for a call of a run, and returns the claims that are in its way.
    fn claim(test: &TestJournal, run: &str) -> Vec<Claim> {
        let judge = |_, claims: &[Claim]| if claims.is_empty() { Ok(()) } else { Err(claims.to_vec()) };
        let judged = test.journal.claim_unless(run, &[claim_of(run, "set#0")], judge).expect("judged");
        judged.err().unwrap_or_default()
    }

    #[test]
    fn a_claim_is_in_the_way_of_other_runs_until_it_is_given_back() {
        let test = TestJournal::new();
        let (first, second) = (test.create_run(), test.create_run());
        assert_eq!(claim(&test, first.id()), []);
        assert_eq!(claim(&test, first.id()), [], "its own");
        assert_eq!(claim(&test, second.id()), [claim_of(first.id(), "set#0")]);
        test.journal.release_claims(first.id(), "set#0").expect("given back");
        assert_eq!(claim(&test, second.id()), []);
    }

    #[test]
    fn the_claim_of_a_dead_process_is_over_and_that_of_whoever_resumes_its_run_is_new() {
        let test = TestJournal::new();
        let (dead, other) = (test.create_run(), test.create_run());
        let id = dead.id().to_owned();
        assert_eq!(claim(&test, &id), []);
        drop(dead);
        let _resumed = test.journal.acquire_run(&id).expect("taken up");
        assert_eq!(claim(&test, other.id()), [], "nothing claimed it since");
        test.journal.release_claims(other.id(), "set#0").expect("given back");

        let killed = test.create_run();
        assert_eq!(claim(&test, killed.id()), []);
        drop(killed);
        assert_eq!(claim(&test, other.id()), [], "nobody holds its run");
    }
}
