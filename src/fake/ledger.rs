//! What took effect: the list by which it is known that nothing was sent twice.

use crate::base::moment::Moment;
use serde::Serialize;
use serde_json::{Map, Value};
use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Fields of a body that are not repeated.
const SECRET: &[&str] = &["password", "db_pass", "secrets"];

/// A request that took effect.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// Its place in the ledger, from 1.
    pub seq: usize,
    /// When.
    #[serde(serialize_with = "as_text")]
    pub at: Moment,
    /// The method.
    pub method: String,
    /// The endpoint: the path with its places named.
    pub endpoint: &'static str,
    /// The path as it was asked.
    pub path: String,
    /// The body, without its secrets.
    pub body: Value,
    /// The status of the answer.
    pub status: u16,
    /// Whether the answer was sent.
    pub answered: bool,
}

/// Writes a moment without its tag: whoever reads the list knows nothing of tags.
fn as_text<S: serde::Serializer>(at: &Moment, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(at)
}

/// The list.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: Mutex<Vec<Entry>>,
    requests: AtomicU64,
}

impl Ledger {
    /// Counts a request that came in.
    pub(super) fn count(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    /// Returns how many came in.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    /// Adds a request that took effect.
    pub(super) fn add(&self, mut entry: Entry) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entry.seq = entries.len() + 1;
        if let Value::Object(fields) = &mut entry.body {
            fields.retain(|name, _| !SECRET.contains(&name.as_str()));
        }
        entries.push(entry);
    }

    /// Returns the list, oldest first.
    pub(super) fn entries(&self) -> Vec<Entry> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the list, and how often each endpoint is in it.
    pub(super) fn shown(&self) -> Value {
        let entries = self.entries();
        let mut counts = BTreeMap::<String, u64>::new();
        for entry in &entries {
            *counts.entry(format!("{} {}", entry.method, entry.endpoint)).or_default() += 1;
        }
        let counts: Map<String, Value> = counts.into_iter().map(|(what, n)| (what, n.into())).collect();
        serde_json::json!({ "requests": self.requests(), "effects": entries, "counts": counts })
    }
}
