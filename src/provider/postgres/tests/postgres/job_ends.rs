//! How jobs end when something does not go as planned: a server that takes its time to stop, a failure that was recorded, a
//! source that is away, a file that cannot be read.

use super::test_lab::{
    TestLab, change_rows, finish_job, in_place_request, make_backup, query_number, query_text, test_key,
};
use crate::{
    base::moment::Span,
    provider::{
        Code, OpenTransaction, Provider, SideEffects,
        model::{BackupRequest, GivenUpJob, Job, JobStatus, RecoveryTarget, UndoneJob},
        postgres::cluster::server,
    },
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::{fs, path::PathBuf, time::Duration};

/// Begins a restore in place to the end of the only backup.
async fn begin_restore(lab: &dyn Provider, key: &str) -> Job {
    let request = in_place_request(RecoveryTarget::BackupEnd);
    lab.backups().expect("backups").restore(&request, &test_key(key)).await.expect("accepted")
}

/// Polls a job until it is in a phase.
async fn wait_for_phase(lab: &dyn Provider, job: &Job, wanted: &str) {
    for _ in 0..600 {
        let polled = lab.poll_job(job).await.expect("it goes on");
        let JobStatus::Running(progress) = polled else { panic!("it is over: {polled:?}") };
        if progress.phase.starts_with(wanted) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it does not come to `{wanted}`");
}

/// Holds a session of the lab's server, so that the server does not stop; returns it with its process.
async fn hold_session(lab: &dyn Provider) -> (Box<dyn OpenTransaction>, Pid) {
    let sql = lab.sql().expect("SQL");
    let session = sql.execute_uncommitted("select 1", Span::from_secs(30), &test_key("HELD")).await;
    let session = session.expect("it runs");
    let pid = session.token()["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).expect("a process");
    let pid = Pid::from_raw(pid).expect("a process");
    kill_process(pid, Signal::STOP).expect("it is held");
    (session, pid)
}

fn lock_file(test_lab: &TestLab) -> PathBuf {
    test_lab.lab_folder("data").with_extension("restore-lock")
}

#[tokio::test]
async fn a_cluster_that_takes_its_time_to_stop_is_waited_for() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    make_backup(lab.as_ref(), "BACKUP0001").await;
    change_rows(lab.as_ref(), "delete from order_items").await;
    let (_session, held) = hold_session(lab.as_ref()).await;
    let job = begin_restore(lab.as_ref(), "RESTORE001").await;
    wait_for_phase(lab.as_ref(), &job, "stopping the cluster, still there").await;
    wait_for_phase(lab.as_ref(), &job, "stopping the cluster, still there").await;
    kill_process(held, Signal::CONT).expect("it goes on");
    finish_job(lab.as_ref(), &job).await.expect("restored");
    assert_eq!(query_number(lab.as_ref(), "select count(*) from order_items").await, 800);
}

#[tokio::test]
async fn the_undo_of_a_restore_waits_for_a_cluster_that_goes_down_and_starts_it_again() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    make_backup(lab.as_ref(), "BACKUP0001").await;
    change_rows(lab.as_ref(), "delete from order_items").await;
    let before = server::find_server(&test_lab.lab_folder("data")).expect("it runs");
    let (_session, held) = hold_session(lab.as_ref()).await;
    let job = begin_restore(lab.as_ref(), "RESTORE001").await;
    wait_for_phase(lab.as_ref(), &job, "stopping the cluster, still there").await;
    // Nothing takes its shutdown back, whenever it comes to it.
    let going_on = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(2)).await;
        kill_process(held, Signal::CONT).expect("it goes on");
    });
    lab.cancel(&job).await.expect("it is undone");
    assert!(going_on.is_finished() && !before.is_alive());
    assert!(server::is_server_ready(&test_lab.lab_folder("data")));
    let error = finish_job(lab.as_ref(), &job).await.expect_err("it was cancelled");
    assert_eq!((error.code, error.side_effects), (Code::Timeout, SideEffects::Some), "{error:?}");
    assert!(error.message.contains("was stopped, and is as it was before"), "{error}");
    assert_eq!(query_number(lab.as_ref(), "select count(*) from order_items").await, 0);
}

#[tokio::test]
async fn a_server_that_was_started_during_the_copying_is_started_again_as_it_was() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    make_backup(lab.as_ref(), "BACKUP0001").await;
    test_lab.stop_server().await;
    let job = begin_restore(lab.as_ref(), "RESTORE001").await;
    test_lab.start_server(&["-c", "work_mem=5MB"]).await;
    wait_for_phase(lab.as_ref(), &job, "stopping the cluster").await;
    wait_for_phase(lab.as_ref(), &job, "stopping the cluster").await;
    lab.cancel(&job).await.expect("it is undone");
    let error = finish_job(lab.as_ref(), &job).await.expect_err("it was cancelled");
    assert!(error.message.contains("was stopped, and is as it was before"), "{error}");
    assert_eq!(query_text(lab.as_ref(), "show work_mem").await, "5MB");

    test_lab.stop_server().await;
    let job = begin_restore(lab.as_ref(), "RESTORE002").await;
    test_lab.start_server(&["-c", "work_mem=6MB"]).await;
    assert_eq!(finish_job(lab.as_ref(), &job).await.expect("restored")["running"], true);
    assert_eq!(query_text(lab.as_ref(), "show work_mem").await, "6MB");
}

#[tokio::test]
async fn a_server_that_somebody_stopped_during_the_copying_stays_down() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    make_backup(lab.as_ref(), "BACKUP0001").await;
    let job = begin_restore(lab.as_ref(), "RESTORE001").await;
    wait_for_phase(lab.as_ref(), &job, "copying").await;
    test_lab.stop_server().await;
    lab.cancel(&job).await.expect("it is undone");
    let error = finish_job(lab.as_ref(), &job).await.expect_err("it was cancelled");
    assert_eq!(error.side_effects, SideEffects::None, "{error:?}");
    assert!(error.message.contains("the cluster was not touched"), "{error}");
    assert!(server::find_server(&test_lab.lab_folder("data")).is_none());
}

#[tokio::test]
async fn an_undo_that_waits_in_vain_says_so_and_is_gone_on_with() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    make_backup(lab.as_ref(), "BACKUP0001").await;
    let (_session, held) = hold_session(lab.as_ref()).await;
    let job = begin_restore(lab.as_ref(), "RESTORE001").await;
    wait_for_phase(lab.as_ref(), &job, "stopping the cluster, still there").await;
    let stuck = lab.cancel(&job).await.expect_err("it is still there");
    assert_eq!((stuck.code, stuck.side_effects), (Code::Unknown, SideEffects::Some), "{stuck:?}");
    assert!(stuck.message.contains("was told to stop") && !stuck.message.contains("as it was"), "{stuck}");
    kill_process(held, Signal::CONT).expect("it goes on");
    let job = lab.find_job(&test_key("RESTORE001"), None).await.expect("looks").expect("is found");
    let undone = finish_job(lab.as_ref(), &job).await.expect_err("it is undone");
    assert!(
        undone.message.contains("the time for the restore was up") && undone.message.contains("as it was"),
        "{undone}"
    );
    assert!(server::is_server_ready(&test_lab.lab_folder("data")));
}

/// Whatever its code is, which may be one that a look fails with.
#[tokio::test]
async fn a_recorded_failure_is_the_end_of_a_restore_at_once() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    make_backup(lab.as_ref(), "BACKUP0001").await;
    let job = begin_restore(lab.as_ref(), "RESTORE001").await;
    lab.cancel(&job).await.expect("it is undone");
    let path = test_lab.state_folder().join("postgres/lab/restores/RESTORE001.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&path).expect("a record")).expect("it reads");
    for code in [Code::Timeout, Code::Unavailable, Code::Throttled] {
        record["failure"] = json!({ "code": code.as_str(), "message": "no", "stopped": true });
        fs::write(&path, record.to_string()).expect("written");
        match lab.poll_job(&job).await {
            Ok(JobStatus::Failed(e)) => assert_eq!((e.code, e.side_effects), (code, SideEffects::Some)),
            polled => panic!("it has failed: {polled:?}"),
        }
    }
    // What cannot be read says nothing of how it is.
    fs::write(&path, "{").expect("written");
    assert_eq!(lab.poll_job(&job).await.expect_err("it cannot be read").code, Code::Unknown);
    fs::write(&path, record.to_string()).expect("written");
}

#[tokio::test]
async fn a_backup_whose_source_is_away_has_failed_at_once() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    let backups = lab.backups().expect("backups");
    let job = backups.create(&BackupRequest::default(), &test_key("BACKUP0001")).await.expect("accepted");
    let sidecar = test_lab.lab_folder("backups").join(&job.id).join("redrill.json");
    let stored: Value = serde_json::from_slice(&fs::read(&sidecar).expect("a record")).expect("it reads");
    let copying = stored["child"]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
    kill_process(copying.and_then(Pid::from_raw).expect("a process"), Signal::KILL).expect("it is killed");
    test_lab.crash_server().await;
    match lab.poll_job(&job).await {
        Ok(JobStatus::Failed(error)) => assert_eq!(error.code, Code::Unavailable, "{error:?}"),
        polled => panic!("it has failed, and was removed: {polled:?}"),
    }
    assert!(!sidecar.exists());
}

#[tokio::test]
async fn a_lock_without_a_word_is_nobodys() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    make_backup(lab.as_ref(), "BACKUP0001").await;
    fs::write(lock_file(&test_lab), "").expect("as a process leaves it that was killed");
    let unlinked = lock_file(&test_lab).with_extension("restore-lock.restore001.new");
    fs::write(&unlinked, "{").expect("as a process leaves it that was killed");
    let job = begin_restore(lab.as_ref(), "RESTORE001").await;
    let lock = fs::read_to_string(lock_file(&test_lab)).expect("it is locked");
    assert!(lock.contains("RESTORE001"), "{lock}");
    assert!(!unlinked.exists());
    // Killed while it is made, a lock is not there, and neither is what was begun of it once the restore has ended.
    fs::rename(lock_file(&test_lab), &unlinked).expect("as before it is there");
    lab.cancel(&job).await.expect("it is undone");
    assert!(!lock_file(&test_lab).exists() && !unlinked.exists());
}

#[tokio::test]
async fn what_goes_wrong_after_a_restored_cluster_serves_undoes_nothing() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    make_backup(lab.as_ref(), "BACKUP0001").await;
    change_rows(lab.as_ref(), "delete from order_items").await;
    let job = begin_restore(lab.as_ref(), "RESTORE001").await;
    wait_for_phase(lab.as_ref(), &job, "replaying WAL").await;
    fs::write(lock_file(&test_lab), "not ours to read").expect("written");
    let restored = finish_job(lab.as_ref(), &job).await.expect("restored");
    assert_eq!(restored["left_behind"], json!([lock_file(&test_lab).display().to_string()]));
    assert_eq!(query_number(lab.as_ref(), "select count(*) from order_items").await, 800);
    // Once it can be removed, it is.
    let lock = json!({ "key": "RESTORE001", "run": null, "record": "/nowhere" });
    fs::write(lock_file(&test_lab), lock.to_string()).expect("written");
    let again = finish_job(lab.as_ref(), &job).await.expect("restored");
    assert_eq!((&again["left_behind"], lock_file(&test_lab).exists()), (&Value::Null, false));
    assert_eq!(lab.cancel(&job).await.expect_err("it is over").code, Code::Refused);
}

/// Brings a restore in place to its recovery, and starts another server on the new data instead.
async fn serve_data_of_restore(test_lab: &TestLab, lab: &dyn Provider, job: &Job) {
    wait_for_phase(lab, job, "replaying WAL").await;
    while server::find_server(&test_lab.lab_folder("data")).is_none() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    test_lab.stop_server().await;
    test_lab.start_server(&["-c", "restore_command=false"]).await;
    while query_number(lab, "select pg_is_in_recovery()::int").await > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Brings a restore in place to its recovery, which somebody then ends to start a server of their own on the new data, and
/// commits to it.
async fn begin_restore_and_serve_its_data(test_lab: &TestLab, lab: &dyn Provider) -> Job {
    make_backup(lab, "BACKUP0001").await;
    change_rows(lab, "delete from order_items").await;
    let job = begin_restore(lab, "RESTORE001").await;
    serve_data_of_restore(test_lab, lab, &job).await;
    test_lab.run_statements(&["create table committed_since ()"]).await;
    job
}

#[tokio::test]
async fn the_undo_of_a_restore_stops_no_server_of_somebody_else_and_keeps_its_data() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    let job = begin_restore_and_serve_its_data(&test_lab, lab.as_ref()).await;
    let foreign = server::find_server(&test_lab.lab_folder("data")).expect("it runs");
    for _ in 0..2 {
        let refused = lab.give_job_up(&job).await.expect_err("it is not ours to stop");
        assert_eq!(refused.code, Code::Unknown, "{refused:?}");
        assert!(refused.message.contains("somebody else has started a server"), "{refused}");
        assert!(refused.hint.expect("a hint").contains("stop it"));
        assert!(foreign.is_alive() && lock_file(&test_lab).exists());
    }
    test_lab.stop_server().await;
    let kept = test_lab.lab_folder("data.restored-restore001");
    let undone = UndoneJob { side_effects: SideEffects::Some, left_behind: vec![kept.display().to_string()] };
    assert_eq!(lab.give_job_up(&job).await.expect("it is undone"), GivenUpJob::Undone(undone));
    assert!(kept.join("PG_VERSION").is_file() && !lock_file(&test_lab).exists());
    assert_eq!(query_number(lab.as_ref(), "select count(*) from order_items").await, 0);
}

#[tokio::test]
async fn data_that_somebody_else_has_served_meanwhile_is_kept_when_a_restore_fails() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    let job = begin_restore_and_serve_its_data(&test_lab, lab.as_ref()).await;
    test_lab.stop_server().await;
    let failed = finish_job(lab.as_ref(), &job).await.expect_err("its recovery was ended by somebody else");
    let kept = test_lab.lab_folder("data.restored-restore001");
    assert_eq!(failed.left_behind, [kept.display().to_string()], "{failed:?}");
    assert!(kept.join("PG_VERSION").is_file(), "{failed:?}");
    assert_eq!(query_number(lab.as_ref(), "select count(*) from order_items").await, 0);
}

#[tokio::test]
async fn a_restore_that_somebody_says_is_done_is_not_undone_by_a_later_one() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    make_backup(lab.as_ref(), "BACKUP0001").await;
    let job = begin_restore(lab.as_ref(), "RESTORE001").await;
    wait_for_phase(lab.as_ref(), &job, "replaying WAL").await;
    let refused = lab.settle_job_as_done(&job).await.expect_err("nobody is let in");
    assert_eq!(refused.code, Code::Refused, "{refused:?}");
    serve_data_of_restore(&test_lab, lab.as_ref(), &job).await;
    let served = server::find_server(&test_lab.lab_folder("data")).expect("it runs");
    lab.settle_job_as_done(&job).await.expect("it is done");
    assert_eq!(lab.give_job_up(&job).await.expect("it is over"), GivenUpJob::Done);
    assert!(lab.backups().expect("backups").find_unfinished_restore().expect("looks").is_none());
    assert!(served.is_alive() && !lock_file(&test_lab).exists());
    assert!(test_lab.lab_folder("data.before-restore001").join("PG_VERSION").is_file());
}
