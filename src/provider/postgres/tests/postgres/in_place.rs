//! Restoring in place, and undoing it.

use super::test_lab::{
    TestLab, change_rows, finish_job, in_place_request, make_backup, query_number, query_text, test_key,
};
use crate::{
    config::{LAB, lab_target_path},
    provider::{
        Code,
        model::{RecoveryPoint, RecoveryTarget, RestoreRequest},
        postgres::cluster::server,
    },
    testing::TestEnv,
};
use std::{fs, path::Path};

#[tokio::test]
async fn a_restore_in_place_gives_the_backup_back() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    make_backup(lab.as_ref(), "BACKUP0001").await;
    change_rows(lab.as_ref(), "delete from order_items").await;
    let before = lab.identity().await.expect("an identity");
    let backups = lab.backups().expect("backups");
    let job = backups
        .restore(&in_place_request(RecoveryTarget::BackupEnd), &test_key("RESTORE001"))
        .await
        .expect("accepted");
    let restored = finish_job(lab.as_ref(), &job).await.expect("restored");
    assert_eq!(restored["timeline"], 2);
    assert_eq!(query_number(lab.as_ref(), "select count(*) from order_items").await, 800);
    let kept = restored["kept"].as_str().expect("the old data is kept");
    assert!(Path::new(kept).join("PG_VERSION").is_file());
    assert_eq!(lab.identity().await.expect("an identity"), before);
    // Nothing of the recovery is left in its settings, and the new timeline is archived.
    let left =
        "select count(*) from pg_settings where name like 'recovery_target%' and source = 'command line'";
    assert_eq!(query_number(lab.as_ref(), left).await, 0);
    make_backup(lab.as_ref(), "BACKUP0002").await;
    assert!(test_lab.lab_folder("archive/00000002.history").is_file());
}

#[tokio::test]
async fn a_restore_in_place_that_fails_is_undone() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    make_backup(lab.as_ref(), "BACKUP0001").await;
    change_rows(lab.as_ref(), "delete from order_items").await;
    let backups = lab.backups().expect("backups");
    let job = backups
        .restore(&in_place_request(RecoveryTarget::Latest), &test_key("RESTORE001"))
        .await
        .expect("accepted");
    // What the plan saw in the archive is gone when recovery asks for it.
    let archive = test_lab.lab_folder("archive");
    for entry in fs::read_dir(&archive).expect("an archive").flatten() {
        fs::remove_file(entry.path()).expect("is lost");
    }
    let error = finish_job(lab.as_ref(), &job).await.expect_err("cannot be reached");
    assert_eq!(error.code, Code::TargetNotReached, "{error:?}");
    assert_eq!(finish_job(lab.as_ref(), &job).await.expect_err("stays so"), error);
    assert_eq!(query_number(lab.as_ref(), "select count(*) from order_items").await, 0);
    assert_eq!(query_number(lab.as_ref(), "select timeline_id from pg_control_checkpoint()").await, 1);
    let beside: Vec<_> =
        fs::read_dir(test_lab.state_folder().join("lab")).expect("a folder").flatten().collect();
    assert!(!beside.iter().any(|e| e.file_name().to_string_lossy().starts_with("data.")), "{beside:?}");
}

/// Every look is taken by another life of redrill.
#[tokio::test]
async fn a_restore_in_place_survives_being_killed() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    make_backup(test_lab.open_target().as_ref(), "BACKUP0001").await;
    change_rows(test_lab.open_target().as_ref(), "delete from order_items").await;
    let request = RestoreRequest {
        to: RecoveryPoint { at: RecoveryTarget::BackupEnd, inclusive: true, timeline: Some(1) },
        ..in_place_request(RecoveryTarget::BackupEnd)
    };
    test_lab
        .open_target()
        .backups()
        .expect("backups")
        .restore(&request, &test_key("RESTORE001"))
        .await
        .expect("accepted");
    let mut looks = 0;
    loop {
        let lab = test_lab.open_target();
        let job = lab.find_job(&test_key("RESTORE001"), None).await.expect("looks").expect("is found");
        if let crate::provider::model::JobStatus::Done(_) = lab.poll_job(&job).await.expect("looks") {
            break;
        }
        looks += 1;
        assert!(looks < 600, "is not done");
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    }
    assert_eq!(query_number(test_lab.open_target().as_ref(), "select count(*) from order_items").await, 800);
    // Killed between the two renames, the cluster is still known for who it is, and the job can go on.
    let (lab, data) = (test_lab.open_target(), test_lab.lab_folder("data"));
    let identity = lab.identity().await.expect("is itself");
    fs::rename(&data, data.with_extension("elsewhere")).expect("as between the renames");
    let between = lab.identity().await;
    fs::rename(data.with_extension("elsewhere"), &data).expect("back");
    assert_eq!(between.expect("is still itself"), identity);
}

/// As Debian has it: the server was started on the folder of its configuration, which says where the data is.
#[tokio::test]
async fn a_server_whose_configuration_lies_elsewhere_is_started_as_before() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    let (data, etc) = (test_lab.lab_folder("data"), test_lab.make_folder("etc"));
    test_lab.stop_server().await;
    for file in ["postgresql.conf", "pg_hba.conf", "pg_ident.conf"] {
        fs::rename(data.join(file), etc.join(file)).expect("moves");
    }
    let written = fs::read_to_string(etc.join("postgresql.conf")).expect("a configuration");
    let written = format!("{written}\ndata_directory = '{}'\n", data.display());
    fs::write(etc.join("postgresql.conf"), written).expect("is written");
    let args = ["-D".as_ref(), etc.as_os_str(), "-c".as_ref(), "work_mem=5MB".as_ref()];
    test_lab
        .programs()
        .spawn_detached("postgres", &args, &[], &test_lab.lab_folder("server.log"))
        .expect("starts");
    server::wait_until_ready(&crate::base::clock::SystemClock, &data).await.expect("comes up");
    make_backup(lab.as_ref(), "BACKUP0001").await;
    change_rows(lab.as_ref(), "delete from order_items").await;
    let backups = lab.backups().expect("backups");
    let job = backups
        .restore(&in_place_request(RecoveryTarget::BackupEnd), &test_key("RESTORE001"))
        .await
        .expect("accepted");
    finish_job(lab.as_ref(), &job).await.expect("restored");
    assert_eq!(query_number(lab.as_ref(), "select count(*) from order_items").await, 800);
    assert_eq!(query_text(lab.as_ref(), "select current_setting('work_mem')").await, "5MB");
    let config = query_text(lab.as_ref(), "select current_setting('hba_file')").await;
    assert_eq!(Path::new(&config), etc.join("pg_hba.conf"));
    // What cannot be repeated is refused while the server still serves.
    fs::write(data.join("postmaster.opts"), "postgres \"-D\" \"/nowhere\"\n").expect("is written");
    let refused = backups
        .restore(&in_place_request(RecoveryTarget::BackupEnd), &test_key("RESTORE002"))
        .await
        .expect_err("refused");
    assert_eq!(refused.code, Code::Refused, "{refused:?}");
    assert!(refused.message.contains("/nowhere"), "{refused:?}");
    assert_eq!(query_number(lab.as_ref(), "select count(*) from order_items").await, 800);
}

#[tokio::test]
async fn configuration_in_sub_folders_stays_and_a_subscriber_is_refused() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    let data = test_lab.lab_folder("data");
    let own = data.join("conf.d");
    crate::provider::host::disk::make_private_folder(&test_lab.programs(), &own).expect("a folder");
    let put = |name: &str, text: &str| fs::write(own.join(name), text).expect("is written");
    put("memory.conf", "work_mem = '5MB'\n");
    put("old.conf", "maintenance_work_mem = '7MB'\n");
    let main = fs::read_to_string(data.join("postgresql.conf")).expect("a configuration");
    fs::write(data.join("postgresql.conf"), format!("{main}\ninclude_dir = 'conf.d'\n")).expect("is written");
    make_backup(lab.as_ref(), "BACKUP0001").await;
    put("memory.conf", "work_mem = '6MB'\n");
    fs::remove_file(own.join("old.conf")).expect("is removed");
    let backups = lab.backups().expect("backups");
    test_lab
        .run_statements(&[
            "create subscription s connection 'host=/nowhere dbname=x' publication p with (connect = false)",
            "alter subscription s enable",
        ])
        .await;
    let refused = backups
        .restore(&in_place_request(RecoveryTarget::BackupEnd), &test_key("RESTORE001"))
        .await
        .expect_err("refused");
    assert_eq!(refused.code, Code::Refused, "{refused:?}");
    assert!(refused.message.contains("subscribes to s"), "{refused:?}");
    test_lab.run_statements(&["alter subscription s disable"]).await;
    let job = backups
        .restore(&in_place_request(RecoveryTarget::BackupEnd), &test_key("RESTORE002"))
        .await
        .expect("accepted");
    finish_job(lab.as_ref(), &job).await.expect("restored");
    assert_eq!(query_text(lab.as_ref(), "select current_setting('work_mem')").await, "6MB");
    assert!(!own.join("old.conf").exists());
}

/// Looks until the restore in place replays WAL, with its server running.
async fn wait_until_replaying(test_lab: &TestLab) {
    for _ in 0..600 {
        let lab = test_lab.open_target();
        let job = lab.find_job(&test_key("RESTORE001"), None).await.expect("looks").expect("is found");
        lab.poll_job(&job).await.expect("looks");
        if test_lab.lab_folder("data.before-restore001").is_dir()
            && server::find_server(&test_lab.lab_folder("data")).is_some()
        {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("does not replay");
}

#[tokio::test]
async fn an_undo_that_fails_is_gone_on_with() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    make_backup(lab.as_ref(), "BACKUP0001").await;
    let backups = lab.backups().expect("backups");
    let job = backups
        .restore(&in_place_request(RecoveryTarget::BackupEnd), &test_key("RESTORE001"))
        .await
        .expect("accepted");
    wait_until_replaying(&test_lab).await;
    // The old configuration does not start any more.
    let old = test_lab.lab_folder("data.before-restore001/postgresql.conf");
    let text = fs::read_to_string(&old).expect("a configuration");
    fs::write(&old, "no_such_setting = 1\n").expect("is spoilt");
    let stuck = lab.cancel(&job).await.expect_err("the old data does not start");
    assert_eq!(stuck.code, Code::Unknown, "{stuck:?}");
    assert!(stuck.message.contains("no_such_setting"), "the log's own words: {stuck:?}");
    // Whoever takes it up goes on with it.
    assert_eq!(lab.find_job(&test_key("RESTORE001"), None).await.expect("looks"), Some(job.clone()));
    // Another one is told which, and of which run.
    let other = backups
        .restore(&in_place_request(RecoveryTarget::BackupEnd), &test_key("RESTORE002"))
        .await
        .expect_err("is not alone");
    assert!(other.message.contains("RESTORE001.json") && other.message.contains("run1"), "{other:?}");
    // Taken up again, it is undone; then it is over.
    fs::write(test_lab.lab_folder("data/postgresql.conf"), text).expect("is mended");
    let undone = finish_job(lab.as_ref(), &job).await.expect_err("is undone");
    assert_eq!(
        (undone.code, undone.message.contains("as it was before")),
        (Code::Timeout, true),
        "{undone:?}"
    );
    let job = backups
        .restore(&in_place_request(RecoveryTarget::BackupEnd), &test_key("RESTORE002"))
        .await
        .expect("accepted");
    finish_job(lab.as_ref(), &job).await.expect("restored");
}

#[tokio::test]
async fn a_restore_in_place_shares_its_data_with_nobody() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    make_backup(lab.as_ref(), "BACKUP0001").await;
    // The same cluster, as another state folder would know it.
    let elsewhere = TestEnv::new();
    fs::copy(lab_target_path(&test_lab.state_folder()), lab_target_path(&elsewhere.state_folder()))
        .expect("is copied");
    let other = elsewhere.open_target(LAB);
    let backups = lab.backups().expect("backups");
    let job = backups
        .restore(&in_place_request(RecoveryTarget::BackupEnd), &test_key("RESTORE001"))
        .await
        .expect("accepted");
    let refused = other
        .backups()
        .expect("backups")
        .restore(&in_place_request(RecoveryTarget::BackupEnd), &test_key("RESTORE002"))
        .await
        .expect_err("is not alone");
    assert_eq!(refused.code, Code::Conflict, "{refused:?}");
    assert!(refused.message.contains("RESTORE001"), "{refused:?}");
    wait_until_replaying(&test_lab).await;
    // Somebody else's server on the new data is neither waited for nor stopped.
    test_lab.stop_server().await;
    test_lab.start_server(&["-c", "restore_command=false"]).await;
    let foreign = server::find_server(&test_lab.lab_folder("data")).expect("runs");
    let unknown = finish_job(lab.as_ref(), &job).await.expect_err("nobody knows");
    assert_eq!(unknown.code, Code::Unknown, "{unknown:?}");
    assert!(foreign.is_alive());
    test_lab.stop_server().await;
    drop(finish_job(lab.as_ref(), &job).await);
}

#[tokio::test]
async fn a_server_that_crashed_is_started_and_one_that_was_stopped_is_not() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    make_backup(lab.as_ref(), "BACKUP0001").await;
    let backups = lab.backups().expect("backups");
    test_lab.stop_server().await;
    let job = backups
        .restore(&in_place_request(RecoveryTarget::BackupEnd), &test_key("RESTORE001"))
        .await
        .expect("accepted");
    assert_eq!(finish_job(lab.as_ref(), &job).await.expect("restored")["running"], false);
    assert!(server::find_server(&test_lab.lab_folder("data")).is_none());
    test_lab.start_server(&[]).await;
    test_lab.crash_server().await;
    let job = backups
        .restore(&in_place_request(RecoveryTarget::BackupEnd), &test_key("RESTORE002"))
        .await
        .expect("accepted");
    assert_eq!(finish_job(lab.as_ref(), &job).await.expect("restored")["running"], true);
    assert!(server::is_server_ready(&test_lab.lab_folder("data")));
}

#[tokio::test]
async fn wal_that_no_archive_has_is_not_exchanged() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    make_backup(lab.as_ref(), "BACKUP0001").await;
    let backups = lab.backups().expect("backups");
    let restore = async |with: &str| {
        let refused = backups
            .restore(&in_place_request(RecoveryTarget::BackupEnd), &test_key(with))
            .await
            .expect_err("refused");
        assert_eq!(refused.code, Code::Refused, "{refused:?}");
        refused.message
    };
    let archive = test_lab.lab_folder("archive");
    fs::rename(&archive, archive.with_extension("away")).expect("moves");
    test_lab.run_statements(&["select pg_switch_wal()"]).await;
    let failing = "select failed_count from pg_stat_archiver";
    for _ in 0..100 {
        if query_number(lab.as_ref(), failing).await > 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(restore("RESTORE001").await.contains("not being archived"));
    test_lab.crash_server().await;
    fs::rename(archive.with_extension("away"), &archive).expect("moves back");
    assert!(restore("RESTORE002").await.contains("never archived"));
}

#[tokio::test]
async fn a_damaged_backup_does_not_take_the_place_of_the_data() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    let id = make_backup(lab.as_ref(), "BACKUP0001").await;
    // A byte of a table, so that every length stays.
    let table = query_text(lab.as_ref(), "select pg_relation_filepath('orders')").await;
    let table = test_lab.lab_folder("backups").join(&id).join("files/data").join(table);
    let mut bytes = fs::read(&table).expect("a table");
    let last = bytes.len() - 1;
    bytes[last] ^= 0xff;
    fs::write(&table, &bytes).expect("is damaged");
    let before = server::find_server(&test_lab.lab_folder("data")).expect("runs");
    let backups = lab.backups().expect("backups");
    let job = backups
        .restore(&in_place_request(RecoveryTarget::BackupEnd), &test_key("RESTORE001"))
        .await
        .expect("accepted");
    let error = finish_job(lab.as_ref(), &job).await.expect_err("is damaged");
    assert_eq!(error.code, Code::CorruptBackup, "{error:?}");
    assert!(error.message.contains("checksum") && before.is_alive(), "{error:?}");
    // What `backup verify` found is remembered, until it finds nothing any more.
    assert_eq!(backups.list().await.expect("lists")[0].status, "completed");
    assert!(!backups.verify(&id).await.expect("reads it").ok);
    assert_eq!(backups.list().await.expect("lists")[0].status, "damaged");
    assert!(!backups.recovery_window().await.expect("a window").backups[0].usable);
    let request = RestoreRequest { backup: Some(id.clone()), ..in_place_request(RecoveryTarget::BackupEnd) };
    let refused = backups.restore(&request, &test_key("RESTORE002")).await.expect_err("is known");
    assert_eq!(refused.code, Code::CorruptBackup, "{refused:?}");
    bytes[last] ^= 0xff;
    fs::write(&table, &bytes).expect("is mended");
    assert!(backups.verify(&id).await.expect("reads it").ok);
    assert_eq!(backups.list().await.expect("lists")[0].status, "completed");
}
