//! What is printed about a run that somebody was giving up: no line of it carries the run forward.

use super::*;
use crate::env::FakePlatform;

/// Takes a run up to give it up, as a process that is killed at that leaves it.
fn leave_while_given_up(env: &CliEnv) {
    let journal = Journal::open(&env.path(".redrill"), Arc::new(SystemClock)).unwrap();
    let run = journal.acquire_run(&journal.resolve_run_id("last").unwrap()).unwrap();
    run.record_giving_up("0").unwrap();
}

#[test]
fn a_call_that_is_decided_about_while_its_run_is_given_up_is_gone_on_from_by_giving_up() {
    let rule = "[[rule]]\nmethod = \"POST\"\npath = \"/v1/projects/*/network-restrictions/apply\"\nfate = \"cut-after\"\n";
    let fake = FakePlatform::start_simulated(rule);
    let reference = &fake.server.list_root_references()[0];
    fake.set_landing_time("1s");
    let script = format!(
        r#"let db = params.db; attempt(|| supabase::api(db, "POST", "/v1/projects/{reference}/network-restrictions/apply", #{{ body: #{{ dbAllowedCidrs: ["0.0.0.0/0"], dbAllowedCidrsV6: ["::/0"] }} }})); network::restrictions::add(db, ["10.9.0.0/16"]);"#
    );
    let needs = r#""supabase.destroy", "network.change", "network.destroy""#;
    let env = &fake.env;
    env.write_file("r.rhai", &sandbox_runbook(needs, &script));
    assert_eq!(env.run_cli(&["run", "r.rhai", "-p", "db=shop"]).code, 4);
    let stopped = env.run_cli(&["runs", "abandon", "last"]);
    assert_eq!(stopped.code, 4, "{stopped}");
    assert!(stopped.stderr.contains(" --leave`") && !stopped.stderr.contains("redrill resume"), "{stopped}");
    for shown in [env.run_cli(&["runs", "list"]), env.run_cli(&["runs", "show", "last"])] {
        assert_eq!(next_line(&shown), next_line(&stopped), "{shown}");
    }
    // Nothing is made again in a run that is given up, and nobody is told that it would be.
    assert!(!stopped.stderr.contains("redo"), "{stopped}");
    let redone = env.run_cli(&["runs", "decide", "last", "api", "redo", "--anyway"]);
    assert!(redone.code == 2 && redone.stderr.contains("nothing was decided"), "{redone}");
    let decided = type_line(env, &next_line(&stopped));
    assert!(decided.code == 0 && next_line(&decided).starts_with("redrill runs abandon "), "{decided}");
    assert_eq!(follow(env, decided), "abandoned");
    let ranges = env.run_cli(&["network", "restrictions", "list", "-t", "shop"]);
    assert!(ranges.code == 0 && !ranges.stdout.contains("10.9.0.0"), "{ranges}");
}

#[test]
fn giving_up_that_was_cut_short_is_gone_on_with_by_what_is_listed() {
    let env = env_with(GATE);
    assert_eq!(env.run_cli(&["run", "r.rhai"]).code, 3);
    assert_eq!(env.run_cli(&["approve", "last"]).code, 0);
    leave_while_given_up(&env);
    let refused = env.run_cli(&["approve", "last"]);
    for shown in [&refused, &env.run_cli(&["runs", "show", "last"]), &env.run_cli(&["runs", "list"])] {
        assert!(next_line(shown).starts_with("redrill runs abandon "), "{shown}");
    }
    assert_eq!(follow(&env, refused), "abandoned");
    assert_eq!(env.sandbox_effects()["backup.create"], 1);
}

#[test]
fn whoever_carries_a_run_forward_that_was_given_up_is_told() {
    let env = env_with(GATE);
    assert_eq!(env.run_cli(&["run", "r.rhai"]).code, 3);
    leave_while_given_up(&env);
    let told = "the run was being given up, and now goes on with its script";
    let approved = env.run_cli(&["approve", "last", "--resume"]);
    assert!(approved.code == 0 && approved.stderr.contains(told), "{approved}");
}
