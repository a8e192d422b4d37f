//! The rate limit: how many requests are left in the current minute.

use crate::base::lock::lock_unpoisoned;
use std::{
    collections::BTreeMap,
    sync::Mutex,
    time::{Duration, Instant},
};

/// The window of the rate limit.
const RATE_WINDOW: Duration = Duration::from_secs(60);

/// The requests of the current window, by token, endpoint and project.
#[derive(Debug, Default)]
pub(super) struct RequestCounter(Mutex<BTreeMap<String, (Instant, u32)>>);

impl RequestCounter {
    /// Counts a request under `key`.
    ///
    /// Returns how many are left, or `None` if this one is over the limit, and the seconds until the reset.
    pub(super) fn count_against_limit(&self, key: String, per_minute: u32) -> (Option<u32>, u64) {
        let mut counts = lock_unpoisoned(&self.0);
        let (since, count) = counts.entry(key).or_insert_with(|| (Instant::now(), 0));
        if since.elapsed() >= RATE_WINDOW {
            (*since, *count) = (Instant::now(), 0);
        }
        *count = count.saturating_add(1);
        let reset = RATE_WINDOW.saturating_sub(since.elapsed()).as_secs_f64().ceil();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 60")]
        (per_minute.checked_sub(*count), reset as u64)
    }
}
