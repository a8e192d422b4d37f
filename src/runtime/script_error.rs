//! Errors between the script engine and the rest: what a script threw, and the place in the script.

use super::values::{to_dynamic, to_json};
use crate::{
    journal::{Failure, ScriptError, SideEffects, SourceLocation},
    provider,
};
use rhai::{Dynamic, EvalAltResult, NativeCallContext, Position};
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

/// What a native says that works only inside a run.
pub(super) const OUTSIDE_RUN: &str = "this function works only inside a run";

/// What a native returns to the engine.
pub(super) type RhaiResult<T> = Result<T, Box<EvalAltResult>>;

/// Returns the error of an operation.
pub(super) fn from_operation_error(
    error: &provider::Error,
    operation: &str,
    target: Option<&str>,
) -> ScriptError {
    ScriptError {
        hint: error.hint.clone(),
        retryable: error.retryable,
        side_effects: match error.side_effects {
            provider::SideEffects::None => SideEffects::None,
            provider::SideEffects::Some => SideEffects::Some,
            provider::SideEffects::Unknown => SideEffects::Unknown,
        },
        operation: Some(operation.to_owned()),
        target: target.map(str::to_owned),
        left_behind: error.left_behind.clone(),
        ..ScriptError::new(error.code.as_str(), &error.message)
    }
}

/// Returns an error as one that a script can catch.
pub(super) fn to_rhai_error(error: &ScriptError, at: Position) -> Box<EvalAltResult> {
    EvalAltResult::ErrorRuntime(to_dynamic(&error.to_json()), at).into()
}

/// Returns the error of a script that is itself wrong. The engine adds the position.
pub(super) fn misuse_error(message: &str) -> Box<EvalAltResult> {
    to_rhai_error(&ScriptError::new(codes::SCRIPT, message), Position::NONE)
}

/// Raises an error of the runtime where a native was called.
pub(super) fn raise_at_call<T>(cx: &NativeCallContext<'_>, code: &str, message: &str) -> RhaiResult<T> {
    Err(to_rhai_error(&ScriptError::new(code, message), cx.call_position()))
}

/// Returns whatever a script caught as one map: an error of the runtime, a `throw` of its own, or one of Rhai's.
pub(super) fn normalize_caught(caught: &Dynamic) -> ScriptError {
    let mut fields = match to_json(caught) {
        Ok(Value::Object(fields)) => fields,
        Ok(Value::String(text)) => return ScriptError::new(codes::THROWN, &text),
        Ok(other) => return ScriptError::new(codes::THROWN, &other.to_string()),
        Err(why) => return ScriptError::new(codes::THROWN, &why),
    };
    let code = if fields.contains_key("error") { codes::SCRIPT } else { codes::THROWN };
    if fields.get("message").is_some_and(Value::is_string) {
        return ScriptError::new(code, "").absorb_fields(fields);
    }
    let message = json!(fields).to_string();
    // A message of another type is in the text of the whole map.
    fields.remove("message");
    ScriptError::new(code, &message).absorb_fields(fields)
}

/// Returns the error of whatever a script raised.
pub(super) fn from_rhai_error(error: &EvalAltResult) -> ScriptError {
    match innermost_error(error, "").0 {
        EvalAltResult::ErrorRuntime(thrown, _) => normalize_caught(thrown),
        // The engine was stopped at a limit, which the token tells.
        EvalAltResult::ErrorTerminated(why, _) if why.is_string() => {
            ScriptError::new(codes::SCRIPT, &why.to_string())
        }
        other => {
            let message = other.to_string();
            let bare = message.strip_suffix(&format!(" ({})", other.position())).unwrap_or(&message);
            ScriptError::new(codes::SCRIPT, bare)
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
