//! `--take-over`: another process is asked to stop its run, and this one goes on when it has.

use super::asking::person;
use crate::{
    base::terminal,
    journal::{Error, Holder, Journal, Run},
    runtime::{Refusal, Runbook, World},
    show::Trouble,
};
use serde_json::Value;
use std::{
    thread::sleep,
    time::{Duration, Instant},
};

/// How long another process has to stop: it finishes a look at the world at most.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often is looked whether it has.
const LOOK: Duration = Duration::from_millis(50);

/// Takes a run, from the process that has it where that is wanted.
///
/// # Errors
/// As [`World::take`]; another process has it and does not stop.
pub(super) fn take(journal: &Journal, id: &str, take_over: bool) -> Result<(Run, Runbook, Value), Trouble> {
    match World::take(journal, id) {
        Err(Refusal::Journal(Error::Held { .. } | Error::Taken { .. })) if take_over => {
            ask_to_stop(journal, id)?;
            Ok(World::take(journal, id)?)
        }
        taken => Ok(taken?),
    }
}

/// Asks whoever moves a run to stop, and returns when nobody does.
///
/// # Errors
/// It does not.
pub(super) fn ask_to_stop(journal: &Journal, run: &str) -> Result<(), Trouble> {
    let by = format!("{} ({})", person(), Holder::this_process());
    terminal::say(&format!("asks the run {run} to stop"));
    journal.ask_to_stop(run, &by)?;
    let deadline = Instant::now() + PATIENCE;
    while journal.is_moved(run) {
        if Instant::now() > deadline {
            let message =
                format!("the run `{run}` was asked to stop and has not within {} s", PATIENCE.as_secs());
            return Err(Trouble::usage(message)
                .hint("it stops when it next looks up from its work; try again, or stop its process")
                .next(format!("redrill runs show {run}")));
        }
        sleep(LOOK);
    }
    Ok(())
}

/// Returns the run that has a target which another needs.
pub(super) fn rival(error: &Error) -> Option<&str> {
    match error {
        Error::Leased { run, .. } => Some(run),
        _ => None,
    }
}
