//! The records of natives without an operation: what they gave back once is what they give back at every replay.

use super::{
    scope::CallScope,
    stop::{NativeError, StopReason},
};
use crate::{
    base::value,
    journal::{CallState, Durability, Outcome, Record},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// Returns the recorded value of a native without an operation (the time, a note, a metric), or makes and records it
/// like a call. The record is written together with the next durable one.
pub(super) fn replay_or_record_native(
    scope: &CallScope,
    native: &str,
    args: &Value,
    at: &str,
    make: impl FnOnce() -> Value,
) -> Result<Value, NativeError> {
    let name = scope.claim_note_name(native, args);
    replay_or_record_named(scope, name, native, args, at, make)
}

/// Does what [`replay_or_record_native`] does, under a name that is claimed.
pub(super) fn replay_or_record_named(
    scope: &CallScope,
    name: String,
    native: &str,
    args: &Value,
    at: &str,
    make: impl FnOnce() -> Value,
) -> Result<Value, NativeError> {
    let context = scope.run_context();
    if scope.is_halted() {
        return Err(NativeError::Stopped);
    }
    match context.call_state(&name)? {
        CallState::Finished { op, args: recorded, outcome } if op == native && recorded == *args => match outcome {
            Outcome::Ok(value) => Ok(value),
            Outcome::Err(fault) => Err(fault.into()),
        },
        CallState::Finished { op, args: recorded, .. } | CallState::Started { op, args: recorded, .. } => {
            Err(context.stopper.stop_run(StopReason::Mismatch {
                message: format!(
                    "{name} is not what was recorded\n  recorded  {op}({})\n  asked     {native}({})\n  at        {at}",
                    value::strip_tags(&recorded), value::strip_tags(args)
                ),
            }))
        }
        CallState::NotStarted if context.is_settling() => Err(scope.abandon_fork()),
        CallState::NotStarted => {
            let value = make();
            let end = Record::End { call: name, op: native.into(), args: args.clone(), at: at.into(), outcome: Outcome::Ok(value.clone()) };
            context.stop_on_journal_error(context.run.append_record(end, Durability::Buffered))?;
            Ok(value)
        }
    }
}

/// Does what [`replay_or_record_native`] does for a typed value. What is recorded and does not read stops the run: a
/// value made now would be another one.
pub(super) fn replay_or_record_typed<T: Serialize + DeserializeOwned>(
    scope: &CallScope,
    native: &str,
    args: &Value,
    at: &str,
    make: impl FnOnce() -> T,
) -> Result<T, NativeError> {
    replay_or_record_typed_as(scope, &scope.claim_note_name(native, args), native, args, at, make)
}

/// Does what [`replay_or_record_typed`] does, under a name that is claimed.
pub(super) fn replay_or_record_typed_as<T: Serialize + DeserializeOwned>(
    scope: &CallScope,
    name: &str,
    native: &str,
    args: &Value,
    at: &str,
    make: impl FnOnce() -> T,
) -> Result<T, NativeError> {
    let recorded = replay_or_record_named(scope, name.to_owned(), native, args, at, || json!(make()))?;
    T::deserialize(&recorded).map_err(|e| scope.run_context().stop_as_unreadable(name, e.to_string()))
}
