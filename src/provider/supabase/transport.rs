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
mod keyring;
mod pace;
mod redact;
#[cfg(test)]
mod tests;
mod token;

pub(super) use redact::fields as without_secrets;

use crate::{
    base::{
        clock::Clock,
        moment::{Moment, Span},
        secret::Reference,
    },
    provider::{Code, Error, Result},
};
use attempt::{Tried, attempt};
use pace::{Lane, Pace};
use reqwest::Method;
use serde_json::Value;
use std::sync::{Arc, LazyLock};
use token::{Found, Surroundings};
use tokio::sync::OnceCell;

/// How long one request may take, unless the caller says otherwise. Their own client waits as long.
const ATTEMPT: Span = Span::seconds(60);
/// How long a request may be waited for and asked again: longer than a minute, which is what a limit lasts.
const PATIENCE: Span = Span::seconds(150);
/// How often a request that fails is asked in all; waiting for a limit does not count.
const TRIES_MAX: u32 = 5;

/// What all targets of a process share, so that together they stay within the limits.
static PACE: LazyLock<Arc<Pace>> = LazyLock::new(Arc::default);

/// The Management API, as one account sees it.
#[derive(Clone)]
pub(super) struct Api {
    way: Arc<Way>,
    attempt: Span,
    patience: Span,
}

struct Way {
    address: String,
    /// Whether that is on this machine.
    near: bool,
    reference: Option<Reference>,
    surroundings: Surroundings,
    token: OnceCell<Found>,
    pace: Arc<Pace>,
    clock: Arc<dyn Clock>,
}

/// One request, and whether it may be asked twice.
struct Asked<'a> {
    method: Method,
    path: &'a str,
    body: Option<&'a Value>,
    writes: bool,
}

impl Api {
    /// Returns the API at `address` (`SUPABASE_API_URL`, or the public one), with the token at `token`, else with the
    /// one that the official command line would take. Asks nothing.
    ///
    /// # Errors
    /// [`Code::Invalid`] for a token that is no reference and for an address that would show it to others.
    pub(super) fn new(token: Option<&str>, address: Option<&str>, clock: &Arc<dyn Clock>) -> Result<Self> {
        Self::among(Surroundings::of_this_process(), Arc::clone(&PACE), token, address, clock)
    }

    fn among(
        surroundings: Surroundings,
        pace: Arc<Pace>,
        token: Option<&str>,
        address: Option<&str>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self> {
        let reference = token.map(Reference::parse).transpose().map_err(|e| {
            Error::new(Code::Invalid, format!("`token`: {e}"))
                .hint("write `token = \"env:NAME\"` or `\"file:PATH\"`, or leave it out: it is then found as the official command line finds it")
        })?;
        let (address, near) = address::of(address, &surroundings)?;
        let way = Way {
            address,
            near,
            reference,
            surroundings,
            token: OnceCell::new(),
            pace,
            clock: Arc::clone(clock),
        };
        Ok(Self { way: Arc::new(way), attempt: ATTEMPT, patience: PATIENCE })
    }

    /// Returns the API of a test, with limits of its own.
    #[cfg(test)]
    pub(super) fn staged(address: &str, token: &'static str, clock: &Arc<dyn Clock>) -> Self {
        let only = Surroundings::new(move |name| (name == "SUPABASE_ACCESS_TOKEN").then(|| token.to_owned()));
        Self::among(only, Arc::default(), None, Some(address), clock).expect("an API")
    }

    /// Returns the same API for requests that may take `limit`, waiting and asking again included.
    pub(super) fn within(&self, limit: Span) -> Self {
        Self { way: Arc::clone(&self.way), attempt: limit, patience: limit }
    }

    /// Reads. Asked again, within the time there is, when the answer does not come or says later.
    ///
    /// # Errors
    /// What the API says, or that it cannot be reached.
    pub(super) async fn get(&self, path: &str) -> Result<Value> {
        self.ask(Asked { method: Method::GET, path, body: None, writes: false }).await
    }

    /// Reads with a method that usually writes, such as a query in the body; asked again as [`Api::get`] is.
    ///
    /// # Errors
    /// As [`Api::get`].
    pub(super) async fn look(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        self.ask(Asked { method, path, body, writes: false }).await
    }

    /// Writes. Sent again only where it is certain that nothing was accepted.
    ///
    /// # Errors
    /// What the API says; [`Code::Unknown`] when it was sent and not answered.
    pub(super) async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        self.ask(Asked { method, path, body, writes: true }).await
    }

    async fn ask(&self, asked: Asked<'_>) -> Result<Value> {
        let way = &*self.way;
        let token = way.token().await?;
        let lane = Lane::of(&way.address, token.secret.reveal(), &asked.method, asked.path);
        let deadline = way.clock.now().plus(self.patience);
        let (mut tries, mut throttled) = (0, 0);
        loop {
            let slot = way.pace.slot(&lane, &*way.clock, deadline).await?;
            let limit = if asked.writes { self.attempt } else { self.attempt.min(self.left(deadline)) };
            let outcome = attempt(way, &asked, token, limit).await;
            if let Tried::Answer(answer) = &outcome {
                slot.answered(&answer.limits, way.clock.now());
                if answer.is_throttled() {
                    throttled += 1;
                    let pause =
                        answer.limits.pause(way.clock.now()).unwrap_or_else(|| backoff(throttled, 32));
                    slot.close(way.clock.now().plus(pause));
                    if pause > self.left(deadline) {
                        return Err(answer.throttled(&asked, token, pause));
                    }
                    continue;
                }
            }
            tries += 1;
            drop(slot);
            let error = match outcome.settle(&asked, token) {
                Ok(value) => return Ok(value),
                Err(end) => end,
            };
            let pause = backoff(tries, 8);
            if !error.again || tries == TRIES_MAX || pause >= self.left(deadline) {
                return Err(error.why);
            }
            way.clock.sleep(pause).await;
        }
    }

    fn left(&self, deadline: Moment) -> Span {
        deadline.since(self.way.clock.now()).max(Span::ZERO)
    }
}

impl Way {
    /// Returns the token, looked for once in the life of this process.
    async fn token(&self) -> Result<&Found> {
        self.token.get_or_try_init(|| token::find(self.reference.as_ref(), &self.surroundings)).await
    }
}

/// Returns how long to wait before the next try: half a second, and twice as long each time.
fn backoff(tries: u32, seconds_max: i64) -> Span {
    Span::millis(500 << tries.saturating_sub(1).min(16)).min(Span::seconds(seconds_max))
}
