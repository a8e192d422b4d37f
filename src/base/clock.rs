//! Time as a dependency: nothing above this room asks the machine for the time itself.

use super::moment::{Moment, Span};
use crate::base::lock::lock_unpoisoned;
use async_trait::async_trait;
use std::{
    future::poll_fn,
    sync::{Mutex, MutexGuard},
    task::Poll,
};

/// A source of time that can be waited on.
#[async_trait]
pub trait Clock: Send + Sync {
    /// Returns the present moment.
    fn now(&self) -> Moment;
    /// Waits until `span` has passed on this clock.
    async fn sleep(&self, span: Span);
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
}

/// A clock on which waiting takes no time: it stands still until somebody sleeps, then jumps to when
/// the first sleeper wakes.
#[derive(Debug)]
pub struct VirtualClock(Mutex<ClockState>);

#[derive(Debug)]
struct ClockState {
    now: Moment,
    /// When each sleeper wakes, and its number.
    sleepers: Vec<(Moment, u64)>,
    next: u64,
}

impl VirtualClock {
    /// Returns a clock that stands at `now`.
    pub fn starting_at(now: Moment) -> Self {
        Self(Mutex::new(ClockState { now, sleepers: Vec::new(), next: 0 }))
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
        self.lock_state().now
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
}
