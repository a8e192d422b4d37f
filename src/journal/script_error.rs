//! Errors as scripts, the journal and `-o json` see them: one map for all.
//!
//! What a script throws itself keeps its own fields, whatever their types. A field that bears one of our names and is
//! of another type stays among the others as it was thrown, and ours takes the value that permits least.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The fields that every recorded error has.
const REQUIRED_FIELDS: [&str; 4] = ["code", "message", "retryable", "side_effects"];

/// Whether anything changed in the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SideEffects {
    /// Nothing changed.
    None,
    /// Something changed.
    Some,
    /// Nothing is seen to have changed, and it still may.
    Unknown,
}

/// An error that a script can catch, or that ended it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub struct ScriptError {
    /// What scripts compare; empty where the script threw something else than text.
    pub code: String,
    pub message: String,
    /// What to do now.
    pub hint: Option<String>,
    /// Whether the same call may succeed later.
    pub retryable: bool,
    pub side_effects: SideEffects,
    /// The operation that failed.
    pub operation: Option<String>,
    pub target: Option<String>,
    /// What was made and could not be removed again, by name.
    pub left_behind: Vec<String>,
    /// The call that raised it.
    pub call_name: Option<String>,
    /// Whether a person has decided it: nobody is asked again.
    pub decided: bool,
    /// The fields that the script added, and those of ours to which it gave another type.
    pub other: Map<String, Value>,
}

/// The field of the error of a gate that was withdrawn: nobody was asked about it.
pub(super) const WITHDRAWN: &str = "withdrawn";

impl ScriptError {
    /// Marks the error as that of a gate about which nobody was asked.
    #[must_use]
    pub fn of_withdrawn_gate(mut self) -> Self {
        self.other.insert(WITHDRAWN.into(), true.into());
        self
    }

    /// Returns an error that changed nothing.
    pub fn new(code: &str, message: &str) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
            hint: None,
            retryable: false,
            side_effects: SideEffects::None,
            operation: None,
            target: None,
            left_behind: Vec::new(),
            call_name: None,
            decided: false,
            other: Map::new(),
        }
    }

    /// Takes over fields, each as ours if it has our name and our type.
    #[must_use]
    pub fn absorb_fields(mut self, fields: Map<String, Value>) -> Self {
        for (name, value) in fields {
            self.absorb_field(name, value);
        }
        self
    }

    fn absorb_field(&mut self, name: String, value: Value) {
        match (name.as_str(), value) {
            ("code", Value::String(text)) => self.code = text,
            ("message", Value::String(text)) => self.message = text,
            ("hint", Value::String(text)) => self.hint = Some(text),
            ("operation", Value::String(text)) => self.operation = Some(text),
            ("target", Value::String(text)) => self.target = Some(text),
            ("call_name", Value::String(text)) => self.call_name = Some(text),
            ("hint", Value::Null) => self.hint = None,
            ("operation", Value::Null) => self.operation = None,
            ("target", Value::Null) => self.target = None,
            ("retryable", Value::Bool(may)) => self.retryable = may,
            ("decided", Value::Bool(true)) => self.decided = true,
            ("side_effects", Value::String(word)) if word == "none" => self.side_effects = SideEffects::None,
            ("side_effects", Value::String(word)) if word == "some" => self.side_effects = SideEffects::Some,
            ("side_effects", Value::String(word)) if word == "unknown" => {
                self.side_effects = SideEffects::Unknown;
            }
            ("left_behind", value) => self.absorb_left_behind(value),
            (_, value) => self.keep_unknown_field(name, value),
        }
    }

    /// Takes over the names in a list; a list that has anything else in it is kept as well.
    fn absorb_left_behind(&mut self, value: Value) {
        let items = value.as_array().map_or(&[][..], Vec::as_slice);
        self.left_behind = items.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        if !value.is_array() || self.left_behind.len() != items.len() {
            self.other.insert("left_behind".into(), value);
        }
    }

    /// Keeps a field as it was thrown; where it has a name of ours, ours permits as little as it can.
    fn keep_unknown_field(&mut self, name: String, value: Value) {
        match name.as_str() {
            "code" => self.code.clear(),
            "side_effects" => self.side_effects = SideEffects::Some,
            "retryable" => self.retryable = false,
            _ => {}
        }
        self.other.insert(name, value);
    }

    /// Reads a recorded error.
    ///
    /// # Errors
    /// It is no map, or it lacks what every version has written.
    pub fn decode(recorded: &Value) -> Result<Self, String> {
        let fields = recorded.as_object().ok_or_else(|| format!("the error is no map but {recorded}"))?;
        if let Some(name) = REQUIRED_FIELDS.iter().find(|name| !fields.contains_key(**name)) {
            return Err(format!("the error has no `{name}`"));
        }
        if !fields["message"].is_string() {
            return Err(format!("the `message` of the error is no text but {}", fields["message"]));
        }
        Ok(Self::new("", "").absorb_fields(fields.clone()))
    }

    /// Returns the map that scripts see and the journal keeps.
    pub fn to_json(&self) -> Value {
        let mut shown = json!({
            "code": self.code, "message": self.message, "hint": self.hint, "retryable": self.retryable,
            "side_effects": self.side_effects, "operation": self.operation, "target": self.target,
            "left_behind": self.left_behind,
        });
        if let Some(call) = &self.call_name {
            shown["call_name"] = call.as_str().into();
        }
        if self.decided {
            shown["decided"] = true.into();
        }
        for (name, value) in &self.other {
            shown[name.as_str()] = value.clone();
        }
        shown
    }

    /// Sets the call that raised the error.
    pub fn set_raising_call(&mut self, call: &str) {
        self.other.remove("call_name");
        self.call_name = Some(call.into());
    }

    /// Sets that a person has decided the error.
    pub fn mark_decided(&mut self) {
        self.other.remove("decided");
        self.decided = true;
    }

    /// Sets what was made and could not be removed.
    pub fn set_left_behind(&mut self, names: Vec<String>) {
        self.other.remove("left_behind");
        self.left_behind = names;
    }
}

impl TryFrom<Value> for ScriptError {
    type Error = String;

    fn try_from(recorded: Value) -> Result<Self, String> {
        Self::decode(&recorded)
    }
}

impl From<ScriptError> for Value {
    fn from(error: ScriptError) -> Value {
        error.to_json()
    }
}

/// An error that ended a script.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    pub fault: ScriptError,
    pub place: Option<SourceLocation>,
}

/// A place in a script.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceLocation {
    /// The file, as it was named.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
    /// The text of the line.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(value: &Value) -> Map<String, Value> {
        value.as_object().expect("a map").clone()
    }

    #[test]
    fn an_error_shows_its_fields_with_nothing_where_there_is_nothing() {
        let shown = json!({"code": "X", "message": "m", "hint": null, "retryable": false, "side_effects": "none",
            "operation": null, "target": null, "left_behind": []});
        assert_eq!(ScriptError::new("X", "m").to_json(), shown);
    }

    #[test]
    fn a_field_of_another_type_is_neither_lost_nor_believed() {
        let thrown = json!({"code": 5, "message": "m", "hint": [1], "retryable": "yes", "side_effects": "maybe",
            "operation": 1.5, "target": {"$target": "lab"}, "left_behind": ["branch x", 7], "call_name": null,
            "decided": false, "own": {"a": [null]}});
        let error = ScriptError::new("THROWN", "m").absorb_fields(fields(&thrown));
        assert_eq!(error.to_json(), thrown);
        assert_eq!(ScriptError::decode(&thrown), Ok(error.clone()));
        assert_eq!((error.code.as_str(), error.retryable, error.decided), ("", false, false));
        assert_eq!((error.side_effects, error.left_behind), (SideEffects::Some, vec!["branch x".to_owned()]));
        assert_eq!((error.hint, error.operation, error.target, error.call_name), (None, None, None, None));
    }

    #[test]
    fn what_is_set_later_replaces_what_was_thrown() {
        let thrown = json!({"call_name": 1, "decided": null, "left_behind": 2});
        let mut error = ScriptError::new("X", "m").absorb_fields(fields(&thrown));
        error.set_raising_call("/a#0");
        error.mark_decided();
        error.set_left_behind(vec!["b".into()]);
        let shown = error.to_json();
        assert_eq!(
            (&shown["call_name"], &shown["decided"], &shown["left_behind"]),
            (&json!("/a#0"), &json!(true), &json!(["b"]))
        );
    }

    #[test]
    fn what_is_no_error_does_not_read_as_one() {
        let whole = ScriptError::new("X", "m").to_json();
        assert_eq!(ScriptError::decode(&whole), Ok(ScriptError::new("X", "m")));
        for name in REQUIRED_FIELDS {
            let mut part = fields(&whole);
            part.remove(name);
            let wrong = ScriptError::decode(&Value::Object(part)).expect_err(name);
            assert!(wrong.contains(name), "{wrong}");
        }
        let mut odd = whole;
        odd["message"] = json!(7);
        for odd in [odd, json!(null), json!("text"), json!([1])] {
            assert!(ScriptError::decode(&odd).is_err(), "{odd}");
        }
    }
}
