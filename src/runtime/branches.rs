//! `parallel` and `each`: several things at once, each on a thread and under a path of its own.
//!
//! Whatever the timing of the threads, a replay comes to the same place:
//! - a branch counts its calls by itself, under `…/parallel#0/2`, and what it defers is kept in the order of branches;
//! - each branch has its own copy of every value that it captures;
//! - when a branch fails, it is written down which branches had begun. Those and no others begin again at a resume,
//!   and the error that is raised is the first in the order of the list, not of time;
//! - what must stop the run stops every branch; a run that is being abandoned settles what each of them had begun.

use super::{
    call::note_down,
    engine::STACK_BYTES,
    fault::{self, codes},
    flow::{Fallible, Options, raise},
    live::{Deferred, Frame, Halt, Origin, gave_up, keep, lock, position, snapshot},
    values::to_dynamic,
};
use crate::journal::{Outcome, Past};
use rhai::{Array, Dynamic, Engine, EvalAltResult, FnPtr, Map, NativeCallContext as Cx};
use serde_json::{Value, json};
use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet},
    panic::{self, AssertUnwindSafe},
    sync::Mutex,
    thread,
};

/// How many branches of `each` go on at once, where the script does not say.
const LIMIT: u32 = 8;
/// How many of `parallel` do; a list of closures is written by hand and seldom longer.
const PARALLEL: usize = 64;

/// Calls every closure of a list at once, and returns what they return, in order.
pub(super) fn parallel(cx: &Cx<'_>, closures: Array) -> Fallible<Array> {
    let mut work = Vec::new();
    for closure in closures {
        let kind = closure.type_name();
        match closure.try_cast::<FnPtr>() {
            Some(closure) => work.push((closure, None)),
            None => {
                return raise(
                    cx,
                    codes::SCRIPT,
                    &format!("`parallel` takes a list of closures, found {kind}"),
                );
            }
        }
    }
    Fan::new(cx, "parallel", work, PARALLEL, false)?.run(cx)
}

/// Calls a closure with every item of a list, some at once, and returns what it returns, in order.
pub(super) fn each(cx: &Cx<'_>, list: Array, options: &Map, closure: &FnPtr) -> Fallible<Array> {
    let options = Options::read(cx, "each", options, &["limit", "on_error"])?;
    let limit = usize::try_from(options.count("limit", LIMIT)?).unwrap_or(usize::MAX);
    let collect = options.word("on_error", &["fail", "collect"])? == "collect";
    let work = list.into_iter().map(|item| (closure.clone(), Some(item))).collect();
    Fan::new(cx, "each", work, limit, collect)?.run(cx)
}

type Called = Result<Dynamic, Box<EvalAltResult>>;

/// The branches of one use of `parallel` or `each`.
struct Fan<'a> {
    frame: Frame,
    engine: &'a Engine,
    made_in: Origin,
    /// What each branch calls, and with what.
    work: Vec<(FnPtr, Option<Dynamic>)>,
    limit: usize,
    /// Whether errors are results like others.
    collect: bool,
    at: String,
    turn: Mutex<Turn>,
}

/// Where the branches are.
#[derive(Default)]
struct Turn {
    /// Those that are still to begin, the next one first.
    waiting: BTreeSet<usize>,
    /// Whether it is written down which ones have begun.
    closed: bool,
    begun: BTreeSet<usize>,
    done: BTreeMap<usize, Called>,
    deferred: BTreeMap<usize, Vec<Deferred>>,
    gave_up: bool,
    panic: Option<Box<dyn Any + Send>>,
}

impl Turn {
    /// Notes that a branch has panicked, if it has: no other begins.
    fn fell(&mut self, panicked: Option<Box<dyn Any + Send>>) {
        if let Some(payload) = panicked {
            self.waiting.clear();
            self.panic.get_or_insert(payload);
        }
    }

    fn failed(&self) -> bool {
        self.done.values().any(Result::is_err)
    }
}

impl<'a> Fan<'a> {
    fn new(
        cx: &'a Cx<'_>,
        native: &str,
        work: Vec<(FnPtr, Option<Dynamic>)>,
        limit: usize,
        collect: bool,
    ) -> Fallible<Self> {
        let frame = Frame::of(cx)?.child(native);
        let work = work.into_iter().map(|(f, item)| (own(f), item.map(|item| snapshot(&item)))).collect();
        let (engine, made_in, at) = (cx.engine(), keep(cx), position(cx));
        let limit = limit.min(frame.live().width);
        Ok(Self { frame, engine, made_in, work, limit, collect, at, turn: Mutex::default() })
    }

    /// Runs every branch. A failure that a person has since decided to be none lets those begin that it held up.
    fn run(self, cx: &Cx<'_>) -> Fallible<Array> {
        let stop = |halt: Halt| halt.at(cx.call_position());
        loop {
            self.open().map_err(stop)?;
            self.work_off(cx)?;
            let turn = lock(&self.turn);
            let all = turn.begun.len() == self.work.len();
            if all || turn.gave_up || turn.panic.is_some() || turn.failed() || self.frame.is_halted() {
                break;
            }
        }
        let mut turn = self.turn.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        for deferred in std::mem::take(&mut turn.deferred).into_values() {
            self.frame.deferred().extend(deferred);
        }
        if let Some(payload) = turn.panic {
            panic::resume_unwind(payload);
        }
        if self.frame.is_halted() {
            return Err(stop(Halt::Stop));
        }
        if turn.gave_up {
            return Err(stop(self.frame.give_up()));
        }
        turn.done
            .into_values()
            .map(|called| if self.collect { Ok(as_result(called)) } else { called })
            .collect()
    }

    /// Lets branches begin: those that a recorded failure had found begun, or else all that have not.
    fn open(&self) -> Result<(), Halt> {
        let mut turn = lock(&self.turn);
        let recorded = self.frame.peek("failed");
        turn.closed =
            matches!(self.frame.live().run.past(&recorded), Past::Ended { outcome: Outcome::Ok(_), .. });
        let may_begin: BTreeSet<usize> = if turn.closed {
            let begun = note_down(&self.frame, "failed", &Value::Null, &self.at, || Value::Null)?;
            serde_json::from_value(begun).unwrap_or_default()
        } else {
            (0..self.work.len()).collect()
        };
        turn.waiting = may_begin.difference(&turn.begun).copied().filter(|i| *i < self.work.len()).collect();
        Ok(())
    }

    /// Runs what may begin to its end, on threads with room for any script.
    fn work_off(&self, cx: &Cx<'_>) -> Fallible<()> {
        let count = lock(&self.turn).waiting.len().min(self.limit);
        let started = thread::scope(|threads| {
            let start = |_| {
                let named = thread::Builder::new().name("branch".into()).stack_size(STACK_BYTES);
                named.spawn_scoped(threads, || self.work()).is_ok()
            };
            // With fewer threads than asked for it only takes longer.
            (0..count).map(start).take_while(|started| *started).count()
        });
        if started == 0 && count > 0 {
            return raise(cx, codes::FAILED, "the machine gives no thread to run a branch on");
        }
        Ok(())
    }

    /// Takes branch after branch.
    fn work(&self) {
        while let Some(index) = self.next() {
            let frame = self.frame.branch(index);
            let called = panic::catch_unwind(AssertUnwindSafe(|| self.call(&frame, index)));
            let gave_up = gave_up();
            let mut turn = lock(&self.turn);
            turn.deferred.insert(index, std::mem::take(&mut *frame.deferred()));
            turn.gave_up |= gave_up;
            match called {
                Ok(called) => {
                    let failed = called.is_err() && !gave_up && !self.frame.is_halted();
                    turn.done.insert(index, called);
                    if failed && !self.collect {
                        let closed = panic::catch_unwind(AssertUnwindSafe(|| self.close(&mut turn)));
                        turn.fell(closed.err());
                    }
                }
                Err(payload) => turn.fell(Some(payload)),
            }
        }
    }

    fn next(&self) -> Option<usize> {
        if self.frame.live().stopper.is_thrown() {
            return None;
        }
        let mut turn = lock(&self.turn);
        let index = turn.waiting.pop_first()?;
        turn.begun.insert(index);
        Some(index)
    }

    fn call(&self, frame: &Frame, index: usize) -> Called {
        let (closure, item) = &self.work[index];
        match item {
            Some(item) => frame.call_stored(self.engine, &self.made_in, closure, (item.clone(),)),
            None => frame.call_stored(self.engine, &self.made_in, closure, ()),
        }
    }

    /// Writes down which branches have begun, in this process or an earlier one, and lets no others begin.
    fn close(&self, turn: &mut Turn) {
        // A run that is being abandoned settles every branch, and none of them begins anything.
        if turn.closed || self.frame.live().settling() {
            return;
        }
        let below = format!("{}/", self.frame.path());
        let known = self.frame.live().run.calls_below(&below);
        let known: BTreeSet<usize> =
            known.iter().filter_map(|call| call[below.len()..].split('/').next()?.parse().ok()).collect();
        turn.waiting.retain(|index| known.contains(index));
        turn.closed = true;
        let begun: BTreeSet<usize> = turn.begun.union(&turn.waiting).copied().collect();
        // What keeps it from being written stops the run, and with it every branch.
        drop(note_down(&self.frame, "failed", &Value::Null, &self.at, || json!(begun)));
    }
}

/// Returns a closure with copies of the values that it captures as they are now.
fn own(mut closure: FnPtr) -> FnPtr {
    let captured: Vec<Dynamic> = closure.iter_curry().map(snapshot).collect();
    closure.set_curry(captured);
    closure
}

/// Returns `#{ok, value, error}`.
pub(super) fn as_result(called: Called) -> Dynamic {
    let (ok, value, error) = match called {
        Ok(value) => (true, value, Dynamic::UNIT),
        Err(e) => (false, Dynamic::UNIT, to_dynamic(&fault::of_error(&e))),
    };
    Map::from_iter([("ok".into(), ok.into()), ("value".into(), value), ("error".into(), error)]).into()
}
