//! One way to the Management API: every request of every target goes through here.
//!
//! - A read is asked again, within the time there is. A write is sent again only where it is certain that nothing was
//!   accepted: never connected, or turned away with 429. Anything else that is no answer is [`Code::Unknown`].
//! - A write takes a connection of its own: one from the pool may be closed by the other side just as it is used, and
//!   then nobody knows.
//! - Nothing is redirected: a redirected `POST` becomes a `GET`.
//! - How long a connection takes is real time; every wait is on the clock of the run.
//! - No secret is in an error: what the API says is kept in its own words, and masked (`redact`).

mod address;
mod answer;
mod attempt;
mod endpoint;
mod environment;
mod keyring;
mod rate_limit;
mod request;
#[cfg(test)]
mod tests;
mod token;

use crate::{
    base::{
        clock::Clock,
        moment::{Moment, Span},
        secret::SecretRef,
    },
    provider::{Code, Error, Result},
};
use attempt::{AttemptOutcome, send_once};
use endpoint::ApiEndpoint;
use environment::Environment;
use rate_limit::{RateLane, RateLimiter};
use request::ApiRequest;
use reqwest::Method;
use serde_json::Value;
use std::sync::{Arc, LazyLock};
use tokio::sync::OnceCell;

/// How long one request may take, unless the caller says otherwise. Their own client waits as long.
const ATTEMPT_TIMEOUT: Span = Span::from_secs(60);
/// How long a request may be waited for and asked again: longer than a minute, which is what a limit lasts.
const REQUEST_TIMEOUT: Span = Span::from_secs(150);
/// How often a request that fails is asked in all; waiting for a limit does not count.
const TRIES_MAX: u32 = 5;

/// The rate limiter that all targets of a process share.
static SHARED_LIMITER: LazyLock<Arc<RateLimiter>> = LazyLock::new(Arc::default);

/// The Management API, as one account sees it.
#[derive(Clone)]
pub(super) struct ApiClient {
    way: Arc<ApiEndpoint>,
    attempt: Span,
    patience: Span,
}

impl ApiClient {
    /// Returns the API at `address` (`SUPABASE_API_URL`, or the public one), with the token at `token`, else with the
    /// one that the official command line would take. Asks nothing.
    ///
    /// # Errors
    /// [`Code::Invalid`] for a token that is no reference and for an address that would show it to others.
    pub(super) fn new(token: Option<&str>, address: Option<&str>, clock: &Arc<dyn Clock>) -> Result<Self> {
        Self::with_environment(
            Environment::from_process(),
            Arc::clone(&SHARED_LIMITER),
            token,
            address,
            clock,
        )
    }

    fn with_environment(
        surroundings: Environment,
        pace: Arc<RateLimiter>,
        token: Option<&str>,
        address: Option<&str>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self> {
        let reference = token.map(SecretRef::parse).transpose().map_err(|e| {
            Error::new(Code::Invalid, format!("`token`: {e}"))
                .with_hint("write `token = \"env:NAME\"` or `\"file:PATH\"`, or leave it out: it is then found as the official command line finds it")
        })?;
        let (address, near) = address::resolve_address(address, &surroundings)?;
        let way = ApiEndpoint {
            address,
            near,
            reference,
            surroundings,
            token: OnceCell::new(),
            pace,
            clock: Arc::clone(clock),
        };
        Ok(Self { way: Arc::new(way), attempt: ATTEMPT_TIMEOUT, patience: REQUEST_TIMEOUT })
    }

    /// Returns the API of a test, with limits of its own.
    #[cfg(test)]
    pub(super) fn for_test(address: &str, token: &'static str, clock: &Arc<dyn Clock>) -> Self {
        let only = Environment::new(move |name| (name == "SUPABASE_ACCESS_TOKEN").then(|| token.to_owned()));
        Self::with_environment(only, Arc::default(), None, Some(address), clock).expect("an API")
    }

    /// Returns the same API for requests that may take `limit`, waiting and asking again included.
    pub(super) fn with_timeout(&self, limit: Span) -> Self {
        Self { way: Arc::clone(&self.way), attempt: limit, patience: limit }
    }

    /// Reads. Asked again, within the time there is, when the answer does not come or says later.
    ///
    /// # Errors
    /// What the API says, or that it cannot be reached.
    pub(super) async fn get(&self, path: &str) -> Result<Value> {
        self.send_with_retries(ApiRequest { method: Method::GET, path, body: None, writes: false }).await
    }

    /// Reads with a method that usually writes, such as a query in the body; asked again as [`ApiClient::get`] is.
    ///
    /// # Errors
    /// As [`ApiClient::get`].
    pub(super) async fn send_read(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        self.send_with_retries(ApiRequest { method, path, body, writes: false }).await
    }

    /// Writes. Sent again only where it is certain that nothing was accepted.
    ///
    /// # Errors
    /// What the API says; [`Code::Unknown`] when it was sent and not answered.
    pub(super) async fn send_write(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        self.send_with_retries(ApiRequest { method, path, body, writes: true }).await
    }

    async fn send_with_retries(&self, asked: ApiRequest<'_>) -> Result<Value> {
        let way = &*self.way;
        let token = way.access_token().await?;
        let lane =
            RateLane::for_request(&way.address, token.secret.expose_secret(), &asked.method, asked.path);
        let deadline = way.clock.now().saturating_add(self.patience);
        let (mut tries, mut throttled) = (0, 0);
        loop {
            let slot = way.pace.acquire_slot(&lane, &*way.clock, deadline).await?;
            let limit = if asked.writes { self.attempt } else { self.attempt.min(self.time_left(deadline)) };
            let outcome = send_once(way, &asked, token, limit).await;
            if let AttemptOutcome::Answer(answer) = &outcome {
                slot.apply_limits(&answer.limits, way.clock.now());
                if answer.is_throttled() {
                    throttled += 1;
                    let pause = answer
                        .limits
                        .retry_pause(way.clock.now())
                        .unwrap_or_else(|| backoff_delay(throttled, 32));
                    slot.block_until(way.clock.now().saturating_add(pause));
                    if pause > self.time_left(deadline) {
                        return Err(answer.throttled_error(&asked, token, pause));
                    }
                    continue;
                }
            }
            tries += 1;
            drop(slot);
            let error = match outcome.into_value(&asked, token) {
                Ok(value) => return Ok(value),
                Err(end) => end,
            };
            let pause = backoff_delay(tries, 8);
            if !error.again || tries == TRIES_MAX || pause >= self.time_left(deadline) {
                return Err(error.why);
            }
            way.clock.sleep(pause).await;
        }
    }

    fn time_left(&self, deadline: Moment) -> Span {
        deadline.duration_since(self.way.clock.now()).max(Span::ZERO)
    }
}

/// Returns how long to wait before the next try: half a second, and twice as long each time.
fn backoff_delay(tries: u32, seconds_max: i64) -> Span {
    Span::from_millis(500 << tries.saturating_sub(1).min(16)).min(Span::from_secs(seconds_max))
}
