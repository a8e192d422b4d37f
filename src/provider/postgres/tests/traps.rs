//! The traps of restoring PostgreSQL, each by the number it has in the collection of what was provoked.

use super::stage::{Stage, back_up, branch_of, change, finish, in_place, into, key, number, opened, text};
use crate::{
    base::moment::Moment,
    provider::{
        Code, Unwritten,
        model::{At, BackupRequest, Observed},
    },
};
use std::{
    fs,
    io::{Seek as _, Write as _},
};

#[tokio::test]
async fn postgres_t2_a_branch_that_cannot_reach_its_target_is_removed() {
    let Some(stage) = Stage::up().await else { return };
    let lab = stage.open();
    back_up(lab.as_ref(), "BACKUP0001").await;
    change(lab.as_ref(), "delete from order_items").await;
    let request = into("drill", At::Latest);
    let job = lab
        .backups()
        .expect("backups")
        .restore(&request, &key("BRANCH0001"), &Unwritten)
        .await
        .expect("accepted");
    // What the plan saw in the archive is gone when recovery asks for it.
    for entry in fs::read_dir(stage.folder("archive")).expect("an archive").flatten() {
        fs::remove_file(entry.path()).expect("is lost");
    }
    let error = finish(lab.as_ref(), &job).await.expect_err("cannot be reached");
    assert_eq!(error.code, Code::TargetNotReached, "{error:?}");
    assert!(error.left_behind.is_empty());
    assert!(lab.branches().expect("branches").list().await.expect("lists").is_empty());
    let left: Vec<_> = fs::read_dir(stage.path().join("postgres/lab/data")).expect("a folder").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn postgres_t7_t25_a_branch_reaches_nothing() {
    let Some(stage) = Stage::up().await else { return };
    stage
        .run(&[
            "create subscription s connection 'host=/nowhere' publication p with (connect = false, slot_name = 's')",
            "alter subscription s enable",
            "alter system set primary_conninfo = 'host=/nowhere'",
            "alter system set shared_preload_libraries = 'auto_explain'",
        ])
        .await;
    let lab = stage.open();
    back_up(lab.as_ref(), "BACKUP0001").await;
    branch_of(lab.as_ref(), &into("drill", At::BackupEnd), "BRANCH0001").await;
    let drill = opened(lab.as_ref(), "drill").await;
    for (setting, value) in [
        ("archive_mode", "off"),
        ("listen_addresses", ""),
        ("max_logical_replication_workers", "0"),
        ("primary_conninfo", ""),
        ("shared_preload_libraries", ""),
        ("cluster_name", "branch:drill"),
    ] {
        assert_eq!(
            text(drill.as_ref(), &format!("select current_setting('{setting}')")).await,
            value,
            "{setting}"
        );
    }
    let workers = "select count(*) from pg_stat_activity where backend_type like 'logical replication%'";
    assert_eq!(number(drill.as_ref(), workers).await, 0);
    assert_ne!(number(lab.as_ref(), workers).await, 0, "the source has what the branch must not have");
}

#[tokio::test]
async fn postgres_t9_a_tablespace_of_a_branch_is_its_own() {
    let Some(stage) = Stage::up().await else { return };
    let outside = stage.make_folder("outside");
    let make = format!("create tablespace outside location '{}'", outside.display());
    stage.run(&[&make, "create table far (n int) tablespace outside", "insert into far values (1)"]).await;
    let lab = stage.open();
    let backup = back_up(lab.as_ref(), "BACKUP0001").await;
    branch_of(lab.as_ref(), &into("drill", At::BackupEnd), "BRANCH0001").await;
    let drill = opened(lab.as_ref(), "drill").await;
    assert_eq!(number(drill.as_ref(), "select n from far").await, 1);
    let place = text(
        drill.as_ref(),
        "select pg_tablespace_location(oid) from pg_tablespace where spcname = 'outside'",
    )
    .await;
    assert!(place.contains("/data/branch0001/files/tablespaces/"), "{place}");
    change(drill.as_ref(), "update far set n = 2").await;
    change(drill.as_ref(), "insert into far select generate_series(1, 10000)").await;
    assert_eq!(number(lab.as_ref(), "select sum(n) from far").await, 1);
    let check = lab.backups().expect("backups").verify(&backup).await.expect("reads it");
    assert!(check.ok, "{check:?}");
    let request = in_place(At::BackupEnd);
    let error = lab
        .backups()
        .expect("backups")
        .restore(&request, &key("RESTORE001"), &Unwritten)
        .await
        .expect_err("not in place");
    assert_eq!(error.code, Code::Refused);
}

/// Replaying that a tablespace was made links to the source's own folder.
#[tokio::test]
async fn postgres_t9_a_tablespace_younger_than_the_backup_is_left_alone() {
    let Some(stage) = Stage::up().await else { return };
    let lab = stage.open();
    back_up(lab.as_ref(), "BACKUP0001").await;
    let before = Moment::parse(&text(lab.as_ref(), "select now()").await).expect("a moment");
    // Replay notices that it has gone far enough only at the next commit, and would have made the folder by then.
    change(lab.as_ref(), "delete from notes").await;
    let outside = stage.make_folder("outside");
    let make = format!("create tablespace outside location '{}'", outside.display());
    stage.run(&[&make, "create table far (n int) tablespace outside", "insert into far values (1)"]).await;
    let lsn = text(lab.as_ref(), "select pg_current_wal_lsn()").await;
    change(lab.as_ref(), "insert into far values (2)").await;
    let after = Moment::parse(&text(lab.as_ref(), "select now()").await).expect("a moment");
    for to in [At::Latest, At::Time(after), At::Lsn(lsn)] {
        let backups = lab.backups().expect("backups");
        let error = backups
            .restore(&into("drill", to), &key("BRANCH0001"), &Unwritten)
            .await
            .expect_err("is refused");
        assert_eq!(error.code, Code::Refused, "{error:?}");
        assert!(error.message.contains(&format!("\"{}\"", outside.display())), "{error:?}");
    }
    assert!(lab.branches().expect("branches").list().await.expect("lists").is_empty());
    branch_of(lab.as_ref(), &into("before", At::Time(before)), "BRANCH0002").await;
    back_up(lab.as_ref(), "BACKUP0002").await;
    branch_of(lab.as_ref(), &into("drill", At::Latest), "BRANCH0003").await;
    change(opened(lab.as_ref(), "drill").await.as_ref(), "delete from far").await;
    assert_eq!(number(lab.as_ref(), "select sum(n) from far").await, 3);
}

#[tokio::test]
async fn postgres_t9_a_branch_that_leads_out_is_never_ready() {
    let Some(stage) = Stage::up().await else { return };
    let lab = stage.open();
    back_up(lab.as_ref(), "BACKUP0001").await;
    let outside = stage.make_folder("outside");
    fs::write(outside.join("rows"), "rows").expect("a file");
    let request = into("drill", At::BackupEnd);
    let job = lab
        .backups()
        .expect("backups")
        .restore(&request, &key("BRANCH0001"), &Unwritten)
        .await
        .expect("accepted");
    let links = stage.path().join("postgres/lab/data/branch0001/files/data/pg_tblspc");
    while !matches!(lab.observe(&job).await.expect("looks"), Observed::Running(p) if p.phase.starts_with("replaying"))
    {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    std::os::unix::fs::symlink(&outside, links.join("99999")).expect("a link");
    let error = finish(lab.as_ref(), &job).await.expect_err("leads out");
    assert_eq!(error.code, Code::Refused, "{error:?}");
    assert!(error.message.contains("99999"), "{error:?}");
    assert!(outside.join("rows").exists());
    assert!(lab.branches().expect("branches").list().await.expect("lists").is_empty());
}

#[tokio::test]
async fn postgres_t10_no_backup_while_the_archiver_fails() {
    let Some(stage) = Stage::up().await else { return };
    stage
        .run(&["alter system set basic_archive.archive_directory = '/nowhere'", "select pg_reload_conf()"])
        .await;
    stage.run(&["create table t (n int)", "select pg_switch_wal()"]).await;
    let lab = stage.open();
    let failing = "select count(*) from pg_stat_archiver where last_failed_time > coalesce(last_archived_time, '-infinity')";
    for _ in 0..200 {
        if number(lab.as_ref(), failing).await == 1 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let backups = lab.backups().expect("backups");
    let error = backups.create(&BackupRequest::default(), &key("BACKUP0001")).await.expect_err("is refused");
    assert_eq!(error.code, Code::Refused, "{error:?}");
    assert!(error.message.contains("archiver has failed"), "{error:?}");
    assert!(backups.list().await.expect("lists").is_empty());
}

#[tokio::test]
async fn postgres_t15_a_damaged_source_gives_no_backup() {
    let Some(stage) = Stage::up().await else { return };
    let lab = stage.open();
    stage.run(&["checkpoint"]).await;
    let file = text(lab.as_ref(), "select pg_relation_filepath('orders')").await;
    stage.stop().await;
    let mut table = fs::File::options().write(true).open(stage.folder("data").join(file)).expect("a file");
    table.seek(std::io::SeekFrom::Start(200)).expect("seeks");
    table.write_all(b"damage").expect("writes");
    stage.start(&[]).await;
    let backups = lab.backups().expect("backups");
    let job = backups.create(&BackupRequest::default(), &key("BACKUP0001")).await.expect("accepted");
    let error = finish(lab.as_ref(), &job).await.expect_err("is damaged");
    assert_eq!(error.code, Code::CorruptSource, "{error:?}");
    assert!(backups.list().await.expect("lists").is_empty());
    assert_eq!(fs::read_dir(stage.folder("backups")).expect("a folder").count(), 0);
}

#[tokio::test]
async fn postgres_t22_a_branch_needs_no_configuration_of_its_source() {
    let Some(stage) = Stage::up().await else { return };
    stage.stop().await;
    let outside = stage.make_folder("etc");
    for file in ["postgresql.conf", "pg_hba.conf", "pg_ident.conf"] {
        fs::rename(stage.folder("data").join(file), outside.join(file)).expect("moves");
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
    stage.start(&options).await;
    let lab = stage.open();
    back_up(lab.as_ref(), "BACKUP0001").await;
    branch_of(lab.as_ref(), &into("drill", At::BackupEnd), "BRANCH0001").await;
    let drill = opened(lab.as_ref(), "drill").await;
    assert_eq!(number(drill.as_ref(), "select count(*) from orders").await, 400);
    // In place the cluster comes back with the configuration it had.
    let request = in_place(At::BackupEnd);
    let job = lab
        .backups()
        .expect("backups")
        .restore(&request, &key("RESTORE001"), &Unwritten)
        .await
        .expect("accepted");
    finish(lab.as_ref(), &job).await.expect("restored");
    let file = text(lab.as_ref(), "select current_setting('config_file')").await;
    assert_eq!(file, outside.join("postgresql.conf").display().to_string());
}

#[tokio::test]
async fn postgres_t23_a_branch_has_the_minima_of_its_source() {
    let Some(stage) = Stage::up().await else { return };
    let lab = stage.open();
    back_up(lab.as_ref(), "BACKUP0001").await;
    // Raised after the backup: the WAL says so, the backup does not.
    stage
        .run(&["alter system set max_connections = 300", "alter system set max_locks_per_transaction = 128"])
        .await;
    stage.stop().await;
    stage.start(&[]).await;
    change(lab.as_ref(), "insert into notes (country, note) values ('SE', 'later')").await;
    branch_of(lab.as_ref(), &into("drill", At::Latest), "BRANCH0001").await;
    let drill = opened(lab.as_ref(), "drill").await;
    assert_eq!(number(drill.as_ref(), "select count(*) from notes where note = 'later'").await, 1);
    assert_eq!(text(drill.as_ref(), "select current_setting('max_connections')").await, "300");
}
