//! The ledger of requests that took effect: the proof that nothing was sent twice.

use crate::base::lock::lock_unpoisoned;
use crate::base::moment::Moment;
use serde::Serialize;
use serde_json::{Map, Value};
use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Fields of a body that are left out of the ledger.
const SECRET_FIELDS: &[&str] = &["password", "db_pass", "secrets"];

/// A request that took effect.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LedgerEntry {
    /// The place of the entry in the ledger, from 1.
    pub seq: usize,
    #[serde(serialize_with = "serialize_moment")]
    pub at: Moment,
    /// The method.
    pub method: String,
    /// The path of the endpoint, with its parameters in braces.
    pub endpoint: &'static str,
    /// The path as requested.
    pub path: String,
    /// The body, without its secrets.
    pub body: Value,
    /// The status of the response.
    pub status: u16,
    /// Whether the response was sent.
    pub answered: bool,
}

/// Serializes a moment as a plain string, without its type tag.
fn serialize_moment<S: serde::Serializer>(at: &Moment, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(at)
}

/// The requests that took effect, and the number of all requests.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: Mutex<Vec<LedgerEntry>>,
    requests: AtomicU64,
}

impl Ledger {
    /// Counts a request that arrived.
    pub(super) fn count_request(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    /// Returns how many requests arrived.
    pub(super) fn request_count(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    /// Adds a request that took effect.
    pub(super) fn add_entry(&self, mut entry: LedgerEntry) {
        let mut entries = lock_unpoisoned(&self.entries);
        entry.seq = entries.len() + 1;
        if let Value::Object(fields) = &mut entry.body {
            fields.retain(|name, _| !SECRET_FIELDS.contains(&name.as_str()));
        }
        entries.push(entry);
    }

    /// Returns the entries, oldest first.
    pub(super) fn entries(&self) -> Vec<LedgerEntry> {
        lock_unpoisoned(&self.entries).clone()
    }

    /// Renders the entries, and how often each endpoint is in them.
    pub(super) fn to_json(&self) -> Value {
        let entries = self.entries();
        let mut counts = BTreeMap::<String, u64>::new();
        for entry in &entries {
            *counts.entry(format!("{} {}", entry.method, entry.endpoint)).or_default() += 1;
        }
        let counts: Map<String, Value> = counts.into_iter().map(|(what, n)| (what, n.into())).collect();
        serde_json::json!({ "requests": self.request_count(), "effects": entries, "counts": counts })
    }
}
