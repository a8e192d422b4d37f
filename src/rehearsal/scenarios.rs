//! Which scenarios there are: one for each point that the undisturbed run passed and each thing that can go wrong there.

use super::{
    edited_runbook::EditedRunbook,
    fault_plan::FaultPlan,
    forks::list_fork_scenarios,
    lags::{lagging_scenarios, may_lag},
    operators::{
        ACTS_AFTER_DEATH, ACTS_AT_GATE, ACTS_AT_HELD_CALL, EditAct, FAULTS_AT_EDIT_GATE, OperatorAct,
        clock_jump_fault_at, outage_outcomes_at, take_over_fault_at,
    },
    points::{
        DELAY_PAST_TIMEOUT, DELAY_WITHIN_TIMEOUT, Fault, FaultFamily, FaultSelection, HELD_BACK,
        LANDING_LATE, Point, PointKind, Visit, is_first_after_effect,
    },
    rehearsed_calls::{RehearsedCall, list_rehearsed_calls},
    scenario::Scenario,
    text_edits::{EDIT_KINDS, EditKind},
};
use crate::{
    base::suggest,
    journal::APPROVE,
    provider::sim::{
        ColleagueTurn,
        faults::{RequestKind, RequestOutcome},
    },
    runtime::Runbook,
};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::{collections::BTreeMap, sync::Arc};

/// The families of faults that are rehearsed where none are named, as `rehearse --faults` takes them.
pub const DEFAULT_FAULTS: &str = "all";

/// The request to rehearse a runbook.
pub struct RehearsalRequest {
    pub runbook: Runbook,
    /// Its parameters, as they were typed.
    pub params: BTreeMap<String, String>,
    /// Which faults, each on its own and in schedules of several.
    pub faults: FaultSelection,
    /// How many schedules of several faults.
    pub seeds: u64,
    /// The seed of the first of them.
    pub seed: u64,
    /// The id of the only scenario to run, if one is given.
    pub only: Option<String>,
}

/// The scenarios of a rehearsal, with the calls they refer to.
pub(super) struct ScenarioSet {
    /// The calls by number; the first stands for the run itself.
    pub(super) calls: Vec<RehearsedCall>,
    pub(super) scenarios: Vec<Scenario>,
}

/// The ways in which a process dies, in the order in which they come in a call.
pub(super) const CRASH_KINDS: &[&str] = &[
    "before-begin",
    "after-begin",
    "after-effect",
    "after-accepted",
    "while-waiting",
    "before-record",
    "after-record",
];

/// The ways in which a request fails.
pub(super) const REQUEST_FAULTS: &[(&str, RequestOutcome)] = &[
    ("refused", RequestOutcome::Refused),
    ("throttled", RequestOutcome::Throttled),
    ("server-error", RequestOutcome::Failed),
    ("late", RequestOutcome::Late(DELAY_WITHIN_TIMEOUT)),
    ("too-late", RequestOutcome::Late(DELAY_PAST_TIMEOUT)),
    ("lost", RequestOutcome::Lost),
    ("unanswered", RequestOutcome::Unanswered),
    ("lands-late", RequestOutcome::LandsLate(LANDING_LATE)),
    ("sent-late", RequestOutcome::SentLate(HELD_BACK)),
    ("answered-early", RequestOutcome::AnsweredEarly(LANDING_LATE)),
    ("stale-reads", RequestOutcome::StaleReads(LANDING_LATE)),
    ("lagging", RequestOutcome::LagsBehind(1)),
    ("lagging-two", RequestOutcome::LagsBehind(2)),
    ("partly-done", RequestOutcome::PartlyDone),
    ("colleague-before", RequestOutcome::BesideColleague(ColleagueTurn::Before)),
    ("colleague-after", RequestOutcome::BesideColleague(ColleagueTurn::After)),
];

impl ScenarioSet {
    /// Returns the run that nobody disturbs, and nothing else: of one that does not come to an end.
    pub(super) fn of_undisturbed() -> Self {
        Self { calls: Vec::new(), scenarios: vec![undisturbed_scenario()] }
    }

    /// Returns the scenarios of a run that visited these points, and whose text has these edits.
    ///
    /// # Errors
    /// There is no such scenario as the one that is wanted; and the nearest there is.
    pub(super) fn from_visits(
        visits: &[Visit],
        edits: &[Arc<EditedRunbook>],
        request: &RehearsalRequest,
    ) -> Result<Self, (String, &'static str)> {
        let calls = list_rehearsed_calls(visits);
        let mut scenarios = vec![undisturbed_scenario()];
        let mut standstills = Vec::new();
        for (number, call) in calls.iter().enumerate() {
            let own: Vec<&Point> = visits.iter().map(|p| &p.point).filter(|p| p.call == call.name).collect();
            let crashes: Vec<_> =
                own.iter().filter_map(|point| crash_scenario(number, point, &own)).collect();
            let died = crashes.iter().filter_map(|crash| Standstill::from_crash(number, crash, &own));
            let held = own.iter().filter_map(|point| Standstill::from_refusal(number, point));
            let stopped: Vec<_> = died.chain(held).collect();
            scenarios.extend(crashes);
            scenarios.extend(own.iter().flat_map(|point| request_fault_scenarios(number, point, &own)));
            scenarios.extend(lagging_scenarios(number, &own));
            scenarios.extend(stopped.iter().flat_map(Standstill::list_operator_scenarios));
            standstills.extend(stopped);
            let result = visits.iter().find_map(|v| v.result.as_ref().filter(|_| v.point.call == call.name));
            scenarios.extend(own.iter().flat_map(|point| {
                operator_scenarios(number, point, result.filter(|_| is_last_act(point, &own)))
            }));
            let gate = own.iter().find(|point| call.op == APPROVE && point.at.asks_person());
            scenarios.extend(gate.into_iter().flat_map(|gate| gate_scenarios(number, gate, edits)));
        }
        scenarios.extend(list_fork_scenarios(&calls));
        scenarios.extend(edit_scenarios(&standstills, edits));
        scenarios.extend(edit_gate_scenarios(&calls, &standstills, edits));
        let mut set = Self { calls, scenarios };
        if let Some(only) = &request.only {
            set.select_scenario(only, request.faults, edits)?;
            return Ok(set);
        }
        set.scenarios.retain(|scenario| scenario.is_among(request.faults));
        let seeds = (0..request.seeds).map(|n| request.seed.wrapping_add(n));
        set.scenarios.extend(seeds.map(|seed| seed_scenario(seed, request.faults, edits)));
        Ok(set)
    }

    /// Returns a scenario and its place.
    pub(super) fn scenario_at(&self, at: usize) -> Option<(usize, &Scenario)> {
        self.scenarios.get(at).map(|scenario| (at, scenario))
    }

    /// Keeps one scenario, of whichever family its fault is; what a seed draws depends on the families.
    fn select_scenario(
        &mut self,
        only: &str,
        families: FaultSelection,
        edits: &[Arc<EditedRunbook>],
    ) -> Result<(), (String, &'static str)> {
        let seed = only.strip_prefix("seed:").and_then(|n| n.parse().ok());
        let found = seed
            .map(|seed| seed_scenario(seed, families, edits))
            .or_else(|| self.scenarios.iter().find(|s| s.id == only).cloned());
        let Some(found) = found else {
            let near = suggest::nearest_name(only, self.scenarios.iter().map(|s| s.id.as_str()));
            let near = near.map(|id| format!("; the nearest is `{id}`")).unwrap_or_default();
            let what = format!("this runbook has no scenario `{only}`{near}");
            return Err((what, "`-o json` lists every scenario there is"));
        };
        self.scenarios = vec![found];
        Ok(())
    }
}

fn undisturbed_scenario() -> Scenario {
    Scenario { id: "undisturbed".into(), cell: None, plan: FaultPlan::Undisturbed }
}

/// Returns the scenario in which the process dies at a point, where that differs from a death at the point before.
fn crash_scenario(number: usize, point: &Point, own: &[&Point]) -> Option<Scenario> {
    let count_visits = |at: PointKind| own.iter().filter(|p| p.at == at).count();
    let crash = match point.at {
        PointKind::Adding("begin") if point.nth == 0 => "before-begin",
        PointKind::Added("begin") if point.nth == 0 => "after-begin",
        PointKind::Served(_) if point.nth == 0 => "after-effect",
        PointKind::Added("accepted") if point.nth == 0 => "after-accepted",
        at @ PointKind::Looks("observe") if usize::try_from(point.nth) == Ok(count_visits(at) / 2) => {
            "while-waiting"
        }
        PointKind::Adding("end") => "before-record",
        PointKind::Added("end") => "after-record",
        PointKind::Adding(kind) | PointKind::Added(kind) if number == 0 => {
            return run_crash_scenario(point, kind);
        }
        _ => return None,
    };
    let plan = FaultPlan::One(point.clone(), Fault::Crash);
    Some(Scenario { id: format!("crash:{number}:{crash}"), cell: Some((number, crash)), plan })
}

/// Returns the crash scenario for a record of the run itself.
fn run_crash_scenario(point: &Point, kind: &str) -> Option<Scenario> {
    let (when, crash) = match point.at {
        PointKind::Adding(_) => ("before", "before-record"),
        _ => ("after", "after-record"),
    };
    let plan = FaultPlan::One(point.clone(), Fault::Crash);
    (point.nth == 0).then(|| Scenario { id: format!("crash:0:{when}-{kind}"), cell: Some((0, crash)), plan })
}

/// Returns the scenarios in which a request fails at a point: the first of its name, and where the call asks the same
/// before and after its effect, the first one after it too.
fn request_fault_scenarios(number: usize, point: &Point, own: &[&Point]) -> Vec<Scenario> {
    let (request, kind) = match point.at {
        PointKind::Looks(request) => (request, RequestKind::Read),
        PointKind::Acts(request) => (request, RequestKind::Change),
        _ => return Vec::new(),
    };
    let after = match point.nth {
        0 => "",
        _ if is_first_after_effect(point, own) => "-after",
        _ => return Vec::new(),
    };
    let fitting = REQUEST_FAULTS.iter().filter(|(_, outcome)| {
        let is_lag = matches!(outcome, RequestOutcome::LagsBehind(_));
        outcome.fits_request(request, kind) && (!is_lag || may_lag(point))
    });
    fitting
        .map(|(failure, outcome)| Scenario {
            id: format!("api:{number}:{request}{after}:{failure}"),
            cell: Some((number, *failure)),
            plan: FaultPlan::One(point.clone(), Fault::Request(*outcome)),
        })
        .collect()
}

/// The deaths after which an operator does something else than resume: each leaves the call in another state.
const OPERATED_DEATHS: &[&str] = &["after-begin", "after-effect", "after-accepted", "after-record"];

/// A run that stands still, and of which an operator does something else than resume it.
struct Standstill<'a> {
    /// The number of the call in which it stopped.
    number: usize,
    point: &'a Point,
    /// What happened there: the process died, or a failed call is held.
    fault: Fault,
    /// The word for it, in the names of scenarios.
    word: String,
}

impl<'a> Standstill<'a> {
    fn from_crash(number: usize, crash: &Scenario, own: &[&'a Point]) -> Option<Self> {
        let (FaultPlan::One(at, fault), Some((_, death))) = (&crash.plan, crash.cell) else { return None };
        let point = own.iter().copied().find(|point| *point == at)?;
        let word = crash.id.rsplit(':').next().filter(|_| OPERATED_DEATHS.contains(&death))?.to_owned();
        Some(Self { number, point, fault: *fault, word })
    }

    /// Returns the run of which a call is held that failed at the first request of its kind.
    fn from_refusal(number: usize, point: &'a Point) -> Option<Self> {
        let PointKind::Acts(request) = point.at else { return None };
        let word = format!("{request}-held");
        (point.nth == 0).then_some(Self { number, point, fault: Fault::HeldRefusal, word })
    }

    /// Returns the scenarios in which an operator gives the run up, or decides, or the clock is another.
    fn list_operator_scenarios(&self) -> Vec<Scenario> {
        let acts = if self.fault == Fault::HeldRefusal { ACTS_AT_HELD_CALL } else { ACTS_AFTER_DEATH };
        let operator_scenario =
            |(word, act): &(&'static str, OperatorAct)| self.operator_scenario(word, word, act.clone());
        acts.iter().map(operator_scenario).collect()
    }

    /// Returns the scenario in which an operator does this.
    fn operator_scenario(&self, word: &str, kind: &'static str, act: OperatorAct) -> Scenario {
        let Self { number, point, fault, word: stop } = self;
        Scenario {
            id: format!("operator:{number}:{stop}:{word}"),
            cell: Some((*number, kind)),
            plan: FaultPlan::Operated(Point::clone(point), *fault, act),
        }
    }
}

/// How many scenarios an edit of each kind is played in: some of everywhere in the text, and of everywhere in the run.
const SCENARIOS_PER_EDIT_KIND: usize = 16;

/// Returns the scenarios in which the text is edited of a run that stands still: few of all pairs there are, spread over both.
fn edit_scenarios(standstills: &[Standstill<'_>], edits: &[Arc<EditedRunbook>]) -> Vec<Scenario> {
    // A run that has ended is not taken up any more.
    let open: Vec<_> =
        standstills.iter().filter(|stop| stop.point.at != PointKind::Added("finished")).collect();
    let mut scenarios: Vec<Scenario> = Vec::new();
    for (turn, kind) in EDIT_KINDS.into_iter().enumerate() {
        let own: Vec<_> = edits.iter().filter(|edited| edited.edit.kind == kind).collect();
        if own.is_empty() || open.is_empty() {
            continue;
        }
        for nth in 0..SCENARIOS_PER_EDIT_KIND {
            let edited = own[nth * own.len() / SCENARIOS_PER_EDIT_KIND];
            let stop = open[spread_index(nth * EDIT_KINDS.len() + turn, open.len())];
            let act = EditAct {
                edited: Arc::clone(edited),
                approves: false,
                gives_up: nth % 4 == 3,
                at_gate: None,
            };
            let scenario = stop.operator_scenario(&edited.edit.name, kind.word(), OperatorAct::Edit(act));
            if scenarios.iter().all(|known| known.id != scenario.id) {
                scenarios.push(scenario);
            }
        }
    }
    scenarios
}

/// How many scenarios each fault is played in where an edited text is asked about.
const SCENARIOS_PER_EDIT_GATE_FAULT: usize = 6;

/// Returns the scenarios in which the text is edited behind a gate that was passed, and is not simply approved where that is
/// asked: by edits that put something in, of runs that stand still at places spread over what comes behind the gate.
fn edit_gate_scenarios(
    calls: &[RehearsedCall],
    standstills: &[Standstill<'_>],
    edits: &[Arc<EditedRunbook>],
) -> Vec<Scenario> {
    let Some(gate) = calls.iter().position(|call| call.op == APPROVE) else { return Vec::new() };
    let behind: Vec<_> = standstills.iter().filter(|stop| stop.number > gate).collect();
    let own: Vec<_> = edits.iter().filter(|edited| edited.edit.kind == EditKind::Add).collect();
    let mut scenarios: Vec<Scenario> = Vec::new();
    for (turn, (word, fault, _)) in FAULTS_AT_EDIT_GATE.iter().enumerate() {
        for nth in 0..SCENARIOS_PER_EDIT_GATE_FAULT {
            // Edits near the end of the text come after most of what was done.
            let edited = own.get((own.len() * (nth + 1) / SCENARIOS_PER_EDIT_GATE_FAULT).saturating_sub(1));
            let stop = behind.get(spread_index(nth * FAULTS_AT_EDIT_GATE.len() + turn, behind.len()));
            let (Some(edited), Some(stop)) = (edited, stop) else { continue };
            let edited = Arc::clone(edited);
            let id = format!("gate-of-{}:{word}", edited.edit.name);
            let act = EditAct { edited, approves: false, gives_up: false, at_gate: Some(*fault) };
            let scenario = stop.operator_scenario(&id, EditKind::Add.word(), OperatorAct::Edit(act));
            if scenarios.iter().all(|known| known.id != scenario.id) {
                scenarios.push(scenario);
            }
        }
    }
    scenarios
}

/// Returns an index below `count`, so that those of successive turns lie far apart, however many there are.
const fn spread_index(turn: usize, count: usize) -> usize {
    // The golden section, in thousandths.
    (turn * 618 % 1000) * count / 1000
}

/// The word for a gate, in the names of scenarios.
const AT_GATE: &str = "gate";

/// Returns the scenarios at a gate: it is rejected; nobody is there, and an operator decides later, gives the run up, or
/// edits what is before, at or behind it.
fn gate_scenarios(number: usize, gate: &Point, edits: &[Arc<EditedRunbook>]) -> Vec<Scenario> {
    let scenario = |word: &str, kind: &'static str, plan: FaultPlan| Scenario {
        id: format!("operator:{number}:{AT_GATE}:{word}"),
        cell: Some((number, kind)),
        plan,
    };
    let unattended = |act| FaultPlan::Operated(gate.clone(), Fault::Absence, act);
    let rejected = scenario("reject", "reject", FaultPlan::One(gate.clone(), Fault::Rejection));
    let decided = ACTS_AT_GATE.iter().map(|(word, act)| scenario(word, word, unattended(act.clone())));
    let of_gate = edits.iter().filter(|edited| edited.edit.statement.contains(APPROVE));
    let edited = of_gate.take(EDITS_PER_GATE).flat_map(|edited| {
        [false, true].map(|approves| {
            let act = EditAct { edited: Arc::clone(edited), approves, gives_up: false, at_gate: None };
            let word = format!("{}{}", edited.edit.name, if approves { "-approved" } else { "" });
            scenario(&word, edited.edit.kind.word(), unattended(OperatorAct::Edit(act)))
        })
    });
    [rejected].into_iter().chain(decided).chain(edited).collect()
}

/// How many edits of a gate's statement are played at each gate.
const EDITS_PER_GATE: usize = 6;

/// Returns whether a call has done all that it does once the request of a point was served: only then does a person who
/// looks say that it is done.
fn is_last_act(point: &Point, own: &[&Point]) -> bool {
    let last = own.iter().rev().find(|point| matches!(point.at, PointKind::Acts(_)));
    last.is_some_and(|last| last.at == point.at)
}

/// Returns the scenarios in which another process takes the run over at a point, or nothing is answered after it and a
/// person decides; `result` is what the call gives back, where it is all done then.
fn operator_scenarios(number: usize, point: &Point, result: Option<&Value>) -> Vec<Scenario> {
    let PointKind::Acts(request) = point.at else { return Vec::new() };
    let scenario = |word: &'static str, plan| Scenario {
        id: format!("operator:{number}:{request}:{word}"),
        cell: Some((number, word)),
        plan,
    };
    let meanwhile =
        [("take-over", take_over_fault_at(point.at)), ("clock-jump", clock_jump_fault_at(point.at))];
    let meanwhile = meanwhile
        .into_iter()
        .filter(|_| point.nth == 0)
        .filter_map(|(word, fault)| Some(scenario(word, FaultPlan::One(point.clone(), fault?))));
    let silences = outage_outcomes_at(point, result).into_iter().map(|(word, outcome, decision)| {
        let act = OperatorAct::Decide(decision);
        scenario(word, FaultPlan::Operated(point.clone(), Fault::Silence(outcome), act))
    });
    meanwhile.chain(silences).collect()
}

fn seed_scenario(seed: u64, families: FaultSelection, edits: &[Arc<EditedRunbook>]) -> Scenario {
    let edited = families.has(FaultFamily::Operators).then(|| draw_edit(seed, edits)).flatten();
    Scenario { id: format!("seed:{seed}"), cell: None, plan: FaultPlan::Seed(seed, families, edited) }
}

/// Draws the edit that a schedule may have: one of three has one.
fn draw_edit(seed: u64, edits: &[Arc<EditedRunbook>]) -> Option<Arc<EditedRunbook>> {
    let dice = Sha256::digest([&seed.to_be_bytes()[..], &b"edit"[..]].concat());
    let drawn = usize::from(u16::from_be_bytes([dice[1], dice[2]]));
    let index = drawn.checked_rem(edits.len()).filter(|_| dice[0].is_multiple_of(3))?;
    edits.get(index).cloned()
}

/// Returns the worst grade of each cell's scenarios.
pub(super) fn worst_by_cell<T: Copy + Ord>(
    scenarios: &[Scenario],
    grade_of: impl Fn(usize) -> T,
) -> BTreeMap<(usize, &'static str), T> {
    let mut cells: BTreeMap<(usize, &'static str), T> = BTreeMap::new();
    for (at, cell) in scenarios.iter().enumerate().filter_map(|(at, s)| s.cell.map(|cell| (at, cell))) {
        let worst = cells.entry(cell).or_insert_with(|| grade_of(at));
        *worst = (*worst).max(grade_of(at));
    }
    cells
}
