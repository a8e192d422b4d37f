//! What is undone on the lab: a table that was dropped under load comes back whole, all that was committed before and nothing
//! after; a restore in place whose undo could not finish is brought to its end by whatever is printed then.

use crate::{
    env::{CliEnv, CliLab, CommandOutput, shipped_runbook},
    next_step::{follow, next_line, type_line},
};
use std::{fs, path::PathBuf, time::Duration};

/// Every transaction of the load inserts into the table that will be dropped and into one that will not. The drop
/// waits for those that are under way and fails those that come after, so the surviving table counts exactly what was
/// committed before the drop.
const LOAD_SQL: &str =
    "begin; insert into ledger default values; insert into witness default values; commit;\n";

#[test]
fn a_table_dropped_under_load_comes_back_whole_on_the_lab() {
    let env = CliEnv::new();
    let Some(lab) = CliLab::start(&env) else { return };
    for table in ["ledger", "witness", "afterwards"] {
        lab.run_psql(&format!("create table {table} (id bigserial primary key)"));
    }
    assert_eq!(env.run_cli(&["backup", "create", "-t", "lab"]).code, 0);
    let load = lab.start_pgbench(LOAD_SQL, Duration::from_secs(4));
    std::thread::sleep(Duration::from_millis(1500));
    lab.run_psql("drop table ledger");
    lab.run_psql("insert into afterwards default values");
    load.wait();
    let committed = lab.run_psql("select count(*) from witness");
    assert!(committed.parse::<u64>().unwrap() > 50, "the load did only {committed} transactions");

    let runbook = shipped_runbook("undo_dropped_table");
    let done = env.run_cli(&["run", &runbook, "-p", "db=lab", "-p", "table=ledger"]);
    assert_eq!(done.code, 0, "{done}");
    assert!(done.stderr.contains("rto") && done.stderr.contains("rpo"), "{done}");

    let count = |table: &str| {
        let sql = format!("select count(*) as n from {table}");
        env.run_cli(&["db", "query", "-t", "lab/undo", &sql, "-o", "json"]).parse_json()[0]["n"].to_string()
    };
    assert_eq!(count("ledger"), committed, "rows of the dropped table");
    assert_eq!(count("witness"), committed, "rows committed before the drop");
    assert_eq!(count("afterwards"), "0", "rows committed after the drop");
    assert_eq!(env.run_cli(&["branch", "delete", "-t", "lab", "undo"]).code, 0);
    lab.take_down();
}

/// A restore in place of a lab whose undo could not finish: the configuration of its data does not start any more.
struct StuckRestore<'a> {
    env: &'a CliEnv,
    backup: String,
    good_configuration: String,
}

impl<'a> StuckRestore<'a> {
    fn leave_undecided(env: &'a CliEnv) -> Self {
        assert_eq!(env.run_cli(&["backup", "create", "-t", "lab"]).code, 0);
        let listed = env.run_cli(&["backup", "list", "-t", "lab", "-o", "json"]).parse_json();
        let backup = listed[0]["id"].as_str().unwrap().to_owned();
        let good_configuration = fs::read_to_string(Self::configuration_file(env)).unwrap();
        let stuck = Self { env, backup, good_configuration };
        stuck.spoil();
        let undecided = stuck.restore();
        assert_eq!(undecided.code, 4, "{undecided}");
        assert!(undecided.stderr.contains("could not be undone"), "{undecided}");
        assert!(next_line(&undecided).starts_with("redrill resume "), "{undecided}");
        stuck
    }

    fn configuration_file(env: &CliEnv) -> PathBuf {
        env.path(".redrill/lab/data/postgresql.conf")
    }

    fn spoil(&self) {
        let spoilt = format!("{}\nshared_preload_libraries = 'no_such_library'\n", self.good_configuration);
        fs::write(Self::configuration_file(self.env), spoilt).unwrap();
    }

    fn mend(&self) {
        fs::write(Self::configuration_file(self.env), &self.good_configuration).unwrap();
    }

    fn restore(&self) -> CommandOutput {
        let given = ["--confirm", "lab", "--timeout", "1m"];
        self.env.run_cli(&[&["backup", "restore", "-t", "lab", &self.backup][..], &given].concat())
    }

    fn decide_done(&self, result: &str) -> CommandOutput {
        let given = ["runs", "decide", "last", "backup::restore", "done", "--anyway", "--result"];
        self.env.run_cli(&[&given[..], &[result]].concat())
    }

    fn decide(&self, decision: &str) -> CommandOutput {
        self.env.run_cli(&["runs", "decide", "last", "backup::restore", decision])
    }
}

#[test]
fn a_decision_about_a_restore_whose_undo_did_not_finish_finishes_it_first() {
    let env = CliEnv::new();
    let Some(lab) = CliLab::start(&env) else { return };
    let stuck = StuckRestore::leave_undecided(&env);
    for decision in ["fail", "redo"] {
        let refused = stuck.decide(decision);
        assert_eq!(refused.code, 2, "{refused}");
        assert!(refused.stderr.contains("nothing was decided"), "{refused}");
        assert!(refused.stderr.contains("no_such_library"), "it says why: {refused}");
        assert!(next_line(&refused).starts_with("redrill resume "), "{refused}");
    }
    stuck.mend();
    let decided = stuck.decide("fail");
    assert_eq!(decided.code, 0, "{decided}");
    assert_eq!(lab.run_psql("select 1"), "1", "the server is up again");
    let failed = type_line(&env, &next_line(&decided));
    assert!(failed.code == 1 && failed.stderr.contains("was undone"), "{failed}");
    assert!(!failed.stderr.contains("may still come"), "nothing can come of it: {failed}");

    let stuck = StuckRestore::leave_undecided(&env);
    stuck.mend();
    let decided = stuck.decide("redo");
    assert_eq!(decided.code, 0, "{decided}");
    assert_eq!(follow(&env, decided), "succeeded");
    lab.take_down();
}

#[test]
fn what_a_run_that_was_given_up_has_left_undone_keeps_no_later_restore_away() {
    let env = CliEnv::new();
    let Some(lab) = CliLab::start(&env) else { return };
    let stuck = StuckRestore::leave_undecided(&env);
    let left = env.run_cli(&["runs", "abandon", "last", "--leave"]);
    assert!(left.code == 0 && left.stderr.contains("neither done nor undone"), "{left}");
    let named = left.stderr.split('`').find(|part| part.starts_with("redrill runs decide ")).unwrap();
    let refused = type_line(&env, named);
    assert!(refused.code == 2 && refused.stderr.contains("no_such_library"), "{refused}");
    stuck.mend();
    let ended = type_line(&env, named);
    assert!(ended.code == 0 && ended.stderr.contains("is undone"), "{ended}");
    assert_eq!(lab.run_psql("select 1"), "1", "the server is up again");
    let restored = stuck.restore();
    assert_eq!(restored.code, 0, "{restored}");

    // Of a run that is not known any more, the next restore takes it up.
    let stuck = StuckRestore::leave_undecided(&env);
    assert_eq!(env.run_cli(&["runs", "abandon", "last", "--leave"]).code, 0);
    let run = env.list_runs()[0]["id"].as_str().unwrap().to_owned();
    let pruned = env.run_cli(&["runs", "prune", &run, "--yes"]);
    assert_eq!(pruned.code, 0, "{pruned}");
    let refused = stuck.restore();
    assert_eq!(refused.code, 1, "{refused}");
    assert!(refused.stderr.contains("CONFLICT") && refused.stderr.contains("no_such_library"), "{refused}");
    stuck.mend();
    let restored = stuck.restore();
    assert_eq!(restored.code, 0, "{restored}");
    lab.take_down();
}

/// Begins a restore of a lab in place, after a table was made that it would take away, and kills it once its record says `phase`,
/// and before it is done.
fn kill_restore_at(env: &CliEnv, lab: &CliLab<'_>, backup: &str, phase: &str) {
    let said = format!("\"phase\": \"{phase}\"");
    let records = || fs::read_dir(env.path(".redrill/postgres/lab/restores")).into_iter().flatten().flatten();
    let has_phase = |said: &str| {
        records().any(|file| fs::read_to_string(file.path()).is_ok_and(|record| record.contains(said)))
    };
    loop {
        lab.run_psql("create table if not exists afterwards ()");
        let mut restoring = env.start_cli(&["backup", "restore", "-t", "lab", backup, "--confirm", "lab"]);
        while !has_phase(&said) && restoring.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(2));
        }
        restoring.kill().unwrap();
        restoring.wait().unwrap();
        if has_phase(&said) {
            return;
        }
        // It was over before it was killed.
        drop(env.run_cli(&["runs", "abandon", "last"]));
    }
}

#[test]
fn whoever_gives_a_restore_in_place_up_keeps_the_data() {
    let env = CliEnv::new();
    let Some(lab) = CliLab::start(&env) else { return };
    assert_eq!(env.run_cli(&["backup", "create", "-t", "lab"]).code, 0);
    let listed = env.run_cli(&["backup", "list", "-t", "lab", "-o", "json"]).parse_json();
    let backup = listed[0]["id"].as_str().unwrap().to_owned();
    let count = || lab.run_psql("select count(*) from pg_tables where tablename = 'afterwards'");

    for phase in ["copying", "replaying"] {
        kill_restore_at(&env, &lab, &backup, phase);
        let abandoned = env.run_cli(&["runs", "abandon", "last"]);
        assert_eq!((abandoned.code, count()), (0, "1".into()), "{phase}: {abandoned}");
    }
    kill_restore_at(&env, &lab, &backup, "replaying");
    let given_up = env.run_cli(&["runs", "decide", "last", "backup::restore", "fail", "--anyway"]);
    assert!(given_up.code == 0 && given_up.stderr.contains("is undone"), "{given_up}");
    let resumed = env.run_cli(&["resume", "last", "--confirm", "lab"]);
    assert_eq!((resumed.code, count()), (1, "1".into()), "{resumed}");

    // What a restore in place gives back is not a branch.
    let stuck = StuckRestore::leave_undecided(&env);
    let named = stuck.decide_done(r#"{"target": "lab", "name": "copy"}"#);
    assert!(named.code == 2 && named.stderr.contains("`name`"), "{named}");
    stuck.mend();
    assert_eq!(stuck.decide("fail").code, 0);
    lab.take_down();
}
