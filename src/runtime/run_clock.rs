//! The time that a script sees: one clock in a run, whatever clocks its targets have.
//!
//! A simulated world's clock runs with the machine's and is set forward where a real platform would be waited for. In a
//! run whose targets are all simulated, `now()` is their clock, so that what the script counts and what its targets
//! answer can be compared. The worlds of one run have one time: whichever is ahead takes the others along. What the
//! script itself waits for passes on every clock alike, and takes as long as it says.

use super::{refusal::Refusal, runbook_error::RunbookError};
use crate::{
    base::{
        clock::{Clock, Uptime},
        lock::lock_unpoisoned,
        moment::{Moment, Span},
        shell::quote_shell_word,
    },
    provider::{self, Fleet, Provider},
};
use std::sync::{Arc, Mutex};

/// The kind of provider whose targets have a clock of their own.
const SIMULATED: &str = "sim";
/// How often `wait_until` asks at its own pace where time is jumped over.
const STEADY_POLLS: u32 = 16;

/// The clock of a run.
pub(super) struct RunClock {
    machine: Arc<dyn Clock>,
    /// The worlds whose time it shows, by name; without any it shows the machine's.
    worlds: Vec<(String, Arc<dyn Provider>)>,
    /// How much later than the machine's clock the worlds were when they were last asked.
    lead: Mutex<Span>,
    /// A time that the run has seen, and how long the machine had been up then: the run's time never goes back.
    floor: Mutex<Option<(Moment, Uptime)>>,
    jumps: bool,
}

impl RunClock {
    /// Returns the machine's clock.
    pub(super) fn of_machine(clock: Arc<dyn Clock>) -> Self {
        Self { machine: clock, worlds: vec![], lead: Mutex::default(), floor: Mutex::default(), jumps: false }
    }

    /// Returns the clock of a rehearsal, whose worlds live by `clock`: of a long wait only some polls are made.
    pub(super) fn for_rehearsal(clock: Arc<dyn Clock>) -> Self {
        Self { jumps: true, ..Self::of_machine(clock) }
    }

    /// Returns the clock of a run on these targets: their own where all are simulated, else the machine's.
    ///
    /// # Errors
    /// A target cannot be opened, or its world's file not be read.
    pub(super) fn for_targets(fleet: &Fleet, targets: &[String]) -> provider::Result<Self> {
        let mut clock = Self::of_machine(Arc::clone(fleet.clock()));
        // A real target is not opened for this.
        if targets.iter().any(|name| fleet.target_config(name).is_ok_and(|t| t.provider != SIMULATED)) {
            return Ok(clock);
        }
        for name in targets {
            let target = fleet.open_target(name)?;
            if target.simulated_clock_lead()?.is_none() {
                clock.worlds.clear();
                break;
            }
            clock.worlds.push((name.clone(), target));
        }
        Ok(clock)
    }

    /// Returns the target whose world's time it shows; nothing where it is the machine's.
    pub(super) fn world(&self) -> Option<&str> {
        self.worlds.first().map(|(name, _)| name.as_str())
    }

    /// Refuses worlds of different times: a moment of one would be another moment in the other.
    ///
    /// # Errors
    /// Two of them, named, and what to do.
    pub(super) fn require_common_time(&self) -> Result<(), Refusal> {
        let leads = self.read_clock_leads()?;
        let Some((first, ahead)) = leads.iter().max_by_key(|(_, lead)| *lead) else { return Ok(()) };
        let Some((second, behind)) = leads.iter().find(|(_, lead)| lead != ahead) else { return Ok(()) };
        let moved: Vec<String> = leads
            .iter()
            .filter(|(_, lead)| *lead != Span::ZERO)
            .map(|(name, _)| format!("`redrill world reset -t {}`", quote_shell_word(name)))
            .collect();
        let message = format!(
            "the simulated worlds of `{first}` and `{second}` have different times: one is {ahead} ahead of this machine, the other {behind}"
        );
        let hint = format!("begin with fresh worlds: {}", moved.join(", "));
        Err(Refusal::Runbook(RunbookError::new(message).with_hint(hint)))
    }

    /// Takes every world along to the time of the one that is ahead.
    ///
    /// # Errors
    /// Whatever a world's file says.
    pub(super) fn align_world_times(&self) -> provider::Result<()> {
        let leads = self.read_clock_leads()?;
        let Some(ahead) = leads.iter().map(|(_, lead)| *lead).max() else { return Ok(()) };
        for ((_, world), (_, lead)) in self.worlds.iter().zip(&leads) {
            if *lead < ahead {
                world.raise_clock_lead(ahead)?;
            }
        }
        *lock_unpoisoned(&self.lead) = ahead;
        Ok(())
    }

    /// Notes a time that was recorded: no later one is earlier.
    pub(super) fn note_recorded_time(&self, at: Moment) {
        self.keep_monotonic(at);
    }

    /// Returns the later of a time and of what the clock must show at least; from then on that is the least. A machine's
    /// clock that is set back makes no deadline later and no span negative: what has passed is counted on its uptime.
    fn keep_monotonic(&self, shown: Moment) -> Moment {
        let up = self.machine.uptime();
        let mut floor = lock_unpoisoned(&self.floor);
        let least = floor
            .as_ref()
            .map(|(at, since)| at.saturating_add(up.since_in_same_boot(since).unwrap_or(Span::ZERO)));
        let now = least.map_or(shown, |least| shown.max(least));
        *floor = Some((now, up));
        now
    }

    /// Returns the time. Where a world's file cannot be read, it is as far ahead as when it last could: the next call
    /// there says what is wrong.
    pub(super) fn now(&self) -> Moment {
        if let Err(error) = self.align_world_times() {
            tracing::warn!(message = error.message, "the clock of a world cannot be read");
        }
        self.keep_monotonic(self.machine.now().saturating_add(*lock_unpoisoned(&self.lead)))
    }

    /// Waits until `span` has passed, on this clock as on the machine's.
    pub(super) async fn sleep(&self, span: Span) {
        self.machine.sleep(span).await;
    }

    /// Returns the pause of `wait_until` after so many polls. Where time is jumped over, a wait of hours is a few polls
    /// more than a wait of minutes: after the first ones, each pause is twice the one before.
    pub(super) fn poll_pause(&self, every: Span, polls: u32) -> Span {
        let doublings = if self.jumps { polls.saturating_sub(STEADY_POLLS).min(30) } else { 0 };
        Span(every.0.saturating_mul(1 << doublings))
    }

    fn read_clock_leads(&self) -> provider::Result<Vec<(&str, Span)>> {
        let mut leads = Vec::new();
        for (name, world) in &self.worlds {
            leads.push((name.as_str(), world.simulated_clock_lead()?.unwrap_or(Span::ZERO)));
        }
        Ok(leads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::VirtualClock;

    #[test]
    fn the_time_of_a_run_never_goes_back() {
        let noon = Moment::parse("2026-11-20T12:00:00Z").expect("a moment");
        let machine = Arc::new(VirtualClock::starting_at(noon));
        let clock = RunClock::of_machine(Arc::clone(&machine) as Arc<dyn Clock>);
        assert_eq!(clock.now(), noon);
        machine.shift_wall_clock(Span::from_secs(-3600));
        machine.advance_by(Span::from_secs(10));
        assert_eq!(clock.now(), noon.saturating_add(Span::from_secs(10)), "what has passed is counted");
        // As at a resume: the time that was recorded is the least.
        let resumed = RunClock::of_machine(Arc::clone(&machine) as Arc<dyn Clock>);
        resumed.note_recorded_time(noon);
        assert_eq!(resumed.now(), noon);
        machine.shift_wall_clock(Span::from_secs(7200));
        assert!(
            resumed.now() > noon.saturating_add(Span::from_secs(3600)),
            "a clock that is set forward is believed"
        );
    }
}
