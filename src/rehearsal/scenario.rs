//! One scenario of a rehearsal.

use super::{
    fault_plan::FaultPlan,
    points::{Fault, FaultFamily, FaultSelection},
};
use crate::provider::sim::faults::RequestOutcome;

/// One scenario.
#[derive(Debug, Clone)]
pub(super) struct Scenario {
    /// What names it: `crash:3:after-effect`.
    pub(super) id: String,
    /// The number of its call, and what goes wrong there; nothing for one that chance made.
    pub(super) cell: Option<(usize, &'static str)>,
    pub(super) plan: FaultPlan,
}

impl Scenario {
    /// Returns whether its fault, if it has one of its own, is of these families.
    pub(super) fn is_among(&self, families: FaultSelection) -> bool {
        match &self.plan {
            FaultPlan::One(_, fault) => families.includes_fault(*fault),
            FaultPlan::Pair(faults) => faults.iter().all(|(_, fault)| families.includes_fault(*fault)),
            FaultPlan::TrueLookThenLags(_, lag) => {
                [RequestOutcome::Lost, *lag].map(Fault::Request).iter().all(|f| families.includes_fault(*f))
            }
            FaultPlan::Operated(..) => families.has(FaultFamily::Operators),
            FaultPlan::Undisturbed | FaultPlan::Reordered(_) | FaultPlan::Seed(..) => true,
        }
    }
}
