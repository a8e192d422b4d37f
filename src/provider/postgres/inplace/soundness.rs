//! Comparing a copy with its checksums before it takes the place of the data: detached, and begun again when it is
//! killed.

use crate::{
    base::{clock::Clock, moment::Span},
    provider::{
        Code, Error, Result,
        postgres::{
            copying::STARTS_MAX,
            process,
            tools::{self, Tools},
        },
    },
};
use rustix::process::Signal;
use std::{fs, path::Path};

/// Returns whether the copy in `data` was found to be sound, and sees to it that somebody looks. What the looks said is
/// in `folder`.
///
/// # Errors
/// [`Code::CorruptBackup`] with what is wrong; [`Code::Tool`] when nobody could look.
pub(super) fn is_proved(tools: &Tools, folder: &Path, data: &Path) -> Result<bool> {
    if process::started_with(data.as_os_str()).is_some() {
        return Ok(false);
    }
    let output = |start: u32| folder.join(format!("verified-{start}.log"));
    let starts = (1..=STARTS_MAX).take_while(|start| output(*start).is_file()).last().unwrap_or(0);
    let said = fs::read(output(starts)).unwrap_or_default();
    if String::from_utf8_lossy(&said).contains("backup successfully verified") {
        return Ok(true);
    }
    if !said.is_empty() {
        let message = format!("the copy of the backup differs from its checksums: {}", tools::tail(&said));
        return Err(Error::new(Code::CorruptBackup, message)
            .hint("see `backup verify`, and restore from another backup"));
    }
    if starts == STARTS_MAX {
        return Err(Error::new(
            Code::Tool,
            format!("`pg_verifybackup` was killed {STARTS_MAX} times without a word"),
        ));
    }
    tools.spawn_detached("pg_verifybackup", &[data.as_os_str()], &[], &output(starts + 1))?;
    Ok(false)
}

/// Ends whoever looks at the copy in `data`.
pub(super) async fn end(clock: &dyn Clock, data: &Path) {
    while let Some(looking) = process::started_with(data.as_os_str()) {
        looking.signal_group(Signal::KILL);
        looking.signal(Signal::KILL);
        clock.sleep(Span::millis(20)).await;
    }
}
