//! Rejections, and the gates beside them: where a person rejects one gate of a `parallel` or `each` and that fails, nobody is
//! asked about its other gates.
//!
//! A rejection counts once its error has ended the branch: a script that handles it there goes on, and so do the other gates.
//! Until one or the other, the gates beside it wait.

use super::{
    call_path::are_in_different_forks,
    script_error::{RhaiResult, codes, from_rhai_error},
};
use crate::{
    base::lock::lock_unpoisoned,
    journal::{APPROVE, Decision, FoldedCall, Outcome, RunFold},
};
use rhai::EvalAltResult;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};
use tokio::sync::watch;

/// The rejections of one run, in this process.
#[derive(Default)]
pub(super) struct Rejections {
    state: Mutex<RejectionState>,
    /// How often something has changed.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct RejectionState {
    /// The paths of the forks that are at work.
    forks: BTreeSet<String>,
    /// The gates that the script has come to the end of.
    reached: BTreeSet<String>,
    /// The places from which a rejection is on its way through the script: gates, and `parallel` and `each` that it ended.
    raised: BTreeSet<String>,
    /// What ended a `parallel` or `each`, by its path.
    ended: BTreeMap<String, String>,
}

/// What rejections mean for a gate.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum GateOutlook {
    /// A person can be asked about it.
    Stands,
    /// A rejection beside it may end the `parallel` or `each` that both are in.
    Unsettled,
    /// One has, with this message.
    Withdrawn(String),
}

impl Rejections {
    /// Starts over: the script is evaluated from its top again.
    pub(super) fn restart(&self) {
        self.change(|state| *state = RejectionState::default());
    }

    pub(super) fn begin_fork(&self, path: &str) {
        self.change(|state| {
            state.forks.insert(path.to_owned());
        });
    }

    /// Notes that a fork of a `parallel` or `each` is over; `failure` is its error, where that fails all of it.
    pub(super) fn end_fork(&self, fan_out: &str, path: &str, failure: Option<String>) {
        self.change(|state| {
            state.forks.remove(path);
            state.raised.retain(|place| !is_below(place, path));
            if let Some(message) = failure {
                state.ended.entry(fan_out.to_owned()).or_insert(message);
                state.raised.insert(fan_out.to_owned());
            }
        });
    }

    /// Notes that a gate is over.
    pub(super) fn note_gate_passed(&self, gate: &str, is_rejected: bool) {
        self.change(|state| {
            state.reached.insert(gate.to_owned());
            if is_rejected {
                state.raised.insert(gate.to_owned());
            }
        });
    }

    /// Notes what a `parallel` or `each` has come to: a rejection that ended it is on its way again.
    pub(super) fn note_fan_out_over<T>(&self, path: &str, result: &RhaiResult<T>) {
        if result.as_ref().err().and_then(|error| find_rejection(error)).is_some() {
            self.change(|state| {
                state.raised.insert(path.to_owned());
            });
        }
    }

    /// Notes that the script goes on at a path: what was raised there is handled.
    pub(super) fn note_going_on(&self, path: &str) {
        // Below a `parallel` or `each` that it ended, only the other branches go on.
        let is_handled = |place: &String| !are_in_different_forks(place, path) && !is_below(path, place);
        if lock_unpoisoned(&self.state).raised.iter().any(is_handled) {
            self.change(|state| state.raised.retain(|place| !is_handled(place)));
        }
    }

    /// Returns a receiver that tells when something changes.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Returns what rejections mean for a gate; those that are recorded count from before the script has come to them.
    pub(super) fn gate_outlook(&self, gate: &str, fold: &RunFold) -> GateOutlook {
        let state = lock_unpoisoned(&self.state);
        if let Some((_, message)) = state.ended.iter().find(|(path, _)| is_below(gate, path)) {
            return GateOutlook::Withdrawn(message.clone());
        }
        // The script comes to it only in a fork that is at work.
        let is_coming = |other: &str| {
            !state.reached.contains(other)
                && state.forks.iter().any(|fork| is_below(other, fork) && !is_below(gate, fork))
        };
        let is_unsettled = state.raised.iter().any(|place| are_in_different_forks(place, gate))
            || list_rejected_gates(fold).any(|other| are_in_different_forks(other, gate) && is_coming(other));
        if is_unsettled { GateOutlook::Unsettled } else { GateOutlook::Stands }
    }

    fn change(&self, change: impl FnOnce(&mut RejectionState)) {
        change(&mut lock_unpoisoned(&self.state));
        self.changes.send_modify(|count| *count += 1);
    }
}

/// Returns the message of an error of the script that is a rejection.
pub(super) fn find_rejection(error: &EvalAltResult) -> Option<String> {
    let fault = from_rhai_error(error);
    (fault.code == codes::REJECTED).then_some(fault.message)
}

/// Returns the gates that somebody has rejected, also those of which the script has the error already.
fn list_rejected_gates(fold: &RunFold) -> impl Iterator<Item = &str> {
    let gates = fold.calls().filter(|(_, call)| call.op == APPROVE && is_rejected(call));
    gates.map(|(name, _)| name)
}

fn is_rejected(gate: &FoldedCall) -> bool {
    match gate.outcome() {
        Some(Outcome::Err(error)) => error["code"] == codes::REJECTED,
        Some(Outcome::Ok(_)) => false,
        None => {
            let decision = gate.decision.as_ref().map(Decision::decode);
            matches!(decision, Some(Ok(Decision::Reject { .. })))
        }
    }
}

fn is_below(call: &str, path: &str) -> bool {
    call.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'))
}
