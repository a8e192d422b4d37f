//! The flow natives: steps, clean-up, trying again, waiting, and what a run tells.
//!
//! None of them keeps anything beyond what calls record: at resume their closures run again, over recorded calls.

use super::{
    Event,
    branches::{self, as_result},
    call::note_down,
    fault::{self, codes, normalise},
    gate,
    live::{Deferred, Due, Frame, Halt, keep, position, snapshot},
    values::{to_dynamic, to_value},
};
use crate::base::{
    moment::{Moment, Span},
    suggest, value,
};
use rhai::{Array, Dynamic, Engine, EvalAltResult, FnPtr, Map, NativeCallContext as Cx};
use serde_json::{Value, json};

pub(super) type Fallible<T> = Result<T, Box<EvalAltResult>>;

/// Teaches an engine the flow natives.
pub(super) fn register(engine: &mut Engine) {
    engine
        .register_fn("step", |cx: Cx<'_>, name: &str, f: FnPtr| step(&cx, name, &f))
        .register_fn("defer", |cx: Cx<'_>, f: FnPtr| defer(&cx, f, false))
        .register_fn("on_failure", |cx: Cx<'_>, f: FnPtr| defer(&cx, f, true))
        .register_fn("retry", |cx: Cx<'_>, options: Map, f: FnPtr| retry(&cx, &options, &f))
        .register_fn("parallel", |cx: Cx<'_>, list: Array| branches::parallel(&cx, list))
        .register_fn("each", |cx: Cx<'_>, list: Array, f: FnPtr| branches::each(&cx, list, &Map::new(), &f))
        .register_fn("each", |cx: Cx<'_>, list: Array, options: Map, f: FnPtr| {
            branches::each(&cx, list, &options, &f)
        })
        .register_fn("attempt", |cx: Cx<'_>, f: FnPtr| attempt(&cx, &f))
        .register_fn("wait_until", |cx: Cx<'_>, options: Map, f: FnPtr| wait_until(&cx, &options, &f))
        .register_fn("approve", |cx: Cx<'_>, message: &str| gate::approve(&cx, message))
        .register_fn("measure", |cx: Cx<'_>, name: &str, f: FnPtr| measure(&cx, name, &f))
        .register_fn("ensure", |cx: Cx<'_>, holds: bool, message: &str| ensure(&cx, holds, message))
        .register_fn("fail", |cx: Cx<'_>, message: &str| raise::<Dynamic>(&cx, codes::FAILED, message))
        .register_fn("error", |caught: Dynamic| to_dynamic(&normalise(&caught)))
        .register_fn("now", |cx: Cx<'_>| now(&cx))
        .register_fn("sleep", |cx: Cx<'_>, span: Dynamic| sleep(&cx, &span))
        .register_fn("metric", |cx: Cx<'_>, name: &str, value: Dynamic| metric(&cx, name, &value, ""))
        .register_fn("metric", |cx: Cx<'_>, name: &str, value: Dynamic, unit: &str| {
            metric(&cx, name, &value, unit)
        })
        .register_fn("note", |cx: Cx<'_>, text: &str| note(&cx, text))
        .register_fn("attach", |cx: Cx<'_>, name: &str, value: Dynamic| attach(&cx, name, &value))
        .register_fn("target", |cx: Cx<'_>, name: &str| target(&cx, name));
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
pub(super) fn raise<T>(cx: &Cx<'_>, code: &str, message: &str) -> Fallible<T> {
    Err(fault::raise(&fault::of_runtime(code, message, None, None), cx.call_position()))
}

/// A scope, not a memory: the body runs at every replay, over recorded calls, so that what it captures is rebuilt.
fn step(cx: &Cx<'_>, name: &str, f: &FnPtr) -> Fallible<Dynamic> {
    let name = name.replace('/', "∕");
    if name.trim().is_empty() {
        return raise(cx, codes::SCRIPT, "a step has a name");
    }
    let frame = Frame::of(cx)?.child(&name);
    frame.live().tell(&Event::StepStarted { step: frame.path(), name: &name });
    let done = frame.call(cx, f);
    let stopped = frame.is_halted();
    frame.live().tell(&Event::StepFinished { step: frame.path(), name: &name, ok: done.is_ok() && !stopped });
    done
}

/// Keeps a closure for the end of the run, with the values it captures as they are now: Rhai shares captures, and a
/// loop that defers would clean up its last item every time.
fn defer(cx: &Cx<'_>, mut closure: FnPtr, only_on_failure: bool) -> Fallible<()> {
    let frame = Frame::of(cx)?;
    let captured: Vec<Dynamic> = closure.iter_curry().map(snapshot).collect();
    closure.set_curry(captured);
    let due = Due::Closure { closure, made_in: Box::new(keep(cx)), only_on_failure };
    let name = frame.next("defer");
    frame.deferred().push(Deferred { name, due });
    Ok(())
}

/// Repeats only what says that it may be repeated and that nothing changed.
fn retry(cx: &Cx<'_>, options: &Map, f: &FnPtr) -> Fallible<Dynamic> {
    let options = Options::read(cx, "retry", options, &["attempts", "backoff"])?;
    let (attempts, backoff) = (options.count("attempts", 3)?, options.span("backoff", Span::seconds(1))?);
    let frame = Frame::of(cx)?.child("retry");
    let mut pause = backoff;
    for attempt in 1.. {
        let tried = frame.child("attempt");
        match tried.call(cx, f) {
            Err(e)
                if attempt < attempts && !frame.is_halted() && may_repeat(&tried, &fault::of_error(&e)) =>
            {
                let message = fault::of_error(&e)["message"].as_str().unwrap_or_default().to_owned();
                frame.live().tell(&Event::Retrying { attempt, attempts, message: &message, pause });
                wait(&frame, pause, &position(cx)).map_err(|halt| halt.at(cx.call_position()))?;
                pause = Span(pause.0.saturating_mul(2));
            }
            done => return done,
        }
    }
    Ok(Dynamic::UNIT)
}

/// Returns whether doing it again repeats nothing: neither the call that failed nor one before it has changed anything.
fn may_repeat(tried: &Frame, fault: &Value) -> bool {
    fault["retryable"] == json!(true)
        && fault["side_effects"] == json!("none")
        && !tried.live().has_effect_below(tried.path())
}

/// Returns `#{ok, value, error}`; what must stop the run still does.
fn attempt(cx: &Cx<'_>, f: &FnPtr) -> Fallible<Dynamic> {
    let frame = Frame::of(cx)?;
    let called = frame.call(cx, f);
    if frame.is_halted() {
        return Err(Halt::Stop.at(cx.call_position()));
    }
    Ok(as_result(called))
}

/// Asks again until the answer is neither `false` nor nothing. The time is looked at before each question, so that
/// the last question is asked after the deadline: what came true while nobody ran is seen.
fn wait_until(cx: &Cx<'_>, options: &Map, f: &FnPtr) -> Fallible<Dynamic> {
    let options = Options::read(cx, "wait_until", options, &["timeout", "every"])?;
    let (timeout, every) =
        (options.span("timeout", Span::seconds(600))?, options.span("every", Span::seconds(5))?);
    let frame = Frame::of(cx)?.child("wait_until");
    let at = position(cx);
    let stop = |halt: Halt| halt.at(cx.call_position());
    let deadline = moment_in(&frame, &at).map_err(stop)?.plus(timeout);
    loop {
        let now = moment_in(&frame, &at).map_err(stop)?;
        let last = now >= deadline;
        let answer = frame.child("ask").call(cx, f)?;
        if !answer.is_unit() && answer.as_bool() != Ok(false) {
            return Ok(answer);
        }
        if last {
            return raise(cx, codes::TIMEOUT, &format!("what was waited for did not come within {timeout}"));
        }
        frame.live().tell(&Event::Waiting { step: frame.path(), until: deadline, every });
        wait(&frame, every.max(EVERY_MIN).min(deadline.since(now)), &at).map_err(stop)?;
    }
}

/// The shortest pause between two questions of `wait_until`: each is written down.
const EVERY_MIN: Span = Span::millis(10);

fn measure(cx: &Cx<'_>, name: &str, f: &FnPtr) -> Fallible<Dynamic> {
    let frame = Frame::of(cx)?;
    let stop = |halt: Halt| halt.at(cx.call_position());
    let began = moment_in(&frame, &position(cx)).map_err(stop)?;
    let value = frame.call(cx, f)?;
    let took = moment_in(&frame, &position(cx)).map_err(stop)?.since(began);
    metric(cx, name, &took.as_seconds().into(), "s")?;
    Ok(value)
}

fn ensure(cx: &Cx<'_>, holds: bool, message: &str) -> Fallible<()> {
    if holds { Ok(()) } else { raise(cx, codes::ENSURE, message) }
}

fn now(cx: &Cx<'_>) -> Fallible<Moment> {
    moment_in(&Frame::of(cx)?, &position(cx)).map_err(|halt| halt.at(cx.call_position()))
}

/// Returns the time as the run sees it: read once, recorded, the same at every replay.
fn moment_in(frame: &Frame, at: &str) -> Result<Moment, Halt> {
    let clock = frame.live().fleet.clock();
    let recorded = note_down(frame, "now", &Value::Null, at, || json!(clock.now()))?;
    Ok(serde_json::from_value(recorded).unwrap_or_else(|_| clock.now()))
}

fn sleep(cx: &Cx<'_>, span: &Dynamic) -> Fallible<()> {
    let span = read_span(cx, "sleep", span)?;
    let frame = Frame::of(cx)?;
    let live = frame.live();
    let says = |until: Moment| {
        // What is over before anybody has read it is not worth a line.
        if until.since(live.fleet.clock().now()) >= Span::seconds(1) {
            live.tell(&Event::Sleeping { until });
        }
    };
    wait_saying(&frame, span, &position(cx), says).map_err(|halt| halt.at(cx.call_position()))
}

/// Sleeps until a recorded moment, so that a sleep which was half over at a crash sleeps the rest.
fn wait(frame: &Frame, span: Span, at: &str) -> Result<(), Halt> {
    wait_saying(frame, span, at, |_| {})
}

/// The same, and says until when once that is on disk.
fn wait_saying(frame: &Frame, span: Span, at: &str, says: impl FnOnce(Moment)) -> Result<(), Halt> {
    let live = frame.live();
    let until = note_down(frame, "sleep", &json!(span), at, || json!(live.fleet.clock().now().plus(span)))?;
    let until: Moment = serde_json::from_value(until).unwrap_or_else(|_| live.fleet.clock().now());
    let left = until.since(live.fleet.clock().now());
    if left > Span::ZERO {
        if live.settling() {
            return Err(frame.give_up());
        }
        live.journaled(live.run.flush())?;
        says(until);
        live.wait(live.fleet.clock().sleep(left))?;
    }
    Ok(())
}

fn metric(cx: &Cx<'_>, name: &str, value: &Dynamic, unit: &str) -> Fallible<()> {
    let (shown, unit) = match value.clone().try_cast::<Span>() {
        Some(span) => (json!(span.as_seconds()), if unit.is_empty() { "s" } else { unit }),
        None => (keepable(cx, value)?, unit),
    };
    tell(
        cx,
        "metric",
        &json!({"name": name, "value": shown, "unit": unit}),
        &Event::Metric { name, value: &shown, unit },
    )
}

fn note(cx: &Cx<'_>, text: &str) -> Fallible<()> {
    tell(cx, "note", &json!({ "text": text }), &Event::Note { text })
}

fn attach(cx: &Cx<'_>, name: &str, value: &Dynamic) -> Fallible<()> {
    let value = keepable(cx, value)?;
    tell(cx, "attach", &json!({"name": name, "value": value}), &Event::Attached { name, value: &value })
}

/// Records something that is said, and says it when it is new: once it is on disk, as nothing is heard of a run that
/// the run itself could forget.
fn tell(cx: &Cx<'_>, native: &str, args: &Value, event: &Event<'_>) -> Fallible<()> {
    let frame = Frame::of(cx)?;
    let live = frame.live();
    let mut is_new = false;
    let said = note_down(&frame, native, args, &position(cx), || {
        is_new = true;
        Value::Null
    });
    said.and_then(|_| if is_new { live.journaled(live.run.flush()) } else { Ok(()) })
        .map_err(|halt| halt.at(cx.call_position()))?;
    if is_new {
        live.tell(event);
    }
    Ok(())
}

fn target(cx: &Cx<'_>, name: &str) -> Fallible<Dynamic> {
    let frame = Frame::of(cx)?;
    match frame.live().fleet.settings(name) {
        Ok(_) => Ok(to_dynamic(&value::tagged(value::TARGET, name))),
        Err(e) => Err(fault::raise(&fault::of_operation(&e, "target", Some(name)), cx.call_position())),
    }
}

fn keepable(cx: &Cx<'_>, value: &Dynamic) -> Fallible<Value> {
    to_value(value).or_else(|why| raise(cx, codes::SCRIPT, &why))
}

fn read_span(cx: &Cx<'_>, what: &str, given: &Dynamic) -> Fallible<Span> {
    let parsed = match (given.clone().try_cast::<Span>(), given.as_immutable_string_ref()) {
        (Some(span), _) => Ok(span),
        (None, Ok(text)) => Span::parse(&text).map_err(|e| format!("`{what}`: {e}; {}", e.hint())),
        (None, Err(found)) => Err(format!("`{what}` is a duration such as \"5s\", found {found}")),
    };
    parsed.or_else(|why| raise(cx, codes::SCRIPT, &why))
}

/// The options of a flow native, read as strictly as an operation's.
pub(super) struct Options<'a> {
    cx: &'a Cx<'a>,
    native: &'static str,
    given: &'a Map,
}

impl<'a> Options<'a> {
    /// Takes the options of a native, which has `known` ones and no others.
    pub(super) fn read(
        cx: &'a Cx<'a>,
        native: &'static str,
        given: &'a Map,
        known: &'static [&'static str],
    ) -> Fallible<Self> {
        match given.keys().find(|key| !known.contains(&key.as_str())) {
            Some(unknown) => {
                let hint = suggest::hint(unknown, known.iter().copied());
                let fault = fault::of_runtime(
                    codes::SCRIPT,
                    &format!("`{native}` has no option `{unknown}`"),
                    Some(&hint),
                    None,
                );
                Err(fault::raise(&fault, cx.call_position()))
            }
            None => Ok(Self { cx, native, given }),
        }
    }

    fn span(&self, name: &str, preset: Span) -> Fallible<Span> {
        self.given
            .get(name)
            .map_or(Ok(preset), |given| read_span(self.cx, &format!("{name}` of `{}", self.native), given))
    }

    /// Returns one of a few words, of which the first is the preset.
    pub(super) fn word(&self, name: &str, words: &[&'static str]) -> Fallible<&'static str> {
        let Some(given) = self.given.get(name) else { return Ok(words[0]) };
        let text = given.to_string();
        if let Some(word) = words.iter().find(|word| **word == text) {
            return Ok(word);
        }
        let known = words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(" or ");
        let message = format!("`{name}` of `{}` is {known}, found {text}", self.native);
        raise(self.cx, codes::SCRIPT, &message)
    }

    /// Returns a number from 1.
    pub(super) fn count(&self, name: &str, preset: u32) -> Fallible<u32> {
        let Some(given) = self.given.get(name) else { return Ok(preset) };
        match given.as_int().ok().and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0) {
            Some(count) => Ok(count),
            None => raise(
                self.cx,
                codes::SCRIPT,
                &format!("`{name}` of `{}` is a number from 1, found {given}", self.native),
            ),
        }
    }
}
