//! Sessions of the prompt, as commands from elsewhere meet them: none of them goes on with one.

use crate::{
    journal::{Journal, RunSummary},
    report::CliError,
    runtime::SESSION,
};

/// Refuses to decide about a run that is a session, or to resume it.
///
/// # Errors
/// It is one: what it waits for is decided at its prompt, and when its process is gone, nothing goes on with it.
pub(super) fn check_is_no_session(journal: &Journal, run: &RunSummary) -> Result<(), CliError> {
    let id = &run.id;
    if run.runbook != SESSION {
        return Ok(());
    }
    if journal.is_run_held(id) {
        let holder =
            journal.find_holder(id).map_or_else(|| "another process".to_owned(), |by| by.to_string());
        return Err(CliError::usage(format!("`{id}` is a session that {holder} has; decide there"))
            .with_hint("only its own prompt goes on with it")
            .with_next_command(format!("redrill runs show {id}")));
    }
    Err(CliError::usage(format!("`{id}` is a session, and its process is gone"))
        .with_hint("it cannot go on; what it began can be settled, and its temporary branches removed")
        .with_next_command(format!("redrill runs abandon {id}")))
}
