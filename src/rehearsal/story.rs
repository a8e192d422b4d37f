//! The story of one scenario: its processes and records, each fault where it struck, and what differs in the end.

use super::{
    points::{Fault, InjectedFault, render_call},
    scenario_result::ScenarioResult,
    world_diff::{WorldDifference, diff_worlds},
};
use crate::{
    base::moment::Moment,
    journal::{JournalEntry, RunFold},
};
use serde::Serialize;

/// What happened in a scenario, from its first process to the world that it leaves.
pub struct Story {
    /// The id of the scenario.
    pub scenario: String,
    pub started_at: Moment,
    pub events: Vec<StoryEvent>,
    /// What the records come to.
    pub fold: RunFold,
    /// Why the run was refused, if it was.
    pub refused: Option<String>,
    pub differences: Vec<WorldDifference>,
}

/// One event of a story.
pub enum StoryEvent {
    /// A process begins.
    Process {
        /// Its number, from 1.
        number: usize,
        /// How the process before it ended; nothing for the first.
        after: Option<ProcessEnd>,
        /// What was done before it, other than to wait.
        act: Option<String>,
    },
    /// A record that was kept.
    Record(JournalEntry),
    /// A fault strikes.
    Fault {
        at: Moment,
        /// The call in which it strikes, or `the run`.
        call: String,
        /// The point of the call.
        point: String,
        /// What happens there.
        what: &'static str,
        /// How many records are lost with the process, because they were in memory only.
        lost_records: usize,
    },
}

/// How a process ended after which there is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessEnd {
    /// A fault killed it.
    Killed,
    /// The run stopped by itself.
    Stopped,
}

impl Story {
    /// Returns the story of a scenario whose records were counted.
    pub(super) fn from_result(
        scenario: &str,
        started_at: Moment,
        undisturbed: &ScenarioResult,
        result: ScenarioResult,
    ) -> Self {
        Self {
            scenario: scenario.into(),
            started_at,
            events: list_events(&result),
            differences: diff_worlds(&undisturbed.worlds, &result.worlds),
            fold: result.fold,
            refused: result.refused,
        }
    }
}

fn list_events(result: &ScenarioResult) -> Vec<StoryEvent> {
    let mut events = Vec::new();
    let (mut kept, mut after) = (0, None);
    for (process, end) in result.kept_records.iter().copied().enumerate() {
        let end = end.min(result.entries.len()).max(kept);
        let act = result.acts.iter().find(|(before, _)| *before == process).map(|(_, act)| act.describe());
        events.push(StoryEvent::Process { number: process + 1, after, act });
        let own: Vec<_> = result.faults.iter().filter(|fault| fault.process == process).collect();
        push_process_events(&result.entries[kept..end], &own, kept == 0, &mut events);
        let is_killed = own.iter().any(|fault| fault.fault == Fault::Crash);
        after = Some(if is_killed { ProcessEnd::Killed } else { ProcessEnd::Stopped });
        kept = end;
    }
    events
}

/// Adds the records and faults of one process in their order.
fn push_process_events(
    entries: &[JournalEntry],
    faults: &[&InjectedFault],
    is_first: bool,
    events: &mut Vec<StoryEvent>,
) {
    let mut shown = 0;
    for fault in faults {
        let before = count_records_before(fault, is_first && !entries.is_empty());
        let kept = before.min(entries.len()).max(shown);
        events.extend(entries[shown..kept].iter().cloned().map(StoryEvent::Record));
        shown = kept;
        events.push(StoryEvent::Fault {
            at: fault.at,
            call: render_call(&fault.point.call).into(),
            point: fault.point.at.describe(),
            what: fault.fault.describe(),
            lost_records: if fault.fault == Fault::Crash { before - kept.min(before) } else { 0 },
        });
    }
    events.extend(entries[shown..].iter().cloned().map(StoryEvent::Record));
}

/// Returns how many records its process had added when a fault struck. The record that makes the run is added before
/// anybody can observe it.
fn count_records_before(fault: &InjectedFault, makes_run: bool) -> usize {
    let is_before_run = fault.point.call.is_empty() && fault.point.at.is_request() && fault.appended == 0;
    fault.appended + usize::from(makes_run && !is_before_run)
}
