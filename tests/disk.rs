//! A disk whose sync fails: the run stops, and a resume continues at the right place.

use crate::{
    kills::{count_effects, list_runs},
    stage::CliEnv,
};
use serde_json::json;
use std::{path::PathBuf, process::Command};

/// Builds the library that makes a sync fail; without a C compiler, says that the test is skipped.
fn build_bad_disk(stage: &CliEnv) -> Option<PathBuf> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stage/bad_disk.c");
    let shim = stage.path("bad_disk.so");
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
    let stage = CliEnv::new();
    let Some(shim) = build_bad_disk(&stage) else { return };
    let runbook = format!("{}/runbooks/restore_to_branch.rhai", env!("CARGO_MANIFEST_DIR"));
    let start = ["run", runbook.as_str()];
    assert_eq!(stage.run_cli(&start).code, 0);
    let of_one_run = count_effects(&stage);
    let mut stopped = 0;
    for nth in 1.. {
        let (runs_before, effects_before) = (list_runs(&stage).len(), count_effects(&stage));
        let disturbed = stage.run_cli_on_bad_disk(&start, &shim, nth);
        let is_begun = list_runs(&stage).len() > runs_before;
        let has_failed = is_begun && list_runs(&stage)[0]["status"] == "failed";
        if disturbed.code != 0 && !has_failed {
            stopped += 1;
            // Where the run is not even begun, the person starts it again.
            let again = if is_begun { &["resume", "last", "--yes"][..] } else { &start };
            let done = stage.run_cli(again);
            assert_eq!(done.code, 0, "sync {nth}: {disturbed}\n{done}");
        }
        let mut done = count_effects(&stage);
        for (kind, n) in &mut done {
            *n -= effects_before[kind];
        }
        if has_failed {
            // It was the disk of the world: the platform's error is the run's, and what it could not
            // clean up, it names.
            assert!(done.iter().all(|(kind, n)| *n <= of_one_run[kind]), "sync {nth}: {done:?} {disturbed}");
            if stage.run_cli(&["branch", "list", "-t", "sandbox", "-o", "json"]).parse_json() != json!([]) {
                assert!(
                    disturbed.stderr.contains("left behind: branch sandbox/drill"),
                    "sync {nth}: {disturbed}"
                );
                assert_eq!(stage.run_cli(&["branch", "delete", "-t", "sandbox", "drill"]).code, 0);
            }
        } else {
            assert_eq!(done, of_one_run, "sync {nth}: {disturbed}");
        }
        assert_eq!(stage.run_cli(&["runs", "verify", "last"]).code, 0, "sync {nth}");
        if !disturbed.stderr.contains("[a sync failed]") {
            assert_eq!(disturbed.code, 0, "it was not disturbed: {disturbed}");
            break;
        }
    }
    assert!(stopped > 10, "only {stopped} failed syncs stopped the run");
}
