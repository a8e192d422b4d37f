//! The client of the Management API, through which every request of every target goes.
//!
//! - A read is retried until its timeout. A write is sent again only where the platform certainly did not accept it:
//!   never connected, or refused with 429. Any other write without an answer is [`Code::Unknown`].
//! - The body of an accepted write proves nothing, and is not read: a look shows what holds. A read that is answered with
//!   anything but JSON has no value.
//! - A write takes a connection of its own: one from the pool may be closed by the other side just as it is used, and
//!   the outcome is then unknown.
//! - Redirects are not followed: a redirected `POST` becomes a `GET`.
//! - The timeout of an attempt is real time; every wait between attempts is on the clock of the run.
//! - Errors hold no secret: the API's messages are kept and masked (`redact`).

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
        call_time::call_time_left,
        clock::Clock,
        moment::{Moment, Span},
        secret::SecretRef,
        send_deadline::current_send_deadline,
    },
    provider::{Code, Error, Result},
};
use address::CONNECT_TIMEOUT;
use answer::unanswered_failure;
pub(super) use answer::unreadable_answer_error;
use attempt::{AttemptOutcome, send_once};
use endpoint::ApiEndpoint;
use environment::Environment;
use rate_limit::{RateLane, RateLimiter};
use request::ApiRequest;
use reqwest::Method;
use serde_json::Value;
use std::sync::{Arc, LazyLock};
use tokio::sync::OnceCell;

/// How long one attempt may take, unless the caller says otherwise. The official client waits as long.
const ATTEMPT_TIMEOUT: Span = Span::from_secs(60);
/// How long a request may take with all its attempts: longer than the minute that a rate limit lasts.
const REQUEST_TIMEOUT: Span = Span::from_secs(150);
/// How long a request may take where the time of its call is over: what the call began must still be settled.
const OVERDUE_TIMEOUT: Span = Span::from_secs(15);
/// How often a failing request is sent in all, throttled attempts not counted.
const TRIES_MAX: u32 = 5;

/// The rate limiter that all targets of a process share.
static SHARED_LIMITER: LazyLock<Arc<RateLimiter>> = LazyLock::new(Arc::default);

/// The Management API, as one account sees it.
#[derive(Clone)]
pub(super) struct ApiClient {
    endpoint: Arc<ApiEndpoint>,
    attempt_timeout: Span,
    request_timeout: Span,
    /// Whether the time of a call ends its requests, too.
    ends_with_call: bool,
}

impl ApiClient {
    /// Returns a client of the API at `address` (`SUPABASE_API_URL`, or the public one), with the token at `token`,
    /// else with the one that the official command line would take. Sends no request.
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
        environment: Environment,
        limiter: Arc<RateLimiter>,
        token: Option<&str>,
        address: Option<&str>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self> {
        let reference = token.map(SecretRef::parse).transpose().map_err(|e| {
            Error::new(Code::Invalid, format!("`token`: {e}"))
                .with_hint("write `token = \"env:NAME\"` or `\"file:PATH\"`, or leave it out: it is then found as the official command line finds it")
        })?;
        let (address, is_local) = address::resolve_address(address, &environment)?;
        let endpoint = ApiEndpoint {
            address,
            is_local,
            reference,
            environment,
            token: OnceCell::new(),
            limiter,
            clock: Arc::clone(clock),
        };
        Ok(Self {
            endpoint: Arc::new(endpoint),
            attempt_timeout: ATTEMPT_TIMEOUT,
            request_timeout: REQUEST_TIMEOUT,
            ends_with_call: true,
        })
    }

    /// Returns a client for a test, with a rate limiter of its own.
    #[cfg(test)]
    pub(super) fn for_test(address: &str, token: &'static str, clock: &Arc<dyn Clock>) -> Self {
        let only = Environment::new(move |name| (name == "SUPABASE_ACCESS_TOKEN").then(|| token.to_owned()));
        Self::with_environment(only, Arc::default(), None, Some(address), clock).expect("an API")
    }

    /// Returns the same client for requests that may take `limit`, waits and retries included, whatever is left of the time of
    /// a call.
    pub(super) fn with_timeout(&self, limit: Span) -> Self {
        let endpoint = Arc::clone(&self.endpoint);
        Self { endpoint, attempt_timeout: limit, request_timeout: limit, ends_with_call: false }
    }

    /// Sends a `GET`, and again while there is time when no answer comes or the API throttles it.
    ///
    /// # Errors
    /// What the API says, that it cannot be reached, or that its answer is no JSON.
    pub(super) async fn get(&self, path: &str) -> Result<Value> {
        self.send_read(Method::GET, path, None).await
    }

    /// Sends a `GET` as [`ApiClient::get`] does, for any answer: text is fine.
    ///
    /// # Errors
    /// What the API says, or that it cannot be reached.
    pub(super) async fn get_json_or_text(&self, path: &str) -> Result<Value> {
        let request = ApiRequest { method: Method::GET, path, body: None, writes: false, needs_json: false };
        self.send_with_retries(request).await
    }

    /// Sends a read with a method that usually writes, such as a query in the body; retried as [`ApiClient::get`] is.
    ///
    /// # Errors
    /// As [`ApiClient::get`].
    pub(super) async fn send_read(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        self.send_with_retries(ApiRequest { method, path, body, writes: false, needs_json: true }).await
    }

    /// Sends a write, and again only where the platform certainly did not accept it. What it answers is not looked at.
    ///
    /// # Errors
    /// What the API says; [`Code::Unknown`] when it was sent, and neither accepted nor refused in the API's own words.
    pub(super) async fn send_write(&self, method: Method, path: &str, body: Option<&Value>) -> Result<()> {
        self.send_write_for_answer(method, path, body).await.map(drop)
    }

    /// Sends a write as [`ApiClient::send_write`] does, and returns what it answers, whatever that is.
    ///
    /// # Errors
    /// As [`ApiClient::send_write`].
    pub(super) async fn send_write_for_answer(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value> {
        self.send_with_retries(ApiRequest { method, path, body, writes: true, needs_json: false }).await
    }

    async fn send_with_retries(&self, request: ApiRequest<'_>) -> Result<Value> {
        let endpoint = &*self.endpoint;
        let token = endpoint.access_token().await?;
        let lane = RateLane::for_request(
            &endpoint.address,
            token.secret.expose_secret(),
            &request.method,
            request.path,
        );
        let time = self.max_send_time(&request);
        let deadline = endpoint.clock.now().saturating_add(time);
        let began = endpoint.clock.uptime();
        let (mut tries, mut throttled) = (0, 0);
        loop {
            let slot = endpoint.limiter.wait_for_slot(&lane, &*endpoint.clock, deadline).await?;
            // Nobody looks for a write that is sent later than this. The machine may have slept since.
            let passed = endpoint.clock.uptime().since_in_same_boot(&began);
            if request.writes && passed.is_none_or(|passed| passed >= time) {
                return Err(unanswered_failure(&request, "the time to send it is over", false).why);
            }
            let limit = self.within_call(&request, self.attempt_timeout);
            let limit = if request.writes { limit } else { limit.min(self.time_left(deadline)) };
            let outcome = send_once(endpoint, &request, token, limit).await;
            if let AttemptOutcome::Answer(answer) = &outcome {
                slot.apply_limits(&answer.limits, endpoint.clock.now());
                if answer.is_throttled(&request) {
                    throttled += 1;
                    let pause = answer
                        .limits
                        .retry_pause(endpoint.clock.now())
                        .unwrap_or_else(|| backoff_delay(throttled, 32));
                    slot.block_until(endpoint.clock.now().saturating_add(pause));
                    tracing::info!(%request, %pause, throttled, "the API throttles");
                    if pause > self.time_left(deadline) {
                        return Err(answer.throttled_error(&request, token, pause));
                    }
                    continue;
                }
            }
            tries += 1;
            drop(slot);
            let error = match outcome.into_value(&request, token) {
                Ok(value) => return Ok(value),
                Err(end) => end,
            };
            let pause = backoff_delay(tries, 8);
            if !error.again || tries == TRIES_MAX || pause >= self.time_left(deadline) {
                return Err(error.why);
            }
            tracing::info!(%request, %pause, tries, "the request is sent again");
            endpoint.clock.sleep(pause).await;
        }
    }

    /// Returns how long a request may be tried. A write is looked for until a moment that was written down before, however
    /// many requests its effect takes: by then it has been sent, connecting included.
    fn max_send_time(&self, request: &ApiRequest<'_>) -> Span {
        let time = self.within_call(request, self.request_timeout);
        let Some(deadline) = current_send_deadline().filter(|_| request.writes) else {
            return time;
        };
        let left = deadline.since_in_same_boot(&self.endpoint.clock.uptime()).unwrap_or(Span::ZERO);
        Span(left.0.saturating_sub(CONNECT_TIMEOUT.0)).max(Span::ZERO).min(time)
    }

    /// Returns `limit`, or the time that the call at work has left where that is less. A write ends with its call; a
    /// look has a little more, because what was asked for must be looked at.
    fn within_call(&self, request: &ApiRequest<'_>, limit: Span) -> Span {
        let Some(left) = call_time_left().filter(|_| self.ends_with_call) else { return limit };
        let left = Span::from_std(left);
        limit.min(if request.writes && left > Span::ZERO { left } else { left.max(OVERDUE_TIMEOUT) })
    }

    fn time_left(&self, deadline: Moment) -> Span {
        deadline.duration_since(self.endpoint.clock.now()).max(Span::ZERO)
    }
}

/// Returns how long to wait before the next try: half a second, and twice as long each time.
fn backoff_delay(tries: u32, seconds_max: i64) -> Span {
    Span::from_millis(500 << tries.saturating_sub(1).min(16)).min(Span::from_secs(seconds_max))
}
