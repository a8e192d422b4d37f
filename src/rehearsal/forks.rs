//! Scenarios in which the branches of a `parallel` or `each` go in another order than listed: they run at once, and a
//! rehearsed run takes them one at a time.
//!
//! Whoever goes last decides what is there in the end, and each two of them may need each other. The undisturbed run has
//! one order of each two, and the last branch last; the reverse has the other order, and the first branch last; for the
//! branches between, each has a scenario in which it goes last.

use super::{
    draws::changes_something,
    fault_plan::{FaultPlan, ReorderedForks},
    rehearsed_calls::RehearsedCall,
    scenario::Scenario,
};
use crate::runtime::ForkOrder;
use std::collections::{BTreeMap, BTreeSet};

/// The word for the reverse order, in the names of scenarios.
pub(super) const LAST_FIRST: &str = "last-first";
/// The word for the orders in which one branch goes last.
pub(super) const ONE_LAST: &str = "one-last";

/// How many branches of one `parallel` or `each` go last, a scenario each: a list may have thousands of items.
const MAX_LAST_BRANCHES: usize = 8;

/// What to do about a world that depends on the order of branches.
pub(super) const HINT_FOR_FORKS: &str = "branches of `parallel` and `each` run at once, and a real run ends with either: let only one of them change a thing, and none need, or save in a backup, what another does";

/// What is known of the branches of one `parallel` or `each`.
#[derive(Default)]
struct Forks {
    /// The branch that goes first.
    first: usize,
    /// The number of the first call in another branch.
    second_begins: Option<usize>,
    /// The branches that change something.
    changing: BTreeSet<usize>,
}

impl Forks {
    /// Returns the orders in which they go besides that of the list, each with the end of its scenario's name, and its
    /// word.
    fn list_orders(&self) -> Vec<(ForkOrder, String, &'static str)> {
        let Some((first, last)) = self.changing.first().zip(self.changing.last()) else { return Vec::new() };
        // In the order of the list and in the reverse the last and the first of them go last.
        let between: Vec<_> = self.changing.iter().copied().filter(|b| b != first && b != last).collect();
        let reverse = (ForkOrder::LastFirst, LAST_FIRST.to_owned(), LAST_FIRST);
        let one_last = |last| (ForkOrder::OneLast(last), format!("{last}-last"), ONE_LAST);
        [reverse].into_iter().chain(spread_over(&between).map(one_last)).collect()
    }
}

/// Returns as many branches as go last, spread over all.
fn spread_over(branches: &[usize]) -> impl Iterator<Item = usize> {
    let count = branches.len().min(MAX_LAST_BRANCHES);
    (0..count).map(move |nth| branches[nth * branches.len() / count])
}

/// Returns the scenarios for each `parallel` and `each` in which several branches make calls, and one of them changes
/// something. They bear the number of the call with which the second branch begins.
pub(super) fn list_fork_scenarios(calls: &[RehearsedCall]) -> Vec<Scenario> {
    let mut known: BTreeMap<&str, Forks> = BTreeMap::new();
    for (number, call) in calls.iter().enumerate() {
        for (path, branch) in list_forks_of_call(&call.name) {
            let forks = known.entry(path).or_insert(Forks { first: branch, ..Forks::default() });
            if forks.first != branch {
                forks.second_begins.get_or_insert(number);
            }
            if changes_something(&call.name) {
                forks.changing.insert(branch);
            }
        }
    }
    let with_number = |(path, forks): (_, Forks)| Some((forks.second_begins?, path, forks.list_orders()));
    known.into_iter().filter_map(with_number).flat_map(list_scenarios_of_orders).collect()
}

/// Returns the scenarios of the orders of one `parallel` or `each`, which bear the number of a call.
fn list_scenarios_of_orders(
    (number, path, orders): (usize, &str, Vec<(ForkOrder, String, &'static str)>),
) -> impl Iterator<Item = Scenario> {
    orders.into_iter().map(move |(order, name, word)| Scenario {
        id: format!("order:{number}:{name}"),
        cell: Some((number, word)),
        plan: FaultPlan::Reordered(ReorderedForks { path: path.to_owned(), order }),
    })
}

/// Returns the branches that a call is in, from the outside: the path of each `parallel` or `each`, and the branch's
/// number.
fn list_forks_of_call(call: &str) -> Vec<(&str, usize)> {
    let ends = call.match_indices('/').map(|(at, _)| at);
    let segments = ends.map(|at| (&call[..at], call[at + 1..].split('/').next().unwrap_or_default()));
    let is_number = |segment: &str| segment.bytes().all(|byte| byte.is_ascii_digit());
    let forks = segments.filter(|(_, segment)| is_number(segment));
    forks.filter_map(|(path, segment)| Some((path, segment.parse().ok()?))).collect()
}
