//! A disk that does not do what it is told: the run stops where it is, and a resume finds its place.

use crate::{
    kills::{effects, runs},
    stage::Stage,
};
use serde_json::json;
use std::{path::PathBuf, process::Command};

/// Builds the disk that fails; nothing where there is no C compiler, whose lack is said.
fn bad_disk(stage: &Stage) -> Option<PathBuf> {
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
    let stage = Stage::new();
    let Some(shim) = bad_disk(&stage) else { return };
    let runbook = format!("{}/runbooks/restore_to_branch.rhai", env!("CARGO_MANIFEST_DIR"));
    let start = ["run", runbook.as_str()];
    assert_eq!(stage.redrill(&start).code, 0);
    let of_one_run = effects(&stage);
    let mut stopped = 0;
    for nth in 1.. {
        let (runs_before, effects_before) = (runs(&stage).len(), effects(&stage));
        let disturbed = stage.redrill_on_a_bad_disk(&start, &shim, nth);
        let is_begun = runs(&stage).len() > runs_before;
        let has_failed = is_begun && runs(&stage)[0]["status"] == "failed";
        if disturbed.code != 0 && !has_failed {
            stopped += 1;
            // Where the run is not even begun, the person starts it again.
            let again = if is_begun { &["resume", "last", "--yes"][..] } else { &start };
            let done = stage.redrill(again);
            assert_eq!(done.code, 0, "sync {nth}: {disturbed}\n{done}");
        }
        let mut done = effects(&stage);
        for (kind, n) in &mut done {
            *n -= effects_before[kind];
        }
        if has_failed {
            // It was the disk of the world: the platform's error is the run's, and what it could not
            // clean up, it names.
            assert!(done.iter().all(|(kind, n)| *n <= of_one_run[kind]), "sync {nth}: {done:?} {disturbed}");
            if stage.redrill(&["branch", "list", "-t", "sandbox", "-o", "json"]).json() != json!([]) {
                assert!(
                    disturbed.stderr.contains("left behind: branch sandbox/drill"),
                    "sync {nth}: {disturbed}"
                );
                assert_eq!(stage.redrill(&["branch", "delete", "-t", "sandbox", "drill"]).code, 0);
            }
        } else {
            assert_eq!(done, of_one_run, "sync {nth}: {disturbed}");
        }
        assert_eq!(stage.redrill(&["runs", "verify", "last"]).code, 0, "sync {nth}");
        if !disturbed.stderr.contains("[a sync failed]") {
            assert_eq!(disturbed.code, 0, "it was not disturbed: {disturbed}");
            break;
        }
    }
    assert!(stopped > 10, "only {stopped} failed syncs stopped the run");
}
