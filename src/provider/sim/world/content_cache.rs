//! Databases and facts about them, cached by the hash of the statements that made them.
//!
//! A database follows from its statements, so what is true of it is kept under their hash. Copies of one world share a
//! cache: most of what one needs another has computed before.

use super::{
    content::Content,
    entry::{HistoryEntry, HistoryHash, hash_history},
};
use crate::base::lock::lock_unpoisoned;
use crate::provider::Result;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Mutex,
};

/// How many databases of the same statements wait to be used again.
const MAX_IDLE_COPIES: usize = 4;

/// Databases that wait to be used again, and what is known of any.
#[derive(Default)]
pub(in crate::provider::sim) struct ContentCache {
    idle: Mutex<HashMap<HistoryHash, Vec<Content>>>,
    facts: Mutex<HashMap<HistoryHash, ContentFacts>>,
    summaries: Mutex<HashMap<HistoryHash, ContentSummary>>,
}

/// What a backup needs to know of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::provider::sim) struct ContentFacts {
    /// The digest of its schema and rows.
    pub(super) digest: String,
    /// Its size in bytes.
    pub(in crate::provider::sim) bytes: u64,
}

/// What a [`NormalizedWorld`](super::super::NormalizedWorld) shows of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::provider::sim) struct ContentSummary {
    /// The number and a digest of the rows of each table.
    pub(in crate::provider::sim) tables: BTreeMap<String, String>,
    /// The number of the rows alone.
    pub(in crate::provider::sim) rows: BTreeMap<String, usize>,
    pub(in crate::provider::sim) policies: Vec<String>,
}

impl ContentCache {
    /// Returns the facts about the database that statements make.
    pub(super) fn get_or_compute_facts(&self, entries: &[HistoryEntry]) -> Result<ContentFacts> {
        get_or_compute(&self.facts, hash_history(entries), || {
            let content = Content::replay(entries)?;
            Ok(ContentFacts { digest: content.digest()?, bytes: content.size_in_bytes()? })
        })
    }

    /// Returns the summary of the database that statements make; `compute` makes it where there is none yet.
    pub(super) fn get_or_compute_summary(
        &self,
        entries: &[HistoryEntry],
        compute: impl FnOnce() -> Result<ContentSummary>,
    ) -> Result<ContentSummary> {
        get_or_compute(&self.summaries, hash_history(entries), compute)
    }

    /// Returns the database that statements make, if one waits to be used again.
    pub(super) fn take_content(&self, entries: &[HistoryEntry]) -> Option<Content> {
        let mut idle = lock_unpoisoned(&self.idle);
        idle.get_mut(&hash_history(entries))?.pop()
    }

    /// Keeps a database that its world needs no more.
    pub(super) fn put_content(&self, content: Content) {
        let mut idle = lock_unpoisoned(&self.idle);
        let alike = idle.entry(content.history_hash()).or_default();
        if alike.len() < MAX_IDLE_COPIES {
            alike.push(content);
        }
    }
}

/// Returns what is kept under `hash`, computed first where nothing is.
fn get_or_compute<T: Clone>(
    cache: &Mutex<HashMap<HistoryHash, T>>,
    hash: HistoryHash,
    compute: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let cache = || lock_unpoisoned(cache);
    if let Some(known) = cache().get(&hash) {
        return Ok(known.clone());
    }
    // Two threads may compute it at once; their results are the same.
    let found = compute()?;
    cache().insert(hash, found.clone());
    Ok(found)
}
