//! Texts that are edited to handle the error of a call which is held.

use super::{approvals::ScriptedPerson, edits::resume_with_text, *};
use crate::{
    journal::Decision,
    runtime::{DecidableCall, DecisionRefusal, NeverMadeAgain, OpenApproval},
};

const FAILING: &str = r#"
let made = backup::create(db, #{ label: "one" });
backup::restore(db, made.id, #{ into: "look", temporary: true });
defer(|| backup::create(db, #{ label: "clean-up" }));
db::execute(db, "drop table nosuch");
branch::list(db)
"#;

/// Returns a run that is held at its failing statement, and its text with that handled and `more` behind it.
fn hold_and_edit(more: &str) -> (ScriptEnv, String) {
    let env = ScriptEnv::new();
    let held = env.run_with_person(FAILING, &ScriptedPerson::with_answers(&[Choice::Hold]));
    assert!(
        matches!(&held.stop, Some(StopReason::Waiting { call, .. }) if call == "/db::execute#0"),
        "{held:?}"
    );
    let failing = "db::execute(db, \"drop table nosuch\");";
    let handled = format!("attempt(|| db::execute(db, \"drop table nosuch\"));\n{more}");
    (env, FAILING.replace(failing, &handled))
}

/// Kills the process of an edited run before it lists the branches.
fn die_before_list(env: &ScriptEnv, edited: &str) {
    let before = |event: &str| event.contains("call.started") && event.contains("branch::list");
    drop(env.try_resume_as(edited, Arc::new(Listener { die_before: Some(before), ..Listener::default() })));
}

#[test]
fn a_run_that_went_past_a_held_call_goes_on_or_cleans_up() {
    for more in [
        "backup::create(db, #{ label: \"new\" });",
        "parallel([|| backup::create(db, #{ label: \"new\" }), || 1]);",
        "sleep(\"1ms\"); backup::create(db, #{ label: \"new\" });",
    ] {
        let (env, edited) = hold_and_edit(more);
        die_before_list(&env, &edited);
        let ended = env.resume_run(Arc::default()).expect("it is driven");
        assert_eq!((ended.status, ended.left_behind.len()), (RunStatus::Succeeded, 0), "{more}: {ended:?}");

        let (env, edited) = hold_and_edit(more);
        die_before_list(&env, &edited);
        let ended = env.abandon_run();
        assert_eq!((ended.status, ended.left_behind.len()), (RunStatus::Abandoned, 0), "{more}: {ended:?}");
        let labels = env.list_effects();
        assert!(labels.iter().any(|effect| effect.contains("clean-up")) || labels.len() > 3, "{labels:?}");
    }
}

#[test]
fn a_gate_behind_a_held_call_is_gone_by() {
    for (approves, status) in [(true, RunStatus::Succeeded), (false, RunStatus::Failed)] {
        let (env, edited) = hold_and_edit("approve(\"go?\");");
        let waiting = resume_with_text(&env, &edited, &[]);
        assert!(
            matches!(&waiting.stop, Some(StopReason::Waiting { call, .. }) if call == "/approve#0"),
            "{waiting:?}"
        );
        let journal = env.runtime.open_journal().expect("a journal");
        let run = journal.acquire_run(&journal.resolve_run_id("last").expect("the run")).expect("it is free");
        let open = OpenApproval::list_open_approvals(&run.copy_fold()).expect("it reads");
        open[0].record_decision(&run, approves, "bob").expect("written");
        drop((run, journal));
        let ended = env.resume_run(Arc::default()).expect("it is driven");
        assert_eq!(ended.status, status, "{approves}: {ended:?}");
    }
}

/// Nothing has happened behind it: what is decided about it still counts.
#[test]
fn a_held_call_that_an_edit_handles_is_open_until_something_happens_behind_it() {
    let (env, edited) = hold_and_edit("approve(\"go?\");");
    let waiting = resume_with_text(&env, &edited, &[]);
    assert_eq!(waiting.status, RunStatus::Waiting, "{waiting:?}");
    let journal = env.runtime.open_journal().expect("a journal");
    let run = journal.acquire_run(&journal.resolve_run_id("last").expect("the run")).expect("it is free");
    let is_open = run.open_calls().contains(&"/db::execute#0".to_owned());
    assert!(is_open, "{:?}", run.open_calls());
}

/// Decides about the held call, as a person who looked.
fn decide_held_call(env: &ScriptEnv, decide: impl FnOnce(&DecidableCall) -> Decision) {
    let journal = env.runtime.open_journal().expect("a journal");
    let id = journal.resolve_run_id("last").expect("the run");
    let call = DecidableCall::acquire(&journal, &id, "execute", false).expect("it is open");
    let decision = decide(&call);
    call.record_decision(&journal, &decision, "ann".into()).expect("written");
}

/// It makes nothing, and is the very error that the text handles.
#[test]
fn a_held_call_that_is_decided_to_have_failed_is_gone_past_as_before() {
    for behind in ["approve(\"go?\");", "defer(|| note(\"x\")); approve(\"go?\");"] {
        let (env, edited) = hold_and_edit(behind);
        assert_eq!(resume_with_text(&env, &edited, &[]).status, RunStatus::Waiting);
        decide_held_call(&env, |call| Decision::Fail { error: call.known_error.clone() });
        let waiting = env.resume_run(Arc::default()).expect("it is driven");
        assert_eq!(waiting.status, RunStatus::Waiting, "{behind}: {waiting:?}");
        let person = Arc::new(Listener { approves: true, ..Listener::default() });
        let ended = env.resume_run(person).expect("it is driven");
        assert_eq!((ended.status, ended.left_behind.len()), (RunStatus::Succeeded, 0), "{behind}: {ended:?}");
    }
}

#[test]
fn a_run_that_is_given_up_cleans_up_what_was_deferred_behind_a_held_call() {
    let (env, edited) =
        hold_and_edit("defer(|| backup::create(db, #{ label: \"behind\" })); approve(\"go?\");");
    assert_eq!(resume_with_text(&env, &edited, &[]).status, RunStatus::Waiting);
    let journal = env.runtime.open_journal().expect("a journal");
    let run = journal.acquire_run(&journal.resolve_run_id("last").expect("the run")).expect("it is free");
    let open = OpenApproval::list_open_approvals(&run.copy_fold()).expect("it reads");
    open[0].record_decision(&run, true, "bob").expect("written");
    drop((run, journal));
    let ended = env.abandon_run();
    assert_eq!((ended.status, ended.left_behind.len()), (RunStatus::Abandoned, 0), "{ended:?}");
}

#[test]
fn what_a_run_has_gone_past_or_given_up_is_not_made_again() {
    let (env, edited) = hold_and_edit("approve(\"go?\");");
    decide_held_call(&env, |call| {
        call.check_is_made_again().expect("the run stopped there");
        Decision::Hold { error: call.known_error.clone().expect("it failed") }
    });
    assert_eq!(resume_with_text(&env, &edited, &[]).status, RunStatus::Waiting);
    decide_held_call(&env, |call| {
        let refused = call.check_is_made_again();
        let is_past = |refusal: &DecisionRefusal| {
            matches!(refusal, DecisionRefusal::NeverMadeAgain { why: NeverMadeAgain::GonePast, .. })
        };
        assert!(refused.as_ref().is_err_and(is_past), "{refused:?}");
        Decision::Hold { error: call.known_error.clone().expect("it failed") }
    });
    let ended = resume_with_text(&env, &edited, &[Choice::Approve]);
    assert_eq!(ended.status, RunStatus::Succeeded, "{ended:?}");
}
