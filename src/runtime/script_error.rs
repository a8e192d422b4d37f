//! Errors as a script sees them: one map for all, and the place in the script.

use super::values::{to_dynamic, to_json};
use crate::provider;
use rhai::{Dynamic, EvalAltResult, NativeCallContext, Position};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The codes that the runtime adds to the providers' own.
pub(super) mod codes {
    /// `ensure` did not hold.
    pub(in crate::runtime) const ENSURE: &str = "ENSURE";
    /// `fail` was called.
    pub(in crate::runtime) const FAILED: &str = "FAILED";
    /// The script threw something of its own.
    pub(in crate::runtime) const THROWN: &str = "THROWN";
    /// The script itself is wrong: an unknown function, a wrong type.
    pub(in crate::runtime) const SCRIPT: &str = "SCRIPT";
    /// `wait_until` ran out of time.
    pub(in crate::runtime) const TIMEOUT: &str = "TIMEOUT";
    /// The person who was asked decided that a call failed.
    pub(in crate::runtime) const DECIDED: &str = "DECIDED";
    /// The person who was asked did not approve.
    pub(in crate::runtime) const REJECTED: &str = "REJECTED";
}

/// The field of an error that names the call which raised it.
pub(super) const CALL_FIELD: &str = "call_name";
/// The field of an error that says whether a person has decided it: nobody is asked again.
pub(super) const DECIDED_FIELD: &str = "decided";

/// What a native returns to the engine.
pub(super) type RhaiResult<T> = Result<T, Box<EvalAltResult>>;

/// An error as scripts, the journal and `-o json` see it.
///
/// `#{code, message, hint, retryable, side_effects, operation, target, left_behind}`; `side_effects` is `"none"` or
/// `"some"`.
pub(super) type ScriptError = Value;

/// Returns the error of an operation.
pub(super) fn from_operation_error(
    error: &provider::Error,
    operation: &str,
    target: Option<&str>,
) -> ScriptError {
    json!({
        "code": error.code.as_str(),
        "message": error.message,
        "hint": error.hint,
        "retryable": error.retryable,
        "side_effects": match error.side_effects { provider::SideEffects::None => "none", provider::SideEffects::Some => "some" },
        "operation": operation,
        "target": target,
        "left_behind": error.left_behind,
    })
}

/// Returns an error that the runtime itself raises.
pub(super) fn runtime_error(
    code: &str,
    message: &str,
    hint: Option<&str>,
    operation: Option<&str>,
) -> ScriptError {
    json!({
        "code": code, "message": message, "hint": hint, "retryable": false, "side_effects": "none",
        "operation": operation, "target": null, "left_behind": [],
    })
}

/// Returns an error as one that a script can catch.
pub(super) fn to_rhai_error(error: &ScriptError, at: Position) -> Box<EvalAltResult> {
    EvalAltResult::ErrorRuntime(to_dynamic(error), at).into()
}

/// Returns the error of a script that is itself wrong. The engine adds the position.
pub(super) fn misuse_error(message: &str) -> Box<EvalAltResult> {
    to_rhai_error(&runtime_error(codes::SCRIPT, message, None, None), Position::NONE)
}

/// Raises an error of the runtime where a native was called.
pub(super) fn raise_at_call<T>(cx: &NativeCallContext<'_>, code: &str, message: &str) -> RhaiResult<T> {
    Err(to_rhai_error(&runtime_error(code, message, None, None), cx.call_position()))
}

/// Returns whatever a script caught as one map: an error of the runtime, a `throw` of its own, or one of Rhai's.
pub(super) fn normalize_caught(caught: &Dynamic) -> ScriptError {
    let fields = match to_json(caught) {
        Ok(Value::Object(fields)) => fields,
        Ok(Value::String(text)) => return runtime_error(codes::THROWN, &text, None, None),
        Ok(other) => return runtime_error(codes::THROWN, &other.to_string(), None, None),
        Err(why) => return runtime_error(codes::THROWN, &why, None, None),
    };
    let code = if fields.contains_key("error") { codes::SCRIPT } else { codes::THROWN };
    let message = fields.get("message").and_then(Value::as_str).map(str::to_owned);
    let mut error = runtime_error(code, &message.unwrap_or_else(|| json!(fields).to_string()), None, None);
    for (key, value) in fields {
        if key != "message" || value.is_string() {
            error[key] = value;
        }
    }
    error
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

/// Returns the error of whatever a script raised.
pub(super) fn from_rhai_error(error: &EvalAltResult) -> ScriptError {
    match innermost_error(error, "").0 {
        EvalAltResult::ErrorRuntime(thrown, _) => normalize_caught(thrown),
        other => {
            let message = other.to_string();
            let bare = message.strip_suffix(&format!(" ({})", other.position())).unwrap_or(&message);
            runtime_error(codes::SCRIPT, bare, None, None)
        }
    }
}

/// Returns what ended a script, and where. `text_of` finds the source of a file.
pub(super) fn to_failure(
    error: &EvalAltResult,
    main: &str,
    text_of: &dyn Fn(&str) -> Option<String>,
) -> Failure {
    let (inner, file) = innermost_error(error, main);
    let at = Some(inner.position()).filter(|p| !p.is_none()).unwrap_or_else(|| error.position());
    Failure { fault: from_rhai_error(error), place: locate_source(file, at, text_of) }
}

/// Returns the error that was raised first, and the file that it was raised in.
fn innermost_error<'a>(error: &'a EvalAltResult, main: &'a str) -> (&'a EvalAltResult, &'a str) {
    match error {
        EvalAltResult::ErrorInFunctionCall(_, file, inner, _)
        | EvalAltResult::ErrorInModule(file, inner, _) => {
            innermost_error(inner, if file.is_empty() { main } else { file })
        }
        _ => (error, main),
    }
}

/// Returns a place with its line of text.
pub(super) fn locate_source(
    file: &str,
    at: Position,
    text_of: &dyn Fn(&str) -> Option<String>,
) -> Option<SourceLocation> {
    let line = at.line()?;
    let text = text_of(file).and_then(|t| t.lines().nth(line - 1).map(str::to_owned)).unwrap_or_default();
    Some(SourceLocation { file: file.to_owned(), line, column: at.position().unwrap_or(1), text })
}
