//! A lab of a test: a PostgreSQL cluster that is removed when the test ends.

use super::{CliEnv, postgres_or_skip};
use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// A lab that is up. Dropped, it is taken down, also after a panic.
pub struct CliLab<'a> {
    env: &'a CliEnv,
    host: String,
    port: String,
    is_down: bool,
}

/// A process that loads a lab.
pub struct LoadProcess(Child);

/// Returns the folder of PostgreSQL's client programs, the newest version.
fn find_tools() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut bins: Vec<PathBuf> = versions.flatten().map(|v| v.path().join("bin")).collect();
    bins.retain(|bin| bin.join("initdb").exists());
    bins.sort();
    bins.pop()
}

impl<'a> CliLab<'a> {
    /// Brings a lab up; `None` where the test is skipped.
    pub fn start(env: &'a CliEnv) -> Option<Self> {
        if !postgres_or_skip() {
            return None;
        }
        let up = env.run_cli(&["lab", "up", "-o", "json"]);
        assert_eq!(up.code, 0, "{up}");
        let status = up.parse_json();
        let host = status["host"].as_str().unwrap().to_owned();
        Some(Self { env, host, port: status["port"].to_string(), is_down: false })
    }

    fn tool_command(&self, name: &str) -> Command {
        let mut command = Command::new(find_tools().unwrap().join(name));
        command.args(["-h", &self.host, "-p", &self.port, "-U", "postgres"]).stdin(Stdio::null());
        command
    }

    /// Runs SQL and returns what psql prints, without titles.
    pub fn run_psql(&self, sql: &str) -> String {
        let mut psql = self.tool_command("psql");
        let output =
            psql.args(["-X", "-At", "-v", "ON_ERROR_STOP=1", "-c", sql, "postgres"]).output().unwrap();
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Starts to run `script` over and over from several clients.
    pub fn start_pgbench(&self, script: &str, span: Duration) -> LoadProcess {
        self.env.write_file("load.sql", script);
        let mut pgbench = self.tool_command("pgbench");
        pgbench.arg("-n").arg("-f").arg(self.env.path("load.sql"));
        pgbench.args(["-c", "4", "-T", &span.as_secs().to_string(), "postgres"]);
        LoadProcess(pgbench.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Takes the lab down, which must go well.
    pub fn take_down(mut self) {
        self.is_down = true;
        let down = self.env.run_cli(&["lab", "down"]);
        assert_eq!(down.code, 0, "{down}");
    }
}

impl LoadProcess {
    /// Waits until the load is over. Its clients may fail: some tests drop their table.
    pub fn wait(mut self) {
        self.0.wait().unwrap();
    }
}

impl Drop for CliLab<'_> {
    fn drop(&mut self) {
        if !self.is_down {
            drop(self.env.run_cli(&["lab", "down"]));
        }
    }
}
