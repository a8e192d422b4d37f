//! The fault injector: it is called at every point of a run, and decides what goes wrong there.

use super::{
    fault_plan::FaultPlan,
    limits::{LimitMet, ProcessLimits, ProcessMeter},
    operators::{EditAct, OperatorAct, STEP_FORWARD, clock_jump_at, take_over_at},
    points::{
        DELAY_PAST_TIMEOUT, DELAY_WITHIN_TIMEOUT, Fault, HELD_BACK, InjectedFault, LANDING_LATE,
        LANDING_SOON, Point, PointKind, Visit, render_call,
    },
};
use crate::base::lock::lock_unpoisoned;
use crate::{
    base::clock::{Clock as _, VirtualClock},
    journal::{EDIT_GATE, Failure, Outcome, Record, RecordObserver},
    provider::sim::{
        ColleagueTurn,
        faults::{FaultSource, RequestKind, RequestOutcome, SimRequest},
    },
    runtime::{Answer, Choice, Event, Question, RunObserver, StopRequester, Withdrawal, is_gate},
};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap},
    panic,
    sync::{Arc, Mutex, MutexGuard},
};

/// Who decides, as the records of a rehearsal name it.
pub(super) const PERSON: &str = "the rehearsal";

/// The most processes of one run in which a random schedule injects faults.
pub(super) const MAX_FAULTY_PROCESSES: u32 = 4;

thread_local! {
    /// The call that this thread is in; empty between calls.
    static CURRENT_CALL: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Injects the faults of one plan.
pub(super) struct FaultInjector {
    plan: FaultPlan,
    /// Through which the process is asked to stop.
    stop_requester: Arc<StopRequester>,
    clock: Arc<VirtualClock>,
    meter: ProcessMeter,
    state: Mutex<InjectorState>,
}

#[derive(Default)]
struct InjectorState {
    process: u32,
    is_dead: bool,
    /// What an earlier fault still has in store for this process.
    aftermath: Option<Aftermath>,
    is_over: bool,
    /// Whether the fault at the question about an edited text has struck.
    is_gate_over: bool,
    /// How many records this process has appended.
    appended: usize,
    visit_counts: HashMap<(String, PointKind), u32>,
    visits: Vec<Visit>,
    repeated: Vec<String>,
    /// The calls whose requests without a key changed the world.
    keyless_effects: BTreeSet<String>,
    /// The calls that ended well.
    ended_well: BTreeSet<String>,
    /// The calls that ended well before a request of theirs changed the world.
    premature_ends: BTreeSet<String>,
    failed: u32,
    faults: Vec<InjectedFault>,
    /// The clean-up that failed in this process.
    failed_clean_up: Vec<FailedCleanUp>,
}

/// Clean-up of the script that failed.
#[derive(Debug, Clone)]
pub(super) struct FailedCleanUp {
    /// The name under which it was deferred.
    pub(super) name: String,
    pub(super) failure: Failure,
}

/// What a fault has in store for the later requests of its process, to a target or to a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aftermath {
    /// None of them is answered.
    Silence,
    /// The clock is set forward at the next one.
    ClockJump,
    /// The next approval that is asked for is rejected.
    Rejection,
    /// Nobody is there to be asked.
    Absence,
}

impl FaultInjector {
    pub(super) fn new(
        plan: FaultPlan,
        limits: ProcessLimits,
        clock: Arc<VirtualClock>,
        stop_requester: Arc<StopRequester>,
    ) -> Self {
        CURRENT_CALL.with_borrow_mut(String::clear);
        let meter = ProcessMeter::new(limits, Arc::clone(&clock));
        Self { plan, clock, stop_requester, meter, state: Mutex::default() }
    }

    /// Begins the next process.
    pub(super) fn begin_process(&self) {
        CURRENT_CALL.with_borrow_mut(String::clear);
        self.meter.begin_process();
        let mut state = self.lock_state();
        state.failed_clean_up.clear();
        state.process += 1;
        state.is_dead = false;
        state.aftermath = None;
        state.appended = 0;
        state.visit_counts.clear();
    }

    /// Returns every visit to a point, in order.
    pub(super) fn take_visits(&self) -> Vec<Visit> {
        std::mem::take(&mut self.lock_state().visits)
    }

    /// Returns what was asked for again although the world had done it.
    pub(super) fn repeated_requests(&self) -> Vec<String> {
        self.lock_state().repeated.clone()
    }

    /// Returns the calls whose requests without a key changed the world.
    pub(super) fn calls_with_keyless_effects(&self) -> BTreeSet<String> {
        self.lock_state().keyless_effects.clone()
    }

    /// Returns the calls that ended well before a request of theirs changed the world.
    pub(super) fn calls_ended_before_effect(&self) -> BTreeSet<String> {
        self.lock_state().premature_ends.clone()
    }

    /// Returns what went wrong, in order.
    pub(super) fn injected_faults(&self) -> Vec<InjectedFault> {
        self.lock_state().faults.clone()
    }

    /// Returns the limit that a process of the run has met.
    pub(super) fn limit_met(&self) -> Option<LimitMet> {
        self.meter.limit_met()
    }

    /// Returns the clean-up that failed in the last process.
    pub(super) fn take_failed_clean_up(&self) -> Vec<FailedCleanUp> {
        std::mem::take(&mut self.lock_state().failed_clean_up)
    }

    /// Returns how many requests failed, and whether the last process died.
    pub(super) fn failures_and_death(&self) -> (u32, bool) {
        let state = self.lock_state();
        (state.failed, state.is_dead)
    }

    fn lock_state(&self) -> MutexGuard<'_, InjectorState> {
        // No panic is raised while it is locked.
        lock_unpoisoned(&self.state)
    }

    /// Visits a point: returns what becomes of the request there, or dies.
    fn visit_point(&self, call: String, at: PointKind, record: Option<&Record>) -> RequestOutcome {
        let fault = {
            let mut state = self.lock_state();
            let count = state.visit_counts.entry((call.clone(), at)).or_default();
            let nth = *count;
            *count += 1;
            let point = Point { call, at, nth };
            if at.is_request() && state.aftermath == Some(Aftermath::ClockJump) {
                state.aftermath = None;
                self.clock.shift_wall_clock(STEP_FORWARD);
            }
            let fault =
                if state.is_dead { Some(Fault::Crash) } else { self.choose_fault(&mut state, &point) };
            if let Some(fault) = fault.filter(|_| !state.is_dead) {
                let struck = InjectedFault {
                    point: point.clone(),
                    fault,
                    at: self.clock.now(),
                    process: state.process as usize,
                    appended: state.appended,
                };
                state.faults.push(struck);
            }
            match fault {
                Some(Fault::Crash) => state.is_dead = true,
                Some(Fault::Silence(_)) => state.aftermath = Some(Aftermath::Silence),
                Some(Fault::ClockJump(_)) => state.aftermath = Some(Aftermath::ClockJump),
                Some(Fault::Absence) => state.aftermath = Some(Aftermath::Absence),
                Some(Fault::Rejection) => {
                    state.aftermath = Some(Aftermath::Rejection);
                    state.failed += 1;
                }
                Some(fault) if fault.fails_request() => state.failed += 1,
                Some(_) | None => {}
            }
            if matches!(self.plan, FaultPlan::Undisturbed) {
                state.visits.push(Visit {
                    point,
                    op: record.and_then(recorded_op).map(str::to_owned),
                    result: record.and_then(recorded_result),
                });
            }
            let is_silent = state.aftermath == Some(Aftermath::Silence);
            fault.or(is_silent.then_some(Fault::Request(RequestOutcome::Lost)))
        };
        match fault {
            Some(Fault::Crash) => panic::resume_unwind(Box::new("killed in a rehearsal")),
            Some(Fault::Request(outcome) | Fault::Silence(outcome) | Fault::ClockJump(outcome)) => outcome,
            Some(Fault::TakeOver(outcome)) => {
                // A journal that cannot be written says so at the next record.
                drop(self.stop_requester.request_stop("another process"));
                outcome
            }
            Some(Fault::Rejection | Fault::Absence) | None => RequestOutcome::Served,
        }
    }

    fn choose_fault(&self, state: &mut InjectorState, point: &Point) -> Option<Fault> {
        if let FaultPlan::Operated(_, _, OperatorAct::Edit(EditAct { at_gate: Some(fault), .. })) = &self.plan
            && point.at.asks_person()
            && called_native(&point.call) == EDIT_GATE
            && !std::mem::replace(&mut state.is_gate_over, true)
        {
            return Some(*fault);
        }
        match &self.plan {
            FaultPlan::One(at, fault) | FaultPlan::Operated(at, fault, _)
                if !state.is_over && at == point =>
            {
                state.is_over = true;
                Some(*fault)
            }
            FaultPlan::Undisturbed | FaultPlan::One(..) | FaultPlan::Operated(..) => None,
            FaultPlan::Seed(seed, families, _) => (state.process < MAX_FAULTY_PROCESSES)
                .then(|| draw_faults(*seed, state.process, point))
                .into_iter()
                .flatten()
                .find(|fault| families.includes_fault(*fault)),
        }
    }
}

/// Returns what goes wrong at a point, which follows from the seed and the point alone; of several the first counts that
/// is of a family that happens.
fn draw_faults(seed: u64, process: u32, point: &Point) -> impl Iterator<Item = Fault> + use<> {
    let mut hash = Sha256::new();
    hash.update(seed.to_be_bytes());
    hash.update(process.to_be_bytes());
    hash.update(format!("{point:?}"));
    let dice: [u8; 32] = hash.finalize().into();
    draw_fault(seed, point, &dice)
        .into_iter()
        .chain(draw_take_over(point, &dice))
        .chain(draw_clock_jump(point, &dice))
        .chain(draw_colleague(point, &dice))
        .chain(draw_gate_fault(point, &dice))
}

/// Returns what a person does who is asked for an approval at a point, other than to give it.
fn draw_gate_fault(point: &Point, dice: &[u8; 32]) -> Option<Fault> {
    let is_asked = point.at.asks_person() && is_approval(&point.call);
    match dice[9] % 6 {
        0 if is_asked => Some(Fault::Rejection),
        1 if is_asked => Some(Fault::Absence),
        _ => None,
    }
}

/// Returns whether a call is an approval, of the script or of its text, by its name.
fn is_approval(call: &str) -> bool {
    is_gate(called_native(call))
}

/// Returns the name of the native that a call is of.
fn called_native(call: &str) -> &str {
    call.rsplit('/').next().and_then(|last| last.split('#').next()).unwrap_or_default()
}

/// Returns whether the clock is set forward while a request of a point is looked for, once that breaks nothing.
fn draw_clock_jump(point: &Point, dice: &[u8; 32]) -> Option<Fault> {
    let is_drawn = dice[8].is_multiple_of(8);
    clock_jump_at(point.at).filter(|_| is_drawn)
}

/// Returns whether another process takes the run over at a point: other dice than those of a fault say so.
fn draw_take_over(point: &Point, dice: &[u8; 32]) -> Option<Fault> {
    take_over_at(point.at).filter(|_| dice[7].is_multiple_of(8))
}

/// Returns whether a colleague is there at a point: other dice than those of a fault say so.
fn draw_colleague(point: &Point, dice: &[u8; 32]) -> Option<Fault> {
    let turn = [ColleagueTurn::Before, ColleagueTurn::After][usize::from(dice[5] % 2)];
    let outcome = RequestOutcome::BesideColleague(turn);
    let PointKind::Acts(name) = point.at else { return None };
    let is_there = dice[4].is_multiple_of(4) && outcome.fits_request(name, RequestKind::Change);
    is_there.then_some(Fault::Request(outcome))
}

fn draw_fault(seed: u64, point: &Point, dice: &[u8; 32]) -> Option<Fault> {
    // A seed has one of three fault rates.
    let odds = [6, 4, 2][usize::from(seed.to_be_bytes()[7] % 3)] * 5;
    if u32::from(u16::from_be_bytes([dice[0], dice[1]])) % odds != 0 {
        return None;
    }
    let landing = [LANDING_SOON, LANDING_LATE][usize::from(dice[3] % 2)];
    // Only what acts lands late.
    let sides = if matches!(point.at, PointKind::Acts(_)) { 13 } else { 9 };
    Some(match (point.at, dice[2] % sides) {
        (PointKind::Adding(_) | PointKind::Added(_) | PointKind::Served(_), _) | (_, 0 | 1) => Fault::Crash,
        (_, 2) => Fault::Request(RequestOutcome::Refused),
        (_, 3) => Fault::Request(RequestOutcome::Throttled),
        (_, 4) => Fault::Request(RequestOutcome::Failed),
        (_, 5) => Fault::Request(RequestOutcome::Late(DELAY_WITHIN_TIMEOUT)),
        (_, 6) => Fault::Request(RequestOutcome::Late(DELAY_PAST_TIMEOUT)),
        (PointKind::Acts(_), 7) => Fault::Request(RequestOutcome::Unanswered),
        (PointKind::Acts(_), 9) if dice[6].is_multiple_of(3) => {
            Fault::Request(RequestOutcome::SentLate(HELD_BACK))
        }
        (PointKind::Acts(_), 9) => Fault::Request(RequestOutcome::LandsLate(landing)),
        (PointKind::Acts(_), 10) => Fault::Request(RequestOutcome::AnsweredEarly(landing)),
        (PointKind::Acts(_), 11) => Fault::Request(RequestOutcome::StaleReads(landing)),
        (PointKind::Acts(_), 12) => Fault::Request(RequestOutcome::PartlyDone),
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
            self.lock_state().repeated.push(format!("`{}` of {}", request.name, render_call(&call)));
        }
        self.visit_point(call, at, None)
    }

    fn on_served(&self, request: &SimRequest<'_>) {
        if request.kind != RequestKind::Read {
            self.visit_point(CURRENT_CALL.with_borrow(String::clone), PointKind::Served(request.name), None);
        }
    }

    fn current_sender(&self) -> String {
        CURRENT_CALL.with_borrow(String::clone)
    }

    /// Notes the call, but for giving up what the run began itself.
    fn on_keyless_effect(&self, sender: &str, name: &str) {
        if name != "cancel" {
            self.lock_state().keyless_effects.insert(sender.to_owned());
        }
    }

    fn on_late_effect(&self, sender: &str) {
        let mut state = self.lock_state();
        if state.ended_well.contains(sender) {
            state.premature_ends.insert(sender.to_owned());
        }
    }
}

impl RecordObserver for FaultInjector {
    fn before_append(&self, record: &Record) {
        let call = record.call_name().unwrap_or_default().to_owned();
        self.visit_point(call, PointKind::Adding(record.kind()), Some(record));
    }

    fn after_append(&self, record: &Record) {
        let call = record.call_name().unwrap_or_default().to_owned();
        CURRENT_CALL.with_borrow_mut(|current| match record {
            Record::End { .. } => current.clear(),
            Record::Begin { .. } => current.clone_from(&call),
            _ => {}
        });
        let mut state = self.lock_state();
        state.appended += 1;
        if let Record::End { outcome: Outcome::Ok(_), .. } = record {
            state.ended_well.insert(call.clone());
        }
        drop(state);
        if let Record::End { .. } = record
            && let Some(limit) = self.meter.count_call()
        {
            self.stop_requester.stop_at_limit(limit.describe());
        }
        self.visit_point(call, PointKind::Added(record.kind()), Some(record));
    }
}

impl RunObserver for FaultInjector {
    fn on_event(&self, event: &Event<'_>) {
        if let Event::CallStarted { call, .. } = event {
            CURRENT_CALL.with_borrow_mut(|current| (*call).clone_into(current));
        }
    }

    fn on_failed_clean_up(&self, name: &str, failure: &Failure) {
        let failed = FailedCleanUp { name: name.to_owned(), failure: failure.clone() };
        self.lock_state().failed_clean_up.push(failed);
    }

    fn on_step(&self) {
        if let Some(limit) = self.meter.count_step() {
            self.stop_requester.stop_at_limit(limit.describe());
        }
    }

    /// Approves, unless a fault has something else in store. Whatever else is asked, nobody is there.
    fn ask_person(&self, question: &Question, _: &Withdrawal) -> Option<Answer> {
        let Question::Approval { .. } = question else { return None };
        let mut state = self.lock_state();
        let choice = match state.aftermath {
            Some(Aftermath::Absence) => return None,
            Some(Aftermath::Rejection) => {
                state.aftermath = None;
                Choice::Reject
            }
            _ => Choice::Approve,
        };
        Some(Answer { choice, by: PERSON.into() })
    }
}

/// Returns what a call gives back, where a record is that it ended well.
fn recorded_result(record: &Record) -> Option<Value> {
    match record {
        Record::End { outcome: Outcome::Ok(result), .. } => Some(result.clone()),
        _ => None,
    }
}

fn recorded_op(record: &Record) -> Option<&str> {
    match record {
        Record::Begin { op, .. } | Record::End { op, .. } => Some(op),
        _ => None,
    }
}
