//! Whoever stands at every point of a run, and lets things go wrong there.
//!
//! A point is where something can go wrong: a record about to be written, or written; a request about to be made, or
//! served. It is named by the call it belongs to and how often that call has been there, never by a count over the
//! whole run: so a point is the same one whatever runs beside it.

use super::plan::Script;
use crate::{
    base::moment::Span,
    journal::{Record, Witness},
    provider::sim::gate::{Fate, Keeper, Kind, Request},
    runtime::{Answer, Choice, Event, Question, Watch},
};
use sha2::{Digest as _, Sha256};
use std::{
    cell::RefCell,
    collections::HashMap,
    panic,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// How late an answer is that no call minds.
pub(super) const LATE: Span = Span::seconds(5);
/// How late an answer is that comes after every usual time limit.
pub(super) const TOO_LATE: Span = Span::seconds(25 * 3600);

/// In how many processes of one run something goes wrong, at most, where chance decides.
const BAD_DAYS: u32 = 4;

thread_local! {
    /// The call that this thread is in; empty between calls.
    static CALL: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Where something can go wrong.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Point {
    /// The call; empty for what belongs to the run itself.
    pub(super) call: String,
    /// What happens there.
    pub(super) at: At,
    /// How often the call was there before, in this process.
    pub(super) nth: u32,
}

/// What happens at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum At {
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
    fn told(&self, mishap: Mishap) -> String {
        let at = match self.at {
            At::Adding(kind) => format!("before the record `{kind}`"),
            At::Added(kind) => format!("after the record `{kind}`"),
            At::Looks(name) | At::Acts(name) => format!("at the request `{name}`"),
            At::Served(name) => format!("after the request `{name}` was served"),
        };
        let what = match mishap {
            Mishap::Dies => "killed",
            Mishap::Fails(Fate::Served) => "served",
            Mishap::Fails(Fate::Refused) => "refused",
            Mishap::Fails(Fate::Throttled) => "throttled",
            Mishap::Fails(Fate::Failed) => "server error",
            Mishap::Fails(Fate::Late(TOO_LATE)) => "answered too late",
            Mishap::Fails(Fate::Late(_)) => "answered late",
            Mishap::Fails(Fate::Lost) => "lost, no answer",
            Mishap::Fails(Fate::Unanswered) => "served, no answer",
        };
        format!("{what} {at} of {}", shown(&self.call))
    }
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mishap {
    /// The process dies.
    Dies,
    /// A request is not simply served.
    Fails(Fate),
}

/// One passing of a point.
#[derive(Debug, Clone)]
pub(super) struct Passed {
    pub(super) point: Point,
    /// The operation or native that a record is about.
    pub(super) op: Option<String>,
}

/// Lets go wrong what the script of a scenario says.
pub(super) struct Disturber {
    script: Script,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    process: u32,
    is_dead: bool,
    is_over: bool,
    visits: HashMap<(String, At), u32>,
    passed: Vec<Passed>,
    asked_again: Vec<String>,
    failed: u32,
    story: Vec<String>,
}

impl Disturber {
    pub(super) fn new(script: Script) -> Self {
        CALL.with_borrow_mut(String::clear);
        Self { script, state: Mutex::default() }
    }

    /// Begins the next process: nobody is dead in it.
    pub(super) fn revive(&self) {
        CALL.with_borrow_mut(String::clear);
        let mut state = self.state();
        state.process += 1;
        state.is_dead = false;
        state.visits.clear();
    }

    /// Returns every point that was passed, in order.
    pub(super) fn score(&self) -> Vec<Passed> {
        std::mem::take(&mut self.state().passed)
    }

    /// Returns what was asked for again although the world had done it.
    pub(super) fn asked_again(&self) -> Vec<String> {
        self.state().asked_again.clone()
    }

    /// Returns what went wrong, in order.
    pub(super) fn story(&self) -> Vec<String> {
        self.state().story.clone()
    }

    /// Returns how many requests failed, and whether the last process died.
    pub(super) fn mishaps(&self) -> (u32, bool) {
        let state = self.state();
        (state.failed, state.is_dead)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nobody dies while holding it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes a point, if whoever comes there survives it.
    fn pass(&self, call: String, at: At, op: Option<&str>) -> Fate {
        let mishap = {
            let mut state = self.state();
            let visits = state.visits.entry((call.clone(), at)).or_default();
            let nth = *visits;
            *visits += 1;
            let point = Point { call, at, nth };
            let mishap = if state.is_dead { Some(Mishap::Dies) } else { self.decide(&mut state, &point) };
            if let Some(mishap) = mishap.filter(|_| !state.is_dead) {
                let told = point.told(mishap);
                state.story.push(told);
            }
            match mishap {
                Some(Mishap::Dies) => state.is_dead = true,
                Some(Mishap::Fails(_)) => state.failed += 1,
                None => {}
            }
            if matches!(self.script, Script::Undisturbed) {
                state.passed.push(Passed { point, op: op.map(str::to_owned) });
            }
            mishap
        };
        match mishap {
            Some(Mishap::Dies) => panic::resume_unwind(Box::new("killed in a rehearsal")),
            Some(Mishap::Fails(fate)) => fate,
            None => Fate::Served,
        }
    }

    fn decide(&self, state: &mut State, point: &Point) -> Option<Mishap> {
        match &self.script {
            Script::One(at, mishap) if !state.is_over && at == point => {
                state.is_over = true;
                Some(*mishap)
            }
            Script::Undisturbed | Script::One(..) => None,
            Script::Seed(seed) => {
                (state.process < BAD_DAYS).then(|| by_chance(*seed, state.process, point))?
            }
        }
    }
}

/// Returns what goes wrong at a point, which follows from the seed and the point alone.
fn by_chance(seed: u64, process: u32, point: &Point) -> Option<Mishap> {
    let mut hash = Sha256::new();
    hash.update(seed.to_be_bytes());
    hash.update(process.to_be_bytes());
    hash.update(format!("{point:?}"));
    let dice = hash.finalize();
    // Some days are worse than others.
    let odds = [6, 4, 2][usize::from(seed.to_be_bytes()[7] % 3)] * 5;
    if u32::from(u16::from_be_bytes([dice[0], dice[1]])) % odds != 0 {
        return None;
    }
    Some(match (point.at, dice[2] % 9) {
        (At::Adding(_) | At::Added(_) | At::Served(_), _) | (_, 0 | 1) => Mishap::Dies,
        (_, 2) => Mishap::Fails(Fate::Refused),
        (_, 3) => Mishap::Fails(Fate::Throttled),
        (_, 4) => Mishap::Fails(Fate::Failed),
        (_, 5) => Mishap::Fails(Fate::Late(LATE)),
        (_, 6) => Mishap::Fails(Fate::Late(TOO_LATE)),
        (At::Acts(_), 7) => Mishap::Fails(Fate::Unanswered),
        (At::Acts(_) | At::Looks(_), _) => Mishap::Fails(Fate::Lost),
    })
}

impl Keeper for Disturber {
    fn fate(&self, request: &Request<'_>) -> Fate {
        let at = match request.kind {
            Kind::Looks => At::Looks(request.name),
            Kind::Makes | Kind::Removes => At::Acts(request.name),
        };
        let call = CALL.with_borrow(String::clone);
        if request.is_done && request.kind == Kind::Makes {
            self.state().asked_again.push(format!("`{}` of {}", request.name, shown(&call)));
        }
        self.pass(call, at, None)
    }

    fn served(&self, request: &Request<'_>) {
        if request.kind != Kind::Looks {
            self.pass(CALL.with_borrow(String::clone), At::Served(request.name), None);
        }
    }
}

impl Witness for Disturber {
    fn adding(&self, record: &Record) {
        let call = record.call().unwrap_or_default().to_owned();
        self.pass(call, At::Adding(record.kind()), op_of(record));
    }

    fn added(&self, record: &Record) {
        let call = record.call().unwrap_or_default().to_owned();
        CALL.with_borrow_mut(|current| match record {
            Record::End { .. } => current.clear(),
            Record::Begin { .. } => current.clone_from(&call),
            _ => {}
        });
        self.pass(call, At::Added(record.kind()), op_of(record));
    }
}

impl Watch for Disturber {
    fn event(&self, event: &Event<'_>) {
        if let Event::CallStarted { call, .. } = event {
            CALL.with_borrow_mut(|current| (*call).clone_into(current));
        }
    }

    /// Whoever rehearses approves: what is rehearsed is what comes after.
    fn ask(&self, question: &Question) -> Option<Answer> {
        let approves = || Answer { choice: Choice::Approve, by: "the rehearsal".into() };
        matches!(question, Question::Approve { .. }).then(approves)
    }
}

fn op_of(record: &Record) -> Option<&str> {
    match record {
        Record::Begin { op, .. } | Record::End { op, .. } => Some(op),
        _ => None,
    }
}

fn shown(call: &str) -> &str {
    if call.is_empty() { "the run" } else { call }
}
