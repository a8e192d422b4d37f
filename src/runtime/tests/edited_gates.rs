//! Texts that are edited behind a gate that was passed: what was decided before covers the text that it was decided about.

use super::{
    approvals::ScriptedPerson,
    edits::{assert_edit_rejected, record_run_before_list, resume_with_text},
    *,
};
use crate::runtime::OpenApproval;

/// A run that passed a gate, and is killed before its last call.
const PASSED: &str = r#"
backup::create(db, #{ label: "a" });
approve("go on?");
backup::create(db, #{ label: "b" });
branch::list(db)
"#;

fn put_before_list(script: &str, put: &str) -> String {
    script.replace("branch::list(db)", &format!("{put}\nbranch::list(db)"))
}

fn assert_waits(name: &str, ended: &RunResult, said: &str) {
    let Some(StopReason::Waiting { call, reason }) = &ended.stop else { panic!("{name}: {ended:?}") };
    assert!(call.starts_with("/approve_edit#") && reason.contains(said), "{name}: {call} {reason}");
}

#[test]
fn an_approval_covers_nothing_that_an_edit_puts_behind_its_gate() {
    for put in [
        "backup::create(db, #{ label: \"new\" });",
        "step(\"s\", || backup::create(db, #{ label: \"new\" }));",
        "parallel([|| backup::create(db, #{ label: \"new\" }), || 1]);",
        "defer(|| backup::create(db, #{ label: \"new\" }));",
    ] {
        let env = record_run_before_list(PASSED, true);
        let edited = put_before_list(PASSED, put);
        for _ in 0..2 {
            let waiting = resume_with_text(&env, &edited, &[]);
            assert_waits(put, &waiting, "edited since it came past `go on?`");
            assert_eq!(env.list_effects().len(), 2, "{put}: nothing new has happened");
        }
        let ended = resume_with_text(&env, &edited, &[Choice::Approve]);
        assert_eq!(ended.status, RunStatus::Succeeded, "{put}: {ended:?}");
        assert_eq!(env.list_effects().len(), 3, "{put}");
    }
}

#[test]
fn an_edited_text_that_is_rejected_is_dropped_and_the_recorded_one_goes_on() {
    let env = record_run_before_list(PASSED, true);
    let edited = put_before_list(PASSED, "backup::create(db, #{ label: \"new\" });");
    let rejected = resume_with_text(&env, &edited, &[Choice::Reject]);
    assert_edit_rejected("rejected", &rejected, "ann");
    let ended = env.resume_run(Arc::default()).expect("it is driven");
    assert_eq!(ended.status, RunStatus::Succeeded, "{ended:?}");
    assert_eq!(env.list_effects().len(), 2, "what was rejected has not happened");
}

#[test]
fn every_edited_text_is_approved_for_itself_and_once() {
    let env = record_run_before_list(PASSED, true);
    let put = "backup::create(db, #{ label: \"new\" }); backup::create(db, #{ label: \"newer\" });";
    let before = |event: &str| event.contains("call.started") && event.contains("branch::list");
    let once = put_before_list(PASSED, put);
    let dying = Arc::new(Listener { die_before: Some(before), approves: true, ..Listener::default() });
    drop(env.try_resume_as(&once, dying));
    assert_eq!(env.list_effects().len(), 4, "both were approved with one question");
    let again = put_before_list(&once, "backup::create(db, #{ label: \"last\" });");
    assert_waits("another edit", &resume_with_text(&env, &again, &[]), "go on?");
    let ended = resume_with_text(&env, &again, &[Choice::Approve]);
    assert_eq!((ended.status, env.list_effects().len()), (RunStatus::Succeeded, 5), "{ended:?}");
}

#[test]
fn a_rejection_that_the_script_handled_covers_no_edit_either() {
    const HANDLED: &str = r#"
        let gate = attempt(|| approve("restore?"));
        if !gate.ok { note("rejected"); }
        branch::list(db)
    "#;
    let env = record_run_before_list(HANDLED, false);
    let dying = |event: &str| event.contains("call.started") && event.contains("branch::list");
    let dying = Arc::new(Listener { die_before: Some(dying), ..Listener::default() });
    let journal = env.runtime.open_journal().expect("a journal");
    let run = journal.acquire_run(&journal.resolve_run_id("last").expect("the run")).expect("it is free");
    for approval in OpenApproval::list_open_approvals(&run.copy_fold()).expect("it reads") {
        approval.record_decision(&run, false, "bob").expect("written");
    }
    drop((run, journal));
    drop(env.resume_run(dying));
    let edited = HANDLED.replace("note(\"rejected\")", "backup::create(db, #{ label: \"new\" })");
    assert_waits(
        "handled",
        &resume_with_text(&env, &edited, &[]),
        "edited since somebody rejected `restore?`",
    );
    assert_eq!(env.list_effects().len(), 0);
}

#[test]
fn a_gate_of_the_edited_text_is_asked_about_as_it_stands_and_covers_what_follows() {
    let env = record_run_before_list(PASSED, true);
    let edited = put_before_list(PASSED, "approve(\"really?\"); backup::create(db, #{ label: \"new\" });");
    let waiting = resume_with_text(&env, &edited, &[]);
    let Some(StopReason::Waiting { call, .. }) = &waiting.stop else { panic!("{waiting:?}") };
    assert_eq!(call, "/approve#1");
    let ended = resume_with_text(&env, &edited, &[Choice::Approve]);
    assert_eq!((ended.status, env.list_effects().len()), (RunStatus::Succeeded, 3), "{ended:?}");
}

/// What comes beside a gate that was passed, in the branch after it, or after both of them.
const BESIDE: &str = r#"
parallel([
    || { backup::create(db, #{ label: "left" }); "left" },
    || { approve("right?"); backup::create(db, #{ label: "right" }); "right" },
]);
branch::list(db)
"#;

#[test]
fn nothing_new_of_an_edited_text_happens_in_any_branch_before_its_gate_is_given() {
    let new = |label: &str| format!("backup::create(db, #{{ label: \"new {label}\" }}); ");
    let in_left = |script: &str| script.replace("; \"left\"", &format!("; {}\"left\"", new("left")));
    let in_right = |script: &str| script.replace("; \"right\"", &format!("; {}\"right\"", new("right")));
    let behind = |script: &str| put_before_list(script, &new("behind"));
    let in_each = |script: &str| {
        script.replace("parallel([", "each([").replace("]);", "], #{ limit: 1 }, |f| f.call());")
    };
    for (name, script, edited, count) in [
        ("in both branches", BESIDE.to_owned(), in_right(&in_left(BESIDE)), 2),
        ("beside the gate", BESIDE.to_owned(), in_left(BESIDE), 1),
        ("beside the gate, and after both", BESIDE.to_owned(), behind(&in_left(BESIDE)), 2),
        ("before a branch that waits", in_each(BESIDE), in_right(&in_left(&in_each(BESIDE))), 2),
    ] {
        let env = record_run_before_list(&script, true);
        assert_eq!(env.list_effects().len(), 2, "{name}");
        assert_waits(name, &resume_with_text(&env, &edited, &[]), "right?");
        let rejected = resume_with_text(&env, &edited, &[Choice::Reject]);
        assert_edit_rejected(name, &rejected, "ann");
        assert_eq!(env.list_effects().len(), 2, "{name}: nothing new has happened");
        let ended = resume_with_text(&env, &edited, &[Choice::Approve]);
        assert_eq!(
            (ended.status, env.list_effects().len()),
            (RunStatus::Succeeded, 2 + count),
            "{name}: {ended:?}"
        );
        // Where it was rejected, the recorded text goes on.
        let env = record_run_before_list(&script, true);
        resume_with_text(&env, &edited, &[Choice::Reject]);
        let ended = env.resume_run(Arc::default()).expect("it is driven");
        assert_eq!((ended.status, env.list_effects().len()), (RunStatus::Succeeded, 2), "{name}: {ended:?}");
    }
}

/// What was begun before an edit, and is taken up under it, is no effect of the edit.
#[test]
fn an_edit_that_is_rejected_after_an_open_call_was_taken_up_is_dropped() {
    let script = PASSED.replace("branch::list(db)", "");
    let env = ScriptEnv::new();
    let second = |event: &str| event.contains("call.started") && event.contains("/backup::create#1");
    let dying = Arc::new(Listener { die_before: Some(second), approves: true, ..Listener::default() });
    drop(env.try_run_script(&script, dying));
    assert_eq!(env.list_effects().len(), 1, "the second is begun, and not made");
    let edited = format!("{script} backup::create(db, #{{ label: \"new\" }})");
    let rejected = resume_with_text(&env, &edited, &[Choice::Reject]);
    assert_edit_rejected("rejected", &rejected, "ann");
    let ended = env.resume_run(Arc::default()).expect("it is driven");
    assert_eq!((ended.status, env.list_effects().len()), (RunStatus::Succeeded, 2), "{ended:?}");
}

#[test]
fn a_read_that_was_made_while_a_gate_stood_open_says_nothing_about_the_time_behind_it() {
    const GATED: &str = r#"
        backup::create(db, #{ label: "a" });
        approve("go on?");
        branch::list(db)
    "#;
    let before = "let at = now();\n approve(\"go on?\");";
    let behind = "approve(\"go on?\"); let at = now();";
    let env = ScriptEnv::new();
    assert_eq!(env.run_script(GATED).status, RunStatus::Waiting);
    // The time is read while the gate stands open, and then the gate is given.
    let edited = GATED.replace("approve(\"go on?\");", before);
    let listed = |event: &str| event.contains("call.started") && event.contains("branch::list");
    let dying = Arc::new(Listener { die_before: Some(listed), approves: true, ..Listener::default() });
    drop(env.try_resume_as(&edited, dying));
    let count_times = || {
        let journal = env.runtime.open_journal().expect("a journal");
        let id = journal.resolve_run_id("last").expect("the run");
        let entries = journal.read_records(&id).expect("its records");
        let is_time = |record: &Record| matches!(record, Record::End { op, .. } if op == "now");
        entries.iter().filter(|entry| is_time(&entry.record)).count()
    };
    assert_eq!(count_times(), 1);
    let moved = GATED.replace("approve(\"go on?\");", behind);
    let ended = resume_with_text(&env, &moved, &[]);
    assert_eq!((ended.status, count_times()), (RunStatus::Succeeded, 2), "{ended:?}");
}

#[test]
fn an_approval_given_before_an_edit_is_void_and_asked_for_again() {
    const WAITING: &str = "approve(\"go on?\"); backup::create(db, #{ label: \"a\" })";
    let env = ScriptEnv::new();
    assert_eq!(env.run_script(WAITING).status, RunStatus::Waiting);
    let decide = || {
        let journal = env.runtime.open_journal().expect("a journal");
        let run = journal.acquire_run(&journal.resolve_run_id("last").expect("the run")).expect("it is free");
        let open = OpenApproval::list_open_approvals(&run.copy_fold()).expect("it reads");
        assert_eq!(open.len(), 1);
        open[0].record_decision(&run, true, "bob").expect("written");
    };
    decide();
    let edited = WAITING.replace("\"a\"", "\"b\"");
    let waiting = resume_with_text(&env, &edited, &[]);
    let Some(StopReason::Waiting { reason, .. }) = &waiting.stop else { panic!("{waiting:?}") };
    assert!(reason.contains("what was decided before is void"), "{reason}");
    assert_eq!(env.list_effects().len(), 0);
    decide();
    let ended = env.resume_run(Arc::default()).expect("it is driven");
    assert_eq!((ended.status, env.list_effects().len()), (RunStatus::Succeeded, 1), "{ended:?}");
}

/// A run that has read something, and is killed before its last call.
const READ: &str = r#"
backup::create(db, #{ label: "a" });
let count = backup::list(db).filter(|one| one.label == "new").len();
branch::list(db);
count
"#;

#[test]
fn a_read_that_an_edit_puts_behind_something_new_is_made_again() {
    let edit = |put: &str| READ.replace("let count", &format!("{put}\nlet count"));
    for (put, count) in [
        ("backup::create(db, #{ label: \"new\" });", 1),
        ("step(\"s\", || backup::create(db, #{ label: \"new\" }));", 1),
        ("parallel([|| 1, || backup::create(db, #{ label: \"new\" })]);", 1),
        ("note(\"nothing new\");", 0),
    ] {
        let env = record_run_before_list(READ, false);
        let edited = edit(put);
        // Killed behind it, too: the replay of the replay comes to the same.
        let before = |event: &str| event.contains("call.started") && event.contains("branch::list");
        let dying = Arc::new(Listener { die_before: Some(before), ..Listener::default() });
        drop(env.try_resume_as(&edited, dying));
        let before_end = env.list_effects().len();
        let ended = env.resume_run(Arc::default()).expect("it is driven");
        assert_eq!(ended.value, serde_json::json!(count), "{put}: {ended:?}");
        assert_eq!(env.list_effects().len(), before_end, "{put}");
    }
}

#[test]
fn the_time_that_an_edit_puts_behind_a_pause_or_a_gate_is_read_again() {
    const TIMED: &str = "backup::create(db, #{ label: \"a\" });\nlet at = now();\nbranch::list(db);\nat";
    for (put, is_read_again) in
        [("sleep(\"1ms\");", true), ("approve(\"go on?\");", true), ("note(\"n\");", false)]
    {
        let env = record_run_before_list(TIMED, false);
        let edited = TIMED.replace("let at", &format!("{put}\nlet at"));
        let ended = resume_with_text(&env, &edited, &[Choice::Approve]);
        assert_eq!(ended.status, RunStatus::Succeeded, "{put}: {ended:?}");
        let journal = env.runtime.open_journal().expect("a journal");
        let id = journal.resolve_run_id("last").expect("the run");
        let entries = journal.read_records(&id).expect("its records");
        let is_time = |record: &Record| matches!(record, Record::End { op, .. } if op == "now");
        let times = entries.iter().filter(|entry| is_time(&entry.record)).count();
        assert_eq!(times > 1, is_read_again, "{put}");
    }
}

#[test]
fn a_gate_of_the_edited_text_that_was_rejected_covers_nothing() {
    let env = record_run_before_list(PASSED, true);
    let put = "let mail = attempt(|| approve(\"mail?\")); backup::create(db, #{ label: \"new\" });";
    let edited = put_before_list(PASSED, put);
    let waiting = resume_with_text(&env, &edited, &[Choice::Reject]);
    assert_waits("rejected", &waiting, "go on?");
    assert_eq!(env.list_effects().len(), 2, "nothing new has happened");
}

#[test]
fn a_run_that_is_given_up_does_no_clean_up_of_an_edit_that_nobody_approved() {
    let env = record_run_before_list(PASSED, true);
    let edited = put_before_list(PASSED, "defer(|| backup::create(db, #{ label: \"new\" }));");
    assert_waits("clean-up", &resume_with_text(&env, &edited, &[]), "go on?");
    let ended = env.abandon_run();
    assert_eq!((ended.status, env.list_effects().len()), (RunStatus::Abandoned, 2), "{ended:?}");
}

#[test]
fn a_note_that_an_edit_puts_before_a_pause_ends_it_no_sooner() {
    const PAUSED: &str =
        "backup::create(db, #{ label: \"a\" });\nsleep(\"1h\");\nbackup::create(db, #{ label: \"b\" })";
    let env = ScriptEnv::new();
    let dying = |event: &str| event.contains("sleeping");
    let dying = || Arc::new(Listener { die_before: Some(dying), ..Listener::default() });
    drop(env.try_run_script(PAUSED, dying()));
    assert_eq!(env.list_effects().len(), 1, "it sleeps");
    let edited = PAUSED.replace("sleep(", "note(\"hello\");\nsleep(");
    for _ in 0..2 {
        drop(env.try_resume_as(&edited, dying()));
        assert_eq!(env.list_effects().len(), 1, "it sleeps on");
    }
}

/// A gate that is asked about under the edited text and rejected there is no gate of before the edit.
#[test]
fn a_gate_that_is_rejected_under_the_edited_text_changes_nothing_that_was_asked() {
    let env = record_run_before_list(PASSED, true);
    let edited = put_before_list(
        PASSED,
        "backup::create(db, #{ label: \"new\" }); if !attempt(|| approve(\"more?\")).ok { backup::create(db, #{ label: \"late\" }) }",
    );
    let waiting = resume_with_text(&env, &edited, &[Choice::Approve]);
    assert!(
        matches!(&waiting.stop, Some(StopReason::Waiting { call, .. }) if call == "/approve#1"),
        "{waiting:?}"
    );
    let ended = resume_with_text(&env, &edited, &[Choice::Reject]);
    assert_eq!((ended.status, env.list_effects().len()), (RunStatus::Succeeded, 4), "{ended:?}");

    let ungated = "backup::create(db, #{ label: \"a\" }); branch::list(db)";
    let env = record_run_before_list(ungated, true);
    let gate = "if !attempt(|| approve(\"mail?\")).ok { backup::create(db, #{ label: \"new\" }) }";
    let ended = resume_with_text(&env, &put_before_list(ungated, gate), &[Choice::Reject]);
    assert_eq!((ended.status, env.list_effects().len()), (RunStatus::Succeeded, 2), "{ended:?}");
}

#[test]
fn an_edited_text_that_is_rejected_behind_a_gate_of_its_own_stays_and_goes_no_further() {
    let env = record_run_before_list(PASSED, true);
    let put = "each([0, 1], #{ limit: 1 }, |i| if i == 0 { approve(\"new?\") } else { backup::create(db, #{ label: \"new\" }) });";
    let edited = put_before_list(PASSED, put);
    let rejected = resume_with_text(&env, &edited, &[Choice::Approve, Choice::Reject]);
    for ended in [rejected, env.resume_run(Arc::default()).expect("it is driven")] {
        let stop = &ended.stop;
        assert!(matches!(stop, Some(StopReason::EditRejected { is_dropped: false, .. })), "{ended:?}");
        assert_eq!(env.list_effects().len(), 2, "nothing new has happened");
    }
    assert_eq!(env.abandon_run().status, RunStatus::Abandoned);
}

/// A run with clean-up that destroys, which passed a gate and is killed before its last call.
const UNDOING: &str = r#"
defer(|| note("over"));
on_failure(|| db::execute(db, "drop table order_items"));
approve("go on?");
branch::list(db)
"#;

#[test]
fn an_end_to_which_an_edit_leads_cleans_up_nothing_before_somebody_has_approved_the_edit() {
    let fails = put_before_list(UNDOING, "fail(\"x\");");
    let env = record_run_before_list(UNDOING, true);
    for _ in 0..2 {
        assert_waits("failed", &resume_with_text(&env, &fails, &[]), "edited since it came past `go on?`");
        assert_eq!(env.list_effects().len(), 0, "nothing is dropped");
    }
    let rejected = resume_with_text(&env, &fails, &[Choice::Reject]);
    assert_edit_rejected("rejected", &rejected, "ann");
    let ended = env.resume_run(Arc::default()).expect("it is driven");
    assert_eq!((ended.status, env.list_effects().len()), (RunStatus::Succeeded, 0), "{ended:?}");

    // With the approval it ends as the edited text says.
    let env = record_run_before_list(UNDOING, true);
    let ended = resume_with_text(&env, &fails, &[Choice::Approve]);
    assert_eq!((ended.status, env.list_effects().len()), (RunStatus::Failed, 1), "{ended:?}");
}

#[test]
fn every_end_of_an_edited_text_that_has_something_to_clean_up_is_asked_about() {
    let destroying = "defer(|| db::execute(db, \"drop table order_items\"));";
    let temporary = "branch::create(db, #{ into: \"copy\", temporary: true });";
    for clean_up in [destroying, temporary] {
        let script = PASSED.replacen("backup", &format!("{clean_up}\nbackup"), 1);
        let env = record_run_before_list(&script, true);
        let done = env.list_effects().len();
        // Its last call is taken out, which has made nothing yet.
        let edited = script.replace("branch::list(db)", "");
        assert_waits(clean_up, &resume_with_text(&env, &edited, &[]), "go on?");
        assert_eq!(env.list_effects().len(), done, "{clean_up}: nothing is cleaned up");
        let ended = resume_with_text(&env, &edited, &[Choice::Approve]);
        assert_eq!((ended.status, env.list_effects().len()), (RunStatus::Succeeded, done + 1), "{ended:?}");
    }
}

#[test]
fn an_end_is_asked_about_once_and_only_where_something_is_due_behind_a_gate_of_before() {
    // Nothing is due where the run succeeds, or at all.
    let on_failure = UNDOING.replace("defer(|| note(\"over\"));", "");
    for script in [PASSED, on_failure.as_str()] {
        let env = record_run_before_list(script, true);
        let ended = resume_with_text(&env, &put_before_list(script, "note(\"n\");"), &[]);
        assert_eq!(ended.status, RunStatus::Succeeded, "{script}: {ended:?}");
    }
    // The text was approved before, or a gate of its own was given.
    for put in ["backup::create(db, #{ label: \"new\" });", "approve(\"really?\");"] {
        let env = record_run_before_list(UNDOING, true);
        let ended = resume_with_text(&env, &put_before_list(UNDOING, put), &[Choice::Approve]);
        assert_eq!(ended.status, RunStatus::Succeeded, "{put}: {ended:?}");
    }
    // No gate was passed before.
    let ungated = UNDOING.replace("approve(\"go on?\");", "");
    let env = record_run_before_list(&ungated, true);
    let ended = resume_with_text(&env, &put_before_list(&ungated, "fail(\"x\");"), &[]);
    assert_eq!((ended.status, env.list_effects().len()), (RunStatus::Failed, 1), "{ended:?}");
}

/// A failed call is held, and the edit handles its error, so that it stays one; with the edit dropped it is held again.
#[test]
fn an_edit_that_is_rejected_at_its_end_has_ended_no_call_that_is_held() {
    let script = r#"
        defer(|| note("over"));
        approve("go on?");
        db::execute(db, "drop table nosuch");
    "#;
    let env = ScriptEnv::new();
    let person = ScriptedPerson::with_answers(&[Choice::Approve, Choice::Hold]);
    assert_eq!(env.run_with_person(script, &person).status, RunStatus::Waiting);
    let edited = script.replace(
        "db::execute(db, \"drop table nosuch\");",
        "attempt(|| db::execute(db, \"drop table nosuch\"));",
    );
    let rejected = resume_with_text(&env, &edited, &[Choice::Reject]);
    assert_edit_rejected("rejected", &rejected, "ann");
    let held = env.resume_run(Arc::default()).expect("it is driven");
    assert!(
        matches!(&held.stop, Some(StopReason::Waiting { call, .. }) if call == "/db::execute#0"),
        "{held:?}"
    );
}

/// A text that was approved is asked about no second time because another edit was tried meanwhile, and refused.
#[test]
fn an_approved_text_stays_approved_when_an_edit_after_it_is_dropped() {
    let script =
        PASSED.replace("branch::list(db)", "branch::list(db);\nbackup::create(db, #{ label: \"last\" })");
    let approved = put_before_list(&script, "backup::create(db, #{ label: \"new\" });");
    let listed = |event: &str| event.contains("call.started") && event.contains("branch::list");
    let wrong = approved.replace("\"a\"", "\"z\"");
    let gated = put_before_list(&approved, "backup::create(db, #{ label: \"newer\" });");
    for (name, edited, answers) in
        [("does not match", &wrong, &[][..]), ("is rejected", &gated, &[Choice::Reject])]
    {
        let env = record_run_before_list(&script, true);
        let dying = Arc::new(Listener { die_before: Some(listed), approves: true, ..Listener::default() });
        drop(env.try_resume_as(&approved, dying));
        assert_eq!(env.list_effects().len(), 3, "{name}: it was approved");
        // What was approved covers no edit after it.
        if edited == &gated {
            assert_waits(name, &resume_with_text(&env, edited, &[]), "go on?");
        }
        let refused = resume_with_text(&env, edited, answers);
        let is_dropped = matches!(
            refused.stop,
            Some(StopReason::Mismatch { .. } | StopReason::EditRejected { is_dropped: true, .. })
        );
        assert!(is_dropped, "{name}: {refused:?}");
        let ended = env.resume_run(Arc::default()).expect("it is driven");
        assert_eq!((ended.status, env.list_effects().len()), (RunStatus::Succeeded, 4), "{name}: {ended:?}");
    }
}
