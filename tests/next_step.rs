//! What is printed to be typed next, typed: whatever a run came to, the last line that it prints brings it on.

use crate::env::{CliEnv, CommandOutput, interrupt_child, sandbox_runbook};

const GATE: &str = r#"let db = params.db; backup::create(db, #{ label: "before" }); approve("go on?"); backup::create(db, #{ label: "end" }).label"#;
const FAILING: &str = r#"let db = params.db; db::execute(db, "delete from nowhere")"#;
const NEEDS: &str = r#""backup.create", "db.destroy", "branch.create""#;

/// Returns the last line that a command printed for a person.
fn next_line(done: &CommandOutput) -> String {
    done.stderr.lines().last().unwrap_or_default().trim().to_owned()
}

/// Types a printed line.
fn type_line(env: &CliEnv, line: &str) -> CommandOutput {
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
fn follow(env: &CliEnv, mut done: CommandOutput) -> String {
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
    for command in [&["runs", "list"][..], &["runs", "show", "last"]] {
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
