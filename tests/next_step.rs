//! What is printed to be typed next, typed: whatever a run came to, the last line that it prints brings it on.

use crate::env::{CliEnv, CommandOutput, interrupt_child, sandbox_runbook};
use redrill::{
    base::{
        clock::{Clock as _, SystemClock, VirtualClock},
        moment::Moment,
    },
    journal::{Durability, Journal, NewRun, Quarantine, Record, RunStatus, Source},
};
use serde_json::json;
use std::sync::Arc;

const GATE: &str = r#"let db = params.db; backup::create(db, #{ label: "before" }); approve("go on?"); backup::create(db, #{ label: "end" }).label"#;
const FAILING: &str = r#"let db = params.db; db::execute(db, "delete from nowhere")"#;
const NEEDS: &str = r#""backup.create", "db.destroy", "branch.create""#;

/// Returns the last line that a command printed for a person.
pub fn next_line(done: &CommandOutput) -> String {
    done.stderr.lines().last().unwrap_or_default().trim().to_owned()
}

/// Types a printed line.
pub fn type_line(env: &CliEnv, line: &str) -> CommandOutput {
    assert!(line.starts_with("redrill "), "`{line}` is no command");
    let mut words = Vec::new();
    for (at, part) in line.split('\'').enumerate() {
        match at % 2 {
            0 => words.extend(part.split_whitespace()),
            _ => words.push(part),
        }
    }
    env.run_cli(&words[1..])
}

/// Types what is printed, until a command is done or shows a run that has ended; returns how it ended.
pub fn follow(env: &CliEnv, mut done: CommandOutput) -> String {
    for _ in 0..8 {
        let status = env.list_runs()[0]["status"].as_str().unwrap().to_owned();
        if ["succeeded", "failed", "abandoned"].contains(&status.as_str()) {
            return status;
        }
        let line = next_line(&done);
        let shows = line.starts_with("redrill runs show");
        done = type_line(env, &line);
        assert_ne!(done.code, 2, "`{line}` is no use\n{done}");
        assert!(!shows || next_line(&done) != line, "it goes round in a circle: `{line}`\n{done}");
    }
    panic!("no end comes: {done}");
}

fn env_with(script: &str) -> CliEnv {
    let env = CliEnv::new();
    env.write_file("r.rhai", &sandbox_runbook(NEEDS, script));
    env
}

#[test]
fn whoever_rejects_an_edited_text_goes_on_with_the_one_before() {
    let gated =
        |then: &str| sandbox_runbook(NEEDS, &format!("let db = params.db; approve(\"go on?\"); {then}"));
    let failing = r#"db::execute(db, "delete from nowhere")"#;
    let env = CliEnv::new();
    env.write_file("r.rhai", &gated(failing));
    assert_eq!(env.run_cli(&["run", "r.rhai"]).code, 3);
    let held = env.run_cli(&["approve", "last", "--resume", "--hold"]);
    assert_eq!(held.code, 3, "{held}");
    assert_eq!(env.run_cli(&["runs", "decide", "last", "db::execute", "fail"]).code, 0);
    let edited = format!("attempt(|| {failing}); backup::create(db, #{{ label: \"new\" }}).label");
    env.write_file("r.rhai", &gated(&edited));
    let asked = env.run_cli(&["resume", "last", "--edited"]);
    assert!(asked.code == 3 && asked.stderr.contains("edited since it came past"), "{asked}");
    let rejected = env.run_cli(&["reject", "last", "--resume"]);
    assert_eq!(rejected.code, 5, "{rejected}");
    for said in ["rejected the edited text", "the edited text is dropped, and nothing of it was done"] {
        assert!(rejected.stderr.contains(said), "{rejected}");
    }
    assert!(next_line(&rejected).starts_with("redrill resume "), "{rejected}");
    assert_eq!(follow(&env, rejected), "failed");
    assert!(!env.sandbox_effects().contains_key("backup.create"), "nothing of the edited text was done");
}

#[test]
fn a_run_that_waits_is_brought_on_by_what_is_printed() {
    for decision in ["approve", "reject"] {
        let env = env_with(GATE);
        let waiting = env.run_cli(&["run", "r.rhai"]);
        assert_eq!(waiting.code, 3, "{waiting}");
        for shown in [env.run_cli(&["runs", "list"]), env.run_cli(&["runs", "show", "last"])] {
            assert_eq!(next_line(&shown), next_line(&waiting), "{shown}");
        }
        // Decided and not resumed: from then on it is a resume.
        let decided = env.run_cli(&[decision, "last"]);
        for shown in [&decided, &env.run_cli(&["runs", "list"]), &env.run_cli(&["runs", "show", "last"])] {
            assert!(next_line(shown).starts_with("redrill resume "), "{shown}");
        }
        let ended = follow(&env, decided);
        assert_eq!(ended, if decision == "approve" { "succeeded" } else { "failed" });
    }
    let env = env_with(GATE);
    let waiting = env.run_cli(&["run", "r.rhai"]);
    assert_eq!(follow(&env, waiting), "succeeded");
}

#[test]
fn a_protected_target_is_named_in_what_is_printed() {
    let env = env_with(GATE);
    env.write_file("redrill.toml", "[targets.p]\nprovider = \"sim\"\nworld = \"sandbox\"\nprotect = true\n");
    let refused = env.run_cli(&["run", "r.rhai", "-p", "db=p"]);
    assert_eq!(refused.code, 6, "{refused}");
    let waiting = type_line(&env, &next_line(&refused));
    assert_eq!(waiting.code, 3, "{waiting}");
    // The line without the name decides nothing.
    let bare = env.run_cli(&["approve", "last", "--resume"]);
    assert_eq!(bare.code, 6, "{bare}");
    assert_eq!(next_line(&bare), next_line(&waiting));
    assert_eq!(follow(&env, waiting), "succeeded");
}

#[test]
fn a_held_call_is_brought_on_by_what_is_printed() {
    let env = env_with(FAILING);
    let held = env.run_cli(&["run", "r.rhai", "--hold"]);
    assert_eq!(held.code, 3, "{held}");
    assert!(next_line(&held).ends_with(" redo"), "{held}");
    let decided = type_line(&env, &next_line(&held));
    assert!(next_line(&decided).starts_with("redrill resume "), "{decided}");
    assert_eq!(follow(&env, decided), "failed");
}

#[test]
fn a_killed_run_is_brought_on_by_what_is_listed() {
    let env = env_with("let db = params.db; backup::create(db, #{ label: \"a\" }); sleep(\"2s\"); 1");
    let mut child = env.start_until_calls(&["run", "r.rhai"], 2);
    child.kill().unwrap();
    child.wait().unwrap();
    let listed = env.run_cli(&["runs", "list"]);
    assert_eq!(follow(&env, listed), "succeeded");
}

#[test]
fn an_interrupted_run_is_brought_on_by_what_it_printed() {
    let env = env_with("let db = params.db; backup::create(db, #{ label: \"a\" }); sleep(\"2s\"); 1");
    let child = env.start_until_calls(&["run", "r.rhai"], 2);
    interrupt_child(&child);
    let stopped = child.wait_with_output().unwrap().into();
    assert_eq!(follow(&env, stopped), "succeeded");
}

#[test]
fn a_killed_session_is_ended_by_what_is_listed() {
    let env = env_with(GATE);
    let input = "backup::create(db, #{ label: \"a\" });\nsleep(\"10m\");\n";
    let mut child = env.start_session(&["repl", "-t", "sandbox"], input);
    env.wait_for_run(|run| run["calls"].as_u64().unwrap_or(0) >= 2);
    child.kill().unwrap();
    child.wait().unwrap();
    let listed = env.run_cli(&["runs", "list"]);
    assert!(next_line(&listed).starts_with("redrill runs abandon "), "{listed}");
    assert_eq!(follow(&env, listed), "abandoned");
}

#[test]
fn an_edit_that_does_not_match_is_brought_on_by_what_is_printed() {
    let env = env_with(GATE);
    assert_eq!(env.run_cli(&["run", "r.rhai"]).code, 3);
    env.write_file("r.rhai", &sandbox_runbook(NEEDS, &GATE.replace("approve(\"go on?\");", "")));
    let stopped = env.run_cli(&["resume", "last", "--edited"]);
    assert_eq!(stopped.code, 5, "{stopped}");
    assert_eq!(follow(&env, stopped), "succeeded", "the recorded text goes on");
}

const GATED_CLEAN_UP: &str = r#"let db = params.db; backup::create(db, #{ label: "before" }); defer(|| { approve("clean up?"); backup::create(db, #{ label: "end" }) }); approve("go on?"); 1"#;

#[test]
fn a_gate_in_the_clean_up_of_a_run_that_is_given_up_is_the_one_that_is_printed() {
    for decision in ["approve", "reject"] {
        let env = env_with(GATED_CLEAN_UP);
        assert_eq!(env.run_cli(&["run", "r.rhai"]).code, 3);
        let waiting = env.run_cli(&["runs", "abandon", "last"]);
        assert_eq!(waiting.code, 3, "{waiting}");
        for shown in [env.run_cli(&["runs", "list"]), env.run_cli(&["runs", "show", "last"])] {
            assert_eq!(next_line(&shown), next_line(&waiting), "{shown}");
        }
        // The gate of the script is open as well, and the run does not come to it any more.
        let passed = env.run_cli(&[decision, "last", "/approve#0"]);
        assert!(passed.code == 2 && passed.stderr.contains("does not come to the approval"), "{passed}");
        assert!(next_line(&passed).starts_with(&format!("redrill {decision} ")), "{passed}");
        let line = next_line(&waiting).replace("redrill approve", &format!("redrill {decision}"));
        let done = type_line(&env, &line);
        assert!(done.stderr.contains("//end/defer#0/approve#0"), "{done}");
        assert_eq!(follow(&env, done), "abandoned");
        let made = if decision == "approve" { 2 } else { 1 };
        assert_eq!(env.sandbox_effects()["backup.create"], made);
        let left = env.list_runs()[0]["left_behind"].to_string();
        assert!(!left.contains("what /approve#0 began"), "a gate begins nothing: {left}");
    }
}

#[test]
fn a_gate_is_nothing_that_is_left_behind() {
    let env = env_with(GATE);
    assert_eq!(env.run_cli(&["run", "r.rhai"]).code, 3);
    let left = env.run_cli(&["runs", "abandon", "last", "--leave"]);
    assert!(left.code == 0 && left.stderr.ends_with("left behind: nothing\n"), "{left}");
}

#[test]
fn what_is_printed_finds_the_same_configuration_and_the_same_state() {
    let env = env_with(&GATE.replace("\"sandbox\"", "\"p\""));
    env.write_file("my shop/c.toml", "[targets.p]\nprovider = \"sim\"\nworld = \"sandbox\"\n");
    let places = ["--config", "my shop/c.toml", "--state=kept"];
    let run = [&["run", "r.rhai", "-p", "db=p"][..], &places].concat();
    let waiting = env.run_cli(&run);
    assert_eq!(waiting.code, 3, "{waiting}");
    let line = next_line(&waiting);
    assert!(line.ends_with(" --resume --config 'my shop/c.toml' --state kept"), "{waiting}");
    let hinted = line.replace("redrill approve", "or `redrill reject") + "`";
    assert!(waiting.stderr.contains(&hinted), "{waiting}");
    for command in [&["runs", "list"][..], &["runs", "show", "last"], &["approve", "last", "x"]] {
        let shown = env.run_cli(&[command, &places].concat());
        assert_eq!(next_line(&shown), line, "{shown}");
    }
    let approved = env.run_cli(&[&["approve", "last"][..], &places].concat());
    let done = type_line(&env, &next_line(&approved));
    assert_eq!(done.code, 0, "{done}");
    let events = env.run_cli(&[&run[..], &["-o", "json"]].concat()).parse_events();
    let stopped = events.last().unwrap();
    for field in ["next", "resume"] {
        assert_eq!(type_line(&env, stopped[field].as_str().unwrap()).code, 0, "{stopped}");
    }
    assert!(!env.path(".redrill").exists(), "no line has looked in another place");
    // What a variable says stays said in the shell.
    let variables = [("REDRILL_STATE", "kept"), ("REDRILL_CONFIG", "my shop/c.toml")];
    let waiting = env.run_cli_with_variables(&["run", "r.rhai", "-p", "db=p"], &variables);
    assert!(next_line(&waiting).ends_with(" --resume"), "{waiting}");
}

#[test]
fn nothing_is_decided_about_a_target_that_is_gone_and_nothing_that_ends_the_run_is_printed() {
    let env = env_with(GATE);
    let config = "[targets.p]\nprovider = \"sim\"\nworld = \"sandbox\"\n";
    env.write_file("redrill.toml", config);
    assert_eq!(env.run_cli(&["run", "r.rhai", "-p", "db=p"]).code, 3);
    env.write_file("redrill.toml", "");
    for command in
        [&["approve", "last"][..], &["reject", "last"], &["approve", "last", "--resume"], &["resume", "last"]]
    {
        let refused = env.run_cli(command);
        assert!(refused.code == 2 && refused.stderr.contains("there is no target `p`"), "{refused}");
        assert!(refused.stderr.contains("configure it, and then `redrill "), "{refused}");
        assert!(next_line(&refused).starts_with(&format!("redrill {} ", command[0])), "{refused}");
    }
    let shown = env.run_cli(&["runs", "show", "last"]);
    assert!(!shown.stdout.contains("decided"), "{shown}");
    env.write_file("redrill.toml", config);
    assert_eq!(follow(&env, shown), "succeeded", "it waits as before");
    assert_eq!(env.run_cli(&["run", "r.rhai", "-p", "db=p"]).code, 3);
    env.write_file("redrill.toml", "");
    let abandoned = env.run_cli(&["runs", "abandon", "last"]);
    assert_eq!(follow(&env, abandoned), "abandoned", "there is a way to end it");
}

#[test]
fn a_gate_in_the_clean_up_whose_target_is_gone_does_not_keep_the_run_from_its_end() {
    let env = env_with(GATED_CLEAN_UP);
    env.write_file("redrill.toml", "[targets.p]\nprovider = \"sim\"\nworld = \"sandbox\"\n");
    assert_eq!(env.run_cli(&["run", "r.rhai", "-p", "db=p"]).code, 3);
    assert_eq!(env.run_cli(&["runs", "abandon", "last"]).code, 3);
    env.write_file("redrill.toml", "");
    let refused = env.run_cli(&["runs", "abandon", "last"]);
    assert!(refused.code == 6 && next_line(&refused).ends_with(" --leave"), "{refused}");
    assert_eq!(follow(&env, refused), "abandoned");
}

#[test]
fn a_run_whose_world_was_begun_anew_is_ended_by_what_is_printed() {
    for (script, types_gate) in [(GATE, false), (GATED_CLEAN_UP, true)] {
        let env = env_with(&script.replace("approve(\"clean up?\"); ", ""));
        assert_eq!(env.run_cli(&["run", "r.rhai"]).code, 3);
        assert_eq!(env.run_cli(&["world", "reset", "-t", "sandbox", "--yes"]).code, 0);
        let listed = env.run_cli(&["runs", "list"]);
        let refused = type_line(&env, &next_line(&listed));
        assert!(refused.code == 5 && refused.stderr.contains("nothing was decided"), "{refused}");
        assert!(!env.run_cli(&["runs", "show", "last"]).stdout.contains("decided"));
        if types_gate {
            let abandoned = type_line(&env, &next_line(&refused));
            assert!(next_line(&abandoned).ends_with(" --leave"), "{abandoned}");
            let listed = env.run_cli(&["runs", "list"]);
            assert_eq!(next_line(&listed), next_line(&abandoned), "{listed}");
        }
        assert_eq!(follow(&env, refused), "abandoned");
    }
}

/// A call that was cut short, on a target that is another by now: giving the run up meets that before it is ending.
#[test]
fn a_run_that_cannot_be_given_up_on_its_target_is_ended_as_it_is() {
    let env = CliEnv::new();
    let identity = json!({ "id": "sim:gone", "description": "the world of before" });
    let args = json!({ "target": { "$target": "sandbox" }, "label": "a" });
    let (call, op, key) = ("/backup::create#0".to_owned(), "backup::create".to_owned(), "k".to_owned());
    env.leave_run(
        "0",
        vec![
            Record::Target { name: "sandbox".into(), identity },
            Record::Begin { call, op, args, key, at: "r.rhai:1:1".into() },
        ],
    );
    let refused = env.run_cli(&["runs", "abandon", "last"]);
    assert!(refused.code == 5 && next_line(&refused).ends_with(" --leave"), "{refused}");
    for args in [["runs", "list"].as_slice(), &["runs", "show", "last"]] {
        let shown = env.run_cli(args);
        assert_eq!(next_line(&shown), next_line(&refused), "{shown}");
    }
    assert_eq!(follow(&env, refused), "abandoned");
}

#[test]
fn an_approval_before_an_edit_is_brought_on_by_what_is_printed() {
    let env = env_with(GATE);
    assert_eq!(env.run_cli(&["run", "r.rhai"]).code, 3);
    assert_eq!(env.run_cli(&["approve", "last"]).code, 0);
    env.write_file("r.rhai", &sandbox_runbook(NEEDS, &GATE.replace(".label", "")));
    let stopped = env.run_cli(&["resume", "last", "--edited"]);
    assert_ne!(stopped.code, 0, "{stopped}");
    assert!(
        !stopped.stderr.contains("as it is now: `redrill resume"),
        "the same would be said again: {stopped}"
    );
    assert_eq!(follow(&env, stopped), "succeeded");
}

#[test]
fn a_command_for_a_call_of_another_kind_says_which_one_is_for_it() {
    let env = env_with(GATE);
    assert_eq!(env.run_cli(&["run", "r.rhai"]).code, 3);
    let unknown = env.run_cli(&["approve", "last", "X"]);
    assert!(unknown.code == 2 && unknown.stderr.contains("has no approval `X`"), "{unknown}");
    assert!(unknown.stderr.contains("it waits for '/approve#0'"), "{unknown}");
    let other = env.run_cli(&["approve", "last", "backup"]);
    assert!(other.stderr.contains("is a call of `backup::create`, and no approval"), "{other}");
    let gate = env.run_cli(&["runs", "decide", "last", "approve", "redo"]);
    assert!(gate.code == 2 && gate.stderr.contains("`/approve#0` is an approval"), "{gate}");
    for line in [next_line(&unknown), next_line(&gate)] {
        assert!(line.starts_with("redrill approve ") && line.ends_with(" --resume"), "{line}");
    }
    assert_eq!(follow(&env, gate), "succeeded");

    let env = env_with(FAILING);
    assert_eq!(env.run_cli(&["run", "r.rhai", "--hold"]).code, 3);
    let held = env.run_cli(&["approve", "last", "execute"]);
    assert!(held.code == 2 && held.stderr.contains("is a call of `db::execute`, and no approval"), "{held}");
    assert!(next_line(&held).ends_with(" '/db::execute#0' redo"), "{held}");
    assert_eq!(follow(&env, held), "failed");
}

#[test]
fn the_decision_that_was_typed_is_the_one_that_is_printed() {
    let env = env_with(r#"parallel([|| { approve("one?"); 1 }, || { approve("two?"); 2 }])"#);
    env.write_file("redrill.toml", "[targets.p]\nprovider = \"sim\"\nworld = \"sandbox\"\nprotect = true\n");
    assert_eq!(env.run_cli(&["run", "r.rhai", "-p", "db=p", "--confirm", "p"]).code, 3);
    let mut waiting = env.run_cli(&["resume", "last", "--confirm", "p"]);
    // Both are asked for once both have begun.
    for _ in 0..20 {
        if env.run_cli(&["runs", "show", "last"]).stdout.matches("open  approve").count() == 2 {
            break;
        }
        waiting = env.run_cli(&["resume", "last", "--confirm", "p"]);
    }
    assert_eq!(waiting.code, 3, "{waiting}");
    let refused = env.run_cli(&["reject", "last", "--resume"]);
    let line = next_line(&refused);
    assert!(line.starts_with("redrill reject ") && line.ends_with(" --resume"), "{refused}");
    let refused = type_line(&env, &line);
    let line = next_line(&refused);
    assert!(refused.code == 6 && line.ends_with(" --resume --confirm p"), "{refused}");
    let done = type_line(&env, &line);
    assert!(done.stderr.contains(" rejected /parallel#0/"), "{done}");
}

/// Leaves a run that waits at a gate since some hours, by a clock that may have been set back since, and may destroy something.
fn leave_gate(env: &CliEnv, hours: i64) {
    let since = Moment(jiff::Timestamp::now() - jiff::SignedDuration::from_hours(hours));
    let clock = Arc::new(VirtualClock::starting_at(since));
    let journal = Journal::open(&env.path(".redrill"), clock).unwrap();
    let text = sandbox_runbook("\"db.destroy\"", "approve(\"go on?\");");
    let (path, title) = ("r.rhai".to_owned(), "r".to_owned());
    let sources = vec![Source { path: path.clone(), text }];
    let params = json!({});
    let new =
        NewRun { runbook: path, title, params, sources, git: None, version: "0".into(), leases: vec![] };
    let run = journal.create_run(&new).unwrap();
    let (call, op, key) = ("/approve#0".to_owned(), "approve".to_owned(), "k".to_owned());
    let args = json!({ "message": "go on?" });
    for record in [
        Record::Begin { call: call.clone(), op, args, key, at: "r.rhai:1:1".into() },
        Record::Accepted { call: call.clone(), what: json!({ "hash": "h", "targets": [] }) },
        Record::Stopped {
            status: RunStatus::Waiting,
            reason: "waits".into(),
            mismatch: false,
            at_call: Some(call),
            unconfirmed: None,
        },
    ] {
        run.append_record(record, Durability::Synced).unwrap();
    }
}

#[test]
fn an_old_run_is_approved_and_resumed_by_the_same_rule_as_resumed() {
    for hours in [2, -25] {
        check_rule_of_old_runs(hours);
    }
}

fn check_rule_of_old_runs(hours: i64) {
    let env = CliEnv::new();
    leave_gate(&env, hours);
    let resumed = env.run_cli(&["resume", "last"]);
    let refused = env.run_cli(&["approve", "last", "--resume"]);
    for (done, word) in [(&resumed, "resume"), (&refused, "approve")] {
        assert!(done.code == 6 && done.stderr.contains("the run may `db.destroy`"), "{done}");
        assert!(done.stderr.contains("look at the world first"), "{done}");
        let line = next_line(done);
        assert!(line.starts_with(&format!("redrill {word} ")) && line.ends_with(" --yes"), "{done}");
    }
    assert!(refused.stderr.contains("nothing was decided"), "{refused}");
    for shown in [env.run_cli(&["runs", "list"]), env.run_cli(&["runs", "show", "last"])] {
        assert_eq!(next_line(&shown), next_line(&refused), "{shown}");
    }
    assert!(!env.run_cli(&["runs", "show", "last"]).stdout.contains("decided"));
    let approved = type_line(&env, &next_line(&refused));
    assert!(approved.stderr.contains(" approved /approve#0"), "{approved}");
}

#[test]
fn what_no_look_can_tell_is_decided_and_not_resumed_first() {
    let opaque = json!({ "shape": "opaque", "request": "`POST /v1/x`" });
    let boot = || json!({ "boot": "b", "millis": 5 });
    let workflow = json!({ "shape": "job", "traces": { "kind": "reset" }, "sent_by": boot() });
    let keyed = json!({ "shape": "job", "traces": null, "sent_by": boot() });
    for (op, written_down, is_decided) in [
        ("supabase::request", &opaque, true),
        ("branch::reset", &workflow, true),
        ("branch::promote", &workflow, true),
        ("branch::promote", &keyed, false),
        ("backup::restore", &workflow, false),
    ] {
        let env = CliEnv::new();
        let call = "/x#0".to_owned();
        let (key, at) = ("k".to_owned(), "r.rhai:1:1".to_owned());
        env.leave_run(
            "0",
            vec![
                Record::Begin { call: call.clone(), op: op.to_owned(), args: json!({}), key, at },
                Record::Accepted { call: call.clone(), what: written_down.clone() },
                Record::Stopped {
                    status: RunStatus::Undecided,
                    reason: "nobody knows".into(),
                    mismatch: false,
                    at_call: Some(call.clone()),
                    unconfirmed: None,
                },
            ],
        );
        let line = next_line(&env.run_cli(&["runs", "list"]));
        assert_eq!(line.ends_with(" '/x#0' fail"), is_decided, "{op} {written_down}: {line}");
        assert_eq!(line.starts_with("redrill resume "), !is_decided, "{op} {written_down}: {line}");
        if !is_decided {
            continue;
        }
        // Where nobody knows until when it may land, whoever decides says so.
        let journal = Journal::open(&env.path(".redrill"), Arc::new(SystemClock)).unwrap();
        let run = env.list_runs()[0]["id"].as_str().unwrap().to_owned();
        let sent_by = SystemClock.uptime();
        let endless = Quarantine { place: "p".into(), part: None, run, call, sent_by, span: None };
        journal.put_under_quarantine(&[endless]).unwrap();
        let line = next_line(&env.run_cli(&["runs", "list"]));
        assert!(line.ends_with(" '/x#0' fail --anyway"), "{line}");
        let decided = type_line(&env, &line);
        assert!(decided.code == 0 && next_line(&decided).starts_with("redrill resume "), "{decided}");
    }
}

#[test]
fn a_branch_whose_target_has_another_name_is_left_behind_and_told() {
    let env = env_with(r#"branch::create(params.db, #{ into: "tmp", temporary: true }); approve("go on?")"#);
    let target = |name: &str| format!("[targets.{name}]\nprovider = \"sim\"\nworld = \"sandbox\"\n");
    env.write_file("redrill.toml", &target("p"));
    assert_eq!(env.run_cli(&["run", "r.rhai", "-p", "db=p"]).code, 3);
    env.write_file("redrill.toml", &target("q"));
    let refused = env.run_cli(&["resume", "last"]);
    assert!(next_line(&refused).starts_with("redrill resume "), "{refused}");
    let line = refused.stderr.split('`').find(|part| part.starts_with("redrill runs abandon "));
    let abandoned = type_line(&env, line.expect("it is hinted at"));
    assert_eq!(abandoned.code, 1, "{abandoned}");
    assert_eq!(env.list_runs()[0]["left_behind"], json!(["branch p/tmp"]), "{abandoned}");
    env.write_file("redrill.toml", &target("p"));
    let there = env.run_cli(&["branch", "list", "-t", "p", "-o", "json"]);
    assert_eq!(there.parse_json()[0]["name"], "tmp", "{there}");
}

#[test]
fn a_protected_target_that_the_text_does_not_name_is_named_in_what_is_printed() {
    let env = env_with(
        r#"backup::create("sandbox", #{ label: "a" }); db::execute(target(params.name), "update orders set id = id")"#,
    );
    let text = sandbox_runbook(NEEDS, "");
    let header = r#"name: #{ type: "string", preset: "p" }"#;
    assert!(text.contains("params: #{"), "{text}");
    let script = std::fs::read_to_string(env.path("r.rhai")).unwrap();
    env.write_file("r.rhai", &script.replacen("params: #{", &format!("params: #{{ {header},"), 1));
    env.write_file("redrill.toml", "[targets.p]\nprovider = \"sim\"\nworld = \"sandbox\"\nprotect = true\n");
    let refused = env.run_cli(&["run", "r.rhai"]);
    assert!(refused.code == 6 && next_line(&refused).ends_with(" --confirm p"), "{refused}");
    let listed = env.run_cli(&["runs", "list"]);
    assert_eq!(next_line(&listed), next_line(&refused));
    let bare = env.run_cli(&["resume", "last"]);
    assert!(bare.code == 6 && next_line(&bare).ends_with(" --confirm p"), "{bare}");
    assert_eq!(follow(&env, bare), "succeeded");
}

#[test]
fn whoever_says_no_to_a_gate_that_is_not_there_is_not_given_a_yes_to_type() {
    let env = env_with(GATE);
    assert_eq!(env.run_cli(&["run", "r.rhai"]).code, 3);
    let refused = env.run_cli(&["reject", "last", "other", "--resume"]);
    let line = next_line(&refused);
    assert!(
        refused.code == 2 && line.starts_with("redrill reject ") && line.ends_with(" --resume"),
        "{refused}"
    );
    assert_eq!(follow(&env, refused), "failed");
}

#[test]
fn nothing_is_decided_about_a_session_whose_process_is_gone() {
    let env = env_with(GATE);
    let mut child = env.start_session(&["repl", "-t", "sandbox"], "backup::create(db);\nsleep(\"10m\");\n");
    env.wait_for_run(|run| run["calls"].as_u64().unwrap_or(0) >= 2);
    child.kill().unwrap();
    child.wait().unwrap();
    let refused = env.run_cli(&["approve", "last", "--resume"]);
    assert!(refused.code == 2 && refused.stderr.contains("nothing was decided"), "{refused}");
    assert_eq!(follow(&env, refused), "abandoned");
}

#[test]
fn a_run_that_can_be_ended_is_not_offered_for_removal() {
    let env = env_with(GATE);
    assert_eq!(env.run_cli(&["run", "r.rhai"]).code, 3);
    let refused = env.run_cli(&["runs", "prune", "last"]);
    assert!(refused.code == 2 && next_line(&refused).starts_with("redrill approve "), "{refused}");
    assert_eq!(follow(&env, refused), "succeeded");
}

#[test]
fn a_decision_takes_the_run_over_from_the_process_that_waits() {
    let env = env_with(GATE);
    assert_eq!(env.run_cli(&["run", "r.rhai"]).code, 3);
    let journal = Journal::open(&env.path(".redrill"), Arc::new(SystemClock)).unwrap();
    let id = journal.resolve_run_id("last").unwrap();
    let run = journal.acquire_run(&id).unwrap();
    let held = env.run_cli(&["approve", "last"]);
    assert!(held.code == 2 && held.stderr.contains("nothing was decided"), "{held}");
    let line = held.stderr.split('`').find(|part| part.ends_with("--take-over")).expect("it is offered");
    let decided = std::thread::scope(|scope| {
        let holder = scope.spawn(move || {
            while journal.find_stop_requester(run.id()).unwrap().is_none() {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        });
        let decided = type_line(&env, line);
        holder.join().unwrap();
        decided
    });
    assert!(decided.code == 0 && decided.stderr.contains(" approved /approve#0"), "{decided}");
}

/// Returns a runbook with one more parameter.
fn with_param(runbook: &str, param: &str) -> String {
    assert!(runbook.contains("params: #{"), "{runbook}");
    runbook.replacen("params: #{", &format!("params: #{{ {param}, "), 1)
}

#[test]
fn what_an_edit_adds_to_the_parameters_stays_what_it_was() {
    const MOMENT: &str = r#"let db = params.db; backup::create(db); approve(`back to ${params.to}?`); backup::pitr::restore(db, #{ to: #{ time: params.to }, into: "then" }); approve("and now?");"#;
    let env = env_with("let db = params.db; backup::create(db); approve(\"go on?\");");
    env.write_file("redrill.toml", "[targets.p]\nprovider = \"sim\"\nworld = \"sandbox\"\n");
    assert_eq!(env.run_cli(&["run", "r.rhai", "-p", "db=p"]).code, 3);
    assert_eq!(env.run_cli(&["approve", "last"]).code, 0);
    let edited = MOMENT.replace("approve(`back", "approve(\"go on?\"); approve(`back");
    env.write_file(
        "r.rhai",
        &with_param(&sandbox_runbook(NEEDS, &edited), "to: #{ type: \"time\", preset: \"-30m\" }"),
    );
    let waiting = env.run_cli(&["resume", "last", "--edited"]);
    assert!(waiting.code == 3 && waiting.stderr.contains("(-30m)"), "{waiting}");
    let shown = env.run_cli(&["runs", "show", "last"]);
    assert!(shown.stdout.contains("to="), "{shown}");
    assert_eq!(follow(&env, waiting), "succeeded");
}

#[test]
fn a_protected_target_that_an_edit_adds_is_named_in_what_is_printed() {
    let env = env_with("let db = params.db; backup::create(db); approve(\"go on?\");");
    env.write_file("redrill.toml", "[targets.p]\nprovider = \"sim\"\nworld = \"sandbox\"\nprotect = true\n");
    assert_eq!(env.run_cli(&["run", "r.rhai"]).code, 3);
    let edited = "let db = params.db; backup::create(db); approve(\"go on?\"); db::execute(params.other, \"update orders set id = id\");";
    env.write_file(
        "r.rhai",
        &with_param(&sandbox_runbook(NEEDS, edited), "other: #{ type: \"target\", preset: \"p\" }"),
    );
    let refused = env.run_cli(&["resume", "last", "--edited"]);
    assert!(refused.code == 6 && next_line(&refused).ends_with(" --edited --confirm p"), "{refused}");
    let waiting = type_line(&env, &next_line(&refused));
    assert!(waiting.code == 3 && next_line(&waiting).ends_with(" --resume --confirm p"), "{waiting}");
    assert_eq!(follow(&env, waiting), "succeeded");
}
