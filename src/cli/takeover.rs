//! `--take-over`: another process is asked to stop its run, and this one goes on when it has.

use super::questions::current_user;
use crate::{
    base::terminal,
    journal::{Error, Holder, Journal, Run},
    report::CliError,
    runtime::{Refusal, Runbook, Runtime},
};
use std::{
    thread::sleep,
    time::{Duration, Instant},
};

/// The maximum number of other runs that `--take-over` asks to stop.
pub(super) const MAX_TAKEOVERS: u32 = 8;
/// How long another process has to stop: at most it finishes a poll.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// How often to check whether it has stopped.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Claims a run; with `take_over`, from the process that holds it.
///
/// # Errors
/// As [`Runtime::acquire_run`]; another process has it and does not stop.
pub(super) fn acquire_or_take_over_run(
    journal: &Journal,
    id: &str,
    take_over: bool,
) -> Result<(Run, Runbook), CliError> {
    match Runtime::acquire_run(journal, id) {
        Err(Refusal::Journal(Error::Held { .. } | Error::HeldByUnknown { .. })) if take_over => {
            stop_run_owner_and_wait(journal, id)?;
            Ok(Runtime::acquire_run(journal, id)?)
        }
        taken => Ok(taken?),
    }
}

/// Asks the process that holds a run to stop, and waits until it has.
///
/// # Errors
/// The other process does not stop in time.
pub(super) fn stop_run_owner_and_wait(journal: &Journal, run: &str) -> Result<(), CliError> {
    let by = format!("{} ({})", current_user(), Holder::this_process());
    terminal::print_message(&format!("asks the run {run} to stop"));
    journal.request_stop(run, &by)?;
    let deadline = Instant::now() + STOP_TIMEOUT;
    while journal.is_run_held(run) {
        if Instant::now() > deadline {
            let holder = journal.find_holder(run);
            let by = holder.as_ref().map_or_else(String::new, |holder| format!(", which {holder} holds,"));
            let message = format!(
                "the run `{run}`{by} was asked to stop and has not within {} s",
                STOP_TIMEOUT.as_secs()
            );
            let way_out = holder
                .as_ref()
                .map_or_else(|| "try again, or stop its process".into(), Holder::describe_how_to_release);
            return Err(CliError::usage(message)
                .with_hint(format!("it stops when it next looks up from its work; {way_out}"))
                .with_next_command(format!("redrill runs show {run}")));
        }
        sleep(POLL_INTERVAL);
    }
    Ok(())
}

/// Returns the run that holds the lease on a target, where that is the error.
pub(super) fn find_lease_holder(error: &Error) -> Option<&str> {
    match error {
        Error::Leased { run, .. } => Some(run),
        _ => None,
    }
}
