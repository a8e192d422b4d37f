//! What a run comes to: what it ends with while it cleans up, and the error that its last record has.

use super::{Failure, Outcome, RecordedOutcome, ScriptError, SourceLocation};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The word for the conclusion of a run that was given up.
const ABANDONED: &str = "abandoned";

/// The conclusion of a script, with which its run ends.
#[derive(Debug, Clone, PartialEq)]
pub enum Conclusion {
    /// It succeeded, with the value of its last expression.
    Done(Value),
    /// It failed.
    Failed(Box<Failure>),
    /// It was abandoned.
    Abandoned,
}

impl Conclusion {
    /// Returns the outcome that is recorded when the run begins to end.
    pub fn to_recorded(&self) -> RecordedOutcome {
        match self {
            Self::Done(value) => Outcome::Ok(value.clone()),
            Self::Failed(failure) => Outcome::Err(json!(failure)),
            Self::Abandoned => Outcome::Err(ABANDONED.into()),
        }
    }

    /// Reads a recorded conclusion.
    ///
    /// # Errors
    /// Why it is none.
    pub(super) fn decode(recorded: &RecordedOutcome) -> Result<Self, String> {
        match recorded {
            Outcome::Ok(value) => Ok(Self::Done(value.clone())),
            Outcome::Err(error) if error == ABANDONED => Ok(Self::Abandoned),
            Outcome::Err(error) => match Failure::deserialize(error) {
                Ok(failure) => Ok(Self::Failed(Box::new(failure))),
                Err(e) => Err(format!("{error} is not what a run ends with: {e}")),
            },
        }
    }
}

/// The error of a run that has ended: the script's, what went wrong in the clean-up, or both.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct RunError {
    /// The error that ended the script.
    pub fault: Option<ScriptError>,
    /// Where in the script.
    pub place: Option<SourceLocation>,
    /// Clean-up that failed, one message each.
    #[serde(default)]
    pub cleanup: Vec<String>,
    /// The same with all that is known of each; a run that ended under an earlier version has the messages only.
    #[serde(default)]
    pub cleanup_errors: Vec<Failure>,
}

impl RunError {
    /// Returns the error of a run that ended with `failure` and with `cleanup` undone; nothing where there is neither.
    pub fn from_parts(failure: Option<&Failure>, cleanup: &[Failure]) -> Option<Self> {
        let error = Self {
            fault: failure.map(|failure| failure.fault.clone()),
            place: failure.and_then(|failure| failure.place.clone()),
            cleanup: cleanup.iter().map(|failure| failure.fault.message.clone()).collect(),
            cleanup_errors: cleanup.to_vec(),
        };
        (!error.is_empty()).then_some(error)
    }

    fn is_empty(&self) -> bool {
        self.fault.is_none() && self.cleanup.is_empty()
    }

    /// Returns the value that is recorded.
    pub fn to_json(&self) -> Value {
        let mut fields = Map::new();
        if let Some(fault) = &self.fault {
            fields.insert("fault".into(), fault.to_json());
            fields.insert("place".into(), json!(self.place));
        }
        if !self.cleanup.is_empty() {
            fields.insert("cleanup".into(), json!(self.cleanup));
        }
        if !self.cleanup_errors.is_empty() {
            fields.insert("cleanup_errors".into(), json!(self.cleanup_errors));
        }
        Value::Object(fields)
    }

    /// Reads a recorded error of a run.
    ///
    /// # Errors
    /// Why it is none.
    pub fn decode(recorded: &Value) -> Result<Self, String> {
        let error =
            Self::deserialize(recorded).map_err(|e| format!("{recorded} is no error of a run: {e}"))?;
        if error.is_empty() { Err(format!("{recorded} is no error of a run")) } else { Ok(error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure() -> Failure {
        let place = SourceLocation { file: "r.rhai".into(), line: 1, column: 2, text: "x".into() };
        Failure { fault: ScriptError::new("X", "m"), place: Some(place) }
    }

    #[test]
    fn a_conclusion_reads_back() {
        for conclusion in [
            Conclusion::Done(json!([1])),
            Conclusion::Failed(Box::new(failure())),
            Conclusion::Failed(Box::new(Failure { place: None, ..failure() })),
            Conclusion::Abandoned,
        ] {
            assert_eq!(Conclusion::decode(&conclusion.to_recorded()), Ok(conclusion));
        }
    }

    #[test]
    fn a_failure_that_does_not_read_is_not_taken_for_a_run_that_was_given_up() {
        for odd in [json!("given up"), json!(null), json!({"fault": "x"}), json!({"fault": {"code": "X"}})] {
            assert!(Conclusion::decode(&Outcome::Err(odd.clone())).is_err(), "{odd}");
        }
    }

    #[test]
    fn the_error_of_a_run_reads_back() {
        let wrong = [Failure { fault: ScriptError::new("TOOL", "the branch is still there"), place: None }];
        for (failure, cleanup) in [(Some(failure()), &wrong[..]), (Some(failure()), &[]), (None, &wrong)] {
            let error = RunError::from_parts(failure.as_ref(), cleanup).expect("there is one");
            assert_eq!(RunError::decode(&error.to_json()), Ok(error));
        }
        let old = RunError::decode(&json!({"cleanup": ["the branch is still there"]})).expect("it reads");
        assert_eq!((old.cleanup.len(), old.cleanup_errors), (1, vec![]));
        assert_eq!(RunError::from_parts(None, &[]), None);
        for odd in [
            json!({}),
            json!("x"),
            json!({"fault": 1, "cleanup": ["c"]}),
            json!({"cleanup": ["c"], "cleanup_errors": [{}]}),
        ] {
            assert!(RunError::decode(&odd).is_err(), "{odd}");
        }
    }
}
