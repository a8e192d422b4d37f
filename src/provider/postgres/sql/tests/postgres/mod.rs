//! SQL on a real cluster.

mod left_behind;

use super::super::{
    super::test_cluster::{PORT, TestCluster},
    *,
};
use crate::{
    base::{call_time::with_call_time, secret::SecretRef},
    provider::SideEffects,
};
use serde_json::json;
use std::path::Path;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
};

const QUERY_TIMEOUT: Span = Span::from_secs(10);

fn test_key() -> CallKey {
    CallKey("abcdefghij".into())
}

async fn query_maps(db: &Database, sql: &str) -> Result<Vec<Map<String, Value>>> {
    db.query(sql, QUERY_TIMEOUT).await.map(|rows| rows.rows)
}

async fn query_error(db: &Database, sql: &str) -> Error {
    query_maps(db, sql).await.expect_err(sql)
}

#[tokio::test]
async fn query_gives_every_type_its_value() {
    let Some(cluster) = TestCluster::start(&["timezone=Asia/Tokyo"]).await else { return };
    cluster.run_statements(&["create domain price as numeric(8,2); create domain small as int; create type mood as enum ('calm')"]).await;
    let sql = r#"select 1::int2 as a, 2::int8 as b, 3::oid as c, 1.5::float8 as d, 'NaN'::float4 as e,
        7::numeric as f, 7.10::price as g, true as h, 'x'::text as i, null::int as j,
        timestamptz '2026-11-20 12:00:00.25+09' as k, timestamp '2026-11-20 12:00' as l, date '2026-11-20' as m,
        '{"a": [1, {"b": null}]}'::jsonb as n, '\xdeadbeef'::bytea as o, '10.0.0.1/8'::inet as p,
        array[[1,2],[3,null]] as q, array['a,b', null, 'say "x"'] as r, array[timestamptz '2026-01-01 00:00+00'] as s,
        interval '1 day 2 hours' as t, 'calm'::mood as u, array['calm'::mood] as v, 5::small as w,
        '00000000-0000-0000-0000-000000000001'::uuid as x, int4range(1, 5) as y, '{1,2}'::numeric[] as z"#;
    let rows = query_maps(&cluster.database(), sql).await.expect("rows");
    let expected = json!({
        "a": 1, "b": 2, "c": 3, "d": 1.5, "e": "NaN", "f": 7, "g": "7.10", "h": true, "i": "x", "j": null,
        "k": "2026-11-20T03:00:00.25Z", "l": "2026-11-20 12:00:00", "m": "2026-11-20",
        "n": {"a": [1, {"b": null}]}, "o": "\\xdeadbeef", "p": "10.0.0.1/8",
        "q": [[1, 2], [3, null]], "r": ["a,b", null, "say \"x\""], "s": ["2026-01-01T00:00:00Z"],
        "t": "1 day 02:00:00", "u": "calm", "v": ["calm"], "w": 5,
        "x": "00000000-0000-0000-0000-000000000001", "y": "[1,5)", "z": [1, 2],
    });
    assert_eq!(Value::Object(rows[0].clone()), expected);
}

#[tokio::test]
async fn query_takes_one_statement_and_changes_nothing() {
    let Some(cluster) = TestCluster::start(&[]).await else { return };
    cluster.run_statements(&["create table t (n int); insert into t values (1)"]).await;
    let db = cluster.database();

    let two = query_error(&db, "select 1; drop table t").await;
    assert_eq!(two.code, Code::Sql, "{two:?}");
    let write = query_error(&db, "insert into t values (2)").await;
    assert!(write.code == Code::Sql && write.message.contains("25006"), "{write:?}");
    assert!(write.hint.expect("a hint").contains("db::execute"));
    assert_eq!(query_error(&db, "set transaction read write; delete from t").await.code, Code::Sql);
    assert_eq!(query_error(&db, "commit").await.code, Code::Invalid);
    assert_eq!(query_error(&db, "copy t to program 'cat'").await.code, Code::Unsupported);
    assert_eq!(query_error(&db, "select $1::int").await.code, Code::Invalid);
    assert_eq!(query_maps(&db, "set work_mem = '8MB'").await.expect("no rows"), Vec::new());
    assert_eq!(
        query_maps(&db, "select n from t").await.expect("rows"),
        [json!({"n": 1}).as_object().expect("map").clone()]
    );

    let twice = query_error(&db, "select 1 as n, 2 as n").await;
    assert!(twice.message.contains("`n`"), "{twice:?}");
    let many = query_error(&db, "select generate_series(1, 100000000) as n").await;
    assert_eq!(many.code, Code::Refused, "{many:?}");
    let large = query_error(&db, "select repeat('x', 10000000) as x from generate_series(1, 1000)").await;
    assert_eq!(large.code, Code::Refused, "{large:?}");
}

#[tokio::test]
async fn errors_say_what_where_and_what_to_do() {
    let Some(cluster) = TestCluster::start(&[]).await else { return };
    cluster.run_statements(&["create table t (n int); create role clerk login"]).await;
    let db = cluster.database();

    let unknown = query_error(&db, "select\n  nope from t").await;
    assert_eq!(
        unknown.message,
        "the database refused the statement: column \"nope\" does not exist (SQLSTATE 42703)"
    );
    assert_eq!(unknown.hint.expect("a hint"), "line 2:   nope from t\n          ^");
    assert_eq!(query_error(&cluster.database_as("clerk"), "select * from t").await.code, Code::Denied);
    assert_eq!(query_error(&cluster.database_as("nobody"), "select 1").await.code, Code::Denied);

    let late = db.query("select pg_sleep(20)", Span::from_millis(200)).await.expect_err("too late");
    assert!(late.code == Code::Timeout && late.retryable, "{late:?}");
    let mut elsewhere = db.clone();
    elsewhere.address.database = "nowhere".into();
    assert_eq!(query_error(&elsewhere, "select 1").await.code, Code::NotFound);
    elsewhere.address.port = 1;
    let gone = query_error(&elsewhere, "select 1").await;
    assert!(gone.code == Code::Unavailable && gone.hint.expect("a hint").contains("port 1"));
    let health = elsewhere.health().await.expect("an answer");
    assert_eq!((health.ok, health.status.as_str()), (false, "unreachable"));
}

#[tokio::test]
async fn peer_sees_the_owner_of_the_socket() {
    let Some(cluster) = TestCluster::start(&[]).await else { return };
    std::fs::write(cluster.data().join("pg_hba.conf"), "local all postgres peer\n").expect("written");
    cluster.run_statements(&["select pg_reload_conf(); select pg_sleep(0.3)"]).await;
    let health = cluster.database().health().await.expect("let in");
    assert!(health.ok && health.version.expect("a version").starts_with("15"), "healthy");
    assert!(health.connections >= Some(1) && health.bytes > Some(1_000_000));
}

#[tokio::test]
async fn password_is_read_from_its_reference_and_never_shown() {
    let Some(cluster) = TestCluster::start(&[]).await else { return };
    cluster.run_statements(&["create role clerk login password 'open sesame'"]).await;
    std::fs::write(
        cluster.data().join("pg_hba.conf"),
        "local all postgres trust\nlocal all all scram-sha-256\n",
    )
    .expect("written");
    cluster.run_statements(&["select pg_reload_conf(); select pg_sleep(0.3)"]).await;
    let mut db = cluster.database_as("clerk");
    assert_eq!(query_error(&db, "select 1").await.code, Code::Denied, "there is no password yet");
    let file = tempfile::NamedTempFile::new().expect("a file");
    db.address.password =
        Some(SecretRef::parse(&format!("file:{}", file.path().display())).expect("a reference"));
    for (secret, is_right) in [("open sesame", true), ("open barley", false)] {
        std::fs::write(file.path(), format!("{secret}\n")).expect("written");
        match query_maps(&db, "select 1 as n").await {
            Ok(_) => assert!(is_right),
            Err(e) => {
                assert!(!is_right && e.code == Code::Denied && !format!("{e:?}").contains(secret), "{e:?}");
            }
        }
    }
    drop(file);
    assert_eq!(query_error(&db, "select 1").await.code, Code::Invalid, "the reference leads nowhere");
}

#[tokio::test]
async fn a_transaction_is_settled_by_its_token() {
    let Some(cluster) = TestCluster::start(&[]).await else { return };
    cluster.run_statements(&["create table t (n int primary key deferrable initially deferred)"]).await;
    let db = cluster.database();
    let open = async |sql: &str| db.execute_uncommitted(sql, QUERY_TIMEOUT, &test_key()).await.expect(sql);
    let settle = async |token: &Value| db.find_commit_state(&test_key(), token).await;

    let transaction = open("insert into t select generate_series(1, 3)").await;
    let token = transaction.token();
    let done = transaction.commit().await.expect("committed");
    assert_eq!(done.rows_affected, 3);
    assert_eq!(settle(&token).await, Ok(CommitState::Committed(done)));

    // Whoever asks ends the session that is still at work; then its commit cannot come any more.
    let transaction = open("insert into t values (4)").await;
    let token = transaction.token();
    while settle(&token).await != Ok(CommitState::NotCommitted) {}
    assert_eq!(transaction.commit().await.expect_err("the session is ended").code, Code::Unknown);
    assert_eq!(settle(&token).await, Ok(CommitState::NotCommitted));

    // The constraint is checked by the commit itself, and its refusal is an answer.
    let transaction = open("insert into t values (1)").await;
    let token = transaction.token();
    let twice = transaction.commit().await.expect_err("twice");
    assert!(twice.code == Code::Sql && twice.message.contains("23505"), "{twice:?}");
    assert_eq!(settle(&token).await, Ok(CommitState::NotCommitted));
    assert_eq!(query_maps(&db, "select count(*) as n from t").await.expect("rows")[0]["n"], json!(3));

    let mut elsewhere = token.clone();
    elsewhere["system_identifier"] = json!("1");
    assert_eq!(settle(&elsewhere).await.expect_err("another cluster").code, Code::Unknown);
    let other_version = json!({"xid": "700", "system_identifier": "1", "timeline": "00000001"});
    assert_eq!(settle(&other_version).await.expect_err("unreadable").code, Code::Internal);
}

#[tokio::test]
async fn a_session_that_works_for_somebody_else_by_now_is_left_alone() {
    let Some(cluster) = TestCluster::start(&[]).await else { return };
    let db = cluster.database();
    let ours = db.execute_uncommitted("select 1", QUERY_TIMEOUT, &test_key()).await.expect("open");
    let their_key = CallKey("theirs".into());
    let theirs = db.execute_uncommitted("select 1", QUERY_TIMEOUT, &their_key).await.expect("open");
    // The pool gave our session to somebody else after our commit: it has another transaction.
    let mut token = ours.token();
    ours.commit().await.expect("committed");
    for of_session in ["pid", "backend_start"] {
        token[of_session] = theirs.token()[of_session].clone();
    }
    let settled = db.find_commit_state(&test_key(), &token).await;
    assert!(matches!(settled, Ok(CommitState::Committed(_))), "{settled:?}");
    theirs.commit().await.expect("nobody ended it");
}

/// Copies a folder with its owners.
fn copy_folder(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.expect("cp runs").success());
}

#[tokio::test]
async fn a_restarted_server_is_not_believed_about_an_id_that_it_may_have_given_out_again() {
    let Some(mut cluster) = TestCluster::start(&[]).await else { return };
    cluster.run_statements(&["create table t (n int)", "checkpoint"]).await;
    let db = cluster.database();
    let snapshots = tempfile::tempdir().expect("a folder");
    let snapshot = snapshots.path().join("data");
    cluster.crash_and_restart(&[], |data| copy_folder(data, &snapshot)).await;
    let transaction = db.execute_uncommitted("insert into t values (1)", QUERY_TIMEOUT, &test_key()).await;
    let transaction = transaction.expect("open");
    let token = transaction.token();
    transaction.commit().await.expect("committed");
    cluster.crash_and_restart(&[], |_| ()).await;
    let error = db.find_commit_state(&test_key(), &token).await.expect_err("only the WAL would say");
    assert!(error.code == Code::Unknown && error.message.contains("only its WAL"), "{error}");

    // Put back to before it, the server hands the same id out again, and calls it committed.
    let put_back = |data: &Path| {
        std::fs::remove_dir_all(data).expect("removed");
        copy_folder(&snapshot, data);
    };
    cluster.crash_and_restart(&[], put_back).await;
    let error = db.find_commit_state(&test_key(), &token).await.expect_err("the id is not handed out yet");
    assert!(error.code == Code::Unknown && error.message.contains("put back"), "{error}");
    let xid = token["xid"].as_u64().expect("an id");
    let mut last = 0;
    while last < xid {
        db.execute("select 1", QUERY_TIMEOUT, &CallKey("another".into())).await.expect("committed");
        let ids = query_maps(&db, "select pg_snapshot_xmax(pg_current_snapshot())::text::int8 as n").await;
        last = ids.expect("rows")[0]["n"].as_u64().expect("an id") - 1;
    }
    cluster.crash_and_restart(&[], |_| ()).await;
    let error = db.find_commit_state(&test_key(), &token).await.expect_err("another transaction");
    assert_eq!(error.code, Code::Unknown, "{error}");
    assert_eq!(query_maps(&db, "select count(*) as n from t").await.expect("rows")[0]["n"], json!(0));
}

#[tokio::test]
async fn what_an_earlier_attempt_left_at_work_is_ended_before_anything_else() {
    let Some(cluster) = TestCluster::start(&[]).await else { return };
    cluster.run_statements(&["create table t (n int)", "insert into t values (1)"]).await;
    let db = cluster.database();
    let update = "update t set n = n + 1";
    // Its process is gone, and its session holds the row.
    let orphan = db.execute_uncommitted(update, QUERY_TIMEOUT, &test_key()).await.expect("open");
    let again =
        db.execute_uncommitted(update, QUERY_TIMEOUT, &test_key()).await.expect("nothing is in the way");
    again.commit().await.expect("committed");
    assert_eq!(orphan.commit().await.expect_err("it was ended").code, Code::Unknown);
    assert_eq!(query_maps(&db, "select n from t").await.expect("rows")[0]["n"], json!(2));

    let orphan = db.execute_uncommitted(update, QUERY_TIMEOUT, &test_key()).await.expect("open");
    while db.find_commit_state(&test_key(), &Value::Null).await.expect("asked") != CommitState::NotCommitted {
    }
    assert_eq!(orphan.commit().await.expect_err("it was ended").code, Code::Unknown);
    assert_eq!(query_maps(&db, "select n from t").await.expect("rows")[0]["n"], json!(2));
}

#[tokio::test]
async fn a_statement_outside_a_transaction_runs_and_says_what_may_be_done() {
    let Some(cluster) = TestCluster::start(&[]).await else { return };
    cluster.run_statements(&["create table t (n int)", "insert into t values (1), (1)"]).await;
    let db = cluster.database();
    for sql in ["vacuum t", "create index concurrently i on t (n)", "alter system set work_mem = '5MB'"] {
        db.execute_outside_transaction(sql, QUERY_TIMEOUT).await.expect(sql);
    }
    let half = "create unique index concurrently half on t (n)";
    let error = db.execute_outside_transaction(half, QUERY_TIMEOUT).await.expect_err("the rows are equal");
    assert_eq!((error.code, error.side_effects), (Code::Sql, SideEffects::Some), "{error:?}");
    for (sql, code) in [
        ("vacuum t; vacuum t", Code::Sql),
        ("commit", Code::Invalid),
        ("vacuum nothing", Code::Sql),
        ("copy t from stdin", Code::Unsupported),
    ] {
        assert_eq!(
            db.execute_outside_transaction(sql, QUERY_TIMEOUT).await.expect_err(sql).code,
            code,
            "{sql}"
        );
    }
}

#[tokio::test]
async fn execute_refuses_what_would_escape_its_transaction() {
    let Some(cluster) = TestCluster::start(&[]).await else { return };
    cluster.run_statements(&["create table t (n int)"]).await;
    let db = cluster.database();
    for (sql, code) in [
        ("commit", Code::Invalid),
        ("  /* */ ", Code::Invalid),
        ("delete from t; select 1", Code::Sql),
        ("do $$ begin insert into t values (1); commit; end $$", Code::Sql),
        ("vacuum t", Code::Unsupported),
        ("create database other", Code::Unsupported),
        ("copy t from stdin", Code::Unsupported),
    ] {
        let error = db.execute_uncommitted(sql, QUERY_TIMEOUT, &test_key()).await.err().expect(sql);
        assert_eq!(error.code, code, "{sql}: {error:?}");
    }
    assert_eq!(query_maps(&db, "select n from t").await.expect("rows"), Vec::new());
}

/// Stands between us and the server, and cuts the first connection that commits.
fn cut_at_commit(listen: &Path, server: &Path, let_through: bool) {
    let listener = UnixListener::bind(listen).expect("a socket");
    let server = server.join(format!(".s.PGSQL.{PORT}"));
    tokio::spawn(async move {
        let mut cut = false;
        while let Ok((client, _)) = listener.accept().await {
            let up = UnixStream::connect(&server).await.expect("the server is up");
            cut |= relay_bytes(client, up, !cut, let_through).await;
        }
    });
}

/// Carries bytes between the two until one side ends; returns whether it cut.
async fn relay_bytes(mut client: UnixStream, mut server: UnixStream, cut: bool, let_through: bool) -> bool {
    let (mut asked, mut said) = (vec![0; 8192], vec![0; 8192]);
    loop {
        tokio::select! {
            n = client.read(&mut asked) => {
                let Ok(n @ 1..) = n else { return false };
                let commits = asked[..n].windows(7).any(|w| w == b"commit\0");
                if !(cut && commits) {
                    server.write_all(&asked[..n]).await.expect("forwarded");
                    continue;
                }
                if let_through {
                    server.write_all(&asked[..n]).await.expect("forwarded");
                    server.read_exact(&mut said[..1]).await.expect("the server has answered");
                }
                return true;
            }
            n = server.read(&mut said) => {
                let Ok(n @ 1..) = n else { return false };
                client.write_all(&said[..n]).await.expect("answered");
            }
        }
    }
}

#[tokio::test]
async fn a_commit_without_an_answer_is_looked_up() {
    let Some(cluster) = TestCluster::start(&[]).await else { return };
    cluster.run_statements(&["create table t (n int)"]).await;
    for let_through in [true, false] {
        let between = tempfile::tempdir().expect("a folder");
        let mut db = cluster.database();
        db.address.host = between.path().display().to_string();
        let socket = between.path().join(format!(".s.PGSQL.{PORT}"));
        cut_at_commit(&socket, &cluster.socket(), let_through);
        let transaction =
            db.execute_uncommitted("insert into t values (1)", QUERY_TIMEOUT, &test_key()).await;
        let transaction = transaction.expect("open");
        let token = transaction.token();
        assert_eq!(transaction.commit().await.expect_err("no answer").code, Code::Unknown);
        let mut settled = db.find_commit_state(&test_key(), &token).await.expect("asked");
        while matches!(settled, CommitState::Open(_)) {
            settled = db.find_commit_state(&test_key(), &token).await.expect("asked");
        }
        let committed = CommitState::Committed(SqlOutcome { rows_affected: 1 });
        assert_eq!(settled, if let_through { committed } else { CommitState::NotCommitted });
    }
    let rows = query_maps(&cluster.database(), "select n from t").await.expect("rows");
    assert_eq!(rows.len(), 1, "one of the two was committed");
}

#[tokio::test]
async fn a_change_that_is_not_answered_in_the_time_of_its_call_is_lost() {
    let Some(cluster) = TestCluster::start(&[]).await else { return };
    let client = cluster.connect().await;
    let change = async {
        let lost = fetch::send_change(&client, "select pg_sleep(600)").await.expect_err("it is at work");
        let left = fetch::fetch_text(&*cluster.connect().await, "select 1").await;
        (lost, left)
    };
    let (lost, left) = with_call_time(Span::from_secs(1), change).await;
    assert_eq!((lost.code, lost.retryable), (Code::Unknown, false), "{lost:?}");
    assert!(lost.message.contains("the statement was sent, and no answer came"), "{lost}");
    assert_eq!(left, Ok(Some("1".into())), "it can be looked at all the same");
    let refused = fetch::send_change(&*cluster.connect().await, "select 1 / 0").await;
    assert_eq!(refused.expect_err("it is refused").code, Code::Sql);
}
