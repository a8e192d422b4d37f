//! Texts that are edited behind a gate that was withdrawn: nobody was asked about the gate beside the one that was rejected.

use super::{
    edits::{record_run_before_list, resume_with_text},
    *,
};
use crate::runtime::OpenApproval;

const BOTH: &str = r#"
attempt(|| parallel([|| approve("left?"), || approve("right?")]));
branch::list(db)
"#;

/// The same, with something to clean up behind it, and a gate.
const BOTH_AND_MORE: &str = r#"
attempt(|| parallel([|| approve("left?"), || approve("right?")]));
branch::list(db);
let made = backup::create(db, #{ label: "after" });
backup::restore(db, made.id, #{ into: "look", temporary: true });
defer(|| backup::create(db, #{ label: "clean-up" }));
approve("more?");
"#;

/// Records a run that is killed behind both gates, of which the left one was rejected.
fn record_run_past_withdrawn_gate(script: &str) -> ScriptEnv {
    let env = record_run_before_list(script, false);
    let journal = env.runtime.open_journal().expect("a journal");
    let run = journal.acquire_run(&journal.resolve_run_id("last").expect("the run")).expect("it is free");
    let open = OpenApproval::list_open_approvals(&run.copy_fold()).expect("it reads");
    let left = open.iter().find(|gate| gate.name.contains("#0/0/")).expect("it was asked for");
    left.record_decision(&run, false, "bob").expect("written");
    drop((run, journal));
    let before = |event: &str| event.contains("call.started") && event.contains("branch::list");
    drop(env.resume_run(Arc::new(Listener { die_before: Some(before), ..Listener::default() })));
    env
}

fn assert_waits_at(gate: &str, ended: &RunResult) {
    let is_there = matches!(&ended.stop, Some(StopReason::Waiting { call, .. }) if call.ends_with(gate));
    assert!(is_there, "{gate}: {ended:?}");
}

#[test]
fn an_edited_text_that_handles_the_rejection_asks_about_the_gate() {
    let env = record_run_past_withdrawn_gate(BOTH);
    let edited = BOTH
        .replace("|| approve(\"left?\")", "|| attempt(|| approve(\"left?\"))")
        .replace("approve(\"right?\")", "{ approve(\"right?\"); backup::create(db, #{ label: \"new\" }) }");
    let waiting = resume_with_text(&env, &edited, &[]);
    assert_waits_at("/1/approve#0", &waiting);
    let ended = resume_with_text(&env, &edited, &[Choice::Approve]);
    assert_eq!((ended.status, env.list_effects().len()), (RunStatus::Succeeded, 1), "{ended:?}");
}

#[test]
fn an_edit_that_changes_nothing_there_goes_on_past_the_gate() {
    let env = record_run_past_withdrawn_gate(BOTH_AND_MORE);
    let waiting = env.resume_run(Arc::default()).expect("it is driven");
    assert_waits_at("/approve#0", &waiting);
    for note in ["note(\"one\");", "note(\"two\");"] {
        let waiting = resume_with_text(&env, &format!("{BOTH_AND_MORE}{note}"), &[]);
        assert_waits_at("/approve#0", &waiting);
    }
    let ended = resume_with_text(&env, &format!("{BOTH_AND_MORE}note(\"three\");"), &[Choice::Approve]);
    assert_eq!((ended.status, ended.left_behind.len()), (RunStatus::Succeeded, 0), "{ended:?}");
}

/// What is put before the rejected gate is refused, whichever branch comes to its gate first.
#[test]
fn what_is_put_before_the_rejected_gate_stops_the_edit_and_the_run_cleans_up() {
    let env = record_run_past_withdrawn_gate(BOTH_AND_MORE);
    assert_waits_at("/approve#0", &env.resume_run(Arc::default()).expect("it is driven"));
    let put = "|| { backup::create(db, #{ label: \"new\" }); approve(\"left?\") }";
    let refused = resume_with_text(&env, &BOTH_AND_MORE.replace("|| approve(\"left?\")", put), &[]);
    assert!(matches!(&refused.stop, Some(StopReason::Mismatch { .. })), "{refused:?}");
    let ended = env.abandon_run();
    assert_eq!((ended.status, ended.left_behind.len()), (RunStatus::Abandoned, 0), "{ended:?}");
    let effects = env.list_effects();
    assert!(effects.iter().any(|effect| effect.contains("clean-up")) || effects.len() > 3, "{effects:?}");
}

/// A text that asked about the gate anew, and is dropped, leaves it as it was.
#[test]
fn a_dropped_text_that_asked_about_the_gate_leaves_it_withdrawn() {
    let env = record_run_past_withdrawn_gate(BOTH_AND_MORE);
    assert_waits_at("/approve#0", &env.resume_run(Arc::default()).expect("it is driven"));
    let edited = BOTH_AND_MORE.replace("|| approve(\"left?\")", "|| attempt(|| approve(\"left?\"))");
    let stopped = resume_with_text(&env, &edited, &[]);
    assert!(stopped.stop.is_some(), "{stopped:?}");
    let ended = env.abandon_run();
    assert_eq!((ended.status, ended.left_behind.len()), (RunStatus::Abandoned, 0), "{ended:?}");
}
