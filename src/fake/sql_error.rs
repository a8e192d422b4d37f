//! The errors of SQL statements in the platform's wording.

use super::response::ApiResponse;
use crate::provider::{Code, Error};

/// Returns the response to a statement that failed with `message`.
pub(super) fn failed_query_response(message: &str) -> ApiResponse {
    ApiResponse::error(400, format!("Failed to run sql query: {message}"))
}

/// Returns the error for a write in a read-only transaction.
pub(super) fn write_refused_response(word: &str) -> ApiResponse {
    failed_query_response(&format!("ERROR:  25006: cannot execute {word} in a read-only transaction"))
}

/// Returns whether a query was refused because it writes.
pub(super) fn is_write_refusal(e: &Error) -> bool {
    e.code == Code::Sql && e.message.starts_with("the statement writes")
}

fn is_unknown_sql(said: &str) -> bool {
    ["syntax error", "no such function", "unrecognized token"].iter().any(|words| said.contains(words))
}

/// Converts a database error to the platform's wording.
pub(super) fn translate_database_error(e: Error) -> ApiResponse {
    let said = e.message.trim_start_matches("the database refused the statement: ");
    let said = match (said.strip_prefix("no such table: "), said.strip_prefix("no such column: ")) {
        (Some(table), _) => format!("42P01: relation \"{table}\" does not exist"),
        (_, Some(column)) => format!("42703: column \"{column}\" does not exist"),
        _ if is_unknown_sql(said) => {
            format!(
                "42601: {said}\nHINT:  a simulated database speaks SQLite: start the server with `--postgres`"
            )
        }
        _ => format!("42601: {said}"),
    };
    let message = format!("ERROR:  {said}");
    match e.code {
        Code::Unavailable | Code::Internal | Code::Tool => ApiResponse::from(e),
        Code::Timeout => failed_query_response("ERROR:  57014: canceling statement due to statement timeout"),
        _ => failed_query_response(&message),
    }
}
