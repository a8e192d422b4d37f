//! Edits of `parallel` and `each`: what waits for a thread is neither missing nor done elsewhere.

use super::{
    approvals::ScriptedPerson,
    edits::{
        Edit,
        Verdict::{GoesOn, Stops},
        assert_mismatch, play_edits, record_run_before_list, resume_with_text,
    },
    *,
};
use crate::journal::{Durability, Outcome};
use serde_json::json;

/// Items that do the same, one after the other.
const SAME: &str = r#"
each([1, 2], #{ limit: 1 }, |i| { backup::create(db, #{ label: "same" }); });
branch::list(db)
"#;

/// Items of which one does something.
const ONE: &str = r#"
each([1, 2], #{ limit: 1 }, |i| { if i == 2 { backup::create(db, #{ label: "one" }); } });
branch::list(db)
"#;

const SAME_EDITS: &[Edit] = &[(
    "the same once more for every item",
    "\"same\" });",
    "\"same\" }); backup::create(db, #{ label: \"same\" });",
    GoesOn(2),
)];

const ONE_EDITS: &[Edit] =
    &[("to another item", "i == 2", "i == 1", Stops("was done before as /each#0/1/backup::create#0"))];

#[test]
fn what_an_item_does_for_itself_was_not_done_by_one_that_has_not_begun() {
    play_edits(SAME, SAME_EDITS);
    play_edits(ONE, ONE_EDITS);
}

/// Items, one after the other.
const ITEMS: &str = r#"
each(["a", "b", "c"], #{ limit: 1 }, |x| { backup::create(db, #{ label: x }); });
"#;

/// Records a run that is killed while the call of its second item is under way.
fn record_items_to_second() -> ScriptEnv {
    let env = ScriptEnv::new();
    let second = |event: &str| event.contains("call.started") && event.contains("/each#0/1/backup::create#0");
    let dying = Arc::new(Listener { die_before: Some(second), ..Listener::default() });
    drop(env.try_run_script(ITEMS, dying));
    assert_eq!(env.list_effects().len(), 1, "the first item is over");
    env
}

#[test]
fn an_item_that_is_over_is_replayed_before_one_that_is_under_way_takes_effect() {
    let env = record_items_to_second();
    let edited = ITEMS.replace("{ backup", "if x != \"a\" { backup");
    let refused = resume_with_text(&env, &edited, &[]);
    assert_mismatch("removed", &refused, "/each#0/0/backup::create#0");
    assert_eq!(env.list_effects().len(), 1, "nothing has taken effect");
    let ended = resume_with_text(&env, ITEMS, &[]);
    assert_eq!((ended.status, env.list_effects().len()), (RunStatus::Succeeded, 3), "{ended:?}");
}

#[test]
fn items_that_are_replayed_at_once_go_on_one_after_the_other() {
    let env = record_items_to_second();
    // A step begins before what is new in it waits; here something new comes before the step.
    let edited = ITEMS.replace(
        "x }); }",
        "x }); db::execute(db, \"update orders set id = id\"); step(\"more\", || sleep(\"5ms\")); }",
    );
    let listener = Arc::new(Listener::default());
    let ended = env.try_resume_as(&edited, Arc::clone(&listener)).expect("it is driven");
    assert_eq!((ended.status, env.list_effects().len()), (RunStatus::Succeeded, 6), "{ended:?}");
    assert_eq!(listener.count_steps_at_once(), 1);
}

/// An item that waits at a gate, beside one that is over.
const GATED: &str = r#"
each(["a", "b"], |x| {
    backup::create(db, #{ label: x });
    if x == "b" { approve("go on?"); backup::create(db, #{ label: "behind" }); }
});
"#;

#[test]
fn a_gate_that_stands_open_in_an_item_that_has_not_begun_is_asked_about() {
    let env = ScriptEnv::new();
    // Of the two branches either may be the quicker one: the first of them is over at the second resume.
    assert_eq!(env.run_script(GATED).status, RunStatus::Waiting);
    assert_eq!(env.resume_run(Arc::default()).expect("it is driven").status, RunStatus::Waiting);
    assert_eq!(env.list_effects().len(), 2);
    let edited = GATED
        .replace("each([\"a\", \"b\"], |x|", "each([\"a\", \"b\"], #{ limit: 1 }, |x|")
        .replace("\n});", "\n    step(\"new\", || backup::create(db, #{ label: `new ${x}` }));\n});");
    let waiting = resume_with_text(&env, &edited, &[]);
    assert_eq!(waiting.status, RunStatus::Waiting, "{waiting:?}");
    assert_eq!(env.list_effects().len(), 2, "nothing new has happened");
    let ended = resume_with_text(&env, &edited, &[Choice::Approve]);
    assert_eq!((ended.status, env.list_effects().len()), (RunStatus::Succeeded, 5), "{ended:?}");
}

#[test]
fn items_that_were_under_way_at_once_are_taken_up_at_once_whatever_the_limit_is_now() {
    const BOTH: &str = r#"
        each(["a", "b"], |x| { approve(`${x}?`); backup::create(db, #{ label: x }); });
    "#;
    let env = ScriptEnv::new();
    // The first question stops the run, perhaps before the second is asked.
    for _ in 0..50 {
        let stopped = env.run_script(BOTH);
        assert_eq!(stopped.status, RunStatus::Waiting, "{stopped:?}");
        let journal = env.runtime.open_journal().expect("a journal");
        let run = journal.acquire_run(&journal.resolve_run_id("last").expect("the run")).expect("it is free");
        if run.open_calls().len() == 2 {
            break;
        }
    }
    let edited =
        BOTH.replace("|x| {", "#{ limit: 1 }, |x| {").replace("label: x });", "label: x }); note(x);");
    let ended = resume_with_text(&env, &edited, &[Choice::Approve; 2]);
    assert_eq!((ended.status, env.list_effects().len()), (RunStatus::Succeeded, 2), "{ended:?}");
}

#[test]
fn a_branch_that_failed_says_nothing_of_a_sleep_in_another() {
    let script = r#"
        parallel([|| { sleep("1h"); backup::create(db, #{ label: "late" }) }, || { fail("no") }])
    "#;
    let env = ScriptEnv::new();
    let sleeps = |event: &str| event.contains("\"sleeping\"");
    let dying = || Arc::new(Listener { die_before: Some(sleeps), ..Listener::default() });
    drop(env.try_run_script(script, dying()));
    // That the other branch has failed is on disk, whichever was the quicker one.
    let journal = env.runtime.open_journal().expect("a journal");
    let run = journal.acquire_run(&journal.resolve_run_id("last").expect("the run")).expect("it is free");
    let call = "/parallel#0/failed#0".to_owned();
    if !run.is_recorded(&call) {
        run.record_resume(VERSION, None).expect("written");
        let (op, args, at) = ("failed".to_owned(), Value::Null, "test".to_owned());
        let outcome = Outcome::Ok(json!([0, 1]));
        run.append_record(Record::End { call, op, args, at, outcome }, Durability::Synced).expect("written");
    }
    drop((run, journal));
    for _ in 0..2 {
        let slept = env.resume_run(dying());
        assert!(slept.is_err(), "it sleeps on: {slept:?}");
        assert_eq!(env.list_effects().len(), 0);
    }
}

const GATED_EDITS: &[Edit] = &[(
    "an effect moved before a gate in another item",
    "if x == \"b\" { approve(\"go on?\");",
    "if x == \"a\" {",
    Stops("/each#0/1/approve#0"),
)];

#[test]
fn a_gate_gone_from_an_item_is_missed_before_another_item_does_anything_new() {
    play_edits(GATED, GATED_EDITS);
}

/// Items of which the second fails, and keeps those after it from beginning.
const FAILING: &str = r#"
let done = each(["a", "b", "c"], #{ limit: 1 }, |i| {
    if i == "b" { db::execute(db, "drop table nosuch"); }
    backup::create(db, #{ label: i })
});
`${done.len()} of 3`
"#;

#[test]
fn items_that_a_failure_kept_from_beginning_are_done_once_errors_are_collected() {
    let env = ScriptEnv::new();
    let held = env.run_with_person(FAILING, &ScriptedPerson::with_answers(&[Choice::Hold]));
    assert_eq!((held.status, env.list_effects().len()), (RunStatus::Waiting, 1), "{held:?}");
    let edited = FAILING.replace("limit: 1", "limit: 1, on_error: \"collect\"");
    // Killed behind it, too: the replay comes to the same.
    let last = edited.replace("`$", "branch::list(db);\n`$");
    let listed = |event: &str| event.contains("call.started") && event.contains("branch::list");
    drop(env.try_resume_as(&last, Arc::new(Listener { die_before: Some(listed), ..Listener::default() })));
    assert_eq!(env.list_effects().len(), 2, "the last item is done");
    let ended = env.resume_run(Arc::default()).expect("it is driven");
    assert_eq!((ended.status, ended.value), (RunStatus::Succeeded, json!("3 of 3")));
    assert_eq!(env.list_effects().len(), 2);
}

#[test]
fn an_edit_back_to_the_first_failure_forgets_no_item_that_was_done_meanwhile() {
    let env = ScriptEnv::new();
    env.run_with_person(FAILING, &ScriptedPerson::with_answers(&[Choice::Hold]));
    let listing = FAILING.replace("`$", "branch::list(db);\n`$");
    let collecting = listing.replace("limit: 1", "limit: 1, on_error: \"collect\"");
    let listed = |event: &str| event.contains("call.started") && event.contains("branch::list");
    let dying = Arc::new(Listener { die_before: Some(listed), ..Listener::default() });
    drop(env.try_resume_as(&collecting, dying));
    assert_mismatch("back", &resume_with_text(&env, &listing, &[]), "/each#0/2/backup::create#0");
}

#[test]
fn items_that_an_edit_lets_begin_wait_for_a_gate_that_stands_open_behind_them() {
    let gated = format!("let tried = attempt(|| {{ {FAILING} }}); approve(\"go on?\"); tried.value");
    let env = ScriptEnv::new();
    assert_eq!(env.run_script(&gated).status, RunStatus::Waiting);
    assert_eq!(env.list_effects().len(), 1);
    let edited = gated.replace("limit: 1", "limit: 1, on_error: \"collect\"");
    let refused = resume_with_text(&env, &edited, &[]);
    assert_mismatch("new", &refused, "what is under way must be asked for before anything new happens");
    assert_eq!(env.list_effects().len(), 1, "nothing new has happened");
}

/// The gate of an edition stands at the top of the run, whichever branch comes to it.
#[test]
fn a_sleep_goes_on_beside_a_branch_that_waited_for_the_edit_to_be_approved() {
    const PASSED: &str = "approve(\"go on?\"); branch::list(db)";
    let env = record_run_before_list(PASSED, true);
    let edited = PASSED.replace(
        "branch::list",
        "parallel([|| sleep(\"3s\"), || { sleep(\"50ms\"); backup::create(db, #{ label: \"new\" }) }]); branch::list",
    );
    let waiting = resume_with_text(&env, &edited, &[]);
    assert_eq!(waiting.status, RunStatus::Waiting, "{waiting:?}");
    let approving = Arc::new(Listener { approves: true, ..Listener::default() });
    let ended = env.resume_run(Arc::clone(&approving)).expect("it is driven");
    assert_eq!(ended.status, RunStatus::Succeeded, "{ended:?}");
    // Panics where it was not slept on.
    approving.event_index("\"sleeping\"");
}
