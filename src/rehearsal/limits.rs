//! The limits of a rehearsed run. Waiting takes no time there, so that a run without an end would never come back: it is
//! stopped where it has done more than any runbook should, and that is its verdict.

use crate::base::{
    clock::{Clock as _, VirtualClock},
    lock::lock_unpoisoned,
    moment::{Moment, Span},
};
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

/// What one process of a run may do at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProcessLimits {
    /// How many steps of the script it may compute.
    pub(super) steps: u64,
    /// How many calls it may make, those of natives included.
    pub(super) calls: u64,
    /// How much time may pass for it.
    pub(super) time: Span,
}

impl ProcessLimits {
    /// The limits of every rehearsal: a runbook of some thousand calls with waits of months is within them.
    pub(super) const USUAL: Self =
        Self { steps: 20_000_000, calls: 10_000, time: Span::from_secs(365 * 24 * 3600) };
}

/// A limit that a process has met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LimitMet {
    Steps(u64),
    Calls(u64),
    Time(Span),
}

impl LimitMet {
    /// Returns what the process did that met the limit, in one sentence.
    pub(super) fn describe(self) -> String {
        let did = match self {
            Self::Steps(count) => format!("computed {count} steps"),
            Self::Calls(count) => format!("made {count} calls"),
            Self::Time(span) => format!("let {span} pass"),
        };
        format!("one process of the run {did} without coming to an end, and a rehearsal stops it there")
    }
}

/// Measures what the process of a run does that is at work.
pub(super) struct ProcessMeter {
    limits: ProcessLimits,
    clock: Arc<VirtualClock>,
    steps: AtomicU64,
    calls: AtomicU64,
    began: Mutex<Moment>,
    met: Mutex<Option<LimitMet>>,
}

impl ProcessMeter {
    pub(super) fn new(limits: ProcessLimits, clock: Arc<VirtualClock>) -> Self {
        let began = Mutex::new(clock.without_wall_clock_shift().now());
        Self {
            limits,
            clock,
            steps: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            began,
            met: Mutex::default(),
        }
    }

    /// Begins with the next process.
    pub(super) fn begin_process(&self) {
        self.steps.store(0, Ordering::Relaxed);
        self.calls.store(0, Ordering::Relaxed);
        *lock_unpoisoned(&self.began) = self.clock.without_wall_clock_shift().now();
    }

    /// Returns the limit that any process has met.
    pub(super) fn limit_met(&self) -> Option<LimitMet> {
        *lock_unpoisoned(&self.met)
    }

    /// Counts a step of the script; returns the limit when it is met by that.
    pub(super) fn count_step(&self) -> Option<LimitMet> {
        let limit = self.limits.steps;
        (self.steps.fetch_add(1, Ordering::Relaxed) == limit)
            .then(|| self.record_limit_met(LimitMet::Steps(limit)))
    }

    /// Counts a call; returns the limit when it is met by that, or by the time that has passed.
    pub(super) fn count_call(&self) -> Option<LimitMet> {
        let ProcessLimits { calls, time, .. } = self.limits;
        let passed =
            self.clock.without_wall_clock_shift().now().duration_since(*lock_unpoisoned(&self.began));
        match self.calls.fetch_add(1, Ordering::Relaxed) {
            count if count == calls => Some(self.record_limit_met(LimitMet::Calls(calls))),
            _ if passed > time => Some(self.record_limit_met(LimitMet::Time(time))),
            _ => None,
        }
    }

    fn record_limit_met(&self, limit: LimitMet) -> LimitMet {
        *lock_unpoisoned(&self.met).get_or_insert(limit)
    }
}
