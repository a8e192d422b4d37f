//! The server of a data folder: starting it detached, finding it, stopping it.
//!
//! Whether a server runs is told by the process that `postmaster.pid` names, never by an exit code.

use crate::{
    base::{clock::Clock, moment::Span},
    provider::{
        Code, Error, Result,
        host::{
            process::{self, TrackedProcess},
            programs::{self, Programs},
        },
    },
};
use rustix::process::Signal;
use std::{
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
};

/// How often a server is polled before its start counts as failed.
const START_POLLS_MAX: u32 = 1200;
/// How often a server is polled before its shutdown is waited for no longer.
const STOP_POLLS_MAX: u32 = 600;
/// What was told to stop at once and is still there after so many polls, ten seconds, does not stop by itself.
const KILL_AFTER_POLLS: u32 = 200;
/// The time between two polls.
const POLL_INTERVAL: Span = Span::from_millis(50);

/// The length that the path of a socket must stay below, in bytes.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// A shutdown mode of PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum ShutdownMode {
    /// Sessions are ended, a checkpoint is written, WAL is archived.
    Fast,
    /// At once, as in a crash: for what is thrown away.
    Immediate,
}

/// Returns the server process of `data`, if it runs.
pub(in super::super) fn find_server(data: &Path) -> Option<TrackedProcess> {
    let text = fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let pid = text.lines().next()?.trim().parse().ok()?;
    let child = TrackedProcess::find_running(pid)?;
    // A stale file may hold a number that another process has by now: the server is the one that works in its data
    // folder. A process whose folder may not be read counts as the server.
    match process::working_folder(pid) {
        Some(folder) => (fs::canonicalize(data).ok()? == folder).then_some(child),
        None => Some(child),
    }
}

/// Returns whether the server of `data` runs and lets sessions in, as it says itself.
pub(in super::super) fn is_server_ready(data: &Path) -> bool {
    let text = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    text.lines().nth(7).is_some_and(|status| status.trim() == "ready") && find_server(data).is_some()
}

/// Waits until the server of `data`, which was just started, accepts connections.
///
/// # Errors
/// [`Code::Tool`] when it goes away again or does not get that far within a minute.
pub(in super::super) async fn wait_until_ready(clock: &dyn Clock, data: &Path) -> Result<()> {
    for step in 0..START_POLLS_MAX {
        if is_server_ready(data) {
            return Ok(());
        }
        // A server takes a moment to write `postmaster.pid`.
        if step > 20
            && find_server(data).is_none()
            && process::find_program_started_with(data.as_os_str()).is_none()
        {
            break;
        }
        clock.sleep(POLL_INTERVAL).await;
    }
    Err(Error::new(Code::Tool, format!("the server in `{}` does not start", data.display()))
        .with_hint("look at its log"))
}

/// Returns the folder for a socket: inside `folder` when its path is short enough for the system, else a folder of
/// that name under `/tmp`.
pub(in super::super) fn choose_socket_folder(folder: &Path, name: &str) -> PathBuf {
    let own = folder.join("socket");
    if fits_socket(&own) { own } else { Path::new("/tmp").join(format!("rd-{name}")) }
}

/// Returns whether a socket can be in `folder`.
pub(in super::super) fn fits_socket(folder: &Path) -> bool {
    folder.join(".s.PGSQL.65535.lock").as_os_str().len() < SOCKET_PATH_BYTES_MAX
}

/// Returns the file that the standard error of the server of `data` goes to.
pub(in super::super) fn find_stderr_file(data: &Path) -> Option<PathBuf> {
    let file = fs::read_link(format!("/proc/{}/fd/2", find_server(data)?.pid)).ok()?;
    file.is_file().then_some(file)
}

/// Starts a server on `data`, detached, writing to `log`.
///
/// # Errors
/// [`Code::Tool`] when the program cannot be started. Whether the server comes up must be observed.
pub(in super::super) fn start_server(
    programs: &Programs,
    data: &Path,
    options: &[OsString],
    log: &Path,
) -> Result<TrackedProcess> {
    let mut args = vec![OsStr::new("-D"), data.as_os_str()];
    args.extend(options.iter().map(OsString::as_os_str));
    programs.spawn_detached("postgres", &args, &[], log)
}

/// Tells the server of `data` to stop if it runs, and returns which processes of it are left, for messages; `None` when none
/// is. To be called again until then: nothing takes a shutdown back, and a server that is told twice goes on with it.
pub(in super::super) fn stop_or_poll_server(data: &Path, mode: ShutdownMode) -> Option<String> {
    signal_server(data, mode);
    describe_processes(&list_server_processes(data))
}

fn signal_server(data: &Path, mode: ShutdownMode) {
    if let Some(server) = find_server(data) {
        server.signal(match mode {
            ShutdownMode::Fast => Signal::INT,
            ShutdownMode::Immediate => Signal::QUIT,
        });
    }
}

/// Returns the processes of the server of `data`: what it started may outlive it.
fn list_server_processes(data: &Path) -> Vec<TrackedProcess> {
    let mut left = process::list_processes_working_in(data);
    left.extend(find_server(data).filter(|server| !left.contains(server)));
    left
}

fn describe_processes(left: &[TrackedProcess]) -> Option<String> {
    let numbers: Vec<String> = left.iter().map(|process| process.pid.to_string()).collect();
    (!numbers.is_empty()).then(|| format!("still there: process {}", numbers.join(", ")))
}

/// Stops the server of `data` at once, as [`stop_server`] does, also one that is only starting and was given this `log`: until
/// it runs its program and works in its folder, nothing else tells that it is there, and it would come up in what is removed.
///
/// # Errors
/// As [`stop_server`].
pub(in super::super) async fn stop_server_at_once(clock: &dyn Clock, data: &Path, log: &Path) -> Result<()> {
    for _ in 0..KILL_AFTER_POLLS {
        match process::find_program_started_with(data.as_os_str()) {
            Some(server) => server.signal(Signal::QUIT),
            None if programs::is_log_in_use(log) => {}
            None => break,
        }
        clock.sleep(POLL_INTERVAL).await;
    }
    stop_server(clock, data, ShutdownMode::Immediate).await
}

/// Stops the server of `data` and returns when no process of it is left; stopping what does not run is no error.
///
/// # Errors
/// [`Code::Timeout`] when it takes longer than half a minute. It has been told to stop then, and may do so at any time.
pub(in super::super) async fn stop_server(clock: &dyn Clock, data: &Path, mode: ShutdownMode) -> Result<()> {
    signal_server(data, mode);
    for step in 0..STOP_POLLS_MAX {
        let left = list_server_processes(data);
        if left.is_empty() {
            return Ok(());
        }
        if mode == ShutdownMode::Immediate && step >= KILL_AFTER_POLLS {
            for child in &left {
                child.signal(Signal::KILL);
            }
        }
        clock.sleep(POLL_INTERVAL).await;
    }
    let left = describe_processes(&list_server_processes(data)).unwrap_or_else(|| "gone only now".into());
    let message = format!("the server in `{}` was told to stop, and does not yet: {left}", data.display());
    Err(Error::new(Code::Timeout, message).with_hint("look at its log, and end what holds it"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::SystemClock;
    use rustix::fs::{FlockOperation, flock};
    use std::time::Duration;

    #[tokio::test]
    async fn a_server_that_does_not_run_its_program_yet_is_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let (data, log) = (folder.path().join("data"), folder.path().join("server-1.log"));
        let begun = fs::File::create(&log).expect("a log");
        flock(&begun, FlockOperation::LockExclusive).expect("locked as by one that was begun");
        let mut stopping = Box::pin(stop_server_at_once(&SystemClock, &data, &log));
        let early = tokio::time::timeout(Duration::from_millis(60), &mut stopping).await;
        assert!(early.is_err(), "it is told to be stopped: {early:?}");
        drop(begun);
        stopping.await.expect("nothing is left");
    }
}
