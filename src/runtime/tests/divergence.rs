//! A script that is not the one which was recorded: what fits what was done goes on, everything else stops the run.

use super::*;

/// What is recorded in every case: three backups, the first in a step, a mark, a note, a pause and a change.
const RECORDED: &str = r#"
    step("one", || backup::create(db, #{ label: "a" }));
    backup::create(db, #{ label: "b" });
    backup::create(db, #{ label: "c" });
    note("half");
    sleep("0s");
    db::execute(db, "delete from order_items where order_id = 1");
    branch::list(db)
"#;

/// Records, kills before the last call, and goes on with another text.
fn resume_edited(env: &ScriptEnv, change: impl Fn(&str) -> String) -> RunResult {
    let before = |event: &str| event.contains("call.started") && event.contains("branch::list");
    let dying = Arc::new(Listener { die_before: Some(before), ..Listener::default() });
    drop(env.try_run_script(RECORDED, dying));
    assert_eq!(env.list_effects().iter().filter(|e| *e == "backup.create").count(), 3, "three were recorded");
    env.resume_as(&change(RECORDED))
}

/// Asserts that a text goes on from what was recorded, and makes `more` backups.
fn assert_goes_on(change: impl Fn(&str) -> String, more: usize) {
    let env = ScriptEnv::new();
    let ended = resume_edited(&env, &change);
    assert_eq!(ended.status, RunStatus::Succeeded, "{}: {ended:?}", change(RECORDED));
    let effects = env.list_effects();
    let count = |kind: &str| effects.iter().filter(|e| *e == kind).count();
    assert_eq!((count("backup.create"), count("sql.execute")), (3 + more, 1), "{effects:?}");
}

/// Asserts that a text stops the run, before it does anything, and that the message says why.
fn assert_stops(change: impl Fn(&str) -> String, said: &[&str]) {
    let env = ScriptEnv::new();
    let ended = resume_edited(&env, &change);
    let Some(StopReason::Mismatch { message }) = ended.stop else {
        panic!("{}: {ended:?}", change(RECORDED))
    };
    for words in said {
        assert!(message.contains(words), "`{words}` is not in: {message}");
    }
    assert_eq!(env.list_effects().iter().filter(|e| *e == "backup.create").count(), 3);
    // The text that did not match is not what a resume goes on with.
    let resumed = env.resume_run(Listener::default().into()).expect("it resumes");
    assert_eq!(resumed.status, RunStatus::Succeeded, "{resumed:?}");
}

#[test]
fn another_layout_goes_on() {
    assert_goes_on(
        |text| format!("// why\n\n{}", text.replace("; ", ";\n\n  ").replace("(db,", "(\n db ,")),
        0,
    );
}

#[test]
fn other_words_for_the_same_go_on() {
    assert_goes_on(
        |text| {
            let text =
                text.replace("backup::create(db, #{ label: \"b\" });", "let mine = db; made(mine, \"b\");");
            format!("fn made(db, label) {{ backup::create(db, #{{ label: label }}) }}\n{text}")
        },
        0,
    );
}

#[test]
fn what_was_read_feeds_the_same_argument_although_the_world_has_changed() {
    let env = ScriptEnv::new();
    let script = "let n = backup::list(db).len(); backup::create(db, #{ label: `n${n}` }); \
        backup::create(db, #{ label: `m${n}` }); branch::list(db)";
    let before = |event: &str| event.contains("call.started") && event.contains("branch::list");
    drop(env.try_run_script(script, Arc::new(Listener { die_before: Some(before), ..Listener::default() })));
    let ended = env.resume_run(Listener::default().into()).expect("it resumes");
    assert_eq!(ended.status, RunStatus::Succeeded, "{ended:?}");
}

#[test]
fn a_changed_argument_stops() {
    assert_stops(
        |text| text.replace("\"b\"", "\"prod\""),
        &[
            "/backup::create#0 is not the one that was recorded",
            "recorded  backup::create",
            "\"b\"",
            "asked     backup::create",
            "\"prod\"",
            "at        test.rhai:",
        ],
    );
}

#[test]
fn two_that_changed_places_stop() {
    assert_stops(
        |text| text.replace("\"b\"", "\"x\"").replace("\"c\"", "\"b\"").replace("\"x\"", "\"c\""),
        &["/backup::create#0", "\"b\"", "\"c\""],
    );
}

#[test]
fn another_statement_in_the_same_place_stops() {
    assert_stops(
        |text| text.replace("order_id = 1", "order_id = 2"),
        &["/db::execute#0", "order_id = 1", "order_id = 2"],
    );
}

#[test]
fn an_edited_text_is_what_a_later_resume_goes_on_with() {
    let env = ScriptEnv::new();
    let before = |event: &str| event.contains("call.started") && event.contains("branch::list");
    let dying = || Arc::new(Listener { die_before: Some(before), ..Listener::default() });
    drop(env.try_run_script(RECORDED, dying()));
    let more = RECORDED
        .replace("branch::list(db)", "backup::create(db, #{ label: \"d\" }); branch::list(db); \"edited\"");
    drop(env.try_resume_as(&more, dying()));
    let ended = env.resume_run(Listener::default().into()).expect("it resumes");
    assert_eq!((ended.status, ended.value), (RunStatus::Succeeded, "edited".into()));
    let journal = env.runtime.open_journal().expect("a journal");
    journal.verify_run(&ended.run, None).expect("its texts are the recorded ones");
    assert_eq!(env.list_effects().iter().filter(|e| *e == "backup.create").count(), 4);
}
