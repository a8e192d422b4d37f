//! The environment of an integration test: a fresh folder and cleared variables for the real binary.

mod cli_lab;
mod fake_platform;
mod kill_series;
#[path = "../../src/testing/skip.rs"]
mod skip;
mod typed_commands;

pub use cli_lab::CliLab;
pub use fake_platform::{FakePlatform, TOKEN, start_server, write_shop_target};
pub use kill_series::{KillSeries, kill_count};
use typed_commands::assert_typable;

use redrill::{
    base::clock::{Clock, SystemClock},
    config::{self, Locations, SANDBOX},
    journal::{Durability, Journal, NewRun, Record},
    provider::{OpenContext, postgres, sim::Sim},
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fmt, fs,
    io::Write as _,
    os::unix::{fs::symlink, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::Arc,
    thread::sleep,
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

/// Returns whether a test may start PostgreSQL; where it may not, says why the test is skipped.
pub fn postgres_or_skip() -> bool {
    skip::postgres_or_skip(postgres::lab::check_installed().map_err(|error| error.to_string()))
}

/// Returns a runbook over the sandbox with this script.
pub fn sandbox_runbook(needs: &str, script: &str) -> String {
    format!(
        "const RUNBOOK = #{{\n    title: \"Test\",\n    params: #{{\n        db: #{{ type: \"target\", preset: \"sandbox\", \
         help: \"the database\" }},\n        keep: #{{ type: \"bool\", preset: false, help: \"keep it\" }},\n        \
         since: #{{ type: \"time\", preset: \"2026-11-20T03:00:00Z\", help: \"since when\" }},\n        \
         token: #{{ type: \"secret\", preset: \"env:TOKEN\", help: \"a token\" }},\n    }},\n    needs: [{needs}],\n}};\n{script}\n"
    )
}

/// Returns the path of a runbook that ships.
pub fn shipped_runbook(name: &str) -> String {
    format!("{}/runbooks/{name}.rhai", env!("CARGO_MANIFEST_DIR"))
}

/// Sends the signal of Ctrl-C.
pub fn interrupt_child(child: &Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
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

    /// Links to something outside of the folder.
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

    /// Types a line into a shell, which finds redrill by its name.
    pub fn type_into_shell(&self, line: &str) -> CommandOutput {
        let folder = Path::new(env!("CARGO_BIN_EXE_redrill")).parent().unwrap();
        let path = std::env::var("PATH").unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", line]).current_dir(self.folder.path()).env_clear();
        shell.env("PATH", format!("{}:{path}", folder.display())).env("HOME", self.folder.path());
        shell.stdin(Stdio::null()).output().unwrap().into()
    }

    /// Runs redrill to its end with its stdout somewhere else.
    pub fn run_cli_onto(&self, args: &[&str], stdout: Stdio) -> CommandOutput {
        self.build_command(args).stdout(stdout).output().unwrap().into()
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

    /// Starts redrill with something to read, and leaves it running with its input open.
    pub fn start_session(&self, args: &[&str], input: &str) -> Child {
        let mut child = self.build_command(args).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.as_mut().unwrap().write_all(input.as_bytes()).unwrap();
        child
    }

    /// Runs redrill to its end, with variables of its own.
    pub fn run_cli_with_variables(&self, args: &[&str], variables: &[(&str, &str)]) -> CommandOutput {
        self.build_command(args).envs(variables.iter().copied()).output().unwrap().into()
    }

    /// Starts redrill on a run, and returns when the run has begun so many calls.
    pub fn start_until_calls(&self, args: &[&str], calls: u64) -> Child {
        let child = self.start_cli(args);
        self.wait_for_run(|run| run["calls"].as_u64().unwrap_or(0) >= calls);
        child
    }

    /// Waits until the latest run is as wanted.
    pub fn wait_for_run(&self, is_reached: impl Fn(&Value) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let runs = self.list_runs();
            if is_reached(&runs[0]) {
                return;
            }
            assert!(Instant::now() < deadline, "the run stays {runs}");
            sleep(Duration::from_millis(20));
        }
    }

    /// Returns what `runs list` prints, the latest run first.
    pub fn list_runs(&self) -> Value {
        self.run_cli(&["runs", "list", "-o", "json"]).parse_json()
    }

    /// Leaves a run in the journal as a process that was killed after these records leaves it.
    pub fn leave_run(&self, version: &str, records: Vec<Record>) {
        let journal = Journal::open(&self.path(".redrill"), Arc::new(SystemClock)).unwrap();
        let (runbook, title, version) = ("r.rhai".into(), "r".into(), version.into());
        let params = serde_json::json!({});
        let new = NewRun { runbook, title, params, sources: vec![], git: None, version, leases: vec![] };
        let run = journal.create_run(&new).unwrap();
        for record in records {
            run.append_record(record, Durability::Synced).unwrap();
        }
    }

    /// Returns how many items a command lists as JSON.
    pub fn count_listed(&self, list: &[&str]) -> usize {
        self.run_cli(list).parse_json().as_array().unwrap().len()
    }

    /// Opens the world of the sandbox as a process of redrill does.
    pub fn open_sandbox(&self) -> Sim {
        let locations = Locations { config: None, state: Some(self.path(".redrill")) };
        let config = config::load_config(&locations).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let target = &config.targets[SANDBOX];
        Sim::open(&OpenContext {
            target,
            base: &config.base,
            file: config.file.as_deref(),
            state: &config.state,
            clock: &clock,
        })
        .unwrap()
    }

    /// Returns what took effect in the sandbox, as its world counts it.
    pub fn sandbox_effects(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for effect in self.open_sandbox().effect_log().unwrap() {
            *counts.entry(effect.kind).or_default() += 1;
        }
        counts
    }

    /// Runs redrill and kills it `after` a while; returns its output where it had ended before.
    pub fn run_cli_killed(&self, args: &[&str], after: Duration) -> Option<CommandOutput> {
        let mut child = self.start_cli(args);
        let deadline = Instant::now() + after;
        while Instant::now() < deadline {
            if child.try_wait().unwrap().is_some() {
                return Some(child.wait_with_output().unwrap().into());
            }
            sleep(Duration::from_millis(1).min(deadline.saturating_duration_since(Instant::now())));
        }
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        output.status.code().is_some().then(|| output.into())
    }
}

impl CommandOutput {
    /// Reads stdout as one JSON value.
    pub fn parse_json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("no JSON: {e}\n{self}"))
    }

    /// Reads stdout as a line of JSON an event.
    pub fn parse_events(&self) -> Vec<Value> {
        self.stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    }
}

impl From<Output> for CommandOutput {
    fn from(output: Output) -> Self {
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_typable(&stderr);
        Self {
            code: output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap()),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr,
        }
    }
}

impl fmt::Display for CommandOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit {}\n---- stdout\n{}---- stderr\n{}", self.code, self.stdout, self.stderr)
    }
}

/// Compares the output of a command with a snapshot, without what differs from run to run.
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
