//! What is printed of a run whose last record is old.

use super::*;

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
