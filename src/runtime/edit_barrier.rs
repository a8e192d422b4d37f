//! The barrier of an edited script: nothing new takes effect before the script has asked for all that was done.
//!
//! - Each branch of an edited script replays what was recorded, and makes new reads, until its *frontier*: its first new
//!   effect, gate or wait, or its first call that was begun and has no end. There it waits until no branch replays.
//! - Then everything that had begun must have been asked for, except below indexes of a fork that have not started: the
//!   branches before them wait at their frontier, and they start when those go on.
//! - What is missing was removed or moved, or something was put before it. A person may allow the latter; where nobody
//!   can be asked, the run stops, and nothing new has happened.

use super::call_path::CLEAN_UP_PATH;
use crate::{
    base::{lock::lock_unpoisoned, value},
    journal::Run,
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
}

#[derive(Default)]
struct BarrierState {
    /// What the script has asked for so far.
    asked: BTreeSet<String>,
    /// How many branches replay.
    replaying: usize,
    /// The frontiers at which the other branches wait.
    waiting: Vec<Frontier>,
    /// The indexes that have not started, by the path of their fork.
    unstarted: BTreeMap<String, BTreeSet<usize>>,
    /// What somebody has allowed to be missing.
    allowed: BTreeSet<String>,
    /// Whether everything was asked for: no branch waits any more.
    is_open: bool,
}

impl EditBarrier {
    /// Returns the barrier of a run whose script was edited.
    pub(super) fn for_run(run: &Run) -> Option<Self> {
        if run.source_edition() == 0 {
            return None;
        }
        let names = run.started_calls().into_iter().chain(run.calls_of(DEFER));
        let begun = names
            .filter(|name| !name.starts_with(CLEAN_UP_PATH))
            .filter_map(|name| {
                let call = run.recorded_call(&name)?;
                let is_open = call.is_open();
                Some((name, BegunCall { op: call.op, args: call.args, is_open }))
            })
            .collect();
        let state = BarrierState { replaying: 1, allowed: run.allowed_missing(), ..BarrierState::default() };
        Some(Self { begun, state: Mutex::new(state), round: watch::Sender::new(0) })
    }

    /// Notes that the script has asked for a call, a gate or a clean-up.
    pub(super) fn note_asked(&self, name: &str) {
        self.lock_state().asked.insert(name.to_owned());
    }

    /// Starts over: the script is evaluated from its top again.
    pub(super) fn restart(&self) {
        let mut state = self.lock_state();
        state.asked.clear();
        state.unstarted.clear();
        state.replaying = 1;
    }

    /// Notes the indexes of a fork that wait for a thread.
    pub(super) fn admit_forks(&self, path: &str, indexes: &BTreeSet<usize>) {
        self.lock_state().unstarted.insert(path.to_owned(), indexes.clone());
    }

    /// Notes that an index of a fork has started.
    pub(super) fn note_started(&self, path: &str, index: usize) {
        if let Some(indexes) = self.lock_state().unstarted.get_mut(path) {
            indexes.remove(&index);
        }
    }

    /// Notes that the branch on this thread goes on as `count` branches; the first takes its place.
    pub(super) fn split_branch(&self, count: usize) {
        let mut state = self.lock_state();
        state.replaying = (state.replaying + count).saturating_sub(1);
    }

    /// Returns a receiver that tells when the branches that wait are let go on; nothing when no branch waits any more.
    pub(super) fn wait_for_round(&self) -> Option<watch::Receiver<u64>> {
        let mut rounds = self.round.subscribe();
        if self.lock_state().is_open {
            return None;
        }
        rounds.mark_unchanged();
        Some(rounds)
    }

    /// Counts the branch on this thread as one that replays no more: it is at a frontier, or over. If none replays, the
    /// others are let go on, unless something is missing.
    pub(super) fn stand_still(&self, at: Option<Frontier>) -> Option<MissingCalls> {
        let mut state = self.lock_state();
        if state.is_open {
            return None;
        }
        state.waiting.extend(at);
        state.replaying = state.replaying.saturating_sub(1);
        if state.replaying > 0 || state.waiting.is_empty() {
            return None;
        }
        let missing = self.find_missing(&state);
        if missing.iter().all(|name| state.allowed.contains(name)) {
            state.is_open = missing.is_empty();
            self.release_branches(&mut state);
            return None;
        }
        Some(self.describe_missing(&state.waiting, missing))
    }

    /// Lets the branches that wait go on, although something is missing.
    pub(super) fn allow_missing(&self, missing: Vec<String>) {
        let mut state = self.lock_state();
        state.allowed.extend(missing);
        self.release_branches(&mut state);
    }

    fn release_branches(&self, state: &mut BarrierState) {
        state.replaying = state.waiting.len();
        state.waiting.clear();
        self.round.send_modify(|round| *round += 1);
    }

    /// Returns what had begun and was not asked for, but for what waits for a thread.
    fn find_missing(&self, state: &BarrierState) -> Vec<String> {
        let waits = |name: &str| {
            state.unstarted.iter().any(|(path, indexes)| {
                let below = name.strip_prefix(path.as_str()).and_then(|rest| rest.strip_prefix('/'));
                let index = below.and_then(|rest| rest.split('/').next()?.parse().ok());
                index.is_some_and(|index: usize| indexes.contains(&index))
            })
        };
        let missing = self.begun.keys().filter(|name| !state.asked.contains(*name) && !waits(name));
        missing.cloned().collect()
    }

    /// Says what would happen, what had happened and is missing, and whether a person may allow it.
    fn describe_missing(&self, waiting: &[Frontier], missing: Vec<String>) -> MissingCalls {
        let twin_of = |new: &Frontier| {
            missing.iter().find(|name| self.begun[*name].op == new.op && self.begun[*name].args == new.args)
        };
        if let Some((new, twin)) = waiting.iter().find_map(|new| Some((new, twin_of(new)?))) {
            let difference = format!(
                "the call {} was done before as {twin}\n  recorded  {}({})\n  asked     the same, in another place\n  at        {}",
                new.call,
                new.op,
                value::strip_tags(&new.args),
                new.at
            );
            return MissingCalls { names: missing, difference, refusal: Some("a step was renamed or moved") };
        }
        let news = waiting.iter().map(|new| {
            format!("\n  asked     {} {}({}) at {}", new.call, new.op, value::strip_tags(&new.args), new.at)
        });
        let gone = missing.iter().map(|name| self.describe_begun(name));
        let difference = format!(
            "the edited script comes to something new before it has asked for what was done: that was removed, moved, or something was put before it{}{}",
            gone.collect::<String>(),
            news.collect::<String>()
        );
        let is_open = missing.iter().any(|name| self.begun[name].is_open);
        let refusal = is_open.then_some("what is under way must be asked for before anything new happens");
        MissingCalls { names: missing, difference, refusal }
    }

    fn describe_begun(&self, name: &str) -> String {
        let BegunCall { op, args, .. } = &self.begun[name];
        match args["text"].as_str().filter(|_| op == DEFER) {
            Some(text) => format!("\n  recorded  {name} {text}"),
            None => format!("\n  recorded  {name} {op}({})", value::strip_tags(args)),
        }
    }

    /// Returns what a script that has come to its end has not asked for, in words: what follows from it, its clean-up above
    /// all, would be lost. Clean-up that somebody allowed to be missing is not.
    pub(super) fn find_lost(&self) -> Option<String> {
        let state = self.lock_state();
        let is_lost = |name: &&String| {
            !state.asked.contains(*name) && !(self.begun[*name].op == DEFER && state.allowed.contains(*name))
        };
        let lost: Vec<_> = self.begun.keys().filter(is_lost).map(|name| self.describe_begun(name)).collect();
        (!lost.is_empty()).then(|| {
            format!("the script no longer asks for what was done{}\n  asked     nothing", lost.concat())
        })
    }

    fn lock_state(&self) -> MutexGuard<'_, BarrierState> {
        lock_unpoisoned(&self.state)
    }
}
