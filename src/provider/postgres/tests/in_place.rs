//! Restoring in place, and the way back.

use super::{
    super::server,
    stage::{Stage, back_up, change, finish, in_place, key, number, text},
};
use crate::provider::{
    Code, Unwritten,
    model::{At, RecoveryPoint, RestoreRequest},
};
use std::{fs, path::Path};

#[tokio::test]
async fn postgres_a_restore_in_place_gives_the_backup_back() {
    let Some(stage) = Stage::up().await else { return };
    let lab = stage.open();
    back_up(lab.as_ref(), "BACKUP0001").await;
    change(lab.as_ref(), "delete from order_items").await;
    let before = lab.identity().await.expect("an identity");
    let backups = lab.backups().expect("backups");
    let job =
        backups.restore(&in_place(At::BackupEnd), &key("RESTORE001"), &Unwritten).await.expect("accepted");
    let restored = finish(lab.as_ref(), &job).await.expect("restored");
    assert_eq!(restored["timeline"], 2);
    assert_eq!(number(lab.as_ref(), "select count(*) from order_items").await, 800);
    let kept = restored["kept"].as_str().expect("the old data is kept");
    assert!(Path::new(kept).join("PG_VERSION").is_file());
    assert_eq!(lab.identity().await.expect("an identity"), before);
    // Nothing of the recovery is left in its settings, and the new timeline is archived.
    let left =
        "select count(*) from pg_settings where name like 'recovery_target%' and source = 'command line'";
    assert_eq!(number(lab.as_ref(), left).await, 0);
    back_up(lab.as_ref(), "BACKUP0002").await;
    assert!(stage.folder("archive/00000002.history").is_file());
}

#[tokio::test]
async fn postgres_a_restore_in_place_that_fails_is_undone() {
    let Some(stage) = Stage::up().await else { return };
    let lab = stage.open();
    back_up(lab.as_ref(), "BACKUP0001").await;
    change(lab.as_ref(), "delete from order_items").await;
    let backups = lab.backups().expect("backups");
    let job = backups.restore(&in_place(At::Latest), &key("RESTORE001"), &Unwritten).await.expect("accepted");
    // What the plan saw in the archive is gone when recovery asks for it.
    let archive = stage.folder("archive");
    for entry in fs::read_dir(&archive).expect("an archive").flatten() {
        fs::remove_file(entry.path()).expect("is lost");
    }
    let error = finish(lab.as_ref(), &job).await.expect_err("cannot be reached");
    assert_eq!(error.code, Code::TargetNotReached, "{error:?}");
    assert_eq!(finish(lab.as_ref(), &job).await.expect_err("stays so"), error);
    assert_eq!(number(lab.as_ref(), "select count(*) from order_items").await, 0);
    assert_eq!(number(lab.as_ref(), "select timeline_id from pg_control_checkpoint()").await, 1);
    let beside: Vec<_> = fs::read_dir(stage.path().join("lab")).expect("a folder").flatten().collect();
    assert!(!beside.iter().any(|e| e.file_name().to_string_lossy().starts_with("data.")), "{beside:?}");
}

/// Every look is taken by another life of redrill.
#[tokio::test]
async fn postgres_a_restore_in_place_survives_being_killed() {
    let Some(stage) = Stage::up().await else { return };
    back_up(stage.open().as_ref(), "BACKUP0001").await;
    change(stage.open().as_ref(), "delete from order_items").await;
    let request = RestoreRequest {
        to: RecoveryPoint { at: At::BackupEnd, inclusive: true, timeline: Some(1) },
        ..in_place(At::BackupEnd)
    };
    stage
        .open()
        .backups()
        .expect("backups")
        .restore(&request, &key("RESTORE001"), &Unwritten)
        .await
        .expect("accepted");
    let mut looks = 0;
    loop {
        let lab = stage.open();
        let job = lab.find(&key("RESTORE001"), None).await.expect("looks").expect("is found");
        if let crate::provider::model::Observed::Done(_) = lab.observe(&job).await.expect("looks") {
            break;
        }
        looks += 1;
        assert!(looks < 600, "is not done");
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    }
    assert_eq!(number(stage.open().as_ref(), "select count(*) from order_items").await, 800);
    // Killed between the two renames, the cluster is still known for who it is, and the job can go on.
    let (lab, data) = (stage.open(), stage.folder("data"));
    let identity = lab.identity().await.expect("is itself");
    fs::rename(&data, data.with_extension("elsewhere")).expect("as between the renames");
    let between = lab.identity().await;
    fs::rename(data.with_extension("elsewhere"), &data).expect("back");
    assert_eq!(between.expect("is still itself"), identity);
}

/// As Debian has it: the server was started on the folder of its configuration, which says where the data is.
#[tokio::test]
async fn postgres_a_server_whose_configuration_lies_elsewhere_is_started_as_before() {
    let Some(stage) = Stage::up().await else { return };
    let lab = stage.open();
    let (data, etc) = (stage.folder("data"), stage.make_folder("etc"));
    stage.stop().await;
    for file in ["postgresql.conf", "pg_hba.conf", "pg_ident.conf"] {
        fs::rename(data.join(file), etc.join(file)).expect("moves");
    }
    let written = fs::read_to_string(etc.join("postgresql.conf")).expect("a configuration");
    let written = format!("{written}\ndata_directory = '{}'\n", data.display());
    fs::write(etc.join("postgresql.conf"), written).expect("is written");
    let args = ["-D".as_ref(), etc.as_os_str(), "-c".as_ref(), "work_mem=5MB".as_ref()];
    stage.tools().spawn_detached("postgres", &args, &[], &stage.folder("server.log")).expect("starts");
    server::wait_ready(&crate::base::clock::Machine, &data).await.expect("comes up");
    back_up(lab.as_ref(), "BACKUP0001").await;
    change(lab.as_ref(), "delete from order_items").await;
    let backups = lab.backups().expect("backups");
    let job =
        backups.restore(&in_place(At::BackupEnd), &key("RESTORE001"), &Unwritten).await.expect("accepted");
    finish(lab.as_ref(), &job).await.expect("restored");
    assert_eq!(number(lab.as_ref(), "select count(*) from order_items").await, 800);
    assert_eq!(text(lab.as_ref(), "select current_setting('work_mem')").await, "5MB");
    let config = text(lab.as_ref(), "select current_setting('hba_file')").await;
    assert_eq!(Path::new(&config), etc.join("pg_hba.conf"));
    // What cannot be repeated is refused while the server still serves.
    fs::write(data.join("postmaster.opts"), "postgres \"-D\" \"/nowhere\"\n").expect("is written");
    let refused =
        backups.restore(&in_place(At::BackupEnd), &key("RESTORE002"), &Unwritten).await.expect_err("refused");
    assert_eq!(refused.code, Code::Refused, "{refused:?}");
    assert!(refused.message.contains("/nowhere"), "{refused:?}");
    assert_eq!(number(lab.as_ref(), "select count(*) from order_items").await, 800);
}

#[tokio::test]
async fn postgres_configuration_in_sub_folders_stays_and_a_subscriber_is_refused() {
    let Some(stage) = Stage::up().await else { return };
    let lab = stage.open();
    let data = stage.folder("data");
    let own = data.join("conf.d");
    super::super::disk::make_private(&stage.tools(), &own).expect("a folder");
    let put = |name: &str, text: &str| fs::write(own.join(name), text).expect("is written");
    put("memory.conf", "work_mem = '5MB'\n");
    put("old.conf", "maintenance_work_mem = '7MB'\n");
    let main = fs::read_to_string(data.join("postgresql.conf")).expect("a configuration");
    fs::write(data.join("postgresql.conf"), format!("{main}\ninclude_dir = 'conf.d'\n")).expect("is written");
    back_up(lab.as_ref(), "BACKUP0001").await;
    put("memory.conf", "work_mem = '6MB'\n");
    fs::remove_file(own.join("old.conf")).expect("is removed");
    let backups = lab.backups().expect("backups");
    stage
        .run(&[
            "create subscription s connection 'host=/nowhere dbname=x' publication p with (connect = false)",
            "alter subscription s enable",
        ])
        .await;
    let refused =
        backups.restore(&in_place(At::BackupEnd), &key("RESTORE001"), &Unwritten).await.expect_err("refused");
    assert_eq!(refused.code, Code::Refused, "{refused:?}");
    assert!(refused.message.contains("subscribes to s"), "{refused:?}");
    stage.run(&["alter subscription s disable"]).await;
    let job =
        backups.restore(&in_place(At::BackupEnd), &key("RESTORE002"), &Unwritten).await.expect("accepted");
    finish(lab.as_ref(), &job).await.expect("restored");
    assert_eq!(text(lab.as_ref(), "select current_setting('work_mem')").await, "6MB");
    assert!(!own.join("old.conf").exists());
}

/// Looks until the restore in place replays WAL, with its server running.
async fn until_replaying(stage: &Stage) {
    for _ in 0..600 {
        let lab = stage.open();
        let job = lab.find(&key("RESTORE001"), None).await.expect("looks").expect("is found");
        lab.observe(&job).await.expect("looks");
        if stage.folder("data.before-restore001").is_dir() && server::running(&stage.folder("data")).is_some()
        {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("does not replay");
}

#[tokio::test]
async fn postgres_an_undo_that_fails_is_gone_on_with() {
    let Some(stage) = Stage::up().await else { return };
    let lab = stage.open();
    back_up(lab.as_ref(), "BACKUP0001").await;
    let backups = lab.backups().expect("backups");
    let job =
        backups.restore(&in_place(At::BackupEnd), &key("RESTORE001"), &Unwritten).await.expect("accepted");
    until_replaying(&stage).await;
    // The old configuration does not start any more.
    let old = stage.folder("data.before-restore001/postgresql.conf");
    let text = fs::read_to_string(&old).expect("a configuration");
    fs::write(&old, "no_such_setting = 1\n").expect("is spoilt");
    let stuck = lab.cancel(&job).await.expect_err("the old data does not start");
    assert_eq!(stuck.code, Code::Unknown, "{stuck:?}");
    assert!(stuck.message.contains("no_such_setting"), "the log's own words: {stuck:?}");
    assert_eq!(lab.find(&key("RESTORE001"), None).await.expect_err("nobody knows").code, Code::Unknown);
    // Another one is told which, and of which run.
    let other = backups
        .restore(&in_place(At::BackupEnd), &key("RESTORE002"), &Unwritten)
        .await
        .expect_err("is not alone");
    assert!(other.message.contains("RESTORE001.json") && other.message.contains("run1"), "{other:?}");
    // Taken up again, it is undone; then it is over.
    fs::write(stage.folder("data/postgresql.conf"), text).expect("is mended");
    let undone = lab.observe(&job).await.expect_err("is undone");
    assert_eq!(
        (undone.code, undone.message.contains("as it was before")),
        (Code::Refused, true),
        "{undone:?}"
    );
    let job =
        backups.restore(&in_place(At::BackupEnd), &key("RESTORE002"), &Unwritten).await.expect("accepted");
    finish(lab.as_ref(), &job).await.expect("restored");
}

#[tokio::test]
async fn postgres_a_restore_in_place_shares_its_data_with_nobody() {
    let Some(stage) = Stage::up().await else { return };
    let lab = stage.open();
    back_up(lab.as_ref(), "BACKUP0001").await;
    // The same cluster, as another state folder would know it.
    let elsewhere = tempfile::tempdir().expect("a folder");
    let entry = crate::config::lab_file(stage.path());
    fs::create_dir_all(crate::config::lab_file(elsewhere.path()).parent().expect("a folder"))
        .expect("is made");
    fs::copy(entry, crate::config::lab_file(elsewhere.path())).expect("is copied");
    let other = super::stage::open_in(elsewhere.path());
    let backups = lab.backups().expect("backups");
    let job =
        backups.restore(&in_place(At::BackupEnd), &key("RESTORE001"), &Unwritten).await.expect("accepted");
    let refused = other
        .backups()
        .expect("backups")
        .restore(&in_place(At::BackupEnd), &key("RESTORE002"), &Unwritten)
        .await
        .expect_err("is not alone");
    assert_eq!(refused.code, Code::Conflict, "{refused:?}");
    assert!(refused.message.contains("RESTORE001"), "{refused:?}");
    until_replaying(&stage).await;
    // Somebody else's server on the new data is neither waited for nor stopped.
    stage.stop().await;
    stage.start(&["-c", "restore_command=false"]).await;
    let foreign = server::running(&stage.folder("data")).expect("runs");
    let unknown = finish(lab.as_ref(), &job).await.expect_err("nobody knows");
    assert_eq!(unknown.code, Code::Unknown, "{unknown:?}");
    assert!(foreign.is_alive());
    stage.stop().await;
    drop(finish(lab.as_ref(), &job).await);
}

#[tokio::test]
async fn postgres_a_server_that_crashed_is_started_and_one_that_was_stopped_is_not() {
    let Some(stage) = Stage::up().await else { return };
    let lab = stage.open();
    back_up(lab.as_ref(), "BACKUP0001").await;
    let backups = lab.backups().expect("backups");
    stage.stop().await;
    let job =
        backups.restore(&in_place(At::BackupEnd), &key("RESTORE001"), &Unwritten).await.expect("accepted");
    assert_eq!(finish(lab.as_ref(), &job).await.expect("restored")["running"], false);
    assert!(server::running(&stage.folder("data")).is_none());
    stage.start(&[]).await;
    stage.crash().await;
    let job =
        backups.restore(&in_place(At::BackupEnd), &key("RESTORE002"), &Unwritten).await.expect("accepted");
    assert_eq!(finish(lab.as_ref(), &job).await.expect("restored")["running"], true);
    assert!(server::is_ready(&stage.folder("data")));
}

#[tokio::test]
async fn postgres_wal_that_no_archive_has_is_not_exchanged() {
    let Some(stage) = Stage::up().await else { return };
    let lab = stage.open();
    back_up(lab.as_ref(), "BACKUP0001").await;
    let backups = lab.backups().expect("backups");
    let restore = async |with: &str| {
        let refused =
            backups.restore(&in_place(At::BackupEnd), &key(with), &Unwritten).await.expect_err("refused");
        assert_eq!(refused.code, Code::Refused, "{refused:?}");
        refused.message
    };
    let archive = stage.folder("archive");
    fs::rename(&archive, archive.with_extension("away")).expect("moves");
    stage.run(&["select pg_switch_wal()"]).await;
    let failing = "select failed_count from pg_stat_archiver";
    for _ in 0..100 {
        if number(lab.as_ref(), failing).await > 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(restore("RESTORE001").await.contains("not being archived"));
    stage.crash().await;
    fs::rename(archive.with_extension("away"), &archive).expect("moves back");
    assert!(restore("RESTORE002").await.contains("never archived"));
}

#[tokio::test]
async fn postgres_a_damaged_backup_does_not_take_the_place_of_the_data() {
    let Some(stage) = Stage::up().await else { return };
    let lab = stage.open();
    let id = back_up(lab.as_ref(), "BACKUP0001").await;
    // A byte of a table, so that every length stays.
    let table = text(lab.as_ref(), "select pg_relation_filepath('orders')").await;
    let table = stage.folder("backups").join(&id).join("files/data").join(table);
    let mut bytes = fs::read(&table).expect("a table");
    let last = bytes.len() - 1;
    bytes[last] ^= 0xff;
    fs::write(&table, &bytes).expect("is damaged");
    let before = server::running(&stage.folder("data")).expect("runs");
    let backups = lab.backups().expect("backups");
    let job =
        backups.restore(&in_place(At::BackupEnd), &key("RESTORE001"), &Unwritten).await.expect("accepted");
    let error = finish(lab.as_ref(), &job).await.expect_err("is damaged");
    assert_eq!(error.code, Code::CorruptBackup, "{error:?}");
    assert!(error.message.contains("checksum") && before.is_alive(), "{error:?}");
    // What `backup verify` found is remembered, until it finds nothing any more.
    assert_eq!(backups.list().await.expect("lists")[0].status, "completed");
    assert!(!backups.verify(&id).await.expect("reads it").ok);
    assert_eq!(backups.list().await.expect("lists")[0].status, "damaged");
    assert!(!backups.window().await.expect("a window").backups[0].usable);
    let request = RestoreRequest { backup: Some(id.clone()), ..in_place(At::BackupEnd) };
    let refused = backups.restore(&request, &key("RESTORE002"), &Unwritten).await.expect_err("is known");
    assert_eq!(refused.code, Code::CorruptBackup, "{refused:?}");
    bytes[last] ^= 0xff;
    fs::write(&table, &bytes).expect("is mended");
    assert!(backups.verify(&id).await.expect("reads it").ok);
    assert_eq!(backups.list().await.expect("lists")[0].status, "completed");
}
