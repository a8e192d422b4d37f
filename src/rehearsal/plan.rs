//! Which scenarios there are: one for each point that the undisturbed run passed and each thing that can go wrong there.

use super::{
    Order,
    disturb::{At, LATE, Mishap, Passed, Point, TOO_LATE},
};
use crate::{base::suggest, ops, provider::sim::gate::Fate, runtime::gate::APPROVE};
use std::collections::{BTreeMap, BTreeSet};

/// Which faults are rehearsed, each on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Faults {
    /// All of them.
    All,
    /// Deaths of the process.
    Crash,
    /// Failures of requests.
    Api,
}

/// What goes wrong in a scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Script {
    /// Nothing.
    Undisturbed,
    /// One thing, once.
    One(Point, Mishap),
    /// Whatever chance says.
    Seed(u64),
}

/// One scenario.
#[derive(Debug, Clone)]
pub(super) struct Scenario {
    /// What names it: `crash:3:after-effect`.
    pub(super) id: String,
    /// The number of its call, and what goes wrong there; nothing for one that chance made.
    pub(super) cell: Option<(usize, &'static str)>,
    pub(super) script: Script,
}

/// What is rehearsed.
pub(super) struct Plan {
    /// The calls by number; the first stands for the run itself.
    pub(super) calls: Vec<Call>,
    pub(super) scenarios: Vec<Scenario>,
}

/// A call of the undisturbed run.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) name: String,
    pub(super) op: String,
}

/// The ways in which a process dies, in the order in which they come in a call.
pub(super) const DEATHS: &[&str] = &[
    "before-begin",
    "after-begin",
    "after-effect",
    "after-accepted",
    "while-waiting",
    "before-record",
    "after-record",
];

/// The ways in which a request fails, and whether only one can that does something.
pub(super) const FAILURES: &[(&str, Fate, bool)] = &[
    ("refused", Fate::Refused, false),
    ("throttled", Fate::Throttled, false),
    ("server-error", Fate::Failed, false),
    ("late", Fate::Late(LATE), false),
    ("too-late", Fate::Late(TOO_LATE), false),
    ("lost", Fate::Lost, false),
    ("unanswered", Fate::Unanswered, true),
];

impl Plan {
    /// Returns the plan for a run that passed these points.
    ///
    /// # Errors
    /// There is no such scenario as the one that is wanted; and the nearest there is.
    pub(super) fn of(score: &[Passed], order: &Order) -> Result<Self, (String, &'static str)> {
        let calls = calls(score);
        let mut scenarios =
            vec![Scenario { id: "undisturbed".into(), cell: None, script: Script::Undisturbed }];
        for (number, call) in calls.iter().enumerate() {
            let own: Vec<&Point> = score.iter().map(|p| &p.point).filter(|p| p.call == call.name).collect();
            if order.faults != Faults::Api {
                scenarios.extend(own.iter().filter_map(|point| crash(number, point, &own)));
            }
            if order.faults != Faults::Crash {
                scenarios.extend(own.iter().flat_map(|point| failures(number, point, &own)));
            }
        }
        scenarios.extend((0..order.seeds).map(|n| seeded(order.seed.wrapping_add(n))));
        let mut plan = Self { calls, scenarios };
        if let Some(only) = &order.only {
            plan.choose(only)?;
        }
        Ok(plan)
    }

    /// Returns a scenario and its place.
    pub(super) fn at(&self, at: usize) -> Option<(usize, &Scenario)> {
        self.scenarios.get(at).map(|scenario| (at, scenario))
    }

    fn choose(&mut self, only: &str) -> Result<(), (String, &'static str)> {
        let seed = only.strip_prefix("seed:").and_then(|n| n.parse().ok());
        let found = seed.map(seeded).or_else(|| self.scenarios.iter().find(|s| s.id == only).cloned());
        let Some(found) = found else {
            let near = suggest::nearest(only, self.scenarios.iter().map(|s| s.id.as_str()));
            let near = near.map(|id| format!("; the nearest is `{id}`")).unwrap_or_default();
            let what = format!("this runbook has no scenario `{only}`{near}");
            return Err((what, "`-o json` lists every scenario there is"));
        };
        self.scenarios = vec![found];
        Ok(())
    }
}

/// Returns the calls of operations, and the natives that wait, in the order in which they were made, behind the run
/// itself. Of all that one `wait_until` asks only the first and the last are there: those between are like the first,
/// and a wait of hours would have more scenarios than anybody waits for.
fn calls(score: &[Passed]) -> Vec<Call> {
    let mut calls = vec![Call { name: String::new(), op: "the run itself".into() }];
    let mut known = BTreeSet::new();
    for passed in score {
        let Some(op) =
            passed.op.as_deref().filter(|op| ["sleep", APPROVE].contains(op) || ops::find(op).is_some())
        else {
            continue;
        };
        if known.insert(passed.point.call.as_str()) {
            calls.push(Call { name: passed.point.call.clone(), op: op.into() });
        }
    }
    let mut last: BTreeMap<&str, u32> = BTreeMap::new();
    for (of, nth) in known.iter().flat_map(|name| rounds(name)) {
        let last = last.entry(of).or_default();
        *last = nth.max(*last);
    }
    calls.retain(|call| rounds(&call.name).iter().all(|(of, nth)| *nth == 0 || last.get(of) == Some(nth)));
    calls
}

/// Returns the rounds of `wait_until` that a call belongs to: the path up to the number, and the number.
fn rounds(call: &str) -> Vec<(&str, u32)> {
    let mut rounds = Vec::new();
    let (mut end, mut is_waiting) = (0, false);
    for segment in call.split('/') {
        end += segment.len();
        if let Some((word, nth)) = segment.rsplit_once('#') {
            if let (true, Ok(nth)) = (is_waiting, nth.parse()) {
                rounds.push((&call[..end - segment.len() + word.len()], nth));
            }
            is_waiting = word == "wait_until";
        }
        end += 1;
    }
    rounds
}

/// Returns the scenario in which the process dies at a point, where that is another death than at the point before.
fn crash(number: usize, point: &Point, own: &[&Point]) -> Option<Scenario> {
    let looks = |at: At| own.iter().filter(|p| p.at == at).count();
    let death = match point.at {
        At::Adding("begin") if point.nth == 0 => "before-begin",
        At::Added("begin") if point.nth == 0 => "after-begin",
        At::Served(_) if point.nth == 0 => "after-effect",
        At::Added("accepted") if point.nth == 0 => "after-accepted",
        at @ At::Looks("observe") if usize::try_from(point.nth) == Ok(looks(at) / 2) => "while-waiting",
        At::Adding("end") => "before-record",
        At::Added("end") => "after-record",
        At::Adding(kind) | At::Added(kind) if number == 0 => return run_crash(point, kind),
        _ => return None,
    };
    let script = Script::One(point.clone(), Mishap::Dies);
    Some(Scenario { id: format!("crash:{number}:{death}"), cell: Some((number, death)), script })
}

/// The same for a record of the run itself.
fn run_crash(point: &Point, kind: &str) -> Option<Scenario> {
    let (when, death) = match point.at {
        At::Adding(_) => ("before", "before-record"),
        _ => ("after", "after-record"),
    };
    let script = Script::One(point.clone(), Mishap::Dies);
    (point.nth == 0).then(|| Scenario {
        id: format!("crash:0:{when}-{kind}"),
        cell: Some((0, death)),
        script,
    })
}

/// Returns the scenarios in which a request fails at a point: the first of its name, and where the call asks the same
/// before and after its effect, the first one after it too.
fn failures(number: usize, point: &Point, own: &[&Point]) -> Vec<Scenario> {
    let (request, acts) = match point.at {
        At::Looks(request) => (request, false),
        At::Acts(request) => (request, true),
        _ => return Vec::new(),
    };
    let after = match point.nth {
        0 => "",
        _ if is_first_after_effect(point, own) => "-after",
        _ => return Vec::new(),
    };
    let fitting = FAILURES.iter().filter(|(_, _, only_acts)| acts || !only_acts);
    fitting
        .map(|(failure, fate, _)| Scenario {
            id: format!("api:{number}:{request}{after}:{failure}"),
            cell: Some((number, *failure)),
            script: Script::One(point.clone(), Mishap::Fails(*fate)),
        })
        .collect()
}

/// Returns whether a request that looks is the first of its name after the call took effect.
fn is_first_after_effect(point: &Point, own: &[&Point]) -> bool {
    let effect = own.iter().position(|p| matches!(p.at, At::Served(_)));
    let after = own.iter().skip(effect.unwrap_or(own.len())).find(|p| p.at == point.at);
    matches!(point.at, At::Looks(_)) && after.is_some_and(|first| *first == point)
}

fn seeded(seed: u64) -> Scenario {
    Scenario { id: format!("seed:{seed}"), cell: None, script: Script::Seed(seed) }
}

/// Returns how many scenarios there are of each cell, with the worst that came of them.
pub(super) fn cells<T: Copy + Ord>(
    scenarios: &[Scenario],
    came_of: impl Fn(usize) -> T,
) -> BTreeMap<(usize, &'static str), T> {
    let mut cells: BTreeMap<(usize, &'static str), T> = BTreeMap::new();
    for (at, cell) in scenarios.iter().enumerate().filter_map(|(at, s)| s.cell.map(|cell| (at, cell))) {
        let worst = cells.entry(cell).or_insert_with(|| came_of(at));
        *worst = (*worst).max(came_of(at));
    }
    cells
}
