//! The file of an edited runbook: where it is read from, and what is printed where it cannot be used.

use crate::env::{CliEnv, CommandOutput, sandbox_runbook};
use std::fs;

const NEEDS: &str = r#""backup.create", "db.destroy""#;
const GATE: &str = r#"let db = params.db; backup::create(db, #{ label: "before" }); approve("go on?");"#;

/// Returns the text of the gate with one more backup behind it.
fn edited_gate() -> String {
    sandbox_runbook(NEEDS, &format!("{GATE} backup::create(db, #{{ label: \"new\" }});"))
}

/// Returns the last line that a command printed for a person.
fn next_line(done: &CommandOutput) -> &str {
    done.stderr.lines().last().unwrap_or_default()
}

fn assert_waits_with_edit(done: &CommandOutput, file: &str) {
    assert_eq!(done.code, 3, "{done}");
    assert!(done.stderr.contains("the runbook is read from /"), "{done}");
    assert!(done.stderr.contains(&format!("{file}\n")) && done.stderr.contains("\n+++ "), "{done}");
}

#[test]
fn an_edited_runbook_is_found_from_every_folder() {
    let env = CliEnv::new();
    env.write_file("redrill.toml", "");
    env.write_file("books/r.rhai", &sandbox_runbook(NEEDS, GATE));
    env.write_file("deep/sub/r.rhai", "what lies here is another one");
    let waiting = env.type_into_shell("cd deep/sub && redrill run ../../books/r.rhai");
    assert_eq!(waiting.code, 3, "{waiting}");
    assert_eq!(env.list_runs()[0]["runbook"], "books/r.rhai");
    for (at, folder) in [".", "deep/sub", "books"].into_iter().enumerate() {
        env.write_file("books/r.rhai", &format!("{}// {at}\n", edited_gate()));
        let edited = env.type_into_shell(&format!("cd {folder} && redrill resume last --edited"));
        assert_waits_with_edit(&edited, "/books/r.rhai");
    }
}

#[test]
fn a_runbook_outside_of_the_project_is_recorded_with_its_whole_path() {
    let (env, elsewhere) = (CliEnv::new(), CliEnv::new());
    env.write_file("redrill.toml", "");
    elsewhere.write_file("r.rhai", &sandbox_runbook(NEEDS, GATE));
    let typed =
        format!("../{}/r.rhai", elsewhere.path("").canonicalize().unwrap().file_name().unwrap().display());
    assert_eq!(env.run_cli(&["run", &typed]).code, 3);
    let recorded = elsewhere.path("r.rhai").canonicalize().unwrap();
    assert_eq!(env.list_runs()[0]["runbook"], recorded.to_str().unwrap());
    elsewhere.write_file("r.rhai", &edited_gate());
    env.write_file("sub/x", "");
    let edited = env.type_into_shell("cd sub && redrill resume last --edited");
    assert_waits_with_edit(&edited, "/r.rhai");
}

#[test]
fn the_runbook_of_an_old_run_is_found_where_the_run_was_begun_and_both_places_are_named() {
    let env = CliEnv::new();
    env.write_file("sub/r.rhai", &sandbox_runbook(NEEDS, GATE));
    // As runs were recorded before: the name is the one that was typed there, below no project folder of today.
    env.write_file("sub/redrill.toml", "");
    let waiting = env.type_into_shell("cd sub && redrill run r.rhai --state ../.redrill");
    assert_eq!(waiting.code, 3, "{waiting}");
    assert_eq!(env.list_runs()[0]["runbook"], "r.rhai");
    fs::remove_file(env.path("sub/redrill.toml")).unwrap();
    env.write_file("redrill.toml", "");
    env.write_file("sub/r.rhai", &edited_gate());
    assert_waits_with_edit(&env.type_into_shell("cd sub && redrill resume last --edited"), "/sub/r.rhai");
    fs::create_dir(env.path("other")).unwrap();
    let refused = env.type_into_shell("cd other && redrill resume last --edited");
    assert_eq!(refused.code, 2, "{refused}");
    let (project, here) = (env.path("r.rhai"), env.path("other/r.rhai"));
    for place in [project, here] {
        assert!(
            refused.stderr.contains(place.canonicalize().unwrap_or(place).to_str().unwrap()),
            "{refused}"
        );
    }
    assert!(next_line(&refused).ends_with(" --edited"), "{refused}");
    env.write_file("r.rhai", &format!("{}// back\n", edited_gate()));
    let asked = env.type_into_shell(&format!("cd other && {}", next_line(&refused)));
    assert_waits_with_edit(&asked, "/r.rhai");
}

#[test]
fn without_a_project_the_edited_runbook_is_the_file_that_was_run() {
    let env = CliEnv::new();
    env.write_file("r.rhai", &sandbox_runbook(NEEDS, GATE));
    env.write_file("sub/r.rhai", "what lies here is another one");
    assert_eq!(env.run_cli(&["run", "r.rhai"]).code, 3);
    let recorded = env.path("r.rhai").canonicalize().unwrap();
    assert_eq!(env.list_runs()[0]["runbook"], recorded.to_str().unwrap());
    env.write_file("r.rhai", &edited_gate());
    let edited = env.type_into_shell("cd sub && redrill resume last --edited --state ../.redrill");
    assert_waits_with_edit(&edited, recorded.to_str().unwrap());
}

#[test]
fn an_edit_that_is_refused_prints_what_the_edit_needs_and_nothing_that_approves_the_text_before() {
    let file = "r.rhai";
    for text in [Some("let = "), Some(&*sandbox_runbook("\"db.read\"", GATE)), None] {
        let env = CliEnv::new();
        env.write_file(file, &sandbox_runbook(NEEDS, GATE));
        assert_eq!(env.run_cli(&["run", file]).code, 3);
        match text {
            Some(text) => env.write_file(file, text),
            None => fs::remove_file(env.path(file)).unwrap(),
        }
        let refused = env.run_cli(&["resume", "last", "--edited", "-o", "json"]);
        assert!([2, 6].contains(&refused.code) && refused.stderr.contains("nothing was done"), "{refused}");
        let event = refused.parse_json();
        assert_eq!(event["event"], "run.refused", "{refused}");
        assert_eq!(event["next"], next_line(&refused), "{refused}");
        if text.is_some() {
            assert!(next_line(&refused).starts_with("redrill check /"), "{refused}");
            assert_ne!(env.type_into_shell(next_line(&refused)).code, 0, "something is wrong with it");
        } else {
            assert!(next_line(&refused).ends_with(" --edited -o json"), "{refused}");
            env.write_file(file, &edited_gate());
            let asked = env.type_into_shell(next_line(&refused));
            assert_eq!(asked.code, 3, "{asked}");
        }
    }
}

#[test]
fn a_decision_that_is_refused_is_a_line_of_json_too() {
    let env = CliEnv::new();
    env.write_file("r.rhai", &sandbox_runbook(NEEDS, GATE));
    assert_eq!(env.run_cli(&["run", "r.rhai"]).code, 3);
    for args in [
        ["approve", "last", "nothere", "--resume", "-o", "json"],
        ["reject", "zzzz", "nothere", "--resume", "-o", "json"],
    ] {
        let refused = env.run_cli(&args);
        assert_eq!(refused.code, 2, "{refused}");
        let event = refused.parse_json();
        assert_eq!((&event["event"], &event["exit"]), (&"run.refused".into(), &2.into()), "{refused}");
        assert!(event["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{refused}");
    }
}

#[test]
fn what_it_takes_to_resume_stands_in_every_line_about_it() {
    let env = CliEnv::new();
    env.write_file("redrill.toml", "[targets.p]\nprovider = \"sim\"\nworld = \"sandbox\"\nprotect = true\n");
    env.write_file("r.rhai", &sandbox_runbook(NEEDS, GATE));
    let waiting = env.run_cli(&["run", "r.rhai", "-p", "db=p", "--confirm", "p", "-o", "json"]);
    assert_eq!(waiting.code, 3, "{waiting}");
    let resume =
        |done: &CommandOutput| done.parse_events().last().unwrap()["resume"].as_str().unwrap().to_owned();
    assert!(resume(&waiting).ends_with(" --confirm p"), "{waiting}");
    // One that asks for another call than was recorded.
    env.write_file("r.rhai", &sandbox_runbook(NEEDS, &GATE.replace("before", "other")));
    let stopped = env.run_cli(&["resume", "last", "--edited", "--confirm", "p", "-o", "json"]);
    assert_eq!(stopped.code, 5, "{stopped}");
    assert!(resume(&stopped).ends_with(" --confirm p"), "{stopped}");
    let quoted: Vec<&str> =
        stopped.stderr.split('`').filter(|part| part.starts_with("redrill resume ")).collect();
    assert_eq!(quoted.len(), 2, "{stopped}");
    for command in quoted {
        assert!(command.ends_with(" --confirm p"), "`{command}` is not enough: {stopped}");
    }
}
