//! The database's own errors, read out of the refusals of the API.

use crate::provider::{Code, Error, sql::sqlstate};

/// The prefix with which the API marks an error message of the database.
pub(super) const SQL_ERROR_PREFIX: &str = "Failed to run sql query:";

/// Turns an API error that carries a database error into an error with its SQLSTATE and message.
pub(super) fn map_sql_refusal(error: Error) -> Error {
    let Some((_, text)) = error.message.split_once(SQL_ERROR_PREFIX) else { return error };
    let text = text.trim();
    let Some(state) = parse_sqlstate(text) else {
        // No SQLSTATE: the database was not reached, or went away.
        return Error::new(Code::Unavailable, format!("the platform does not reach the database: {text}"))
            .with_hint("see how the project is with `project::get`: it may be paused, or coming up");
    };
    let message = text.split_once(&format!("{state}: ")).map_or(text, |(_, message)| message);
    let (message, rest) = message.split_once('\n').unwrap_or((message, ""));
    let refused = Error::new(
        sqlstate::code_for_sqlstate(state),
        format!("the database refused the statement: {} (SQLSTATE {state})", message.trim_end_matches('.')),
    );
    let ours = sqlstate::hint_for_sqlstate(state).or_else(|| hint_for_sqlstate(state));
    let hint = [ours.unwrap_or_default(), rest.trim_end()].into_iter().filter(|h| !h.is_empty());
    match hint.collect::<Vec<_>>().join("\n") {
        none if none.is_empty() => refused,
        hint => refused.with_hint(hint),
    }
}

/// Returns the SQLSTATE in `ERROR:  42P01: relation …`.
pub(super) fn parse_sqlstate(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once(':')?;
    let state = rest.trim_start().get(..5)?;
    let is_state = state.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase());
    (is_state && rest.trim_start()[5..].starts_with(':')).then_some(state)
}

fn hint_for_sqlstate(state: &str) -> Option<&'static str> {
    match state {
        "42501" => Some("a query is asked as `supabase_read_only_user`; use `db::execute` for a change"),
        "42P01" | "42883" | "42704" => {
            Some("write its schema, as in `public.orders`: no search path is sure there")
        }
        _ => None,
    }
}
