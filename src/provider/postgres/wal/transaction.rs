//! What one transaction did to relations, as its records of a few cheap kinds tell.

use super::{
    Lsn,
    dump::{Commit, Record},
};
use std::collections::{BTreeMap, BTreeSet};

/// The kinds of records that [`Open`] is made from.
pub(super) const RMGRS: &[&str] = &["Standby", "Storage", "Transaction"];

/// A relation: the numbers of its database and its own. Of a file: its database and its `relfilenode`.
pub(super) type Oid = (u32, u32);

/// What transactions that are still open did so far, by their ids; subtransactions have ids of their own.
#[derive(Default)]
pub(super) struct Open(BTreeMap<u32, Deeds>);

/// What one id did, in the order of the WAL.
#[derive(Default)]
struct Deeds(Vec<(Lsn, Deed)>);

/// One thing that is done to a relation.
#[derive(Debug, Clone, Copy)]
enum Deed {
    /// An `AccessExclusiveLock` was taken on the relation.
    Locked(Oid),
    /// A file was made.
    Made(Oid),
}

/// A transaction that was committed, its subtransactions included.
pub(super) struct Done {
    /// Its end.
    pub commit: Commit,
    /// The place of the first thing it did.
    pub first: Lsn,
    /// Its own id and those of its committed subtransactions.
    pub xids: BTreeSet<u32>,
    /// What it locked exclusively, in its order.
    pub locked: Vec<Oid>,
    /// Relations whose statistics went with it: they were dropped.
    pub dropped: Vec<Oid>,
    /// Whether files were removed with it.
    pub removed_files: bool,
    made: BTreeSet<Oid>,
}

impl Open {
    /// Takes a record in; returns the transaction when it is its commit and it locked something.
    pub(super) fn take(&mut self, record: &Record<'_>) -> Option<Done> {
        match record.rmgr {
            "Standby" => self.lock(record),
            "Storage" => self.make(record),
            "Transaction" => return self.end(record),
            _ => {}
        }
        None
    }

    /// `LOCK xid 725 db 5 rel 16384`. Those without a transaction repeat for standbys what is locked at a checkpoint.
    fn lock(&mut self, record: &Record<'_>) {
        let Some(oid) = locked(record).filter(|_| record.xid != 0) else { return };
        self.0.entry(record.xid).or_default().0.push((record.lsn, Deed::Locked(oid)));
    }

    /// `CREATE base/5/16473`.
    fn make(&mut self, record: &Record<'_>) {
        let Some(file) = made(record).filter(|_| record.xid != 0) else { return };
        self.0.entry(record.xid).or_default().0.push((record.lsn, Deed::Made(file)));
    }

    fn end(&mut self, record: &Record<'_>) -> Option<Done> {
        if record.desc.starts_with("ABORT") {
            self.0.remove(&record.xid);
            return None;
        }
        let commit = record.commit()?;
        let parts = || record.desc.split("; ").filter_map(|part| part.split_once(": "));
        let part = |name: &str| parts().find(|(n, _)| *n == name).map(|(_, p)| p.trim()).unwrap_or_default();
        let mut xids: BTreeSet<u32> = part("subxacts").split(' ').filter_map(|x| x.parse().ok()).collect();
        xids.insert(commit.xid);
        let deeds = xids.iter().filter_map(|xid| self.0.remove(xid)).flat_map(|deeds| deeds.0);
        let deeds: BTreeMap<Lsn, Deed> = deeds.collect();
        let (&first, _) = deeds.first_key_value()?;
        let mut done = Done {
            first,
            xids,
            locked: Vec::new(),
            dropped: part("dropped stats").split(' ').filter_map(dropped).collect(),
            removed_files: !part("rels").is_empty(),
            made: BTreeSet::new(),
            commit,
        };
        for deed in deeds.into_values() {
            match deed {
                Deed::Locked(oid) => done.locked.push(oid),
                Deed::Made(file) => drop(done.made.insert(file)),
            }
        }
        (!done.locked.is_empty()).then_some(done)
    }
}

impl Done {
    /// Returns whether it made this relation itself: a new relation's first file has the relation's own number, and
    /// the relation is locked for whoever made it.
    pub(super) fn made(&self, oid: Oid) -> bool {
        self.made.contains(&oid) && self.locked.contains(&oid)
    }

    /// Returns whether it gave a relation that was there before a new file: it truncated one, or rebuilt an index.
    /// (What rewrites a table makes a new relation first and swaps the two.)
    pub(super) fn replaced_files(&self) -> bool {
        self.made.iter().any(|file| !self.locked.contains(file))
    }
}

/// Returns the relation that a record says is locked.
pub(super) fn locked(record: &Record<'_>) -> Option<Oid> {
    let words: Vec<&str> = record.desc.split_whitespace().collect();
    match words.as_slice() {
        ["LOCK", "xid", _, "db", database, "rel", oid] => Some((database.parse().ok()?, oid.parse().ok()?)),
        _ => None,
    }
}

/// Returns the file that a record says was made, in whatever tablespace. What is unlogged has but its `_init` there.
pub(super) fn made(record: &Record<'_>) -> Option<Oid> {
    let path = record.desc.strip_prefix("CREATE ")?;
    let mut parts = path.trim().rsplit('/');
    let file = parts.next()?.trim_end_matches("_init").parse().ok()?;
    Some((parts.next()?.parse().ok()?, file))
}

/// Reads `2/5/16384`: the statistics of a relation have the kind 2.
fn dropped(text: &str) -> Option<Oid> {
    let (database, oid) = text.strip_prefix("2/")?.split_once('/')?;
    Some((database.parse().ok()?, oid.parse().ok()?))
}
