//! Processes that may outlive us, known by their number and the moment they started.
//!
//! A number alone is no identity: the machine gives it out again. A zombie is dead.

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
pub(in super::super) struct Child {
    /// Its number.
    pub pid: i32,
    /// When it started, in ticks since the machine did.
    pub started: u64,
    /// Which start of the machine that was.
    pub boot: String,
}

impl Child {
    /// Returns a child of ours, and sees to it that it leaves no zombie while we live.
    ///
    /// # Errors
    /// [`Code::Tool`] when it is gone already and nothing is known of it.
    pub(in super::super) fn reaped(mut child: std::process::Child) -> Result<Self> {
        let pid = i32::try_from(child.id())
            .map_err(|_| Error::new(Code::Internal, "a process has a number out of range"))?;
        // A child that ended at once is a zombie until it is waited for, so its start time can still be read.
        let started = stat(pid).map_or(0, |(_, started)| started);
        thread::spawn(move || drop(child.wait()));
        Ok(Self { pid, started, boot: boot() })
    }

    /// Returns the process with this number, if there is one.
    pub(in super::super) fn running(pid: i32) -> Option<Self> {
        let (state, started) = stat(pid)?;
        (state != 'Z' && state != 'X').then(|| Self { pid, started, boot: boot() })
    }

    /// Returns whether it is still this process that has the number.
    pub(in super::super) fn is_alive(&self) -> bool {
        Self::running(self.pid).is_some_and(|now| now == *self)
    }

    /// Sends a signal to this process, if it is still there.
    pub(in super::super) fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.pid).filter(|_| self.is_alive()) {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// Sends a signal to this process and all that it started, if it is still there.
    pub(in super::super) fn signal_group(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.pid).filter(|_| self.is_alive()) {
            let _ = rustix::process::kill_process_group(pid, signal);
        }
    }
}

/// Returns the folder a process works in, when we may know.
pub(super) fn working_folder(pid: i32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

/// Returns every living process that works in `folder`.
pub(super) fn working_in(folder: &Path) -> Vec<Child> {
    let Ok(folder) = fs::canonicalize(folder) else { return Vec::new() };
    all().filter(|pid| working_folder(*pid).as_ref() == Some(&folder)).filter_map(Child::running).collect()
}

/// The programs that we leave to themselves. Anybody may name one of our folders to a program of his own; it is not
/// ours because of that.
const OURS: [&str; 8] =
    ["postgres", "initdb", "pg_basebackup", "pg_verifybackup", "pg_dump", "pg_restore", "sh", "cp"];

/// Returns the living child of ours, of whatever life of redrill, that was started with `argument`: how a child is
/// found whose number was not yet written down when we died.
pub(in super::super) fn started_with(argument: &OsStr) -> Option<Child> {
    started(|part| part == argument)
}

/// Returns a living child of ours that was started with a path below `folder`.
pub(in super::super) fn started_below(folder: &Path) -> Option<Child> {
    started(|part| Path::new(part).starts_with(folder))
}

fn started(fits: impl Fn(&OsStr) -> bool) -> Option<Child> {
    let is_ours = |pid: &i32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        OURS.contains(&name.trim_end())
            && line.split(|byte| *byte == 0).any(|part| fits(OsStr::from_bytes(part)))
    };
    all().filter(is_ours).find_map(Child::running)
}

fn all() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Returns the state letter and the start time of a process.
fn stat(pid: i32) -> Option<(char, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may itself hold spaces and parentheses.
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// Returns which start of the machine this is.
pub(super) fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{process::Command, time::Duration};

    #[test]
    fn a_process_is_known_by_number_and_start() {
        let child = Command::new("sleep").arg("30").spawn().expect("starts");
        let child = Child::reaped(child).expect("is known");
        assert!(child.is_alive());
        assert!(!Child { started: child.started + 1, ..child.clone() }.is_alive());
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
        // A moment passes until the machine shows a new process under its own words.
        let looks = std::iter::repeat_with(|| started_below(folder.path())).take(200);
        let found =
            looks.inspect(|_| std::thread::sleep(std::time::Duration::from_millis(10))).flatten().next();
        let number = i32::try_from(making.id()).expect("a number");
        making.kill().expect("ends");
        making.wait().expect("ends");
        assert_eq!(found.expect("is found").pid, number);
    }
}
