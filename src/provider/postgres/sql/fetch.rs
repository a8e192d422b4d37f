//! Statements of our own, and their rows as text.
//!
//! None is waited for without end: what is left of the call's time bounds a change, and what only reads has a little more,
//! because a call whose time is over must still be looked at.

use super::refusal::{self, statement_error};
use crate::{
    base::{
        call_time::call_time_left,
        clock::{Clock, SystemClock},
        moment::Span,
        send_deadline::current_send_deadline,
    },
    provider::{Code, Error, Result},
};
use std::time::Duration;
use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow};

/// How long the answer to a read is waited for where no call says it: each statement here does one small thing.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// How long an answer is waited for, however little is left of a call's time.
const ANSWER_TIMEOUT_MIN: Duration = Duration::from_secs(5);

/// Returns the first column of the first row, which is null also where there is no row.
///
/// # Errors
/// What the server says.
pub(in super::super) async fn fetch_text(
    client: &tokio_postgres::Client,
    sql: &str,
) -> Result<Option<String>> {
    Ok(fetch_rows(client, sql).await?.first().and_then(|row| row.get(0)).map(str::to_owned))
}

/// Returns the rows of one or more statements of our own, every value as text.
///
/// # Errors
/// What the server says; [`Code::Timeout`] when it does not answer.
pub(in super::super) async fn fetch_rows(
    client: &tokio_postgres::Client,
    sql: &str,
) -> Result<Vec<SimpleQueryRow>> {
    let limit = call_time_left().map_or(ANSWER_TIMEOUT, |left| left.max(ANSWER_TIMEOUT_MIN));
    match tokio::time::timeout(limit, client.simple_query(sql)).await {
        Ok(answer) => answer.map(collect_rows).map_err(|e| statement_error(&e, sql)),
        Err(_) => Err(Error::new(Code::Timeout, describe_silence(limit))
            .with_hint("see what the server is doing, or give the call more with `timeout:`")),
    }
}

/// Sends a statement of our own that changes something and may be lost, and returns the first column of its first row.
///
/// # Errors
/// What the server says, and then nothing was changed; [`Code::Unavailable`] when the time to send it is over, and nothing was
/// sent; [`Code::Unknown`] when it was sent and not answered.
pub(in super::super) async fn send_change(
    client: &tokio_postgres::Client,
    sql: &str,
) -> Result<Option<String>> {
    if is_send_deadline_over() {
        return Err(Error::new(
            Code::Unavailable,
            "the time to send the statement is over, and nothing was sent",
        )
        .with_hint("see why the server answers so late, then ask again"));
    }
    // A call whose time is over may still clean up.
    let left = call_time_left().filter(|left| !left.is_zero());
    let limit = left.unwrap_or(ANSWER_TIMEOUT_MIN);
    let why = match tokio::time::timeout(limit, client.simple_query(sql)).await {
        Ok(Ok(answer)) => {
            return Ok(collect_rows(answer).first().and_then(|row| row.get(0)).map(str::to_owned));
        }
        Ok(Err(e)) if refusal::is_statement_refusal(&e) => {
            let refused = statement_error(&e, sql);
            // A statement that was cancelled may have done its part.
            if !matches!(refused.code, Code::Timeout | Code::Unavailable) {
                return Err(refused);
            }
            refused.message
        }
        Ok(Err(e)) => refusal::innermost_reason(&e),
        Err(_) => describe_silence(limit),
    };
    let lost = Error::new(Code::Unknown, format!("the statement was sent, and no answer came: {why}"));
    Err(Error { retryable: false, ..lost })
}

fn collect_rows(answer: Vec<SimpleQueryMessage>) -> Vec<SimpleQueryRow> {
    let rows = answer.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    rows.collect()
}

/// Returns whether nothing may be sent any more.
fn is_send_deadline_over() -> bool {
    current_send_deadline().is_some_and(|deadline| {
        deadline.since_in_same_boot(&SystemClock.uptime()).is_none_or(|left| left <= Span::ZERO)
    })
}

fn describe_silence(limit: Duration) -> String {
    format!("the database did not answer within {}", Span::from_std(limit))
}

/// Returns a time limit as the server takes it.
pub(super) fn limit_in_millis(limit: Span) -> u128 {
    limit.to_std().as_millis().clamp(1, i32::MAX as u128)
}
