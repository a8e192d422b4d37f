//! The plan of a scenario: which faults strike, and what is done about them.

use super::{
    edited_runbook::EditedRunbook,
    forks::ReorderedForks,
    operators::OperatorAct,
    points::{Fault, FaultSelection, Point},
};
use crate::provider::sim::faults::RequestOutcome;
use std::sync::Arc;

/// The faults of one scenario.
#[derive(Debug, Clone)]
pub(super) enum FaultPlan {
    /// None.
    Undisturbed,
    /// None, and the forks of one `parallel` or `each` go in another order than listed.
    Reordered(ReorderedForks),
    /// One fault, once.
    One(Point, Fault),
    /// Two faults, each once: the second strikes only once the first has.
    Pair([(Point, Fault); 2]),
    /// A request of a call is lost, the first look after that is true, and the next two lag behind.
    TrueLookThenLags(Point, RequestOutcome),
    /// One fault, once, and what is done before the next process.
    Operated(Point, Fault, OperatorAct),
    /// Several faults of these families, drawn from a seed, and the edit that may be among them.
    Seed(u64, FaultSelection, Option<Arc<EditedRunbook>>),
}
