//! Runs of which a record does not read, or is not the one that was written: what is printed ends or removes them.

use crate::env::{CliEnv, CommandOutput, sandbox_runbook};
use rusqlite::{Connection, params};
use sha2::{Digest as _, Sha256};

/// What a later version may write.
const PROMISED: &str = r#"{"kind":"promised","what":1}"#;

/// Leaves a run that has made a temporary branch and waits, and returns its id.
fn leave_run(env: &CliEnv) -> String {
    let script = "branch::create(params.db, #{ into: \"copy\", temporary: true });\napprove(\"go?\");";
    env.write_file("r.rhai", &sandbox_runbook("\"branch.create\"", script));
    assert_eq!(env.run_cli(&["run", "r.rhai"]).code, 3);
    env.list_runs()[0]["id"].as_str().unwrap().to_owned()
}

/// Replaces the record `seq` of the only run.
fn replace_record(env: &CliEnv, seq: i64) {
    let db = Connection::open(env.path(".redrill/journal.db")).unwrap();
    let changed = db.execute("update records set body = ?1 where seq = ?2", params![PROMISED, seq]).unwrap();
    assert_eq!(changed, 1);
}

/// Computes the hashes of the only run anew, as if all its records had been written as they are.
fn link_records(env: &CliEnv, id: &str) {
    let db = Connection::open(env.path(".redrill/journal.db")).unwrap();
    let mut all = db.prepare("select seq, at, calls, body from records order by seq").unwrap();
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
    let rows: Vec<(i64, String, i64, String)> =
        all.query_map([], read).unwrap().collect::<Result<_, _>>().unwrap();
    let mut hash = hash_parts(&[id.as_bytes()]);
    for (seq, at, calls, body) in rows {
        let parts =
            [hash.as_bytes(), &seq.to_be_bytes(), at.as_bytes(), &calls.to_be_bytes(), body.as_bytes()];
        hash = hash_parts(&parts);
        db.execute("update records set hash = ?1 where seq = ?2", params![hash, seq]).unwrap();
    }
}

fn hash_parts(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    data_encoding::HEXLOWER.encode(&hash.finalize())
}

fn last_line(done: &CommandOutput) -> &str {
    done.stderr.lines().last().unwrap_or_default().trim()
}

#[test]
fn a_run_with_a_record_that_does_not_read_is_ended_by_what_is_printed() {
    // The first, the one in which the branch was accepted, and the last.
    for seq in [1, 4, 8] {
        let env = CliEnv::new();
        let id = leave_run(&env);
        replace_record(&env, seq);
        link_records(&env, &id);
        let effects = env.sandbox_effects();
        let next = format!("redrill runs abandon {id} --leave");
        for act in [["resume", "last"].as_slice(), &["runs", "abandon", "last"], &["runs", "show", "last"]] {
            let refused = env.run_cli(act);
            assert!(refused.code != 0 && last_line(&refused) == next, "{seq} {act:?}: {refused}");
        }
        let listed = env.run_cli(&["runs", "list"]);
        assert!(listed.code == 0 && listed.stderr.contains(&next), "{listed}");
        let unready = env.run_cli(&["runs", "prune", &id, "--yes"]);
        assert!(unready.code != 0 && last_line(&unready) == next, "it can be ended first: {unready}");
        let left = env.run_cli(&["runs", "abandon", "last", "--leave"]);
        assert_eq!(left.code, 0, "{left}");
        for named in
            ["branch sandbox/copy".to_owned(), format!("what record {seq} says, which does not read")]
        {
            assert!(left.stderr.contains(&named), "{seq}: {left}");
        }
        let run = &env.list_runs()[0];
        assert_eq!(run["status"], "abandoned", "{run}");
        assert!(run["left_behind"].as_array().unwrap().len() >= 2, "{run}");
        assert_eq!(env.sandbox_effects(), effects, "no target was touched");
        let verified = env.run_cli(&["runs", "verify", "last"]);
        assert!(verified.code == 1 && !last_line(&verified).starts_with("redrill"), "{verified}");
        assert_eq!(env.run_cli(&["runs", "prune", &id, "--yes"]).code, 0);
    }
}

#[test]
fn a_run_whose_records_were_changed_is_removed_by_what_is_printed() {
    for seq in [1, 4, 8] {
        let env = CliEnv::new();
        let id = leave_run(&env);
        replace_record(&env, seq);
        let next = format!("redrill runs prune {id}");
        for act in [
            ["resume", "last"].as_slice(),
            &["runs", "abandon", "last"],
            &["runs", "abandon", "last", "--leave"],
            &["runs", "show", "last"],
            &["runs", "verify", "last"],
        ] {
            let refused = env.run_cli(act);
            assert!(refused.code != 0 && last_line(&refused) == next, "{seq} {act:?}: {refused}");
        }
        assert!(env.run_cli(&["runs", "list"]).stderr.contains(&next));
        let asked = env.run_cli(&["runs", "prune", &id]);
        assert!(asked.code == 0 && asked.stderr.contains("nobody knows then what it left"), "{asked}");
        assert!(last_line(&asked).ends_with("--yes"), "{asked}");
        let removed = env.run_cli(&["runs", "prune", &id, "--yes"]);
        assert_eq!(removed.code, 0, "{removed}");
        let gone = env.run_cli(&["runs", "show", &id]);
        assert!(gone.stderr.contains("it was broken and was pruned at "), "{gone}");
    }
}

#[test]
fn a_head_that_the_run_does_not_have_says_nothing_of_its_end() {
    let env = CliEnv::new();
    let id = leave_run(&env);
    let wrong = env.run_cli(&["runs", "verify", "last", "--head", "0123456789abcdef"]);
    assert!(wrong.code == 1 && wrong.stderr.contains("the head is another run's"), "{wrong}");
    assert_eq!(last_line(&wrong), format!("redrill runs show {id}"));
}
