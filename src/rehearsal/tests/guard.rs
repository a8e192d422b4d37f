//! What must come before something is destroyed.

use super::{FaultSelection, RehearsalRequest, rehearse_runbook, simulate_targets, write_runbook};
use crate::{config::SANDBOX, runtime::Runbook};
use std::collections::BTreeMap;

const NEEDS: &str = r#""backup.create", "backup.destroy", "db.destroy""#;

/// Returns the violations of a run of these statements in which nothing goes wrong; beside `db` there is the target
/// `other`.
fn list_broken(body: &str) -> Vec<String> {
    let request = RehearsalRequest {
        runbook: Runbook::from_text("t.rhai", write_runbook(NEEDS, body)).expect("it parses"),
        params: BTreeMap::new(),
        faults: FaultSelection::NONE,
        seeds: 0,
        seed: 0,
        only: None,
    };
    let config = simulate_targets(&[SANDBOX, "other"]);
    let report = rehearse_runbook(&request, &config).expect("it is rehearsed");
    let violations = report.scenario_verdicts().flat_map(|scenario| scenario.verdict.violations.clone());
    violations.map(|violation| format!("{}: {}", violation.invariant, violation.what)).collect()
}

/// Holds that `guard`, and nothing else, is broken once.
fn assert_unguarded(body: &str, says: &str) {
    let broken = list_broken(body);
    let is_it = |line: &String| line.starts_with("guard:") && line.contains(says);
    assert!(broken.len() == 1 && broken.iter().all(is_it), "{body}: {broken:?}");
}

/// Holds that nothing is broken.
fn assert_guarded(body: &str) {
    assert_eq!(list_broken(body), Vec::<String>::new(), "{body}");
}

const DELETES_ROWS: &str = r#"db::execute(db, "delete from order_items");"#;

#[test]
fn a_backup_that_was_deleted_again_guards_nothing() {
    let says = "after the run deleted its own backup of it";
    let deleted = "let b = backup::create(db); backup::delete(db, b);";
    assert_unguarded(&format!("{deleted} {DELETES_ROWS}"), says);
    // An older backup, which the run did not make, guards nothing.
    assert_unguarded(&format!("{deleted} backup::delete(db, backup::list(db)[0]);"), says);
}

#[test]
fn a_backup_guards_as_long_as_it_is_there() {
    assert_guarded(&format!("let b = backup::create(db); {DELETES_ROWS} backup::delete(db, b);"));
    assert_guarded(&format!(
        "let b = backup::create(db); backup::delete(db, b, #{{ plan: true }}); {DELETES_ROWS}"
    ));
    assert_guarded(&format!(
        "let b = backup::create(db); backup::create(db); backup::delete(db, b); {DELETES_ROWS}"
    ));
}

const DELETES_BACKUP: &str = "backup::delete(db, backup::list(db)[0]);";

#[test]
fn an_approval_guards_no_more_than_what_comes_next() {
    let says = "what was approved is something else";
    let approved = format!("approve(\"do you like coffee?\"); {DELETES_ROWS}");
    assert_unguarded(&format!("{approved} {DELETES_BACKUP}"), says);
    assert_unguarded(&format!("approve(\"go?\"); {DELETES_BACKUP} {DELETES_ROWS}"), says);
    // The second gate of the loop is of the same as the first, and not left for what follows.
    let looped = format!("for n in 0..2 {{ approve(`go ${{n}}?`); {DELETES_ROWS} }}");
    assert_unguarded(&format!("{looped} {DELETES_BACKUP}"), says);
}

#[test]
fn an_approval_guards_one_target() {
    let other = DELETES_ROWS.replace("db,", "\"other\",");
    let says = "destroys something of `other`";
    assert_unguarded(&format!("approve(\"go?\"); {DELETES_ROWS} {other}"), says);
    assert_guarded(&format!("approve(\"one?\"); {DELETES_ROWS} approve(\"other?\"); {other}"));
    assert_guarded(&format!("approve(\"one?\"); approve(\"other?\"); {DELETES_ROWS} {other} {DELETES_ROWS}"));
    assert_guarded(&format!("approve(\"other?\"); backup::create(db); {DELETES_ROWS} {other}"));
}

#[test]
fn an_approval_guards_more_of_the_same() {
    assert_guarded(&format!("approve(\"go?\"); {DELETES_ROWS} {DELETES_ROWS}"));
    assert_guarded(&format!("approve(\"go?\"); backup::restore(db, backup::list(db)[0]); {DELETES_ROWS}"));
    assert_guarded(&format!("approve(\"go?\"); for n in 0..2 {{ {DELETES_BACKUP} }}"));
}
