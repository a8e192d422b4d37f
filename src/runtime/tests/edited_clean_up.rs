//! Edits of clean-up: its order, and what it goes by in modules.

use super::{
    edits::{
        Edit,
        Verdict::{Asks, GoesOn, Stops},
        assert_mismatch, play_edits, record_run,
    },
    edits_on_trial::allow_text,
    *,
};
use crate::journal::{Durability, Outcome, Source};

const SWAPPED: &str = "clean-up that was deferred has changed places";

/// Clean-up at the top, in steps, in a branch, and of a temporary branch.
const ORDERED: &str = r#"
defer(|| note("first"));
step("one", || defer(|| note("in one")));
step("two", || defer(|| note("in two")));
branch::create(db, #{ into: "copy", temporary: true });
parallel([|| { defer(|| note("left")); defer(|| note("left again")) }, || defer(|| note("right"))]);
defer(|| note("last"));
backup::create(db, #{ label: "a" });
branch::list(db)
"#;

const ORDER_EDITS: &[Edit] = &[
    (
        "two steps that changed places",
        "step(\"one\", || defer(|| note(\"in one\")));\nstep(\"two\", || defer(|| note(\"in two\")));",
        "step(\"two\", || defer(|| note(\"in two\")));\nstep(\"one\", || defer(|| note(\"in one\")));",
        Stops(SWAPPED),
    ),
    (
        "clean-up moved behind a temporary branch",
        "step(\"two\", || defer(|| note(\"in two\")));\nbranch::create(db, #{ into: \"copy\", temporary: true });",
        "branch::create(db, #{ into: \"copy\", temporary: true });\nstep(\"two\", || defer(|| note(\"in two\")));",
        Stops(SWAPPED),
    ),
    (
        "clean-up that changed places in a branch",
        "defer(|| note(\"left\")); defer(|| note(\"left again\"))",
        "defer(|| note(\"left again\")); defer(|| note(\"left\"))",
        Stops(SWAPPED),
    ),
    (
        "clean-up moved before branches",
        "parallel([|| { defer(|| note(\"left\")); defer(|| note(\"left again\")) }, || defer(|| note(\"right\"))]);\ndefer(|| note(\"last\"));",
        "defer(|| note(\"last\"));\nparallel([|| { defer(|| note(\"left\")); defer(|| note(\"left again\")) }, || defer(|| note(\"right\"))]);",
        Stops(SWAPPED),
    ),
    ("a note between", "step(\"two\"", "note(\"n\"); step(\"two\"", GoesOn(1)),
    (
        "clean-up put in",
        "defer(|| note(\"last\"));",
        "defer(|| note(\"new\")); defer(|| note(\"last\"));",
        Asks(1),
    ),
    ("clean-up put in at the end", "branch::list", "defer(|| note(\"new\")); branch::list", GoesOn(1)),
];

#[test]
fn clean_up_keeps_its_order_or_the_edit_is_refused() {
    play_edits(ORDERED, ORDER_EDITS);
}

/// Resumes with an edited text, with a person who allows everything, and kills the process before its last call.
fn edit_and_die(env: &ScriptEnv, edited: &str) {
    let before = |event: &str| event.contains("call.started") && event.contains("branch::list");
    drop(env.try_resume_as(edited, Arc::new(Listener { die_before: Some(before), ..Listener::default() })));
}

#[test]
fn clean_up_that_an_edit_put_in_keeps_its_place_in_the_next_edit() {
    const SCRIPT: &str = r#"
        defer(|| note("first"));
        backup::create(db, #{ label: "a" });
        branch::list(db)
    "#;
    let new = "defer(|| note(\"new\"));";
    let once = SCRIPT
        .replace("branch::list", &format!("{new} backup::create(db, #{{ label: \"b\" }});\nbranch::list"));
    let put_in = || {
        let env = record_run(SCRIPT);
        edit_and_die(&env, &once);
        assert_eq!(env.list_effects().len(), 2);
        env
    };
    let moved = once
        .replace(new, "")
        .replace("defer(|| note(\"first\"))", &format!("{new} defer(|| note(\"first\"))"));
    assert_mismatch("moved", &put_in().resume_as(&moved), SWAPPED);
    let noted = once.replace(new, &format!("note(\"n\"); {new}"));
    let ended = put_in().resume_as(&noted);
    assert_eq!(ended.status, RunStatus::Succeeded, "{ended:?}");
    // Unchanged, it is in order as well.
    assert_eq!(put_in().resume_run(Arc::default()).expect("it is driven").status, RunStatus::Succeeded);
}

#[test]
fn clean_up_that_an_edit_put_first_stays_first_in_the_next_edit() {
    const SCRIPT: &str = r#"
        defer(|| note("first"));
        backup::create(db, #{ label: "a" });
        branch::list(db)
    "#;
    let put = |before: &str| {
        let put_in = SCRIPT.replace(before, &format!("defer(|| note(\"new\")); {before}"));
        put_in.replace("branch::list", "backup::create(db, #{ label: \"b\" }); branch::list")
    };
    let put_first = || {
        let env = record_run(SCRIPT);
        allow_text(&env, &put("defer(|| note(\"first\"))"));
        assert_eq!(env.list_effects().len(), 2);
        env
    };
    let moved = put("backup::create");
    assert_mismatch("moved", &put_first().resume_as(&moved), SWAPPED);
    assert_eq!(put_first().resume_run(Arc::default()).expect("it is driven").status, RunStatus::Succeeded);
}

#[test]
fn a_place_of_clean_up_that_does_not_read_stops_the_run() {
    const SCRIPT: &str = "backup::create(db);\ndefer(|| note(\"n\"));\nbranch::list(db)";
    let entries_of = |env: &ScriptEnv| {
        let journal = env.runtime.open_journal().expect("a journal");
        journal.read_records(&journal.resolve_run_id("last").expect("the run")).expect("its records")
    };
    let recorded = entries_of(&record_run(SCRIPT)).into_iter().map(|entry| entry.record);
    let mut odd = recorded
        .filter(|record| matches!(record, Record::End { op, .. } if op == "defer"))
        .collect::<Vec<_>>();
    let Some(Record::End { outcome, .. }) = odd.first_mut() else { panic!("it is recorded") };
    *outcome = Outcome::Ok(serde_json::json!(["/a#0", 5]));
    let env = ScriptEnv::new();
    let made = |event: &str| event.contains("call.finished");
    drop(env.try_run_script(SCRIPT, Arc::new(Listener { die_before: Some(made), ..Listener::default() })));
    let journal = env.runtime.open_journal().expect("a journal");
    let run = journal.acquire_run(&journal.resolve_run_id("last").expect("the run")).expect("it is free");
    run.record_resume(VERSION, None).expect("written");
    run.append_record(odd.remove(0), Durability::Synced).expect("written");
    drop((run, journal));
    let stopped = env.resume_as(&SCRIPT.replace("branch", "note(\"edited\");\nbranch"));
    assert!(matches!(stopped.stop, Some(StopReason::Unreadable(_))), "{stopped:?}");
}

/// Clean-up whose function is named by a computed text, or holds texts with odd quotes: what it is, the function, the
/// clean-up, and whether it can be told what the clean-up goes by.
const ODD_CLEAN_UP: [(&str, &str, &str, bool); 9] = [
    ("a computed name", PLAIN_UNDO, "{ let f = Fn(\"un\" + \"do\"); f.call(db) }", false),
    ("a name with an escape", PLAIN_UNDO, "Fn(\"un\\x64o\").call(db)", false),
    ("a computed name, in a function", PLAIN_UNDO, "indirect(db)", false),
    ("a bound function", PLAIN_UNDO, "{ let f = Fn(\"undo\").curry(db); f.call() }", false),
    ("a name", PLAIN_UNDO, "Fn(\"undo\").call(db)", true),
    (
        "a raw text",
        "fn undo(db) { note(#\"C:\\\"#); backup::create(db, #{ label: \"undone\" }) }",
        "undo(db)",
        true,
    ),
    (
        "a raw text with more marks",
        "fn undo(db) { note(##\"} \"# `\"##); backup::create(db, #{ label: \"undone\" }) }",
        "undo(db)",
        true,
    ),
    (
        "a text of many lines",
        "fn undo(db) { note(`}\n\" ' { ${ #{ a: \"}`\", b: `\n}${ 1 }` }.a } }\n`); backup::create(db, #{ label: \"undone\" }) }",
        "undo(db)",
        true,
    ),
    (
        "comments in the head of a function",
        "fn /* { */ undo /* ( */ (db) { backup::create(db, #{ label: \"undone\" }) }",
        "undo(db)",
        true,
    ),
];
const PLAIN_UNDO: &str = "fn undo(db) { backup::create(db, #{ label: \"undone\" }) }";

#[test]
fn clean_up_is_compared_however_its_function_is_named_and_written() {
    for (name, undo, clean_up, is_told) in ODD_CLEAN_UP {
        let script = format!(
            "{undo}\nfn indirect(db) {{ Fn(\"un\" + \"do\").call(db) }}\nfn other() {{ 1 }}\ndefer(|| {clean_up});\n\
             backup::create(db, #{{ label: \"a\" }});\nbranch::list(db)"
        );
        let beside = if is_told { GoesOn(1) } else { Stops("defer(||") };
        play_edits(
            &script,
            &[
                (name, "\"undone\"", "\"EVIL\"", Stops("defer(||")),
                ("what it does not go by", "fn other() { 1 }", "fn other() { 2 }", beside),
            ],
        );
    }
}

/// A runbook with modules, each a path and a text; the first has no path of its own.
fn with_modules(main: &str, modules: &[(&str, &str)]) -> Runbook {
    let source = |(path, text): (&str, &str)| Source { path: path.into(), text: text.into() };
    let main = format!("{HEADER}{main}");
    let sources = [("test.rhai", main.as_str())].into_iter().chain(modules.iter().copied()).map(source);
    Runbook::from_recorded("test.rhai", sources.collect()).expect("it parses")
}

const MAIN: &str = r#"
import "./lib" as lib;
import "./spare" as spare;
defer(|| lib::undo(db));
lib::later(db);
on_failure(|| spare::undo(db));
backup::create(db, #{ label: "a" });
branch::list(db)
"#;
const LIB: &str = r#"
import "./deep" as deep;
fn undo(db) { deep::undo(db) }
fn later(db) { defer(|| deep::undo(db)); }
"#;
const DEEP: &str = "fn undo(db) { backup::create(db, #{ label: \"undone\" }) }";
const SPARE: &str = "fn undo(db) { backup::create(db, #{ label: \"spare\" }) }";
const MODULES: [(&str, &str); 3] = [("./lib", LIB), ("./deep", DEEP), ("./spare", SPARE)];

#[test]
fn clean_up_whose_closure_comes_from_a_module_is_compared_with_what_it_goes_by() {
    let swapped_main = MAIN.replace("\"./lib\" as lib", "\"./spare\" as lib").replace("lib::later(db);", "");
    let other_alias = MAIN.replace("\"./spare\" as spare", "\"./deep\" as spare");
    let deep = DEEP.replace("undone", "other");
    let lib = LIB.replace("fn undo(db) { deep::undo(db) }", "fn undo(db) { 1 }");
    let deep_alias = LIB.replace("\"./deep\" as deep", "\"./spare\" as deep");
    let with = |changed: &'static str, text: String| {
        MODULES.map(|(path, own)| (path, if path == changed { text.clone() } else { own.to_owned() }))
    };
    let same = || with("", String::new());
    for (name, main, modules, said) in [
        ("another text of a module that a module imports", MAIN, with("./deep", deep), Some("lib::undo(db)")),
        ("another text of the module", MAIN, with("./lib", lib), Some("lib::undo(db)")),
        ("another module under the name", swapped_main.as_str(), same(), Some("lib::undo(db)")),
        (
            "another module under the name of a spare one",
            other_alias.as_str(),
            same(),
            Some("spare::undo(db)"),
        ),
        ("another module under a name in a module", MAIN, with("./lib", deep_alias), Some("deep::undo(db)")),
        ("the same", MAIN, same(), None),
    ] {
        let env = ScriptEnv::new();
        let listed = |event: &str| event.contains("call.started") && event.contains("branch::list");
        let dying = Arc::new(Listener { die_before: Some(listed), ..Listener::default() });
        let start = StartRequest {
            runbook: with_modules(MAIN, &MODULES),
            params: BTreeMap::new(),
            confirmed: BTreeSet::new(),
        };
        drop(env.runtime.start_run(start, dying));
        assert_eq!(env.list_effects().len(), 1, "{name}");
        let journal = Arc::new(env.runtime.open_journal().expect("a journal"));
        let id = journal.resolve_run_id("last").expect("the run");
        let (run, _) = Runtime::acquire_run(&journal, &id).expect("it is free");
        let modules: Vec<_> = modules.iter().map(|(path, text)| (*path, text.as_str())).collect();
        let runbook = with_modules(main, &modules);
        let resume = ResumeRequest { run, runbook, confirmed: BTreeSet::new(), abandon: false };
        let ended =
            env.runtime.resume_run(journal, resume, Arc::<Listener>::default()).expect("it is driven");
        match said {
            Some(said) => assert_mismatch(name, &ended, said),
            None => assert_eq!(ended.status, RunStatus::Succeeded, "{name}: {ended:?}"),
        }
    }
}
