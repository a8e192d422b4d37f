//! What a SQLSTATE of PostgreSQL means: a [`Code`], and for a few what to do.

use crate::provider::Code;

/// Returns the code for a SQLSTATE.
pub(in crate::provider) fn code_for_sqlstate(state: &str) -> Code {
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

/// Returns what to do, for the few of which more is known than the server says.
pub(in crate::provider) fn hint_for_sqlstate(state: &str) -> Option<&'static str> {
    match state {
        "25006" => Some("a query is read-only: use `db::execute` for a change"),
        "57014" => Some("give it more `timeout:`, or find out what it waits for"),
        "25001" => Some(
            "each call is a transaction of its own: with `transaction: false` (`--transaction=false`) it runs without one",
        ),
        _ => None,
    }
}
