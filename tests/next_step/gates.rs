//! What is printed where a run waits for an approval.

use super::*;

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

/// Returns the environment of a run that waits at two gates, with a backup behind each.
fn env_at_two_gates() -> CliEnv {
    let env = env_with(
        r#"let db = params.db; parallel([|| { approve("A?"); backup::create(db, #{ label: "a" }); }, || { approve("B?"); backup::create(db, #{ label: "b" }); }])"#,
    );
    assert_eq!(env.run_cli(&["run", "r.rhai"]).code, 3);
    // Both are asked for once both have begun.
    for _ in 0..20 {
        if env.run_cli(&["runs", "show", "last"]).stdout.matches("open  approve").count() == 2 {
            return env;
        }
        assert_eq!(env.run_cli(&["resume", "last"]).code, 3);
    }
    panic!("the second gate is not asked for");
}

#[test]
fn an_approval_by_mistake_is_taken_back_by_name_while_another_gate_waits() {
    let env = env_at_two_gates();
    assert_eq!(env.run_cli(&["approve", "last", "/parallel#0/0/approve#0"]).code, 0);
    let refused = env.run_cli(&["reject", "last"]);
    assert!(
        refused.code == 2 && refused.stderr.contains("has 2 approvals about which `reject` can decide"),
        "{refused}"
    );
    let rejected = env.run_cli(&["reject", "last", "/parallel#0/0/approve#0"]);
    assert!(rejected.code == 0 && rejected.stderr.contains("had approved"), "{rejected}");
    assert_eq!(follow(&env, rejected), "failed");
    assert!(!env.sandbox_effects().contains_key("backup.create"), "nothing was approved");
}

#[test]
fn beside_a_rejected_gate_nothing_is_waited_for() {
    let env = env_at_two_gates();
    assert_eq!(env.run_cli(&["reject", "last", "/parallel#0/0/approve#0"]).code, 0);
    let (listed, shown) = (env.run_cli(&["runs", "list"]), env.run_cli(&["runs", "show", "last"]));
    for text in [&listed.stderr, &shown.stdout] {
        assert!(
            text.contains("rejected /parallel#0/0/approve#0 (A?), and the run has not gone on"),
            "{text}"
        );
        assert!(!text.contains("is waited for"), "{text}");
    }
    assert!(next_line(&shown).starts_with("redrill resume "), "{shown}");
    assert!(next_line(&listed).starts_with("redrill resume "), "{listed}");
    let beside = "/parallel#0/1/approve#0";
    for given in [
        &["runs", "decide", "last", beside, "fail"][..],
        &["approve", "last"],
        &["approve", "last", "approve"],
    ] {
        let refused = env.run_cli(given);
        assert!(refused.code == 2 && next_line(&refused).starts_with("redrill resume "), "{refused}");
        assert_eq!(
            refused.stderr.contains(&format!("name it: '{beside}'")),
            given[0] == "approve",
            "{refused}"
        );
    }
    assert_eq!(follow(&env, listed), "failed");
    assert!(!env.sandbox_effects().contains_key("backup.create"), "nothing was approved");
}

#[test]
fn a_run_at_work_that_waits_for_no_approval_is_neither_taken_over_nor_given_up_for_one() {
    let env = env_with("let db = params.db; backup::create(db, #{ label: \"a\" }); sleep(\"60s\"); 1");
    let mut child = env.start_until_calls(&["run", "r.rhai"], 2);
    for given in [
        &["reject", "last"][..],
        &["approve", "last"],
        &["reject", "last", "--take-over"],
        &["approve", "last", "--take-over"],
    ] {
        let refused = env.run_cli(given);
        assert!(refused.code == 2 && refused.stderr.contains("nothing was decided"), "{refused}");
        for word in ["abandon", "--take-over"] {
            assert!(!refused.stderr.contains(word), "{refused}");
        }
        assert!(next_line(&refused).starts_with("redrill runs show "), "{refused}");
    }
    assert!(child.try_wait().unwrap().is_none(), "it was not asked to stop");
    child.kill().unwrap();
    child.wait().unwrap();
    let refused = env.run_cli(&["reject", "last"]);
    assert!(refused.stderr.contains("`redrill runs abandon "), "{refused}");
}
