//! The provider contract: the same runbooks on the simulator and on a Supabase project leave the same worlds.
//!
//! The project is one of the fake API with a real PostgreSQL behind it, so that a dump is a dump.

use crate::{
    kills::{KillSeries, kill_count},
    stage::{CliEnv, CliLab, CommandOutput, postgres_or_skip},
};
use redrill::{
    base::clock::{Clock, SystemClock},
    config::TargetConfig,
    fake::{FakeServer, ServerOptions, ledger::LedgerEntry},
    provider::{
        OpenContext,
        sim::{NormalizedWorld, Sim},
    },
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs, path::Path, sync::Arc, time::Duration};

const TOKEN: &str = "sbp_00112233445566778899aabbccddeeff00112233";
/// The endpoint of logins, which are repeated freely: they leave nothing behind.
const LOGIN_ENDPOINT: &str = "/v1/projects/{ref}/cli/login-role";

/// A stage on which `shop` is a project of a fake platform.
struct FakePlatform {
    stage: CliEnv,
    server: FakeServer,
}

impl FakePlatform {
    fn start_with(options: ServerOptions) -> Self {
        let server =
            FakeServer::start(ServerOptions { postgres: true, per_minute: 100_000, ..options }).unwrap();
        let stage = CliEnv::new();
        stage.write_file("token", TOKEN);
        let entry = format!(
            "[targets.shop]\nprovider = \"supabase\"\nref = \"{}\"\napi_url = \"{}\"\ntoken = \"file:{}\"\n",
            server.project_references()[0],
            server.url(),
            stage.path("token").display(),
        );
        stage.write_file("redrill.toml", &entry);
        Self { stage, server }
    }

    fn start_fast() -> Self {
        Self::start_with(ServerOptions { speed: 1000, ..ServerOptions::default() })
    }

    fn normalized_world(&self) -> NormalizedWorld {
        self.server.project_world(&self.server.project_references()[0]).unwrap().normalized_world().unwrap()
    }
}

fn run_runbook(stage: &CliEnv, runbook: &str, params: &[&str]) -> CommandOutput {
    let runbook = format!("{}/runbooks/{runbook}.rhai", env!("CARGO_MANIFEST_DIR"));
    let params = params.iter().flat_map(|param| ["-p", param]);
    let args: Vec<&str> = ["run", runbook.as_str()].into_iter().chain(params).collect();
    let done = stage.run_cli(&args);
    assert_eq!(done.code, 0, "{done}");
    done
}

/// Returns the world of the sandbox that a stage has used.
fn sandbox_world(stage: &CliEnv) -> NormalizedWorld {
    let target = TargetConfig {
        name: "sandbox".into(),
        provider: "sim".into(),
        protect: false,
        tags: vec![],
        settings: toml::Table::new(),
    };
    let (base, kept) = (stage.path("."), stage.path(".redrill"));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let opening = OpenContext { target: &target, base: &base, state: &kept, clock: &clock };
    Sim::open(&opening).unwrap().normalized_world().unwrap()
}

/// Half an hour ago, to the second: the table that was dropped since is there.
fn half_an_hour_ago() -> String {
    let second = SystemClock.now().0.as_second() - 1800;
    format!("to={}", jiff::Timestamp::from_second(second).unwrap())
}

/// Compares two worlds that were made at different times. Our own dumps of a project are files, and no backups of its
/// platform; and the tables with a moment in each row are compared by their other columns, elsewhere.
fn assert_same_world(on_sim: &NormalizedWorld, on_supabase: &NormalizedWorld) {
    let plain = |portrait: &NormalizedWorld| {
        let mut plain = NormalizedWorld { backups: vec![], ..portrait.clone() };
        for table in ["customers", "orders"] {
            let shown = plain.database.get_mut(table).unwrap();
            *shown = shown.split(", ").filter(|part| part.len() != 8).collect::<Vec<_>>().join(", ");
        }
        plain
    };
    assert_eq!(plain(on_supabase).list_differences(&plain(on_sim)), Vec::<String>::new());
}

/// The rows of the tables with a moment in each row, without it.
fn query_rows(stage: &CliEnv, place: &str) -> Vec<Value> {
    let queries = [
        "select id, customer_id, status, total_cents from orders order by id",
        "select id, name, email from customers order by id",
    ];
    let ask = |sql: &str| stage.run_cli(&["db", "query", "-t", place, sql, "-o", "json"]).parse_json();
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
    if !postgres_or_skip() {
        return;
    }
    let practice = FakePlatform::start_fast();
    let before = practice.normalized_world();
    run_runbook(&practice.stage, "restore_to_branch", &["db=shop", "keep=true"]);
    let sim = CliEnv::new();
    run_runbook(&sim, "restore_to_branch", &["db=sandbox", "keep=true"]);
    let (on_sim, on_supabase) =
        (query_rows(&sim, "sandbox/drill"), query_rows(&practice.stage, "shop/drill"));
    assert_eq!(on_sim[0].as_array().unwrap().len(), 211);
    assert_eq!(on_sim, on_supabase, "the branches hold the same");
    assert_eq!(
        before.list_differences(&practice.normalized_world()),
        Vec::<String>::new(),
        "the source is as it was"
    );
    let audit = |stage: &CliEnv, target: &str, key: &str| -> Vec<Value> {
        let audit = stage.run_cli(&["security", "audit", "-t", target, "-o", "json"]).parse_json();
        let mut found: Vec<Value> = audit["findings"].as_array().unwrap().clone();
        found.retain(|f| f["check"] == key);
        found.iter().map(|f| json!([f["check"], f["level"]])).collect()
    };
    let idle = "policy_exists_rls_disabled";
    let found = audit(&practice.stage, "shop", idle);
    assert_eq!((found.len(), &found), (1, &audit(&sim, "sandbox", idle)), "the deliberate fault is found");
    let removed = practice.stage.run_cli(&["branch", "delete", "-t", "shop", "drill"]);
    assert_eq!(removed.code, 0, "{removed}");
    assert_eq!(duplicate_requests(&practice.server.ledger_entries()), Vec::<String>::new());
}

#[test]
fn a_target_goes_back_to_a_moment_alike() {
    if !postgres_or_skip() {
        return;
    }
    let moment = half_an_hour_ago();
    let practice = FakePlatform::start_fast();
    let done = run_runbook(&practice.stage, "restore_to_moment", &["db=shop", &moment]);
    assert!(done.stderr.contains("rto") && done.stderr.contains("rpo"), "{done}");
    let sim = CliEnv::new();
    run_runbook(&sim, "restore_to_moment", &["db=sandbox", &moment]);
    let (on_sim, on_supabase) = (sandbox_world(&sim), practice.normalized_world());
    assert!(on_sim.database.contains_key("order_notes"), "the dropped table is back");
    assert_same_world(&on_sim, &on_supabase);
    assert_eq!(query_rows(&sim, "sandbox"), query_rows(&practice.stage, "shop"));
    let log = practice.server.ledger_entries();
    assert_eq!(count_requests(&log, "POST", "/database/backups/restore-pitr"), 1);
    assert_eq!(duplicate_requests(&log), Vec::<String>::new());
}

#[test]
fn killed_anywhere_on_a_project_nothing_is_sent_twice() {
    if !postgres_or_skip() {
        return;
    }
    let practice = FakePlatform::start_fast();
    let mut branches = KillSeries::new(&practice.stage, "restore_to_branch", &["db=shop"]);
    let (mut kills, mut runs) = (0, 1);
    while kills < kill_count(3) {
        kills += branches.run_through_kills(&practice.stage);
        runs += 1;
        let log = practice.server.ledger_entries();
        let branches = (
            count_requests(&log, "POST", "/branches"),
            count_requests(&log, "DELETE", "/{branch_id_or_ref}"),
        );
        assert_eq!(branches, (runs, runs), "after {kills} kills: made and removed");
        assert_eq!(duplicate_requests(&log), Vec::<String>::new(), "after {kills} kills");
        let backups = practice.stage.run_cli(&["backup", "list", "-t", "shop", "-o", "json"]).parse_json();
        assert_eq!(backups.as_array().unwrap().len(), runs, "after {kills} kills: dumps");
    }
    let mut restores =
        KillSeries::new(&practice.stage, "restore_to_moment", &["db=shop", &half_an_hour_ago()]);
    let (mut more, mut times) = (0, 1);
    while more < kill_count(3) {
        more += restores.run_through_kills(&practice.stage);
        times += 1;
        let log = practice.server.ledger_entries();
        assert_eq!(
            count_requests(&log, "POST", "/database/backups/restore-pitr"),
            times,
            "after {more} kills"
        );
    }
    eprintln!("{kills} kills in {} runs, and {more} in {}", runs - 1, times - 1);
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
    if !postgres_or_skip() {
        return;
    }
    let practice = FakePlatform::start_fast();
    let done = run_runbook(&practice.stage, "restore_to_branch", &["db=shop", "keep=true"]);
    let shown = practice.stage.run_cli(&["branch", "get", "-t", "shop", "drill", "-o", "json"]);
    let told = practice.stage.run_cli(&["-vv", "runs", "show", "last"]);
    let mut left: Vec<(String, String)> = vec![];
    read_texts(&practice.stage.path("."), &mut left);
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
    if !postgres_or_skip() {
        return;
    }
    let stage = CliEnv::new();
    let lab = CliLab::bring_up(&stage);
    let typed = |args: &[&str]| {
        let done = stage.run_cli(args);
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
    run_runbook(&stage, "restore_to_moment", &["db=lab", &format!("to={moment}")]);
    assert_eq!(items(), before);
    lab.take_down();
}
