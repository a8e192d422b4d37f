//! The fault injector: it is called at every point of a run, and decides what goes wrong there.
//!
//! A point is where something can go wrong: a record about to be written, or written; a request about to be made, or
//! served. It is named by the call it belongs to and how often that call has been there, never by a count over the
//! whole run: so a point is the same one whatever runs beside it.

use super::plan::FaultPlan;
use crate::{
    base::moment::Span,
    journal::{Record, RecordObserver},
    provider::sim::faults::{FaultSource, RequestKind, RequestOutcome, SimRequest},
    runtime::{Answer, Choice, Event, Question, RunObserver},
};
use sha2::{Digest as _, Sha256};
use std::{
    cell::RefCell,
    collections::HashMap,
    panic,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The delay of an answer that is still within every timeout.
pub(super) const DELAY_WITHIN_TIMEOUT: Span = Span::from_secs(5);
/// The delay of an answer that comes after every usual timeout.
pub(super) const DELAY_PAST_TIMEOUT: Span = Span::from_secs(25 * 3600);

/// The most processes of one run in which a random schedule injects faults.
const MAX_FAULTY_PROCESSES: u32 = 4;

thread_local! {
    /// The call that this thread is in; empty between calls.
    static CURRENT_CALL: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Where something can go wrong.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Point {
    /// The call; empty for what belongs to the run itself.
    pub(super) call: String,
    /// What happens there.
    pub(super) at: PointKind,
    /// How often the call was there before, in this process.
    pub(super) nth: u32,
}

/// What happens at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum PointKind {
    /// A record is about to be added.
    Adding(&'static str),
    /// A record was added.
    Added(&'static str),
    /// A request that only looks is about to be made.
    Looks(&'static str),
    /// A request that does something is about to be made.
    Acts(&'static str),
    /// A request was served, and nobody else knows.
    Served(&'static str),
}

impl Point {
    /// Returns what went wrong here, in words.
    fn describe_fault(&self, mishap: Fault) -> String {
        let at = match self.at {
            PointKind::Adding(kind) => format!("before the record `{kind}`"),
            PointKind::Added(kind) => format!("after the record `{kind}`"),
            PointKind::Looks(name) | PointKind::Acts(name) => format!("at the request `{name}`"),
            PointKind::Served(name) => format!("after the request `{name}` was served"),
        };
        let what = match mishap {
            Fault::Crash => "killed",
            Fault::Request(RequestOutcome::Served) => "served",
            Fault::Request(RequestOutcome::Refused) => "refused",
            Fault::Request(RequestOutcome::Throttled) => "throttled",
            Fault::Request(RequestOutcome::Failed) => "server error",
            Fault::Request(RequestOutcome::Late(DELAY_PAST_TIMEOUT)) => "answered too late",
            Fault::Request(RequestOutcome::Late(_)) => "answered late",
            Fault::Request(RequestOutcome::Lost) => "lost, no answer",
            Fault::Request(RequestOutcome::Unanswered) => "served, no answer",
        };
        format!("{what} {at} of {}", render_call(&self.call))
    }
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The process dies.
    Crash,
    /// A request is not simply served.
    Request(RequestOutcome),
}

/// One passing of a point.
#[derive(Debug, Clone)]
pub(super) struct Visit {
    pub(super) point: Point,
    /// The operation or native that a record is about.
    pub(super) op: Option<String>,
}

/// Lets go wrong what the script of a scenario says.
pub(super) struct FaultInjector {
    script: FaultPlan,
    state: Mutex<InjectorState>,
}

#[derive(Default)]
struct InjectorState {
    process: u32,
    is_dead: bool,
    is_over: bool,
    visits: HashMap<(String, PointKind), u32>,
    passed: Vec<Visit>,
    asked_again: Vec<String>,
    failed: u32,
    story: Vec<String>,
}

impl FaultInjector {
    pub(super) fn new(script: FaultPlan) -> Self {
        CURRENT_CALL.with_borrow_mut(String::clear);
        Self { script, state: Mutex::default() }
    }

    /// Begins the next process: nobody is dead in it.
    pub(super) fn begin_process(&self) {
        CURRENT_CALL.with_borrow_mut(String::clear);
        let mut state = self.lock_state();
        state.process += 1;
        state.is_dead = false;
        state.visits.clear();
    }

    /// Returns every point that was passed, in order.
    pub(super) fn take_points(&self) -> Vec<Visit> {
        std::mem::take(&mut self.lock_state().passed)
    }

    /// Returns what was asked for again although the world had done it.
    pub(super) fn repeated_requests(&self) -> Vec<String> {
        self.lock_state().asked_again.clone()
    }

    /// Returns what went wrong, in order.
    pub(super) fn injected_faults(&self) -> Vec<String> {
        self.lock_state().story.clone()
    }

    /// Returns how many requests failed, and whether the last process died.
    pub(super) fn failures_and_death(&self) -> (u32, bool) {
        let state = self.lock_state();
        (state.failed, state.is_dead)
    }

    fn lock_state(&self) -> MutexGuard<'_, InjectorState> {
        // No panic is raised while it is locked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes a point, if whoever comes there survives it.
    fn visit_point(&self, call: String, at: PointKind, op: Option<&str>) -> RequestOutcome {
        let mishap = {
            let mut state = self.lock_state();
            let visits = state.visits.entry((call.clone(), at)).or_default();
            let nth = *visits;
            *visits += 1;
            let point = Point { call, at, nth };
            let mishap =
                if state.is_dead { Some(Fault::Crash) } else { self.choose_fault(&mut state, &point) };
            if let Some(mishap) = mishap.filter(|_| !state.is_dead) {
                let told = point.describe_fault(mishap);
                state.story.push(told);
            }
            match mishap {
                Some(Fault::Crash) => state.is_dead = true,
                Some(Fault::Request(_)) => state.failed += 1,
                None => {}
            }
            if matches!(self.script, FaultPlan::Undisturbed) {
                state.passed.push(Visit { point, op: op.map(str::to_owned) });
            }
            mishap
        };
        match mishap {
            Some(Fault::Crash) => panic::resume_unwind(Box::new("killed in a rehearsal")),
            Some(Fault::Request(fate)) => fate,
            None => RequestOutcome::Served,
        }
    }

    fn choose_fault(&self, state: &mut InjectorState, point: &Point) -> Option<Fault> {
        match &self.script {
            FaultPlan::One(at, mishap) if !state.is_over && at == point => {
                state.is_over = true;
                Some(*mishap)
            }
            FaultPlan::Undisturbed | FaultPlan::One(..) => None,
            FaultPlan::Seed(seed) => {
                (state.process < MAX_FAULTY_PROCESSES).then(|| draw_fault(*seed, state.process, point))?
            }
        }
    }
}

/// Returns what goes wrong at a point, which follows from the seed and the point alone.
fn draw_fault(seed: u64, process: u32, point: &Point) -> Option<Fault> {
    let mut hash = Sha256::new();
    hash.update(seed.to_be_bytes());
    hash.update(process.to_be_bytes());
    hash.update(format!("{point:?}"));
    let dice = hash.finalize();
    // A seed has one of three fault rates.
    let odds = [6, 4, 2][usize::from(seed.to_be_bytes()[7] % 3)] * 5;
    if u32::from(u16::from_be_bytes([dice[0], dice[1]])) % odds != 0 {
        return None;
    }
    Some(match (point.at, dice[2] % 9) {
        (PointKind::Adding(_) | PointKind::Added(_) | PointKind::Served(_), _) | (_, 0 | 1) => Fault::Crash,
        (_, 2) => Fault::Request(RequestOutcome::Refused),
        (_, 3) => Fault::Request(RequestOutcome::Throttled),
        (_, 4) => Fault::Request(RequestOutcome::Failed),
        (_, 5) => Fault::Request(RequestOutcome::Late(DELAY_WITHIN_TIMEOUT)),
        (_, 6) => Fault::Request(RequestOutcome::Late(DELAY_PAST_TIMEOUT)),
        (PointKind::Acts(_), 7) => Fault::Request(RequestOutcome::Unanswered),
        (PointKind::Acts(_) | PointKind::Looks(_), _) => Fault::Request(RequestOutcome::Lost),
    })
}

impl FaultSource for FaultInjector {
    fn choose_outcome(&self, request: &SimRequest<'_>) -> RequestOutcome {
        let at = match request.kind {
            RequestKind::Read => PointKind::Looks(request.name),
            RequestKind::Change | RequestKind::Remove => PointKind::Acts(request.name),
        };
        let call = CURRENT_CALL.with_borrow(String::clone);
        if request.is_done && request.kind == RequestKind::Change {
            self.lock_state().asked_again.push(format!("`{}` of {}", request.name, render_call(&call)));
        }
        self.visit_point(call, at, None)
    }

    fn on_served(&self, request: &SimRequest<'_>) {
        if request.kind != RequestKind::Read {
            self.visit_point(CURRENT_CALL.with_borrow(String::clone), PointKind::Served(request.name), None);
        }
    }
}

impl RecordObserver for FaultInjector {
    fn before_append(&self, record: &Record) {
        let call = record.call_name().unwrap_or_default().to_owned();
        self.visit_point(call, PointKind::Adding(record.kind()), recorded_op(record));
    }

    fn after_append(&self, record: &Record) {
        let call = record.call_name().unwrap_or_default().to_owned();
        CURRENT_CALL.with_borrow_mut(|current| match record {
            Record::End { .. } => current.clear(),
            Record::Begin { .. } => current.clone_from(&call),
            _ => {}
        });
        self.visit_point(call, PointKind::Added(record.kind()), recorded_op(record));
    }
}

impl RunObserver for FaultInjector {
    fn on_event(&self, event: &Event<'_>) {
        if let Event::CallStarted { call, .. } = event {
            CURRENT_CALL.with_borrow_mut(|current| (*call).clone_into(current));
        }
    }

    /// Approves: a rehearsal is about what comes after.
    fn ask_person(&self, question: &Question) -> Option<Answer> {
        let approves = || Answer { choice: Choice::Approve, by: "the rehearsal".into() };
        matches!(question, Question::Approval { .. }).then(approves)
    }
}

fn recorded_op(record: &Record) -> Option<&str> {
    match record {
        Record::Begin { op, .. } | Record::End { op, .. } => Some(op),
        _ => None,
    }
}

fn render_call(call: &str) -> &str {
    if call.is_empty() { "the run" } else { call }
}
