//! The gates that a run waits at: approvals that nobody has decided about, and to which the run can still come.

use super::{call_path::CLEAN_UP_PATH, open_approval::is_gate};
use crate::journal::{FoldedCall, JournalEntry, Record, RunFold};

/// Returns the names of the gates that a run waits at, in the order in which it came to them. One that is ending comes to
/// the gates of its clean-up and to no others.
pub fn list_awaited_gates(entries: &[JournalEntry]) -> Vec<String> {
    let (fold, _) = RunFold::from_entries(entries);
    let is_ending = entries.iter().any(|entry| matches!(entry.record, Record::Ending { .. }));
    let is_awaited = |name: &str, call: &FoldedCall| {
        let is_reached = !is_ending || name.starts_with(CLEAN_UP_PATH);
        is_gate(&call.op) && is_reached && call.decision.is_none()
    };
    let gates = fold.open_calls().filter(|(name, call)| is_awaited(name, call));
    gates.map(|(name, _)| name.to_owned()).collect()
}
