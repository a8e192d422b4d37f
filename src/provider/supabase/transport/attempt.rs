//! One request on the wire, and what came of it.

use super::{
    Asked, Way, address,
    answer::{Answer, End, unanswered},
    pace::Limits,
    token::Found,
};
use crate::{base::moment::Span, provider::Result};
use reqwest::{Response, header};
use serde_json::Value;

/// How much of an answer is taken, unpacked: more than any answer of the API, and less than memory.
const BYTES_MAX: usize = 64 << 20;

/// What came of one request.
pub(super) enum Tried {
    /// It was answered.
    Answer(Answer),
    /// There was no connection to send it on.
    NotSent(String),
    /// It was sent, or may have been, and there is no answer.
    NoAnswer(String),
}

/// Sends one request, and waits `limit` for the whole answer.
pub(super) async fn attempt(way: &Way, asked: &Asked<'_>, token: &Found, limit: Span) -> Tried {
    let client = match address::client(way.near, !asked.writes) {
        Ok(client) => client,
        Err(e) => return Tried::NotSent(e.message),
    };
    let mut request = client
        .request(asked.method.clone(), format!("{}{}", way.address, asked.path))
        .bearer_auth(token.secret.reveal())
        .header(header::ACCEPT, "application/json");
    if let Some(body) = asked.body {
        request = request.header(header::CONTENT_TYPE, "application/json").body(body.to_string());
    }
    let answered = async {
        match request.send().await {
            Ok(response) => taken(response).await,
            Err(e) if e.is_connect() => Tried::NotSent(innermost(&e)),
            Err(e) => Tried::NoAnswer(innermost(&e)),
        }
    };
    match tokio::time::timeout(limit.to_std(), answered).await {
        Ok(tried) => tried,
        Err(_) => Tried::NoAnswer(format!("no answer within {limit}")),
    }
}

/// Takes the whole answer. One that breaks off is none, unless its status alone says no.
async fn taken(mut response: Response) -> Tried {
    let status = response.status();
    let limits = Limits::read(response.headers());
    let mut body = Vec::new();
    let broken = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break None,
            Err(e) => break Some(innermost(&e)),
        }
        if body.len() > BYTES_MAX {
            break Some(format!("the answer is larger than {} MiB", BYTES_MAX >> 20));
        }
    };
    match broken {
        Some(why) if !status.is_client_error() => Tried::NoAnswer(why),
        _ => Tried::Answer(Answer { status, limits, text: String::from_utf8_lossy(&body).into_owned() }),
    }
}

impl Tried {
    /// Returns the value of an answer, or why there is none and whether to ask again.
    pub(super) fn settle(self, asked: &Asked<'_>, token: &Found) -> Result<Value, End> {
        match self {
            Tried::Answer(answer) => answer.settle(asked, token),
            Tried::NotSent(why) => Err(unanswered(asked, &why, false)),
            Tried::NoAnswer(why) => Err(unanswered(asked, &why, true)),
        }
    }
}

/// Returns the deepest reason of an error, which names no address: the outer ones only say that there is one.
fn innermost(error: &reqwest::Error) -> String {
    let mut reason: &dyn std::error::Error = error;
    while let Some(deeper) = reason.source() {
        reason = deeper;
    }
    reason.to_string()
}
