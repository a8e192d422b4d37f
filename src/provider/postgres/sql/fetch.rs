//! Statements of our own, and their rows as text.

use super::refusal::statement_error;
use crate::{base::moment::Span, provider::Result};
use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow};

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
/// What the server says.
pub(in super::super) async fn fetch_rows(
    client: &tokio_postgres::Client,
    sql: &str,
) -> Result<Vec<SimpleQueryRow>> {
    let messages = client.simple_query(sql).await.map_err(|e| statement_error(&e, sql))?;
    Ok(messages
        .into_iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        })
        .collect())
}

/// Returns a time limit as the server takes it.
pub(super) fn limit_in_millis(limit: Span) -> u128 {
    limit.to_std().as_millis().clamp(1, i32::MAX as u128)
}
