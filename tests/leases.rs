//! Two operators: the second is told who has the target, and nothing is done.

use crate::env::{CliEnv, CommandOutput, interrupt_child};
use std::process::Child;

const SLOW_RUNBOOK: &str = r#"const RUNBOOK = #{ title: "slow", params: #{ db: #{ type: "target", preset: "sandbox" } }, needs: ["db.destroy"] };
db::execute(params.db, "delete from order_items where order_id = 1");
sleep("20s");
"#;

#[test]
fn the_second_run_is_told_who_has_the_target() {
    let env = CliEnv::new();
    env.write_file("slow.rhai", SLOW_RUNBOOK);
    let mut first = env.start_until_calls(&["run", "slow.rhai"], 1);
    let listed = || env.list_runs();
    let holder = listed()[0]["id"].as_str().unwrap().to_owned();
    let second = env.run_cli(&["run", "slow.rhai"]);
    assert_eq!(second.code, 6, "{second}");
    assert!(second.stderr.contains(&format!("is in use by the run `{holder}`")), "{second}");
    assert_eq!(listed().as_array().unwrap().len(), 1, "the refused one left a run");
    // What only adds beside it has to wait too; what only looks has not.
    assert_eq!(env.run_cli(&["backup", "create", "-t", "sandbox"]).code, 6);
    assert_eq!(env.run_cli(&["backup", "list", "-t", "sandbox"]).code, 0);

    interrupt_child(&first);
    assert_eq!(first.wait().unwrap().code(), Some(130));
    // An interrupted run holds nothing up.
    assert_eq!(env.run_cli(&["backup", "create", "-t", "sandbox"]).code, 0);
    let abandoned = env.run_cli(&["runs", "abandon", &holder]);
    assert_eq!(abandoned.code, 0, "{abandoned}");
}

#[test]
fn one_run_is_moved_by_one_process() {
    let env = CliEnv::new();
    env.write_file("slow.rhai", SLOW_RUNBOOK);
    let mut first = env.start_until_calls(&["run", "slow.rhai"], 1);
    let resumed = env.run_cli(&["resume", "last"]);
    assert_eq!(resumed.code, 2, "{resumed}");
    assert!(resumed.stderr.contains(&format!("process {}", first.id())), "{resumed}");
    first.kill().unwrap();
    first.wait().unwrap();
    let listed = env.list_runs();
    assert_eq!(listed[0]["status"], "interrupted", "{listed}");
}

/// Starts the slow runbook, and returns when it sleeps.
fn start_slow_run(env: &CliEnv) -> Child {
    env.write_file("slow.rhai", SLOW_RUNBOOK);
    env.start_until_calls(&["run", "slow.rhai"], 2)
}

#[test]
fn a_run_and_its_target_are_taken_over() {
    let env = CliEnv::new();
    env.write_file("quick.rhai", &SLOW_RUNBOOK.replace("20s", "0s"));
    let first = start_slow_run(&env);
    let resumed = env.start_cli(&["resume", "last", "--take-over"]);
    let stopped = CommandOutput::from(first.wait_with_output().unwrap());
    assert_eq!(stopped.code, 130, "{stopped}");
    assert!(stopped.stderr.contains("taken over by ") && stopped.stderr.contains("process "), "{stopped}");
    // The new owner sleeps the rest of the time, and can be asked to stop in turn.
    env.wait_for_run(|run| run["status"] == "running");
    assert_eq!(env.run_cli(&["run", "quick.rhai"]).code, 6, "it has the target");
    let quick = env.run_cli(&["run", "quick.rhai", "--take-over"]);
    assert_eq!(quick.code, 0, "{quick}");
    assert_eq!(CommandOutput::from(resumed.wait_with_output().unwrap()).code, 130);
    let listed = env.list_runs();
    assert_eq!((&listed[0]["status"], &listed[1]["status"]), (&"succeeded".into(), &"interrupted".into()));
    assert!(listed[1]["reason"].as_str().unwrap().starts_with("taken over by "), "{listed}");
}

#[test]
fn a_dead_holder_is_taken_over_at_once() {
    let env = CliEnv::new();
    let mut first = start_slow_run(&env);
    first.kill().unwrap();
    first.wait().unwrap();
    env.write_file("quick.rhai", &SLOW_RUNBOOK.replace("20s", "0s"));
    let quick = env.run_cli(&["run", "quick.rhai"]);
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

fn count_updates(env: &CliEnv) -> usize {
    let query = ["db", "query", "-t", "sandbox", "select name from customers where id = 1", "-o", "json"];
    env.run_cli(&query).parse_json()[0]["name"].as_str().unwrap().matches('+').count()
}

#[test]
fn one_run_resumed_twice_at_once_is_resumed_once() {
    let env = CliEnv::new();
    env.write_file("counted.rhai", COUNTING_RUNBOOK);
    for race in 1..=race_count(4) {
        assert_eq!(env.run_cli(&["run", "counted.rhai"]).code, 3);
        assert_eq!(env.run_cli(&["approve", "last"]).code, 0);
        let id = env.list_runs()[0]["id"].as_str().unwrap().to_owned();
        let both = [0, 1].map(|_| env.start_cli(&["resume", &id]));
        let mut codes = both.map(|child| child.wait_with_output().unwrap().status.code());
        codes.sort_unstable();
        assert_eq!(codes, [Some(0), Some(2)], "race {race}");
        assert_eq!(count_updates(&env), race as usize, "race {race}");
    }
}

#[test]
fn one_runbook_started_twice_at_once_goes_on_once() {
    let env = CliEnv::new();
    env.write_file("counted.rhai", &COUNTING_RUNBOOK.replace("approve(\"go?\");", ""));
    assert_eq!(count_updates(&env), 0);
    for race in 1..=race_count(4) {
        let both = [0, 1].map(|_| env.start_cli(&["run", "counted.rhai"]));
        let mut codes = both.map(|child| child.wait_with_output().unwrap().status.code());
        codes.sort_unstable();
        assert_eq!(codes, [Some(0), Some(6)], "race {race}");
        assert_eq!(count_updates(&env), race as usize, "race {race}");
    }
}

#[test]
fn a_take_over_that_could_do_nothing_stops_nobody() {
    let env = CliEnv::new();
    env.write_file("redrill.toml", "[targets.p]\nprovider = \"sim\"\nworld = \"sandbox\"\nprotect = true\n");
    let mut first = start_slow_run(&env);
    let with_other =
        SLOW_RUNBOOK.replace("params: #{", "params: #{ other: #{ type: \"target\", preset: \"p\" },");
    let unparsed = Some("let = ");
    for (text, args, code, said) in [
        (unparsed, &["resume", "last", "--edited", "--take-over"][..], 2, "Expecting"),
        (None, &["resume", "last", "--edited", "--take-over"], 2, "is not there"),
        (Some(&*with_other), &["resume", "last", "--edited", "--take-over"], 6, "`p` is protected"),
        (
            Some(&*SLOW_RUNBOOK.replace("db.destroy", "db.read")),
            &["resume", "last", "--edited", "--take-over"],
            6,
            "db.destroy",
        ),
        (Some(SLOW_RUNBOOK), &["approve", "last", "--take-over", "--resume"], 2, "waits for no approval"),
        (Some(SLOW_RUNBOOK), &["approve", "last", "nothere", "--take-over"], 2, "has no approval"),
        (unparsed, &["run", "slow.rhai", "--take-over"], 2, "Expecting"),
        (Some(&*with_other), &["run", "slow.rhai", "--take-over"], 6, "`p` is protected"),
        (Some(SLOW_RUNBOOK), &["run", "slow.rhai", "--take-over", "-p", "nothere=1"], 2, "nothere"),
    ] {
        match text {
            Some(text) => env.write_file("slow.rhai", text),
            None => std::fs::remove_file(env.path("slow.rhai")).unwrap(),
        }
        let refused = env.run_cli(args);
        assert!(refused.code == code && refused.stderr.contains(said), "{args:?}: {refused}");
        assert!(!refused.stderr.contains("asks the run"), "{args:?}: {refused}");
        assert!(first.try_wait().unwrap().is_none(), "{args:?}: it was stopped");
    }
    interrupt_child(&first);
    let stopped = CommandOutput::from(first.wait_with_output().unwrap());
    assert!(stopped.code == 130 && !stopped.stderr.contains("taken over"), "{stopped}");
}
