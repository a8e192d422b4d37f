//! Answers of a database: rows, the outcome of a statement, its health.

use crate::base::moment::Span;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The rows of a query.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rows {
    /// The columns in their order.
    pub columns: Vec<String>,
    /// One object a row.
    pub rows: Vec<Map<String, Value>>,
}

/// The result of `db execute`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SqlOutcome {
    /// How many rows it touched.
    pub rows_affected: u64,
}

/// What became of a transaction whose commit may have been asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitState {
    /// It was committed.
    Committed(SqlOutcome),
    /// It was not committed, as far as the target shows, and nothing is at work on it.
    NotCommitted,
    /// It may still be committed; why.
    Open(String),
}

/// The health of a database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// Whether it answers and takes writes.
    pub ok: bool,
    /// `healthy`, or what is the matter in a word.
    pub status: String,
    pub version: Option<String>,
    /// Whether it is still in recovery.
    pub in_recovery: bool,
    /// How long the answer took.
    pub latency: Span,
    /// The size of the database in bytes.
    pub bytes: Option<u64>,
    /// How many connections are open.
    pub connections: Option<u64>,
}
