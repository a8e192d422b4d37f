//! What redrill says of writes whose effect comes after their answer, and of reads that lag behind.
//!
//! An effect is settled by a fresh look, and absence right after a loss proves nothing.

use crate::env::{CliEnv, CommandOutput, write_shop_target};
use redrill::fake::{FakeServer, ServerOptions, faults::FaultRule};
use std::{
    thread,
    time::{Duration, Instant},
};

/// The exit codes that are true of a write that lands later: it is so by now, or nobody knows.
const TRUE_OF_LATE_WRITES: [i32; 2] = [0, 4];
/// A runbook that makes a branch, and tries again.
const RETRIED_BRANCH: &str = r#"const RUNBOOK = #{ title: "Try again", needs: ["branch.create"] };
retry(#{ attempts: 2 }, || branch::create("shop", #{ into: "drill" }));
"#;

/// A platform on which nothing takes long, and something goes wrong as one rule says.
struct FaultyPlatform {
    env: CliEnv,
    server: FakeServer,
}

impl FaultyPlatform {
    /// Starts a platform with a rule for the requests with a method to a path of the project.
    fn start(method: &str, path: &str, fate: &str) -> Self {
        let rule = format!(
            "[[rule]]\nmethod = \"{method}\"\npath = \"/v1/projects/*{path}\"\nfate = {fate}\n{}",
            if fate.contains("later") { "nth = 1\n" } else { "" },
        );
        let faults = FaultRule::parse_rules(&rule).unwrap();
        let options = ServerOptions { speed: 1000, per_minute: 100_000, faults, ..ServerOptions::default() };
        let (env, server) = (CliEnv::new(), FakeServer::start(options).unwrap());
        write_shop_target(&env, &server, &server.url());
        // A minute is longer than anything here takes to land.
        let config = std::fs::read_to_string(env.path("redrill.toml"))
            .unwrap()
            .replace("landing_time = \"1s\"", "landing_time = \"1m\"");
        env.write_file("redrill.toml", &config);
        Self { env, server }
    }

    /// Types a command, written with spaces.
    fn type_command(&self, command: &str) -> CommandOutput {
        self.env.run_cli(&command.split(' ').collect::<Vec<_>>())
    }

    /// Waits until a request that nobody was answered has taken effect.
    fn wait_for_late_effect(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.server.ledger_entries().iter().all(|entry| entry.answered) {
            assert!(Instant::now() < deadline, "nothing has landed: {:?}", self.server.ledger_entries());
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn count_branches_made(&self) -> usize {
        let entries = self.server.ledger_entries();
        entries.iter().filter(|e| e.method == "POST" && e.endpoint.ends_with("/branches")).count()
    }
}

/// Plays every row at the same time, and returns what is wrong with each.
fn collect_faults<const N: usize>(
    rows: [(&str, &str, &str, &str); N],
    judge: fn(&FaultyPlatform, &CommandOutput) -> Option<String>,
) -> String {
    let play = |(method, path, fate, command): (&str, &str, &str, &str)| {
        let platform = FaultyPlatform::start(method, path, fate);
        let done = platform.type_command(command);
        judge(&platform, &done).map(|wrong| format!("{command} under {fate}: {wrong}\n{done}\n"))
    };
    thread::scope(|scope| {
        let played = rows.map(|row| scope.spawn(move || play(row)));
        played.into_iter().filter_map(|row| row.join().unwrap()).collect()
    })
}

#[test]
fn a_write_that_lands_later_is_never_said_to_have_changed_nothing() {
    const LATER: &str = "{ lands-later = { after = \"3s\", status = 504 } }";
    let wrong = collect_faults(
        [
            ("PUT", "/ssl-enforcement", LATER, "network ssl set -t shop true"),
            ("PATCH", "/network-restrictions", LATER, "network restrictions add -t shop 203.0.113.0/24"),
            ("PATCH", "/config/database/postgres", LATER, "db config set -t shop work_mem=8MB"),
            ("PATCH", "/database/backups/schedule", LATER, "backup schedule create -t shop --at 04:00"),
            ("DELETE", "/network-bans", LATER, "network bans remove -t shop 203.0.113.66"),
            ("POST", "/pause", LATER, "project pause -t shop"),
            ("POST", "/branches", LATER, "branch create -t shop --into drill"),
        ],
        |platform, done| {
            platform.wait_for_late_effect();
            let is_true = TRUE_OF_LATE_WRITES.contains(&done.code)
                && !done.stderr.contains("nothing was changed")
                && !done.stdout.contains("nothing was changed");
            (!is_true).then(|| "it has taken effect".into())
        },
    );
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn a_branch_that_appears_later_is_not_made_twice() {
    // A new branch is looked for for half a minute; this one appears after that.
    let fate = "{ lands-later = { after = \"40s\", status = 504 } }";
    let platform = FaultyPlatform::start("POST", "/branches", fate);
    platform.env.write_file("again.rhai", RETRIED_BRANCH);
    let done = platform.type_command("run again.rhai");
    platform.wait_for_late_effect();
    assert_eq!(platform.count_branches_made(), 1, "{done}");
    assert!(TRUE_OF_LATE_WRITES.contains(&done.code), "{done}");
}

#[test]
fn a_change_that_no_look_shows_is_no_success() {
    const STALE: &str = "{ stale = \"1h\" }";
    const NEVER: &str = "{ acknowledged-later = { after = \"1h\" } }";
    let wrong = collect_faults(
        [
            ("GET", "/ssl-enforcement", STALE, "network ssl set -t shop true --timeout 3s"),
            ("PUT", "/ssl-enforcement", NEVER, "network ssl set -t shop true --timeout 3s"),
            (
                "GET",
                "/network-restrictions",
                STALE,
                "network restrictions add -t shop 203.0.113.0/24 --exclusive --timeout 3s",
            ),
            (
                "PATCH",
                "/network-restrictions",
                "\"partial\"",
                "network restrictions add -t shop 203.0.113.0/24 --exclusive --timeout 3s",
            ),
            ("PATCH", "/config/database/postgres", NEVER, "db config set -t shop work_mem=8MB --timeout 3s"),
            (
                "PATCH",
                "/database/backups/schedule",
                NEVER,
                "backup schedule create -t shop --at 04:00 --timeout 3s",
            ),
            ("DELETE", "/network-bans", NEVER, "network bans remove -t shop 203.0.113.66 --timeout 3s"),
        ],
        |_, done| (done.code == 0).then(|| "it was called a success".into()),
    );
    assert!(wrong.is_empty(), "{wrong}");
}

/// The platform keeps no key of a restore point: what has the name is what was made, because nothing had it before.
#[test]
fn a_restore_point_is_made_once_and_gone_back_to() {
    const POINTS: &str = "/database/backups/restore-point";
    let sent = |platform: &FaultyPlatform, endpoint: &str| {
        let log = platform.server.ledger_entries();
        log.iter().filter(|e| e.method == "POST" && e.endpoint.ends_with(endpoint)).count()
    };
    let platform = FaultyPlatform::start("POST", "/nowhere", "{ status = 500 }");
    platform.env.write_file(
        "back.rhai",
        r#"const RUNBOOK = #{ title: "Back", needs: ["backup.create", "backup.destroy"] };
        let mark = backup::pitr::mark("shop", "release");
        ensure(mark.lsn == () && mark.timeline == (), "the platform does not say them");
        let again = attempt(|| backup::pitr::mark("shop", "release"));
        ensure(again.error.code == "CONFLICT", again.error.message);
        let other = mark;
        other.time = mark.time - "1s";
        let wrong = attempt(|| backup::pitr::restore("shop", #{ to: other }));
        ensure(wrong.error.code == "NOT_FOUND", wrong.error.message);
        backup::pitr::restore("shop", #{ to: mark });
        "#,
    );
    let done = platform.type_command("run back.rhai --yes");
    assert_eq!(done.code, 0, "{done}");
    assert_eq!((sent(&platform, POINTS), sent(&platform, "/database/backups/undo")), (1, 1));
    let later = "{ lands-later = { after = \"3s\", status = 504 } }";
    let platform = FaultyPlatform::start("POST", POINTS, later);
    let done = platform.type_command("backup pitr mark -t shop release");
    assert_eq!(done.code, 0, "{done}");
    assert_eq!(sent(&platform, POINTS), 1);
}
