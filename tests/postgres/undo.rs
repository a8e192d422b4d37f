//! A table is dropped under load, and comes back whole: all that was committed before, and nothing after.

use crate::env::{CliEnv, CliLab, shipped_runbook};
use std::time::Duration;

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
