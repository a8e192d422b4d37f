//! Databases and facts about them, cached by the hash of the statements that made them.
//!
//! A database follows from its statements, so what is true of it is kept under the hash of them. Copies of one world
//! share a shelf: most of what they ask has been asked by another.

use super::{
    content::{Content, HistoryEntry},
    store::WorldTx,
};
use crate::provider::Result;
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
};

/// How many databases with the same past wait to be used again.
const MAX_IDLE_COPIES: usize = 4;

/// The hash of the statements that made a database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct HistoryHash([u8; 32]);

/// What is known of databases.
#[derive(Default)]
pub(super) struct ContentCache {
    idle: Mutex<HashMap<HistoryHash, Vec<Content>>>,
    facts: Mutex<HashMap<HistoryHash, ContentFacts>>,
    looks: Mutex<HashMap<HistoryHash, ContentSummary>>,
}

/// What a backup keeps of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ContentFacts {
    /// The digest of its schema and rows.
    pub(super) digest: String,
    /// Its size in bytes.
    pub(super) bytes: u64,
}

/// What a portrait shows of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ContentSummary {
    /// The number and a digest of the rows of each table.
    pub(super) tables: BTreeMap<String, String>,
    pub(super) policies: Vec<String>,
}

impl WorldTx<'_> {
    /// Returns what is known of a line at a place.
    pub(super) fn content_facts_at(&self, line: i64, cut: i64) -> Result<ContentFacts> {
        let entries = self.history_entries(line, 0, cut)?;
        get_or_compute(&self.shelf.facts, hash_history(&entries), || {
            let content = Self::replay_entries(&entries)?;
            Ok(ContentFacts { digest: content.digest()?, bytes: content.size_in_bytes()? })
        })
    }

    /// Returns what a line looks like now; `look` looks where nobody has yet.
    pub(super) fn cached_summary(
        &self,
        line: i64,
        look: impl FnOnce() -> Result<ContentSummary>,
    ) -> Result<ContentSummary> {
        get_or_compute(&self.shelf.looks, hash_history(&self.history_entries(line, 0, i64::MAX)?), look)
    }
}

/// Returns what is kept under `past`, worked out first where it is not.
fn get_or_compute<T: Clone>(
    shelf: &Mutex<HashMap<HistoryHash, T>>,
    past: HistoryHash,
    work_out: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let shelf = || shelf.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = shelf().get(&past) {
        return Ok(known.clone());
    }
    // Two may work out the same at once; they come to the same.
    let found = work_out()?;
    shelf().insert(past, found.clone());
    Ok(found)
}

fn hash_history(entries: &[HistoryEntry]) -> HistoryHash {
    entries.iter().fold(HistoryHash::default(), HistoryHash::extend_with)
}

impl HistoryHash {
    /// Returns the past of a database to which one more statement was done.
    pub(super) fn extend_with(self, entry: &HistoryEntry) -> HistoryHash {
        let mut hash = Sha256::new_with_prefix(self.0);
        for number in [entry.lsn, entry.xid, entry.at] {
            hash.update(number.to_be_bytes());
        }
        hash.update(entry.sql.as_bytes());
        HistoryHash(hash.finalize().into())
    }
}

impl ContentCache {
    /// Returns the database that statements make, if one waits to be used again.
    pub(super) fn take_content(&self, entries: &[HistoryEntry]) -> Option<Content> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.get_mut(&hash_history(entries))?.pop()
    }

    /// Keeps a database that its world needs no more.
    pub(super) fn put_content(&self, content: Content) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let alike = idle.entry(content.history_hash()).or_default();
        if alike.len() < MAX_IDLE_COPIES {
            alike.push(content);
        }
    }
}
