//! Edited texts that are on trial: nothing has taken effect under them, and what is given up goes by the text before. What
//! somebody allowed an edited text, the next one may do, too.

use super::{
    edits::{assert_edit_rejected, assert_mismatch, record_run, record_run_before_list, resume_with_text},
    *,
};
use crate::runtime::{OpenApproval, end_as_abandoned};

/// A run that has something to clean up, and is killed before its last call.
const DEFERRED: &str = r#"
defer(|| backup::create(db, #{ label: "undone" }));
backup::create(db, #{ label: "a" });
branch::list(db)
"#;

/// Puts an edited text in force in a process that is killed while it replays.
fn try_text(env: &ScriptEnv, edited: &str) {
    let replays = |event: &str| event.contains("call.replayed");
    drop(env.try_resume_as(edited, Arc::new(Listener { die_before: Some(replays), ..Listener::default() })));
}

fn leave_run(env: &ScriptEnv) -> Vec<String> {
    let journal = env.runtime.open_journal().expect("a journal");
    end_as_abandoned(&journal, &journal.resolve_run_id("last").expect("the run")).expect("it ends")
}

#[test]
fn a_run_is_given_up_by_the_text_that_did_its_effects() {
    let env = record_run(DEFERRED);
    try_text(&env, &DEFERRED.replace("defer(|| backup::create(db, #{ label: \"undone\" }));", ""));
    let ended = env.abandon_run();
    assert_eq!(ended.status, RunStatus::Abandoned, "{ended:?}");
    assert_eq!(env.list_effects().len(), 2, "what was deferred is done");
    assert_eq!(ended.left_behind, Vec::<String>::new());
}

#[test]
fn an_abandonment_that_was_killed_goes_on_with_the_text_that_did_the_effects() {
    let env = record_run(DEFERRED);
    try_text(&env, &DEFERRED.replace("defer(|| backup::create(db, #{ label: \"undone\" }));", ""));
    let ending = |event: &str| event.contains("run.ending");
    let dying = Arc::new(Listener { die_before: Some(ending), ..Listener::default() });
    drop(env.take_up_run(dying, true));
    let ended = env.resume_run(Arc::default()).expect("it is driven");
    assert_eq!((ended.status, env.list_effects().len()), (RunStatus::Abandoned, 2), "{ended:?}");
}

#[test]
fn a_run_whose_edit_was_rejected_is_given_up_by_the_text_before() {
    let gated = DEFERRED.replace("branch::list", "approve(\"go on?\");\nbranch::list");
    let env = record_run_before_list(&gated, true);
    let edited =
        gated.replace("branch::list", "defer(|| backup::create(db, #{ label: \"new\" }));\nbranch::list");
    let waiting = resume_with_text(&env, &edited, &[]);
    assert_eq!(waiting.status, RunStatus::Waiting, "{waiting:?}");
    decide_gates(&env, false);
    let ended = env.abandon_run();
    assert_eq!((ended.status, env.list_effects().len()), (RunStatus::Abandoned, 2), "{ended:?}");
}

/// A gate that only the edited text has holds it on trial: nobody has said that it may do anything.
#[test]
fn a_run_that_waits_at_a_gate_of_its_edit_is_given_up_by_the_text_before() {
    const FORKED: &str = r#"
        each(["a", "b"], #{ limit: 1 }, |x| {
            backup::create(db, #{ label: x });
            defer(|| backup::create(db, #{ label: `undone ${x}` }));
        });
        branch::list(db)
    "#;
    let env = record_run(FORKED);
    let edited = FORKED
        .replace("defer(||", "if x == \"a\" { defer(||")
        .replace("${x}` }));", "${x}` })); approve(\"go on?\"); }");
    // Somebody allows that the clean-up of the second item is missing, and nobody is there at the gate.
    let waiting = resume_with_text(&env, &edited, &[Choice::Approve]);
    assert_eq!(waiting.status, RunStatus::Waiting, "{waiting:?}");
    let ended = env.abandon_run();
    assert_eq!((ended.status, env.list_effects().len()), (RunStatus::Abandoned, 4), "{ended:?}");
    assert_eq!(ended.left_behind, Vec::<String>::new());
}

#[test]
fn a_gate_that_an_edit_asked_about_is_not_taken_out_by_the_next_edit() {
    let env = record_run(DEFERRED);
    let gated = DEFERRED.replace("branch::list", "approve(\"go on?\");\nbranch::list");
    assert_eq!(resume_with_text(&env, &gated, &[]).status, RunStatus::Waiting);
    let without = DEFERRED.replace("branch::list", "backup::create(db, #{ label: \"new\" });\nbranch::list");
    assert_mismatch("taken out", &resume_with_text(&env, &without, &[]), "/approve#0 approve");
    assert_eq!(env.list_effects().len(), 1);
}

#[test]
fn what_is_left_is_named_by_the_text_that_did_the_effects() {
    // The clean-up is not recorded yet, and only the text says that there may be some.
    const LATE: &str = r#"
        backup::create(db, #{ label: "a" });
        defer(|| backup::create(db, #{ label: "undone" }));
        branch::list(db)
    "#;
    let env = ScriptEnv::new();
    let made = |event: &str| event.contains("call.finished");
    drop(env.try_run_script(LATE, Arc::new(Listener { die_before: Some(made), ..Listener::default() })));
    try_text(&env, &LATE.replace("defer(|| backup::create(db, #{ label: \"undone\" }));", ""));
    assert_eq!(leave_run(&env), ["what its `defer` and `on_failure` would have undone"]);
    // What only an edit deferred, under which nothing has taken effect, would have undone nothing.
    let env = record_run(LATE);
    let edited = LATE.replace("branch::list", "defer(|| note(\"new\"));\nbranch::list");
    let listed = |event: &str| event.contains("call.started");
    drop(env.try_resume_as(&edited, Arc::new(Listener { die_before: Some(listed), ..Listener::default() })));
    let left = leave_run(&env);
    assert!(left.len() == 1 && left[0].contains("undone"), "{left:?}");
}

/// What one text was allowed to leave out.
const LEFT_OUT: &str = r#"
backup::create(db, #{ label: "a" });
db::execute(db, "update orders set id = id");
branch::list(db)
"#;

/// Resumes with a text, allows what it asks, and kills the process before the last call.
pub(super) fn allow_text(env: &ScriptEnv, edited: &str) {
    struct Allowing(Listener);
    impl RunObserver for Allowing {
        fn on_event(&self, event: &Event<'_>) {
            self.0.on_event(event);
        }
        fn ask_person(&self, _: &Question, _: &Withdrawal) -> Option<Answer> {
            Some(Answer { choice: Choice::Approve, by: "ann".into() })
        }
    }
    let listed = |event: &str| event.contains("call.started") && event.contains("branch::list");
    let listener = Listener { die_before: Some(listed), ..Listener::default() };
    let journal = Arc::new(env.runtime.open_journal().expect("a journal"));
    let id = journal.resolve_run_id("last").expect("the run");
    let (run, _) = Runtime::acquire_run(&journal, &id).expect("it is free");
    let runbook = Runbook::from_text("test.rhai", format!("{HEADER}{edited}")).expect("it parses");
    let resume = ResumeRequest { run, runbook, confirmed: BTreeSet::new(), abandon: false };
    drop(env.runtime.resume_run(journal, resume, Arc::new(Allowing(listener))));
}

#[test]
fn what_somebody_allowed_stays_allowed_for_the_next_text_and_covers_nothing_else() {
    let env = record_run(LEFT_OUT);
    let once = LEFT_OUT
        .replace("db::execute(db, \"update orders set id = id\");", "backup::create(db, #{ label: \"z\" });");
    allow_text(&env, &once);
    assert_eq!(env.list_effects().len(), 3, "it was allowed");
    let before = once.replacen("backup", "step(\"s\", || backup::create(db, #{ label: \"y\" }));\nbackup", 1);
    assert_mismatch(
        "before",
        &resume_with_text(&env, &before, &[]),
        "only a person at a terminal can allow it",
    );
    assert_eq!(env.list_effects().len(), 3, "nothing new has happened");
    let again = once.replace("branch::list", "backup::create(db, #{ label: \"y\" });\nbranch::list");
    let ended = resume_with_text(&env, &again, &[]);
    assert_eq!((ended.status, env.list_effects().len()), (RunStatus::Succeeded, 4), "{ended:?}");
}

#[test]
fn what_was_put_before_a_call_allows_nothing_more_to_be_put_there() {
    let env = record_run(LEFT_OUT);
    let put = |script: &str, label: &str| {
        script.replace(
            "db::execute",
            &format!("step(\"{label}\", || backup::create(db, #{{ label: \"{label}\" }}));\ndb::execute"),
        )
    };
    let once = put(LEFT_OUT, "y");
    allow_text(&env, &once);
    assert_eq!(env.list_effects().len(), 3, "it was allowed");
    let twice = put(&once, "z");
    assert_mismatch(
        "another",
        &resume_with_text(&env, &twice, &[]),
        "only a person at a terminal can allow it",
    );
    assert_eq!(env.list_effects().len(), 3, "nothing new has happened");
    let ended = resume_with_text(&env, &twice, &[Choice::Approve]);
    assert_eq!((ended.status, env.list_effects().len()), (RunStatus::Succeeded, 4), "{ended:?}");
}

/// Decides about every gate that the run comes to, also in the place of what was decided before.
fn decide_gates(env: &ScriptEnv, approves: bool) {
    let journal = env.runtime.open_journal().expect("a journal");
    let run = journal.acquire_run(&journal.resolve_run_id("last").expect("the run")).expect("it is free");
    for gate in OpenApproval::list_asked_approvals(&run.copy_fold()).expect("it reads") {
        gate.record_decision(&run, approves, "bob").expect("written");
    }
}

#[test]
fn an_edit_that_was_approved_counts_before_it_has_done_anything() {
    let gated = DEFERRED.replace("branch::list", "approve(\"go on?\");\nbranch::list");
    let new = |gate: &str| {
        let put = format!("{gate}backup::create(db, #{{ label: \"new\" }});\nbranch::list");
        gated.replace("branch::list", &put)
    };
    // Approved and not resumed, or killed between the gate and the first effect; at the gate of the edit, or at its own.
    for (edited, goes_on) in [
        (new(""), false),
        (new(""), true),
        (new("approve(\"and now?\");\n"), false),
        (new("approve(\"and now?\");\n"), true),
    ] {
        let env = record_run_before_list(&gated, true);
        assert_eq!(resume_with_text(&env, &edited, &[]).status, RunStatus::Waiting);
        decide_gates(&env, true);
        if goes_on {
            let starts = |event: &str| event.contains("call.started");
            drop(env.resume_run(Arc::new(Listener { die_before: Some(starts), ..Listener::default() })));
        }
        let other = edited.replace("label: \"a\"", "label: \"b\"");
        assert_mismatch("another argument", &resume_with_text(&env, &other, &[]), "label");
        let approving = Arc::new(Listener { approves: true, ..Listener::default() });
        let ended = env.resume_run(approving).expect("it is driven");
        assert_eq!(
            (ended.status, env.list_effects().len()),
            (RunStatus::Succeeded, 3),
            "{edited}, {goes_on}: {ended:?}"
        );
    }
}

#[test]
fn an_edit_whose_approval_was_taken_back_before_it_did_anything_does_not_count() {
    let gated = DEFERRED.replace("branch::list", "approve(\"go on?\");\nbranch::list");
    let edited = gated.replace("branch::list", "backup::create(db, #{ label: \"new\" });\nbranch::list");
    for is_edited_again in [false, true] {
        let env = record_run_before_list(&gated, true);
        assert_eq!(resume_with_text(&env, &edited, &[]).status, RunStatus::Waiting);
        decide_gates(&env, true);
        if is_edited_again {
            // What does not match falls back to the approved text, which has still done nothing.
            let other = edited.replace("label: \"a\"", "label: \"b\"");
            assert_mismatch("another argument", &resume_with_text(&env, &other, &[]), "label");
            assert_eq!(env.resume_run(Arc::default()).expect("it is driven").status, RunStatus::Waiting);
        }
        decide_gates(&env, false);
        let rejected = env.resume_run(Arc::default()).expect("it is driven");
        assert_edit_rejected("taken back", &rejected, "bob");
        let ended = env.resume_run(Arc::default()).expect("it is driven");
        assert_eq!((ended.status, env.list_effects().len()), (RunStatus::Succeeded, 2), "{ended:?}");
    }
}

#[test]
fn an_edit_that_was_rejected_does_not_count() {
    let gated = DEFERRED.replace("branch::list", "approve(\"go on?\");\nbranch::list");
    let edited = gated.replace("branch::list", "backup::create(db, #{ label: \"new\" });\nbranch::list");
    let env = record_run_before_list(&gated, true);
    assert_eq!(resume_with_text(&env, &edited, &[]).status, RunStatus::Waiting);
    decide_gates(&env, false);
    drop(env.resume_run(Arc::default()));
    let ended = env.resume_run(Arc::default()).expect("it is driven");
    assert_eq!((ended.status, env.list_effects().len()), (RunStatus::Succeeded, 2), "{ended:?}");
}
