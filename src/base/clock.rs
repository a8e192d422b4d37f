//! Time as a dependency: nothing above this room asks the machine for the time itself.

use super::moment::{Moment, Span};
use crate::base::lock::lock_unpoisoned;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::{
    future::poll_fn,
    sync::{Arc, LazyLock, Mutex, MutexGuard},
    task::Poll,
};

/// A source of time that can be waited on.
#[async_trait]
pub trait Clock: Send + Sync {
    /// Returns the present moment.
    fn now(&self) -> Moment;
    /// Waits until `span` has passed on this clock.
    async fn sleep(&self, span: Span);
    /// Returns how long the machine has been up, on a clock that nobody sets and that does not stand still while the
    /// machine is suspended. A clock that is not the machine's has been up since 1970.
    fn uptime(&self) -> Uptime {
        let up = self.now().duration_since(Moment(jiff::Timestamp::UNIX_EPOCH));
        Uptime { boot: "virtual".into(), millis: up.as_millis() }
    }
}

/// A reading of the time that a machine has been up. Two readings can be compared only within one boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Uptime {
    /// What names the boot.
    pub boot: String,
    /// The time since then, in milliseconds.
    pub millis: i64,
}

impl Uptime {
    /// Returns the reading `span` later.
    #[must_use]
    pub fn saturating_add(&self, span: Span) -> Self {
        Self { boot: self.boot.clone(), millis: self.millis.saturating_add(span.as_millis()) }
    }

    /// Returns the time from an earlier reading to this one; `None` when the machine was booted in between.
    pub fn since_in_same_boot(&self, earlier: &Uptime) -> Option<Span> {
        (self.boot == earlier.boot).then(|| Span::from_millis(self.millis.saturating_sub(earlier.millis)))
    }
}

/// Measures how long something takes, on a clock that nobody sets.
pub struct Stopwatch<'a> {
    clock: &'a dyn Clock,
    began: Uptime,
}

impl<'a> Stopwatch<'a> {
    /// Begins to measure.
    pub fn start(clock: &'a dyn Clock) -> Self {
        Self { clock, began: clock.uptime() }
    }

    /// Returns the time that has passed.
    pub fn elapsed(&self) -> Span {
        self.clock.uptime().since_in_same_boot(&self.began).unwrap_or(Span::ZERO)
    }

    /// Returns what is left of `limit`, zero where nothing is.
    pub fn remaining_of(&self, limit: Span) -> Span {
        Span(limit.0.saturating_sub(self.elapsed().0)).max(Span::ZERO)
    }
}

/// The machine's own clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Moment {
        Moment(jiff::Timestamp::now())
    }

    async fn sleep(&self, span: Span) {
        tokio::time::sleep(span.to_std()).await;
    }

    fn uptime(&self) -> Uptime {
        let up = rustix::time::clock_gettime(UPTIME_CLOCK);
        let millis = up.tv_sec.saturating_mul(1000).saturating_add(up.tv_nsec / 1_000_000);
        Uptime { boot: BOOT_ID.clone(), millis }
    }
}

/// The clock that goes on while the machine sleeps.
#[cfg(target_os = "linux")]
const UPTIME_CLOCK: rustix::time::ClockId = rustix::time::ClockId::Boottime;
/// The clock that nobody sets; on these systems it goes on while the machine sleeps, or there is none that does.
#[cfg(not(target_os = "linux"))]
const UPTIME_CLOCK: rustix::time::ClockId = rustix::time::ClockId::Monotonic;

/// The name of this boot. Where the system has none, no two processes share one: what they recorded is then waited for
/// in full.
static BOOT_ID: LazyLock<String> = LazyLock::new(|| {
    let named = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
    named.map_or_else(|| format!("process {}", std::process::id()), |id| id.trim().to_owned())
});

/// A clock on which waiting takes no time: it stands still until somebody sleeps, then jumps to when
/// the first sleeper wakes. As on a machine, it can be set, and booted anew; the time that really passes knows of neither.
#[derive(Debug)]
pub struct VirtualClock(Mutex<ClockState>);

#[derive(Debug)]
struct ClockState {
    /// The time that really passes.
    now: Moment,
    /// How much later than that the clock shows; negative where it is slow.
    ahead: Span,
    /// How often the machine was booted anew, and when it was last.
    boots: u32,
    booted_at: Moment,
    /// When each sleeper wakes, and its number.
    sleepers: Vec<(Moment, u64)>,
    next: u64,
}

impl VirtualClock {
    /// Returns a clock that stands at `now`.
    pub fn starting_at(now: Moment) -> Self {
        let booted_at = Moment(jiff::Timestamp::UNIX_EPOCH);
        let (ahead, sleepers) = (Span::ZERO, Vec::new());
        Self(Mutex::new(ClockState { now, ahead, boots: 0, booted_at, sleepers, next: 0 }))
    }

    /// Sets what the clock shows forward, or back; no time passes.
    pub fn shift_wall_clock(&self, span: Span) {
        let mut state = self.lock_state();
        state.ahead = Span(state.ahead.0.saturating_add(span.0));
    }

    /// Boots the machine anew; no time passes.
    pub fn reboot(&self) {
        let mut state = self.lock_state();
        state.boots += 1;
        state.booted_at = state.now;
    }

    /// Returns the time that really passes, whatever the clock shows: the time of everybody else.
    pub fn without_wall_clock_shift(self: &Arc<Self>) -> UnshiftedClock {
        UnshiftedClock(Arc::clone(self))
    }

    /// Sets the clock forward.
    pub fn advance_by(&self, span: Span) {
        let mut state = self.lock_state();
        state.now = state.now.saturating_add(span.max(Span::ZERO));
    }

    fn lock_state(&self) -> MutexGuard<'_, ClockState> {
        // The state is consistent after every statement, so a poisoned lock is usable.
        lock_unpoisoned(&self.0)
    }
}

/// A sleeper's entry on the clock; removed when its future is dropped.
struct Sleeper<'a>(&'a VirtualClock, u64);

impl Drop for Sleeper<'_> {
    fn drop(&mut self) {
        self.0.lock_state().sleepers.retain(|(_, number)| *number != self.1);
    }
}

#[async_trait]
impl Clock for VirtualClock {
    fn now(&self) -> Moment {
        let state = self.lock_state();
        state.now.saturating_add(state.ahead)
    }

    fn uptime(&self) -> Uptime {
        let state = self.lock_state();
        let boot = match state.boots {
            0 => "virtual".to_owned(),
            n => format!("virtual {n}"),
        };
        Uptime { boot, millis: state.now.duration_since(state.booted_at).as_millis() }
    }

    async fn sleep(&self, span: Span) {
        let sleeper = {
            let mut state = self.lock_state();
            let (wakes, number) = (state.now.saturating_add(span.max(Span::ZERO)), state.next);
            state.next += 1;
            state.sleepers.push((wakes, number));
            Sleeper(self, number)
        };
        let mut is_first_look = true;
        poll_fn(|task| {
            let mut state = self.lock_state();
            let first = state.sleepers.iter().min().copied();
            // Yield once first, so that futures polled alongside register their sleep before anyone wakes.
            if std::mem::take(&mut is_first_look) || first.is_some_and(|(_, number)| number != sleeper.1) {
                task.waker().wake_by_ref();
                return Poll::Pending;
            }
            if let Some((wakes, _)) = first {
                state.now = state.now.max(wakes);
            }
            Poll::Ready(())
        })
        .await;
    }
}

/// The time that really passes on a [`VirtualClock`], which nobody sets.
#[derive(Debug, Clone)]
pub struct UnshiftedClock(Arc<VirtualClock>);

#[async_trait]
impl Clock for UnshiftedClock {
    fn now(&self) -> Moment {
        self.0.lock_state().now
    }

    async fn sleep(&self, span: Span) {
        self.0.sleep(span).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_of_two_sleepers_wakes_first() {
        let clock = VirtualClock::starting_at(Moment(jiff::Timestamp::UNIX_EPOCH));
        for (work, limit, is_in_time) in [(3600, 30, false), (30, 3600, true)] {
            let began = clock.now();
            let done = tokio::select! {
                biased;
                () = clock.sleep(Span::from_secs(work)) => true,
                () = clock.sleep(Span::from_secs(limit)) => false,
            };
            assert_eq!((done, clock.now().duration_since(began)), (is_in_time, Span::from_secs(30)));
        }
        clock.sleep(Span::from_secs(-5)).await;
        assert!(clock.lock_state().sleepers.is_empty());
    }

    #[tokio::test]
    async fn a_clock_that_is_set_is_set_for_its_machine_alone() {
        let began = Moment(jiff::Timestamp::UNIX_EPOCH).saturating_add(Span::from_secs(100));
        let clock = Arc::new(VirtualClock::starting_at(began));
        let (real, before) = (clock.without_wall_clock_shift(), clock.uptime());
        clock.shift_wall_clock(Span::from_secs(-60));
        clock.sleep(Span::from_secs(10)).await;
        assert_eq!(clock.now().duration_since(began), Span::from_secs(-50));
        assert_eq!(real.now().duration_since(began), Span::from_secs(10));
        assert_eq!(clock.uptime().since_in_same_boot(&before), Some(Span::from_secs(10)));
        clock.reboot();
        clock.sleep(Span::from_secs(1)).await;
        assert_eq!((clock.uptime().since_in_same_boot(&before), clock.uptime().millis), (None, 1000));
    }
}
