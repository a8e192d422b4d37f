//! Whose run: a state folder that was copied, moved or rolled back, as a person and two machines meet it.

use crate::env::{CliEnv, sandbox_runbook};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const MISMATCH: i32 = 5;

/// Copies a state folder as a job of CI does that carries it on.
fn copy_state(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(copied.success());
}

/// Puts the journal of a state folder back as it is in an older copy.
fn put_journal_back(older: &Path, state: &Path) {
    for name in ["journal.db", "journal.db-wal", "journal.db-shm"] {
        drop(fs::remove_file(state.join(name)));
        if older.join(name).exists() {
            fs::copy(older.join(name), state.join(name)).unwrap();
        }
    }
}

/// Two folders over one world, which both know as `shared`: what a platform is to two machines.
struct TwoFolders {
    env: CliEnv,
    mine: PathBuf,
    other: PathBuf,
}

impl TwoFolders {
    fn new() -> Self {
        let env = CliEnv::new();
        let (mine, other) = (env.path(".redrill"), env.path("other"));
        Self { env, mine, other }
    }

    /// Copies my state, but for the worlds: those are the same platform.
    fn copy(&self) {
        copy_state(&self.mine, &self.other);
        fs::remove_dir_all(self.other.join("worlds")).unwrap();
        std::os::unix::fs::symlink(self.mine.join("worlds"), self.other.join("worlds")).unwrap();
    }
}

/// A runbook that waits for an approval and then takes a backup and makes a replica.
fn write_gated_runbook(env: &CliEnv) {
    let script = "approve(\"go?\");\nbackup::create(params.db);\ndb::replicas::create(params.db);";
    env.write_file("r.rhai", &sandbox_runbook("\"backup.create\", \"db.create\"", script));
}

#[test]
fn two_copies_of_an_approved_run_make_one_replica() {
    let two = TwoFolders::new();
    write_gated_runbook(&two.env);
    assert_eq!(two.env.run_cli(&["run", "r.rhai"]).code, 3);
    two.copy();
    let done = two.env.run_cli(&["approve", "last", "--resume"]);
    assert_eq!(done.code, 0, "{done}");
    let refused = two.env.run_cli(&["approve", "last", "--resume", "--state", "other"]);
    assert_eq!(refused.code, MISMATCH, "{refused}");
    assert!(refused.stderr.contains("its file `place` is a copy"), "{refused}");
    assert!(refused.stderr.contains(two.mine.canonicalize().unwrap().to_str().unwrap()), "{refused}");
    assert!(refused.stderr.ends_with("redrill approve last --resume --state other --adopt\n"), "{refused}");
    let effects = two.env.sandbox_effects();
    assert_eq!((effects["replica.create"], effects["backup.create"]), (1, 1), "{effects:?}");
}

#[test]
fn a_copy_is_read_and_nothing_acts_in_it() {
    let two = TwoFolders::new();
    write_gated_runbook(&two.env);
    assert_eq!(two.env.run_cli(&["run", "r.rhai"]).code, 3);
    two.copy();
    let before = two.env.sandbox_effects();
    for read in [["runs", "list"].as_slice(), &["runs", "show", "last"], &["runs", "verify", "last"]] {
        let done = two.env.run_cli(&[read, &["--state", "other"]].concat());
        assert_eq!(done.code, 0, "{done}");
    }
    for act in [
        ["run", "r.rhai"].as_slice(),
        &["resume", "last"],
        &["approve", "last"],
        &["reject", "last"],
        &["runs", "decide", "last", "backup", "redo"],
        &["runs", "abandon", "last"],
        &["runs", "abandon", "last", "--leave"],
        &["backup", "create", "-t", "sandbox"],
        &["repl"],
        &["run", "r.rhai", "-o", "json"],
    ] {
        let refused = two.env.run_cli(&[act, &["--state", "other"]].concat());
        assert_eq!(refused.code, MISMATCH, "{act:?}: {refused}");
        let said = format!("{}{}", refused.stdout, refused.stderr);
        assert!(said.contains("--adopt"), "{act:?}: {refused}");
    }
    assert_eq!(two.env.sandbox_effects(), before);
    assert_eq!(
        two.env.run_cli(&["runs", "list", "-o", "json", "--state", "other"]).parse_json()[0]["status"],
        "waiting"
    );
    // What only reads is allowed, and prints what brings the run on here.
    for look in [["runs", "list"].as_slice(), &["runs", "show", "last"]] {
        let shown = two.env.run_cli(&[look, &["--state", "other"]].concat());
        assert_eq!(shown.code, 0, "{look:?}: {shown}");
        assert!(
            shown.stderr.contains("is not where it acts: its file `place` is a copy"),
            "{look:?}: {shown}"
        );
        let next = shown.stderr.lines().rev().find(|line| line.contains("redrill ")).unwrap_or_default();
        assert!(next.contains("approve") && next.contains("--adopt"), "{look:?}: {shown}");
    }
}

#[test]
fn a_copy_that_is_taken_over_goes_on_and_says_who_did_it() {
    let two = TwoFolders::new();
    write_gated_runbook(&two.env);
    assert_eq!(two.env.run_cli(&["run", "r.rhai"]).code, 3);
    two.copy();
    fs::remove_dir_all(two.mine.join("runs")).unwrap();
    let done = two.env.run_cli_with_variables(
        &["approve", "last", "--resume", "--state", "other", "--adopt"],
        &[("USER", "ann")],
    );
    assert_eq!(done.code, 0, "{done}");
    assert!(done.stderr.contains("ann took the state folder over: it acted on "), "{done}");
    let shown = two.env.run_cli(&["runs", "show", "last", "--state", "other"]);
    assert!(shown.stdout.contains("the state was taken over by ann: on "), "{shown}");
    let verified =
        two.env.run_cli(&["runs", "verify", "last", "--state", "other", "-o", "json"]).parse_json();
    assert_eq!((&verified["ok"], &verified["adopted"][0]["by"]), (&true.into(), &"ann".into()), "{verified}");
    let table = two.env.run_cli(&["runs", "verify", "last", "--state", "other"]);
    assert!(table.stdout.contains("ann"), "{table}");
    // It is the place now: nothing is asked, and nothing is said, a second time.
    let again = two.env.run_cli(&["backup", "create", "-t", "sandbox", "--state", "other", "--adopt"]);
    assert!(again.code == 0 && !again.stderr.contains("took the state folder over"), "{again}");
    assert_eq!(two.env.sandbox_effects()["replica.create"], 1);
}

#[test]
fn a_moved_folder_goes_on() {
    let env = CliEnv::new();
    write_gated_runbook(&env);
    assert_eq!(env.run_cli(&["run", "r.rhai"]).code, 3);
    fs::rename(env.path(".redrill"), env.path("moved")).unwrap();
    let done = env.run_cli(&["approve", "last", "--resume", "--state", "moved"]);
    assert_eq!(done.code, 0, "{done}");
}

/// Leaves a run of which the journal was put back to where it waited: everything after that is done and not known.
fn roll_back(env: &CliEnv, script: &str, needs: &str) {
    env.write_file("r.rhai", &sandbox_runbook(needs, script));
    assert_eq!(env.run_cli(&["run", "r.rhai"]).code, 3);
    copy_state(&env.path(".redrill"), &env.path("older"));
    let done = env.run_cli(&["approve", "last", "--resume"]);
    assert_eq!(done.code, 0, "{done}");
    put_journal_back(&env.path("older"), &env.path(".redrill"));
}

#[test]
fn a_journal_that_was_rolled_back_does_nothing_twice() {
    let env = CliEnv::new();
    let script = "approve(\"go?\");\nlet b = backup::create(params.db);\n\
        branch::create(params.db, #{ into: \"kept\" });\n\
        db::execute(params.db, \"insert into customers (name, email) values ('x', 'x@example.org')\");\nb.id";
    roll_back(&env, script, "\"backup.create\", \"branch.create\", \"db.destroy\"");
    let effects = env.sandbox_effects();
    let listed = env.run_cli(&["runs", "list"]);
    assert!(listed.code == 0 && listed.stderr.contains("was rolled back"), "{listed}");
    for (act, next) in [
        (["approve", "last", "--resume"].as_slice(), "--adopt --rolled-back\n"),
        (&["approve", "last", "--resume", "--adopt"], "--adopt --rolled-back\n"),
        (&["backup", "create", "-t", "sandbox"], "--adopt --rolled-back\n"),
        (&["--adopt", "backup", "create", "-t", "sandbox"], "-t sandbox --rolled-back\n"),
    ] {
        let refused = env.run_cli(act);
        assert_eq!(refused.code, MISMATCH, "{refused}");
        assert!(refused.stderr.contains("was rolled back") && refused.stderr.ends_with(next), "{refused}");
    }
    let stopped = env.run_cli(&["approve", "last", "--resume", "--adopt", "--rolled-back"]);
    // The backup and the branch are found by their keys; of the statement nobody knows.
    assert_eq!(stopped.code, 4, "{stopped}");
    assert!(stopped.stderr.contains("db::execute"), "{stopped}");
    assert_eq!(env.sandbox_effects(), effects);
    // A resume does not forget that.
    let again = env.run_cli(&["resume", "last", "--yes"]);
    assert_eq!(again.code, 4, "{again}");
    assert_eq!(env.sandbox_effects(), effects);
    let decided =
        env.run_cli(&["runs", "decide", "last", "execute", "done", "--result", "{\"rows_affected\": 1}"]);
    assert_eq!(decided.code, 0, "{decided}");
    let done = env.run_cli(&["resume", "last", "--yes"]);
    assert_eq!(done.code, 0, "{done}");
    assert_eq!(env.sandbox_effects(), effects);
    assert_eq!(env.run_cli(&["runs", "verify", "last"]).code, 0);
}

/// A run that is rolled back to before a statement, behind which it had made a temporary branch.
const LOST_BRANCH: &str = "approve(\"go?\");\n\
    db::execute(params.db, \"insert into customers (name, email) values ('x', 'x@example.org')\");\n\
    branch::create(params.db, #{ into: \"copy\", temporary: true });\napprove(\"again?\");";

/// Leaves a run of which the journal was put back to its first gate, while it waits at its second.
fn roll_back_between_gates(env: &CliEnv) {
    env.write_file("r.rhai", &sandbox_runbook("\"branch.create\", \"db.destroy\"", LOST_BRANCH));
    assert_eq!(env.run_cli(&["run", "r.rhai"]).code, 3);
    copy_state(&env.path(".redrill"), &env.path("older"));
    assert_eq!(env.run_cli(&["approve", "last", "--resume"]).code, 3);
    put_journal_back(&env.path("older"), &env.path(".redrill"));
}

#[test]
fn after_a_rollback_what_only_a_person_knows_is_decided_and_lost_branches_are_named() {
    let env = CliEnv::new();
    roll_back_between_gates(&env);
    let effects = env.sandbox_effects();
    let stopped = env.run_cli(&["approve", "last", "--resume", "--adopt", "--rolled-back"]);
    assert_eq!(stopped.code, 4, "{stopped}");
    let id = env.list_runs()[0]["id"].as_str().unwrap().to_owned();
    let next = format!("redrill runs decide {id} '/db::execute#0' fail");
    let lost = "branch sandbox/copy (made in the part of its history that the journal has lost)";
    assert!(stopped.stderr.trim_end().ends_with(&next) && stopped.stderr.contains(lost), "{stopped}");
    for shown in [env.run_cli(&["runs", "list"]), env.run_cli(&["runs", "show", "last"])] {
        assert!(shown.stderr.trim_end().ends_with(&next), "{shown}");
    }
    // To give it up meets the same call, and says the same.
    let given_up = env.run_cli(&["runs", "abandon", "last"]);
    assert_eq!(given_up.code, 4, "{given_up}");
    assert!(given_up.stderr.trim_end().ends_with(&next) && given_up.stderr.contains(lost), "{given_up}");
    assert!(given_up.stderr.contains(&format!("redrill runs abandon {id} --leave")), "{given_up}");
    let decided = env.run_cli(&["runs", "decide", "last", "/db::execute#0", "fail"]);
    assert!(decided.stderr.trim_end().ends_with(&format!("redrill runs abandon {id}")), "{decided}");
    let ended = env.run_cli(&["runs", "abandon", "last"]);
    assert!(ended.code == 0 && ended.stderr.contains(lost), "{ended}");
    assert_eq!(env.list_runs()[0]["left_behind"][0], lost);
    assert_eq!(env.sandbox_effects(), effects, "what is not recorded is named and not removed");
}

#[test]
fn a_run_that_was_rolled_back_and_is_left_says_that_more_may_be_there() {
    let env = CliEnv::new();
    roll_back_between_gates(&env);
    let left = env.run_cli(&["runs", "abandon", "last", "--leave", "--adopt", "--rolled-back"]);
    let lost = "what it made in the part of its history that the journal has lost";
    assert!(left.code == 0 && left.stderr.contains(lost), "{left}");
}

#[test]
fn a_command_takes_a_state_over_once() {
    let env = CliEnv::new();
    write_gated_runbook(&env);
    assert_eq!(env.run_cli(&["run", "r.rhai"]).code, 3);
    let done = env.run_cli(&["approve", "last", "--resume", "--adopt", "--rolled-back"]);
    assert_eq!(done.stderr.matches("took the state folder over").count(), 1, "{done}");
    let shown = env.run_cli(&["runs", "show", "last"]);
    assert_eq!(shown.stdout.matches("the state was taken over by").count(), 1, "{shown}");
}

#[test]
fn what_was_removed_or_changed_before_a_rollback_is_not_said_to_have_failed() {
    let env = CliEnv::new();
    let script = "branch::create(params.db, #{ into: \"old\" });\napprove(\"go?\");\nbranch::delete(params.db, \"old\");\n\
        db::config::set(params.db, #{ work_mem: \"8MB\" });";
    roll_back(&env, script, "\"branch.create\", \"branch.destroy\", \"db.change\"");
    let effects = env.sandbox_effects();
    let stopped = env.run_cli(&["approve", "last", "--resume", "--adopt", "--rolled-back"]);
    assert_eq!(stopped.code, 4, "{stopped}");
    assert!(stopped.stderr.contains("branch::delete"), "{stopped}");
    let decided = env.run_cli(&["runs", "decide", "last", "delete", "redo"]);
    assert_eq!(decided.code, 0, "{decided}");
    let failed = env.run_cli(&["resume", "last", "--yes"]);
    assert_ne!(failed.code, 0, "it is gone, and somebody wanted it removed again: {failed}");
    assert_eq!(env.sandbox_effects(), effects);
}

#[test]
fn a_change_that_holds_after_a_rollback_is_not_made_again() {
    let env = CliEnv::new();
    let script = "approve(\"go?\");\ndb::config::set(params.db, #{ work_mem: \"8MB\" });";
    roll_back(&env, script, "\"db.change\"");
    let effects = env.sandbox_effects();
    let done = env.run_cli(&["approve", "last", "--resume", "--adopt", "--rolled-back"]);
    assert_eq!(done.code, 0, "{done}");
    assert_eq!(env.sandbox_effects(), effects);
}

#[test]
fn what_keeps_no_key_is_left_to_a_person_after_a_rollback() {
    for (call, needs) in [
        ("backup::pitr::mark(params.db, \"here\");", "\"backup.create\""),
        ("db::execute(params.db, \"vacuum\", #{ transaction: false });", "\"db.destroy\""),
    ] {
        let env = CliEnv::new();
        roll_back(&env, &format!("approve(\"go?\");\n{call}"), needs);
        let effects = env.sandbox_effects();
        let stopped = env.run_cli(&["approve", "last", "--resume", "--adopt", "--rolled-back"]);
        assert_eq!(stopped.code, 4, "{call}: {stopped}");
        assert_eq!(env.run_cli(&["resume", "last", "--yes"]).code, 4, "{call}");
        assert_eq!(env.sandbox_effects(), effects, "{call}");
    }
}

/// Files of a state that do not read are damaged in these ways.
const DAMAGES: [fn(&Path); 2] = [
    |path| fs::write(path, "\u{1}x").unwrap(),
    |path| {
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
    },
];

#[test]
fn a_number_that_does_not_read_is_named_and_the_state_taken_over_as_rolled_back() {
    for damage in DAMAGES {
        let env = CliEnv::new();
        let script = "approve(\"go?\");\n\
            db::execute(params.db, \"insert into customers (name, email) values ('x', 'x@example.org')\");";
        env.write_file("r.rhai", &sandbox_runbook("\"db.destroy\"", script));
        assert_eq!(env.run_cli(&["run", "r.rhai"]).code, 3);
        let id = env.list_runs()[0]["id"].as_str().unwrap().to_owned();
        damage(&env.path(&format!(".redrill/runs/{id}.synced")));
        let listed = env.run_cli(&["runs", "list"]);
        assert!(listed.code == 0 && listed.stderr.contains("may have been rolled back"), "{listed}");
        for (act, next) in [
            (["approve", "last", "--resume"].as_slice(), "--adopt --rolled-back\n"),
            (&["approve", "last", "--resume", "--adopt"], "--adopt --rolled-back\n"),
        ] {
            let refused = env.run_cli(act);
            assert_eq!(refused.code, MISMATCH, "{refused}");
            assert!(
                refused.stderr.contains(&format!("its file `runs/{id}.synced` does not say")),
                "{refused}"
            );
            assert!(refused.stderr.ends_with(next), "{refused}");
        }
        let effects = env.sandbox_effects();
        let stopped = env.run_cli(&["approve", "last", "--resume", "--adopt", "--rolled-back"]);
        assert_eq!(stopped.code, 4, "nobody knows whether the statement was made: {stopped}");
        assert_eq!(env.sandbox_effects(), effects);
        let again = env.run_cli(&["backup", "create", "-t", "sandbox"]);
        assert_eq!(again.code, 0, "the state is whole: {again}");
    }
}

#[test]
fn a_place_that_does_not_read_is_named_and_the_state_taken_over_as_rolled_back() {
    for damage in DAMAGES {
        let env = CliEnv::new();
        write_gated_runbook(&env);
        assert_eq!(env.run_cli(&["run", "r.rhai"]).code, 3);
        damage(&env.path(".redrill/place"));
        assert_eq!(env.run_cli(&["runs", "list"]).code, 0, "it can be read");
        for (act, next) in [
            (["backup", "create", "-t", "sandbox"].as_slice(), "-t sandbox --adopt --rolled-back\n"),
            (&["backup", "create", "-t", "sandbox", "--adopt"], "-t sandbox --adopt --rolled-back\n"),
        ] {
            let refused = env.run_cli(act);
            assert_eq!(refused.code, MISMATCH, "{refused}");
            assert!(refused.stderr.contains("its file `place` does not read ("), "{refused}");
            assert!(refused.stderr.ends_with(next), "{refused}");
        }
        let adopted = env.run_cli(&["backup", "create", "-t", "sandbox", "--adopt", "--rolled-back"]);
        assert_eq!(adopted.code, 0, "{adopted}");
        let shown = env.run_cli(&["runs", "show", env.list_runs()[1]["id"].as_str().unwrap()]);
        assert!(shown.stdout.contains("what was done before may not be recorded"), "{shown}");
        let again = env.run_cli(&["backup", "create", "-t", "sandbox"]);
        assert_eq!(again.code, 0, "the state is whole: {again}");
    }
}

#[test]
fn a_run_that_is_killed_where_it_writes_is_never_taken_for_rolled_back() {
    let env = CliEnv::new();
    let script = "for i in 0..40 { note(`${i}`); backup::create(params.db, #{ label: `b${i}` }); }";
    env.write_file("r.rhai", &sandbox_runbook("\"backup.create\"", script));
    let mut command = ["run", "r.rhai"].as_slice();
    for calls in [4, 12, 20, 28, 36, 44] {
        let mut child = env.start_until_calls(command, calls);
        child.kill().unwrap();
        child.wait().unwrap();
        command = &["resume", "last", "--yes"];
    }
    let done = env.run_cli(&["resume", "last", "--yes"]);
    assert_eq!(done.code, 0, "{done}");
    assert_eq!(env.sandbox_effects()["backup.create"], 40);
}

#[test]
fn a_journal_that_is_gone_is_said_and_not_made_anew() {
    let env = CliEnv::new();
    assert_eq!(env.run_cli(&["backup", "create", "-t", "sandbox"]).code, 0);
    let run = env.list_runs()[0]["id"].as_str().unwrap().to_owned();
    let effects = env.sandbox_effects();
    drop(fs::remove_file(env.path(".redrill/journal.db-wal")));
    fs::write(env.path(".redrill/journal.db"), "").unwrap();
    for command in [
        ["runs", "list"].as_slice(),
        &["runs", "list", "-o", "json"],
        &["runs", "show", &run],
        &["backup", "create", "-t", "sandbox"],
    ] {
        let refused = env.run_cli(command);
        assert_eq!(refused.code, MISMATCH, "{refused}");
        let said = format!("{}{}", refused.stdout, refused.stderr);
        assert!(said.contains("gone or empty") && said.contains(&run), "{refused}");
        assert!(refused.stderr.ends_with("--adopt --rolled-back\n"), "{refused}");
    }
    assert_eq!(env.sandbox_effects(), effects);
    let done = env.run_cli(&["backup", "create", "-t", "sandbox", "--adopt", "--rolled-back"]);
    assert!(done.code == 0 && done.stderr.contains(&run), "{done}");
    assert_eq!(env.list_runs().as_array().unwrap().len(), 1);
}

#[test]
fn what_is_printed_of_a_journal_that_is_gone_begins_a_new_one() {
    let leave_empty = |path: &Path| fs::write(path, "").unwrap();
    let remove = |path: &Path| fs::remove_file(path).unwrap();
    for (leave, command) in [
        (&leave_empty as &dyn Fn(&Path), ["runs", "list"].as_slice()),
        (&remove, &["runs", "list"]),
        (&remove, &["backup", "create", "-t", "sandbox"]),
    ] {
        let env = CliEnv::new();
        assert_eq!(env.run_cli(&["backup", "create", "-t", "sandbox"]).code, 0);
        drop(fs::remove_file(env.path(".redrill/journal.db-wal")));
        leave(&env.path(".redrill/journal.db"));
        let refused = env.run_cli(command);
        let next = refused.stderr.lines().last().unwrap_or_default().trim().to_owned();
        assert!(next.starts_with("redrill ") && next.ends_with("--adopt --rolled-back"), "{refused}");
        let words: Vec<&str> = next.split_whitespace().skip(1).collect();
        let begun = env.run_cli(&words);
        assert_eq!(begun.code, 0, "{begun}");
        for again in [["runs", "list"].as_slice(), &["backup", "create", "-t", "sandbox"]] {
            let done = env.run_cli(again);
            assert_eq!(done.code, 0, "{done}");
        }
    }
}

#[test]
fn runs_are_pruned_when_somebody_says_so() {
    let env = CliEnv::new();
    write_gated_runbook(&env);
    assert_eq!(env.run_cli(&["run", "r.rhai"]).code, 3);
    for _ in 0..3 {
        assert_eq!(env.run_cli(&["backup", "create", "-t", "sandbox"]).code, 0);
    }
    let ids = |env: &CliEnv| -> Vec<String> {
        let runs = env.list_runs();
        runs.as_array().unwrap().iter().map(|run| run["id"].as_str().unwrap().to_owned()).collect()
    };
    let before = ids(&env);
    let young = env.run_cli(&["runs", "prune", "--yes"]);
    assert!(young.code == 0 && young.stderr.contains("there is nothing to remove"), "{young}");
    let shown = env.run_cli(&["runs", "prune", "--keep", "1"]);
    assert!(shown.code == 0 && shown.stderr.ends_with("redrill runs prune --keep 1 --yes\n"), "{shown}");
    assert!(shown.stdout.contains(&before[1]) && shown.stdout.contains(&before[2]), "{shown}");
    assert_eq!(ids(&env), before, "nothing was removed");
    let pruned = env.run_cli(&["runs", "prune", "--keep", "1", "--yes"]);
    assert_eq!(pruned.code, 0, "{pruned}");
    assert_eq!(ids(&env), [before[0].clone(), before[3].clone()], "the newest, and the one that waits");
    let gone = env.run_cli(&["runs", "show", &before[1]]);
    assert!(gone.code == 2 && gone.stderr.contains("was pruned at"), "{gone}");
    let open = env.run_cli(&["runs", "prune", &before[3], "--yes"]);
    assert!(open.code == 2 && open.stderr.contains("has not ended"), "{open}");
    assert_eq!(env.run_cli(&["runs", "prune", "--keep", "1", &before[0]]).code, 2, "one or the other");
    assert_eq!(env.run_cli(&["runs", "prune", "--older-than", "soon"]).code, 2);
}

#[test]
fn a_run_that_left_something_behind_is_removed_only_by_name() {
    let env = CliEnv::new();
    let script = "branch::create(params.db, #{ into: \"copy\", temporary: true });\napprove(\"go?\");";
    env.write_file("r.rhai", &sandbox_runbook("\"branch.create\"", script));
    assert_eq!(env.run_cli(&["run", "r.rhai"]).code, 3);
    assert_eq!(env.run_cli(&["runs", "abandon", "last", "--leave"]).code, 0);
    let kept = env.run_cli(&["runs", "prune", "--keep", "0", "--yes"]);
    assert!(kept.code == 0 && kept.stderr.contains("left behind, unless they are named"), "{kept}");
    let id = env.list_runs()[0]["id"].as_str().unwrap().to_owned();
    let removed = env.run_cli(&["runs", "prune", &id, "--yes"]);
    assert_eq!(removed.code, 0, "{removed}");
    assert_eq!(env.list_runs(), serde_json::json!([]));
}

#[test]
fn the_table_has_the_newest_runs_and_says_how_many_more() {
    let env = CliEnv::new();
    for _ in 0..52 {
        env.leave_run("0.2.0", vec![]);
    }
    let lines = |done: &str| done.lines().count();
    let newest = env.run_cli(&["runs", "list"]);
    assert_eq!(lines(&newest.stdout), 51, "a heading and 50 runs: {newest}");
    assert!(newest.stderr.ends_with("and 2 older runs: redrill runs list --all\n"), "{newest}");
    assert_eq!(lines(&env.run_cli(&["runs", "list", "--all"]).stdout), 53);
    assert_eq!(env.list_runs().as_array().unwrap().len(), 52, "a program gets them all");
}
