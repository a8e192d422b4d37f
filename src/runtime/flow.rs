//! The flow natives: steps, clean-up, retries, waits, notes and metrics.
//!
//! They keep no state of their own: at a resume their closures run again, over recorded calls.

use super::{
    approval, deferred_cleanup,
    edit_barrier::Frontier,
    events::Event,
    fan_out::{self, to_result_map},
    frontier::wait_at_frontier,
    native_call::{replay_or_record_native, replay_or_record_typed_as},
    native_options::{NativeOptions, read_span},
    run_context::{Cleanup, DeferredCleanup},
    scope::{CallScope, format_position, store_context},
    script_error::{
        self, RhaiResult, codes, from_rhai_error, normalize_caught, raise_at_call, to_rhai_error,
    },
    stop::NativeError,
    value_methods,
    values::{copy_captures, to_dynamic, to_json},
};
use crate::{
    base::{
        moment::{Moment, Span},
        value,
    },
    journal::{APPROVE, ScriptError, SideEffects},
};
use rhai::{Array, Dynamic, Engine, FnPtr, Map, NativeCallContext as NativeContext};
use serde_json::{Value, json};

/// A function that redrill adds to the language.
pub struct Native {
    /// The name by which scripts call it.
    pub name: &'static str,
    /// Whether it works only inside a run: the others compute, or raise an error.
    pub(super) needs_run: bool,
    /// Registers it, in every form that it takes, under its name.
    register: fn(&mut Engine, &'static str),
}

impl Native {
    const fn in_run(name: &'static str, register: fn(&mut Engine, &'static str)) -> Self {
        Self { name, needs_run: true, register }
    }

    const fn anywhere(name: &'static str, register: fn(&mut Engine, &'static str)) -> Self {
        Self { name, needs_run: false, register }
    }
}

/// Registers the natives with an engine.
pub(super) fn register_natives(engine: &mut Engine) {
    for native in NATIVES {
        (native.register)(engine, native.name);
    }
}

/// The natives, in the order in which they are listed for people.
pub static NATIVES: &[Native] = &[
    Native::in_run("step", |engine, name| {
        engine.register_fn(name, |cx: NativeContext<'_>, name: &str, f: FnPtr| run_step(&cx, name, &f));
    }),
    Native::in_run("parallel", |engine, name| {
        engine.register_fn(name, |cx: NativeContext<'_>, list: Array| fan_out::run_parallel(&cx, list));
    }),
    Native::in_run("each", |engine, name| {
        engine
            .register_fn(name, |cx: NativeContext<'_>, list: Array, f: FnPtr| {
                fan_out::run_each(&cx, list, &Map::new(), &f)
            })
            .register_fn(name, |cx: NativeContext<'_>, list: Array, options: Map, f: FnPtr| {
                fan_out::run_each(&cx, list, &options, &f)
            });
    }),
    Native::in_run("defer", |engine, name| {
        engine.register_fn(name, |cx: NativeContext<'_>, f: FnPtr| defer_closure(&cx, f, false));
    }),
    Native::in_run("on_failure", |engine, name| {
        engine.register_fn(name, |cx: NativeContext<'_>, f: FnPtr| defer_closure(&cx, f, true));
    }),
    Native::in_run("retry", |engine, name| {
        engine.register_fn(name, |cx: NativeContext<'_>, options: Map, f: FnPtr| {
            retry_closure(&cx, &options, &f)
        });
    }),
    Native::in_run("attempt", |engine, name| {
        engine.register_fn(name, |cx: NativeContext<'_>, f: FnPtr| attempt_closure(&cx, &f));
    }),
    Native::in_run("wait_until", |engine, name| {
        engine
            .register_fn(name, |cx: NativeContext<'_>, options: Map, f: FnPtr| wait_until(&cx, &options, &f));
    }),
    Native::in_run(APPROVE, |engine, name| {
        engine.register_fn(name, |cx: NativeContext<'_>, message: &str| {
            approval::wait_for_approval(&cx, message)
        });
    }),
    Native::in_run("measure", |engine, name| {
        engine
            .register_fn(name, |cx: NativeContext<'_>, name: &str, f: FnPtr| measure_closure(&cx, name, &f));
    }),
    Native::anywhere("ensure", |engine, name| {
        engine.register_fn(name, |cx: NativeContext<'_>, holds: bool, message: &str| {
            fail_unless(&cx, holds, message)
        });
    }),
    Native::anywhere("fail", |engine, name| {
        engine.register_fn(name, |cx: NativeContext<'_>, message: &str| {
            raise_at_call::<Dynamic>(&cx, codes::FAILED, message)
        });
    }),
    Native::anywhere("error", |engine, name| {
        engine.register_fn(name, |caught: Dynamic| to_dynamic(&normalize_caught(&caught).to_json()));
    }),
    Native::in_run("now", |engine, name| {
        engine.register_fn(name, |cx: NativeContext<'_>| replay_or_read_now(&cx));
    }),
    Native::in_run("sleep", |engine, name| {
        engine.register_fn(name, |cx: NativeContext<'_>, span: Dynamic| sleep_for(&cx, &span));
    }),
    Native::in_run("metric", |engine, name| {
        engine
            .register_fn(name, |cx: NativeContext<'_>, name: &str, value: Dynamic| {
                record_metric(&cx, name, &value, "")
            })
            .register_fn(name, |cx: NativeContext<'_>, name: &str, value: Dynamic, unit: &str| {
                record_metric(&cx, name, &value, unit)
            });
    }),
    Native::in_run("note", |engine, name| {
        engine.register_fn(name, |cx: NativeContext<'_>, text: &str| record_note(&cx, text));
    }),
    Native::in_run("attach", |engine, name| {
        engine.register_fn(name, |cx: NativeContext<'_>, name: &str, value: Dynamic| {
            attach_value(&cx, name, &value)
        });
    }),
    Native::in_run("target", |engine, name| {
        engine.register_fn(name, |cx: NativeContext<'_>, name: &str| make_target_handle(&cx, name));
    }),
    Native::anywhere("moment", |engine, name| {
        engine.register_fn(name, value_methods::parse_moment);
    }),
    Native::anywhere("duration", |engine, name| {
        engine.register_fn(name, value_methods::parse_span);
    }),
];

/// Runs a step. Its body runs at every replay, over recorded calls, so that what it captures is rebuilt.
fn run_step(cx: &NativeContext<'_>, name: &str, f: &FnPtr) -> RhaiResult<Dynamic> {
    let name = name.replace('/', "∕");
    if name.trim().is_empty() {
        return raise_at_call(cx, codes::SCRIPT, "a step has a name");
    }
    let scope = CallScope::from_native_context(cx)?.scope_of_next_step(&name);
    scope.run_context().emit_event(&Event::StepStarted { step: scope.path(), name: &name });
    let done = scope.invoke_closure(cx, f);
    let stopped = scope.is_halted();
    scope.run_context().emit_event(&Event::StepFinished {
        step: scope.path(),
        name: &name,
        ok: done.is_ok() && !stopped,
        stopped,
    });
    done
}

/// Keeps a closure for the end of the run, with the values it captures as they are now: Rhai shares captures, and a
/// loop that defers would clean up its last item every time.
fn defer_closure(cx: &NativeContext<'_>, closure: FnPtr, only_on_failure: bool) -> RhaiResult<()> {
    let scope = CallScope::from_native_context(cx)?;
    let closure = copy_captures(closure);
    let name = deferred_cleanup::record_deferral(cx, &scope, &closure)
        .map_err(|halt| halt.into_rhai_error(cx.call_position()))?;
    let context = scope.run_context();
    // A run that is given up does not do what only an edit would have done, which nobody has let happen.
    if context.is_settling() && context.edits.is_some() && !context.run.is_recorded(&name) {
        return Ok(());
    }
    let due = Cleanup::Closure { closure, made_in: Box::new(store_context(cx)), only_on_failure };
    scope.lock_deferred().push(DeferredCleanup { name, due });
    Ok(())
}

/// Retries a closure whose error is retryable, as long as nothing was changed.
fn retry_closure(cx: &NativeContext<'_>, options: &Map, f: &FnPtr) -> RhaiResult<Dynamic> {
    let options = NativeOptions::from_map(cx, "retry", options, &["attempts", "backoff"])?;
    let (attempts, backoff) =
        (options.read_count_option("attempts", 3)?, options.read_span_option("backoff", Span::from_secs(1))?);
    let scope = CallScope::from_native_context(cx)?.scope_of_next_step("retry");
    let mut pause = backoff;
    for attempt in 1.. {
        let tried = scope.scope_of_next_step("attempt");
        match tried.invoke_closure(cx, f) {
            Err(e)
                if attempt < attempts && !scope.is_halted() && may_repeat(&tried, &from_rhai_error(&e)) =>
            {
                let message = from_rhai_error(&e).message;
                scope.run_context().emit_event(&Event::Retrying {
                    attempt,
                    attempts,
                    message: &message,
                    pause,
                });
                sleep_recorded(&scope, pause, &format_position(cx))
                    .map_err(|halt| halt.into_rhai_error(cx.call_position()))?;
                pause = Span(pause.0.saturating_mul(2));
            }
            done => return done,
        }
    }
    Ok(Dynamic::UNIT)
}

/// Returns whether a retry repeats no effect: neither the failed call nor one before it changed anything.
fn may_repeat(tried: &CallScope, fault: &ScriptError) -> bool {
    fault.retryable
        && fault.side_effects == SideEffects::None
        && !tried.run_context().has_effect_below(tried.path())
}

/// Returns `#{ok, value, error}`; what must stop the run still does.
fn attempt_closure(cx: &NativeContext<'_>, f: &FnPtr) -> RhaiResult<Dynamic> {
    let scope = CallScope::from_native_context(cx)?;
    let called = scope.invoke_closure(cx, f);
    if scope.is_halted() {
        return Err(NativeError::Stopped.into_rhai_error(cx.call_position()));
    }
    Ok(to_result_map(called))
}

/// Calls a closure until it returns neither `false` nor `()`. The time is read before each call, so that
/// the last call is after the deadline: what came true while no process ran is seen.
fn wait_until(cx: &NativeContext<'_>, options: &Map, f: &FnPtr) -> RhaiResult<Dynamic> {
    let options = NativeOptions::from_map(cx, "wait_until", options, &["timeout", "every"])?;
    let (timeout, every) = (
        options.read_span_option("timeout", Span::from_secs(600))?,
        options.read_span_option("every", Span::from_secs(5))?,
    );
    let scope = CallScope::from_native_context(cx)?.scope_of_next_step("wait_until");
    let at = format_position(cx);
    let stop = |halt: NativeError| halt.into_rhai_error(cx.call_position());
    let deadline = replay_or_record_now(&scope, &at).map_err(stop)?.saturating_add(timeout);
    for polls in 0.. {
        let now = replay_or_record_now(&scope, &at).map_err(stop)?;
        let last = now >= deadline;
        let answer = scope.scope_of_next_step("ask").invoke_closure(cx, f)?;
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
        let clock = &scope.run_context().clock;
        let waiting = Event::Waiting { step: scope.path(), until: deadline, every, clock: clock.world() };
        scope.run_context().emit_event(&waiting);
        let pause = clock.poll_pause(every.max(MIN_POLL_INTERVAL), polls);
        sleep_recorded(&scope, pause.min(deadline.duration_since(now)), &at).map_err(stop)?;
    }
    Ok(Dynamic::UNIT)
}

/// The shortest pause between two questions of `wait_until`: each is written down.
const MIN_POLL_INTERVAL: Span = Span::from_millis(10);

fn measure_closure(cx: &NativeContext<'_>, name: &str, f: &FnPtr) -> RhaiResult<Dynamic> {
    let scope = CallScope::from_native_context(cx)?;
    let stop = |halt: NativeError| halt.into_rhai_error(cx.call_position());
    let began = replay_or_record_now(&scope, &format_position(cx)).map_err(stop)?;
    let value = scope.invoke_closure(cx, f)?;
    let took = replay_or_record_now(&scope, &format_position(cx)).map_err(stop)?.duration_since(began);
    record_metric(cx, name, &took.as_secs_f64().into(), "s")?;
    Ok(value)
}

fn fail_unless(cx: &NativeContext<'_>, holds: bool, message: &str) -> RhaiResult<()> {
    if holds { Ok(()) } else { raise_at_call(cx, codes::ENSURE, message) }
}

fn replay_or_read_now(cx: &NativeContext<'_>) -> RhaiResult<Moment> {
    replay_or_record_now(&CallScope::from_native_context(cx)?, &format_position(cx))
        .map_err(|halt| halt.into_rhai_error(cx.call_position()))
}

/// Returns the time as the run sees it: read once, recorded, the same at every replay.
fn replay_or_record_now(scope: &CallScope, at: &str) -> Result<Moment, NativeError> {
    let clock = &scope.run_context().clock;
    let name = scope.claim_read_name("now", &Value::Null);
    let at = replay_or_record_typed_as(scope, &name, "now", &Value::Null, at, || clock.now())?;
    clock.note_recorded_time(at);
    Ok(at)
}

fn sleep_for(cx: &NativeContext<'_>, span: &Dynamic) -> RhaiResult<()> {
    let span = read_span(cx, "sleep", span)?;
    let scope = CallScope::from_native_context(cx)?;
    let context = scope.run_context();
    let says = |until: Moment| {
        // A sleep that ends before anybody has read the line is not worth one.
        if until.duration_since(context.clock.now()) >= Span::from_secs(1) {
            context.emit_event(&Event::Sleeping { until, clock: context.clock.world() });
        }
    };
    sleep_announced(&scope, span, &format_position(cx), says)
        .map_err(|halt| halt.into_rhai_error(cx.call_position()))
}

/// Sleeps until a recorded moment, so that a sleep which was half over at a crash sleeps the rest.
fn sleep_recorded(scope: &CallScope, span: Span, at: &str) -> Result<(), NativeError> {
    sleep_announced(scope, span, at, |_| {})
}

/// Sleeps until a recorded moment, and announces it once it is on disk. A recorded sleep that the run has passed is over,
/// whatever the clock shows since.
fn sleep_announced(
    scope: &CallScope,
    span: Span,
    at: &str,
    says: impl FnOnce(Moment),
) -> Result<(), NativeError> {
    let context = scope.run_context();
    let args = json!(span);
    let name = scope.claim_read_name("sleep", &args);
    let frontier =
        || Frontier { call: name.clone(), op: "sleep".to_owned(), args: args.clone(), at: at.to_owned() };
    let is_new = !context.run.is_recorded(&name);
    if is_new && span > Span::ZERO && !context.is_settling() {
        wait_at_frontier(context, frontier)?;
    }
    let until = replay_or_record_typed_as(scope, &name, "sleep", &args, at, || {
        context.clock.now().saturating_add(span)
    })?;
    // A clock that was set back makes no sleep longer than it was asked to be.
    let left = until.duration_since(context.clock.now()).min(span);
    if left > Span::ZERO && (is_new || !scope.has_passed(&name)) {
        if context.is_settling() {
            return Err(scope.abandon_fork());
        }
        wait_at_frontier(context, frontier)?;
        context.stop_on_journal_error(context.run.sync_records())?;
        says(until);
        context.wait_until_ready_or_stopped(context.clock.sleep(left))?;
    }
    if span > Span::ZERO {
        scope.note_call_passed(&name);
    }
    Ok(())
}

fn record_metric(cx: &NativeContext<'_>, name: &str, value: &Dynamic, unit: &str) -> RhaiResult<()> {
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

fn record_note(cx: &NativeContext<'_>, text: &str) -> RhaiResult<()> {
    record_and_emit(cx, "note", &json!({ "text": text }), &Event::Note { text })
}

fn attach_value(cx: &NativeContext<'_>, name: &str, value: &Dynamic) -> RhaiResult<()> {
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
fn record_and_emit(cx: &NativeContext<'_>, native: &str, args: &Value, event: &Event<'_>) -> RhaiResult<()> {
    let scope = CallScope::from_native_context(cx)?;
    let context = scope.run_context();
    let mut is_new = false;
    let said = replay_or_record_native(&scope, native, args, &format_position(cx), || {
        is_new = true;
        Value::Null
    });
    said.and_then(|_| {
        if is_new { context.stop_on_journal_error(context.run.write_records_unsynced()) } else { Ok(()) }
    })
    .map_err(|halt| halt.into_rhai_error(cx.call_position()))?;
    if is_new {
        context.emit_event(event);
    }
    Ok(())
}

fn make_target_handle(cx: &NativeContext<'_>, name: &str) -> RhaiResult<Dynamic> {
    let scope = CallScope::from_native_context(cx)?;
    match scope.run_context().fleet.target_config(name) {
        Ok(_) => Ok(to_dynamic(&value::tag_value(value::TARGET_TAG, name))),
        Err(e) => Err(to_rhai_error(
            &script_error::from_operation_error(&e, "target", Some(name)),
            cx.call_position(),
        )),
    }
}

fn to_recordable_json(cx: &NativeContext<'_>, value: &Dynamic) -> RhaiResult<Value> {
    to_json(value).or_else(|why| raise_at_call(cx, codes::SCRIPT, &why))
}
