//! The plan of a scenario: which faults strike, and what is done about them.

use super::{
    edited_runbook::EditedRunbook,
    operators::OperatorAct,
    points::{Fault, FaultSelection, Point},
};
use crate::{provider::sim::faults::RequestOutcome, runtime::ForkOrder};
use std::sync::Arc;

/// A `parallel` or `each` of which the forks go in another order than listed.
#[derive(Debug, Clone)]
pub(super) struct ReorderedForks {
    /// Its path.
    pub(super) path: String,
    pub(super) order: ForkOrder,
}

impl ReorderedForks {
    /// Returns the order, in words.
    pub(super) fn describe(&self) -> String {
        let path = &self.path;
        match self.order {
            ForkOrder::LastFirst => format!("the branches of {path} go in the reverse order"),
            ForkOrder::OneLast(last) => format!("the branch {path}/{last} goes last"),
        }
    }
}

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
