//! The fault injector: it is called at every point of a run, and decides what goes wrong there.

use super::{
    draws::{called_name, draw_faults},
    fault_plan::FaultPlan,
    lags::may_lag,
    limits::{LimitMet, ProcessLimits, ProcessMeter},
    operators::{EditAct, OperatorAct, STEP_FORWARD},
    points::{Fault, FaultFamily, InjectedFault, Point, PointKind, Visit, render_call},
};
use crate::base::lock::lock_unpoisoned;
use crate::{
    base::clock::{Clock as _, VirtualClock},
    journal::{EDIT_GATE, Failure, Outcome, Record, RecordObserver},
    provider::sim::faults::{FaultSource, RequestKind, RequestOutcome, SimRequest},
    runtime::{Answer, Choice, Event, ForkOrder, Question, RunObserver, StopRequester, Withdrawal},
};
use serde_json::Value;
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
    /// The calls of this process of which a request was answered as if all of it were done.
    untruly_answered: BTreeSet<String>,
    /// How many faults of the plan have struck, where it has them in an order.
    struck: usize,
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

impl InjectorState {
    /// Returns whether a fault may strike beside those before it: after an answer one look is believed, so no look lags
    /// behind an untrue answer.
    fn may_strike(&self, point: &Point, fault: Fault) -> bool {
        let is_lag = matches!(fault, Fault::Request(RequestOutcome::LagsBehind(_)));
        !(is_lag && self.untruly_answered.contains(&point.call))
    }
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
    /// The call that failed is held, where a person is asked about it.
    Hold,
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
        state.untruly_answered.clear();
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
    fn visit_point_or_die(&self, call: String, at: PointKind, record: Option<&Record>) -> RequestOutcome {
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
                Some(
                    fault @ Fault::Request(RequestOutcome::AnsweredEarly(_) | RequestOutcome::PartlyDone),
                ) => {
                    state.failed += u32::from(fault.fails_request());
                    state.untruly_answered.insert(point.call.clone());
                }
                Some(Fault::Rejection) => {
                    state.aftermath = Some(Aftermath::Rejection);
                    state.failed += 1;
                }
                Some(Fault::HeldRefusal) => {
                    state.aftermath = Some(Aftermath::Hold);
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
            Some(Fault::HeldRefusal) => RequestOutcome::Refused,
            Some(Fault::Rejection | Fault::Absence) | None => RequestOutcome::Served,
        }
    }

    fn choose_fault(&self, state: &mut InjectorState, point: &Point) -> Option<Fault> {
        if let FaultPlan::Operated(_, _, OperatorAct::Edit(EditAct { at_gate: Some(fault), .. })) = &self.plan
            && point.at.asks_person()
            && called_name(&point.call) == EDIT_GATE
            && !std::mem::replace(&mut state.is_gate_over, true)
        {
            return Some(*fault);
        }
        match &self.plan {
            FaultPlan::Undisturbed | FaultPlan::Reordered(_) => None,
            FaultPlan::One(at, fault) | FaultPlan::Operated(at, fault, _) => {
                let is_next = state.struck == 0 && at == point;
                state.struck += usize::from(is_next);
                is_next.then_some(*fault)
            }
            FaultPlan::Pair(faults) => {
                let next = faults.get(state.struck).filter(|(at, _)| at == point);
                state.struck += usize::from(next.is_some());
                next.map(|(_, fault)| *fault)
            }
            FaultPlan::TrueLookThenLags(request, lag) => {
                let is_next = match state.struck {
                    0 => request == point,
                    _ => request.call == point.call && may_lag(point),
                };
                state.struck += usize::from(is_next);
                match state.struck {
                    1 if is_next => Some(Fault::Request(RequestOutcome::Lost)),
                    3 | 4 if is_next => Some(Fault::Request(*lag)),
                    _ => None,
                }
            }
            FaultPlan::Seed(seed, families, _) => (state.process < MAX_FAULTY_PROCESSES)
                .then(|| draw_faults(*seed, state.process, point))
                .into_iter()
                .flatten()
                .find(|fault| families.includes_fault(*fault) && state.may_strike(point, *fault)),
        }
    }
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
        self.visit_point_or_die(call, at, None)
    }

    fn keeps_old_worlds(&self) -> bool {
        let lags = |fault: &Fault| matches!(fault, Fault::Request(RequestOutcome::LagsBehind(_)));
        match &self.plan {
            FaultPlan::Undisturbed | FaultPlan::Reordered(_) | FaultPlan::Operated(..) => false,
            FaultPlan::One(_, fault) => lags(fault),
            FaultPlan::Pair(faults) => faults.iter().any(|(_, fault)| lags(fault)),
            FaultPlan::TrueLookThenLags(..) => true,
            FaultPlan::Seed(_, families, _) => families.has(FaultFamily::Late),
        }
    }

    fn on_served(&self, request: &SimRequest<'_>) {
        if request.kind != RequestKind::Read {
            self.visit_point_or_die(
                CURRENT_CALL.with_borrow(String::clone),
                PointKind::Served(request.name),
                None,
            );
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
        self.visit_point_or_die(call, PointKind::Adding(record.kind()), Some(record));
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
        self.visit_point_or_die(call, PointKind::Added(record.kind()), Some(record));
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

    fn choose_fork_order(&self, path: &str) -> Option<ForkOrder> {
        let FaultPlan::Reordered(forks) = &self.plan else { return None };
        (forks.path == path).then_some(forks.order)
    }

    /// Approves, unless a fault has something else in store, and holds a failed call where that is. About anything else, nobody is there.
    fn ask_person(&self, question: &Question, _: &Withdrawal) -> Option<Answer> {
        let mut state = self.lock_state();
        let choice = match (question, state.aftermath) {
            (Question::FailedCall { .. }, Some(Aftermath::Hold)) => Choice::Hold,
            (Question::Approval { .. }, Some(Aftermath::Absence)) => return None,
            (Question::Approval { .. }, Some(Aftermath::Rejection)) => {
                state.aftermath = None;
                Choice::Reject
            }
            (Question::Approval { .. }, _) => Choice::Approve,
            _ => return None,
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
