//! A lab on the stage: a real PostgreSQL cluster that goes with the test.

use super::Stage;
use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// A lab that is up. It is taken down when this goes, also after a panic.
pub struct Lab<'a> {
    stage: &'a Stage,
    host: String,
    port: String,
    is_down: bool,
}

/// Something that loads a lab.
pub struct Load(Child);

/// Returns where PostgreSQL's tools are, the newest version of them.
fn tools() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut bins: Vec<PathBuf> = versions.flatten().map(|v| v.path().join("bin")).collect();
    bins.retain(|bin| bin.join("initdb").exists());
    bins.sort();
    bins.pop()
}

/// Returns whether PostgreSQL is installed, and says that the test is skipped when it is not.
pub fn postgres_or_skip() -> bool {
    let found = tools().is_some();
    if !found {
        eprintln!("skipped: PostgreSQL is not installed");
    }
    found
}

impl<'a> Lab<'a> {
    pub fn up(stage: &'a Stage) -> Self {
        let up = stage.redrill(&["lab", "up", "-o", "json"]);
        assert_eq!(up.code, 0, "{up}");
        let status = up.json();
        let host = status["host"].as_str().unwrap().to_owned();
        Self { stage, host, port: status["port"].to_string(), is_down: false }
    }

    fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(tools().unwrap().join(name));
        command.args(["-h", &self.host, "-p", &self.port, "-U", "postgres"]).stdin(Stdio::null());
        command
    }

    /// Runs SQL and returns what psql prints, without titles.
    pub fn psql(&self, sql: &str) -> String {
        let mut psql = self.tool("psql");
        let output =
            psql.args(["-X", "-At", "-v", "ON_ERROR_STOP=1", "-c", sql, "postgres"]).output().unwrap();
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Begins to run `script` over and over from several clients.
    pub fn pgbench(&self, script: &str, span: Duration) -> Load {
        self.stage.write("load.sql", script);
        let mut pgbench = self.tool("pgbench");
        pgbench.arg("-n").arg("-f").arg(self.stage.path("load.sql"));
        pgbench.args(["-c", "4", "-T", &span.as_secs().to_string(), "postgres"]);
        Load(pgbench.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Takes the lab down, which must go well.
    pub fn down(mut self) {
        self.is_down = true;
        let down = self.stage.redrill(&["lab", "down"]);
        assert_eq!(down.code, 0, "{down}");
    }
}

impl Load {
    /// Returns when the load is over. That its clients failed on the way is part of some tests.
    pub fn wait(mut self) {
        self.0.wait().unwrap();
    }
}

impl Drop for Lab<'_> {
    fn drop(&mut self) {
        if !self.is_down {
            drop(self.stage.redrill(&["lab", "down"]));
        }
    }
}
