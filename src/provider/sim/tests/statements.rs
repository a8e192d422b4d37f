use super::*;

#[tokio::test]
async fn a_query_only_reads_one_statement_in_time() {
    let sim = sim_in_memory(LEDGER);
    let cases = [
        ("delete from entries", Code::Sql),
        ("truncate entries", Code::Sql),
        ("alter table entries enable row level security", Code::Sql),
        ("select 1; select 2", Code::Invalid),
        (" ; -- nothing", Code::Invalid),
        ("selec 1", Code::Sql),
        ("pragma journal_mode", Code::Unsupported),
        ("attach 'x.db' as x", Code::Unsupported),
        ("begin", Code::Unsupported),
        ("vacuum into 'x.db'", Code::Sql),
        ("select * from pragma_table_info('entries')", Code::Unsupported),
        ("select last_insert_rowid()", Code::Sql),
        (
            "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n",
            Code::Timeout,
        ),
    ];
    for (text, code) in cases {
        let error = sim.sql().expect("sql").query(text, Span::from_millis(200)).await.expect_err(text);
        assert_eq!(error.code, code, "{text}: {error:?}");
    }
    assert_eq!(entry_ids(&sim).await, [1, 2, 3]);
    let text = "select 1 as i, 1.5 as r, 'x' as t, null as n, x'00ff' as b, now() as at, datetime('now', '-1 hour') as d";
    let rows = sim.sql().expect("sql").query(text, Span::from_secs(5)).await.expect("it runs");
    assert_eq!(rows.columns, ["i", "r", "t", "n", "b", "at", "d"]);
    let expected = json!({"i": 1, "r": 1.5, "t": "x", "n": null, "b": "\\x00ff", "at": "2026-11-20T12:00:00Z", "d": "2026-11-20 11:00:00"});
    assert_eq!(Value::Object(rows.rows[0].clone()), expected);
}

#[tokio::test]
async fn a_statement_cannot_leave_its_database() {
    let sim = sim_in_memory(LEDGER);
    let cases = [
        ("vacuum into 'x.db'", Code::Unsupported),
        ("attach 'x.db' as x", Code::Unsupported),
        ("pragma foreign_keys = off", Code::Unsupported),
        ("commit", Code::Unsupported),
        ("create temp table x (id int)", Code::Unsupported),
        ("insert into entries values (8, changes())", Code::Sql),
        ("insert into entries values (8, 1); delete from entries", Code::Invalid),
        ("alter table nowhere enable row level security", Code::Sql),
        ("drop table nowhere", Code::Sql),
    ];
    for (text, code) in cases {
        let error = execute_sql(&sim, text, "k").await.expect_err(text);
        assert_eq!(error.code, code, "{text}: {error:?}");
    }
    assert_eq!(sim.effect_log().expect("the log"), []);
    execute_sql(&sim, "drop table if exists nowhere", "k1").await.expect("it does nothing");
    let query = TableEventQuery { table: None, event: None, since: None, until: None };
    assert_eq!(sim.backups().expect("backups").table_events(&query).await, Ok(Vec::new()));
    assert_eq!(entry_ids(&sim).await, [1, 2, 3]);
}

#[tokio::test]
async fn time_and_chance_replay_alike() {
    let sim = sim_in_memory(LEDGER);
    let create = "create table seen (id integer primary key, at text default current_timestamp, now text default (now()), die integer default (random()))";
    execute_sql(&sim, create, "k1").await.expect("it runs");
    execute_sql(&sim, "insert into seen (id) values (1), (2)", "k2").await.expect("it runs");
    let sql = "select * from seen order by id";
    let live = sim.sql().expect("sql").query(sql, Span::from_secs(5)).await.expect("it runs");
    assert_eq!(live.rows[0]["at"], json!("2026-11-20 12:00:00"));
    assert_ne!(live.rows[0]["die"], live.rows[1]["die"]);
    let copy = restore_branch(&sim, &branch_restore_request(RecoveryTarget::Latest), "k3")
        .await
        .expect("the branch comes");
    let replayed = copy.sql().expect("sql").query(sql, Span::from_secs(5)).await.expect("it runs");
    assert_eq!(live, replayed);
}
