//! Scenarios in which the branches of a `parallel` or `each` go in the reverse order: they run at once, and a rehearsed
//! run takes them one at a time.

use super::{
    draws::changes_something, fault_plan::FaultPlan, rehearsed_calls::RehearsedCall, scenario::Scenario,
};
use std::collections::BTreeMap;

/// The word for the reverse order, in the names of scenarios.
pub(super) const LAST_FIRST: &str = "last-first";

/// What to do about a world that depends on the order of branches.
pub(super) const HINT_FOR_FORKS: &str = "branches of `parallel` and `each` run at once, and a real run ends with either: let only one of them change a thing, and none need what another does";

/// What is known of the branches of one `parallel` or `each`.
#[derive(Default)]
struct Forks<'a> {
    /// The branch that goes first.
    first: &'a str,
    /// The number of the first call in another branch.
    second_begins: Option<usize>,
    /// Whether any of them changes something.
    changes: bool,
}

/// Returns a scenario for each `parallel` and `each` in which several branches make calls, and one of them changes
/// something. It bears the number of the call with which the second branch begins.
pub(super) fn list_fork_scenarios(calls: &[RehearsedCall]) -> Vec<Scenario> {
    let mut known: BTreeMap<&str, Forks<'_>> = BTreeMap::new();
    for (number, call) in calls.iter().enumerate() {
        for (path, first) in list_forks_of_call(&call.name) {
            let forks = known.entry(path).or_insert(Forks { first, ..Forks::default() });
            if forks.first != first {
                forks.second_begins.get_or_insert(number);
            }
            forks.changes |= changes_something(&call.name);
        }
    }
    let scenario = |(path, forks): (&str, Forks<'_>)| {
        let number = forks.second_begins.filter(|_| forks.changes)?;
        Some(Scenario {
            id: format!("order:{number}:{LAST_FIRST}"),
            cell: Some((number, LAST_FIRST)),
            plan: FaultPlan::LastForkFirst(path.to_owned()),
        })
    };
    known.into_iter().filter_map(scenario).collect()
}

/// Returns the branches that a call is in, from the outside: the path of each `parallel` or `each`, and the branch's
/// number.
fn list_forks_of_call(call: &str) -> Vec<(&str, &str)> {
    let is_fork = |segment: &str| !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_digit());
    let ends = call.match_indices('/').map(|(at, _)| at);
    let segments = ends.map(|at| (&call[..at], call[at + 1..].split('/').next().unwrap_or_default()));
    segments.filter(|(_, segment)| is_fork(segment)).collect()
}

/// Returns the reverse order of the branches at a path, in words.
pub(super) fn describe_order(path: &str) -> String {
    format!("the branches of {path} go in the reverse order")
}
