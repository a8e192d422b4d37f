//! The provider contract: the same runbooks on the simulator and on a Supabase project leave the same worlds.
//!
//! The project is one of the fake API with a real PostgreSQL behind it, so that a dump is a dump.

use crate::env::{
    CliEnv, CliLab, CommandOutput, FakePlatform, KillSeries, TOKEN, kill_count, shipped_runbook,
};
use redrill::{
    base::clock::{Clock as _, SystemClock},
    fake::ledger::LedgerEntry,
    provider::sim::NormalizedWorld,
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs, path::Path, time::Duration};

/// The endpoint of logins, which are repeated freely: they leave nothing behind.
const LOGIN_ENDPOINT: &str = "/v1/projects/{ref}/cli/login-role";

fn run_runbook(env: &CliEnv, runbook: &str, params: &[&str]) -> CommandOutput {
    let runbook = shipped_runbook(runbook);
    let params = params.iter().flat_map(|param| ["-p", param]);
    let args: Vec<&str> = ["run", runbook.as_str()].into_iter().chain(params).collect();
    let done = env.run_cli(&args);
    assert_eq!(done.code, 0, "{done}");
    done
}

/// Half an hour ago, to the second: the table that was dropped since is there.
fn half_an_hour_ago() -> String {
    let second = SystemClock.now().0.as_second() - 1800;
    format!("to={}", jiff::Timestamp::from_second(second).unwrap())
}

/// Compares two worlds that were made at different times. Our own dumps of a project are files, and no backups of its
/// platform; and the tables with a moment in each row are compared by their other columns, elsewhere.
fn assert_same_world(on_sim: &NormalizedWorld, on_supabase: &NormalizedWorld) {
    let plain = |world: &NormalizedWorld| {
        let mut plain = NormalizedWorld { backups: vec![], ..world.clone() };
        for table in ["customers", "orders"] {
            let shown = plain.database.get_mut(table).unwrap();
            *shown = shown.split(", ").filter(|part| part.len() != 8).collect::<Vec<_>>().join(", ");
        }
        plain
    };
    assert_eq!(plain(on_supabase), plain(on_sim));
}

/// The rows of the tables with a moment in each row, without it.
fn query_rows(env: &CliEnv, place: &str) -> Vec<Value> {
    let queries = [
        "select id, customer_id, status, total_cents from orders order by id",
        "select id, name, email from customers order by id",
    ];
    let ask = |sql: &str| env.run_cli(&["db", "query", "-t", place, sql, "-o", "json"]).parse_json();
    queries.map(ask).into()
}

/// The requests that took effect, each by what it was; more than once is once too often.
fn duplicate_requests(log: &[LedgerEntry]) -> Vec<String> {
    let mut seen = BTreeMap::<String, usize>::new();
    for entry in log.iter().filter(|entry| entry.endpoint != LOGIN_ENDPOINT) {
        *seen.entry(format!("{} {} {}", entry.method, entry.path, entry.body)).or_default() += 1;
    }
    seen.into_iter().filter(|(_, n)| *n > 1).map(|(what, n)| format!("{n} times {what}")).collect()
}

fn count_requests(log: &[LedgerEntry], method: &str, endpoint: &str) -> usize {
    log.iter().filter(|e| e.method == method && e.endpoint.ends_with(endpoint)).count()
}

#[test]
fn a_backup_is_restored_to_a_branch_alike() {
    let Some(platform) = FakePlatform::start() else { return };
    let before = platform.normalized_world();
    run_runbook(&platform.env, "restore_to_branch", &["db=shop", "keep=true"]);
    let sim = CliEnv::new();
    run_runbook(&sim, "restore_to_branch", &["db=sandbox", "keep=true"]);
    let (on_sim, on_supabase) = (query_rows(&sim, "sandbox/drill"), query_rows(&platform.env, "shop/drill"));
    assert_eq!(on_sim[0].as_array().unwrap().len(), 211);
    assert_eq!(on_sim, on_supabase, "the branches hold the same");
    assert_eq!(before, platform.normalized_world(), "the source is as it was");
    let audit = |env: &CliEnv, target: &str, key: &str| -> Vec<Value> {
        let audit = env.run_cli(&["security", "audit", "-t", target, "-o", "json"]).parse_json();
        let mut found: Vec<Value> = audit["findings"].as_array().unwrap().clone();
        found.retain(|f| f["check"] == key);
        found.iter().map(|f| json!([f["check"], f["level"]])).collect()
    };
    let idle = "policy_exists_rls_disabled";
    let found = audit(&platform.env, "shop", idle);
    assert_eq!((found.len(), &found), (1, &audit(&sim, "sandbox", idle)), "the deliberate fault is found");
    let removed = platform.env.run_cli(&["branch", "delete", "-t", "shop", "drill"]);
    assert_eq!(removed.code, 0, "{removed}");
    assert_eq!(duplicate_requests(&platform.server.ledger_entries()), Vec::<String>::new());
}

#[test]
fn a_target_goes_back_to_a_moment_alike() {
    let moment = half_an_hour_ago();
    let Some(platform) = FakePlatform::start() else { return };
    let done = run_runbook(&platform.env, "restore_to_moment", &["db=shop", &moment]);
    assert!(done.stderr.contains("rto") && done.stderr.contains("rpo"), "{done}");
    let sim = CliEnv::new();
    run_runbook(&sim, "restore_to_moment", &["db=sandbox", &moment]);
    let (on_sim, on_supabase) = (sim.open_sandbox().normalized_world().unwrap(), platform.normalized_world());
    assert!(on_sim.database.contains_key("order_notes"), "the dropped table is back");
    assert_same_world(&on_sim, &on_supabase);
    assert_eq!(query_rows(&sim, "sandbox"), query_rows(&platform.env, "shop"));
    let log = platform.server.ledger_entries();
    assert_eq!(count_requests(&log, "POST", "/database/backups/restore-pitr"), 1);
    assert_eq!(duplicate_requests(&log), Vec::<String>::new());
}

/// Makes a restore anew of which redrill cannot know whether it was asked for: the platform keeps no key of one, and its process
/// was killed when it was written down. The platform's own log says that only the `earlier` ones ever arrived.
fn redo_unsent_restore(platform: &FakePlatform, earlier: usize) {
    let asked = count_requests(&platform.server.ledger_entries(), "POST", "/database/backups/restore-pitr");
    assert_eq!(asked, earlier, "one that arrived leaves a trace, by which it is found");
    let decided = platform.env.run_cli(&["runs", "decide", "last", "pitr::restore", "redo", "--anyway"]);
    assert_eq!(decided.code, 0, "{decided}");
}

#[test]
fn killed_anywhere_on_a_project_nothing_is_sent_twice() {
    let Some(platform) = FakePlatform::start() else { return };
    let mut branches = KillSeries::new(&platform.env, "restore_to_branch", &["db=shop"]);
    let (mut kills, mut runs) = (0, 1);
    while kills < kill_count(3) {
        kills += branches.run_through_kills(&platform.env);
        runs += 1;
        let log = platform.server.ledger_entries();
        let branches = (
            count_requests(&log, "POST", "/branches"),
            count_requests(&log, "DELETE", "/{branch_id_or_ref}"),
        );
        assert_eq!(branches, (runs, runs), "after {kills} kills: made and removed");
        assert_eq!(duplicate_requests(&log), Vec::<String>::new(), "after {kills} kills");
        let backups = platform.env.run_cli(&["backup", "list", "-t", "shop", "-o", "json"]).parse_json();
        assert_eq!(backups.as_array().unwrap().len(), runs, "after {kills} kills: dumps");
    }
    let mut restores = KillSeries::new(&platform.env, "restore_to_moment", &["db=shop", &half_an_hour_ago()]);
    let (mut more, mut times) = (0, 1);
    while more < kill_count(3) {
        more +=
            restores.run_through_kills_and_decide(&platform.env, |_| redo_unsent_restore(&platform, times));
        times += 1;
        let log = platform.server.ledger_entries();
        assert_eq!(
            count_requests(&log, "POST", "/database/backups/restore-pitr"),
            times,
            "after {more} kills"
        );
    }
    eprintln!("{kills} kills in {} runs, and {more} in {}", runs - 1, times - 1);
}

/// Everything that is asked for lands after its answer was lost, and lists lag behind.
const LATE_PLATFORM: &str = r#"
[[rule]]
method = "POST"
path = "/v1/projects/*/branches"
fate = { lands-later = { after = "1s", status = 504 } }
[[rule]]
method = "DELETE"
path = "/v1/branches/*"
fate = { lands-later = { after = "1s" } }
[[rule]]
method = "POST"
path = "/v1/projects/*/database/backups/restore-pitr"
fate = { lands-later = { after = "1s", status = 502 } }
[[rule]]
method = "GET"
path = "/v1/projects/*/branches"
fate = { stale = "700ms" }
"#;

#[test]
fn killed_anywhere_on_a_late_project_nothing_is_sent_twice() {
    let Some(platform) = FakePlatform::start_with_faults(LATE_PLATFORM) else { return };
    platform.set_landing_time("5s");
    let env = &platform.env;
    let mut branches = KillSeries::new(env, "restore_to_branch", &["db=shop"]);
    let mut restores = KillSeries::new(env, "restore_to_moment", &["db=shop", &half_an_hour_ago()]);
    let (mut kills, mut runs) = (0, 1);
    while kills < kill_count(2) {
        kills += branches.run_through_kills(env);
        kills += restores.run_through_kills_and_decide(env, |_| redo_unsent_restore(&platform, runs));
        runs += 1;
        let log = platform.server.ledger_entries();
        let done = (
            count_requests(&log, "POST", "/branches"),
            count_requests(&log, "DELETE", "/{branch_id_or_ref}"),
            count_requests(&log, "POST", "/database/backups/restore-pitr"),
        );
        assert_eq!(done, (runs, runs, runs), "after {kills} kills: branches made, removed, restores");
    }
    eprintln!("{kills} kills in {runs} runs of each");
}

#[test]
fn a_statement_killed_anywhere_is_done_once_and_leaves_no_mark() {
    let Some(platform) = FakePlatform::start() else { return };
    let env = &platform.env;
    let ask = |sql: &str| {
        env.run_cli(&["db", "query", "-t", "shop", sql, "-o", "json"]).parse_json()[0]["n"].as_u64().unwrap()
    };
    let total = || ask("select total_cents as n from public.orders where id = 1");
    env.write_file(
        "raise.rhai",
        r#"const RUNBOOK = #{ title: "Raise", needs: ["db.destroy"] };
let raise = "update public.orders set total_cents = total_cents + 1 where id = 1 and pg_sleep(0.3) is not null";
db::execute("shop", raise);
"#,
    );
    let before = total();
    let mut series = KillSeries::of_file(env, "raise.rhai", &[]);
    let (mut kills, mut runs) = (0, 1);
    while kills < kill_count(2) {
        kills += series.run_through_kills(env);
        runs += 1;
        assert_eq!(total(), before + runs, "after {kills} kills");
        assert_eq!(ask("select count(*) as n from pg_largeobject_metadata"), 0, "after {kills} kills: marks");
    }
    let dumped = env.run_cli(&["backup", "create", "-t", "shop"]);
    assert_eq!(dumped.code, 0, "{dumped}");
    eprintln!("{kills} kills in {runs} runs");
}

/// Every file below a folder, as text.
fn read_texts(folder: &Path, into: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_texts(&path, into);
        } else if let Ok(bytes) = fs::read(&path) {
            into.push((path.display().to_string(), String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
}

#[test]
fn no_secret_is_in_anything_that_a_run_leaves_behind() {
    let Some(platform) = FakePlatform::start() else { return };
    let done = run_runbook(&platform.env, "restore_to_branch", &["db=shop", "keep=true"]);
    let shown = platform.env.run_cli(&["branch", "get", "-t", "shop", "drill", "-o", "json"]);
    let told = platform.env.run_cli(&["-vv", "runs", "show", "last"]);
    let mut left: Vec<(String, String)> = vec![];
    read_texts(&platform.env.path("."), &mut left);
    left.retain(|(path, _)| !path.ends_with("/token"));
    assert!(left.iter().any(|(path, _)| path.ends_with("journal.db")), "{left:?}");
    for (what, done) in [("run", &done), ("branch get", &shown), ("runs show", &told)] {
        assert_eq!(done.code, 0, "{done}");
        left.push((what.into(), done.to_string()));
    }
    // What the branch's own secrets begin with on this platform.
    for (what, text) in &left {
        for secret in [TOKEN, "pass-", "jwt-"] {
            assert!(!text.contains(secret), "`{secret}` is in {what}");
        }
    }
}

#[test]
fn a_cluster_goes_back_to_a_moment_with_the_same_runbook() {
    let env = CliEnv::new();
    let Some(lab) = CliLab::start(&env) else { return };
    let typed = |args: &[&str]| {
        let done = env.run_cli(args);
        assert_eq!(done.code, 0, "{done}");
        done
    };
    let count = ["db", "query", "-t", "lab", "select count(*) as n from order_items", "-o", "json"];
    let items = || typed(&count).parse_json()[0]["n"].as_i64().unwrap();
    typed(&["backup", "create", "-t", "lab"]);
    let before = items();
    typed(&["db", "execute", "-t", "lab", "create table seen (n int)"]);
    std::thread::sleep(Duration::from_millis(1100));
    let moment = jiff::Timestamp::now().to_string();
    typed(&["db", "execute", "-t", "lab", "delete from order_items"]);
    assert_eq!(items(), 0);
    run_runbook(&env, "restore_to_moment", &["db=lab", &format!("to={moment}")]);
    assert_eq!(items(), before);
    lab.take_down();
}
