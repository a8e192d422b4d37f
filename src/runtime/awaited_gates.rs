//! The gates that a run waits at: approvals that nobody has decided about, and to which the run can still come.

use super::{approval::APPROVE, call_path::CLEAN_UP_PATH};
use crate::journal::{FoldedCall, JournalEntry, Record, RunFold};

/// Returns the names of the gates that a run waits at, in the order in which it came to them. One that is ending comes to
/// the gates of its clean-up and to no others.
pub fn list_awaited_gates(entries: &[JournalEntry]) -> Vec<String> {
    let (fold, _) = RunFold::from_entries(entries);
    let is_ending = entries.iter().any(|entry| matches!(entry.record, Record::Ending { .. }));
    let is_awaited = |name: &str, call: &FoldedCall| {
        let is_reached = !is_ending || name.starts_with(CLEAN_UP_PATH);
        let is_decided = call.decision.is_some() && is_decided_since_asked(entries, name);
        call.op == APPROVE && is_reached && !is_decided
    };
    let gates = fold.open_calls().filter(|(name, call)| is_awaited(name, call));
    gates.map(|(name, _)| name.to_owned()).collect()
}

/// Returns whether a gate was decided about since it was last asked for: what was decided before is void.
fn is_decided_since_asked(entries: &[JournalEntry], gate: &str) -> bool {
    let last = entries.iter().rev().find_map(|entry| match &entry.record {
        Record::Decided { call, .. } if call == gate => Some(true),
        Record::Accepted { call, .. } if call == gate => Some(false),
        _ => None,
    });
    last == Some(true)
}
