//! What `abandon --leave` names: also clean-up that a run may have come to, and that no record has.

use super::*;
use crate::runtime::end_as_abandoned;

/// Runs a script in a process that is killed at an event, ends the run as it is, and returns what it leaves behind.
fn leave_killed_at(script: &str, at: fn(&str) -> bool) -> Vec<String> {
    let env = ScriptEnv::new();
    drop(env.try_run_script(script, Arc::new(Listener { die_before: Some(at), ..Listener::default() })));
    let journal = env.runtime.open_journal().expect("a journal");
    end_as_abandoned(&journal, &journal.resolve_run_id("last").expect("the run")).expect("it ends")
}

/// Two changes, the second undone by what is deferred behind it.
const CHANGES: &str = r#"
defer(|| note("undo one"));
backup::create(db, #{ label: "one" });
db::execute(db, "update orders set id = id");
defer(|| note("undo two"));
branch::list(db)
"#;

#[test]
fn clean_up_that_is_not_recorded_yet_is_named_beside_what_is() {
    let left =
        leave_killed_at(CHANGES, |event| event.contains("call.finished") && event.contains("db::execute"));
    assert_eq!(
        left,
        [
            "what `defer(||note(\"undo one\"))` would have undone (/defer#0)",
            "what `defer(||note(\"undo two\"))` would have undone, if the run came to it",
        ]
    );
}

#[test]
fn clean_up_is_named_once_where_all_of_it_is_recorded() {
    let left =
        leave_killed_at(CHANGES, |event| event.contains("call.started") && event.contains("branch::list"));
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(left.iter().all(|left| left.ends_with("#0)") || left.ends_with("#1)")), "{left:?}");
}

#[test]
fn clean_up_behind_which_nothing_was_begun_is_not_named() {
    // It waits at a gate, and has begun nothing since it deferred something.
    let script = r#"
        backup::create(db, #{ label: "one" });
        defer(|| note("undo one"));
        approve("go on?");
        db::execute(db, "update orders set id = id");
        defer(|| note("undo two"));
    "#;
    let left = leave_killed_at(script, |_| false);
    assert_eq!(left, ["what `defer(||note(\"undo one\"))` would have undone (/defer#0)"]);
}
