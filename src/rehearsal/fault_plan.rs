//! The plan of a scenario: which faults strike, and what is done about them.

use super::{
    edited_runbook::EditedRunbook,
    operators::OperatorAct,
    points::{Fault, FaultSelection, Point},
};
use std::sync::Arc;

/// The faults of one scenario.
#[derive(Debug, Clone)]
pub(super) enum FaultPlan {
    /// None.
    Undisturbed,
    /// None, and of the forks of the `parallel` or `each` at this path the last goes first.
    LastForkFirst(String),
    /// One fault, once.
    One(Point, Fault),
    /// Two faults, each once: the second strikes only once the first has.
    Pair([(Point, Fault); 2]),
    /// One fault, once, and what is done before the next process.
    Operated(Point, Fault, OperatorAct),
    /// Several faults of these families, drawn from a seed, and the edit that may be among them.
    Seed(u64, FaultSelection, Option<Arc<EditedRunbook>>),
}
