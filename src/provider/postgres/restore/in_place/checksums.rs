//! Runs `pg_verifybackup` on a copy before it replaces the data: detached, and started again when it is
//! killed.

use crate::{
    base::{clock::Clock, moment::Span},
    provider::{
        Code, Error, Result,
        host::{
            process,
            programs::{self, Programs},
        },
        postgres::restore::copying::STARTS_MAX,
    },
};
use rustix::process::Signal;
use std::{fs, path::Path};

/// Returns whether the copy in `data` has been verified; starts the verification if none runs. Its output is
/// in `folder`.
///
/// # Errors
/// [`Code::CorruptBackup`] with what is wrong; [`Code::Tool`] when the verification was killed too often.
pub(super) fn start_or_poll_verification(programs: &Programs, folder: &Path, data: &Path) -> Result<bool> {
    if process::find_program_started_with(data.as_os_str()).is_some() {
        return Ok(false);
    }
    let output = |start: u32| folder.join(format!("verified-{start}.log"));
    let starts = (1..=STARTS_MAX).take_while(|start| output(*start).is_file()).last().unwrap_or(0);
    if programs::is_log_in_use(&output(starts)) {
        return Ok(false);
    }
    let said = fs::read(output(starts)).unwrap_or_default();
    if String::from_utf8_lossy(&said).contains("backup successfully verified") {
        return Ok(true);
    }
    if !said.is_empty() {
        let message =
            format!("the copy of the backup differs from its checksums: {}", programs::tail_output(&said));
        return Err(Error::new(Code::CorruptBackup, message)
            .with_hint("see `backup verify`, and restore from another backup"));
    }
    if starts == STARTS_MAX {
        return Err(Error::new(
            Code::Tool,
            format!("`pg_verifybackup` was killed {STARTS_MAX} times without a word"),
        ));
    }
    programs.spawn_detached("pg_verifybackup", &[data.as_os_str()], &[], &output(starts + 1))?;
    Ok(false)
}

/// Kills the verification of the copy in `data` and waits until it is gone.
pub(super) async fn kill_verification_and_wait(clock: &dyn Clock, data: &Path) {
    while let Some(looking) = process::find_program_started_with(data.as_os_str()) {
        looking.signal_group(Signal::KILL);
        looking.signal(Signal::KILL);
        clock.sleep(Span::from_millis(20)).await;
    }
}
