//! What somebody decided about a call, as it is recorded.

use super::ScriptError;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A decision about a call that was begun, that failed, or that waits for an approval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Decision {
    /// It is made again.
    Redo {
        /// The error it failed with, where the person was asked about one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<ScriptError>,
    },
    /// It stays open, with its error, until somebody decides otherwise.
    Hold { error: ScriptError },
    /// It failed.
    Fail {
        /// The error it failed with, if that is known.
        #[serde(default)]
        error: Option<ScriptError>,
    },
    /// It took effect, and this is what came back.
    Done { result: Value },
    /// What it asks for is approved.
    Approve {
        /// The hash of what the approval covers.
        hash: String,
        by: String,
    },
    /// What it asks for is rejected.
    Reject {
        /// The hash of what was asked for.
        hash: String,
        by: String,
    },
}

impl Decision {
    /// Returns the `kind` under which the decision is recorded.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Decision::Redo { .. } => "redo",
            Decision::Hold { .. } => "hold",
            Decision::Fail { .. } => "fail",
            Decision::Done { .. } => "done",
            Decision::Approve { .. } => "approve",
            Decision::Reject { .. } => "reject",
        }
    }

    /// Returns the value that is recorded.
    pub fn to_json(&self) -> Value {
        json!(self)
    }

    /// Returns the error of the call that the decision has.
    pub fn into_known_error(self) -> Option<ScriptError> {
        match self {
            Decision::Redo { error } | Decision::Fail { error } => error,
            Decision::Hold { error } => Some(error),
            Decision::Done { .. } | Decision::Approve { .. } | Decision::Reject { .. } => None,
        }
    }

    /// Reads a recorded decision.
    ///
    /// # Errors
    /// Why it is none.
    pub fn decode(recorded: &Value) -> Result<Self, String> {
        Self::deserialize(recorded).map_err(|e| format!("the decision {recorded} is none: {e}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_reads_back_and_names_its_kind() {
        let error = ScriptError::new("X", "m");
        for decision in [
            Decision::Redo { error: None },
            Decision::Redo { error: Some(error.clone()) },
            Decision::Hold { error: error.clone() },
            Decision::Fail { error: None },
            Decision::Fail { error: Some(error) },
            Decision::Done { result: json!({"n": 1.5}) },
            Decision::Approve { hash: "h".into(), by: "ann".into() },
            Decision::Reject { hash: "h".into(), by: "ann".into() },
        ] {
            let recorded = decision.to_json();
            assert_eq!(recorded["kind"], decision.as_str());
            assert_eq!(Decision::decode(&recorded), Ok(decision));
        }
    }

    #[test]
    fn the_recorded_text_stays_what_it_was() {
        assert_eq!(Decision::Redo { error: None }.to_json(), json!({"kind": "redo"}));
        assert_eq!(Decision::Fail { error: None }.to_json(), json!({"kind": "fail", "error": null}));
        assert_eq!(Decision::decode(&json!({"kind": "fail"})), Ok(Decision::Fail { error: None }));
    }

    #[test]
    fn what_is_no_decision_does_not_read_as_one() {
        for odd in [
            json!("redo"),
            json!({"kind": "undo"}),
            json!({"kind": "hold"}),
            json!({"kind": "hold", "error": null}),
            json!({"kind": "fail", "error": {"code": "X"}}),
            json!({"kind": "done"}),
            json!({"kind": "approve", "by": "ann"}),
        ] {
            assert!(Decision::decode(&odd).is_err(), "{odd}");
        }
    }
}
