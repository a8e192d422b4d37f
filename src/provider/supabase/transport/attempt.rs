//! Sending one request once, and its outcome.

use super::{
    address,
    answer::{ApiAnswer, RequestFailure, unanswered_failure},
    endpoint::ApiEndpoint,
    rate_limit::RateLimitHeaders,
    request::ApiRequest,
    token::AccessToken,
};
use crate::{base::moment::Span, provider::Result};
use reqwest::{Response, header};
use serde_json::Value;
use std::time::Instant;

/// How many bytes of an answer are read, unpacked: more than any answer of the API has, and less than memory.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// The outcome of one attempt.
pub(super) enum AttemptOutcome {
    /// It was answered.
    Answer(ApiAnswer),
    /// There was no connection to send it on.
    NotSent(String),
    /// It was sent, or may have been, and there is no answer.
    NoAnswer(String),
}

/// Sends one request, and waits `limit` for the whole answer.
pub(super) async fn send_once(
    endpoint: &ApiEndpoint,
    request: &ApiRequest<'_>,
    token: &AccessToken,
    limit: Span,
) -> AttemptOutcome {
    let client = match address::shared_client(endpoint.is_local, !request.writes) {
        Ok(client) => client,
        Err(e) => return AttemptOutcome::NotSent(e.message),
    };
    let mut builder = client
        .request(request.method.clone(), format!("{}{}", endpoint.address, request.path))
        .bearer_auth(token.secret.expose_secret())
        .header(header::ACCEPT, "application/json");
    if let Some(body) = request.body {
        builder = builder.header(header::CONTENT_TYPE, "application/json").body(body.to_string());
    }
    let answered = async {
        match builder.send().await {
            Ok(response) => read_response(response).await,
            Err(e) if e.is_connect() => AttemptOutcome::NotSent(innermost_reason(&e)),
            Err(e) => AttemptOutcome::NoAnswer(innermost_reason(&e)),
        }
    };
    let started = Instant::now();
    let outcome = match tokio::time::timeout(limit.to_std(), answered).await {
        Ok(tried) => tried,
        Err(_) => AttemptOutcome::NoAnswer(format!("no answer within {limit}")),
    };
    log_attempt(request, &outcome, started);
    outcome
}

/// Logs an attempt: method, path, outcome. Neither the query of the path nor a body is logged, which may hold a secret.
fn log_attempt(request: &ApiRequest<'_>, outcome: &AttemptOutcome, started: Instant) {
    let path = request.path.split('?').next().unwrap_or_default();
    let method = &request.method;
    let outcome = match outcome {
        AttemptOutcome::Answer(answer) => answer.status.to_string(),
        AttemptOutcome::NotSent(why) => format!("not sent: {why}"),
        AttemptOutcome::NoAnswer(why) => format!("no answer: {why}"),
    };
    let took = started.elapsed();
    if request.writes {
        tracing::info!(%method, path, outcome, ?took, "request");
    } else {
        tracing::debug!(%method, path, outcome, ?took, "request");
    }
}

/// Reads the whole answer. One that breaks off counts as none: a status alone is no refusal.
async fn read_response(mut response: Response) -> AttemptOutcome {
    let status = response.status();
    let limits = RateLimitHeaders::from_headers(response.headers());
    let mut body = Vec::new();
    let broken = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break None,
            Err(e) => break Some(innermost_reason(&e)),
        }
        if body.len() > ANSWER_BYTES_MAX {
            break Some(format!("the answer is larger than {} MiB", ANSWER_BYTES_MAX >> 20));
        }
    };
    match broken {
        Some(why) => AttemptOutcome::NoAnswer(why),
        None => AttemptOutcome::Answer(ApiAnswer {
            status,
            limits,
            text: String::from_utf8_lossy(&body).into_owned(),
        }),
    }
}

impl AttemptOutcome {
    /// Returns the value of an answer, or why there is none and whether to ask again.
    pub(super) fn into_value(
        self,
        request: &ApiRequest<'_>,
        token: &AccessToken,
    ) -> Result<Value, RequestFailure> {
        match self {
            AttemptOutcome::Answer(answer) => answer.into_value(request, token),
            AttemptOutcome::NotSent(why) => Err(unanswered_failure(request, &why, false)),
            AttemptOutcome::NoAnswer(why) => Err(unanswered_failure(request, &why, true)),
        }
    }
}

/// Returns the deepest reason of an error, which names no address: the outer ones only say that there is one.
fn innermost_reason(error: &reqwest::Error) -> String {
    let mut reason: &dyn std::error::Error = error;
    while let Some(deeper) = reason.source() {
        reason = deeper;
    }
    reason.to_string()
}
