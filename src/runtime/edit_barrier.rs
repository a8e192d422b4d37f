//! The barrier of an edited script: nothing new takes effect before the script has asked for all that was done.
//!
//! - Each branch of an edited script replays what was recorded, and makes new reads, until its *frontier*: its first new
//!   effect, gate or wait, or its first call that was begun and has no end. There it waits until no branch replays.
//! - Then everything that had begun must have been asked for, except below indexes of a fork that have not started: the
//!   branches before them wait at their frontier, and they start when those go on. Indexes that have records start first,
//!   with threads beyond the limit of their fork, so that few are left to this; no more than the limit go on at once.
//! - What is missing was removed or moved, or something was put before it. A person may allow the latter; where nobody
//!   can be asked, the run stops, and nothing new has happened.

use super::{
    call_path::{CLEAN_UP_PATH, are_in_different_forks},
    deferral_place::DeferralPlace,
};
use crate::{
    base::{lock::lock_unpoisoned, value},
    journal::{EDIT_GATE, Run},
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard},
};
use tokio::sync::watch;

/// The name under which a deferred clean-up is recorded.
pub(super) const DEFER: &str = "defer";

/// A call at which a branch of an edited script would do something new.
#[derive(Debug, Clone)]
pub(super) struct Frontier {
    pub(super) call: String,
    pub(super) op: String,
    pub(super) args: Value,
    /// Where it stands in the script.
    pub(super) at: String,
}

/// A branch that waits at its frontier.
pub(super) struct WaitingBranch {
    number: u64,
    pub(super) rounds: watch::Receiver<u64>,
}

/// Tells, of a gate at a frontier, whether it is withdrawn: its branch goes on with that, and asks nothing.
pub(super) type IsGateWithdrawn = Box<dyn Fn() -> bool + Send + Sync>;

/// What an edited script has not asked for when it comes to something new.
pub(super) struct MissingCalls {
    pub(super) names: Vec<String>,
    /// What is missing and what would be new, a line each.
    pub(super) difference: String,
    /// Why nobody may allow it, if nobody may.
    pub(super) refusal: Option<&'static str>,
}

/// The barrier of one edited script.
pub(super) struct EditBarrier {
    /// What had begun: calls, gates and deferred clean-up, by name.
    begun: BTreeMap<String, BegunCall>,
    state: Mutex<BarrierState>,
    /// How often the branches that waited were let go on.
    round: watch::Sender<u64>,
}

/// Something that had begun when the edited script was taken up.
struct BegunCall {
    op: String,
    args: Value,
    is_open: bool,
    /// Where it stands in the order of clean-up, if that is known.
    place: Option<DeferralPlace>,
}

/// A call at a frontier that was done under another name, which the script has not asked for.
struct Twin<'s> {
    new: &'s Frontier,
    name: &'s str,
    /// Whether it is in an index of a fork that waits for a thread, and may be asked for there.
    waits: bool,
}

#[derive(Default)]
struct BarrierState {
    /// What the script has asked for so far.
    asked: BTreeSet<String>,
    /// How many branches replay.
    replaying: usize,
    /// The frontiers at which the other branches wait, each with the number of its branch.
    waiting: Vec<(u64, Frontier)>,
    /// Of the gates among them that may be withdrawn meanwhile, by the number of its branch.
    withdrawals: BTreeMap<u64, IsGateWithdrawn>,
    /// The number of the next branch that waits.
    next: u64,
    /// The branches that were let go on and have not yet.
    released: BTreeSet<u64>,
    /// The indexes that have not started, by the path of their fork.
    unstarted: BTreeMap<String, BTreeSet<usize>>,
    /// The indexes that go on from a frontier, by the path of their fork.
    acting: BTreeMap<String, ActingForks>,
    /// What somebody has allowed to be missing.
    allowed: BTreeSet<String>,
    /// Whether everything was asked for: no branch waits any more.
    is_open: bool,
}

/// The indexes of one fork that go on from a frontier.
struct ActingForks {
    /// How many of them may, but for those that were under way.
    limit: usize,
    indexes: BTreeSet<usize>,
}

impl ActingForks {
    fn has_room_for(&self, index: usize) -> bool {
        self.indexes.contains(&index) || self.indexes.len() < self.limit
    }
}

impl BarrierState {
    /// Lets a branch go on from its frontier, unless that is more than a fork above it allows at once; returns whether it
    /// goes on. What was under way at once goes on at once, though an edit has lowered the limit.
    fn admit_branch(&mut self, call: &str, had_begun: bool) -> bool {
        let index_in = |path: &str| split_fork(call, path).map(|(index, _)| index);
        let has_room = |(path, fork): (&String, &ActingForks)| {
            index_in(path).is_none_or(|index| fork.has_room_for(index))
        };
        if !had_begun && !self.acting.iter().all(has_room) {
            return false;
        }
        for (path, fork) in &mut self.acting {
            fork.indexes.extend(index_in(path));
        }
        true
    }

    /// Returns the path of the fork whose index a call is in, and its name below that index, where the index waits for a
    /// thread.
    fn find_unstarted_fork<'n>(&self, name: &'n str) -> Option<(&str, &'n str)> {
        self.unstarted.iter().find_map(|(path, indexes)| {
            let (index, below) = split_fork(name, path)?;
            indexes.contains(&index).then_some((path.as_str(), below))
        })
    }
}

/// Splits the name of a call in a fork: the index, and the name below it.
fn split_fork<'n>(name: &'n str, path: &str) -> Option<(usize, &'n str)> {
    let (index, below) = name.strip_prefix(path)?.strip_prefix('/')?.split_once('/')?;
    Some((index.parse().ok()?, below))
}

/// Returns the name that a call below an index of a fork has in the index of another call there.
fn move_to_fork(call: &str, path: &str, below: &str) -> Option<String> {
    let (index, _) = split_fork(call, path)?;
    Some(format!("{path}/{index}/{below}"))
}

impl EditBarrier {
    /// Returns the barrier of a run whose script was edited.
    pub(super) fn for_run(run: &Run) -> Option<Self> {
        if run.source_edition() == 0 {
            return None;
        }
        let names = run.call_names_ever_begun().into_iter().chain(run.call_names_of_operation(DEFER));
        let begun = names
            .filter(|name| !name.starts_with(CLEAN_UP_PATH))
            .filter_map(|name| {
                // The gate of an edition is no part of its text.
                let call = run.recorded_call(&name).filter(|call| call.op != EDIT_GATE)?;
                let (is_open, place) = (call.is_open(), DeferralPlace::of_call(&call));
                Some((name, BegunCall { op: call.op, args: call.args, is_open, place }))
            })
            .collect();
        let state =
            BarrierState { replaying: 1, allowed: run.names_allowed_missing(), ..BarrierState::default() };
        Some(Self { begun, state: Mutex::new(state), round: watch::Sender::new(0) })
    }

    /// Notes that the script has asked for a call, a gate or a clean-up; returns whether somebody had allowed it to be
    /// missing. It is missing no more: what an edit puts before it from now on is asked about.
    pub(super) fn note_asked_by_script(&self, name: &str) -> bool {
        let mut state = self.lock_state();
        state.asked.insert(name.to_owned());
        state.allowed.remove(name)
    }

    /// Returns whether the script has asked for a call, a gate or a clean-up in this evaluation.
    pub(super) fn has_asked(&self, name: &str) -> bool {
        self.lock_state().asked.contains(name)
    }

    /// Returns whether something had begun when the edited script was taken up.
    pub(super) fn has_begun(&self, name: &str) -> bool {
        self.begun.contains_key(name)
    }

    /// Returns whether clean-up which the script now defers earlier was deferred later, as it is recorded.
    pub(super) fn is_swapped(&self, earlier: &str, later: &str) -> bool {
        let place = |name: &str| self.begun.get(name)?.place.as_ref();
        let (Some(own), Some(other)) = (place(earlier), place(later)) else { return false };
        !are_in_different_forks(earlier, later) && own.precedes(earlier, other, later) == Some(false)
    }

    /// Says that clean-up has changed places.
    pub(super) fn describe_swapped(&self, earlier: &str, later: &str) -> String {
        format!(
            "clean-up that was deferred has changed places, and would run in another order{}, and then{}\n  asked     the other way round",
            self.describe_begun_call(later),
            self.describe_begun_call(earlier)
        )
    }

    /// Starts over: the script is evaluated from its top again.
    pub(super) fn restart(&self) {
        let mut state = self.lock_state();
        state.asked.clear();
        state.unstarted.clear();
        state.acting.clear();
        state.waiting.clear();
        state.withdrawals.clear();
        state.replaying = 1;
    }

    /// Notes the indexes of a fork that wait for a thread, and how many of them may go on at once.
    pub(super) fn note_waiting_forks(&self, path: &str, indexes: &BTreeSet<usize>, limit: usize) {
        let mut state = self.lock_state();
        state.unstarted.insert(path.to_owned(), indexes.clone());
        state.acting.insert(path.to_owned(), ActingForks { limit, indexes: BTreeSet::new() });
    }

    /// Notes that an index of a fork is over: another one may go on.
    pub(super) fn note_fork_over(&self, path: &str, index: usize) {
        if let Some(fork) = self.lock_state().acting.get_mut(path) {
            fork.indexes.remove(&index);
        }
    }

    /// Notes that an index of a fork has started.
    pub(super) fn note_started(&self, path: &str, index: usize) {
        if let Some(indexes) = self.lock_state().unstarted.get_mut(path) {
            indexes.remove(&index);
        }
    }

    /// Notes that the branch on this thread goes on as `count` branches; the first takes its place.
    pub(super) fn split_script_branch(&self, count: usize) {
        let mut state = self.lock_state();
        state.replaying = (state.replaying + count).saturating_sub(1);
    }

    /// Counts the branch on this thread as one that waits at a frontier. Returns its number with a receiver that tells
    /// when some branch is let go on, and what is missing if no other one replays; `None` when no branch waits any
    /// more.
    pub(super) fn count_as_waiting(
        &self,
        frontier: Frontier,
        withdrawal: Option<IsGateWithdrawn>,
    ) -> Option<(WaitingBranch, Option<MissingCalls>)> {
        let rounds = self.round.subscribe();
        let mut state = self.lock_state();
        if state.is_open {
            return None;
        }
        let number = state.next;
        state.next += 1;
        state.waiting.push((number, frontier));
        state.withdrawals.extend(withdrawal.map(|is_withdrawn| (number, is_withdrawn)));
        let missing = self.count_one_less_replaying(&mut state);
        Some((WaitingBranch { number, rounds }, missing))
    }

    /// Returns whether a branch was let go on.
    pub(super) fn is_released(&self, branch: &WaitingBranch) -> bool {
        self.lock_state().released.remove(&branch.number)
    }

    /// Counts the branch on this thread as one that is over; returns what is missing if no other one replays.
    pub(super) fn end_script_branch(&self) -> Option<MissingCalls> {
        self.count_one_less_replaying(&mut self.lock_state())
    }

    /// Counts one branch less that replays. If none does, the others are let go on, unless something is missing.
    fn count_one_less_replaying(&self, state: &mut BarrierState) -> Option<MissingCalls> {
        if state.is_open {
            return None;
        }
        state.replaying = state.replaying.saturating_sub(1);
        if state.replaying > 0 || state.waiting.is_empty() || self.release_withdrawn(state) {
            return None;
        }
        let missing = self.find_missing_calls(state);
        let is_allowed = missing.iter().all(|name| state.allowed.contains(name));
        let twin = self.find_twin(state);
        if is_allowed && twin.is_none() {
            self.release_script_branches(state);
            return None;
        }
        Some(self.describe_missing(state, missing, twin.as_ref()))
    }

    /// Lets the branches that wait go on, although something is missing.
    pub(super) fn release_despite_missing(&self, missing: Vec<String>) {
        let mut state = self.lock_state();
        state.allowed.extend(missing);
        self.release_script_branches(&mut state);
    }

    /// Lets the branches go on whose gate is withdrawn; returns whether there are any.
    fn release_withdrawn(&self, state: &mut BarrierState) -> bool {
        let is_withdrawn = |number: &u64| state.withdrawals.get(number).is_some_and(|check| check());
        let (go, stay): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.waiting).into_iter().partition(|(number, _)| is_withdrawn(number));
        state.waiting = stay;
        self.let_go_on(state, go)
    }

    fn let_go_on(&self, state: &mut BarrierState, go: Vec<(u64, Frontier)>) -> bool {
        state.replaying = go.len();
        for (number, _) in go {
            state.withdrawals.remove(&number);
            state.released.insert(number);
        }
        self.round.send_modify(|round| *round += 1);
        state.replaying > 0
    }

    /// Lets branches go on: first those at something that had begun, a gate above all, while what is new waits for what
    /// comes of it; then all of them, but no more of a fork than its limit. One that went on before always may, so that
    /// never all have to stay.
    fn release_script_branches(&self, state: &mut BarrierState) {
        let waiting = std::mem::take(&mut state.waiting);
        let had_begun = |frontier: &Frontier| self.begun.contains_key(&frontier.call);
        let some_had_begun = waiting.iter().any(|(_, frontier)| had_begun(frontier));
        let (go, stay): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|(_, frontier)| {
            had_begun(frontier) == some_had_begun && state.admit_branch(&frontier.call, some_had_begun)
        });
        state.waiting = stay;
        state.is_open = state.waiting.is_empty() && self.find_missing_calls(state).is_empty();
        self.let_go_on(state, go);
    }

    /// Notes that the script has asked for all that it asks for: what is settled by its records waits for nothing.
    pub(super) fn open(&self) {
        self.lock_state().is_open = true;
    }

    /// Returns what had begun and was not asked for, but for what is over and waits for a thread. What is open is never
    /// passed over: a gate that nobody gave may be gone.
    fn find_missing_calls(&self, state: &BarrierState) -> Vec<String> {
        let waits = |name: &str, call: &BegunCall| !call.is_open && state.find_unstarted_fork(name).is_some();
        let missing =
            self.begun.iter().filter(|(name, call)| !state.asked.contains(*name) && !waits(name, call));
        missing.map(|(name, _)| name.clone()).collect()
    }

    /// Returns a new call at a frontier that was done under another name, which the script has not asked for: a step was
    /// renamed or moved. One that nobody can have moved comes before one of which nobody can tell.
    fn find_twin<'s>(&'s self, state: &'s BarrierState) -> Option<Twin<'s>> {
        let new = state.waiting.iter().map(|(_, new)| new).filter(|new| !self.begun.contains_key(&new.call));
        let twins = new.flat_map(|new| self.list_twins(state, new));
        twins.min_by_key(|twin| twin.waits)
    }

    fn list_twins<'s>(&'s self, state: &'s BarrierState, new: &'s Frontier) -> Vec<Twin<'s>> {
        let is_same = |call: &BegunCall| call.op == new.op && call.args == new.args;
        let is_open = |name: &str| !state.asked.contains(name) && !state.allowed.contains(name);
        let same = self.begun.iter().filter(|(name, call)| is_same(call) && is_open(name));
        same.filter_map(|(name, _)| match state.find_unstarted_fork(name) {
            None => Some(Twin { new, name, waits: false }),
            // What the fork of the new call has done under this very name, each fork does for itself.
            Some((path, below)) => {
                let in_own_fork = move_to_fork(&new.call, path, below);
                let is_own_doing = in_own_fork.and_then(|own| self.begun.get(&own)).is_some_and(is_same);
                (!is_own_doing).then_some(Twin { new, name, waits: true })
            }
        })
        .collect()
    }

    /// Says what would happen, what had happened and is missing, and whether a person may allow it.
    fn describe_missing(
        &self,
        state: &BarrierState,
        mut missing: Vec<String>,
        twin: Option<&Twin<'_>>,
    ) -> MissingCalls {
        let is_open = missing.iter().any(|name| self.begun[name].is_open);
        let refusal = is_open.then_some("what is under way must be asked for before anything new happens");
        if let Some(Twin { new, name, waits }) = twin {
            let difference = format!(
                "the call {} was done before as {name}\n  recorded  {}({})\n  asked     the same, in another place\n  at        {}",
                new.call,
                new.op,
                value::strip_tags(&new.args),
                new.at
            );
            missing.push((*name).to_owned());
            let refusal = if *waits { refusal } else { Some("a step was renamed or moved") };
            return MissingCalls { names: missing, difference, refusal };
        }
        let news = state.waiting.iter().map(|(_, new)| {
            format!("\n  asked     {} {}({}) at {}", new.call, new.op, value::strip_tags(&new.args), new.at)
        });
        let gone = missing.iter().map(|name| self.describe_begun_call(name));
        let difference = format!(
            "the edited script comes to something new before it has asked for what was done: that was removed, moved, or something was put before it{}{}",
            gone.collect::<Vec<_>>().concat(),
            news.collect::<Vec<_>>().concat()
        );
        MissingCalls { names: missing, difference, refusal }
    }

    fn describe_begun_call(&self, name: &str) -> String {
        let BegunCall { op, args, .. } = &self.begun[name];
        match args["text"].as_str().filter(|_| op == DEFER) {
            Some(text) => format!("\n  recorded  {name} {text}"),
            None => format!("\n  recorded  {name} {op}({})", value::strip_tags(args)),
        }
    }

    /// Returns what a script that has come to its end has not asked for, in words: what follows from it, its clean-up above
    /// all, would be lost. What somebody allowed to be missing is not.
    pub(super) fn describe_calls_not_asked_for(&self) -> Option<String> {
        let state = self.lock_state();
        let is_lost = |name: &&String| !state.asked.contains(*name) && !state.allowed.contains(*name);
        let lost: Vec<_> =
            self.begun.keys().filter(is_lost).map(|name| self.describe_begun_call(name)).collect();
        (!lost.is_empty()).then(|| {
            format!("the script no longer asks for what was done{}\n  asked     nothing", lost.concat())
        })
    }

    fn lock_state(&self) -> MutexGuard<'_, BarrierState> {
        lock_unpoisoned(&self.state)
    }
}
