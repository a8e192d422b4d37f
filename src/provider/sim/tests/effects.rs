use super::*;

#[tokio::test]
async fn a_world_outlives_the_process_and_a_key_acts_once() {
    let state = tempfile::tempdir().expect("a folder");
    let first = sim_on_disk(state.path(), "world = 'sandbox'").expect("it opens");
    assert!(!world_file_path(state.path(), "shop").exists(), "opening touches nothing");
    let identity = first.identity().await.expect("it has one");
    let sql = "update orders set status = 'lost' where id <= 3";
    assert_eq!(execute_sql(&first, sql, "k1").await.expect("it runs"), 3);
    drop(first);

    let second = sim_on_disk(state.path(), "").expect("it opens");
    assert_eq!(second.identity().await.expect("it has one"), identity);
    assert_eq!(execute_sql(&second, sql, "k1").await.expect("it is answered"), 3);
    let log = second.effect_log().expect("the log");
    assert_eq!(log.iter().map(|e| (e.seq, e.kind.as_str())).collect::<Vec<_>>(), [(1, "sql.execute")]);
    assert_eq!(log[0].what, sql);
    let count = "select count(*) as n from orders where status = 'lost'";
    let rows = second.sql().expect("sql").query(count, Span::from_secs(5)).await.expect("it runs");
    assert_eq!(rows.rows[0]["n"], json!(3));
}

#[tokio::test]
async fn two_processes_share_one_world() {
    let state = tempfile::tempdir().expect("a folder");
    let (a, b) =
        (sim_on_disk(state.path(), "").expect("it opens"), sim_on_disk(state.path(), "").expect("it opens"));
    for n in 0..5 {
        let insert =
            |id: i64| format!("insert into orders (id, customer_id, total_cents) values ({id}, 1, 1)");
        execute_sql(&a, &insert(1000 + n), &format!("a{n}")).await.expect("it runs");
        execute_sql(&b, &insert(2000 + n), &format!("b{n}")).await.expect("it runs");
    }
    for sim in [&a, &b] {
        let rows = sim
            .sql()
            .expect("sql")
            .query("select count(*) as n from orders where id >= 1000", Span::from_secs(5));
        assert_eq!(rows.await.expect("it runs").rows[0]["n"], json!(10));
    }
    assert_eq!(a.effect_log().expect("the log").len(), 10);
}

#[tokio::test]
async fn a_job_goes_on_while_nobody_looks_and_is_done_once() {
    let state = tempfile::tempdir().expect("a folder");
    let first = sim_on_disk(state.path(), "").expect("it opens");
    let job = first
        .backups()
        .expect("backups")
        .create(&BackupRequest { label: Some("drill".into()) }, &call_key("k1"))
        .await;
    let job = job.expect("it is accepted");
    let JobStatus::Running(begun) = first.poll_job(&job).await.expect("it can be seen") else {
        panic!("it takes time")
    };
    assert_eq!(begun.done, Some(0));
    first.let_time_pass(&*frozen_clock(), Span::from_secs(60)).await;
    let JobStatus::Running(quarter) = first.poll_job(&job).await.expect("it can be seen") else {
        panic!("it takes time")
    };
    assert_eq!(quarter.done, quarter.total.map(|t| t / 4));
    assert_eq!(first.backups().expect("backups").get(&job.id).await.expect("it is listed").status, "running");
    drop(first);

    let second = sim_on_disk(state.path(), "").expect("it opens");
    let found =
        second.find_job(&call_key("k1"), None).await.expect("it can be asked").expect("the key is known");
    assert_eq!(found, job);
    assert_eq!(second.find_job(&call_key("k2"), None).await.expect("it can be asked"), None);
    second.let_time_pass(&*frozen_clock(), Span::from_secs(86_400)).await;
    let (value, looks) = wait_for_job(&second, &found).await.expect("it is done");
    assert_eq!(looks, 0);
    let backup: Backup = serde_json::from_value(value["$backup"].clone()).expect("a backup");
    assert_eq!(
        backup.finished_at,
        Some(start_moment().saturating_add(Span::from_secs(240))),
        "it ended when it ended, not when it was seen"
    );
    assert_eq!((backup.label.as_deref(), backup.status.as_str()), (Some("drill"), "completed"));
    let again = second
        .backups()
        .expect("backups")
        .create(&BackupRequest { label: Some("drill".into()) }, &call_key("k1"))
        .await;
    assert_eq!(again.expect("it is answered"), job);
    assert_eq!(wait_for_job(&second, &job).await.expect("it is done").0, value);
    assert_eq!(second.backups().expect("backups").list().await.expect("a list").len(), 4);
    assert_eq!(second.effect_log().expect("the log").len(), 1);
}

#[tokio::test]
async fn a_job_can_be_given_up() {
    let sim = sim_in_memory(LEDGER);
    let job = sim
        .backups()
        .expect("backups")
        .restore(&branch_restore_request(RecoveryTarget::Latest), &call_key("k1"))
        .await
        .expect("it is accepted");
    let preparing = sim.branches().expect("branches").open("drill").await.expect("it is there");
    let early = preparing.sql().expect("sql").query("select 1", Span::from_secs(5)).await;
    assert_eq!(early.expect_err("it is not ready").code, Code::Unavailable);
    sim.cancel(&job).await.expect("it is given up");
    sim.cancel(&job).await.expect("it stays given up");
    assert_eq!(sim.effect_log().expect("the log").len(), 2);
    assert_eq!(sim.branches().expect("branches").list().await, Ok(Vec::new()));
    let over = sim.poll_job(&job).await.expect("a look");
    assert!(matches!(&over, JobStatus::Failed(e) if e.code == Code::Refused), "{over:?}");
    sim.let_time_pass(&*frozen_clock(), Span::from_secs(86_400)).await;
    assert_eq!(sim.branches().expect("branches").list().await, Ok(Vec::new()));
}

#[tokio::test]
async fn backups_are_verified_expire_and_go() {
    let damaged = format!("{LEDGER}\n[[backups]]\nid = 'second'\nat = '-15m'\ndamaged = true\n");
    let sim = sim_in_memory(&damaged);
    let backups = sim.backups().expect("backups");
    assert!(backups.verify("first").await.expect("it is read").ok);
    assert_eq!(backups.verify("second").await.expect("it is read").problems.len(), 1);
    let corrupt = backups.restore(&branch_restore_request(RecoveryTarget::Latest), &call_key("k0")).await;
    assert_eq!(corrupt.expect_err("it is damaged").code, Code::CorruptBackup);

    let plan = backups.plan_delete("first").await.expect("a plan");
    assert_eq!((plan.earliest_before, plan.earliest_after), (Some(minutes_ago(60)), Some(minutes_ago(15))));
    assert!(plan.bytes > 0);
    backups.delete(&plan, &call_key("k1")).await.expect("it goes");
    backups.delete(&plan, &call_key("k1")).await.expect("the same key does nothing");
    backups.delete(&plan, &call_key("k2")).await.expect("what is gone is gone");
    assert_eq!(sim.effect_log().expect("the log").len(), 1);
    assert_eq!(backups.recovery_window().await.expect("a window").earliest, Some(minutes_ago(15)));
    assert_eq!(backups.get("first").await.expect_err("it is gone").code, Code::NotFound);

    sim.let_time_pass(&*frozen_clock(), Span::from_secs(11 * 86_400)).await;
    let window = backups.recovery_window().await.expect("a window");
    assert_eq!((window.earliest, window.backups[0].usable), (None, false));
    assert_eq!(
        backups
            .restore(&branch_restore_request(RecoveryTarget::Latest), &call_key("k3"))
            .await
            .expect_err("nothing is left")
            .code,
        Code::Refused
    );
}

#[tokio::test]
async fn a_statement_is_committed_only_after_it_was_written_down() {
    let sim = sim_in_memory(LEDGER);
    let sql = sim.sql().expect("sql");
    let insert = "insert into entries values (7, 70)";
    let (key, timeout, token) = (call_key("k1"), Span::from_secs(5), Value::Null);
    drop(sql.execute_uncommitted(insert, timeout, &key).await.expect("it runs"));
    assert_eq!(sql.find_commit_state(&key, &token).await, Ok(CommitState::NotCommitted));
    assert_eq!(entry_ids(&sim).await, [1, 2, 3]);
    let transaction = sql.execute_uncommitted(insert, timeout, &key).await.expect("it runs");
    let outcome = transaction.commit().await.expect("it is committed");
    assert_eq!(sql.find_commit_state(&key, &token).await, Ok(CommitState::Committed(outcome)));
    assert_eq!(entry_ids(&sim).await, [1, 2, 3, 7]);
    let twice = sql.execute(insert, timeout, &call_key("k2")).await.expect_err("the id is taken");
    assert_eq!(twice.code, Code::Sql);
    assert_eq!(sim.effect_log().expect("the log").len(), 1);
}

#[tokio::test]
async fn what_runs_only_outside_a_transaction_is_refused_inside_one_as_by_the_server() {
    let sim = sim_in_memory(LEDGER);
    let sql = sim.sql().expect("sql");
    let timeout = Span::from_secs(5);
    for statement in ["vacuum entries", "create index concurrently i on entries (id)"] {
        let refused = sql.execute(statement, timeout, &call_key("k1")).await.expect_err(statement);
        assert_eq!(refused.code, Code::Unsupported, "{refused:?}");
        assert!(refused.message.contains("cannot run inside a transaction block (SQLSTATE 25001)"));
        assert!(refused.hint.expect("a hint").contains("`transaction: false`"));
        sql.execute_outside_transaction(statement, timeout).await.expect(statement);
    }
    let refused =
        sql.execute_outside_transaction("create database b", timeout).await.expect_err("one database");
    assert_eq!(refused.code, Code::Unsupported);
    assert_eq!(sim.effect_log().expect("the log").len(), 2);
}

#[test]
fn a_world_that_many_make_at_once_is_one_world() {
    let state = tempfile::tempdir().expect("a folder");
    let log = |n: i64| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let sim = sim_on_disk(state.path(), "").expect("it opens");
            let sql =
                format!("insert into orders (id, customer_id, total_cents) values ({}, 1, 1)", 1000 + n);
            execute_sql(&sim, &sql, &format!("k{n}")).await.expect("it runs");
            execute_sql(&sim, "delete from orders where id = 1000", "once").await.expect("it runs");
            sim.identity().await.expect("it has one").id
        })
    };
    let mut found: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6)
            .map(|n| {
                scope.spawn({
                    let log = &log;
                    move || log(n)
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().expect("it ends well")).collect()
    });
    found.dedup();
    assert_eq!(found.len(), 1, "{found:?}");
    let log = sim_on_disk(state.path(), "").expect("it opens").effect_log().expect("the log");
    assert_eq!(log.len(), 7);
    let files = std::fs::read_dir(state.path().join("worlds")).expect("a folder").count();
    assert!(files <= 3, "nothing is left beside the world and its log: {files}");
}

/// The state folder of the process that is to be killed.
const VICTIM_VARIABLE: &str = "REDRILL_TEST_SIM_VICTIM";

#[test]
fn a_killed_process_leaves_whole_effects() {
    let insert =
        |n: usize| format!("insert into orders (id, customer_id, total_cents) values ({}, 1, 1)", 1000 + n);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    if let Some(state) = std::env::var_os(VICTIM_VARIABLE) {
        let sim = sim_on_disk(Path::new(&state), "").expect("it opens");
        for n in 0.. {
            runtime.block_on(execute_sql(&sim, &insert(n), &format!("k{n}"))).expect("it runs");
        }
    }
    let state = tempfile::tempdir().expect("a folder");
    let (mut before, mut kills) = (0, 0);
    while kills < 5 || before == 0 {
        let myself = std::env::current_exe().expect("a test binary");
        let mut child = std::process::Command::new(myself)
            .args(["--exact", "provider::sim::tests::effects::a_killed_process_leaves_whole_effects"])
            .env(VICTIM_VARIABLE, state.path())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("it starts");
        std::thread::sleep(std::time::Duration::from_millis(60 + 17 * kills));
        child.kill().expect("it is killed");
        assert!(!child.wait().expect("it is gone").success());
        kills += 1;
        assert!(kills < 60, "the process never gets to work");
        if !world_file_path(state.path(), "shop").exists() {
            continue;
        }
        let sim = sim_on_disk(state.path(), "").expect("it opens");
        let done = sim.effect_log().expect("the log").len();
        let count = "select count(*) as n from orders where id >= 1000";
        let rows =
            runtime.block_on(sim.sql().expect("sql").query(count, Span::from_secs(5))).expect("it runs");
        assert_eq!(rows.rows[0]["n"], json!(done), "as many rows as effects");
        assert!(done >= before, "nothing that was done is undone");
        before = done;
    }
}
