//! What a person has decided, and the run has not gone on from yet: taken back, kept, told.

use crate::{
    env::{CliEnv, CommandOutput, sandbox_runbook},
    next_step::{follow, next_line, type_line},
};
use redrill::{
    base::clock::{Clock as _, SystemClock},
    journal::{Durability, Journal, Lease, LeaseMode, NewRun, Outcome, Quarantine, Record, Source},
};
use serde_json::json;
use std::sync::Arc;

const NEEDS: &str = r#""backup.create", "db.destroy""#;
const GATE: &str =
    r#"backup::create(params.db); approve("go on?"); db::execute(params.db, "update orders set id = id")"#;

/// Leaves a run of a script that waits.
fn leave_waiting(script: &str) -> CliEnv {
    let env = CliEnv::new();
    env.write_file("r.rhai", &sandbox_runbook(NEEDS, script));
    let waiting = env.run_cli(&["run", "r.rhai"]);
    assert_eq!(waiting.code, 3, "{waiting}");
    env
}

fn assert_refused(done: &CommandOutput, said: &str, next: &str) {
    assert!(done.code == 2 && done.stderr.contains(said), "{said}\n{done}");
    assert!(done.stderr.contains("nothing was decided"), "{done}");
    assert!(next_line(done).starts_with(next), "{next}\n{done}");
}

#[test]
fn an_approval_that_nothing_went_on_from_is_taken_back() {
    let env = leave_waiting(GATE);
    assert_eq!(env.run_cli(&["approve", "last"]).code, 0);
    assert_refused(
        &env.run_cli(&["approve", "last"]),
        "has approved `/approve#0` already",
        "redrill resume ",
    );
    let decided = env.run_cli(&["runs", "decide", "last", "approve", "fail"]);
    assert_refused(&decided, "is taken back with `reject`", "redrill runs show ");
    let rejected = env.run_cli(&["reject", "last"]);
    assert!(rejected.code == 0 && rejected.stderr.contains(" rejected /approve#0, which "), "{rejected}");
    // A no is not replaced by a yes.
    for given in [&["approve", "last"][..], &["approve", "last", "approve", "--resume"], &["reject", "last"]]
    {
        assert_refused(&env.run_cli(given), "has rejected the approval `/approve#0`", "redrill resume ");
    }
    assert_eq!(follow(&env, rejected), "failed");
    assert!(!env.sandbox_effects().contains_key("db.execute"), "{:?}", env.sandbox_effects());
}

#[test]
fn one_command_takes_an_approval_back_and_ends_the_run() {
    let env = leave_waiting(GATE);
    assert_eq!(env.run_cli(&["approve", "last"]).code, 0);
    let ended = env.run_cli(&["reject", "last", "--resume"]);
    assert!(ended.code == 1 && ended.stderr.contains("REJECTED"), "{ended}");
}

#[test]
fn whoever_says_no_to_what_was_gone_on_from_is_not_given_a_resume_to_type() {
    let env = leave_waiting(r#"approve("go on?"); approve("and now?")"#);
    assert_eq!(env.run_cli(&["approve", "last", "--resume"]).code, 3);
    let refused = env.run_cli(&["reject", "last", "/approve#0"]);
    assert_refused(&refused, "the approval `/approve#0` is over", "redrill reject ");
    assert_eq!(env.run_cli(&["reject", "last"]).code, 0);
    let refused = env.run_cli(&["reject", "last", "/approve#0"]);
    assert_refused(&refused, "`redrill runs abandon ", "redrill runs show ");
}

#[test]
fn after_a_rejection_no_other_approval_is_printed() {
    let env = leave_waiting(r#"parallel([|| approve("a?"), || approve("b?")])"#);
    for _ in 0..20 {
        if env.run_cli(&["runs", "show", "last"]).stdout.matches("open  approve").count() == 2 {
            break;
        }
        assert_eq!(env.run_cli(&["resume", "last"]).code, 3);
    }
    let rejected = env.run_cli(&["reject", "last", "/parallel#0/0/approve#0"]);
    assert!(rejected.code == 0 && next_line(&rejected).starts_with("redrill resume "), "{rejected}");
}

/// Leaves a run of which an edition was dropped that had asked for its gate.
fn leave_gate_of_dropped_text() -> CliEnv {
    const ONE: &str = r#"backup::create(params.db, #{ label: "one" }); "#;
    const REST: &str = r#"approve("go?"); backup::create(params.db, #{ label: "three" })"#;
    let env = leave_waiting(&format!("{ONE}{REST}"));
    let edit = |script: &str| {
        env.write_file("r.rhai", &sandbox_runbook(NEEDS, script));
        env.run_cli(&["resume", "last", "--edited"])
    };
    assert_eq!(edit(&format!("{ONE}{REST} // more")).code, 3);
    assert_eq!(edit(REST).code, 5);
    env
}

#[test]
fn what_a_dropped_text_asked_for_is_asked_for_anew_before_somebody_approves_it() {
    let env = leave_gate_of_dropped_text();
    let refused = env.run_cli(&["approve", "last", "--resume"]);
    assert_refused(&refused, "has to be asked for anew first", "redrill resume ");
    let asked = type_line(&env, &next_line(&refused));
    assert!(asked.code == 3 && !asked.stderr.contains("is void"), "{asked}");
    assert_eq!(follow(&env, asked), "succeeded");
}

#[test]
fn a_rejection_holds_whatever_text_asked() {
    let env = leave_gate_of_dropped_text();
    let ended = env.run_cli(&["reject", "last", "--resume"]);
    assert!(ended.code == 1 && ended.stderr.contains("REJECTED"), "{ended}");
    let env = leave_waiting(GATE);
    assert_eq!(env.run_cli(&["reject", "last"]).code, 0);
    env.write_file("r.rhai", &sandbox_runbook(NEEDS, &format!("{GATE} // more")));
    let ended = env.run_cli(&["resume", "last", "--edited"]);
    assert!(ended.code == 1 && ended.stderr.contains("REJECTED"), "{ended}");
}

/// Leaves a run of which a call is held that has changed nothing.
fn leave_held(before: &str) -> CliEnv {
    let env = CliEnv::new();
    let script = format!("{before} db::execute(params.db, \"delete from nowhere\")");
    env.write_file("r.rhai", &sandbox_runbook(NEEDS, &script));
    let held = env.run_cli(&["run", "r.rhai", "--hold"]);
    assert_eq!(held.code, 3, "{held}");
    env
}

#[test]
fn whoever_decides_otherwise_finds_the_error_with_which_a_call_failed() {
    let done = ["done", "--result", "{\"rows_affected\": 0}"];
    for first in [&["redo"][..], &["fail"], &done] {
        let env = leave_held("");
        for decision in [first, &["redo"], &["fail"]] {
            let decided = env.run_cli(&[&["runs", "decide", "last", "execute"], decision].concat());
            assert_eq!(decided.code, 0, "{decided}");
        }
        let ended = env.run_cli(&["resume", "last"]);
        assert!(ended.code == 1 && ended.stderr.contains("no such table: nowhere"), "{ended}");
        assert!(!ended.stderr.contains("DECIDED"), "{ended}");
    }
}

#[test]
fn a_held_call_that_changed_nothing_leaves_nothing_behind() {
    for decision in [None, Some("redo"), Some("fail")] {
        let env = leave_held("");
        if let Some(decision) = decision {
            assert_eq!(env.run_cli(&["runs", "decide", "last", "execute", decision]).code, 0);
        }
        let left = env.run_cli(&["runs", "abandon", "last", "--leave"]);
        assert!(left.code == 0 && left.stderr.contains("left behind: nothing"), "{left}");
    }
    // Whoever says that it was done says that something may be there.
    let env = leave_held("");
    let done = ["runs", "decide", "last", "execute", "done", "--result", "{\"rows_affected\": 1}"];
    assert_eq!(env.run_cli(&done).code, 0);
    let left = env.run_cli(&["runs", "abandon", "last", "--leave"]);
    assert!(left.stderr.contains("left behind: what /db::execute#0 began"), "{left}");
}

#[test]
fn a_held_call_is_said_to_be_held_and_not_to_go_on() {
    let env = leave_held("defer(|| backup::create(params.db));");
    std::fs::remove_dir_all(env.path(".redrill/worlds")).unwrap();
    let stopped = env.run_cli(&["runs", "abandon", "last"]);
    let said = "is held: db::execute (/db::execute#0): it failed with ";
    assert!(stopped.code == 5 && stopped.stderr.contains(said), "{stopped}");
}

#[test]
fn a_run_that_another_process_has_is_shown_and_not_resumed() {
    let env = leave_waiting(GATE);
    let journal = Journal::open(&env.path(".redrill"), Arc::new(SystemClock)).unwrap();
    let id = journal.resolve_run_id("last").unwrap();
    let run = journal.acquire_run(&id).unwrap();
    run.record_giving_up("0").unwrap();
    let abandon = format!("`redrill runs abandon {id}`");
    let leave = format!("`redrill runs abandon {id} --leave`");
    for (given, hint) in [
        (&["runs", "prune", "last"][..], &abandon),
        (&["runs", "abandon", "last"], &abandon),
        (&["runs", "abandon", "last", "--leave"], &leave),
        (&["resume", "last"], &format!("`redrill runs show {id}`")),
    ] {
        let refused = env.run_cli(given);
        assert!(refused.code == 2 && refused.stderr.contains(hint), "{given:?}\n{refused}");
        assert_eq!(next_line(&refused), format!("redrill runs show {id}"), "{given:?}\n{refused}");
        assert!(!refused.stderr.contains("redrill resume"), "{refused}");
    }
}

#[test]
fn a_decision_stands_where_the_resume_after_it_is_refused() {
    let env = leave_waiting(GATE);
    let shown = env.run_cli(&["runs", "show", "last", "-o", "json"]).parse_json();
    let identity =
        shown["records"].as_array().unwrap().iter().find_map(|record| record["identity"]["id"].as_str());
    let journal = Journal::open(&env.path(".redrill"), Arc::new(SystemClock)).unwrap();
    let id = journal.resolve_run_id("last").unwrap();
    let (target, name) = (identity.expect("it is recorded").to_owned(), "sandbox".to_owned());
    let other = NewRun {
        runbook: "r.rhai".into(),
        title: "other".into(),
        params: json!({}),
        sources: vec![Source { path: "r.rhai".into(), text: sandbox_runbook(NEEDS, GATE) }],
        git: None,
        version: "0".into(),
        leases: vec![Lease { target, name, mode: LeaseMode::Exclusive }],
    };
    let held = journal.create_run(&other).unwrap();
    let refused = env.run_cli(&["approve", &id, "--resume"]);
    assert!(refused.code == 6 && refused.stderr.contains("is in use by the run"), "{refused}");
    assert!(refused.stderr.contains("what was decided stands"), "{refused}");
    assert!(!refused.stderr.contains("nothing was done"), "{refused}");
    assert_eq!(next_line(&refused), format!("redrill resume {id}"), "{refused}");
    drop(held);
    assert_eq!(type_line(&env, &next_line(&refused)).code, 0);
}

#[test]
fn a_target_that_is_not_configured_is_told_without_a_line_that_ends_the_run() {
    let env = CliEnv::new();
    env.write_file("redrill.toml", "[targets.p]\nprovider = \"sim\"\n");
    env.write_file("r.rhai", &sandbox_runbook(NEEDS, GATE));
    assert_eq!(env.run_cli(&["run", "r.rhai", "-p", "db=p"]).code, 3);
    env.write_file("redrill.toml", "");
    for given in [&["approve", "last", "--resume"][..], &["reject", "last"], &["resume", "last"]] {
        let refused = env.run_cli(given);
        assert!(
            refused.code == 2 && refused.stderr.contains("configure it, and then `redrill "),
            "{refused}"
        );
        assert!(next_line(&refused).starts_with(&format!("redrill {} ", given[0])), "{refused}");
        assert!(refused.stderr.contains("cannot clean up where the target is missing"), "{refused}");
    }
}

#[test]
fn two_targets_that_read_the_same_are_told_apart() {
    let env = leave_waiting(GATE);
    std::fs::remove_dir_all(env.path(".redrill/worlds")).unwrap();
    for given in [&["approve", "last", "--resume"][..], &["resume", "last"]] {
        let refused = env.run_cli(given);
        assert_eq!(refused.code, 5, "{refused}");
        let told = |word: &str| refused.stderr.lines().find_map(|line| line.trim().strip_prefix(word));
        let (recorded, now) = (told("recorded  ").unwrap(), told("now       ").unwrap());
        assert_ne!(recorded, now, "{refused}");
    }
}

#[test]
fn a_run_about_which_somebody_has_decided_is_not_told_to_wait() {
    for (decision, said) in
        [("approve", " approved /approve#0 (go on?)"), ("reject", " rejected /approve#0 (go on?)")]
    {
        let env = leave_waiting(GATE);
        assert_eq!(env.run_cli(&[decision, "last"]).code, 0);
        assert_told(&env, said, "waits since");
    }
    for (decision, said) in [("redo", "/db::execute#0 is made again"), ("fail", "/db::execute#0 failed")] {
        let env = leave_held("");
        assert_eq!(env.run_cli(&["runs", "decide", "last", "execute", decision]).code, 0);
        assert_told(&env, said, "is held since");
    }
}

#[test]
fn an_interrupted_run_about_which_somebody_has_decided_says_so() {
    let env = leave_waiting(GATE);
    assert_eq!(env.run_cli(&["approve", "last"]).code, 0);
    // A resume that is killed before it comes to the gate.
    let journal = Journal::open(&env.path(".redrill"), Arc::new(SystemClock)).unwrap();
    let run = journal.acquire_run(&journal.resolve_run_id("last").unwrap()).unwrap();
    let (version, params) = ("0".into(), serde_json::Map::new());
    let resumed = Record::Resumed { version, edited: false, digest: None, gives_up: false, params };
    run.append_record(resumed, Durability::Synced).unwrap();
    assert_eq!(env.list_runs()[0]["reason"], json!(null), "a process goes on with it");
    drop((run, journal));
    assert_eq!(env.list_runs()[0]["status"], "interrupted");
    assert_told(&env, " approved /approve#0 (go on?)", "process that ran it");
    assert_eq!(env.run_cli(&["reject", "last"]).code, 0);
    assert_told(&env, " rejected /approve#0 (go on?)", "process that ran it");
    assert_eq!(follow(&env, env.run_cli(&["runs", "list"])), "failed");
}

/// Asserts why a run is said to stand still, wherever that is said.
fn assert_told(env: &CliEnv, said: &str, unsaid: &str) {
    let listed = env.run_cli(&["runs", "list"]);
    let shown = env.run_cli(&["runs", "show", "last"]);
    let status = shown.stdout.lines().find(|line| line.trim().starts_with("status ")).unwrap();
    let shown = env.run_cli(&["runs", "show", "last", "-o", "json"]).parse_json();
    let reasons =
        [&env.list_runs()[0]["reason"], &shown["reason"]].map(|reason| reason.as_str().unwrap().to_owned());
    for text in [&listed.stderr, status, &reasons[0], &reasons[1]] {
        assert!(text.contains(&format!("{said}, and the run has not gone on yet")), "{said}\n{text}");
        assert!(!text.contains(unsaid), "{text}");
    }
}

/// A call that was cut short, and one that is over although what it asked for may still come.
#[test]
fn whoever_waits_for_a_call_without_a_known_end_can_be_let_go_on() {
    let call = "/backup::create#0".to_owned();
    let begun = Record::Begin {
        call: call.clone(),
        op: "backup::create".into(),
        args: json!({}),
        key: "k".into(),
        at: "r.rhai:1:1".into(),
    };
    let over = Record::End {
        call: call.clone(),
        op: "backup::create".into(),
        args: json!({}),
        at: "r.rhai:1:1".into(),
        outcome: Outcome::Ok(json!(1)),
    };
    for records in [vec![begun.clone()], vec![begun, over]] {
        let env = CliEnv::new();
        env.leave_run("0", records);
        let journal = Journal::open(&env.path(".redrill"), Arc::new(SystemClock)).unwrap();
        let run = env.list_runs()[0]["id"].as_str().unwrap().to_owned();
        let (place, sent_by) = ("somewhere".to_owned(), SystemClock.uptime());
        let kept = Quarantine { place, part: None, run, call: call.clone(), sent_by, span: None };
        journal.put_under_quarantine(&[kept]).unwrap();
        let records = || env.run_cli(&["runs", "verify", "last", "-o", "json"]).stdout;
        let before = records();
        let refused = env.run_cli(&["runs", "decide", "last", "backup", "fail"]);
        assert!(refused.code == 2 && journal.list_quarantines().unwrap().len() == 1, "{refused}");
        let lifted = env.run_cli(&["runs", "decide", "last", "backup", "fail", "--anyway"]);
        assert!(lifted.code == 0 && lifted.stderr.contains("nothing is recorded in the run"), "{lifted}");
        assert_eq!((journal.list_quarantines().unwrap(), records()), (vec![], before));
    }
}

/// A resume goes on behind the call: whoever types what is printed has it neither made again nor the text dropped.
#[test]
fn a_held_call_that_an_approved_text_handles_is_gone_on_behind() {
    let env = CliEnv::new();
    env.write_file(
        "r.rhai",
        &sandbox_runbook(NEEDS, "backup::create(params.db); db::execute(params.db, \"drop table nosuch\");"),
    );
    assert_eq!(env.run_cli(&["run", "r.rhai", "--hold"]).code, 3);
    let handled = "backup::create(params.db); attempt(|| db::execute(params.db, \"drop table nosuch\")); approve(\"go?\"); \
        backup::create(params.db);";
    env.write_file("r.rhai", &sandbox_runbook(NEEDS, handled));
    assert_eq!(env.run_cli(&["resume", "last", "--edited"]).code, 3);
    let approved = env.run_cli(&["approve", "last"]);
    let redone = env.run_cli(&["runs", "decide", "last", "execute", "redo"]);
    assert_refused(&redone, "would not be made again", "redrill resume ");
    for shown in [&approved, &env.run_cli(&["runs", "list"]), &env.run_cli(&["runs", "show", "last"])] {
        assert!(next_line(shown).starts_with("redrill resume "), "{shown}");
    }
    assert_eq!(follow(&env, approved), "succeeded");
    assert_eq!(env.sandbox_effects()["backup.create"], 2);
}
