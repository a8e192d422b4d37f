//! Running programs of one folder, as an OS user and with a clean environment.
//!
//! - No secret is ever an argument: arguments are in the process list.
//! - A program sees nothing of our environment: a stray `PGHOST` leads nowhere.
//! - [`Programs::spawn_detached`] starts what may outlive this process: in a process group of its own, writing to a file.
//! - That file is locked for as long as the program or anything that it started has it open, from before the program's process
//!   is there: whoever finds it by [`is_log_in_use`] needs no process id, which its starter may not have lived to write down,
//!   and no command line, which a new process does not have yet.

use super::{os_user::OsUser, process::TrackedProcess};
use crate::{
    base::program::run_program_async,
    provider::{Code, Error, Result},
};
use rustix::fs::{FlockOperation, flock};
use std::{
    env,
    ffi::{OsStr, OsString},
    fs::File,
    os::unix::{fs::OpenOptionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// How much of the end of a program's output goes into an error, in bytes.
const TAIL_BYTES: usize = 600;

/// The folder of the programs that may be run, and the OS user that they run as.
#[derive(Debug, Clone)]
pub(in crate::provider) struct Programs {
    /// The folder of the programs.
    pub bin: PathBuf,
    /// The OS user they run as; `None` when we already are that user.
    pub owner: Option<OsUser>,
}

impl Programs {
    /// Returns the OS user that the programs run as.
    ///
    /// # Errors
    /// [`Code::NotFound`].
    pub(in crate::provider) fn user(&self) -> Result<OsUser> {
        self.owner.clone().map_or_else(OsUser::current_user, Ok)
    }

    /// Returns a command without arguments: as the right user, with a clean environment and no standard input.
    pub(in crate::provider) fn command(&self, program: &str) -> Command {
        tracing::debug!(program, folder = %self.bin.display(), "program");
        let own = self.bin.join(program);
        let mut command = if own.is_file() { Command::new(own) } else { Command::new(program) };
        command
            .env_clear()
            .env("PATH", search_path_with(&self.bin))
            .env("LC_ALL", "C.UTF-8")
            .env("TZ", "UTC")
            .current_dir("/")
            .stdin(Stdio::null());
        if let Some(owner) = &self.owner {
            command.uid(owner.uid).gid(owner.gid);
        }
        command
    }

    /// Runs a program to its end and returns its output.
    ///
    /// # Errors
    /// [`Code::Tool`] with the end of its output, when it cannot be started or ends with anything but 0.
    pub(in crate::provider) async fn run(&self, program: &str, args: &[&OsStr]) -> Result<Output> {
        let output = self.run_with_any_exit(program, args).await?;
        if output.status.success() {
            return Ok(output);
        }
        let said = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
        Err(Error::new(
            Code::Tool,
            format!("`{program}` ended with {}: {}", output.status, tail_output(said)),
        ))
    }

    /// Runs a program to its end and returns its output, whatever its exit code.
    ///
    /// # Errors
    /// [`Code::Tool`] when it cannot be started.
    pub(in crate::provider) async fn run_with_any_exit(
        &self,
        program: &str,
        args: &[&OsStr],
    ) -> Result<Output> {
        let mut command = self.command(program);
        command.args(args);
        tracing::debug!(program, ?args, "program runs");
        run_program_async(command).await.map_err(|e| start_error(program, &e))
    }

    /// Starts a program that may outlive this process: in a process group of its own, writing to `log`.
    ///
    /// # Errors
    /// [`Code::Tool`] when it cannot be started.
    pub(in crate::provider) fn spawn_detached(
        &self,
        program: &str,
        args: &[&OsStr],
        environment: &[(&str, &OsStr)],
        log: &Path,
    ) -> Result<TrackedProcess> {
        let unwritable = |e: std::io::Error| {
            Error::new(Code::Tool, format!("the log `{}` cannot be written: {e}", log.display()))
        };
        // The folder may belong to the other user: what lies there is not followed as root.
        let options = File::options().create(true).append(true).custom_flags(no_follow()).clone();
        let output = options.open(log).map_err(unwritable)?;
        // A log that another one writes, too, is locked by that one.
        let _ = flock(&output, FlockOperation::NonBlockingLockExclusive);
        let mut command = self.command(program);
        command.args(args).envs(environment.iter().copied());
        command.stderr(output.try_clone().map_err(unwritable)?).stdout(output).process_group(0);
        let child = command.spawn().map_err(|e| start_error(program, &e))?;
        tracing::info!(program, ?args, pid = child.id(), log = %log.display(), "program started");
        TrackedProcess::track_child(child)
    }

    /// Gives `path` to the user that the programs run as.
    ///
    /// # Errors
    /// [`Code::Tool`].
    pub(in crate::provider) fn chown_to_owner(&self, path: &Path) -> Result<()> {
        let Some(owner) = &self.owner else { return Ok(()) };
        std::os::unix::fs::lchown(path, Some(owner.uid), Some(owner.gid)).map_err(|e| {
            Error::new(Code::Tool, format!("`{}` cannot be given to `{}`: {e}", path.display(), owner.name))
        })
    }
}

/// Returns whether a program that was started detached with this log is still there, or anything that it started.
pub(in crate::provider) fn is_log_in_use(log: &Path) -> bool {
    let Ok(log) = File::options().read(true).custom_flags(no_follow()).open(log) else { return false };
    flock(&log, FlockOperation::NonBlockingLockShared).is_err()
}

fn no_follow() -> i32 {
    rustix::fs::OFlags::NOFOLLOW.bits().cast_signed()
}

/// Returns the end of a program's output, on one line.
pub(in crate::provider) fn tail_output(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(&said[said.len().saturating_sub(TAIL_BYTES)..]).into_owned();
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

fn start_error(program: &str, why: &std::io::Error) -> Error {
    Error::new(Code::Tool, format!("`{program}` cannot be started: {why}"))
        .with_hint("install PostgreSQL with `apt-get install postgresql`, or set `bin_dir` of the target")
}

fn search_path_with(bin: &Path) -> OsString {
    let system = ["/usr/local/bin", "/usr/bin", "/bin"].map(PathBuf::from);
    env::join_paths(std::iter::once(bin.to_path_buf()).chain(system))
        .unwrap_or_else(|_| "/usr/bin:/bin".into())
}
