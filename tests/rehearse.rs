//! Rehearsals from outside: what ships keeps every invariant, what is bad on purpose is caught by the right one.

use crate::env::{CliEnv, CommandOutput};
use serde_json::Value;
use std::collections::BTreeSet;

fn runbook_path(path: &str) -> String {
    format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))
}

/// Rehearses, and holds what is true of every rehearsal: nothing is made, and the last line counts the others.
fn rehearse_runbook(path: &str, more: &[&str]) -> (CommandOutput, Vec<Value>) {
    let env = CliEnv::new();
    let runbook = runbook_path(path);
    let args: Vec<&str> =
        ["rehearse", &runbook, "-o", "json"].into_iter().chain(more.iter().copied()).collect();
    let done = env.run_cli(&args);
    assert!(!env.path(".redrill").exists(), "the state folder was made");
    let mut events = done.parse_events();
    let last = events.pop().unwrap();
    assert_eq!(last["event"], "rehearsal.finished", "{done}");
    assert_eq!(last["scenarios"], events.len(), "{done}");
    for (verdict, count) in
        [("converged", "converged"), ("stopped_safely", "stopped_safely"), ("violated", "violations")]
    {
        assert_eq!(last[count], events.iter().filter(|e| e["verdict"] == verdict).count(), "{done}");
    }
    (done, events)
}

#[test]
fn what_ships_keeps_every_invariant() {
    for (path, params) in [
        ("runbooks/restore_to_branch.rhai", &[][..]),
        ("runbooks/undo_dropped_table.rhai", &["-p", "table=order_notes"]),
        ("runbooks/restore_to_moment.rhai", &["-p", "to=2025-12-31T23:30:00Z"]),
        ("tests/good/every_change.rhai", &[]),
        ("tests/good/approved_restore.rhai", &[]),
    ] {
        let (done, events) = rehearse_runbook(path, &[params, &["--seeds", "24"]].concat());
        assert_eq!(done.code, 0, "{path}: {done}");
        let named =
            |part: &str| events.iter().filter(|e| e["scenario"].as_str().unwrap().starts_with(part)).count();
        assert!(named("crash:") >= 12 && named("api:") >= 25 && named("seed:") == 24, "{path}: {done}");
        for crash in events.iter().filter(|e| e["scenario"].as_str().unwrap().starts_with("crash:")) {
            assert_eq!(crash["verdict"], "converged", "{path}: a kill changed how it ended: {crash}");
        }
    }
}

#[test]
fn what_is_bad_is_caught_by_the_right_invariant() {
    for (path, invariants) in [
        ("tests/bad/forgotten_branch.rhai", &["left-over"][..]),
        ("tests/bad/unguarded_restore.rhai", &["guard"]),
        ("tests/bad/swallowed_failure.rhai", &["once", "same-world"]),
        ("tests/bad/broken_promise.rhai", &["author"]),
        ("tests/bad/never_well.rhai", &["ends-well"]),
    ] {
        let (done, events) = rehearse_runbook(path, &[]);
        assert_eq!(done.code, 1, "{path}: {done}");
        let broken: BTreeSet<&str> = events
            .iter()
            .flat_map(|e| e["breaches"].as_array().unwrap())
            .map(|breach| breach["invariant"].as_str().unwrap())
            .collect();
        assert_eq!(broken, invariants.iter().copied().collect(), "{path}: {done}");
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    for format in ["text", "json"] {
        let runbook = runbook_path("tests/good/every_change.rhai");
        let args = ["rehearse", &runbook, "--faults", "crash", "--seeds", "12", "--seed", "7", "-o", format];
        let [first, second] = [(); 2].map(|()| CliEnv::new().run_cli(&args));
        assert_eq!(first.stdout, second.stdout);
        assert!(first.stderr.is_empty(), "{first}");
    }
}

#[test]
fn a_failing_scenario_prints_the_command_that_replays_it() {
    let path = runbook_path("tests/bad/forgotten_branch.rhai");
    let text = CliEnv::new().run_cli(&["rehearse", &path, "--faults", "api"]).stdout;
    let command = text.lines().find(|line| line.contains("--only api:2:query:refused")).unwrap().trim();
    let words: Vec<&str> = command.split(' ').skip(1).collect();
    let done = CliEnv::new().run_cli(&words);
    assert_eq!(done.code, 1, "{done}");
    assert!(done.stdout.contains("left-over: the branch `sandbox/forgotten` is left"), "{done}");
    assert!(done.stdout.contains("1 scenarios: 0 ✓ converged, 0 s stopped safely, 1 ✗ violated"), "{done}");
}

#[test]
fn what_cannot_be_rehearsed_says_so() {
    let env = CliEnv::new();
    env.write_file("redrill.toml", "[targets.orders]\nprovider = \"postgres\"\ndata_dir = \"/nowhere\"\n");
    let path = runbook_path("runbooks/restore_to_branch.rhai");
    for (args, says) in [
        (["-p", "db=orders"], "the target `orders` is real"),
        (["--only", "crash:3:after-efect"], "has no scenario `crash:3:after-efect`"),
        (["-p", "bd=sandbox"], "has no parameter `bd`"),
    ] {
        let done = env.run_cli(&[&["rehearse", &path][..], &args].concat());
        assert_eq!(done.code, 2, "{done}");
        assert!(done.stderr.contains(says) && done.stderr.contains("nothing was done"), "{done}");
    }
}
