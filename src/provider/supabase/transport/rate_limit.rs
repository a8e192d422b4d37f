//! Client-side rate limiting: the platform allows 120 requests a minute per account, endpoint and project.
//!
//! A lane is what the platform counts together. Requests of other lanes are not held up by a full one, so that a fleet
//! goes at full speed. Other processes of the same account count too, which only the answers tell
//! (`X-RateLimit-Remaining`, and `X-RateLimit-Reset` in seconds left).

use crate::base::lock::lock_unpoisoned;
use crate::{
    base::{
        clock::Clock,
        moment::{Moment, Span},
    },
    provider::{Code, Error, Result},
};
use jiff::fmt::rfc2822;
use reqwest::{Method, header::HeaderMap};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard},
};

/// How many requests of one lane go out within [`WINDOW`]: below 120, and the window above a minute, because requests
/// do not arrive as far apart as they were sent.
const REQUESTS_MAX: usize = 118;
const WINDOW: Span = Span::from_secs(61);
/// How long a full lane is waited for at most before it is looked at again, while answers are on their way.
const RECHECK_TIMEOUT: Span = Span::from_secs(1);

/// Every lane of this process.
#[derive(Default)]
pub(super) struct RateLimiter(Mutex<HashMap<RateLane, LaneState>>);

/// What the platform counts together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct RateLane(String);

/// What was sent in a lane, and what the platform said of its limit.
#[derive(Default)]
struct LaneState {
    sent: VecDeque<Moment>,
    in_flight: u32,
    /// How many more the platform takes, and until when that holds.
    left: Option<(u32, Moment)>,
    closed_until: Option<Moment>,
}

/// What an answer says of the limits.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct RateLimitHeaders {
    remaining: Option<u32>,
    reset: Option<Span>,
    retry_after: Option<RetryAfter>,
}

#[derive(Debug, PartialEq, Eq)]
enum RetryAfter {
    Pause(Span),
    At(Moment),
}

/// A request that is on its way.
pub(super) struct RequestSlot<'a> {
    limiter: &'a RateLimiter,
    lane: &'a RateLane,
}

impl RateLane {
    /// Returns the lane of a request. The token is part of it as a digest.
    pub(super) fn for_request(address: &str, token: &str, method: &Method, path: &str) -> Self {
        let account = Sha256::digest(token.as_bytes());
        let account = data_encoding::HEXLOWER.encode(&account[..8]);
        Self(format!("{address} {account} {method} {}", endpoint_pattern(path)))
    }
}

/// Returns a path with the names of single things inside a project replaced by `{}`.
fn endpoint_pattern(path: &str) -> String {
    const COLLECTIONS: &[&str] =
        &["branches", "actions", "addons", "snippets", "migrations", "jit", "functions", "backups"];
    let path = path.split('?').next().unwrap_or_default();
    let mut before = "";
    let mut segments = Vec::new();
    for (place, segment) in path.split('/').enumerate() {
        // `/v1/projects/{ref}`, `/v1/branches/{ref}` and `/v1/organizations/{slug}` stay: they are counted apart.
        let is_one = place > 3 && COLLECTIONS.contains(&before) && !is_fixed_segment(segment);
        segments.push(if is_one { "{}" } else { segment });
        before = segment;
    }
    segments.join("/")
}

fn is_fixed_segment(segment: &str) -> bool {
    ["restore", "restore-pitr", "restore-point", "undo", "schedule", "download", "list", "invite"]
        .contains(&segment)
}

impl RateLimiter {
    /// Waits until one more request may go out in `lane`.
    ///
    /// # Errors
    /// [`Code::Throttled`] when that will not be before `deadline`.
    pub(super) async fn wait_for_slot<'a>(
        &'a self,
        lane: &'a RateLane,
        clock: &dyn Clock,
        deadline: Moment,
    ) -> Result<RequestSlot<'a>> {
        while let Some(pause) = self.take_slot_or_wait_time(lane, clock.now()) {
            let left = deadline.duration_since(clock.now());
            if pause > left {
                return Err(Error::new(
                    Code::Throttled,
                    format!("the limit of requests of this kind is used up for the next {pause}"),
                )
                .with_hint("ask again then, or give it more with `timeout:`"));
            }
            let recheck = if self.lock_lanes().get(lane).is_some_and(|b| b.in_flight > 0) {
                RECHECK_TIMEOUT
            } else {
                pause
            };
            clock.sleep(pause.min(recheck)).await;
        }
        Ok(RequestSlot { limiter: self, lane })
    }

    /// Takes a slot, or returns how long there is none.
    fn take_slot_or_wait_time(&self, lane: &RateLane, now: Moment) -> Option<Span> {
        let mut lanes = self.lock_lanes();
        let bucket = lanes.entry(lane.clone()).or_default();
        let pause = bucket.blocked_until(now).map(|until| until.duration_since(now));
        if pause.is_none() {
            bucket.sent.push_back(now);
            bucket.in_flight += 1;
            bucket.left = bucket.left.map(|(n, until)| (n.saturating_sub(1), until));
        }
        pause
    }

    fn lock_lanes(&self) -> MutexGuard<'_, HashMap<RateLane, LaneState>> {
        // Consistent after every statement, so a panic elsewhere does no harm.
        lock_unpoisoned(&self.0)
    }

    fn update_lane(&self, lane: &RateLane, change: impl FnOnce(&mut LaneState)) {
        self.lock_lanes().entry(lane.clone()).and_modify(change);
    }
}

impl LaneState {
    fn blocked_until(&mut self, now: Moment) -> Option<Moment> {
        while self.sent.front().is_some_and(|sent| sent.saturating_add(WINDOW) <= now) {
            self.sent.pop_front();
        }
        self.left = self.left.filter(|(_, until)| *until > now);
        self.closed_until = self.closed_until.filter(|until| *until > now);
        let ours = (self.sent.len() >= REQUESTS_MAX)
            .then(|| self.sent.front().map(|sent| sent.saturating_add(WINDOW)));
        let theirs = self.left.filter(|(n, _)| *n == 0).map(|(_, until)| until);
        [ours.flatten(), theirs, self.closed_until].into_iter().flatten().max()
    }
}

impl RequestSlot<'_> {
    /// Applies the limits in a response, less the requests in flight, which may not be counted yet.
    pub(super) fn apply_limits(&self, limits: &RateLimitHeaders, now: Moment) {
        let (Some(remaining), Some(reset)) = (limits.remaining, limits.reset) else { return };
        self.limiter.update_lane(self.lane, |bucket| {
            let others = bucket.in_flight.saturating_sub(1);
            bucket.left = Some((remaining.saturating_sub(others), now.saturating_add(reset)));
        });
    }

    /// Lets nothing more out in the lane before `until`.
    pub(super) fn block_until(&self, until: Moment) {
        self.limiter
            .update_lane(self.lane, |bucket| bucket.closed_until = bucket.closed_until.max(Some(until)));
    }
}

impl Drop for RequestSlot<'_> {
    fn drop(&mut self) {
        self.limiter.update_lane(self.lane, |bucket| bucket.in_flight = bucket.in_flight.saturating_sub(1));
    }
}

impl RateLimitHeaders {
    /// Reads the headers.
    pub(super) fn from_headers(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|v| v.to_str().ok()).map(str::trim);
        let seconds = |text: &str| text.parse().ok().filter(|n| *n >= 0.0).map(span_from_seconds);
        let at = |text: &str| rfc2822::parse(text).ok().map(|z| RetryAfter::At(Moment(z.timestamp())));
        Self {
            remaining: text("x-ratelimit-remaining").and_then(|n| n.parse().ok()),
            reset: text("x-ratelimit-reset").and_then(seconds),
            retry_after: text("retry-after")
                .and_then(|t| seconds(t).map(RetryAfter::Pause).or_else(|| at(t))),
        }
    }

    /// Returns how long the headers say to wait: `Retry-After`, else `X-RateLimit-Reset`; a second at least.
    pub(super) fn retry_pause(&self, now: Moment) -> Option<Span> {
        let told = match &self.retry_after {
            Some(RetryAfter::Pause(pause)) => Some(*pause),
            Some(RetryAfter::At(moment)) => Some(moment.duration_since(now)),
            None => self.reset,
        };
        told.map(|pause| pause.max(Span::from_secs(1)))
    }
}

/// Returns a span of that many seconds; nobody waits for more than a year.
fn span_from_seconds(seconds: f64) -> Span {
    Span(jiff::SignedDuration::try_from_secs_f64(seconds.min(31_557_600.0)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::VirtualClock;
    use reqwest::header::HeaderValue;

    const REF: &str = "abcdefghijklmnopqrst";

    fn clock() -> VirtualClock {
        VirtualClock::starting_at(Moment::parse("2026-11-20T03:00:00Z").expect("a moment"))
    }

    fn limits(headers: &[(&'static str, &'static str)]) -> RateLimitHeaders {
        let headers = headers.iter().map(|(n, v)| (n.parse().expect("a name"), HeaderValue::from_static(v)));
        RateLimitHeaders::from_headers(&headers.collect())
    }

    fn lane(project: &str) -> RateLane {
        RateLane::for_request(
            "https://a.example",
            "hunter2",
            &Method::GET,
            &format!("/v1/projects/{project}"),
        )
    }

    #[tokio::test]
    async fn supabase_stays_below_120_a_minute_without_being_told() {
        let (limiter, clock, lane) = (RateLimiter::default(), clock(), lane(REF));
        let far = clock.now().saturating_add(Span::from_secs(3600));
        let mut sent = Vec::new();
        for _ in 0..500 {
            drop(limiter.wait_for_slot(&lane, &clock, far).await.expect("a turn"));
            sent.push(clock.now());
        }
        for (n, from) in sent.iter().enumerate() {
            let until = from.saturating_add(Span::from_secs(60));
            assert!(sent[n..].iter().take_while(|at| **at <= until).count() < 120, "from {from}");
        }
        assert!(clock.now().duration_since(sent[0]) < Span::from_secs(5 * 61), "no slower than that either");
    }

    #[tokio::test]
    async fn supabase_projects_and_endpoints_do_not_wait_for_each_other() {
        let (limiter, clock) = (RateLimiter::default(), clock());
        let far = clock.now().saturating_add(Span::from_secs(3600));
        let before = clock.now();
        for project in 0..100_u8 {
            let name: String = REF.replace('a', &char::from(b'a' + project % 26).to_string());
            let lane = lane(&format!("{name}{project}"));
            for _ in 0..REQUESTS_MAX {
                drop(limiter.wait_for_slot(&lane, &clock, far).await.expect("a turn"));
            }
        }
        assert_eq!(clock.now(), before, "a hundred projects, and nobody waited");
    }

    #[tokio::test]
    async fn supabase_other_processes_of_the_account_count() {
        let (limiter, clock, lane) = (RateLimiter::default(), clock(), lane(REF));
        let far = clock.now().saturating_add(Span::from_secs(3600));
        let told = limits(&[
            ("x-ratelimit-limit", "120"),
            ("x-ratelimit-remaining", "2"),
            ("x-ratelimit-reset", "57"),
        ]);
        let slot = limiter.wait_for_slot(&lane, &clock, far).await.expect("a turn");
        slot.apply_limits(&told, clock.now());
        drop(slot);
        let before = clock.now();
        for wait in [0, 0, 57] {
            drop(limiter.wait_for_slot(&lane, &clock, far).await.expect("a turn"));
            assert_eq!(clock.now().duration_since(before), Span::from_secs(wait));
        }
    }

    #[tokio::test]
    async fn supabase_a_wait_that_is_too_long_is_refused_at_once() {
        let (limiter, clock, lane) = (RateLimiter::default(), clock(), lane(REF));
        let soon = clock.now().saturating_add(Span::from_secs(30));
        let slot = limiter.wait_for_slot(&lane, &clock, soon).await.expect("a turn");
        slot.block_until(clock.now().saturating_add(Span::from_secs(57)));
        drop(slot);
        let before = clock.now();
        let error = limiter.wait_for_slot(&lane, &clock, soon).await.map(drop).expect_err("too long");
        assert_eq!((error.code, clock.now()), (Code::Throttled, before));
    }

    #[test]
    fn supabase_reset_is_seconds_left_and_retry_after_comes_first() {
        let now = clock().now();
        let told = limits(&[("x-ratelimit-reset", "57")]);
        assert_eq!(told.retry_pause(now), Some(Span::from_secs(57)));
        let told = limits(&[("x-ratelimit-reset", "57"), ("retry-after", "3")]);
        assert_eq!(told.retry_pause(now), Some(Span::from_secs(3)));
        let told = limits(&[("retry-after", "Fri, 20 Nov 2026 03:00:20 GMT")]);
        assert_eq!(told.retry_pause(now), Some(Span::from_secs(20)));
        assert_eq!(limits(&[("retry-after", "0")]).retry_pause(now), Some(Span::from_secs(1)));
        assert_eq!(limits(&[("retry-after", "soon")]).retry_pause(now), None);
    }

    #[test]
    fn supabase_lanes_are_endpoints_of_a_project_and_hold_no_token() {
        for (path, expected) in [
            ("/v1/projects/r/health?services=db", "/v1/projects/r/health"),
            ("/v1/projects/r/branches/drill", "/v1/projects/r/branches/{}"),
            ("/v1/branches/r/merge", "/v1/branches/r/merge"),
            ("/v1/projects/r/actions/17/logs", "/v1/projects/r/actions/{}/logs"),
            ("/v1/projects/r/database/backups/restore-pitr", "/v1/projects/r/database/backups/restore-pitr"),
            ("/v1/organizations/acme/projects?limit=100", "/v1/organizations/acme/projects"),
        ] {
            assert_eq!(endpoint_pattern(path), expected);
        }
        assert!(!format!("{:?}", lane(REF)).contains("hunter2"));
        assert_ne!(
            lane(REF),
            RateLane::for_request("https://a.example", "other", &Method::GET, &format!("/v1/projects/{REF}"))
        );
    }
}
