//! Two operators: the second is told who has the target, and nothing is done.

use crate::stage::Stage;
use std::{process::Command, thread::sleep, time::Duration};

const SLOW: &str = r#"const RUNBOOK = #{ title: "slow", params: #{ db: #{ type: "target", preset: "sandbox" } }, needs: ["db.destroy"] };
db::execute(params.db, "delete from order_items where order_id = 1");
sleep("20s");
"#;

#[test]
fn the_second_run_is_told_who_has_the_target() {
    let stage = Stage::new();
    stage.write("slow.rhai", SLOW);
    let mut first = stage.redrill_started(&["run", "slow.rhai"]);
    let listed = || stage.redrill(&["runs", "list", "-o", "json"]).json();
    while listed()[0]["calls"].as_u64().unwrap_or(0) == 0 {
        sleep(Duration::from_millis(20));
    }
    let holder = listed()[0]["id"].as_str().unwrap().to_owned();
    let second = stage.redrill(&["run", "slow.rhai"]);
    assert_eq!(second.code, 6, "{second}");
    assert!(second.stderr.contains(&format!("is in use by the run `{holder}`")), "{second}");
    assert_eq!(listed().as_array().unwrap().len(), 1, "the refused one left a run");
    // What only adds beside it has to wait too; what only looks has not.
    assert_eq!(stage.redrill(&["backup", "create", "-t", "sandbox"]).code, 6);
    assert_eq!(stage.redrill(&["backup", "list", "-t", "sandbox"]).code, 0);

    let pid = first.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert_eq!(first.wait().unwrap().code(), Some(130));
    // An interrupted run holds nothing up.
    assert_eq!(stage.redrill(&["backup", "create", "-t", "sandbox"]).code, 0);
    let abandoned = stage.redrill(&["runs", "abandon", &holder]);
    assert_eq!(abandoned.code, 0, "{abandoned}");
}

#[test]
fn one_run_is_moved_by_one_process() {
    let stage = Stage::new();
    stage.write("slow.rhai", SLOW);
    let mut first = stage.redrill_started(&["run", "slow.rhai"]);
    while stage.redrill(&["runs", "list", "-o", "json"]).json()[0]["calls"].as_u64().unwrap_or(0) == 0 {
        sleep(Duration::from_millis(20));
    }
    let resumed = stage.redrill(&["resume", "last"]);
    assert_eq!(resumed.code, 2, "{resumed}");
    assert!(resumed.stderr.contains(&format!("process {}", first.id())), "{resumed}");
    first.kill().unwrap();
    first.wait().unwrap();
    let listed = stage.redrill(&["runs", "list", "-o", "json"]).json();
    assert_eq!(listed[0]["status"], "interrupted", "{listed}");
}

/// Starts the slow runbook, and returns when it sleeps.
fn asleep(stage: &Stage) -> std::process::Child {
    stage.write("slow.rhai", SLOW);
    let child = stage.redrill_started(&["run", "slow.rhai"]);
    while stage.redrill(&["runs", "list", "-o", "json"]).json()[0]["calls"].as_u64().unwrap_or(0) < 2 {
        sleep(Duration::from_millis(20));
    }
    child
}

#[test]
fn a_run_and_its_target_are_taken_over() {
    let stage = Stage::new();
    stage.write("quick.rhai", &SLOW.replace("20s", "0s"));
    let first = asleep(&stage);
    let resumed = stage.redrill_started(&["resume", "last", "--take-over"]);
    let stopped = crate::stage::Done::from(first.wait_with_output().unwrap());
    assert_eq!(stopped.code, 130, "{stopped}");
    assert!(stopped.stderr.contains("taken over by ") && stopped.stderr.contains("process "), "{stopped}");
    // The one that took over sleeps the rest, and gives way to the next as it was given way.
    while stage.redrill(&["runs", "list", "-o", "json"]).json()[0]["status"] != "running" {
        sleep(Duration::from_millis(20));
    }
    assert_eq!(stage.redrill(&["run", "quick.rhai"]).code, 6, "it has the target");
    let quick = stage.redrill(&["run", "quick.rhai", "--take-over"]);
    assert_eq!(quick.code, 0, "{quick}");
    assert_eq!(crate::stage::Done::from(resumed.wait_with_output().unwrap()).code, 130);
    let listed = stage.redrill(&["runs", "list", "-o", "json"]).json();
    assert_eq!((&listed[0]["status"], &listed[1]["status"]), (&"succeeded".into(), &"interrupted".into()));
    assert!(listed[1]["reason"].as_str().unwrap().starts_with("taken over by "), "{listed}");
}

#[test]
fn a_dead_holder_is_taken_over_at_once() {
    let stage = Stage::new();
    let mut first = asleep(&stage);
    first.kill().unwrap();
    first.wait().unwrap();
    stage.write("quick.rhai", &SLOW.replace("20s", "0s"));
    let quick = stage.redrill(&["run", "quick.rhai"]);
    assert_eq!(quick.code, 0, "the lease of a dead run holds nobody up: {quick}");
}

/// How many races are run: `REDRILL_RACES`, or a few.
fn races(preset: u32) -> u32 {
    std::env::var("REDRILL_RACES").ok().and_then(|n| n.parse().ok()).unwrap_or(preset)
}

const COUNTED: &str = r#"const RUNBOOK = #{ title: "counted", params: #{ db: #{ type: "target", preset: "sandbox" } }, needs: ["db.destroy"] };
approve("go?");
db::execute(params.db, "update customers set name = name || '+' where id = 1");
sleep("400ms");
"#;

fn effects(stage: &Stage) -> usize {
    let query = ["db", "query", "-t", "sandbox", "select name from customers where id = 1", "-o", "json"];
    stage.redrill(&query).json()[0]["name"].as_str().unwrap().matches('+').count()
}

#[test]
fn one_run_resumed_twice_at_once_is_resumed_once() {
    let stage = Stage::new();
    stage.write("counted.rhai", COUNTED);
    for race in 1..=races(4) {
        assert_eq!(stage.redrill(&["run", "counted.rhai"]).code, 3);
        assert_eq!(stage.redrill(&["approve", "last"]).code, 0);
        let id = stage.redrill(&["runs", "list", "-o", "json"]).json()[0]["id"].as_str().unwrap().to_owned();
        let both = [0, 1].map(|_| stage.redrill_started(&["resume", &id]));
        let mut codes = both.map(|child| child.wait_with_output().unwrap().status.code());
        codes.sort_unstable();
        assert_eq!(codes, [Some(0), Some(2)], "race {race}");
        assert_eq!(effects(&stage), race as usize, "race {race}");
    }
}

#[test]
fn one_runbook_started_twice_at_once_goes_on_once() {
    let stage = Stage::new();
    stage.write("counted.rhai", &COUNTED.replace("approve(\"go?\");", ""));
    assert_eq!(effects(&stage), 0);
    for race in 1..=races(4) {
        let both = [0, 1].map(|_| stage.redrill_started(&["run", "counted.rhai"]));
        let mut codes = both.map(|child| child.wait_with_output().unwrap().status.code());
        codes.sort_unstable();
        assert_eq!(codes, [Some(0), Some(6)], "race {race}");
        assert_eq!(effects(&stage), race as usize, "race {race}");
    }
}
