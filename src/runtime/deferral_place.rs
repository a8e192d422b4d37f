//! Where clean-up stands among what a run has deferred, as its records have it: it runs in the reverse order, which an
//! edit must not turn.

use crate::journal::{FoldedCall, Outcome};
use serde::Deserialize as _;
use serde_json::Value;
use std::collections::BTreeSet;

/// The place of clean-up that was deferred, or of the call whose temporary branch is removed.
pub(super) struct DeferralPlace {
    /// The number of the record.
    order: u64,
    /// The edition of the text that deferred it first.
    edition: u32,
    /// What of the texts before an edit had deferred before it, for clean-up that the edit has put in.
    before: Option<BTreeSet<String>>,
}

impl DeferralPlace {
    /// Returns the place of a recorded call; nothing where it was made again, and its record is younger than what came of it.
    pub(super) fn of_call(call: &FoldedCall) -> Option<Self> {
        if call.attempts.len() > 1 {
            return None;
        }
        let before = match call.outcome() {
            // What does not read stops the run where the clean-up is deferred again, before it is compared with anything.
            Some(Outcome::Ok(names @ Value::Array(_))) => BTreeSet::deserialize(names).ok(),
            _ => None,
        };
        Some(Self { order: call.last, edition: call.edition, before })
    }

    /// Returns whether this, called `name`, was deferred before another one; nothing where no record says.
    pub(super) fn precedes(&self, name: &str, other: &Self, other_name: &str) -> Option<bool> {
        if self.edition == other.edition {
            return Some(self.order < other.order);
        }
        if self.edition < other.edition {
            return other.before.as_ref().map(|before| before.contains(name));
        }
        self.before.as_ref().map(|before| !before.contains(other_name))
    }
}
