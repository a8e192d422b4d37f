//! What a SQLSTATE of PostgreSQL means here: a code for programs, and what to do now where that is known.

use super::Code;

/// Returns the code for a SQLSTATE.
pub(super) fn code_for_sqlstate(state: &str) -> Code {
    match state {
        "42501" => Code::Denied,
        "57014" => Code::Timeout,
        "57P01" | "57P02" | "57P03" | "57P05" | "53300" => Code::Unavailable,
        "40001" | "40P01" | "55P03" | "55006" => Code::Conflict,
        "25001" => Code::Unsupported,
        "53100" => Code::NoDiskSpace,
        "XX001" | "XX002" => Code::CorruptSource,
        _ if state.starts_with("28") => Code::Denied,
        _ if state.starts_with("08") => Code::Unavailable,
        _ => Code::Sql,
    }
}

/// Returns what to do now, for the few of which we know more than the server says.
pub(super) fn hint_for_sqlstate(state: &str) -> Option<&'static str> {
    match state {
        "25006" => Some("a query is read-only: use `db::execute` for a change"),
        "57014" => Some("give it more `timeout:`, or find out what it waits for"),
        "25001" => Some("each call is a transaction of its own; run this statement with psql"),
        _ => None,
    }
}
