//! The gates that a run waits at: approvals that were asked for under the text in force, that nobody has decided about, and
//! to which the run can still come.

use super::open_approval::{comes_to_gate, is_gate};
use crate::journal::{FoldedCall, RunFold};

/// Returns the names of the gates that a run waits at, in the order in which it came to them.
pub fn list_awaited_gates(fold: &RunFold) -> Vec<String> {
    let is_awaited = |name: &str, call: &FoldedCall| {
        let is_reached = is_gate(&call.op) && comes_to_gate(fold.is_ending(), name);
        is_reached && call.is_accepted_under(fold.source_edition()) && call.decision.is_none()
    };
    let gates = fold.open_calls().filter(|(name, call)| is_awaited(name, call));
    gates.map(|(name, _)| name.to_owned()).collect()
}
