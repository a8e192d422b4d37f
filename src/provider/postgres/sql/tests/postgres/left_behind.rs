//! What a statement leaves behind: on its connection, and where it was rolled back.

use super::{
    super::super::{super::test_cluster::TestCluster, *},
    QUERY_TIMEOUT, query_maps, test_key,
};
use crate::{provider::SideEffects, testing::Tunnel};
use serde_json::json;
use std::fs;

#[tokio::test]
async fn what_a_rollback_does_not_undo_is_a_side_effect_of_the_error() {
    let Some(cluster) = TestCluster::start(&[]).await else { return };
    cluster.run_statements(&["create sequence s"]).await;
    let db = cluster.database();
    let fails = "select nextval('s'), 1 / (n - 1) from generate_series(1, 2) as n";
    let error = db.execute(fails, QUERY_TIMEOUT, &test_key()).await.expect_err("a division by zero");
    assert_eq!(error.side_effects, SideEffects::Some, "{error:?}");
    let error = db.execute("select 1 / 0", QUERY_TIMEOUT, &test_key()).await.expect_err("by zero");
    assert_eq!(error.side_effects, SideEffects::None, "{error:?}");
}

#[tokio::test]
async fn a_session_is_given_back_as_it_was() {
    let Some(cluster) = TestCluster::start(&[]).await else { return };
    let db = cluster.database();
    for leaves in [
        "set work_mem = '77MB'",
        "select pg_advisory_lock(5)",
        "declare c cursor with hold for select 1",
        "listen news",
        "create temp table left_over (n int)",
        "do $$ begin perform set_config('application_name', 'left over', false); end $$",
    ] {
        let transaction = db.execute_uncommitted(leaves, QUERY_TIMEOUT, &test_key()).await.expect(leaves);
        let pid = transaction.token()["pid"].clone();
        let held = format!("select count(*) as n from pg_locks where locktype = 'advisory' and pid = {pid}");
        assert_eq!(query_maps(&db, &held).await.expect("rows")[0]["n"], json!(0), "{leaves}");
        let name = format!("select application_name as n from pg_stat_activity where pid = {pid}");
        let shown = &query_maps(&db, &name).await.expect("rows")[0]["n"];
        assert_eq!(shown, &json!(format!("redrill {}", test_key())), "{leaves}");
        transaction.commit().await.expect(leaves);
    }
}

#[tokio::test]
async fn what_a_session_has_prepared_is_released_with_it() {
    let Some(cluster) = TestCluster::start(&[]).await else { return };
    let client = cluster.connect().await;
    let sql = format!("prepare left_over as select 1; begin; {}; commit", statement::RELEASE_SESSION_SQL);
    client.batch_execute(&sql).await.expect("it runs");
    let left = fetch_text(&client, "select count(*) from pg_prepared_statements where from_sql").await;
    assert_eq!(left.expect("a number").as_deref(), Some("0"));
}

/// Behind a pooler, a connection that was told something may be given to somebody else as it is.
#[tokio::test]
async fn nothing_is_left_behind_on_a_connection() {
    let Some(cluster) = TestCluster::start(&["log_statement=all"]).await else { return };
    let log = || fs::read_to_string(cluster.data().with_file_name("log")).expect("a log");
    let statements = ["vacuum", "vacuum nothing", "set work_mem = '77MB'"];
    let run_all = async |db: &Database| {
        for sql in statements {
            drop(db.execute_outside_transaction(sql, QUERY_TIMEOUT).await);
        }
    };
    run_all(&cluster.database()).await;
    assert_eq!(log().matches("set statement_timeout").count(), statements.len());
    assert_eq!(log().matches("deallocate all").count(), statements.len());

    let tunnel = Tunnel::open(&cluster.socket()).await;
    tunnel.act_as_pooler();
    let before = log().len();
    let address =
        DatabaseAddress { host: "127.0.0.1".into(), port: tunnel.port(), ..cluster.database().address };
    let pooled = Database { address };
    run_all(&pooled).await;
    let name = SessionName::for_thing("set", "work_mem");
    name_session(&pooled.address.connect().await.expect("connects"), &name).await.expect("it goes on");
    let said = log()[before..].to_owned();
    assert_eq!(said.matches("deallocate all").count(), statements.len());
    assert!(!said.contains("set statement_timeout") && !said.contains("set application_name"), "{said}");
}

#[tokio::test]
async fn a_copy_that_fails_has_a_side_effect_where_it_wrote_something() {
    let Some(cluster) = TestCluster::start(&[]).await else { return };
    cluster
        .run_statements(&[
            "create table t (n int); insert into t values (1), (0); create role guest login",
            "create function deny() returns int language plpgsql as \
             $$ begin raise exception 'no' using errcode = '42501'; end $$",
        ])
        .await;
    let file = cluster.data().join("copied");
    let file = file.display();
    for (user, sql, wrote) in [
        ("postgres", format!("copy (select 1 / n from t) to '{file}'"), true),
        ("postgres", format!("copy (select deny()) to '{file}'"), true),
        ("postgres", "copy t from '/nowhere'".to_owned(), false),
        ("guest", format!("copy (select 1) to '{file}'"), false),
        ("guest", format!("copy t to '{file}'"), false),
        ("guest", "copy t to program 'true'".to_owned(), false),
        ("postgres", "select pg_stat_reset(), 1 / n from t".to_owned(), true),
    ] {
        fs::remove_file(cluster.data().join("copied")).ok();
        let db = cluster.database_as(user);
        let error = db.execute(&sql, QUERY_TIMEOUT, &test_key()).await.expect_err(&sql);
        assert_eq!(error.side_effects == SideEffects::Some, wrote, "{sql}: {error:?}");
        let is_copy_out = sql.contains("copied");
        assert_eq!(cluster.data().join("copied").exists(), wrote && is_copy_out, "{sql}");
    }
}
