//! Statements through the platform, which a real cluster answers.

use super::super::{
    super::mock_api::{MockApi, MockReply, REF},
    *,
};
use crate::provider::{SideEffects, postgres::test_cluster::TestCluster};
use serde_json::json;
use std::sync::Arc;

/// What a test does to one request on its way.
type ChooseFault = fn(&str) -> Option<GatewayFault>;

#[derive(Clone, Copy)]
enum GatewayFault {
    /// It never arrives.
    Lost,
    /// It is done, and the answer is lost.
    AnswerLost,
    /// It is done, and the gateway says that it does not know.
    Gateway,
}

/// Serves the endpoints for SQL from a real database; nothing where PostgreSQL is not installed.
async fn served(choose_fault: ChooseFault) -> Option<(MockApi, Arc<TestCluster>)> {
    let cluster = Arc::new(TestCluster::start(&[]).await?);
    let database = Arc::clone(&cluster);
    let server = MockApi::serve_async(move |seen| {
        let database = Arc::clone(&database);
        async move {
            if seen.line.ends_with("/readonly") {
                return MockReply::from_json(200, &json!({"enabled": false, "override_enabled": false}));
            }
            let sql = seen.body["query"].as_str().expect("a statement").to_owned();
            let fault = choose_fault(&sql);
            if matches!(fault, Some(GatewayFault::Lost)) {
                return MockReply::without_answer();
            }
            let said = database.answer_as_platform(&sql, seen.line.ends_with("/read-only")).await;
            match (fault, said) {
                (Some(GatewayFault::Gateway), _) => MockReply::from_text(504, "<html>Gateway Timeout</html>"),
                (Some(_), _) => MockReply::without_answer(),
                (None, Ok(rows)) => MockReply::from_json(201, &rows),
                (None, Err(why)) => {
                    MockReply::from_json(400, &json!({"message": format!("Failed to run sql query: {why}")}))
                }
            }
        }
    })
    .await;
    Some((server, cluster))
}

fn none(_: &str) -> Option<GatewayFault> {
    None
}

async fn query(server: &MockApi, sql: &str) -> Result<Rows> {
    server.project().query(sql, Span::from_secs(30)).await
}

fn key() -> CallKey {
    CallKey("abcdefghij".into())
}

async fn open(server: &MockApi, sql: &str) -> Result<Box<dyn OpenTransaction>> {
    server.project().execute_uncommitted(sql, Span::from_secs(3600), &key()).await
}

async fn settle(server: &MockApi, token: &Value) -> Result<CommitState> {
    server.project().find_commit_state(&key(), token).await
}

/// Runs a statement, commits it and removes its mark.
async fn execute(server: &MockApi, sql: &str) -> Result<SqlOutcome> {
    let transaction = open(server, sql).await?;
    let token = transaction.token();
    let outcome = transaction.commit().await?;
    server.project().remove_commit_mark(&token).await.map(|()| outcome)
}

/// Returns the number that a query gives.
async fn count(database: &TestCluster, sql: &str) -> String {
    let rows = database.answer_as_platform(sql, false).await.expect(sql);
    rows[0]["n"].as_str().expect("a number").to_owned()
}

const MARKS: &str = "select count(*) as n from pg_largeobject_metadata";

#[tokio::test]
async fn values_have_the_types_that_every_provider_gives() {
    let Some((server, _database)) = served(none).await else { return };
    let sql = "
        with x(n) as (values (1)) -- a comment; with a semicolon
        select 9007199254740993::int8 as big, 7::int2 as small, 12::numeric as whole, 12.50::numeric as part,
               1::float8 as float, 'NaN'::float8 as nan, true as yes, null::int4 as nothing, '' as empty,
               timestamptz '2026-11-20 04:00:00.5+01' as at, timestamp '2026-11-20 04:00:00' as local,
               '{\"a\": [1, null]}'::jsonb as doc, array[1, null, 3] as list, array['a,b', 'NULL', null] as words,
               '{{1,2},{3,4}}'::int8[] as grid, '1 2'::int2vector as vector, '\\x00ff'::bytea as bytes,
               '6f1ed002-ab5c-4f0e-9c1c-1d6a3c6a7d1c'::uuid as id, 'ab'::char(4) as padded,
               row(null, null) as pair, \"n\" as \"Odd \"\"name\"\"\", 3.5::float4 as \"?column?\"
        from x; -- done";
    let rows = query(&server, sql).await.expect("rows");
    assert_eq!(
        rows.columns[..6],
        ["big", "small", "whole", "part", "float", "nan"].map(str::to_owned),
        "in their order"
    );
    assert_eq!(
        Value::Object(rows.rows[0].clone()),
        json!({"big": 9_007_199_254_740_993_i64, "small": 7, "whole": 12, "part": "12.50", "float": 1.0, "nan": "NaN",
               "yes": true, "nothing": null, "empty": "", "at": "2026-11-20T03:00:00.5Z",
               "local": "2026-11-20 04:00:00", "doc": {"a": [1, null]}, "list": [1, null, 3],
               "words": ["a,b", "NULL", null], "grid": [[1, 2], [3, 4]], "vector": [1, 2], "bytes": "\\x00ff",
               "id": "6f1ed002-ab5c-4f0e-9c1c-1d6a3c6a7d1c", "padded": "ab  ", "pair": "(,)",
               "Odd \"name\"": 1, "?column?": 3.5})
    );
}

#[tokio::test]
async fn values_are_those_of_the_postgres_provider() {
    let Some((server, database)) = served(none).await else { return };
    database
        .run_statements(&[
            "create domain cents as numeric check (value >= 0)",
            "create type mood as enum ('glad', 'sad')",
            "create table odd (a cents, b cents[], c mood, d mood[], e interval, f box[], g date, h money, i inet, j \"char\")",
            "insert into odd values (5, '{1,2.5}', 'sad', '{glad,null}', '1 day 02:00', '{(1,1),(0,0);(2,2),(0,0)}',
                                     '2026-11-20', 3, '10.0.0.1/8', 'x'), (null, null, null, null, null, null, null, null, null, null)",
        ])
        .await;
    for sql in [
        "select * from public.odd order by a nulls last",
        "table public.odd",
        "(select 1 as a union all select 2)",
    ] {
        let there = database.database().query(sql, Span::from_secs(30)).await.expect(sql);
        assert_eq!(query(&server, sql).await.expect(sql), there, "{sql}");
    }
}

#[tokio::test]
async fn columns_may_be_called_whatever_ours_are() {
    let Some((server, _database)) = served(none).await else { return };
    let names =
        ["q", "r", "n", "k", "o", "t", "u", "one", "own", "base", "item", "elem", "oids", "answer", "rows"];
    let list =
        names.iter().enumerate().map(|(n, name)| format!("{n} as {name}")).collect::<Vec<_>>().join(", ");
    let rows = query(&server, &format!("select {list}")).await.expect("rows");
    assert_eq!(rows.columns, names);
    assert_eq!(rows.rows[0]["elem"], json!(11));
}

#[tokio::test]
async fn a_query_keeps_its_order_and_may_have_no_rows_or_columns() {
    let Some((server, _database)) = served(none).await else { return };
    let rows =
        query(&server, "select n from generate_series(1, 500) as n order by n desc").await.expect("rows");
    assert_eq!(rows.rows.len(), 500);
    assert_eq!((&rows.rows[0]["n"], &rows.rows[499]["n"]), (&json!(500), &json!(1)));
    let none = query(&server, "select 1 as a, 'x' as b where false").await.expect("no rows");
    assert_eq!((none.columns, none.rows.len()), (vec!["a".to_owned(), "b".to_owned()], 0));
    assert_eq!(query(&server, "select").await.expect("no columns").columns, Vec::<String>::new());
    let wide = (0..150).map(|n| format!("{n} as c{n}")).collect::<Vec<_>>().join(", ");
    let wide =
        query(&server, &format!("select {wide}")).await.expect("more columns than a function has arguments");
    assert_eq!(wide.rows[0]["c149"], json!(149));
    assert_eq!(query(&server, "show server_version_num").await.expect("shown").rows.len(), 1);
    let explained = query(&server, "explain select 1").await.expect("explained");
    assert_eq!(explained.columns, ["QUERY PLAN"]);
}

#[tokio::test]
async fn a_query_is_asked_for_its_shape_once_and_notices_another() {
    let Some((server, database)) = served(none).await else { return };
    database.run_statements(&["create table public.growing (a int)", "insert into growing values (1)"]).await;
    let sql = "select * from public.growing";
    for _ in 0..3 {
        assert_eq!(query(&server, sql).await.expect("rows").columns, ["a"]);
    }
    assert_eq!(server.received_requests().len(), 4, "one shape and three looks");
    database.run_statements(&["alter table growing add b text default 'x'"]).await;
    let rows = query(&server, sql).await.expect("rows");
    assert_eq!(Value::Object(rows.rows[0].clone()), json!({"a": 1, "b": "x"}));
    database.run_statements(&["alter table growing drop a"]).await;
    assert_eq!(query(&server, sql).await.expect("rows").columns, ["b"]);
    database.run_statements(&["drop table growing"]).await;
    assert_eq!(query(&server, sql).await.expect_err("gone").code, Code::Sql);
}

#[tokio::test]
async fn a_query_that_is_asked_for_its_shape_is_not_run() {
    let Some((server, database)) = served(none).await else { return };
    database.run_statements(&["create sequence public.calls"]).await;
    query(&server, "select nextval('public.calls')").await.expect_err("a sequence is written");
    let fails = "select 1 / (n - 1) as x from generate_series(1, 1) as n";
    let names =
        server.project().query_answer_column(&statements::column_names_sql(fails)).await.expect("not run");
    assert_eq!(names, json!(["x"]));
    assert!(query(&server, fails).await.expect_err("run").message.contains("division by zero"));
}

#[tokio::test]
async fn a_query_cannot_change_anything_and_is_one_statement() {
    let Some((server, database)) = served(none).await else { return };
    database.run_statements(&["create table public.t (n int)", "insert into t values (1)"]).await;
    for (sql, code) in [
        ("insert into public.t values (2)", Code::Sql),
        ("with x as (delete from public.t returning 1) select * from x", Code::Sql),
        ("select 1; select 2", Code::Invalid),
        ("commit", Code::Invalid),
        ("copy public.t to stdout", Code::Unsupported),
        ("select 1 as a, 2 as a", Code::Invalid),
        ("select nonsense", Code::Sql),
        ("select * from public.missing", Code::Sql),
    ] {
        let error = query(&server, sql).await.expect_err(sql);
        assert_eq!(error.code, code, "{sql}: {error}");
    }
    assert_eq!(query(&server, "select n from public.t").await.expect("rows").rows.len(), 1);
}

#[tokio::test]
async fn names_without_a_schema_are_found_where_the_role_has_no_search_path() {
    let Some((server, database)) = served(none).await else { return };
    database.run_statements(&["create table public.orders (n int)", "insert into orders values (7)"]).await;
    let rows = query(&server, "select n from orders").await.expect("rows");
    assert_eq!(rows.rows[0]["n"], json!(7));
    let error = query(&server, "select n from order_lines").await.expect_err("nowhere");
    assert!(error.message.contains("\"order_lines\" does not exist (SQLSTATE 42P01)"), "{error}");
    assert!(error.hint.expect("a hint").contains("`public.orders`"));
}

#[tokio::test]
async fn execute_counts_rows_and_leaves_nothing_behind() {
    let Some((server, database)) = served(none).await else { return };
    for (sql, rows) in [
        ("create table public.t (n int)", 0),
        ("insert into public.t select generate_series(1, 5); -- five", 5),
        ("update public.t set n = n + 1 where n > 2", 3),
        ("select * from public.t", 5),
        ("do $$ begin perform 1; end $$", 0),
    ] {
        let transaction = open(&server, sql).await.expect(sql);
        let token = transaction.token();
        let done = transaction.commit().await.expect(sql);
        assert_eq!(done, SqlOutcome { rows_affected: rows }, "{sql}");
        assert_eq!(settle(&server, &token).await, Ok(CommitState::Committed(done)), "{sql}");
        assert_eq!(count(&database, MARKS).await, "1", "until its outcome is on disk");
        for _ in 0..2 {
            server.project().remove_commit_mark(&token).await.expect("removed, or gone already");
        }
    }
    assert_eq!(count(&database, MARKS).await, "0");
}

#[tokio::test]
async fn execute_that_is_refused_changes_nothing() {
    let Some((server, database)) = served(none).await else { return };
    database
        .run_statements(&["create table public.t (n int check (n < 3))", "create sequence public.s"])
        .await;
    for (sql, code) in [
        ("insert into public.t select generate_series(1, 5)", Code::Sql),
        ("insert into public.t values (1); insert into public.t values (2)", Code::Invalid),
        ("rollback", Code::Invalid),
        ("vacuum public.t", Code::Unsupported),
        ("insert into public.t values ('$statement_abcdefghij$')", Code::Invalid),
        ("nonsense", Code::Sql),
    ] {
        let error = execute(&server, sql).await.expect_err(sql);
        assert_eq!((error.code, error.side_effects), (code, SideEffects::None), "{sql}: {error}");
    }
    assert_eq!(query(&server, "select n from public.t").await.expect("rows").rows.len(), 0);
    assert_eq!(count(&database, MARKS).await, "0");
    let fails = "select nextval('public.s'), 1 / (n - 1) from generate_series(1, 2) as n";
    let error = execute(&server, fails).await.expect_err("a division by zero");
    assert_eq!(error.side_effects, SideEffects::Some, "a sequence goes on: {error:?}");
}

#[tokio::test]
async fn execute_is_ended_by_the_server_when_its_time_is_over() {
    let Some((server, _database)) = served(none).await else { return };
    let sleeps =
        server.project().execute_uncommitted("select pg_sleep(600)", Span::from_millis(300), &key()).await;
    let error = sleeps.expect("ready").commit().await.expect_err("it sleeps too long");
    assert_eq!(error.code, Code::Timeout, "{error:?}");
}

#[tokio::test]
async fn execute_whose_answer_is_lost_is_found_by_its_mark() {
    fn lost(sql: &str) -> Option<GatewayFault> {
        sql.contains("into public.t values (1)").then_some(GatewayFault::AnswerLost)
    }
    fn gateway(sql: &str) -> Option<GatewayFault> {
        sql.contains("into public.t values (1)").then_some(GatewayFault::Gateway)
    }
    for choose_fault in [lost as ChooseFault, gateway] {
        let Some((server, database)) = served(choose_fault).await else { return };
        database.run_statements(&["create table public.t (n int)"]).await;
        let transaction = open(&server, "insert into public.t values (1)").await.expect("ready");
        let token = transaction.token();
        assert_eq!(transaction.commit().await.expect_err("no answer").code, Code::Unknown);
        let done = SqlOutcome { rows_affected: 1 };
        assert_eq!(settle(&server, &token).await, Ok(CommitState::Committed(done)));
        let sent = server.received_requests();
        let sent = sent.iter().filter(|s| s.body.to_string().contains("into public.t")).count();
        assert_eq!(sent, 1);
    }
}

#[tokio::test]
async fn execute_that_never_arrived_is_known_not_to_have_happened_once_it_can_start_no_more() {
    fn lost(sql: &str) -> Option<GatewayFault> {
        sql.contains("do $redrill").then_some(GatewayFault::Lost)
    }
    let Some((server, database)) = served(lost).await else { return };
    database.run_statements(&["create table public.t (n int)"]).await;
    let transaction = open(&server, "insert into public.t values (1)").await.expect("ready");
    let mut token = transaction.token();
    assert_eq!(transaction.commit().await.expect_err("lost").code, Code::Unknown);
    assert!(matches!(settle(&server, &token).await, Ok(CommitState::Open(_))), "it may still start");
    token["until"] = json!("2020-01-01T00:00:00Z");
    assert_eq!(settle(&server, &token).await, Ok(CommitState::NotCommitted), "too late to start");
    let other_version = settle(&server, &json!({"number": 5})).await.expect_err("unreadable");
    assert_eq!(other_version.code, Code::Internal);
}

#[tokio::test]
async fn a_statement_that_arrives_too_late_is_not_run() {
    let Some((server, database)) = served(none).await else { return };
    database.run_statements(&["create table public.t (n int)"]).await;
    let transaction = open(&server, "insert into public.t values (1)").await.expect("ready");
    let until = transaction.token()["until"].as_str().expect("a moment").to_owned();
    transaction.commit().await.expect("in time");
    let requests = server.received_requests();
    let sent = requests.iter().find(|s| s.body.to_string().contains("do $redrill")).expect("sent");
    let late = sent.body["query"].as_str().expect("a statement").replace(&until, "2020-01-01T00:00:00Z");
    let said = database.answer_as_platform(&late, false).await.expect_err("too late");
    assert!(said.contains("arrived too late"), "{said}");
    assert_eq!(query(&server, "select n from public.t").await.expect("rows").rows.len(), 1);
}

#[tokio::test]
async fn a_statement_that_still_runs_is_ended_by_whoever_asks_for_it() {
    let Some((server, database)) = served(none).await else { return };
    let holder = Arc::clone(&database);
    let mut token = json!({"number": 5, "until": "2020-01-01T00:00:00Z", "timeline": "00000001"});
    let running = tokio::spawn(async move {
        holder.answer_as_platform("select pg_advisory_xact_lock(1718186597, 5), pg_sleep(600)", false).await
    });
    while count(&database, "select count(*) as n from pg_locks where locktype = 'advisory'").await == "0" {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(matches!(settle(&server, &token).await, Ok(CommitState::Open(_))), "it runs, and is told to end");
    running.await.expect("over").expect_err("its session is ended");
    while settle(&server, &token).await != Ok(CommitState::NotCommitted) {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    token["timeline"] = json!("0000000A");
    let error = settle(&server, &token).await.expect_err("another past");
    assert!(error.code == Code::Unknown && error.message.contains("restored"), "{error}");
}

#[tokio::test]
async fn a_statement_outside_a_transaction_is_sent_as_it_is_and_alone() {
    fn lost(sql: &str) -> Option<GatewayFault> {
        sql.contains("checkpoint").then_some(GatewayFault::AnswerLost)
    }
    let Some((server, database)) = served(lost).await else { return };
    database.run_statements(&["create table public.t (n int)", "insert into t values (1), (1)"]).await;
    let run = async |sql: &str| server.project().execute_outside_transaction(sql, Span::from_secs(30)).await;
    run("vacuum public.t; -- done").await.expect("it runs");
    run("create index concurrently i on public.t (n)").await.expect("it runs");
    let half = "create unique index concurrently half on public.t (n)";
    let error = run(half).await.expect_err("the rows are equal");
    assert_eq!((error.code, error.side_effects), (Code::Sql, SideEffects::Some), "{error:?}");
    assert_eq!(run("vacuum; vacuum").await.expect_err("two").code, Code::Invalid);
    assert_eq!(run("checkpoint").await.expect_err("nobody knows").code, Code::Unknown);
}

#[tokio::test]
async fn health_is_an_answer_also_when_the_database_is_away() {
    let server = MockApi::serve_replies(|seen| {
        if seen.line.contains("/database/query") {
            MockReply::from_json(400, &json!({"message": "Failed to run sql query: connect ECONNREFUSED"}))
        } else {
            MockReply::from_json(200, &json!({"ref": REF, "status": "RESTORING"}))
        }
    })
    .await;
    let health = server.project().health().await.expect("an answer");
    assert_eq!((health.ok, health.status.as_str()), (false, "restoring"));
    let Some((server, _database)) = served(none).await else { return };
    let health = server.project().health().await.expect("an answer");
    assert!(health.ok && health.status == "healthy" && !health.in_recovery, "{health:?}");
    assert!(health.bytes > Some(1_000_000) && health.connections >= Some(1) && health.version.is_some());
}
