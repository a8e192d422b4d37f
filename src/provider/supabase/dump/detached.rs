//! A detached program that writes its exit code to a file: it may outlive the process that waits for it.

use crate::provider::{
    Code, Error, Result,
    host::{
        process::{self, TrackedProcess},
        programs::{self, Programs},
    },
};
use rustix::process::Signal;
use std::{
    ffi::{OsStr, OsString},
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

/// How often it is looked whether a program that was killed is gone.
const KILLED_POLLS_MAX: u32 = 300;
/// The time between two such looks.
const KILLED_POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A program and its files in a folder of its own, which is among its arguments: `<name>.log`, once it runs
/// `<name>.begun`, and once it has exited `<name>.status`.
pub(in crate::provider::supabase) struct DetachedProgram<'a> {
    folder: &'a Path,
    name: &'static str,
}

/// The state of a detached program.
pub(in crate::provider::supabase) enum ProgramStatus {
    Running,
    /// The program left an exit code.
    Exited {
        /// Whether its exit code was 0.
        success: bool,
        /// The tail of its log.
        log_tail: String,
    },
    /// The program never ran: its starter died before.
    NeverRan,
    /// The program is gone and left no exit code.
    Vanished,
}

impl<'a> DetachedProgram<'a> {
    /// Returns the program whose files in `folder` begin with `name`.
    pub(in crate::provider::supabase) fn in_folder(folder: &'a Path, name: &'static str) -> Self {
        Self { folder, name }
    }

    /// Starts the program, after removing the files of an earlier start.
    ///
    /// # Errors
    /// [`Code::Tool`].
    pub(in crate::provider::supabase) fn start_program(
        &self,
        tools: &Programs,
        program: &str,
        args: &[OsString],
        environment: &[(&str, &OsStr)],
    ) -> Result<TrackedProcess> {
        // The status file is written under another name and renamed, so that it is never seen half-written.
        const SCRIPT: &str =
            r#"umask 077; true > "$1"; shift; "$@"; echo $? > "$0.new" && mv -f -- "$0.new" "$0""#;
        for left in [self.status_path(), self.begun_path(), self.log_path()] {
            remove_if_present(&left)?;
        }
        let (status, begun) = (self.status_path(), self.begun_path());
        let program = tools.bin.join(program);
        let mut words: Vec<&OsStr> = vec!["-c".as_ref(), SCRIPT.as_ref()];
        words.extend([status.as_os_str(), begun.as_os_str(), program.as_os_str()]);
        words.extend(args.iter().map(OsString::as_os_str));
        tools.spawn_detached("sh", &words, environment, &self.log_path())
    }

    /// Returns the program's state. `child` is absent if its starter died before it saved the process id.
    pub(in crate::provider::supabase) fn poll_status(&self, child: Option<&TrackedProcess>) -> ProgramStatus {
        let is_alive = child.is_some_and(TrackedProcess::is_alive)
            || programs::is_log_in_use(&self.log_path())
            || process::find_program_started_below(self.folder).is_some();
        // Read after the liveness check: a process that is gone by then has written its status.
        let status = fs::read_to_string(self.status_path()).unwrap_or_default();
        if let Ok(code) = status.trim().parse::<i32>() {
            let log_tail = programs::tail_output(&fs::read(self.log_path()).unwrap_or_default());
            return ProgramStatus::Exited { success: code == 0, log_tail };
        }
        match child {
            _ if is_alive => ProgramStatus::Running,
            None if !self.begun_path().exists() => ProgramStatus::NeverRan,
            _ => ProgramStatus::Vanished,
        }
    }

    /// Kills the program and all that it started.
    pub(in crate::provider::supabase) fn kill_program(&self, child: Option<&TrackedProcess>) {
        for _ in 0..KILLED_POLLS_MAX {
            let alive = child.cloned().filter(TrackedProcess::is_alive);
            if let Some(found) = alive.or_else(|| process::find_program_started_below(self.folder)) {
                found.signal_group(Signal::KILL);
            }
            // One that does not run its program yet is found when it does.
            if !programs::is_log_in_use(&self.log_path()) {
                return;
            }
            thread::sleep(KILLED_POLL_INTERVAL);
        }
    }

    fn status_path(&self) -> PathBuf {
        self.folder.join(format!("{}.status", self.name))
    }

    fn begun_path(&self) -> PathBuf {
        self.folder.join(format!("{}.begun", self.name))
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.name))
    }
}

fn remove_if_present(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(file_error(path, "be removed", &e)),
    }
}

/// Returns the error of what could not be done with a file or folder.
pub(in crate::provider::supabase) fn file_error(path: &Path, verb: &str, why: &io::Error) -> Error {
    let code = if why.kind() == io::ErrorKind::StorageFull { Code::NoDiskSpace } else { Code::Tool };
    Error::new(code, format!("`{}` cannot {verb}: {why}", path.display()))
}

/// Returns the error of a program that was gone so often and left no exit code.
pub(in crate::provider::supabase) fn vanished_error(program: &str, times: u32) -> Error {
    Error::new(Code::Tool, format!("`{program}` was killed {times} times without a word"))
        .with_hint("see whether the machine ran out of memory, or was restarted")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::Write as _,
        process::{Child, Command, Stdio},
    };

    /// Starts a process that shows no command line of ours and has the log as its output, as one has that does not run its program
    /// yet. It waits until its input ends.
    fn start_process_before_its_program(log: &Path) -> Child {
        let output = fs::File::create(log).expect("a log");
        rustix::fs::flock(&output, rustix::fs::FlockOperation::NonBlockingLockExclusive)
            .expect("it is locked");
        let mut starter = Command::new("cat");
        starter.stdin(Stdio::piped()).stdout(output).spawn().expect("it starts")
    }

    #[test]
    fn a_program_whose_starter_died_before_it_ran_is_found_or_never_ran() {
        let folder = tempfile::tempdir().expect("a folder");
        let program = DetachedProgram::in_folder(folder.path(), "load");
        assert!(matches!(program.poll_status(None), ProgramStatus::NeverRan), "nothing was started");
        let mut child = start_process_before_its_program(&program.log_path());
        assert!(matches!(program.poll_status(None), ProgramStatus::Running), "it comes to its program yet");
        drop(child.stdin.take());
        child.wait().expect("it ends");
        assert!(matches!(program.poll_status(None), ProgramStatus::NeverRan), "it did not come to it");
    }

    #[test]
    fn a_program_that_is_slow_to_say_something_is_followed_without_its_number() {
        let folder = tempfile::tempdir().expect("a folder");
        let (input, elsewhere) = (folder.path().join("input"), tempfile::tempdir().expect("a folder"));
        let own = elsewhere.path().join("slow");
        fs::write(&own, "#!/bin/sh\nread word < \"$1\"\ntest \"$word\" = go\n").expect("a program");
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&own, executable).expect("it is ours");
        let made = Command::new("mkfifo").arg(&input).status().expect("it runs");
        assert!(made.success());
        let tools = Programs { bin: elsewhere.path().to_owned(), owner: None };
        let program = DetachedProgram::in_folder(folder.path(), "load");
        let child = program.start_program(&tools, "slow", &[input.clone().into_os_string()], &[]);
        let child = child.expect("it starts");
        assert!(programs::is_log_in_use(&program.log_path()));
        assert!(matches!(program.poll_status(None), ProgramStatus::Running));
        fs::OpenOptions::new().write(true).open(&input).expect("it reads").write_all(b"go\n").expect("told");
        while child.is_alive() || programs::is_log_in_use(&program.log_path()) {
            std::thread::yield_now();
        }
        assert!(matches!(program.poll_status(None), ProgramStatus::Exited { success: true, .. }));
        fs::remove_file(program.status_path()).expect("as if it was killed");
        assert!(matches!(program.poll_status(None), ProgramStatus::Vanished));
    }
}
