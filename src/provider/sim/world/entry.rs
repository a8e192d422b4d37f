//! Committed statements, and the hash of those that made a database.

use sha2::{Digest as _, Sha256};

/// A statement that is committed, or about to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::provider::sim) struct HistoryEntry {
    /// The place of its commit in the log.
    pub(in crate::provider::sim) lsn: i64,
    /// The id of its transaction.
    pub(in crate::provider::sim) xid: i64,
    /// When it was committed, in microseconds since 1970.
    pub(in crate::provider::sim) at: i64,
    pub(in crate::provider::sim) sql: String,
}

/// The hash of the statements that made a database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct HistoryHash([u8; 32]);

impl HistoryHash {
    /// Returns the hash of these statements and one more.
    pub(super) fn extend_with(self, entry: &HistoryEntry) -> HistoryHash {
        let mut hash = Sha256::new_with_prefix(self.0);
        for number in [entry.lsn, entry.xid, entry.at] {
            hash.update(number.to_be_bytes());
        }
        hash.update(entry.sql.as_bytes());
        HistoryHash(hash.finalize().into())
    }
}

/// Returns the hash of statements.
pub(super) fn hash_history(entries: &[HistoryEntry]) -> HistoryHash {
    entries.iter().fold(HistoryHash::default(), HistoryHash::extend_with)
}
