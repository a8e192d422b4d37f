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
    let mut first = stage.firedrill_started(&["run", "slow.rhai"]);
    let listed = || stage.firedrill(&["runs", "list", "-o", "json"]).json();
    while listed()[0]["calls"].as_u64().unwrap_or(0) == 0 {
        sleep(Duration::from_millis(20));
    }
    let holder = listed()[0]["id"].as_str().unwrap().to_owned();
    let second = stage.firedrill(&["run", "slow.rhai"]);
    assert_eq!(second.code, 6, "{second}");
    assert!(second.stderr.contains(&format!("is in use by the run `{holder}`")), "{second}");
    assert_eq!(listed().as_array().unwrap().len(), 1, "the refused one left a run");
    // What only adds beside it has to wait too; what only looks has not.
    assert_eq!(stage.firedrill(&["backup", "create", "-t", "sandbox"]).code, 6);
    assert_eq!(stage.firedrill(&["backup", "list", "-t", "sandbox"]).code, 0);

    let pid = first.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert_eq!(first.wait().unwrap().code(), Some(130));
    // An interrupted run holds nothing up.
    assert_eq!(stage.firedrill(&["backup", "create", "-t", "sandbox"]).code, 0);
    let abandoned = stage.firedrill(&["runs", "abandon", &holder]);
    assert_eq!(abandoned.code, 0, "{abandoned}");
}

#[test]
fn one_run_is_moved_by_one_process() {
    let stage = Stage::new();
    stage.write("slow.rhai", SLOW);
    let mut first = stage.firedrill_started(&["run", "slow.rhai"]);
    while stage.firedrill(&["runs", "list", "-o", "json"]).json()[0]["calls"].as_u64().unwrap_or(0) == 0 {
        sleep(Duration::from_millis(20));
    }
    let resumed = stage.firedrill(&["resume", "last"]);
    assert_eq!(resumed.code, 2, "{resumed}");
    assert!(resumed.stderr.contains(&format!("process {}", first.id())), "{resumed}");
    first.kill().unwrap();
    first.wait().unwrap();
    let listed = stage.firedrill(&["runs", "list", "-o", "json"]).json();
    assert_eq!(listed[0]["status"], "interrupted", "{listed}");
}
