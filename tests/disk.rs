//! A disk whose sync fails: the run stops, and a resume continues at the right place.

use crate::env::{CliEnv, sandbox_runbook, shipped_runbook};
use serde_json::json;
use std::{path::PathBuf, process::Command};

const LIST_RUNS: &[&str] = &["runs", "list", "-o", "json"];

/// Builds the library that makes a sync fail; without a C compiler, says that the test is skipped.
fn build_bad_disk(env: &CliEnv) -> Option<PathBuf> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/env/bad_disk.c");
    let shim = env.path("bad_disk.so");
    let built =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&shim).args([source, "-ldl"]).status();
    if built.is_ok_and(|status| status.success()) && cfg!(target_os = "linux") {
        return Some(shim);
    }
    eprintln!("skipped: it takes Linux and a C compiler to make a sync fail");
    None
}

#[test]
fn a_sync_that_fails_stops_the_run_and_a_resume_finds_its_place() {
    let env = CliEnv::new();
    let Some(shim) = build_bad_disk(&env) else { return };
    let runbook = shipped_runbook("restore_to_branch");
    let start = ["run", runbook.as_str()];
    assert_eq!(env.run_cli(&start).code, 0);
    let of_one_run = env.sandbox_effects();
    let mut stopped = 0;
    for nth in 1.. {
        let (runs_before, effects_before) = (env.count_listed(LIST_RUNS), env.sandbox_effects());
        let disturbed = env.run_cli_on_bad_disk(&start, &shim, nth);
        let is_begun = env.count_listed(LIST_RUNS) > runs_before;
        let has_failed = is_begun && env.list_runs()[0]["status"] == "failed";
        if disturbed.code != 0 && !has_failed {
            stopped += 1;
            // Where the run is not even begun, the person starts it again.
            let again = if is_begun { &["resume", "last", "--yes"][..] } else { &start };
            let done = env.run_cli(again);
            assert_eq!(done.code, 0, "sync {nth}: {disturbed}\n{done}");
        }
        let mut done = env.sandbox_effects();
        for (kind, n) in &mut done {
            *n -= effects_before[kind];
        }
        if has_failed {
            // It was the disk of the world: the platform's error is the run's, and what it could not
            // clean up, it names.
            assert!(done.iter().all(|(kind, n)| *n <= of_one_run[kind]), "sync {nth}: {done:?} {disturbed}");
            if env.run_cli(&["branch", "list", "-t", "sandbox", "-o", "json"]).parse_json() != json!([]) {
                assert!(
                    disturbed.stderr.contains("left behind: branch sandbox/drill"),
                    "sync {nth}: {disturbed}"
                );
                assert_eq!(env.run_cli(&["branch", "delete", "-t", "sandbox", "drill"]).code, 0);
            }
        } else {
            assert_eq!(done, of_one_run, "sync {nth}: {disturbed}");
        }
        assert_eq!(env.run_cli(&["runs", "verify", "last"]).code, 0, "sync {nth}");
        if !disturbed.stderr.contains("[a sync failed]") {
            assert_eq!(disturbed.code, 0, "it was not disturbed: {disturbed}");
            break;
        }
    }
    assert!(stopped > 10, "only {stopped} failed syncs stopped the run");
}

#[test]
fn what_is_only_noted_or_read_waits_for_no_disk() {
    let env = CliEnv::new();
    let Some(shim) = build_bad_disk(&env) else { return };
    env.write_file(
        "r.rhai",
        &sandbox_runbook(
            r#""branch.create""#,
            r#"let db = params.db; for i in 0..300 { note("n" + i); if i % 10 == 0 { branch::list(db); } } 1"#,
        ),
    );
    assert_eq!(env.run_cli(&["run", "r.rhai"]).code, 0);
    // With a sync for each of the 330 it comes to the one that fails.
    let done = env.run_cli_on_bad_disk(&["run", "r.rhai"], &shim, 60);
    assert_eq!(done.code, 0, "{done}");
    let noted = env.run_cli(&["runs", "show", "last"]).stdout.matches("• n").count();
    assert_eq!(noted, 300);
}
