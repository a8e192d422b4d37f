//! What is printed to be typed next, typed: whatever a run came to, the last line that it prints brings it on.

mod gates;
mod given_up;
mod old_runs;
mod sessions;
mod targets;

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
const GATED_CLEAN_UP: &str = r#"let db = params.db; backup::create(db, #{ label: "before" }); defer(|| { approve("clean up?"); backup::create(db, #{ label: "end" }) }); approve("go on?"); 1"#;
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
fn what_is_held_is_told_where_the_run_stopped_for_another_reason_since() {
    let script = format!("backup::create(params.db, #{{ label: \"one\" }}); {FAILING}");
    let env = env_with(&script);
    let held = env.run_cli(&["run", "r.rhai", "--hold"]);
    assert_eq!(held.code, 3, "{held}");
    env.write_file("r.rhai", &sandbox_runbook(NEEDS, &script.replace("one", "two")));
    let dropped = env.run_cli(&["resume", "last", "--edited"]);
    assert_eq!(dropped.code, 5, "{dropped}");
    let listed = env.run_cli(&["runs", "list"]);
    for shown in [&dropped, &listed, &env.run_cli(&["runs", "show", "last"])] {
        assert_eq!(next_line(shown), next_line(&held), "{shown}");
    }
    assert!(listed.stderr.contains("/db::execute#0 is held, and not decided about; the call "), "{listed}");
    assert_eq!(env.run_cli(&["runs", "decide", "last", "execute", "fail"]).code, 0);
    let listed = env.run_cli(&["runs", "list"]);
    assert!(
        listed.stderr.contains("it is decided that /db::execute#0 failed, and the run has not"),
        "{listed}"
    );
    assert_eq!(follow(&env, listed), "failed");
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
