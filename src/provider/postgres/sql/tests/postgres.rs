//! SQL on a real cluster.

use super::super::{
    super::test_cluster::{PORT, TestCluster},
    *,
};
use crate::{base::secret::SecretRef, testing::MemoryRecorder};
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
async fn execute_writes_down_before_it_commits() {
    let Some(cluster) = TestCluster::start(&[]).await else { return };
    cluster.run_statements(&["create table t (n int primary key deferrable initially deferred)"]).await;
    let db = cluster.database();
    let notes = MemoryRecorder::default();
    let done =
        db.execute("insert into t select generate_series(1, 3)", QUERY_TIMEOUT, &test_key(), &notes).await;
    assert_eq!(done.expect("done").rows_affected, 3);
    let settled =
        db.settle(&test_key(), Some(&notes.only_record())).await.expect("known").expect("committed");
    assert_eq!(settled.rows_affected, 3);
    assert_eq!(db.settle(&test_key(), None).await, Ok(None));

    let full = db
        .execute("insert into t values (4)", QUERY_TIMEOUT, &test_key(), &MemoryRecorder::full())
        .await
        .expect_err("not written down");
    assert_eq!(full.code, Code::NoDiskSpace);

    // The constraint is checked by the commit itself, and its refusal is an answer.
    let notes = MemoryRecorder::default();
    let twice =
        db.execute("insert into t values (1)", QUERY_TIMEOUT, &test_key(), &notes).await.expect_err("twice");
    assert!(twice.code == Code::Sql && twice.message.contains("23505"), "{twice:?}");
    assert_eq!(db.settle(&test_key(), Some(&notes.only_record())).await, Ok(None));
    assert_eq!(query_maps(&db, "select count(*) as n from t").await.expect("rows")[0]["n"], json!(3));

    let elsewhere =
        json!({"xid": "700", "system_identifier": "1", "timeline": "00000001", "rows_affected": 1});
    assert_eq!(
        db.settle(&test_key(), Some(&elsewhere)).await.expect_err("another cluster").code,
        Code::Unknown
    );
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
        let notes = MemoryRecorder::default();
        let error = db.execute(sql, QUERY_TIMEOUT, &test_key(), &notes).await.expect_err(sql);
        assert_eq!(error.code, code, "{sql}: {error:?}");
        assert!(notes.list_records().is_empty(), "{sql} got as far as its commit");
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
        let done = db
            .execute("insert into t values (1)", QUERY_TIMEOUT, &test_key(), &MemoryRecorder::default())
            .await;
        if let_through {
            assert_eq!(done.expect("it was committed").rows_affected, 1);
        } else {
            let error = done.expect_err("it never arrived");
            assert!(error.code == Code::Unavailable && error.retryable, "{error:?}");
        }
    }
    let rows = query_maps(&cluster.database(), "select n from t").await.expect("rows");
    assert_eq!(rows.len(), 1, "one of the two was committed");
}
