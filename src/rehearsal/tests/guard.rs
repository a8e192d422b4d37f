//! What must come before something is destroyed.

use super::{FaultSelection, broken_by_faults, write_runbook};

const NEEDS: &str = r#""backup.create", "backup.destroy", "db.destroy""#;

/// Returns the violations of a run of these statements in which nothing goes wrong.
fn list_broken(body: &str) -> Vec<String> {
    broken_by_faults(&write_runbook(NEEDS, body), FaultSelection::NONE, 0..0, None)
}

/// Holds that `guard`, and nothing else, is broken once.
fn assert_unguarded(body: &str, says: &str) {
    let broken = list_broken(body);
    let is_it = |line: &String| line.starts_with("undisturbed: guard:") && line.contains(says);
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
