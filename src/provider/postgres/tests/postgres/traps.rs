//! The known traps of restoring PostgreSQL, by their numbers `T1` to `T25`.

use super::test_lab::{
    TestLab, branch_request, change_rows, finish_job, in_place_request, make_backup, make_branch,
    open_branch, query_number, query_text, test_key,
};
use crate::{
    base::moment::Moment,
    provider::{
        Code,
        model::{BackupRequest, JobStatus, RecoveryTarget},
    },
};
use std::{
    fs,
    io::{Seek as _, Write as _},
};

#[tokio::test]
async fn t2_a_branch_that_cannot_reach_its_target_is_removed() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    make_backup(lab.as_ref(), "BACKUP0001").await;
    change_rows(lab.as_ref(), "delete from order_items").await;
    let request = branch_request("drill", RecoveryTarget::Latest);
    let job =
        lab.backups().expect("backups").restore(&request, &test_key("BRANCH0001")).await.expect("accepted");
    // What the plan saw in the archive is gone when recovery asks for it.
    for entry in fs::read_dir(test_lab.lab_folder("archive")).expect("an archive").flatten() {
        fs::remove_file(entry.path()).expect("is lost");
    }
    let error = finish_job(lab.as_ref(), &job).await.expect_err("cannot be reached");
    assert_eq!(error.code, Code::TargetNotReached, "{error:?}");
    assert!(error.left_behind.is_empty());
    assert!(lab.branches().expect("branches").list().await.expect("lists").is_empty());
    let left: Vec<_> =
        fs::read_dir(test_lab.state_folder().join("postgres/lab/data")).expect("a folder").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn t7_t25_a_branch_reaches_nothing() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    test_lab
        .run_statements(&[
            "create subscription s connection 'host=/nowhere' publication p with (connect = false, slot_name = 's')",
            "alter subscription s enable",
            "alter system set primary_conninfo = 'host=/nowhere'",
            "alter system set shared_preload_libraries = 'auto_explain'",
        ])
        .await;
    let lab = test_lab.open_target();
    make_backup(lab.as_ref(), "BACKUP0001").await;
    make_branch(lab.as_ref(), &branch_request("drill", RecoveryTarget::BackupEnd), "BRANCH0001").await;
    let drill = open_branch(lab.as_ref(), "drill").await;
    for (setting, value) in [
        ("archive_mode", "off"),
        ("listen_addresses", ""),
        ("max_logical_replication_workers", "0"),
        ("primary_conninfo", ""),
        ("shared_preload_libraries", ""),
        ("cluster_name", "branch:drill"),
    ] {
        assert_eq!(
            query_text(drill.as_ref(), &format!("select current_setting('{setting}')")).await,
            value,
            "{setting}"
        );
    }
    let workers = "select count(*) from pg_stat_activity where backend_type like 'logical replication%'";
    assert_eq!(query_number(drill.as_ref(), workers).await, 0);
    assert_ne!(query_number(lab.as_ref(), workers).await, 0, "the source has what the branch must not have");
}

#[tokio::test]
async fn t9_a_tablespace_of_a_branch_is_its_own() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let outside = test_lab.make_folder("outside");
    let make = format!("create tablespace outside location '{}'", outside.display());
    test_lab
        .run_statements(&[&make, "create table far (n int) tablespace outside", "insert into far values (1)"])
        .await;
    let lab = test_lab.open_target();
    let backup = make_backup(lab.as_ref(), "BACKUP0001").await;
    make_branch(lab.as_ref(), &branch_request("drill", RecoveryTarget::BackupEnd), "BRANCH0001").await;
    let drill = open_branch(lab.as_ref(), "drill").await;
    assert_eq!(query_number(drill.as_ref(), "select n from far").await, 1);
    let place = query_text(
        drill.as_ref(),
        "select pg_tablespace_location(oid) from pg_tablespace where spcname = 'outside'",
    )
    .await;
    assert!(place.contains("/data/branch0001/files/tablespaces/"), "{place}");
    change_rows(drill.as_ref(), "update far set n = 2").await;
    change_rows(drill.as_ref(), "insert into far select generate_series(1, 10000)").await;
    assert_eq!(query_number(lab.as_ref(), "select sum(n) from far").await, 1);
    let check = lab.backups().expect("backups").verify(&backup).await.expect("reads it");
    assert!(check.ok, "{check:?}");
    let request = in_place_request(RecoveryTarget::BackupEnd);
    let error = lab
        .backups()
        .expect("backups")
        .restore(&request, &test_key("RESTORE001"))
        .await
        .expect_err("not in place");
    assert_eq!(error.code, Code::Refused);
}

/// Replaying that a tablespace was made links to the source's own folder.
#[tokio::test]
async fn t9_a_tablespace_younger_than_the_backup_is_left_alone() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    make_backup(lab.as_ref(), "BACKUP0001").await;
    let before = Moment::parse(&query_text(lab.as_ref(), "select now()").await).expect("a moment");
    // Replay notices that it has gone far enough only at the next commit, and would have made the folder by then.
    change_rows(lab.as_ref(), "delete from notes").await;
    let outside = test_lab.make_folder("outside");
    let make = format!("create tablespace outside location '{}'", outside.display());
    test_lab
        .run_statements(&[&make, "create table far (n int) tablespace outside", "insert into far values (1)"])
        .await;
    let lsn = query_text(lab.as_ref(), "select pg_current_wal_lsn()").await;
    change_rows(lab.as_ref(), "insert into far values (2)").await;
    let after = Moment::parse(&query_text(lab.as_ref(), "select now()").await).expect("a moment");
    for to in [RecoveryTarget::Latest, RecoveryTarget::Time(after), RecoveryTarget::Lsn(lsn)] {
        let backups = lab.backups().expect("backups");
        let error = backups
            .restore(&branch_request("drill", to), &test_key("BRANCH0001"))
            .await
            .expect_err("is refused");
        assert_eq!(error.code, Code::Refused, "{error:?}");
        assert!(error.message.contains(&format!("\"{}\"", outside.display())), "{error:?}");
    }
    assert!(lab.branches().expect("branches").list().await.expect("lists").is_empty());
    make_branch(lab.as_ref(), &branch_request("before", RecoveryTarget::Time(before)), "BRANCH0002").await;
    make_backup(lab.as_ref(), "BACKUP0002").await;
    make_branch(lab.as_ref(), &branch_request("drill", RecoveryTarget::Latest), "BRANCH0003").await;
    change_rows(open_branch(lab.as_ref(), "drill").await.as_ref(), "delete from far").await;
    assert_eq!(query_number(lab.as_ref(), "select sum(n) from far").await, 3);
}

#[tokio::test]
async fn t9_a_branch_that_leads_out_is_never_ready() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    make_backup(lab.as_ref(), "BACKUP0001").await;
    let outside = test_lab.make_folder("outside");
    fs::write(outside.join("rows"), "rows").expect("a file");
    let request = branch_request("drill", RecoveryTarget::BackupEnd);
    let job =
        lab.backups().expect("backups").restore(&request, &test_key("BRANCH0001")).await.expect("accepted");
    let links = test_lab.state_folder().join("postgres/lab/data/branch0001/files/data/pg_tblspc");
    while !matches!(lab.poll_job(&job).await.expect("looks"), JobStatus::Running(p) if p.phase.starts_with("replaying"))
    {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    std::os::unix::fs::symlink(&outside, links.join("99999")).expect("a link");
    let error = finish_job(lab.as_ref(), &job).await.expect_err("leads out");
    assert_eq!(error.code, Code::Refused, "{error:?}");
    assert!(error.message.contains("99999"), "{error:?}");
    assert!(outside.join("rows").exists());
    let left = lab.branches().expect("branches").list().await.expect("lists");
    assert!(left.is_empty(), "{left:?} {error:?}");
}

#[tokio::test]
async fn t10_no_backup_while_the_archiver_fails() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    test_lab
        .run_statements(&[
            "alter system set basic_archive.archive_directory = '/nowhere'",
            "select pg_reload_conf()",
        ])
        .await;
    test_lab.run_statements(&["create table t (n int)", "select pg_switch_wal()"]).await;
    let lab = test_lab.open_target();
    let failing = "select count(*) from pg_stat_archiver where last_failed_time > coalesce(last_archived_time, '-infinity')";
    for _ in 0..200 {
        if query_number(lab.as_ref(), failing).await == 1 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let backups = lab.backups().expect("backups");
    let error =
        backups.create(&BackupRequest::default(), &test_key("BACKUP0001")).await.expect_err("is refused");
    assert_eq!(error.code, Code::Refused, "{error:?}");
    assert!(error.message.contains("archiver has failed"), "{error:?}");
    assert!(backups.list().await.expect("lists").is_empty());
}

#[tokio::test]
async fn t15_a_damaged_source_gives_no_backup() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    test_lab.run_statements(&["checkpoint"]).await;
    let file = query_text(lab.as_ref(), "select pg_relation_filepath('orders')").await;
    test_lab.stop_server().await;
    let mut table =
        fs::File::options().write(true).open(test_lab.lab_folder("data").join(file)).expect("a file");
    table.seek(std::io::SeekFrom::Start(200)).expect("seeks");
    table.write_all(b"damage").expect("writes");
    test_lab.start_server(&[]).await;
    let backups = lab.backups().expect("backups");
    let job = backups.create(&BackupRequest::default(), &test_key("BACKUP0001")).await.expect("accepted");
    let error = finish_job(lab.as_ref(), &job).await.expect_err("is damaged");
    assert_eq!(error.code, Code::CorruptSource, "{error:?}");
    assert!(backups.list().await.expect("lists").is_empty());
    assert_eq!(fs::read_dir(test_lab.lab_folder("backups")).expect("a folder").count(), 0);
}

#[tokio::test]
async fn t22_a_branch_needs_no_configuration_of_its_source() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    test_lab.stop_server().await;
    let outside = test_lab.make_folder("etc");
    for file in ["postgresql.conf", "pg_hba.conf", "pg_ident.conf"] {
        fs::rename(test_lab.lab_folder("data").join(file), outside.join(file)).expect("moves");
    }
    let option = |name: &str, file: &str| format!("{name}={}", outside.join(file).display());
    let options = [
        "-c",
        &option("config_file", "postgresql.conf"),
        "-c",
        &option("hba_file", "pg_hba.conf"),
        "-c",
        &option("ident_file", "pg_ident.conf"),
    ];
    test_lab.start_server(&options).await;
    let lab = test_lab.open_target();
    make_backup(lab.as_ref(), "BACKUP0001").await;
    make_branch(lab.as_ref(), &branch_request("drill", RecoveryTarget::BackupEnd), "BRANCH0001").await;
    let drill = open_branch(lab.as_ref(), "drill").await;
    assert_eq!(query_number(drill.as_ref(), "select count(*) from orders").await, 400);
    // In place the cluster comes back with the configuration it had.
    let request = in_place_request(RecoveryTarget::BackupEnd);
    let job =
        lab.backups().expect("backups").restore(&request, &test_key("RESTORE001")).await.expect("accepted");
    finish_job(lab.as_ref(), &job).await.expect("restored");
    let file = query_text(lab.as_ref(), "select current_setting('config_file')").await;
    assert_eq!(file, outside.join("postgresql.conf").display().to_string());
}

#[tokio::test]
async fn t23_a_branch_has_the_minima_of_its_source() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    make_backup(lab.as_ref(), "BACKUP0001").await;
    // Raised after the backup: the WAL says so, the backup does not.
    test_lab
        .run_statements(&[
            "alter system set max_connections = 300",
            "alter system set max_locks_per_transaction = 128",
        ])
        .await;
    test_lab.stop_server().await;
    test_lab.start_server(&[]).await;
    change_rows(lab.as_ref(), "insert into notes (country, note) values ('SE', 'later')").await;
    make_branch(lab.as_ref(), &branch_request("drill", RecoveryTarget::Latest), "BRANCH0001").await;
    let drill = open_branch(lab.as_ref(), "drill").await;
    assert_eq!(query_number(drill.as_ref(), "select count(*) from notes where note = 'later'").await, 1);
    assert_eq!(query_text(drill.as_ref(), "select current_setting('max_connections')").await, "300");
}

#[tokio::test]
async fn a_setting_is_one_however_it_is_spelled() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    let settings = lab.settings().expect("settings");
    let set = async |value: serde_json::Value| {
        let values = serde_json::Map::from_iter([("Work_Mem".to_owned(), value)]);
        settings.set(&values).await.expect("it is set");
        settings.get(&["WORK_MEM".to_owned()]).await.expect("a setting").remove(0).overridden
    };
    assert_eq!(set("8MB".into()).await, "8MB");
    let file = fs::read_to_string(test_lab.lab_folder("data/postgresql.auto.conf")).expect("a file");
    assert!(file.contains("work_mem = '8MB'"), "{file}");
    assert_eq!(settings.get(&[]).await.expect("overrides").len(), 1);
    assert_eq!(set(serde_json::Value::Null).await, serde_json::Value::Null);
}

#[tokio::test]
async fn a_backup_that_nobody_makes_any_more_can_be_deleted() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    let backups = lab.backups().expect("backups");
    let job = backups.create(&BackupRequest::default(), &test_key("BACKUP0001")).await.expect("accepted");
    // Nobody polls it, so that it is never complete; its copy ends by itself.
    for _ in 0..600 {
        let plan = backups.plan_delete(&job.id).await.expect("a plan");
        match backups.delete(&plan, &test_key("DELETE0001")).await {
            Ok(()) => break,
            Err(e) => assert_eq!(e.code, Code::Conflict, "{e:?}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(backups.list().await.expect("lists").is_empty());
}
