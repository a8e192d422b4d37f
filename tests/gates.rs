//! Runs that wait for a person: approvals, held calls, edited runbooks.

use crate::stage::CliEnv;
use redrill::{
    base::clock::SystemClock,
    journal::{Durability, Journal, NewRun, Outcome, Record, RunStatus},
};
use serde_json::json;
use std::sync::Arc;

const APPROVAL_RUNBOOK: &str = r#"const RUNBOOK = #{ title: "gate", params: #{ db: #{ type: "target", preset: "sandbox" } }, needs: ["backup.create", "db.destroy"] };
let db = params.db;
backup::create(db, #{ label: "before" });
defer(|| backup::create(db, #{ label: "end" }));
approve("empty the orders?");
db::execute(db, "delete from order_items").rows_affected > 0
"#;

fn run_status(stage: &CliEnv) -> String {
    stage.run_cli(&["runs", "list", "-o", "json"]).parse_json()[0]["status"].as_str().unwrap().to_owned()
}

fn count_backups(stage: &CliEnv) -> usize {
    let listed = stage.run_cli(&["backup", "list", "-t", "sandbox", "-o", "json"]).parse_json();
    listed.as_array().unwrap().iter().filter(|b| b["label"] == "before" || b["label"] == "end").count()
}

#[test]
fn a_gate_suspends_the_run_and_opens_from_outside() {
    let stage = CliEnv::new();
    stage.write_file("r.rhai", APPROVAL_RUNBOOK);
    // `--yes` answers no gate.
    let waiting = stage.run_cli(&["run", "r.rhai", "--yes"]);
    assert_eq!((waiting.code, run_status(&stage).as_str()), (3, "waiting"), "{waiting}");
    let next = waiting.stderr.lines().last().unwrap().to_owned();
    assert!(next.starts_with("redrill approve ") && next.ends_with(" --resume"), "{waiting}");
    for (args, on) in [(vec!["runs", "list"], "stderr"), (vec!["runs", "show", "last"], "stdout")] {
        let shown = stage.run_cli(&args);
        let text = if on == "stderr" { &shown.stderr } else { &shown.stdout };
        for said in
            ["waits since 20", "empty the orders?", "whoever can write the state folder", next.as_str()]
        {
            assert!(text.contains(said), "{said}\n{shown}");
        }
    }
    assert_eq!(stage.run_cli(&["resume", "last", "--yes"]).code, 3, "nobody has approved");
    let approved = stage.run_cli(&["approve", "last"]);
    assert_eq!(approved.code, 0, "{approved}");
    assert!(approved.stderr.contains("approved /approve#0"), "{approved}");
    assert_eq!(stage.run_cli(&["reject", "last"]).code, 2, "it was approved");
    let done = stage.run_cli(&["resume", "last"]);
    assert_eq!((done.code, done.stdout.trim(), count_backups(&stage)), (0, "true", 2), "{done}");
    let shown = stage.run_cli(&["runs", "show", "last"]);
    assert!(shown.stdout.contains("decided approve by "), "{shown}");
    assert_eq!(stage.run_cli(&["runs", "verify", "last"]).code, 0);
}

#[test]
fn approved_and_resumed_in_one_command() {
    let stage = CliEnv::new();
    stage.write_file("r.rhai", APPROVAL_RUNBOOK);
    assert_eq!(stage.run_cli(&["run", "r.rhai"]).code, 3);
    let done = stage.run_cli(&["approve", "last", "--resume", "-o", "json"]);
    assert_eq!(done.code, 0, "{done}");
    assert_eq!(done.parse_events().last().unwrap()["status"], "succeeded");
    assert_eq!(stage.run_cli(&["approve", "last"]).code, 2, "it is over");
}

#[test]
fn what_is_rejected_fails_and_cleans_up() {
    let stage = CliEnv::new();
    stage.write_file("r.rhai", APPROVAL_RUNBOOK);
    assert_eq!(stage.run_cli(&["run", "r.rhai"]).code, 3);
    let done = stage.run_cli(&["reject", "last", "--resume"]);
    assert_eq!((done.code, count_backups(&stage)), (1, 2), "{done}");
    assert!(
        done.stderr.contains("rejected: empty the orders?") && done.stderr.contains("REJECTED"),
        "{done}"
    );
}

#[test]
fn an_approval_is_void_for_another_target() {
    let stage = CliEnv::new();
    stage.write_file("r.rhai", APPROVAL_RUNBOOK);
    assert_eq!(stage.run_cli(&["run", "r.rhai"]).code, 3);
    assert_eq!(stage.run_cli(&["approve", "last"]).code, 0);
    std::fs::remove_dir_all(stage.path(".redrill/worlds")).unwrap();
    let done = stage.run_cli(&["resume", "last"]);
    assert_eq!(done.code, 5, "{done}");
    assert!(done.stderr.contains("`sandbox` is not the one that the run began with"), "{done}");
    for said in ["recorded  ", "now       ", "redrill resume", "--edited`", "redrill runs abandon"] {
        assert!(done.stderr.contains(said), "{said}\n{done}");
    }
}

#[test]
fn a_failed_call_is_held_decided_about_and_done() {
    let stage = CliEnv::new();
    stage.write_file(
        "r.rhai",
        &APPROVAL_RUNBOOK.replace("approve(\"empty the orders?\");", "").replace("order_items", "later"),
    );
    let held = stage.run_cli(&["run", "r.rhai", "--hold"]);
    assert_eq!((held.code, run_status(&stage).as_str(), count_backups(&stage)), (3, "waiting", 1), "{held}");
    let next = held.stderr.lines().last().unwrap().to_owned();
    assert!(next.starts_with("redrill runs decide ") && next.ends_with(" '/db::execute#0' redo"), "{held}");
    assert!(stage.run_cli(&["runs", "list"]).stderr.contains("is held since 20"));
    assert_eq!(stage.run_cli(&["resume", "last"]).code, 3, "nobody has decided");
    let decided =
        stage.run_cli(&["runs", "decide", "last", "execute", "done", "--result", "{\"rows_affected\": 3}"]);
    assert_eq!(decided.code, 0, "{decided}");
    let done = stage.run_cli(&["resume", "last", "--hold"]);
    assert_eq!((done.code, done.stdout.trim(), count_backups(&stage)), (0, "true", 2), "{done}");
    // Without `--hold`, it cleans up and fails.
    let failed = stage.run_cli(&["run", "r.rhai"]);
    assert_eq!((failed.code, count_backups(&stage)), (1, 4), "{failed}");
}

#[test]
fn what_a_call_made_is_read_back_by_its_id() {
    let stage = CliEnv::new();
    let script = r#"const RUNBOOK = #{ title: "b", params: #{}, needs: ["branch.create", "db.destroy"] };
        let made = branch::create("sandbox", #{ into: "drill" });
        db::execute("sandbox", "delete from nowhere");"#;
    stage.write_file("r.rhai", script);
    let other = stage.run_cli(&["branch", "create", "-t", "sandbox", "--into", "drill", "-o", "json"]);
    assert_eq!(other.code, 0, "{other}");
    let held = stage.run_cli(&["run", "r.rhai", "--hold"]);
    assert_eq!(held.code, 3, "the name is taken: {held}");
    let decide = |id: &str| stage.run_cli(&["runs", "decide", "last", "create", "done", "--id", id]);
    let refused = decide("branch-none");
    assert_eq!(refused.code, 2, "{refused}");
    assert!(refused.stderr.contains("`branch::list` shows nothing with the id `branch-none`"), "{refused}");
    let decided = decide(other.parse_json()["id"].as_str().unwrap());
    assert_eq!(decided.code, 0, "{decided}");
    let next = stage.run_cli(&["resume", "last", "--hold"]);
    assert_eq!(next.code, 3, "it goes on to the next call: {next}");
    let unnamed = stage.run_cli(&["runs", "decide", "last", "execute", "done", "--id", "1"]);
    assert_eq!(unnamed.code, 2, "{unnamed}");
    assert!(unnamed.stderr.contains("makes nothing that has an id"), "{unnamed}");
}

#[test]
fn an_edited_runbook_goes_on_where_it_matches() {
    let stage = CliEnv::new();
    stage.write_file("r.rhai", APPROVAL_RUNBOOK);
    assert_eq!(stage.run_cli(&["run", "r.rhai"]).code, 3);
    stage.write_file("r.rhai", &APPROVAL_RUNBOOK.replace("\"before\"", "\"prod\""));
    let wrong = stage.run_cli(&["resume", "last", "--edited"]);
    assert_eq!(wrong.code, 5, "{wrong}");
    for said in [
        "--- r.rhai (recorded)",
        "-backup::create(db, #{ label: \"before\" });",
        "+backup::create(db, #{ label: \"prod\" });",
        "the call /backup::create#0 is not the one that was recorded",
        "at        r.rhai:3:9",
        "go on with the recorded source: `redrill resume ",
        "--edited`",
        "give it up and clean up: `redrill runs abandon ",
    ] {
        assert!(wrong.stderr.contains(said), "{said}\n{wrong}");
    }
    // The recorded source is still the one that a resume takes.
    assert_eq!(stage.run_cli(&["resume", "last"]).code, 3);
    stage.write_file(
        "r.rhai",
        &APPROVAL_RUNBOOK.replace("approve(", "import \"./lib\" as lib;\nlib::say();\napprove("),
    );
    stage.write_file("lib.rhai", "fn say() { note(\"from the library\") }");
    let edited = stage.run_cli(&["resume", "last", "--edited"]);
    assert_eq!(edited.code, 3, "{edited}");
    assert!(
        edited.stderr.contains("+++ ./lib (now)") && edited.stderr.contains("• from the library"),
        "{edited}"
    );
    // From here on the edited one is the run's own, files or not.
    std::fs::remove_file(stage.path("lib.rhai")).unwrap();
    let done = stage.run_cli(&["approve", "last", "--resume"]);
    assert_eq!(done.code, 0, "{done}");
    let shown = stage.run_cli(&["runs", "show", "last"]);
    assert!(shown.stdout.contains("resumed with an edited runbook"), "{shown}");
    assert_eq!(stage.run_cli(&["runs", "verify", "last"]).code, 0);
}

/// Leaves a run as a killed process leaves it after these records.
fn leave_killed_run(stage: &CliEnv, records: Vec<Record>) {
    let journal = Journal::open(&stage.path(".redrill"), Arc::new(SystemClock)).unwrap();
    let (runbook, title, version) = ("r.rhai".into(), "r".into(), "0".into());
    let new =
        NewRun { runbook, title, params: json!({}), sources: vec![], git: None, version, leases: vec![] };
    let run = journal.create_run(&new).unwrap();
    for record in records {
        run.append_record(record, Durability::Synced).unwrap();
    }
}

fn begin_record(call: &str) -> Record {
    let (call, op, key) = (call.to_owned(), "backup::create".to_owned(), "k".to_owned());
    Record::Begin { call, op, args: json!({}), key, at: "r.rhai:1:1".into() }
}

#[test]
fn nobody_decides_about_a_call_that_the_world_can_still_be_asked_about() {
    let undecided = |at_call: &str| Record::Stopped {
        status: RunStatus::Undecided,
        reason: "nobody knows".into(),
        mismatch: false,
        at_call: Some(at_call.to_owned()),
    };
    let waiting = || Record::Stopped {
        status: RunStatus::Waiting,
        reason: "an approval".into(),
        mismatch: false,
        at_call: Some("/approve#0".into()),
    };
    let (cut, unknown) = ("/parallel#0/0/backup::create#0", "/parallel#0/1/backup::create#0");
    for (records, about) in [
        (vec![begin_record(cut)], "the killed one"),
        (vec![begin_record(cut), waiting()], "one beside a gate"),
        (vec![begin_record(cut), begin_record(unknown), undecided(unknown)], "one beside an undecided one"),
    ] {
        let stage = CliEnv::new();
        leave_killed_run(&stage, records);
        let refused = stage.run_cli(&["runs", "decide", "last", "/0/backup", "redo"]);
        assert_eq!(refused.code, 2, "{about}: {refused}");
        assert!(
            refused.stderr.contains("was cut short") && refused.stderr.contains("a resume asks"),
            "{refused}"
        );
        assert!(refused.stderr.lines().last().unwrap().starts_with("redrill resume "), "{refused}");
    }
    let stage = CliEnv::new();
    leave_killed_run(&stage, vec![begin_record(cut), begin_record(unknown), undecided(unknown)]);
    assert_eq!(stage.run_cli(&["runs", "decide", "last", "backup", "redo"]).code, 0, "it is the only one");
}

#[test]
fn nobody_decides_about_a_failure_that_the_script_went_on_with() {
    let stage = CliEnv::new();
    let fault = json!({"code": "REFUSED", "message": "no"});
    let (op, at) = ("backup::create".to_owned(), "r.rhai:1:1".to_owned());
    let end = Record::End { call: "/a#0".into(), op, args: json!({}), at, outcome: Outcome::Err(fault) };
    leave_killed_run(&stage, vec![begin_record("/a#0"), end]);
    let refused = stage.run_cli(&["runs", "decide", "last", "a#0", "redo"]);
    assert_eq!(refused.code, 2, "{refused}");
    assert!(refused.stderr.contains("no open call `a#0`"), "{refused}");
}

#[test]
fn the_command_that_is_printed_opens_one_gate_of_several() {
    let stage = CliEnv::new();
    let gates = (0..11).map(|n| format!("approve(\"gate {n}?\");")).collect::<Vec<_>>().join(" ");
    stage.write_file(
        "r.rhai",
        &format!("const RUNBOOK = #{{ title: \"gates\", params: #{{}}, needs: [] }};\nparallel([|| {{ {gates} 1 }}, || {{ approve(\"other?\"); 2 }}])"),
    );
    let mut done = stage.run_cli(&["run", "r.rhai"]);
    for _ in 0..12 {
        assert_eq!(done.code, 3, "{done}");
        let next = done.stderr.lines().last().unwrap().replace('\'', "");
        let words: Vec<&str> = next.split(' ').skip(1).collect();
        done = stage.run_cli(&words);
    }
    assert_eq!((done.code, done.stdout.trim()), (0, "1\n2"), "{done}");
}

#[test]
fn an_edited_runbook_that_handles_a_held_error_goes_on_to_its_end() {
    let stage = CliEnv::new();
    let script =
        APPROVAL_RUNBOOK.replace("approve(\"empty the orders?\");", "").replace("order_items", "later");
    stage.write_file("r.rhai", &script);
    assert_eq!(stage.run_cli(&["run", "r.rhai", "--hold"]).code, 3);
    let handled = script.replace(
        "db::execute(db, \"delete from later\").rows_affected > 0",
        "attempt(|| db::execute(db, \"delete from later\")).ok",
    );
    assert_ne!(handled, script);
    stage.write_file("r.rhai", &handled);
    let done = stage.run_cli(&["resume", "last", "--edited"]);
    assert_eq!((done.code, done.stdout.trim(), count_backups(&stage)), (0, "false", 2), "{done}");
    assert!(!stage.run_cli(&["runs", "show", "last"]).stdout.contains("open  "), "nothing is open");
}

#[test]
fn what_a_gate_cuts_short_beside_it_is_said_to_go_on() {
    let stage = CliEnv::new();
    let header = APPROVAL_RUNBOOK.lines().take(2).collect::<Vec<_>>().join("\n");
    let beside = "parallel([|| { sleep(\"60ms\"); approve(\"go on?\") }, || each([1, 2, 3, 4, 5], |x| { let n = 0; while n < 400 { backup::create(db, #{ label: `b${x}-${n}` }); n += 1; } })])";
    stage.write_file("r.rhai", &format!("{header}\n{beside}"));
    // The gate may stop the run between two calls, too.
    for _ in 0..20 {
        let waiting = stage.run_cli(&["run", "r.rhai"]);
        assert_eq!(waiting.code, 3, "{waiting}");
        assert!(!waiting.stderr.contains("goes on in the world: approve"), "{waiting}");
        if stage.run_cli(&["runs", "show", "last"]).stdout.contains("open  backup::create  ") {
            assert!(waiting.stderr.contains("goes on in the world: backup::create ("), "{waiting}");
            return;
        }
    }
    panic!("no call was ever cut short");
}

#[test]
fn a_sleep_says_until_when() {
    let stage = CliEnv::new();
    stage.write_file(
        "r.rhai",
        "const RUNBOOK = #{ title: \"s\", params: #{}, needs: [] }; sleep(\"1s\"); sleep(\"2s\");",
    );
    let done = stage.run_cli(&["run", "r.rhai"]);
    assert_eq!(done.stderr.matches("… sleeps until 20").count(), 1, "the first is shorter by now: {done}");
    let events = stage.run_cli(&["run", "r.rhai", "-o", "json"]).parse_events();
    assert!(events.iter().any(|e| e["event"] == "sleeping" && e["until"].is_string()), "{events:?}");
}

#[test]
fn what_was_approved_goes_on_after_the_name_was_forgotten() {
    let stage = CliEnv::new();
    stage
        .write_file("redrill.toml", "[targets.p]\nprovider = \"sim\"\nworld = \"sandbox\"\nprotect = true\n");
    stage.write_file("r.rhai", &APPROVAL_RUNBOOK.replace("\"sandbox\"", "\"p\""));
    assert_eq!(stage.run_cli(&["run", "r.rhai", "--confirm", "p"]).code, 3);
    let refused = stage.run_cli(&["approve", "last", "--resume"]);
    assert_eq!(refused.code, 6, "{refused}");
    let next = refused.stderr.lines().last().unwrap();
    assert!(next.starts_with("redrill resume ") && next.ends_with(" --confirm p"), "{refused}");
    let words: Vec<&str> = next.split(' ').skip(1).collect();
    assert_eq!(stage.run_cli(&words).code, 0);
}

#[test]
fn a_resume_that_asks_for_a_word_more_keeps_the_others() {
    let stage = CliEnv::new();
    stage
        .write_file("redrill.toml", "[targets.p]\nprovider = \"sim\"\nworld = \"sandbox\"\nprotect = true\n");
    stage.write_file("r.rhai", &APPROVAL_RUNBOOK.replace("\"sandbox\"", "\"p\""));
    assert_eq!(stage.run_cli(&["run", "r.rhai", "--confirm", "p"]).code, 3);
    let refused = stage.run_cli(&["resume", "last", "--edited", "--hold"]);
    let next = refused.stderr.lines().last().unwrap();
    assert!(next.ends_with(" --edited --hold --confirm p"), "{refused}");
}

#[test]
fn an_ended_run_shows_its_error_as_when_it_ended() {
    let stage = CliEnv::new();
    stage.write_file("r.rhai", "const RUNBOOK = #{ title: \"f\", params: #{}, needs: [] };\nfail(\"no\");");
    let ended = stage.run_cli(&["run", "r.rhai", "-o", "json"]);
    let again = stage.run_cli(&["resume", "last", "-o", "json"]);
    let error = |done: &crate::stage::CommandOutput| done.parse_events().last().unwrap()["error"].clone();
    assert_eq!(error(&ended)["message"], "no");
    let (ended, again) = (error(&ended), error(&again));
    assert_eq!((&ended["message"], &ended["place"]), (&again["message"], &again["place"]));
}
