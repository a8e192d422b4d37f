//! Time, injected: nothing above this room asks the machine for the time itself.

use super::moment::{Moment, Span};
use async_trait::async_trait;
use std::{
    future::poll_fn,
    sync::{Mutex, MutexGuard, PoisonError},
    task::Poll,
};

/// A source of time that can be waited on.
#[async_trait]
pub trait Clock: Send + Sync {
    /// Returns the present moment.
    fn now(&self) -> Moment;
    /// Returns when `span` has passed on this clock.
    async fn sleep(&self, span: Span);
}

/// The machine's own clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct Machine;

#[async_trait]
impl Clock for Machine {
    fn now(&self) -> Moment {
        Moment(jiff::Timestamp::now())
    }

    async fn sleep(&self, span: Span) {
        tokio::time::sleep(span.to_std()).await;
    }
}

/// A clock on which waiting takes no time: it stands still until somebody sleeps, and is then set to when the first of
/// the sleepers wakes.
#[derive(Debug)]
pub struct Virtual(Mutex<Hands>);

#[derive(Debug)]
struct Hands {
    now: Moment,
    /// When each sleeper wakes, and its number.
    sleepers: Vec<(Moment, u64)>,
    next: u64,
}

impl Virtual {
    /// Returns a clock that stands at `now`.
    pub fn at(now: Moment) -> Self {
        Self(Mutex::new(Hands { now, sleepers: Vec::new(), next: 0 }))
    }

    /// Sets the clock forward.
    pub fn pass(&self, span: Span) {
        let mut hands = self.hands();
        hands.now = hands.now.plus(span.max(Span::ZERO));
    }

    fn hands(&self) -> MutexGuard<'_, Hands> {
        // Whole after every statement, whoever panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A sleeper's place on the clock, given up when its sleep is no longer waited for.
struct Sleeper<'a>(&'a Virtual, u64);

impl Drop for Sleeper<'_> {
    fn drop(&mut self) {
        self.0.hands().sleepers.retain(|(_, number)| *number != self.1);
    }
}

#[async_trait]
impl Clock for Virtual {
    fn now(&self) -> Moment {
        self.hands().now
    }

    async fn sleep(&self, span: Span) {
        let sleeper = {
            let mut hands = self.hands();
            let (wakes, number) = (hands.now.plus(span.max(Span::ZERO)), hands.next);
            hands.next += 1;
            hands.sleepers.push((wakes, number));
            Sleeper(self, number)
        };
        let mut is_first_look = true;
        poll_fn(|task| {
            let mut hands = self.hands();
            let first = hands.sleepers.iter().min().copied();
            // Whoever else is waited for at the same time lies down before anybody wakes.
            if std::mem::take(&mut is_first_look) || first.is_some_and(|(_, number)| number != sleeper.1) {
                task.waker().wake_by_ref();
                return Poll::Pending;
            }
            if let Some((wakes, _)) = first {
                hands.now = hands.now.max(wakes);
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
        let clock = Virtual::at(Moment(jiff::Timestamp::UNIX_EPOCH));
        for (work, limit, is_in_time) in [(3600, 30, false), (30, 3600, true)] {
            let began = clock.now();
            let done = tokio::select! {
                biased;
                () = clock.sleep(Span::seconds(work)) => true,
                () = clock.sleep(Span::seconds(limit)) => false,
            };
            assert_eq!((done, clock.now().since(began)), (is_in_time, Span::seconds(30)));
        }
        clock.sleep(Span::seconds(-5)).await;
        assert!(clock.hands().sleepers.is_empty());
    }
}
