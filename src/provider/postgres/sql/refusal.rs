//! What a server's refusal means here: a code for programs, and a sentence with the server's own words.

pub(super) use crate::provider::sqlstate::code;

use crate::provider::{Code, Error, sqlstate};
use std::error::Error as _;
use tokio_postgres::error::{DbError, ErrorPosition, Severity};

/// Returns the error for what came back instead of an answer to `sql`.
pub(in super::super) fn refused(error: &tokio_postgres::Error, sql: &str) -> Error {
    let Some(said) = error.as_db_error() else {
        return not_answered(error);
    };
    let state = said.code().code();
    let refused = Error::new(code(state), format!("the database refused the statement: {}", sentence(said)));
    match hint(said, state, sql) {
        hint if hint.is_empty() => refused,
        hint => refused.hint(hint),
    }
}

/// Returns whether the server itself said no and the session lives on: whatever was asked did not happen.
pub(super) fn is_an_answer(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|said| said.parsed_severity() == Some(Severity::Error))
}

/// Returns whether the connection closed or broke, as it does when the server goes down.
pub(super) fn is_lost(error: &tokio_postgres::Error) -> bool {
    error.is_closed() || error.source().is_some_and(<dyn std::error::Error>::is::<std::io::Error>)
}

/// Returns the server's message, its detail and the SQLSTATE.
pub(super) fn sentence(said: &DbError) -> String {
    let detail = said.detail().map(|d| format!("; {}", d.trim_end_matches('.'))).unwrap_or_default();
    format!("{}{detail} (SQLSTATE {})", said.message().trim_end_matches('.'), said.code().code())
}

/// Returns the deepest reason of an error: the outer ones only say that something was in the way.
pub(super) fn innermost(error: &tokio_postgres::Error) -> String {
    let mut reason: &dyn std::error::Error = error;
    while let Some(deeper) = reason.source() {
        reason = deeper;
    }
    reason.to_string()
}

fn not_answered(error: &tokio_postgres::Error) -> Error {
    if is_lost(error) {
        return Error::new(
            Code::Unavailable,
            format!("the connection to the database was lost: {}", innermost(error)),
        );
    }
    Error::new(Code::Unsupported, format!("the database's answer cannot be taken: {}", innermost(error)))
        .hint("a statement that copies from or to its client (`copy … from stdin`) belongs to psql")
}

fn hint(said: &DbError, state: &str, sql: &str) -> String {
    let parts = [sqlstate::hint(state).map(str::to_owned), said.hint().map(str::to_owned), caret(said, sql)];
    parts.into_iter().flatten().collect::<Vec<_>>().join("\n")
}

/// Returns the line the server points at, and a caret below it.
fn caret(said: &DbError, sql: &str) -> Option<String> {
    let ErrorPosition::Original(position) = said.position()? else { return None };
    let mut before = usize::try_from(*position).ok()?.checked_sub(1)?;
    for (number, line) in sql.split('\n').enumerate() {
        let length = line.chars().count();
        if before <= length {
            let label = format!("line {}: ", number + 1);
            return Some(format!("{label}{line}\n{}^", " ".repeat(label.len() + before)));
        }
        before -= length + 1;
    }
    None
}
