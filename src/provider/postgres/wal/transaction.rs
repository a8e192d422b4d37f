//! Collects what each transaction did to relations, from its records of a few cheap kinds.

use super::{
    Lsn,
    dump::{Commit, WalRecord},
};
use std::collections::{BTreeMap, BTreeSet};

/// The resource managers whose records are needed.
pub(super) const TRACKED_RMGRS: &[&str] = &["Standby", "Storage", "Transaction"];

/// A relation: database OID and relation OID. For a file: database OID and `relfilenode`.
pub(super) type RelationId = (u32, u32);

/// What the transactions that are still open have done so far, by id; subtransactions have ids of their own.
#[derive(Default)]
pub(super) struct OpenTransactions(BTreeMap<u32, RelationChanges>);

/// What one transaction id did, in WAL order.
#[derive(Default)]
struct RelationChanges(Vec<(Lsn, RelationChange)>);

/// One thing that is done to a relation.
#[derive(Debug, Clone, Copy)]
enum RelationChange {
    /// An `AccessExclusiveLock` was taken on the relation.
    Locked(RelationId),
    /// A file was made.
    FileCreated(RelationId),
}

/// A committed transaction with its subtransactions.
pub(super) struct CommittedTransaction {
    pub commit: Commit,
    /// The position of its first change.
    pub first: Lsn,
    /// Its own id and those of its committed subtransactions.
    pub xids: BTreeSet<u32>,
    /// Relations it locked with `AccessExclusiveLock`, in WAL order.
    pub locked: Vec<RelationId>,
    /// Dropped relations, by the statistics that its commit removed.
    pub dropped: Vec<RelationId>,
    /// Whether its commit removed files.
    pub removed_files: bool,
    made: BTreeSet<RelationId>,
}

impl OpenTransactions {
    /// Applies a record; returns the transaction if the record commits it and it locked something.
    pub(super) fn apply_record(&mut self, record: &WalRecord<'_>) -> Option<CommittedTransaction> {
        match record.rmgr {
            "Standby" => self.add_lock(record),
            "Storage" => self.add_created_file(record),
            "Transaction" => return self.close_transaction(record),
            _ => {}
        }
        None
    }

    /// Applies `LOCK xid 725 db 5 rel 16384`. Those without a transaction only repeat locks at checkpoints.
    fn add_lock(&mut self, record: &WalRecord<'_>) {
        let Some(oid) = parse_lock(record).filter(|_| record.xid != 0) else { return };
        self.0.entry(record.xid).or_default().0.push((record.lsn, RelationChange::Locked(oid)));
    }

    /// Applies `CREATE base/5/16473`.
    fn add_created_file(&mut self, record: &WalRecord<'_>) {
        let Some(file) = parse_created_file(record).filter(|_| record.xid != 0) else { return };
        self.0.entry(record.xid).or_default().0.push((record.lsn, RelationChange::FileCreated(file)));
    }

    fn close_transaction(&mut self, record: &WalRecord<'_>) -> Option<CommittedTransaction> {
        if record.desc.starts_with("ABORT") {
            self.0.remove(&record.xid);
            return None;
        }
        let commit = record.to_commit()?;
        let parts = || record.desc.split("; ").filter_map(|part| part.split_once(": "));
        let part = |name: &str| parts().find(|(n, _)| *n == name).map(|(_, p)| p.trim()).unwrap_or_default();
        let mut xids: BTreeSet<u32> = part("subxacts").split(' ').filter_map(|x| x.parse().ok()).collect();
        xids.insert(commit.xid);
        let changes = xids.iter().filter_map(|xid| self.0.remove(xid)).flat_map(|changes| changes.0);
        let changes: BTreeMap<Lsn, RelationChange> = changes.collect();
        let (&first, _) = changes.first_key_value()?;
        let mut done = CommittedTransaction {
            first,
            xids,
            locked: Vec::new(),
            dropped: part("dropped stats").split(' ').filter_map(parse_dropped_stats).collect(),
            removed_files: !part("rels").is_empty(),
            made: BTreeSet::new(),
            commit,
        };
        for change in changes.into_values() {
            match change {
                RelationChange::Locked(oid) => done.locked.push(oid),
                RelationChange::FileCreated(file) => drop(done.made.insert(file)),
            }
        }
        (!done.locked.is_empty()).then_some(done)
    }
}

impl CommittedTransaction {
    /// Returns whether it created this relation: a new relation's first file has the relation's OID, and
    /// the transaction that creates a relation locks it.
    pub(super) fn has_created(&self, oid: RelationId) -> bool {
        self.made.contains(&oid) && self.locked.contains(&oid)
    }

    /// Returns whether it gave an existing relation a new file, by a truncate or by rebuilding an index.
    /// (A table rewrite creates a new relation first and swaps the two.)
    pub(super) fn has_replaced_files(&self) -> bool {
        self.made.iter().any(|file| !self.locked.contains(file))
    }
}

/// Returns the relation that a record says is locked.
pub(super) fn parse_lock(record: &WalRecord<'_>) -> Option<RelationId> {
    let words: Vec<&str> = record.desc.split_whitespace().collect();
    match words.as_slice() {
        ["LOCK", "xid", _, "db", database, "rel", oid] => Some((database.parse().ok()?, oid.parse().ok()?)),
        _ => None,
    }
}

/// Returns the file that a record creates, in any tablespace. Unlogged relations log only their `_init` file.
pub(super) fn parse_created_file(record: &WalRecord<'_>) -> Option<RelationId> {
    let path = record.desc.strip_prefix("CREATE ")?;
    let mut parts = path.trim().rsplit('/');
    let file = parts.next()?.trim_end_matches("_init").parse().ok()?;
    Some((parts.next()?.parse().ok()?, file))
}

/// Reads `2/5/16384`: the statistics of a relation have the kind 2.
fn parse_dropped_stats(text: &str) -> Option<RelationId> {
    let (database, oid) = text.strip_prefix("2/")?.split_once('/')?;
    Some((database.parse().ok()?, oid.parse().ok()?))
}
