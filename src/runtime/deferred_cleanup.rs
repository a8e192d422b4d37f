//! Deferred clean-up in the records: an edited script that no longer defers what a run had deferred would lose it.

use super::{
    call_text::{find_call_texts, read_call_text},
    edit_barrier::{DEFER, Frontier},
    edit_gate::await_edit_approval,
    frontier::wait_at_frontier,
    native_call::replay_or_record_typed_as,
    reached_text::list_texts_clean_up_depends_on,
    scope::{CallScope, format_position},
    stop::{NativeError, StopReason},
    values::to_json,
};
use rhai::{FnPtr, NativeCallContext as NativeContext};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// The natives whose closures are clean-up.
const DEFERRING_NATIVES: [&str; 2] = ["defer", "on_failure"];

/// The most characters of a clean-up's text that are recorded, for people.
const TEXT_LIMIT: usize = 120;

/// Records that clean-up is deferred, and returns its name within the run.
pub(super) fn record_deferral(
    cx: &NativeContext<'_>,
    scope: &CallScope,
    closure: &FnPtr,
) -> Result<String, NativeError> {
    let context = scope.run_context();
    let args = describe_clean_up_as_recorded(cx, scope, closure)?;
    let name = scope.claim_note_name(DEFER, &args);
    context.note_asked_by_script(&name);
    let (at, is_new) = (format_position(cx), !context.run.is_recorded(&name));
    if is_new && !context.is_settling() {
        // It may undo, or destroy, what a run that is rejected would have left alone.
        let (op, args) = (DEFER.to_owned(), args.clone());
        wait_at_frontier(context, || Frontier { call: name.clone(), op, args, at: at.clone() })?;
        await_edit_approval(scope, &name, &at)?;
    }
    // A run that is being settled records nothing new, and does what it had deferred.
    if !context.is_settling() || !is_new {
        drop(replay_or_record_typed_as(scope, &name, DEFER, &args, &at, || list_earlier(scope))?);
    }
    check_order(scope, &name)?;
    Ok(name)
}

/// Stops the run where an edited script defers what was deferred in another order.
pub(super) fn check_order(scope: &CallScope, name: &str) -> Result<(), NativeError> {
    let context = scope.run_context();
    let Some(edits) = &context.edits else { return Ok(()) };
    match scope.list_deferred_clean_up(&|earlier| edits.is_swapped(earlier, name)).first() {
        None => Ok(()),
        Some(earlier) => {
            let message = edits.describe_swapped(earlier, name);
            Err(context.stopper.stop_run(StopReason::Mismatch { message }))
        }
    }
}

/// Returns, for clean-up that an edit has put in, what of the texts before is deferred before it.
fn list_earlier(scope: &CallScope) -> Option<Vec<String>> {
    let edits = scope.run_context().edits.as_ref()?;
    Some(scope.list_deferred_clean_up(&|earlier| edits.has_begun(earlier)))
}

/// Returns what is compared of a clean-up. Where it captures the parameters, one that an edit has added makes no difference:
/// the clean-up is the one that was recorded with those that there were then.
fn describe_clean_up_as_recorded(
    cx: &NativeContext<'_>,
    scope: &CallScope,
    closure: &FnPtr,
) -> Result<Value, NativeError> {
    let captured: Result<Vec<Value>, _> = closure.iter_curry().map(to_json).collect();
    let now = describe_clean_up(cx, scope, captured.as_ref().ok());
    let Some(captured) = captured.ok().filter(|_| scope.run_context().edits.is_some()) else {
        return Ok(now);
    };
    if scope.has_recorded_note(DEFER, &now) {
        return Ok(now);
    }
    let earlier = list_captures_with_fewer_params(scope, &captured)?;
    let mut recorded = earlier.iter().map(|captured| describe_clean_up(cx, scope, Some(captured)));
    Ok(recorded.find(|args| scope.has_recorded_note(DEFER, args)).unwrap_or(now))
}

/// Returns captured values with the parameters as the texts before had them, the latest first; nothing where the parameters
/// are not among them.
fn list_captures_with_fewer_params(
    scope: &CallScope,
    captured: &[Value],
) -> Result<Vec<Vec<Value>>, NativeError> {
    let context = scope.run_context();
    let summary = context.stop_on_journal_error(context.journal.summarize_run(context.run.id()))?;
    let params = context.run.complete_params(&summary.params);
    let (Some(all), Some(given)) = (params.as_object(), summary.params.as_object()) else {
        return Ok(vec![]);
    };
    if !captured.contains(&params) {
        return Ok(vec![]);
    }
    let mut editions = vec![given.keys().cloned().collect()];
    let added = context.run.param_names_of_editions();
    editions.extend(added.into_iter().map(|added| given.keys().cloned().chain(added).collect()));
    let with_names = |names: &BTreeSet<String>| {
        let kept = all.iter().filter(|(name, _)| names.contains(*name));
        let kept = Value::Object(kept.map(|(name, value)| (name.clone(), value.clone())).collect());
        let put = |value: &Value| if *value == params { kept.clone() } else { value.clone() };
        captured.iter().map(put).collect()
    };
    Ok(editions.iter().rev().map(with_names).collect())
}

/// Returns what is compared of a clean-up: its text, the values that it captures, and the texts of what it calls.
fn describe_clean_up(cx: &NativeContext<'_>, scope: &CallScope, captured: Option<&Vec<Value>>) -> Value {
    let text = read_text_of_native_call(cx, scope).unwrap_or_default();
    let own = captured.filter(|_| has_own_closure(&text)).and_then(|captured| {
        let sources = scope.run_context().sources.get()?;
        let reached =
            list_texts_clean_up_depends_on(sources, cx.call_source()?, &text, &json!(captured).to_string())?;
        Some(json!([text, captured, reached]))
    });
    // Nobody can tell what a closure from elsewhere does, or one that makes up a name: it may be any text of the runbook.
    let compared = own.unwrap_or_else(|| json!([text, list_source_texts(scope)]));
    let digest = Sha256::digest(compared.to_string());
    json!({ "text": truncate_for_record(&text), "digest": data_encoding::HEXLOWER.encode(&digest[..8]) })
}

/// Returns a clean-up's text as it is recorded.
fn truncate_for_record(text: &str) -> String {
    text.chars().take(TEXT_LIMIT).collect()
}

/// Returns the texts of the clean-up that a script may defer, as they would be recorded.
pub(super) fn list_deferral_texts(source: &str) -> Vec<String> {
    let calls = DEFERRING_NATIVES.into_iter().flat_map(|native| find_call_texts(source, native));
    calls.map(|text| truncate_for_record(&text)).collect()
}

/// Returns whether the text of a deferral holds all that it defers: a closure written there, or a function by its name.
fn has_own_closure(text: &str) -> bool {
    let called = text.split_once('(').filter(|(native, _)| DEFERRING_NATIVES.contains(native));
    let Some((_, argument)) = called else { return false };
    let name = argument.strip_prefix("Fn(\"").and_then(|rest| rest.split_once('"'));
    argument.starts_with('|') || name.is_some_and(|(_, end)| end == "))")
}

/// Returns the texts of the runbook and its modules.
fn list_source_texts(scope: &CallScope) -> BTreeMap<String, String> {
    let sources = scope.run_context().sources.get().into_iter().flatten();
    sources.map(|source| (source.path.clone(), source.text.clone())).collect()
}

/// Returns the text of the native's call in its file; a session has no files.
fn read_text_of_native_call(cx: &NativeContext<'_>, scope: &CallScope) -> Option<String> {
    let sources = scope.run_context().sources.get()?;
    let file = cx.call_source()?;
    let source = sources.iter().find(|source| source.path == file)?;
    read_call_text(&source.text, cx.call_position().line()?, cx.call_position().position()?)
}

/// How clean-up is named that was not done: all that it would have undone may still be there.
const UNDONE: &str = "would have undone";

/// Names a clean-up that was deferred and not done, by what is recorded of it, if anything is.
pub(super) fn name_missed_clean_up(name: &str, args: Option<&Value>) -> String {
    match args.and_then(|args| args["text"].as_str()).filter(|text| !text.is_empty()) {
        Some(text) => format!("what `{text}` {UNDONE} ({name})"),
        None => format!("what {name} {UNDONE}"),
    }
}

/// Names clean-up that a run may have deferred since its last record.
pub(super) fn name_unrecorded_clean_up(text: &str) -> String {
    format!("what `{text}` {UNDONE}, if the run came to it")
}

/// Names all clean-up of a run of which the records do not say what it had deferred.
pub(super) fn name_all_missed_clean_up() -> String {
    format!("what its `defer` and `on_failure` {UNDONE}")
}

/// Returns whether something that is left behind is named by the clean-up that was not done.
pub fn names_missed_clean_up(left: &str) -> bool {
    left.contains(UNDONE)
}
