//! Sixty kinds of edits between a stop and a resume: dangerous ones stop before any new effect, harmless ones go on, and
//! what is put before something that was done is asked about.

use super::{approvals::ScriptedPerson, *};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What becomes of a run whose script was edited.
#[derive(Clone, Copy)]
pub(super) enum Verdict {
    /// It goes on, and this many effects are new.
    GoesOn(usize),
    /// It stops before anything new, whoever is there, and the message says this.
    Stops(&'static str),
    /// It stops where nobody is; with a person who allows it, this many effects are new.
    Asks(usize),
}

use Verdict::{Asks, GoesOn, Stops};

/// One edit: what is replaced, by what, and what becomes of it.
pub(super) type Edit = (&'static str, &'static str, &'static str, Verdict);

/// What is recorded whole, but for the last read, at which the process is killed.
const DONE: &str = r#"
fn helper(db, label) { backup::create(db, #{ label: label }) }
step("one", || backup::create(db, #{ label: "a" }));
let n = db::query(db, "select count(*) as n from orders")[0].n;
defer(|| note("cleaned"));
on_failure(|| note("failed"));
backup::create(db, #{ label: "b" });
note("half");
parallel([
    || backup::create(db, #{ label: "p" }),
    || helper(db, "q"),
]);
each([1, 2, 3], #{ limit: 2 }, |i| backup::create(db, #{ label: `e${i}` }));
for i in 0..2 { backup::create(db, #{ label: `f${i}` }); }
retry(#{ attempts: 3, backoff: "0s" }, || backup::create(db, #{ label: "r" }));
sleep("0s");
if n >= 0 { backup::create(db, #{ label: "c" }); }
branch::list(db)
"#;

const DONE_EDITS: &[Edit] = &[
    // Layout and words.
    ("a comment", "note(\"half\");", "// half\n\nnote(\"half\");", GoesOn(0)),
    (
        "another layout of clean-up",
        "defer(|| note(\"cleaned\"));",
        "defer( ||\n  note( \"cleaned\" ) // why\n);",
        GoesOn(0),
    ),
    ("a value in a variable", "#{ label: \"b\" }", "{ let label = \"b\"; #{ label: label } }", GoesOn(0)),
    ("a function in between", "backup::create(db, #{ label: \"b\" });", "helper(db, \"b\");", GoesOn(0)),
    ("a function in its place", "helper(db, \"q\")", "backup::create(db, #{ label: \"q\" })", GoesOn(0)),
    (
        "another name of a variable",
        "|i| backup::create(db, #{ label: `e${i}` })",
        "|k| backup::create(db, #{ label: `e${k}` })",
        GoesOn(0),
    ),
    ("another limit", "limit: 2", "limit: 1", GoesOn(0)),
    ("more attempts", "attempts: 3", "attempts: 9", GoesOn(0)),
    ("fewer attempts than were not needed", "attempts: 3", "attempts: 1", GoesOn(0)),
    ("another backoff", "backoff: \"0s\"", "backoff: \"9s\"", GoesOn(0)),
    // Reads and notes.
    ("a read put in", "note(\"half\");", "branch::list(db); note(\"half\");", GoesOn(0)),
    (
        "a read of the same kind put in before",
        "let n = ",
        "db::query(db, \"select 1 as one\"); let n = ",
        GoesOn(0),
    ),
    (
        "the same read put in",
        "let n = ",
        "db::query(db, \"select count(*) as n from orders\"); let n = ",
        GoesOn(0),
    ),
    ("a read taken out", "db::query(db, \"select count(*) as n from orders\")[0].n", "0", GoesOn(0)),
    ("another read", "from orders", "from order_items", GoesOn(0)),
    ("another note", "\"half\"", "\"whole\"", GoesOn(0)),
    ("a note put in", "note(\"half\");", "note(\"nearly\"); note(\"half\");", GoesOn(0)),
    ("a note taken out", "note(\"half\");", "", GoesOn(0)),
    ("a metric put in", "note(\"half\");", "metric(\"m\", 1); note(\"half\");", GoesOn(0)),
    ("the time read", "note(\"half\");", "let t = now(); note(\"half\");", GoesOn(0)),
    ("a check put in that holds", "note(\"half\");", "ensure(n >= 0, \"no\"); note(\"half\");", GoesOn(0)),
    (
        "a check put in that fails",
        "note(\"half\");",
        "ensure(n < 0, \"no\");",
        Stops("no longer asks for what was done"),
    ),
    ("an early end", "note(\"half\");", "return 1;", Stops("no longer asks for what was done")),
    // New things at the end.
    ("a call at the end", "branch::list(db)", "backup::create(db, #{ label: \"z\" })", GoesOn(1)),
    (
        "a step at the end",
        "branch::list(db)",
        "step(\"z\", || backup::create(db, #{ label: \"z\" }))",
        GoesOn(1),
    ),
    ("another item of `each`", "[1, 2, 3]", "[1, 2, 3, 4]", Asks(1)),
    (
        "another turn of a loop, of the same call",
        "0..2",
        "0..3",
        Stops("/backup::create#3 is not the one that was recorded"),
    ),
    (
        "a longer last loop",
        "branch::list(db)",
        "for i in 0..2 { backup::create(db, #{ label: `g${i}` }) }",
        GoesOn(2),
    ),
    ("clean-up put in", "note(\"half\");", "defer(|| note(\"more\")); note(\"half\");", Asks(0)),
    // New things before what was done.
    (
        "a call of another kind before",
        "note(\"half\");",
        "db::execute(db, \"update orders set id = id\");",
        Asks(1),
    ),
    (
        "a step before",
        "step(\"one\"",
        "step(\"zero\", || backup::create(db, #{ label: \"z\" })); step(\"one\"",
        Asks(1),
    ),
    (
        "more in a named step",
        "|| backup::create(db, #{ label: \"a\" })",
        "|| { backup::create(db, #{ label: \"a\" }); backup::create(db, #{ label: \"a2\" }) }",
        Asks(1),
    ),
    ("a gate before", "note(\"half\");", "approve(\"go on?\");", Asks(0)),
    ("a pause before", "note(\"half\");", "sleep(\"20ms\");", Asks(0)),
    ("a longer pause before", "sleep(\"0s\")", "sleep(\"20ms\")", Asks(0)),
    (
        "a wait before",
        "note(\"half\");",
        "let t = [0]; wait_until(#{ every: \"20ms\" }, || { t[0] += 1; t[0] > 1 });",
        Asks(0),
    ),
    (
        "one more of the same kind before",
        "backup::create(db, #{ label: \"b\" });",
        "backup::create(db, #{ label: \"z\" }); backup::create(db, #{ label: \"b\" });",
        Stops("/backup::create#0 is not the one that was recorded"),
    ),
    (
        "a call before, in `each`",
        "|i| backup::create(db, #{ label: `e${i}` })",
        "|i| { if i == 2 { db::execute(db, \"update orders set id = id\"); } backup::create(db, #{ label: `e${i}` }) }",
        Asks(1),
    ),
    (
        "a call before, in a branch",
        "|| helper(db, \"q\")",
        "|| { db::execute(db, \"update orders set id = id\"); helper(db, \"q\") }",
        Asks(1),
    ),
    // What was done, taken out.
    (
        "a step taken out",
        "step(\"one\", || backup::create(db, #{ label: \"a\" }));",
        "",
        Stops("/one#0/backup::create#0"),
    ),
    (
        "a call taken out",
        "backup::create(db, #{ label: \"b\" });",
        "",
        Stops("/backup::create#0 is not the one that was recorded"),
    ),
    (
        "the last call taken out",
        "if n >= 0 { backup::create(db, #{ label: \"c\" }); }",
        "",
        Stops("/backup::create#3"),
    ),
    (
        "the last call taken out, another at the end",
        "if n >= 0 { backup::create(db, #{ label: \"c\" }); }",
        "db::execute(db, \"update orders set id = id\");",
        Asks(1),
    ),
    ("a decision that goes the other way", "n >= 0", "n < 0", Stops("/backup::create#3")),
    (
        "a branch of `parallel` taken out",
        "    || helper(db, \"q\"),\n",
        "",
        Stops("/parallel#0/1/backup::create#0"),
    ),
    (
        "the first branch taken out",
        "    || backup::create(db, #{ label: \"p\" }),\n",
        "",
        Stops("/parallel#0/0/backup::create#0"),
    ),
    ("an item of `each` taken out", "[1, 2, 3]", "[1, 2]", Stops("/each#0/2/backup::create#0")),
    ("a turn of a loop taken out", "0..2", "0..1", Stops("/backup::create#2")),
    (
        "retry taken out",
        "retry(#{ attempts: 3, backoff: \"0s\" }, || backup::create(db, #{ label: \"r\" }));",
        "",
        Stops("/retry#0/attempt#0/backup::create#0"),
    ),
    ("no turn of `each`", "[1, 2, 3]", "[]", Stops("/each#0/0/backup::create#0")),
    // Moved, renamed, changed.
    ("a step with another name", "\"one\"", "\"uno\"", Stops("was done before as /one#0/backup::create#0")),
    (
        "a call moved into a step",
        "backup::create(db, #{ label: \"b\" });",
        "step(\"two\", || backup::create(db, #{ label: \"b\" }));",
        Stops("was done before as /backup::create#0"),
    ),
    (
        "`each` as a loop",
        "each([1, 2, 3], #{ limit: 2 }, |i| backup::create(db, #{ label: `e${i}` }));",
        "for i in [1, 2, 3] { step(\"e\", || backup::create(db, #{ label: `e${i}` })); }",
        Stops("was done before as /each#0/0/backup::create#0"),
    ),
    (
        "a loop as `each`",
        "for i in 0..2 { backup::create(db, #{ label: `f${i}` }); }",
        "each([0, 1], |i| backup::create(db, #{ label: `f${i}` }));",
        Stops("was done before as /backup::create#"),
    ),
    (
        "branches that changed places",
        "    || backup::create(db, #{ label: \"p\" }),\n    || helper(db, \"q\"),\n",
        "    || helper(db, \"q\"),\n    || backup::create(db, #{ label: \"p\" }),\n",
        Stops("is not the one that was recorded"),
    ),
    ("items that changed places", "[1, 2, 3]", "[1, 3, 2]", Stops("is not the one that was recorded")),
    ("another argument", "\"b\"", "\"prod\"", Stops("/backup::create#0 is not the one that was recorded")),
    (
        "another argument in a function",
        "fn helper(db, label) { backup::create(db, #{ label: label })",
        "fn helper(db, label) { backup::create(db, #{ label: label + \"!\" })",
        Stops("/parallel#0/1/backup::create#0 is not the one that was recorded"),
    ),
    (
        "another operation",
        "if n >= 0 { backup::create(db, #{ label: \"c\" }); }",
        "db::execute(db, \"update orders set id = id\");",
        Asks(1),
    ),
    (
        "a mismatch swallowed",
        "backup::create(db, #{ label: \"b\" });",
        "[1].map(|x| { try { backup::create(db, #{ label: \"z\" }) } catch { } });",
        Stops("/backup::create#0 is not the one that was recorded"),
    ),
    // Clean-up.
    ("clean-up taken out", "defer(|| note(\"cleaned\"));", "", Stops("defer(||note(\"cleaned\"))")),
    (
        "clean-up taken out, a call at the end",
        "defer(|| note(\"cleaned\"));\non_failure(|| note(\"failed\"));",
        "on_failure(|| note(\"failed\")); defer(|| backup::create(db, #{ label: \"z\" }));",
        Stops("defer(||note(\"cleaned\"))"),
    ),
    ("other clean-up", "note(\"cleaned\")", "note(\"polished\")", Stops("defer(||note(\"cleaned\"))")),
    (
        "clean-up only after a failure",
        "defer(|| note(\"cleaned\"))",
        "on_failure(|| note(\"cleaned\"))",
        Stops("defer(||note(\"cleaned\"))"),
    ),
    (
        "clean-up with another value",
        "defer(|| note(\"cleaned\"));",
        "let word = \"cleaned\"; defer(|| note(word));",
        Stops("defer(||note(\"cleaned\"))"),
    ),
    (
        "clean-up that changed places",
        "defer(|| note(\"cleaned\"));\non_failure(|| note(\"failed\"));",
        "on_failure(|| note(\"failed\"));\ndefer(|| note(\"cleaned\"));",
        Stops("clean-up that was deferred has changed places"),
    ),
];

/// A run that is killed after what a gate guards in one of several branches was reached.
const FORKED: &str = r#"
fn undo(db) { backup::create(db, #{ label: "undone" }) }
defer(|| undo(db));
each(["a", "b"], #{ limit: 1 }, |x| {
    backup::list(db);
    if x == "b" { approve("go on?"); backup::create(db, #{ label: "b" }); }
});
"#;

const FORKED_EDITS: &[Edit] = &[
    ("a gate gone from a branch that starts later", "approve(\"go on?\");", "", Stops("/each#0/1/approve#0")),
    (
        "an effect moved before a gate that starts later",
        "if x == \"b\" { approve(\"go on?\");",
        "if x == \"a\" {",
        Stops("/each#0/1/approve#0"),
    ),
    (
        "a function that clean-up calls",
        "label: \"undone\"",
        "label: \"polished\"",
        Stops("defer(||undo(db))"),
    ),
];

/// Clean-up whose text does not stand where it is deferred.
const ELSEWHERE: &str = r#"
const LABEL = "undone";
fn undo(db) { backup::create(db, #{ label: global::LABEL }) }
fn undo(db, more) { backup::create(db, #{ label: more }) }
fn later(f) { defer(f); }
let first = || backup::create(db, #{ label: "first" });
let steps = #{ second: || backup::create(db, #{ label: "second" }) };
let name = "named";
fn named(db) { backup::create(db, #{ label: "named" }) }
defer(first);
defer({ first });
defer(|| steps.second.call());
later(|| backup::create(db, #{ label: "third" }));
on_failure(|| Fn(name).call(db));
defer(|| undo(db, "fourth"));
defer(|| undo(db));
backup::create(db, #{ label: "b" });
branch::list(db)
"#;

const ELSEWHERE_EDITS: &[Edit] = &[
    ("a closure in a variable", "label: \"first\"", "label: \"other\"", Stops("defer(first)")),
    ("a closure in a block", "label: \"first\"", "label: \"other\"", Stops("defer({first})")),
    ("a closure in a map", "label: \"second\"", "label: \"other\"", Stops("defer(||steps.second.call())")),
    ("a closure given to a function", "label: \"third\"", "label: \"other\"", Stops("defer(f)")),
    (
        "a function by a name in a variable",
        "label: \"named\"",
        "label: \"other\"",
        Stops("Fn(name).call(db)"),
    ),
    ("a second function of the name", "label: more", "label: more + \"!\"", Stops("undo(db,\"fourth\")")),
    ("a constant", "const LABEL = \"undone\"", "const LABEL = \"other\"", Stops("defer(||undo(db))")),
    ("nothing", "branch::list(db)", "branch::list(db)", GoesOn(6)),
];

#[test]
fn every_kind_of_edit_of_clean_up_that_stands_elsewhere_stops() {
    play_edits(ELSEWHERE, ELSEWHERE_EDITS);
}

/// A gate beside what is moved next to it.
const BESIDE: &str = r#"
parallel([|| backup::create(db, #{ label: "one" }), || approve("go on?")]);
backup::create(db, #{ label: "behind" })
"#;

/// A run that waits at a gate.
const WAITING: &str = r#"
backup::create(db, #{ label: "a" });
approve("go on?");
backup::create(db, #{ label: "b" })
"#;

const WAITING_EDITS: &[Edit] = &[
    ("a gate that nobody gave taken out", "approve(\"go on?\");", "", Stops("/approve#0 approve")),
    ("a gate with other words", "\"go on?\"", "\"really?\"", Stops("/approve#0 is not what was recorded")),
    (
        "a gate moved behind",
        "approve(\"go on?\");\nbackup::create(db, #{ label: \"b\" })",
        "backup::create(db, #{ label: \"b\" }); approve(\"go on?\");",
        Stops("what is under way must be asked for"),
    ),
    (
        "a gate in a condition that does not hold",
        "approve(\"go on?\");",
        "if false { approve(\"go on?\"); }",
        Stops("/approve#0 approve"),
    ),
    (
        "a gate in a step",
        "approve(\"go on?\");",
        "step(\"gate\", || approve(\"go on?\"));",
        Stops("was done before as /approve#0"),
    ),
    (
        "a call before the gate",
        "approve(",
        "db::execute(db, \"update orders set id = id\"); approve(",
        Stops("what is under way must be asked for"),
    ),
];

/// Records a run to where it is killed or waits.
pub(super) fn record_run(script: &str) -> ScriptEnv {
    record_run_before_list(script, false)
}

/// Records a run to where it is killed, before it lists branches; what it asks meanwhile is approved, or nobody is there.
pub(super) fn record_run_before_list(script: &str, approves: bool) -> ScriptEnv {
    let env = ScriptEnv::new();
    let before = |event: &str| event.contains("call.started") && event.contains("branch::list");
    let dying = Arc::new(Listener { die_before: Some(before), approves, ..Listener::default() });
    drop(env.try_run_script(script, dying));
    env
}

pub(super) fn resume_with_text(env: &ScriptEnv, text: &str, answers: &[Choice]) -> RunResult {
    let journal = Arc::new(env.runtime.open_journal().expect("a journal"));
    let id = journal.resolve_run_id("last").expect("the run");
    let (run, _) = Runtime::acquire_run(&journal, &id).expect("it is free");
    let runbook = Runbook::from_text("test.rhai", format!("{HEADER}{text}")).expect("it parses");
    let resume = ResumeRequest { run, runbook, confirmed: BTreeSet::new(), abandon: false };
    env.runtime.resume_run(journal, resume, ScriptedPerson::with_answers(answers)).expect("it is driven")
}

/// Asserts that the run stopped as a mismatch that says something.
pub(super) fn assert_mismatch(name: &str, ended: &RunResult, said: &str) {
    let Some(StopReason::Mismatch { message }) = &ended.stop else { panic!("{name}: {ended:?}") };
    assert!(message.contains(said), "{name}: `{said}` is not in: {message}");
}

/// Asserts that somebody rejected the edited text, which is dropped with that.
pub(super) fn assert_edit_rejected(name: &str, ended: &RunResult, by: &str) {
    let Some(StopReason::EditRejected { message, is_dropped: true }) = &ended.stop else {
        panic!("{name}: {ended:?}")
    };
    assert!(message.starts_with(&format!("{by} rejected the edited text")), "{name}: {message}");
}

/// Plays one edit, and asserts what becomes of it.
fn play_edit(script: &str, (name, from, to, verdict): &Edit) {
    assert!(script.contains(from), "{name}: `{from}` is not in the script");
    let edited = script.replacen(from, to, 1);
    let env = record_run(script);
    let done = env.list_effects();
    let nobody = resume_with_text(&env, &edited, &[]);
    let count_new = || env.list_effects().len() - done.len();
    match verdict {
        GoesOn(more) => {
            assert_eq!(nobody.status, RunStatus::Succeeded, "{name}: {nobody:?}");
            assert_eq!(count_new(), *more, "{name}: {:?}", env.list_effects());
            return;
        }
        Stops(said) => assert_mismatch(name, &nobody, said),
        Asks(_) => assert_mismatch(name, &nobody, "only a person at a terminal can allow it"),
    }
    assert_eq!(count_new(), 0, "{name}: nothing new has happened");
    let rejected = resume_with_text(&env, &edited, &[Choice::Reject]);
    assert!(matches!(rejected.stop, Some(StopReason::Mismatch { .. })), "{name}: {rejected:?}");
    assert_eq!(count_new(), 0, "{name}: nothing new has happened");
    if let Asks(more) = verdict {
        let allowed = resume_with_text(&env, &edited, &[Choice::Approve; 3]);
        assert_eq!(allowed.status, RunStatus::Succeeded, "{name}: {allowed:?}");
        assert_eq!(count_new(), *more, "{name}");
    } else {
        // The text that did not match is not what a resume goes on with.
        let resumed = resume_with_text(&env, script, &[Choice::Approve; 3]);
        assert_eq!(resumed.status, RunStatus::Succeeded, "{name}: {resumed:?}");
    }
}

/// Plays every edit, and names those that came to something else.
pub(super) fn play_edits(script: &str, edits: &[Edit]) {
    let is_wrong = |edit: &&Edit| catch_unwind(AssertUnwindSafe(|| play_edit(script, edit))).is_err();
    let wrong: Vec<_> = edits.iter().filter(is_wrong).map(|(name, ..)| name).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn every_kind_of_edit_goes_on_stops_or_is_asked_about() {
    play_edits(DONE, DONE_EDITS);
}

#[test]
fn every_kind_of_edit_of_a_run_that_waits_stops() {
    play_edits(WAITING, WAITING_EDITS);
}

#[test]
fn every_kind_of_edit_of_branches_that_wait_stops() {
    play_edits(FORKED, FORKED_EDITS);
}

/// Records runs until one waits at the gate alone: the gate may stop a run before the branch beside it has begun.
fn record_run_to_gate_beside() -> ScriptEnv {
    let waits_at_gate = |env: &ScriptEnv| {
        let journal = env.runtime.open_journal().expect("a journal");
        let run = journal.acquire_run(&journal.resolve_run_id("last").expect("the run")).expect("it is free");
        env.list_effects().len() == 1 && run.open_calls() == ["/parallel#0/1/approve#0"]
    };
    std::iter::repeat_with(|| record_run(BESIDE)).find(waits_at_gate).expect("there is always another one")
}

#[test]
fn what_is_moved_beside_its_gate_waits_for_it() {
    let env = record_run_to_gate_beside();
    let moved = BESIDE
        .replace("label: \"one\" })", "label: \"one\" }) + backup::create(db, #{ label: \"behind\" })")
        .replace("|| backup", "|| { backup")
        .replace(
            "}) + backup::create(db, #{ label: \"behind\" })",
            "}); backup::create(db, #{ label: \"behind\" }) }",
        )
        .replace("]);\nbackup::create(db, #{ label: \"behind\" })", "]);");
    let waiting = resume_with_text(&env, &moved, &[]);
    assert_eq!((waiting.status, env.list_effects().len()), (RunStatus::Waiting, 1), "{waiting:?}");
}

#[test]
fn the_temporary_branch_of_a_call_that_may_be_missing_is_removed_at_the_end_and_not_before() {
    const MADE: &str = r#"
        branch::create(db, #{ into: "copy", temporary: true });
        backup::create(db, #{ label: "a" });
        branch::list(db).len()
    "#;
    let env = record_run(MADE);
    let edited = MADE
        .replace("branch::create(db, #{ into: \"copy\", temporary: true });", "")
        .replace("branch::list", "db::execute(db, \"update orders set id = id\"); branch::list");
    let allowed = resume_with_text(&env, &edited, &[Choice::Approve; 3]);
    assert_eq!(allowed.status, RunStatus::Succeeded, "{allowed:?}");
    assert_eq!(allowed.value, serde_json::json!(1), "it was there while the script ran");
    let effects = env.list_effects();
    assert_eq!(effects.last().map(String::as_str), Some("branch.delete"), "{effects:?}");
    assert_eq!(allowed.left_behind, Vec::<String>::new());
}
