//! What has been worked out of a database at a place of its history, kept for whoever asks again.
//!
//! A database follows from its statements, so what is true of it is kept under the hash of them. Copies of one world
//! share a shelf: most of what they ask has been asked by another.

use super::{
    content::{Content, Entry},
    store::Present,
};
use crate::provider::Result;
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
};

/// How many databases with the same past wait to be used again.
const IDLE: usize = 4;

/// The hash of the statements that made a database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Past([u8; 32]);

/// What is known of databases.
#[derive(Default)]
pub(super) struct Shelf {
    idle: Mutex<HashMap<Past, Vec<Content>>>,
    facts: Mutex<HashMap<Past, Facts>>,
    looks: Mutex<HashMap<Past, Look>>,
}

/// What a backup keeps of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    /// The digest of its schema and rows.
    pub(super) digest: String,
    /// Its size in bytes.
    pub(super) bytes: u64,
}

/// What a portrait shows of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Look {
    /// The number and a digest of the rows of each table.
    pub(super) tables: BTreeMap<String, String>,
    /// Its policies.
    pub(super) policies: Vec<String>,
}

impl Present<'_> {
    /// Returns what is known of a line at a place.
    pub(super) fn facts_at(&self, line: i64, cut: i64) -> Result<Facts> {
        let entries = self.entries(line, 0, cut)?;
        kept(&self.shelf.facts, past(&entries), || {
            let content = Self::content_of(&entries)?;
            Ok(Facts { digest: content.digest()?, bytes: content.bytes()? })
        })
    }

    /// Returns what a line looks like now; `look` looks where nobody has yet.
    pub(super) fn look_of(&self, line: i64, look: impl FnOnce() -> Result<Look>) -> Result<Look> {
        kept(&self.shelf.looks, past(&self.entries(line, 0, i64::MAX)?), look)
    }
}

/// Returns what is kept under `past`, worked out first where it is not.
fn kept<T: Clone>(
    shelf: &Mutex<HashMap<Past, T>>,
    past: Past,
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

fn past(entries: &[Entry]) -> Past {
    entries.iter().fold(Past::default(), Past::and)
}

impl Past {
    /// Returns the past of a database to which one more statement was done.
    pub(super) fn and(self, entry: &Entry) -> Past {
        let mut hash = Sha256::new_with_prefix(self.0);
        for number in [entry.lsn, entry.xid, entry.at] {
            hash.update(number.to_be_bytes());
        }
        hash.update(entry.sql.as_bytes());
        Past(hash.finalize().into())
    }
}

impl Shelf {
    /// Returns the database that statements make, if one waits to be used again.
    pub(super) fn take(&self, entries: &[Entry]) -> Option<Content> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.get_mut(&past(entries))?.pop()
    }

    /// Keeps a database that its world needs no more.
    pub(super) fn put(&self, content: Content) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let alike = idle.entry(content.past()).or_default();
        if alike.len() < IDLE {
            alike.push(content);
        }
    }
}
