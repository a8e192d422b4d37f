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
};

/// A program and its files in a folder of its own, which is among its arguments: `<name>.log`, and once it has exited
/// `<name>.status`.
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
        const SCRIPT: &str = r#"umask 077; "$@"; echo $? > "$0.new" && mv -f -- "$0.new" "$0""#;
        for left in [self.status_path(), self.log_path()] {
            remove_if_present(&left)?;
        }
        let status = self.status_path();
        let program = tools.bin.join(program);
        let mut words: Vec<&OsStr> =
            vec!["-c".as_ref(), SCRIPT.as_ref(), status.as_os_str(), program.as_os_str()];
        words.extend(args.iter().map(OsString::as_os_str));
        tools.spawn_detached("sh", &words, environment, &self.log_path())
    }

    /// Returns the program's state. `child` is absent if its starter died before it saved the process id.
    pub(in crate::provider::supabase) fn poll_status(&self, child: Option<&TrackedProcess>) -> ProgramStatus {
        let is_alive = child.is_some_and(TrackedProcess::is_alive)
            || process::find_program_started_below(self.folder).is_some();
        // Read after the liveness check: a process that is gone by then has written its status.
        let status = fs::read_to_string(self.status_path()).unwrap_or_default();
        if let Ok(code) = status.trim().parse::<i32>() {
            let log_tail = programs::tail_output(&fs::read(self.log_path()).unwrap_or_default());
            return ProgramStatus::Exited { success: code == 0, log_tail };
        }
        if is_alive { ProgramStatus::Running } else { ProgramStatus::Vanished }
    }

    /// Kills the program and all that it started.
    pub(in crate::provider::supabase) fn kill_program(&self, child: Option<&TrackedProcess>) {
        let child = child
            .cloned()
            .filter(TrackedProcess::is_alive)
            .or_else(|| process::find_program_started_below(self.folder));
        if let Some(child) = child {
            child.signal_group(Signal::KILL);
        }
    }

    fn status_path(&self) -> PathBuf {
        self.folder.join(format!("{}.status", self.name))
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

/// Returns the error of a program that is gone and left no exit code.
pub(in crate::provider::supabase) fn vanished_error(program: &str) -> Error {
    Error::new(Code::Tool, format!("`{program}` was killed without a word"))
        .with_hint("see whether the machine ran out of memory, or was restarted")
}
