//! The flow natives: steps, clean-up, retries, waits, notes and metrics.
//!
//! They keep no state of their own: at a resume their closures run again, over recorded calls.

use super::{
    Event,
    branches::{self, to_result_map},
    call::record_native_call,
    fault::{self, codes, normalize_caught},
    gate,
    live::{CallScope, Cleanup, DeferredCleanup, NativeError, deep_copy, format_position, store_context},
    values::{to_dynamic, to_json},
};
use crate::base::{
    moment::{Moment, Span},
    suggest, value,
};
use rhai::{Array, Dynamic, Engine, EvalAltResult, FnPtr, Map, NativeCallContext as Cx};
use serde_json::{Value, json};

pub(super) type RhaiResult<T> = Result<T, Box<EvalAltResult>>;

/// Registers the flow natives with an engine.
pub(super) fn register_natives(engine: &mut Engine) {
    engine
        .register_fn("step", |cx: Cx<'_>, name: &str, f: FnPtr| run_step(&cx, name, &f))
        .register_fn("defer", |cx: Cx<'_>, f: FnPtr| defer_closure(&cx, f, false))
        .register_fn("on_failure", |cx: Cx<'_>, f: FnPtr| defer_closure(&cx, f, true))
        .register_fn("retry", |cx: Cx<'_>, options: Map, f: FnPtr| retry_closure(&cx, &options, &f))
        .register_fn("parallel", |cx: Cx<'_>, list: Array| branches::run_parallel(&cx, list))
        .register_fn("each", |cx: Cx<'_>, list: Array, f: FnPtr| {
            branches::run_each(&cx, list, &Map::new(), &f)
        })
        .register_fn("each", |cx: Cx<'_>, list: Array, options: Map, f: FnPtr| {
            branches::run_each(&cx, list, &options, &f)
        })
        .register_fn("attempt", |cx: Cx<'_>, f: FnPtr| attempt_closure(&cx, &f))
        .register_fn("wait_until", |cx: Cx<'_>, options: Map, f: FnPtr| wait_until(&cx, &options, &f))
        .register_fn("approve", |cx: Cx<'_>, message: &str| gate::run_approval(&cx, message))
        .register_fn("measure", |cx: Cx<'_>, name: &str, f: FnPtr| measure_closure(&cx, name, &f))
        .register_fn("ensure", |cx: Cx<'_>, holds: bool, message: &str| ensure_holds(&cx, holds, message))
        .register_fn("fail", |cx: Cx<'_>, message: &str| {
            raise_at_call::<Dynamic>(&cx, codes::FAILED, message)
        })
        .register_fn("error", |caught: Dynamic| to_dynamic(&normalize_caught(&caught)))
        .register_fn("now", |cx: Cx<'_>| read_now(&cx))
        .register_fn("sleep", |cx: Cx<'_>, span: Dynamic| sleep_for(&cx, &span))
        .register_fn("metric", |cx: Cx<'_>, name: &str, value: Dynamic| record_metric(&cx, name, &value, ""))
        .register_fn("metric", |cx: Cx<'_>, name: &str, value: Dynamic, unit: &str| {
            record_metric(&cx, name, &value, unit)
        })
        .register_fn("note", |cx: Cx<'_>, text: &str| record_note(&cx, text))
        .register_fn("attach", |cx: Cx<'_>, name: &str, value: Dynamic| attach_value(&cx, name, &value))
        .register_fn("target", |cx: Cx<'_>, name: &str| make_target_handle(&cx, name));
}

/// The names of the flow natives, for completion, and for the check that no script function hides one.
pub const NATIVES: &[&str] = &[
    "step",
    "parallel",
    "each",
    "defer",
    "on_failure",
    "retry",
    "attempt",
    "wait_until",
    "approve",
    "measure",
    "ensure",
    "fail",
    "error",
    "now",
    "sleep",
    "metric",
    "note",
    "attach",
    "target",
    "moment",
    "duration",
];

/// Raises an error of the runtime where a native was called.
pub(super) fn raise_at_call<T>(cx: &Cx<'_>, code: &str, message: &str) -> RhaiResult<T> {
    Err(fault::to_rhai_error(&fault::runtime_error(code, message, None, None), cx.call_position()))
}

/// Runs a step. Its body runs at every replay, over recorded calls, so that what it captures is rebuilt.
fn run_step(cx: &Cx<'_>, name: &str, f: &FnPtr) -> RhaiResult<Dynamic> {
    let name = name.replace('/', "∕");
    if name.trim().is_empty() {
        return raise_at_call(cx, codes::SCRIPT, "a step has a name");
    }
    let frame = CallScope::from_native_context(cx)?.enter_child(&name);
    frame.run_context().emit_event(&Event::StepStarted { step: frame.path(), name: &name });
    let done = frame.invoke_closure(cx, f);
    let stopped = frame.is_halted();
    frame.run_context().emit_event(&Event::StepFinished {
        step: frame.path(),
        name: &name,
        ok: done.is_ok() && !stopped,
    });
    done
}

/// Keeps a closure for the end of the run, with the values it captures as they are now: Rhai shares captures, and a
/// loop that defers would clean up its last item every time.
fn defer_closure(cx: &Cx<'_>, mut closure: FnPtr, only_on_failure: bool) -> RhaiResult<()> {
    let frame = CallScope::from_native_context(cx)?;
    let captured: Vec<Dynamic> = closure.iter_curry().map(deep_copy).collect();
    closure.set_curry(captured);
    let due = Cleanup::Closure { closure, made_in: Box::new(store_context(cx)), only_on_failure };
    let name = frame.next_call_name("defer");
    frame.lock_deferred().push(DeferredCleanup { name, due });
    Ok(())
}

/// Retries a closure whose error is retryable, as long as nothing was changed.
fn retry_closure(cx: &Cx<'_>, options: &Map, f: &FnPtr) -> RhaiResult<Dynamic> {
    let options = NativeOptions::from_map(cx, "retry", options, &["attempts", "backoff"])?;
    let (attempts, backoff) =
        (options.read_count_option("attempts", 3)?, options.read_span_option("backoff", Span::from_secs(1))?);
    let frame = CallScope::from_native_context(cx)?.enter_child("retry");
    let mut pause = backoff;
    for attempt in 1.. {
        let tried = frame.enter_child("attempt");
        match tried.invoke_closure(cx, f) {
            Err(e)
                if attempt < attempts
                    && !frame.is_halted()
                    && may_repeat(&tried, &fault::from_rhai_error(&e)) =>
            {
                let message = fault::from_rhai_error(&e)["message"].as_str().unwrap_or_default().to_owned();
                frame.run_context().emit_event(&Event::Retrying {
                    attempt,
                    attempts,
                    message: &message,
                    pause,
                });
                sleep_recorded(&frame, pause, &format_position(cx))
                    .map_err(|halt| halt.into_rhai_error(cx.call_position()))?;
                pause = Span(pause.0.saturating_mul(2));
            }
            done => return done,
        }
    }
    Ok(Dynamic::UNIT)
}

/// Returns whether a retry repeats no effect: neither the failed call nor one before it changed anything.
fn may_repeat(tried: &CallScope, fault: &Value) -> bool {
    fault["retryable"] == json!(true)
        && fault["side_effects"] == json!("none")
        && !tried.run_context().has_effect_below(tried.path())
}

/// Returns `#{ok, value, error}`; what must stop the run still does.
fn attempt_closure(cx: &Cx<'_>, f: &FnPtr) -> RhaiResult<Dynamic> {
    let frame = CallScope::from_native_context(cx)?;
    let called = frame.invoke_closure(cx, f);
    if frame.is_halted() {
        return Err(NativeError::Stopped.into_rhai_error(cx.call_position()));
    }
    Ok(to_result_map(called))
}

/// Calls a closure until it returns neither `false` nor `()`. The time is read before each call, so that
/// the last call is after the deadline: what came true while no process ran is seen.
fn wait_until(cx: &Cx<'_>, options: &Map, f: &FnPtr) -> RhaiResult<Dynamic> {
    let options = NativeOptions::from_map(cx, "wait_until", options, &["timeout", "every"])?;
    let (timeout, every) = (
        options.read_span_option("timeout", Span::from_secs(600))?,
        options.read_span_option("every", Span::from_secs(5))?,
    );
    let frame = CallScope::from_native_context(cx)?.enter_child("wait_until");
    let at = format_position(cx);
    let stop = |halt: NativeError| halt.into_rhai_error(cx.call_position());
    let deadline = recorded_now(&frame, &at).map_err(stop)?.saturating_add(timeout);
    loop {
        let now = recorded_now(&frame, &at).map_err(stop)?;
        let last = now >= deadline;
        let answer = frame.enter_child("ask").invoke_closure(cx, f)?;
        if !answer.is_unit() && answer.as_bool() != Ok(false) {
            return Ok(answer);
        }
        if last {
            return raise_at_call(
                cx,
                codes::TIMEOUT,
                &format!("what was waited for did not come within {timeout}"),
            );
        }
        frame.run_context().emit_event(&Event::Waiting { step: frame.path(), until: deadline, every });
        sleep_recorded(&frame, every.max(MIN_POLL_INTERVAL).min(deadline.duration_since(now)), &at)
            .map_err(stop)?;
    }
}

/// The shortest pause between two questions of `wait_until`: each is written down.
const MIN_POLL_INTERVAL: Span = Span::from_millis(10);

fn measure_closure(cx: &Cx<'_>, name: &str, f: &FnPtr) -> RhaiResult<Dynamic> {
    let frame = CallScope::from_native_context(cx)?;
    let stop = |halt: NativeError| halt.into_rhai_error(cx.call_position());
    let began = recorded_now(&frame, &format_position(cx)).map_err(stop)?;
    let value = frame.invoke_closure(cx, f)?;
    let took = recorded_now(&frame, &format_position(cx)).map_err(stop)?.duration_since(began);
    record_metric(cx, name, &took.as_secs_f64().into(), "s")?;
    Ok(value)
}

fn ensure_holds(cx: &Cx<'_>, holds: bool, message: &str) -> RhaiResult<()> {
    if holds { Ok(()) } else { raise_at_call(cx, codes::ENSURE, message) }
}

fn read_now(cx: &Cx<'_>) -> RhaiResult<Moment> {
    recorded_now(&CallScope::from_native_context(cx)?, &format_position(cx))
        .map_err(|halt| halt.into_rhai_error(cx.call_position()))
}

/// Returns the time as the run sees it: read once, recorded, the same at every replay.
fn recorded_now(frame: &CallScope, at: &str) -> Result<Moment, NativeError> {
    let clock = frame.run_context().fleet.clock();
    let recorded = record_native_call(frame, "now", &Value::Null, at, || json!(clock.now()))?;
    Ok(serde_json::from_value(recorded).unwrap_or_else(|_| clock.now()))
}

fn sleep_for(cx: &Cx<'_>, span: &Dynamic) -> RhaiResult<()> {
    let span = read_span(cx, "sleep", span)?;
    let frame = CallScope::from_native_context(cx)?;
    let live = frame.run_context();
    let says = |until: Moment| {
        // A sleep that ends before anybody has read the line is not worth one.
        if until.duration_since(live.fleet.clock().now()) >= Span::from_secs(1) {
            live.emit_event(&Event::Sleeping { until });
        }
    };
    sleep_announced(&frame, span, &format_position(cx), says)
        .map_err(|halt| halt.into_rhai_error(cx.call_position()))
}

/// Sleeps until a recorded moment, so that a sleep which was half over at a crash sleeps the rest.
fn sleep_recorded(frame: &CallScope, span: Span, at: &str) -> Result<(), NativeError> {
    sleep_announced(frame, span, at, |_| {})
}

/// Sleeps until a recorded moment, and announces it once it is on disk.
fn sleep_announced(
    frame: &CallScope,
    span: Span,
    at: &str,
    says: impl FnOnce(Moment),
) -> Result<(), NativeError> {
    let live = frame.run_context();
    let until = record_native_call(frame, "sleep", &json!(span), at, || {
        json!(live.fleet.clock().now().saturating_add(span))
    })?;
    let until: Moment = serde_json::from_value(until).unwrap_or_else(|_| live.fleet.clock().now());
    let left = until.duration_since(live.fleet.clock().now());
    if left > Span::ZERO {
        if live.is_settling() {
            return Err(frame.abandon_fork());
        }
        live.stop_on_journal_error(live.run.flush())?;
        says(until);
        live.wait_or_stop(live.fleet.clock().sleep(left))?;
    }
    Ok(())
}

fn record_metric(cx: &Cx<'_>, name: &str, value: &Dynamic, unit: &str) -> RhaiResult<()> {
    let (shown, unit) = match value.clone().try_cast::<Span>() {
        Some(span) => (json!(span.as_secs_f64()), if unit.is_empty() { "s" } else { unit }),
        None => (to_recordable_json(cx, value)?, unit),
    };
    record_and_emit(
        cx,
        "metric",
        &json!({"name": name, "value": shown, "unit": unit}),
        &Event::Metric { name, value: &shown, unit },
    )
}

fn record_note(cx: &Cx<'_>, text: &str) -> RhaiResult<()> {
    record_and_emit(cx, "note", &json!({ "text": text }), &Event::Note { text })
}

fn attach_value(cx: &Cx<'_>, name: &str, value: &Dynamic) -> RhaiResult<()> {
    let value = to_recordable_json(cx, value)?;
    record_and_emit(
        cx,
        "attach",
        &json!({"name": name, "value": value}),
        &Event::Attached { name, value: &value },
    )
}

/// Records an event, and emits it when it is new and on disk: nothing is heard of a run that
/// the run itself could forget.
fn record_and_emit(cx: &Cx<'_>, native: &str, args: &Value, event: &Event<'_>) -> RhaiResult<()> {
    let frame = CallScope::from_native_context(cx)?;
    let live = frame.run_context();
    let mut is_new = false;
    let said = record_native_call(&frame, native, args, &format_position(cx), || {
        is_new = true;
        Value::Null
    });
    said.and_then(|_| if is_new { live.stop_on_journal_error(live.run.flush()) } else { Ok(()) })
        .map_err(|halt| halt.into_rhai_error(cx.call_position()))?;
    if is_new {
        live.emit_event(event);
    }
    Ok(())
}

fn make_target_handle(cx: &Cx<'_>, name: &str) -> RhaiResult<Dynamic> {
    let frame = CallScope::from_native_context(cx)?;
    match frame.run_context().fleet.target_config(name) {
        Ok(_) => Ok(to_dynamic(&value::tag_value(value::TARGET_TAG, name))),
        Err(e) => Err(fault::to_rhai_error(
            &fault::from_operation_error(&e, "target", Some(name)),
            cx.call_position(),
        )),
    }
}

fn to_recordable_json(cx: &Cx<'_>, value: &Dynamic) -> RhaiResult<Value> {
    to_json(value).or_else(|why| raise_at_call(cx, codes::SCRIPT, &why))
}

fn read_span(cx: &Cx<'_>, what: &str, given: &Dynamic) -> RhaiResult<Span> {
    let parsed = match (given.clone().try_cast::<Span>(), given.as_immutable_string_ref()) {
        (Some(span), _) => Ok(span),
        (None, Ok(text)) => Span::parse(&text).map_err(|e| format!("`{what}`: {e}; {}", e.hint())),
        (None, Err(found)) => Err(format!("`{what}` is a duration such as \"5s\", found {found}")),
    };
    parsed.or_else(|why| raise_at_call(cx, codes::SCRIPT, &why))
}

/// The options map of a flow native, checked as strictly as an operation's.
pub(super) struct NativeOptions<'a> {
    cx: &'a Cx<'a>,
    native: &'static str,
    given: &'a Map,
}

impl<'a> NativeOptions<'a> {
    /// Checks the options of a native, which takes those in `known` and no others.
    pub(super) fn from_map(
        cx: &'a Cx<'a>,
        native: &'static str,
        given: &'a Map,
        known: &'static [&'static str],
    ) -> RhaiResult<Self> {
        match given.keys().find(|key| !known.contains(&key.as_str())) {
            Some(unknown) => {
                let hint = suggest::suggest_name(unknown, known.iter().copied());
                let fault = fault::runtime_error(
                    codes::SCRIPT,
                    &format!("`{native}` has no option `{unknown}`"),
                    Some(&hint),
                    None,
                );
                Err(fault::to_rhai_error(&fault, cx.call_position()))
            }
            None => Ok(Self { cx, native, given }),
        }
    }

    fn read_span_option(&self, name: &str, preset: Span) -> RhaiResult<Span> {
        self.given
            .get(name)
            .map_or(Ok(preset), |given| read_span(self.cx, &format!("{name}` of `{}", self.native), given))
    }

    /// Returns one of a few words, of which the first is the preset.
    pub(super) fn read_word_option(&self, name: &str, words: &[&'static str]) -> RhaiResult<&'static str> {
        let Some(given) = self.given.get(name) else { return Ok(words[0]) };
        let text = given.to_string();
        if let Some(word) = words.iter().find(|word| **word == text) {
            return Ok(word);
        }
        let known = words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(" or ");
        let message = format!("`{name}` of `{}` is {known}, found {text}", self.native);
        raise_at_call(self.cx, codes::SCRIPT, &message)
    }

    /// Returns a number from 1.
    pub(super) fn read_count_option(&self, name: &str, preset: u32) -> RhaiResult<u32> {
        let Some(given) = self.given.get(name) else { return Ok(preset) };
        match given.as_int().ok().and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0) {
            Some(count) => Ok(count),
            None => raise_at_call(
                self.cx,
                codes::SCRIPT,
                &format!("`{name}` of `{}` is a number from 1, found {given}", self.native),
            ),
        }
    }
}
