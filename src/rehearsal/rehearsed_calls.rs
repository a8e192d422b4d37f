//! The calls of the undisturbed run in which things go wrong.

use super::points::Visit;
use crate::{journal::APPROVE, ops};
use std::collections::{BTreeMap, BTreeSet};

/// A call of the undisturbed run.
#[derive(Debug, Clone)]
pub(super) struct RehearsedCall {
    pub(super) name: String,
    pub(super) op: String,
}

/// Returns the calls of operations, and the natives that wait, in the order in which they were made, behind the run
/// itself. Of all that one `wait_until` asks only the first and the last are there: those between are like the first,
/// and a wait of hours would have more scenarios than anybody waits for.
pub(super) fn list_rehearsed_calls(visits: &[Visit]) -> Vec<RehearsedCall> {
    let mut calls = vec![RehearsedCall { name: String::new(), op: "the run itself".into() }];
    let mut known = BTreeSet::new();
    for visit in visits {
        let Some(op) = visit
            .op
            .as_deref()
            .filter(|op| ["sleep", APPROVE].contains(op) || ops::find_operation(op).is_some())
        else {
            continue;
        };
        if known.insert(visit.point.call.as_str()) {
            calls.push(RehearsedCall { name: visit.point.call.clone(), op: op.into() });
        }
    }
    let mut last: BTreeMap<&str, u32> = BTreeMap::new();
    for (of, nth) in known.iter().flat_map(|name| wait_until_rounds_of_call(name)) {
        let last = last.entry(of).or_default();
        *last = nth.max(*last);
    }
    calls.retain(|call| {
        wait_until_rounds_of_call(&call.name).iter().all(|(of, nth)| *nth == 0 || last.get(of) == Some(nth))
    });
    calls
}

/// Returns the rounds of `wait_until` that a call belongs to: the path up to the number, and the number.
fn wait_until_rounds_of_call(call: &str) -> Vec<(&str, u32)> {
    let mut rounds = Vec::new();
    let (mut end, mut is_waiting) = (0, false);
    for segment in call.split('/') {
        end += segment.len();
        if let Some((word, nth)) = segment.rsplit_once('#') {
            if let (true, Ok(nth)) = (is_waiting, nth.parse()) {
                rounds.push((&call[..end - segment.len() + word.len()], nth));
            }
            is_waiting = word == "wait_until";
        }
        end += 1;
    }
    rounds
}
