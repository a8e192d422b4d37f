//! How a run ends: kills on the way, clean-up, and runs that are given up.

use super::*;

const DRILL: &str = r#"
    let taken = step("back up", || backup::create(db, #{ label: "drill" }));
    defer(|| note("cleaned"));
    let copy = step("restore", || backup::restore(db, taken, #{ into: "drill", temporary: true }));
    let first = db::query(copy, "select count(*) as n from orders")[0].n;
    db::execute(copy, "delete from order_items");
    let mark = backup::pitr::mark(db, "here");
    let other = branch::create(db, #{ into: "other" });
    branch::delete(db, other);
    first
"#;

/// Dies at every event of a run in turn, and resumes: each effect takes effect exactly once, and the end is the same.
#[test]
fn a_kill_at_any_point_changes_nothing() {
    let calm = ScriptEnv::new();
    let listener = Arc::new(Listener::default());
    let undisturbed = calm.try_run_script(DRILL, Arc::clone(&listener)).expect("it runs");
    assert_eq!(undisturbed.status, RunStatus::Succeeded, "{undisturbed:?}");
    let events = listener.count.load(Ordering::SeqCst);
    assert!(events > 30, "{events} events are too few to be a test");
    for die_at in 1..events {
        let env = ScriptEnv::new();
        let listener = Arc::new(Listener { die_at: Some(die_at), ..Listener::default() });
        env.try_run_script(DRILL, listener).map(drop).expect_err("it is killed");
        let ended = env.resume_run(Listener::default().into()).expect("it resumes");
        assert_eq!(
            (ended.status, &ended.value),
            (undisturbed.status, &undisturbed.value),
            "killed at event {die_at}"
        );
        assert_eq!(env.list_effects(), calm.list_effects(), "killed at event {die_at}");
    }
}

/// The second kill comes while the first is being recovered from.
#[test]
fn two_kills_change_nothing_either() {
    let calm = ScriptEnv::new();
    calm.run_script(DRILL);
    for (first, second) in (4..44).step_by(6).flat_map(|a| [(a, 1), (a, 2), (a, 4), (a, 9)]) {
        let env = ScriptEnv::new();
        let dying = |at| Arc::new(Listener { die_at: Some(at), ..Listener::default() });
        drop(env.try_run_script(DRILL, dying(first)));
        let ended = env.resume_run(dying(second)).or_else(|_| env.resume_run(Listener::default().into()));
        let ended = ended.or_else(|_| env.resume_run(Listener::default().into()));
        drop(ended);
        assert_eq!(env.list_effects(), calm.list_effects(), "killed at {first}, then at {second}");
    }
}

#[test]
fn another_argument_after_a_crash_is_a_mismatch() {
    let env = ScriptEnv::new();
    // What the script asks depends on the world outside the run: the state folder has a file, or not.
    let listener = Arc::new(Listener { die_at: Some(6), ..Listener::default() });
    drop(env.try_run_script(
        "backup::create(db, #{ label: \"a\" }); backup::create(db, #{ label: \"b\" });",
        listener,
    ));
    let journal = Arc::new(env.runtime.open_journal().expect("a journal"));
    let (run, _) = Runtime::acquire_run(&journal, &journal.resolve_run_id("last").expect("the run"))
        .expect("it is free");
    let edited = format!("{HEADER}backup::create(db, #{{ label: \"z\" }});");
    let runbook = Runbook::from_text("test.rhai", edited).expect("it parses");
    let resume = ResumeRequest { run, runbook, confirmed: BTreeSet::new(), abandon: false };
    let before = env.list_effects();
    let ended = env.runtime.resume_run(journal, resume, Arc::new(Listener::default())).expect("it is driven");
    match ended.stop {
        Some(StopReason::Mismatch { message }) => {
            assert!(message.contains("\"a\"") && message.contains("\"z\""), "{message}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!((env.list_effects(), ended.status), (before, RunStatus::Interrupted));
}

#[test]
fn what_is_deferred_keeps_its_values_and_runs_backwards() {
    let env = ScriptEnv::new();
    let listener = Arc::new(Listener::default());
    let script = r#"for name in ["a", "b", "c"] { defer(|| note(name)); } on_failure(|| note("never"));"#;
    env.try_run_script(script, Arc::clone(&listener)).expect("it runs");
    let heard = listener.heard.lock().expect("heard").join("\n");
    let order: Vec<_> =
        ["\"text\":\"c\"", "\"text\":\"b\"", "\"text\":\"a\""].iter().map(|n| heard.find(n)).collect();
    assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{heard}");
    assert!(!heard.contains("never"));
}

#[test]
fn a_failed_clean_up_fails_the_run_and_hides_no_error() {
    let env = ScriptEnv::new();
    let ended = env.run_script("defer(|| fail(\"left open\")); 1");
    assert_eq!((ended.status, ended.cleanup.len()), (RunStatus::Failed, 1));
    assert_eq!(
        (ended.cleanup[0].fault.message.as_str(), ended.cleanup[0].place.is_some()),
        ("left open", true)
    );
    assert_eq!(ended.left_behind, ["what `defer(||fail(\"left open\"))` would have undone (/defer#0)"]);
    let ended = env
        .run_script("defer(|| fail(\"left open\")); on_failure(|| note(\"was here\")); fail(\"the cause\")");
    assert_eq!(ended.failure.expect("a failure").fault.message, "the cause");
}

#[test]
fn an_abandoned_run_begins_nothing_and_cleans_up() {
    let env = ScriptEnv::new();
    let listener = Arc::new(Listener::default());
    env.try_run_script(DRILL, Arc::clone(&listener)).expect("it runs");
    let begun = listener
        .heard
        .lock()
        .expect("heard")
        .iter()
        .position(|e| e.contains("call.started") && e.contains("branch::create"));
    let env = ScriptEnv::new();
    drop(env.try_run_script(DRILL, Arc::new(Listener { die_at: begun, ..Listener::default() })));
    let journal = Arc::new(env.runtime.open_journal().expect("a journal"));
    let (run, runbook) = Runtime::acquire_run(&journal, &journal.resolve_run_id("last").expect("the run"))
        .expect("it is free");
    let resume = ResumeRequest { run, runbook, confirmed: BTreeSet::new(), abandon: true };
    let ended = env.runtime.resume_run(journal, resume, Arc::new(Listener::default())).expect("it is driven");
    assert_eq!(ended.status, RunStatus::Abandoned, "{ended:?}");
    let effects = env.list_effects();
    assert!(effects.iter().any(|e| e == "branch.delete"), "the temporary branch is still there: {effects:?}");
}

/// What a run ended with is what it stays with: a resume in the middle of the clean-up begins nothing new.
#[test]
fn a_run_that_was_ending_ends_the_same_way() {
    let script = "defer(|| { note(\"one\"); db::execute(db, \"delete from order_items\"); note(\"two\"); });
        backup::create(db); fail(\"the cause\"); backup::create(db);";
    let calm = ScriptEnv::new();
    let listener = Arc::new(Listener::default());
    let undisturbed = calm.try_run_script(script, Arc::clone(&listener)).expect("it runs");
    let ending = listener.event_index("run.ending");
    for die_at in ending..listener.count.load(Ordering::SeqCst) {
        let env = ScriptEnv::new();
        drop(env.try_run_script(script, Arc::new(Listener { die_at: Some(die_at), ..Listener::default() })));
        let ended = env.resume_run(Listener::default().into()).expect("it resumes");
        assert_eq!(ended.failure.map(|f| f.fault), undisturbed.failure.clone().map(|f| f.fault), "{die_at}");
        assert_eq!(env.list_effects(), calm.list_effects(), "killed at {die_at}");
    }
}

#[test]
fn an_abandoned_run_that_was_killed_stays_abandoned() {
    let env = ScriptEnv::new();
    let script =
        "defer(|| { note(\"one\"); note(\"two\"); }); backup::create(db); sleep(\"1h\"); backup::create(db);";
    let listener = Arc::new(Listener::default());
    drop(env.try_run_script(script, Arc::new(Listener { die_at: Some(10), ..Listener::default() })));
    let effects = env.list_effects();
    let abandon = |listener: Arc<Listener>| {
        let journal = Arc::new(env.runtime.open_journal().expect("a journal"));
        let (run, runbook) =
            Runtime::acquire_run(&journal, &journal.resolve_run_id("last").expect("the run"))
                .expect("it is free");
        let resume = ResumeRequest { run, runbook, confirmed: BTreeSet::new(), abandon: true };
        env.runtime.resume_run(journal, resume, listener)
    };
    drop(abandon(Arc::new(Listener { die_at: Some(3), ..Listener::default() })));
    let ended = env.resume_run(Arc::clone(&listener)).expect("it is taken up");
    assert_eq!((ended.status, env.list_effects()), (RunStatus::Abandoned, effects), "{ended:?}");
}

#[test]
fn no_step_has_the_path_of_the_clean_up() {
    let env = ScriptEnv::new();
    let ended = env.run_script(
        "defer(|| db::execute(db, \"delete from order_items where line = 1\")); step(\"end\", || step(\"defer\", || db::execute(db, \"delete from order_items where line = 2\")));",
    );
    assert_eq!(ended.status, RunStatus::Succeeded, "{ended:?}");
    assert_eq!(env.list_effects().len(), 2);
}

#[test]
fn what_clean_up_defers_is_done_too() {
    let env = ScriptEnv::new();
    let ended = env.run_script(
        "defer(|| { let b = branch::create(db, #{ into: \"late\", temporary: true }); defer(|| db::execute(db, \"delete from order_items\")); });",
    );
    assert_eq!(ended.status, RunStatus::Succeeded, "{ended:?}");
    let effects = env.list_effects();
    assert!(
        effects.contains(&"branch.delete".into()) && effects.contains(&"sql.execute".into()),
        "{effects:?}"
    );
}

#[test]
fn a_branch_that_the_script_removed_is_not_removed_again() {
    let env = ScriptEnv::new();
    let listener = Arc::new(Listener::default());
    let script = "let b = branch::create(db, #{ into: \"x\", temporary: true }); branch::delete(db, b);";
    let ended = env.try_run_script(script, Arc::clone(&listener)).expect("it runs");
    assert_eq!(ended.status, RunStatus::Succeeded);
    let heard = listener.heard.lock().expect("heard").join("\n");
    assert_eq!(heard.matches("call.started").count(), 2, "{heard}");
}

#[test]
fn clean_up_that_a_person_allows_to_be_missing_is_told() {
    let script = "defer(|| backup::create(db, #{ label: \"undone\" })); backup::create(db); branch::list(db)";
    let env = edits::record_run_before_list(script, false);
    let edited = script
        .replace("defer(|| backup::create(db, #{ label: \"undone\" }));", "")
        .replace("branch::list", "db::execute(db, \"update orders set id = id\"); branch::list");
    let allowed = edits::resume_with_text(&env, &edited, &[Choice::Approve; 3]);
    assert_eq!(allowed.status, RunStatus::Succeeded, "{allowed:?}");
    assert!(allowed.left_behind.iter().any(|left| left.contains("undone")), "{allowed:?}");
}
