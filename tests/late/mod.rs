//! What redrill says of writes whose effect comes after their answer, and of reads that lag behind.
//!
//! An effect is settled by a fresh look, and absence right after a loss proves nothing.

mod jobs;

use crate::env::{CliEnv, CommandOutput, FakePlatform, write_shop_target};
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

/// What these tests do on a platform. A minute is longer than anything here takes to land.
impl FakePlatform {
    /// Starts a platform with a rule for the requests with a method to a path of the project.
    fn start_with_rule(method: &str, path: &str, fate: &str) -> Self {
        let nth = fate.contains("later").then_some(1);
        Self::start_with_rules(&[write_rule(method, &format!("/v1/projects/*{path}"), nth, fate)])
    }

    /// Starts a platform with several rules.
    fn start_with_rules(rules: &[String]) -> Self {
        let platform = Self::start_simulated(&rules.concat());
        platform.set_landing_time("1m");
        platform
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

/// Writes a rule, for every match or for one.
fn write_rule(method: &str, path: &str, nth: Option<u32>, fate: &str) -> String {
    let nth = nth.map(|nth| format!("nth = {nth}\n")).unwrap_or_default();
    format!("[[rule]]\nmethod = \"{method}\"\npath = \"{path}\"\nfate = {fate}\n{nth}")
}

/// Plays every row at the same time, and returns what is wrong with each.
fn collect_faults<const N: usize>(
    rows: [(&str, &str, &str, &str); N],
    judge: fn(&FakePlatform, &CommandOutput) -> Option<String>,
) -> String {
    let play = |(method, path, fate, command): (&str, &str, &str, &str)| {
        let platform = FakePlatform::start_with_rule(method, path, fate);
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
    let platform = FakePlatform::start_with_rule("POST", "/branches", fate);
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

#[test]
fn a_look_that_cannot_be_read_concludes_nothing() {
    const NEVER: &str = "{ acknowledged-later = { after = \"1h\" } }";
    let rows = [
        (
            ("DELETE", "/v1/projects/*/network-bans"),
            ("POST", "/v1/projects/*/network-bans/retrieve"),
            "network bans remove -t shop 203.0.113.66 --timeout 3s",
        ),
        (
            ("PUT", "/v1/projects/*/ssl-enforcement"),
            ("GET", "/v1/projects/*/ssl-enforcement"),
            "network ssl set -t shop true --timeout 3s",
        ),
        (
            ("PATCH", "/v1/projects/*/database/backups/schedule"),
            ("GET", "/v1/projects/*/database/backups/schedule"),
            "backup schedule create -t shop --at 04:00 --timeout 3s",
        ),
    ];
    for odd in ["{}", "null", "text/html"] {
        for (write, read, command) in rows {
            let odd = format!("{{ odd = \"{odd}\" }}");
            let platform = FakePlatform::start_with_rules(&[
                write_rule(write.0, write.1, Some(1), NEVER),
                // The plan is made from a good look.
                write_rule(read.0, read.1, Some(1), "{ late = \"1ms\" }"),
                write_rule(read.0, read.1, None, &odd),
            ]);
            let done = platform.type_command(command);
            assert_eq!(done.code, 4, "{command} with {odd}: {done}");
            assert!(done.stderr.contains("cannot be read"), "{command} with {odd}: {done}");
        }
    }
}

#[test]
fn an_odd_answer_to_a_write_is_no_refusal() {
    let wrong = collect_faults(
        [
            ("PUT", "/ssl-enforcement", "{ odd = \"null\" }", "network ssl set -t shop true"),
            (
                "PATCH",
                "/network-restrictions",
                "{ odd = \"text/html\" }",
                "network restrictions add -t shop 203.0.113.0/24",
            ),
            ("PATCH", "/config/database/postgres", "{ odd = \"[]\" }", "db config set -t shop work_mem=8MB"),
            (
                "PATCH",
                "/database/backups/schedule",
                "{ odd = \"{}\" }",
                "backup schedule create -t shop --at 04:00",
            ),
            (
                "DELETE",
                "/network-bans",
                "{ odd = \"text/html\" }",
                "network bans remove -t shop 203.0.113.66",
            ),
        ],
        |_, done| (done.code != 0).then(|| "it has taken effect".into()),
    );
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn an_override_that_a_late_replacement_undoes_is_named() {
    let fate = "{ lands-later = { after = \"6s\", status = 504 } }";
    let platform = FakePlatform::start_with_rule("PUT", "/config/database/postgres", fate);
    let set = platform.type_command("db config set -t shop work_mem=16MB max_connections=90");
    assert_eq!(set.code, 0, "{set}");
    let colleague = CliEnv::new();
    write_shop_target(&colleague, &platform.server, &platform.server.url());
    let taken_away = thread::scope(|scope| {
        let taken_away = scope.spawn(|| platform.type_command("db config set -t shop work_mem="));
        thread::sleep(Duration::from_millis(1500));
        let theirs = colleague.run_cli(&["db", "config", "set", "-t", "shop", "statement_timeout=30000"]);
        assert_eq!(theirs.code, 0, "{theirs}");
        taken_away.join().unwrap()
    });
    assert_eq!(taken_away.code, 0, "{taken_away}");
    let said =
        "somebody else had set `statement_timeout` to `\"30000\"`, and the replacement has undone that";
    assert!(taken_away.stdout.contains(said), "{taken_away}");
    let recorded = platform.type_command("runs show last -o json");
    assert!(recorded.stdout.contains("other overrides"), "what it carries is on disk: {recorded}");
}

#[test]
fn a_range_that_lands_late_opens_nothing() {
    let fate = "{ lands-later = { after = \"5s\", status = 504 } }";
    let platform = FakePlatform::start_with_rule("PATCH", "/network-restrictions", fate);
    let colleague = CliEnv::new();
    write_shop_target(&colleague, &platform.server, &platform.server.url());
    let added = thread::scope(|scope| {
        let added = scope.spawn(|| platform.type_command("network restrictions add -t shop 198.51.100.0/24"));
        thread::sleep(Duration::from_millis(1500));
        let lock = ["network", "restrictions", "add", "-t", "shop", "203.0.113.0/24", "--exclusive"];
        let locked = colleague.run_cli(&lock);
        assert_eq!(locked.code, 0, "{locked}");
        added.join().unwrap()
    });
    assert_eq!(added.code, 0, "{added}");
    let now = platform.type_command("network restrictions list -t shop -o json");
    assert!(now.stdout.contains("\"open\": false") || now.stdout.contains("\"open\":false"), "{now}");
    assert!(now.stdout.contains("198.51.100.0/24") && now.stdout.contains("203.0.113.0/24"), "{now}");
    assert!(added.stdout.contains("let everybody in before this change and is gone"), "{added}");
}

/// The platform keeps no key of a restore point: what has the name is what was made, because nothing had it before.
#[test]
fn a_restore_point_is_made_once_and_gone_back_to() {
    const POINTS: &str = "/database/backups/restore-point";
    let sent = |platform: &FakePlatform, endpoint: &str| {
        let log = platform.server.ledger_entries();
        log.iter().filter(|e| e.method == "POST" && e.endpoint.ends_with(endpoint)).count()
    };
    let platform = FakePlatform::start_with_rule("POST", "/nowhere", "{ status = 500 }");
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
    let platform = FakePlatform::start_with_rule("POST", POINTS, later);
    let done = platform.type_command("backup pitr mark -t shop release");
    assert_eq!(done.code, 0, "{done}");
    assert_eq!(sent(&platform, POINTS), 1);
}

/// Where the platform has one schedule, what somebody else has set since is neither ours to undo nor a sign of ours.
#[test]
fn a_schedule_that_somebody_else_sets_meanwhile_is_not_set_again() {
    let schedule = "/v1/projects/*/database/backups/schedule";
    let platform =
        FakePlatform::start_with_rules(&[write_rule("PATCH", schedule, Some(1), "\"cut-before\"")]);
    let done = thread::scope(|scope| {
        let ours = scope.spawn(|| platform.type_command("backup schedule create -t shop --at 04:00"));
        thread::sleep(Duration::from_secs(2));
        let path =
            format!("/v1/projects/{}/database/backups/schedule", platform.server.list_root_references()[0]);
        let body = "{\"schedule_for\":\"05:00:00\"}";
        let theirs = ["--state", "theirs", "supabase", "api", "-t", "shop", "PATCH", &path, "--body", body];
        let theirs = platform.env.run_cli(&theirs);
        assert_eq!(theirs.code, 0, "{theirs}");
        ours.join().unwrap()
    });
    assert_eq!(done.code, 4, "{done}");
    assert!(done.stderr.contains("neither as before nor as wanted"), "{done}");
    let log = platform.server.ledger_entries();
    assert_eq!(log.iter().filter(|entry| entry.method == "PATCH").count(), 1, "{done}");
}

/// A look shows that it is as asked for before the request lands and after: what is asked for next there waits for that.
#[test]
fn a_change_to_what_was_so_before_undoes_no_later_one() {
    const EARLY: &str = "{ acknowledged-later = { after = \"3s\" } }";
    let rows = [
        (("PUT", "/ssl-enforcement"), "network ssl set -t shop", ["false", "true"], "network ssl get"),
        (
            ("PATCH", "/database/backups/schedule"),
            "backup schedule create -t shop --at",
            ["00:00", "03:00"],
            "backup schedule list",
        ),
    ];
    let play = |((method, path), change, [as_it_is, other], read): ((&str, &str), &str, [&str; 2], &str)| {
        let platform = FakePlatform::start_with_rule(method, path, EARLY);
        platform.set_landing_time("5s");
        let asked = [as_it_is, other].map(|value| platform.type_command(&format!("{change} {value}")));
        for done in &asked {
            assert_eq!(done.code, 0, "{done}");
        }
        assert!(asked[1].stderr.contains("may still take effect here"), "{}", asked[1]);
        let shown = platform.type_command(&format!("{read} -t shop"));
        assert!(shown.stdout.contains(other), "it was undone: {shown}");
    };
    thread::scope(|scope| {
        let played = rows.map(|row| scope.spawn(move || play(row)));
        for row in played {
            row.join().unwrap();
        }
    });
}

/// Two processes that plan at once would both plan from what was there before either.
#[test]
fn of_two_processes_that_change_one_thing_the_second_plans_after_the_first_is_done() {
    let schedule = "/v1/projects/*/database/backups/schedule";
    let platform =
        FakePlatform::start_with_rules(&[write_rule("GET", schedule, None, "{ late = \"700ms\" }")]);
    thread::scope(|scope| {
        let create = |at: &str| platform.type_command(&format!("backup schedule create -t shop --at {at}"));
        let both = ["03:00", "04:00"].map(|at| scope.spawn(move || create(at)));
        for done in both.map(|one| one.join().unwrap()) {
            assert_eq!(done.code, 0, "{done}");
        }
    });
    let runs = platform.env.list_runs();
    let records = runs.as_array().unwrap().iter().map(|run| {
        platform.type_command(&format!("runs show {} -o json", run["id"].as_str().unwrap())).parse_json()
    });
    let planned: Vec<String> = records.map(|records| records.to_string()).collect();
    let from_first = |records: &&String| records.contains(r#""before":{"at":"00:00""#);
    assert_eq!(planned.iter().filter(from_first).count(), 1, "{planned:?}");
}
