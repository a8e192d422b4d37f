//! What an answer means: a value, a refusal in the API's own words, or an unknown outcome.
//!
//! - The API does not keep to its documented status codes, so every code is understood at every endpoint.
//! - Only the API's own error in a 4xx is a refusal. A page of a proxy or a firewall with the same status may have been
//!   put in the place of the answer after the request was passed on, so to a write it says nothing.

use super::{rate_limit::RateLimitHeaders, request::ApiRequest, token::AccessToken};
use crate::{
    base::moment::Span,
    provider::{Code, Error, Result, supabase::redact},
};
use reqwest::StatusCode;
use serde_json::Value;

/// How much of the API's message is repeated, in characters.
const MESSAGE_CHARS_MAX: usize = 600;

/// An answer, as it came.
pub(super) struct ApiAnswer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The rate limits in its headers.
    pub limits: RateLimitHeaders,
    /// The body.
    pub text: String,
}

/// Why there is no value, and whether the request may be sent again without taking effect twice.
pub(super) struct RequestFailure {
    /// The error.
    pub why: Error,
    /// Whether to send the request again.
    pub again: bool,
}

impl ApiAnswer {
    /// Returns whether the API throttled the request, so that it certainly did not take effect.
    pub(super) fn is_throttled(&self, request: &ApiRequest<'_>) -> bool {
        self.status == StatusCode::TOO_MANY_REQUESTS && (!request.writes || self.has_api_error_body())
    }

    /// Returns the error of a throttled request that is not sent again.
    pub(super) fn throttled_error(
        &self,
        request: &ApiRequest<'_>,
        token: &AccessToken,
        pause: Span,
    ) -> Error {
        Error::new(
            Code::Throttled,
            format!("the API throttled {request} (429): {}", self.masked_message(token)),
        )
        .with_hint(format!(
            "ask again in {pause}, or give it more with `timeout:`; a limit counts all tokens of one account"
        ))
    }

    /// Returns the value. Where any body will do, an empty one is null, and one that is no JSON is text.
    pub(super) fn into_value(
        self,
        request: &ApiRequest<'_>,
        token: &AccessToken,
    ) -> Result<Value, RequestFailure> {
        let status = self.status.as_u16();
        if self.status.is_success() {
            return match serde_json::from_str(&self.text) {
                Ok(value) => Ok(value),
                Err(_) if request.needs_json => {
                    let why = format!("it is {}", self.describe_body(token));
                    Err(RequestFailure {
                        why: unreadable_answer_error(&request.to_string(), &why),
                        again: false,
                    })
                }
                Err(_) if self.text.trim().is_empty() => Ok(Value::Null),
                Err(_) => Ok(self.text.into()),
            };
        }
        if self.status.is_server_error() || self.status == StatusCode::REQUEST_TIMEOUT {
            let message = self.masked_message(token);
            return Err(unanswered_failure(request, &format!("{status}: {message}"), true));
        }
        if self.status.is_client_error() && self.has_api_error_body() {
            let message = self.masked_message(token);
            return Err(RequestFailure { why: self.refusal_error(request, token, &message), again: false });
        }
        let why = format!("{status} with {}, which is not the API's own error", self.describe_body(token));
        let mut failure = unanswered_failure(request, &why, true);
        failure.again = false;
        if !request.writes {
            failure.why = failure.why.with_hint(if self.status.is_redirection() {
                "`api_url` leads somewhere else: give the address it leads to"
            } else {
                "something between here and the API answers in its place: see the network, the proxy settings of the environment, and `api_url` of the target"
            });
        }
        Err(failure)
    }

    /// Returns whether the body is an error of the API: v1 has a message, v2 a list of errors that have one.
    fn has_api_error_body(&self) -> bool {
        let body: Value = serde_json::from_str(&self.text).unwrap_or_default();
        ["message", "errors"].iter().any(|name| !extract_message(&body[*name]).is_empty())
    }

    /// Returns the API's message, or what else the body is, masked and shortened.
    fn masked_message(&self, token: &AccessToken) -> String {
        let body: Option<Value> = serde_json::from_str(&self.text).ok();
        let message = body.as_ref().map(extract_message).unwrap_or_default();
        if message.is_empty() { self.describe_body(token) } else { mask_and_shorten_message(&message, token) }
    }

    /// Describes a body that is not what it should be: a page by its title.
    fn describe_body(&self, token: &AccessToken) -> String {
        let text = self.text.trim();
        if let Ok(body) = serde_json::from_str::<Value>(text) {
            return mask_and_shorten_message(&redact::mask_secret_fields(body).to_string(), token);
        }
        match page_title(text) {
            _ if text.is_empty() => "an empty body".to_owned(),
            Some(title) if title.is_empty() => "a page without words".to_owned(),
            Some(title) => format!("a page that says `{}`", mask_and_shorten_message(&title, token)),
            None => format!("the text `{}`", mask_and_shorten_message(text, token)),
        }
    }

    fn refusal_error(&self, request: &ApiRequest<'_>, token: &AccessToken, message: &str) -> Error {
        let status = self.status.as_u16();
        let refused = |code| Error::new(code, format!("the API refused {request} ({status}): {message}"));
        if let Some(needed) = describe_missing_entitlement(status, request.path, message) {
            return Error::new(Code::Unsupported, format!("{request} needs {needed} ({status}): {message}"))
                .with_hint(
                    "see what the organization has booked: `GET /v1/organizations/{slug}/entitlements`",
                );
        }
        match status {
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

    /// Returns whether the body is a list of validation errors.
    fn has_validation_list(&self) -> bool {
        let body: Value = serde_json::from_str(&self.text).unwrap_or_default();
        body["message"].is_array()
    }
}

/// Returns the error of an answer that is not what the API's documents say; `answer` is what it answers.
pub(in crate::provider::supabase) fn unreadable_answer_error(answer: &str, why: &str) -> Error {
    Error::new(Code::Unavailable, format!("the API's answer to {answer} cannot be read: {why}")).with_hint(
        "ask again; if it stays so, something answers in the API's place, or the platform has changed: see whether there is a newer redrill",
    )
}

/// Masks the secrets of a text, and shortens it.
fn mask_and_shorten_message(text: &str, token: &AccessToken) -> String {
    let message = redact::mask_tokens(text, token.secret.expose_secret());
    match message.char_indices().nth(MESSAGE_CHARS_MAX) {
        Some((cut, _)) => format!("{}…", &message[..cut]),
        None => message,
    }
}

/// Returns the title of a page, or what else it says when it has none; `None` for a text that is no page.
fn page_title(text: &str) -> Option<String> {
    if !text.starts_with('<') {
        return None;
    }
    let lower = text.to_ascii_lowercase();
    let title = lower.find("<title").and_then(|at| {
        let start = at + lower[at..].find('>')? + 1;
        let end = start + lower[start..].find('<')?;
        text.get(start..end)
    });
    let mut words = String::new();
    let mut is_tag = false;
    for c in title.unwrap_or(text).chars() {
        match c {
            '<' => is_tag = true,
            '>' => {
                is_tag = false;
                words.push(' ');
            }
            c if !is_tag => words.push(c),
            _ => {}
        }
    }
    Some(words.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Returns the failure of a request without an answer: a read is sent again; the outcome of a write is unknown, unless
/// it was never sent.
pub(super) fn unanswered_failure(request: &ApiRequest<'_>, why: &str, sent: bool) -> RequestFailure {
    let why = match (sent, request.writes) {
        (false, _) => Error::new(
            Code::Unavailable,
            format!("the API cannot be reached, and nothing was sent, for {request}: {why}"),
        )
        .with_hint("see the network, the proxy settings of the environment, and `api_url` of the target"),
        (true, false) => Error::new(Code::Unavailable, format!("the API does not answer {request}: {why}"))
            .with_hint("see https://status.supabase.com, and ask again"),
        (true, true) => Error::new(
            Code::Unknown,
            format!("{request} was sent and not answered, and nobody knows whether it took effect: {why}"),
        )
        .with_hint("look at the project before it is asked again"),
    };
    RequestFailure { again: why.code != Code::Unknown, why }
}

/// Returns the error message in a body: v1 has a message, which may be a list; v2 has a list of errors.
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

/// Returns what has to be booked, if a refusal is about that: 402 always is; 400, 403 and 422 say it in words only.
fn describe_missing_entitlement(status: u16, path: &str, message: &str) -> Option<&'static str> {
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
    // A message about SQL is the database's, about the user's own words.
    let may_say_so = matches!(status, 400 | 403 | 422) && !path.contains("/database/query");
    let message = message.to_lowercase();
    let says_so = may_say_so
        && (message.split(|c: char| !(c.is_alphanumeric() || c == '-')).any(|w| WORDS.contains(&w))
            || message.contains("not allowed to configure"));
    (status == 402 || says_so).then(|| required_plan_for_path(path))
}

fn required_plan_for_path(path: &str) -> &'static str {
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
