//! The environment of an integration test: a fresh folder and cleared variables for the real binary.

mod lab;

pub use lab::{CliLab, postgres_or_skip};

use std::{
    fmt, fs,
    io::Write as _,
    os::unix::{fs::symlink, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// A folder of its own. Everything that redrill keeps goes with it.
pub struct CliEnv {
    folder: TempDir,
}

/// The exit code and output of a command.
pub struct CommandOutput {
    /// Its exit code; 128 and the signal's number for one that was killed.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl CliEnv {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// Returns the path of something in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file, and the folders above it.
    pub fn write_file(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Makes something outside visible in the folder.
    pub fn link_path(&self, outside: &str, name: &str) {
        symlink(Path::new(outside), self.path(name)).unwrap();
    }

    fn build_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_redrill"));
        command.args(args).current_dir(self.folder.path()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", self.folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs redrill to its end.
    pub fn run_cli(&self, args: &[&str]) -> CommandOutput {
        self.build_command(args).output().unwrap().into()
    }

    /// Runs redrill to its end on a disk whose `nth` sync fails, counted from 1.
    pub fn run_cli_on_bad_disk(&self, args: &[&str], shim: &Path, nth: u32) -> CommandOutput {
        let mut command = self.build_command(args);
        command.env("LD_PRELOAD", shim).env("FAIL_SYNC", nth.to_string()).output().unwrap().into()
    }

    /// Runs redrill with something to read.
    pub fn run_cli_with_input(&self, args: &[&str], input: &str) -> CommandOutput {
        let mut child = self.build_command(args).stdin(Stdio::piped()).spawn().unwrap();
        // A command that stops at an error does not read all of its input.
        drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
        child.wait_with_output().unwrap().into()
    }

    /// Starts redrill and leaves it running.
    pub fn start_cli(&self, args: &[&str]) -> Child {
        self.build_command(args).spawn().unwrap()
    }

    /// Runs redrill and kills it `after` a while; what it came to, when it was over before.
    pub fn run_cli_killed(&self, args: &[&str], after: Duration) -> Option<CommandOutput> {
        let mut child = self.start_cli(args);
        let deadline = Instant::now() + after;
        while Instant::now() < deadline {
            if child.try_wait().unwrap().is_some() {
                return Some(child.wait_with_output().unwrap().into());
            }
            std::thread::sleep(
                Duration::from_millis(1).min(deadline.saturating_duration_since(Instant::now())),
            );
        }
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        output.status.code().is_some().then(|| output.into())
    }
}

impl CommandOutput {
    /// Reads stdout as one JSON value.
    pub fn parse_json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("no JSON: {e}\n{self}"))
    }

    /// Reads stdout as a line of JSON an event.
    pub fn parse_events(&self) -> Vec<serde_json::Value> {
        self.stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    }
}

impl From<Output> for CommandOutput {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap()),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl fmt::Display for CommandOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit {}\n---- stdout\n{}---- stderr\n{}", self.code, self.stdout, self.stderr)
    }
}

/// Compares what a command came to with a snapshot, without what differs from run to run.
macro_rules! snapshot {
    ($done:expr, @$snapshot:literal) => {
        insta::with_settings!({filters => vec![
            (r"/tmp/\.tmp\w+", "[folder]"),
            // Said only where a second or more is left of it.
            (r"(?m)^ *… sleeps until .*\n", ""),
            (r"\b[a-z2-7]{8}\b(?P<head>  head )[0-9a-f]{16}", "[run]  head [head]"),
            (r"(?P<run>run `?|resume |show )[a-z2-7]{8}\b", "${run}[run]"),
            (r"\b(?P<made>backup|branch)-[a-z2-7]{10}\b", "${made}-[key]"),
            (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "[moment]"),
            (r"\b\d+(\.\d+)?m?s\b", "[time]"),
        ]}, {
            insta::assert_snapshot!($done.to_string(), @$snapshot);
        });
    };
}
pub(crate) use snapshot;
