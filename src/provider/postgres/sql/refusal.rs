//! Maps a server's error to ours: a code for programs, and a sentence with the server's own words.

pub(super) use crate::provider::sql::sqlstate::code_for_sqlstate;

use crate::provider::{Code, Error, sql::sqlstate};
use std::error::Error as _;
use tokio_postgres::error::{DbError, ErrorPosition, Severity};

/// Returns our error for a failed statement `sql`.
pub(in super::super) fn statement_error(error: &tokio_postgres::Error, sql: &str) -> Error {
    let Some(said) = error.as_db_error() else {
        return no_answer_error(error);
    };
    let state = said.code().code();
    let refused = Error::new(
        code_for_sqlstate(state),
        format!("the database refused the statement: {}", error_sentence(said)),
    );
    match error_hint(said, state, sql) {
        hint if hint.is_empty() => refused,
        hint => refused.with_hint(hint),
    }
}

/// Returns whether the server refused the statement and the session goes on: the statement had no effect.
pub(super) fn is_statement_refusal(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|said| said.parsed_severity() == Some(Severity::Error))
}

/// Returns whether the connection closed or broke, as it does when the server goes down.
pub(super) fn is_connection_lost(error: &tokio_postgres::Error) -> bool {
    error.is_closed() || error.source().is_some_and(<dyn std::error::Error>::is::<std::io::Error>)
}

/// Returns the server's message, its detail and the SQLSTATE.
pub(super) fn error_sentence(said: &DbError) -> String {
    let detail = said.detail().map(|d| format!("; {}", d.trim_end_matches('.'))).unwrap_or_default();
    format!("{}{detail} (SQLSTATE {})", said.message().trim_end_matches('.'), said.code().code())
}

/// Returns the innermost cause of an error; the outer ones say too little.
pub(super) fn innermost_reason(error: &tokio_postgres::Error) -> String {
    let mut reason: &dyn std::error::Error = error;
    while let Some(deeper) = reason.source() {
        reason = deeper;
    }
    reason.to_string()
}

fn no_answer_error(error: &tokio_postgres::Error) -> Error {
    if is_connection_lost(error) {
        return Error::new(
            Code::Unavailable,
            format!("the connection to the database was lost: {}", innermost_reason(error)),
        );
    }
    Error::new(
        Code::Unsupported,
        format!("the database's answer cannot be taken: {}", innermost_reason(error)),
    )
    .with_hint("a statement that copies from or to its client (`copy … from stdin`) belongs to psql")
}

fn error_hint(said: &DbError, state: &str, sql: &str) -> String {
    let parts = [
        sqlstate::hint_for_sqlstate(state).map(str::to_owned),
        said.hint().map(str::to_owned),
        render_caret(said, sql),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("\n")
}

/// Returns the line that the server points at, with a caret below the position.
fn render_caret(said: &DbError, sql: &str) -> Option<String> {
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
