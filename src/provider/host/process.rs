//! Processes that may outlive us, known by their number and the moment they started.
//!
//! A process id alone is no identity, because the system reuses it. A zombie counts as dead.

use crate::provider::{Code, Error, Result};
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};
use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    thread,
};

/// A process, told from a later one with the same number by its start time (in clock ticks since boot) and the boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::provider) struct TrackedProcess {
    /// The process id.
    pub pid: i32,
    /// The start time, in clock ticks since boot.
    pub started: u64,
    /// The id of that boot.
    pub boot: String,
}

impl TrackedProcess {
    /// Tracks a child process, and reaps it in a thread so that it leaves no zombie.
    ///
    /// # Errors
    /// [`Code::Tool`] when it is gone already and nothing is known of it.
    pub(super) fn track_child(mut child: std::process::Child) -> Result<Self> {
        let pid = i32::try_from(child.id())
            .map_err(|_| Error::new(Code::Internal, "a process has a number out of range"))?;
        // A child that ended at once is a zombie until it is waited for, so its start time can still be read.
        let started = read_state_and_start_time(pid).map_or(0, |(_, started)| started);
        thread::spawn(move || drop(child.wait()));
        Ok(Self { pid, started, boot: read_boot_id() })
    }

    /// Returns the process with this number, if there is one.
    pub(in crate::provider) fn find_running(pid: i32) -> Option<Self> {
        let (state, started) = read_state_and_start_time(pid)?;
        (state != 'Z' && state != 'X').then(|| Self { pid, started, boot: read_boot_id() })
    }

    /// Returns whether this very process is still running.
    pub(in crate::provider) fn is_alive(&self) -> bool {
        Self::find_running(self.pid).is_some_and(|now| now == *self)
    }

    /// Sends a signal to this process, if it is still there.
    pub(in crate::provider) fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.pid).filter(|_| self.is_alive()) {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// Sends a signal to this process and all that it started, if it is still there.
    pub(in crate::provider) fn signal_group(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.pid).filter(|_| self.is_alive()) {
            let _ = rustix::process::kill_process_group(pid, signal);
        }
    }
}

/// Returns the folder a process works in, when we may know.
pub(in crate::provider) fn working_folder(pid: i32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

/// Returns every living process that works in `folder`.
pub(in crate::provider) fn list_processes_working_in(folder: &Path) -> Vec<TrackedProcess> {
    let Ok(folder) = fs::canonicalize(folder) else { return Vec::new() };
    list_pids()
        .filter(|pid| working_folder(*pid).as_ref() == Some(&folder))
        .filter_map(TrackedProcess::find_running)
        .collect()
}

/// The programs that redrill starts detached. Another program that has one of our folders as an argument is not ours.
const OUR_PROGRAMS: [&str; 8] =
    ["postgres", "initdb", "pg_basebackup", "pg_verifybackup", "pg_dump", "pg_restore", "sh", "cp"];

/// Finds a running program of ours that has this argument, whichever process started it: so a child is found whose
/// process id was not recorded before its parent was killed.
pub(in crate::provider) fn find_program_started_with(argument: &OsStr) -> Option<TrackedProcess> {
    find_own_program(|part| part == argument)
}

/// Finds a running program of ours that was started with a path below `folder`.
pub(in crate::provider) fn find_program_started_below(folder: &Path) -> Option<TrackedProcess> {
    find_own_program(|part| Path::new(part).starts_with(folder))
}

fn find_own_program(fits: impl Fn(&OsStr) -> bool) -> Option<TrackedProcess> {
    let is_ours = |pid: &i32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        OUR_PROGRAMS.contains(&name.trim_end())
            && line.split(|byte| *byte == 0).any(|part| fits(OsStr::from_bytes(part)))
    };
    list_pids().filter(is_ours).find_map(TrackedProcess::find_running)
}

fn list_pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Returns the state letter and the start time of a process.
fn read_state_and_start_time(pid: i32) -> Option<(char, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may itself hold spaces and parentheses.
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// Returns the id of the current boot.
pub(in crate::provider) fn read_boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{process::Command, time::Duration};

    #[test]
    fn a_process_is_known_by_number_and_start() {
        let child = Command::new("sleep").arg("30").spawn().expect("starts");
        let child = TrackedProcess::track_child(child).expect("is known");
        assert!(child.is_alive());
        assert!(!TrackedProcess { started: child.started + 1, ..child.clone() }.is_alive());
        child.signal(Signal::KILL);
        for _ in 0..100 {
            if !child.is_alive() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("a killed process is still alive");
    }

    #[test]
    fn a_cluster_that_is_still_being_made_is_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("initdb");
        fs::write(&program, "#!/bin/sh\nread forever\n").expect("a program");
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&program, executable).expect("it is ours");
        let mut making = Command::new(&program)
            .args(["-D".as_ref(), folder.path().join("data.partial").as_os_str()])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("starts");
        // A new process takes a moment to show its own command line.
        let looks = std::iter::repeat_with(|| find_program_started_below(folder.path())).take(200);
        let found =
            looks.inspect(|_| std::thread::sleep(std::time::Duration::from_millis(10))).flatten().next();
        let number = i32::try_from(making.id()).expect("a number");
        making.kill().expect("ends");
        making.wait().expect("ends");
        assert_eq!(found.expect("is found").pid, number);
    }
}
