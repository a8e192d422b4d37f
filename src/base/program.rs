//! Programs that are run to their end, and the one place that logs them: name, exit status, how long.
//!
//! Neither arguments nor output are logged, which can hold secrets.

use std::{
    ffi::OsStr,
    io,
    path::Path,
    process::{Command, Output},
    time::Instant,
};

/// Runs a program to its end and returns its output, whatever its exit code.
///
/// # Errors
/// Why it cannot be started.
pub fn run_program(mut command: Command) -> io::Result<Output> {
    let log = ProgramLog::log_start(&command);
    log.log_end(command.output())
}

/// Does what [`run_program`] does, and kills the program when nobody waits for it any more.
///
/// # Errors
/// Why it cannot be started.
pub async fn run_program_async(command: Command) -> io::Result<Output> {
    let log = ProgramLog::log_start(&command);
    log.log_end(tokio::process::Command::from(command).kill_on_drop(true).output().await)
}

/// Logs one program; also one that was given up.
struct ProgramLog {
    program: String,
    started: Instant,
    has_ended: bool,
}

impl ProgramLog {
    fn log_start(command: &Command) -> Self {
        let path = Path::new(command.get_program());
        let program = path.file_name().map(OsStr::to_string_lossy).unwrap_or_default().into_owned();
        Self { program, started: Instant::now(), has_ended: false }
    }

    fn log_end(mut self, output: io::Result<Output>) -> io::Result<Output> {
        self.has_ended = true;
        let (program, took) = (&self.program, self.started.elapsed());
        match &output {
            Ok(output) => tracing::debug!(program, status = %output.status, ?took, "program has ended"),
            Err(error) => tracing::debug!(program, %error, "program did not start"),
        }
        output
    }
}

impl Drop for ProgramLog {
    fn drop(&mut self) {
        if !self.has_ended {
            tracing::debug!(program = self.program, took = ?self.started.elapsed(), "program was given up");
        }
    }
}
