//! What is printed about a session of the prompt, which no other command goes on with.

use super::*;

#[test]
fn a_session_that_a_process_has_is_decided_about_there() {
    let env = CliEnv::new();
    let mut child = env.start_session(&["repl", "-t", "sandbox"], "backup::create(db);\nsleep(\"10m\");\n");
    env.wait_for_run(|run| run["calls"].as_u64().unwrap_or(0) >= 2);
    for given in [
        &["resume", "last"][..],
        &["resume", "last", "--take-over"],
        &["approve", "last"],
        &["reject", "last", "--resume"],
    ] {
        let refused = env.run_cli(given);
        let said = format!("is a session that process {} on ", child.id());
        assert!(refused.code == 2 && refused.stderr.contains(&said), "{refused}");
        assert!(refused.stderr.contains(" has; decide there"), "{refused}");
        assert!(next_line(&refused).starts_with("redrill runs show "), "{refused}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let refused = env.run_cli(&["resume", "last"]);
    assert!(refused.stderr.contains("is a session, and its process is gone"), "{refused}");
    assert_eq!(follow(&env, refused), "abandoned");
}

#[test]
fn a_session_that_stopped_prints_what_ends_it() {
    let env = CliEnv::new();
    let stopped = env.run_cli_with_input(&["repl"], "approve(\"go?\")\n");
    assert_eq!(stopped.code, 3, "{stopped}");
    assert!(!stopped.stderr.contains("redrill resume"), "{stopped}");
    assert_eq!(next_line(&stopped), next_line(&env.run_cli(&["runs", "list"])));
    assert_eq!(follow(&env, stopped), "abandoned");
}
