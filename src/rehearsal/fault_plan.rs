//! The plan of a scenario: which faults strike, and what is done about them.

use super::{
    operators::OperatorAct,
    points::{Fault, FaultSelection, Point},
};

/// The faults of one scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FaultPlan {
    /// None.
    Undisturbed,
    /// One fault, once.
    One(Point, Fault),
    /// One fault, once, and what is done before the next process.
    Operated(Point, Fault, OperatorAct),
    /// Several faults of these families, drawn from a seed.
    Seed(u64, FaultSelection),
}
