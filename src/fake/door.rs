//! The way in: what goes wrong on request, who is let in, how often, and what is written down.

use super::{
    call::{Answer, Call},
    faults::Fate,
    ledger::Entry,
    platform::Platform,
    routes::{self, Found, Route},
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long a client's requests are counted before it begins anew.
const WINDOW: Duration = Duration::from_secs(60);

/// A request as it came in.
pub(super) struct Asked {
    /// The method.
    pub(super) method: String,
    /// The path.
    pub(super) path: String,
    /// What stands behind the question mark.
    pub(super) query: Vec<(String, String)>,
    /// The body: null when there is none.
    pub(super) body: serde_json::Result<Value>,
    /// The header of that name.
    pub(super) authorization: Option<String>,
}

/// What goes out.
pub(super) struct Reply {
    /// The answer.
    pub(super) answer: Answer,
    /// How many more requests are served, as headers.
    pub(super) limits: Vec<(&'static str, String)>,
}

/// How many requests came, by token, endpoint and project.
#[derive(Debug, Default)]
pub(super) struct Counts(Mutex<BTreeMap<String, (Instant, u32)>>);

impl Counts {
    /// Counts a request, and returns how many are left (none: it is one too many) and the seconds until it begins anew.
    fn take(&self, whose: String, per_minute: u32) -> (Option<u32>, u64) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, count) = counts.entry(whose).or_insert_with(|| (Instant::now(), 0));
        if since.elapsed() >= WINDOW {
            (*since, *count) = (Instant::now(), 0);
        }
        *count = count.saturating_add(1);
        let reset = WINDOW.saturating_sub(since.elapsed()).as_secs_f64().ceil();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 60")]
        (per_minute.checked_sub(*count), reset as u64)
    }
}

/// Takes a request; `None` is no answer, and the connection is cut.
pub(super) async fn take(platform: &Arc<Platform>, asked: Asked) -> Option<Reply> {
    if asked.path == "/_fake/log" {
        return Some(plain(Answer::json(200, platform.ledger.shown())));
    }
    platform.ledger.count();
    match platform.faults.fate(&asked.method, &asked.path) {
        None => Some(serve(platform, asked, true).await),
        Some(Fate::Late(span)) => {
            let reply = serve(platform, asked, true).await;
            tokio::time::sleep(span.to_std()).await;
            Some(reply)
        }
        Some(Fate::CutBefore) => None,
        Some(Fate::CutAfter) => {
            serve(platform, asked, false).await;
            None
        }
        Some(Fate::SilentBefore) => std::future::pending().await,
        Some(Fate::SilentAfter) => {
            serve(platform, asked, false).await;
            std::future::pending().await
        }
        Some(Fate::Status(status)) => Some(plain(broken(status))),
        Some(Fate::StatusAfter(status)) => {
            serve(platform, asked, false).await;
            Some(plain(broken(status)))
        }
    }
}

fn plain(answer: Answer) -> Reply {
    Reply { answer, limits: Vec::new() }
}

fn broken(status: u16) -> Answer {
    match status {
        429 => throttled(),
        401 => Answer::message(401, "Unauthorized"),
        403 => Answer::message(403, "Forbidden resource"),
        _ => Answer::message(status, "Internal server error"),
    }
}

/// The answer was recorded with this body.
fn throttled() -> Answer {
    Answer::message(429, "ThrottlerException: Too Many Requests")
}

/// Lets a request in, or not, and writes down what took effect.
async fn serve(platform: &Arc<Platform>, asked: Asked, answered: bool) -> Reply {
    let token = asked.authorization.as_deref().and_then(|a| a.strip_prefix("Bearer "));
    let Some(token) = token.filter(|token| token.starts_with("sbp_")) else {
        return plain(Answer::message(401, "Unauthorized"));
    };
    let (route, captures) = match routes::find(&asked.method, &asked.path) {
        Found::Route(route, captures) => (route, captures),
        Found::Nothing => {
            return plain(Answer::message(404, format!("Cannot {} {}", asked.method, asked.path)));
        }
    };
    let whose = captures.first().map_or("", |(_, value)| value);
    let per_minute = platform.options.per_minute;
    let counted = format!("{token} {} {} {whose}", route.method, route.path);
    let (left, reset) = platform.counts.take(counted, per_minute);
    let limits = vec![
        ("X-RateLimit-Limit", per_minute.to_string()),
        ("X-RateLimit-Remaining", left.unwrap_or(0).to_string()),
        // Seconds that are left, not a moment.
        ("X-RateLimit-Reset", reset.to_string()),
    ];
    if left.is_none() {
        return Reply { answer: throttled(), limits };
    }
    let Ok(body) = asked.body else {
        return Reply { answer: Answer::message(400, "Unexpected token in JSON"), limits };
    };
    let call = Call { platform: Arc::clone(platform), captures, query: asked.query, body };
    let answer = (route.serve)(&call).await.unwrap_or_else(Answer::looked);
    if route.writes && answer.status < 300 && !answer.only_looked {
        platform.ledger.add(entry(platform, route, asked.path, call.body, answer.status, answered));
    }
    Reply { answer, limits }
}

fn entry(
    platform: &Platform,
    route: &Route,
    path: String,
    body: Value,
    status: u16,
    answered: bool,
) -> Entry {
    let (method, endpoint) = (route.method.to_owned(), route.path);
    Entry { seq: 0, at: platform.now(), method, endpoint, path, body, status, answered }
}
