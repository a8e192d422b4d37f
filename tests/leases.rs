//! Two operators: the second is told who has the target, and nothing is done.

use crate::stage::CliEnv;
use std::{process::Command, thread::sleep, time::Duration};

const SLOW_RUNBOOK: &str = r#"const RUNBOOK = #{ title: "slow", params: #{ db: #{ type: "target", preset: "sandbox" } }, needs: ["db.destroy"] };
db::execute(params.db, "delete from order_items where order_id = 1");
sleep("20s");
"#;

#[test]
fn the_second_run_is_told_who_has_the_target() {
    let stage = CliEnv::new();
    stage.write_file("slow.rhai", SLOW_RUNBOOK);
    let mut first = stage.start_cli(&["run", "slow.rhai"]);
    let listed = || stage.run_cli(&["runs", "list", "-o", "json"]).parse_json();
    while listed()[0]["calls"].as_u64().unwrap_or(0) == 0 {
        sleep(Duration::from_millis(20));
    }
    let holder = listed()[0]["id"].as_str().unwrap().to_owned();
    let second = stage.run_cli(&["run", "slow.rhai"]);
    assert_eq!(second.code, 6, "{second}");
    assert!(second.stderr.contains(&format!("is in use by the run `{holder}`")), "{second}");
    assert_eq!(listed().as_array().unwrap().len(), 1, "the refused one left a run");
    // What only adds beside it has to wait too; what only looks has not.
    assert_eq!(stage.run_cli(&["backup", "create", "-t", "sandbox"]).code, 6);
    assert_eq!(stage.run_cli(&["backup", "list", "-t", "sandbox"]).code, 0);

    let pid = first.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert_eq!(first.wait().unwrap().code(), Some(130));
    // An interrupted run holds nothing up.
    assert_eq!(stage.run_cli(&["backup", "create", "-t", "sandbox"]).code, 0);
    let abandoned = stage.run_cli(&["runs", "abandon", &holder]);
    assert_eq!(abandoned.code, 0, "{abandoned}");
}

#[test]
fn one_run_is_moved_by_one_process() {
    let stage = CliEnv::new();
    stage.write_file("slow.rhai", SLOW_RUNBOOK);
    let mut first = stage.start_cli(&["run", "slow.rhai"]);
    while stage.run_cli(&["runs", "list", "-o", "json"]).parse_json()[0]["calls"].as_u64().unwrap_or(0) == 0 {
        sleep(Duration::from_millis(20));
    }
    let resumed = stage.run_cli(&["resume", "last"]);
    assert_eq!(resumed.code, 2, "{resumed}");
    assert!(resumed.stderr.contains(&format!("process {}", first.id())), "{resumed}");
    first.kill().unwrap();
    first.wait().unwrap();
    let listed = stage.run_cli(&["runs", "list", "-o", "json"]).parse_json();
    assert_eq!(listed[0]["status"], "interrupted", "{listed}");
}

/// Starts the slow runbook, and returns when it sleeps.
fn start_slow_run(stage: &CliEnv) -> std::process::Child {
    stage.write_file("slow.rhai", SLOW_RUNBOOK);
    let child = stage.start_cli(&["run", "slow.rhai"]);
    while stage.run_cli(&["runs", "list", "-o", "json"]).parse_json()[0]["calls"].as_u64().unwrap_or(0) < 2 {
        sleep(Duration::from_millis(20));
    }
    child
}

#[test]
fn a_run_and_its_target_are_taken_over() {
    let stage = CliEnv::new();
    stage.write_file("quick.rhai", &SLOW_RUNBOOK.replace("20s", "0s"));
    let first = start_slow_run(&stage);
    let resumed = stage.start_cli(&["resume", "last", "--take-over"]);
    let stopped = crate::stage::CommandOutput::from(first.wait_with_output().unwrap());
    assert_eq!(stopped.code, 130, "{stopped}");
    assert!(stopped.stderr.contains("taken over by ") && stopped.stderr.contains("process "), "{stopped}");
    // The new owner sleeps the rest of the time, and can be asked to stop in turn.
    while stage.run_cli(&["runs", "list", "-o", "json"]).parse_json()[0]["status"] != "running" {
        sleep(Duration::from_millis(20));
    }
    assert_eq!(stage.run_cli(&["run", "quick.rhai"]).code, 6, "it has the target");
    let quick = stage.run_cli(&["run", "quick.rhai", "--take-over"]);
    assert_eq!(quick.code, 0, "{quick}");
    assert_eq!(crate::stage::CommandOutput::from(resumed.wait_with_output().unwrap()).code, 130);
    let listed = stage.run_cli(&["runs", "list", "-o", "json"]).parse_json();
    assert_eq!((&listed[0]["status"], &listed[1]["status"]), (&"succeeded".into(), &"interrupted".into()));
    assert!(listed[1]["reason"].as_str().unwrap().starts_with("taken over by "), "{listed}");
}

#[test]
fn a_dead_holder_is_taken_over_at_once() {
    let stage = CliEnv::new();
    let mut first = start_slow_run(&stage);
    first.kill().unwrap();
    first.wait().unwrap();
    stage.write_file("quick.rhai", &SLOW_RUNBOOK.replace("20s", "0s"));
    let quick = stage.run_cli(&["run", "quick.rhai"]);
    assert_eq!(quick.code, 0, "the lease of a dead run holds nobody up: {quick}");
}

/// How many races are run: `REDRILL_RACES`, or a few.
fn race_count(preset: u32) -> u32 {
    std::env::var("REDRILL_RACES").ok().and_then(|n| n.parse().ok()).unwrap_or(preset)
}

const COUNTING_RUNBOOK: &str = r#"const RUNBOOK = #{ title: "counted", params: #{ db: #{ type: "target", preset: "sandbox" } }, needs: ["db.destroy"] };
approve("go?");
db::execute(params.db, "update customers set name = name || '+' where id = 1");
sleep("400ms");
"#;

fn count_updates(stage: &CliEnv) -> usize {
    let query = ["db", "query", "-t", "sandbox", "select name from customers where id = 1", "-o", "json"];
    stage.run_cli(&query).parse_json()[0]["name"].as_str().unwrap().matches('+').count()
}

#[test]
fn one_run_resumed_twice_at_once_is_resumed_once() {
    let stage = CliEnv::new();
    stage.write_file("counted.rhai", COUNTING_RUNBOOK);
    for race in 1..=race_count(4) {
        assert_eq!(stage.run_cli(&["run", "counted.rhai"]).code, 3);
        assert_eq!(stage.run_cli(&["approve", "last"]).code, 0);
        let id =
            stage.run_cli(&["runs", "list", "-o", "json"]).parse_json()[0]["id"].as_str().unwrap().to_owned();
        let both = [0, 1].map(|_| stage.start_cli(&["resume", &id]));
        let mut codes = both.map(|child| child.wait_with_output().unwrap().status.code());
        codes.sort_unstable();
        assert_eq!(codes, [Some(0), Some(2)], "race {race}");
        assert_eq!(count_updates(&stage), race as usize, "race {race}");
    }
}

#[test]
fn one_runbook_started_twice_at_once_goes_on_once() {
    let stage = CliEnv::new();
    stage.write_file("counted.rhai", &COUNTING_RUNBOOK.replace("approve(\"go?\");", ""));
    assert_eq!(count_updates(&stage), 0);
    for race in 1..=race_count(4) {
        let both = [0, 1].map(|_| stage.start_cli(&["run", "counted.rhai"]));
        let mut codes = both.map(|child| child.wait_with_output().unwrap().status.code());
        codes.sort_unstable();
        assert_eq!(codes, [Some(0), Some(6)], "race {race}");
        assert_eq!(count_updates(&stage), race as usize, "race {race}");
    }
}
