//! What an answer means: a value, a refusal in the API's own words, or that nobody knows.
//!
//! The documented status codes of the API are not the ones that it gives; what is told apart here is told apart for any
//! of them.

use super::{rate_limit::RateLimitHeaders, request::ApiRequest, token::AccessToken};
use crate::{
    base::moment::Span,
    provider::{Code, Error, Result, supabase::redact},
};
use reqwest::StatusCode;
use serde_json::Value;

/// How much of what the API says is repeated, in characters.
const MESSAGE_CHARS_MAX: usize = 600;

/// An answer, as it came.
pub(super) struct ApiAnswer {
    /// Its status.
    pub status: StatusCode,
    /// What it says of the limits.
    pub limits: RateLimitHeaders,
    /// Its body.
    pub text: String,
}

/// Why there is no value, and whether the same may be asked again without doing it twice.
pub(super) struct RequestFailure {
    /// The error.
    pub why: Error,
    /// Whether to ask again.
    pub again: bool,
}

impl ApiAnswer {
    /// Returns whether it says that there were too many.
    pub(super) fn is_throttled(&self) -> bool {
        self.status == StatusCode::TOO_MANY_REQUESTS
    }

    /// Returns the error of a request that was turned away and is not waited for any more.
    pub(super) fn throttled_error(&self, asked: &ApiRequest<'_>, token: &AccessToken, pause: Span) -> Error {
        Error::new(
            Code::Throttled,
            format!("the API throttled {asked} (429): {}", self.masked_message(token)),
        )
        .with_hint(format!(
            "ask again in {pause}, or give it more with `timeout:`; a limit counts all tokens of one account"
        ))
    }

    /// Returns the value. A body that is empty is null, and one that is no JSON is text.
    pub(super) fn into_value(
        self,
        asked: &ApiRequest<'_>,
        token: &AccessToken,
    ) -> Result<Value, RequestFailure> {
        if self.status.is_success() {
            return Ok(match serde_json::from_str(&self.text) {
                Ok(value) => value,
                Err(_) if self.text.trim().is_empty() => Value::Null,
                Err(_) => self.text.into(),
            });
        }
        let said = self.masked_message(token);
        if self.status.is_server_error() || self.status == StatusCode::REQUEST_TIMEOUT {
            return Err(unanswered_failure(asked, &format!("{}: {said}", self.status.as_u16()), true));
        }
        Err(RequestFailure { why: self.refusal_error(asked, token, &said), again: false })
    }

    /// Returns what the API says, in its own words, masked and cut.
    fn masked_message(&self, token: &AccessToken) -> String {
        let body: Option<Value> = serde_json::from_str(&self.text).ok();
        let said = match body.as_ref().map(extract_message) {
            Some(said) if !said.is_empty() => said,
            Some(_) => redact::mask_secret_fields(body.unwrap_or_default()).to_string(),
            None => self.text.trim().to_owned(),
        };
        let said = redact::mask_tokens(&said, token.secret.expose_secret());
        match said.char_indices().nth(MESSAGE_CHARS_MAX) {
            Some((cut, _)) => format!("{}…", &said[..cut]),
            None if said.is_empty() => self.status.canonical_reason().unwrap_or("no reason").to_owned(),
            None => said,
        }
    }

    fn refusal_error(&self, asked: &ApiRequest<'_>, token: &AccessToken, said: &str) -> Error {
        let status = self.status.as_u16();
        let refused = |code| Error::new(code, format!("the API refused {asked} ({status}): {said}"));
        if let Some(needed) = find_needed_plan(status, asked.path, said) {
            return Error::new(Code::Unsupported, format!("{asked} needs {needed} ({status}): {said}"))
                .with_hint(
                    "see what the organization has booked: `GET /v1/organizations/{slug}/entitlements`",
                );
        }
        match status {
            300..400 => refused(Code::Refused)
                .with_hint("`api_url` leads somewhere else: give the address it leads to"),
            401 => refused(Code::Denied).with_hint(format!(
                "the token was taken from {}: it may be wrong, revoked or expired",
                token.from
            )),
            403 => refused(Code::Denied).with_hint(format!(
                "the token was taken from {}: its role or its fine-grained permissions do not reach this",
                token.from
            )),
            404 => refused(Code::NotFound),
            405 | 410 | 501 => refused(Code::Unsupported)
                .with_hint("the platform has no such endpoint (any more): see whether redrill is up to date"),
            409 => refused(Code::Conflict),
            400 | 422 if self.has_validation_list() => refused(Code::Invalid),
            _ => refused(Code::Refused),
        }
    }

    /// Returns whether the body is a list of what is wrong with the request, which their validation gives.
    fn has_validation_list(&self) -> bool {
        let body: Value = serde_json::from_str(&self.text).unwrap_or_default();
        body["message"].is_array()
    }
}

/// Returns the error of a request that was not answered: a read that is to be asked again, or a write of which nobody
/// knows, unless it was not even sent.
pub(super) fn unanswered_failure(asked: &ApiRequest<'_>, why: &str, sent: bool) -> RequestFailure {
    let why = match (sent, asked.writes) {
        (false, _) => Error::new(
            Code::Unavailable,
            format!("the API cannot be reached, and nothing was sent, for {asked}: {why}"),
        )
        .with_hint("see the network, the proxy settings of the environment, and `api_url` of the target"),
        (true, false) => Error::new(Code::Unavailable, format!("the API does not answer {asked}: {why}"))
            .with_hint("see https://status.supabase.com, and ask again"),
        (true, true) => Error::new(
            Code::Unknown,
            format!("{asked} was sent and not answered, and nobody knows whether it took effect: {why}"),
        )
        .with_hint("look at the project before it is asked again"),
    };
    RequestFailure { again: why.code != Code::Unknown, why }
}

/// Returns what a body says went wrong: v1 has a message, which may be a list; v2 has a list of errors.
fn extract_message(body: &Value) -> String {
    let lines = |items: &[Value]| {
        items.iter().map(extract_message).filter(|m| !m.is_empty()).collect::<Vec<_>>().join("; ")
    };
    match body {
        Value::String(text) => text.trim().trim_end_matches('.').to_owned(),
        Value::Array(items) => lines(items),
        Value::Object(fields) => ["message", "msg", "detail", "title", "errors", "error"]
            .iter()
            .filter_map(|name| fields.get(*name))
            .map(extract_message)
            .find(|m| !m.is_empty())
            .unwrap_or_default(),
        _ => String::new(),
    }
}

/// Returns what has to be booked, where a refusal is about that: 402 always is; 400, 403 and 422 say it in words only.
fn find_needed_plan(status: u16, path: &str, said: &str) -> Option<&'static str> {
    const WORDS: &[&str] = &[
        "plan",
        "plans",
        "upgrade",
        "addon",
        "add-on",
        "entitled",
        "entitlement",
        "subscription",
        "billing",
    ];
    // What is said of SQL are the database's words about the user's own.
    let may_say_so = matches!(status, 400 | 403 | 422) && !path.contains("/database/query");
    let said = said.to_lowercase();
    let says_so = may_say_so
        && (said.split(|c: char| !(c.is_alphanumeric() || c == '-')).any(|w| WORDS.contains(&w))
            || said.contains("not allowed to configure"));
    (status == 402 || says_so).then(|| plan_for_path(path))
}

fn plan_for_path(path: &str) -> &'static str {
    const PLACES: &[(&str, &str)] = &[
        ("/backups/schedule", "the Enterprise plan"),
        ("/backups/restore-pitr", "the Pro plan or above and the PITR add-on"),
        ("/backups/restore-point", "restore points, which only selected accounts have"),
        ("/backups/undo", "restore points, which only selected accounts have"),
        ("/backups", "the Pro plan or above"),
        ("/read-replicas", "the Pro plan or above and the compute add-on `ci_small` or larger"),
        ("/branches", "the Pro plan or above (branching)"),
        ("/network-restrictions", "the Pro plan or above (network restrictions)"),
        ("/ssl-enforcement", "a plan with SSL enforcement"),
        ("/pause", "a plan whose projects can be paused (entitlement `project_pausing`)"),
        ("/jit", "a plan with just-in-time access"),
    ];
    PLACES
        .iter()
        .find(|(place, _)| path.contains(place))
        .map_or("a higher plan or an add-on", |(_, plan)| plan)
}
