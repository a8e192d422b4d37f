//! Making a branch from a backup, and removing it.

use super::test_lab::{
    TestLab, branch_request, change_rows, finish_job, make_backup, make_branch, open_branch, query_number,
    test_key,
};
use crate::{
    base::clock::SystemClock,
    provider::{
        Code,
        host::process,
        model::{BackupRequest, JobStatus, RecoveryTarget},
        postgres::cluster::server,
    },
};
use rustix::process::Signal;
use std::{fs, path::Path};

#[tokio::test]
async fn a_backup_becomes_a_branch_and_leaves_nothing() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    let backups = lab.backups().expect("backups");
    let request = BackupRequest { label: Some("first".into()) };
    let job = backups.create(&request, &test_key("BACKUP0001")).await.expect("accepted");
    assert_eq!(backups.create(&request, &test_key("BACKUP0001")).await.expect("again"), job);
    let backup = finish_job(lab.as_ref(), &job).await.expect("a backup");
    assert_eq!(backup["$backup"]["status"], "completed");
    assert_eq!(backup["$backup"]["label"], "first");

    let made =
        make_branch(lab.as_ref(), &branch_request("drill", RecoveryTarget::BackupEnd), "BRANCH0001").await;
    assert_eq!((made.status.as_str(), made.timeline), ("ready", Some(2)));
    let drill = open_branch(lab.as_ref(), "drill").await;
    assert_eq!(query_number(drill.as_ref(), "select count(*) from orders").await, 400);
    assert_eq!(drill.backups().map(drop).expect_err("a branch has no backups").code, Code::Unsupported);
    let error = backups
        .restore(&branch_request("drill", RecoveryTarget::BackupEnd), &test_key("BRANCH0002"))
        .await
        .expect_err("taken");
    assert_eq!(error.code, Code::Conflict);

    let branches = lab.branches().expect("branches");
    branches.delete("drill", "another id").await.expect("leaves it alone");
    assert_eq!(branches.list().await.expect("lists").len(), 1);
    branches.delete("drill", &made.id).await.expect("goes");
    branches.delete("drill", &made.id).await.expect("is gone already");
    assert!(branches.list().await.expect("lists").is_empty());
    assert!(!Path::new(made.host.as_deref().expect("a socket")).exists());
    let left: Vec<_> =
        fs::read_dir(test_lab.state_folder().join("postgres/lab/data")).expect("a folder").collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Every look is taken by another life of redrill, which knows nothing but the key.
#[tokio::test]
async fn a_killed_run_is_followed_by_the_next() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let request = BackupRequest::default();
    test_lab
        .open_target()
        .backups()
        .expect("backups")
        .create(&request, &test_key("BACKUP0001"))
        .await
        .expect("accepted");
    follow_job(&test_lab, "BACKUP0001").await;
    test_lab
        .open_target()
        .backups()
        .expect("backups")
        .restore(&branch_request("drill", RecoveryTarget::BackupEnd), &test_key("BRANCH0001"))
        .await
        .expect("accepted");
    follow_job(&test_lab, "BRANCH0001").await;
    let lab = test_lab.open_target();
    assert_eq!(lab.backups().expect("backups").list().await.expect("lists").len(), 1);
    assert_eq!(lab.branches().expect("branches").list().await.expect("lists").len(), 1);
    assert!(lab.find_job(&test_key("OTHERKEY00"), None).await.expect("looks").is_none());
}

/// Kills the child process instead of redrill itself.
#[tokio::test]
async fn a_killed_child_is_followed_by_another() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    let job = lab
        .backups()
        .expect("backups")
        .create(&BackupRequest::default(), &test_key("BACKUP0001"))
        .await
        .expect("accepted");
    let data = test_lab.lab_folder("backups").join(&job.id).join("files/data");
    let child = process::find_program_started_with(data.as_os_str()).expect("pg_basebackup runs");
    child.signal(Signal::KILL);
    finish_job(lab.as_ref(), &job).await.expect("a backup all the same");
    let request = branch_request("drill", RecoveryTarget::BackupEnd);
    let job =
        lab.backups().expect("backups").restore(&request, &test_key("BRANCH0001")).await.expect("accepted");
    let files = test_lab.state_folder().join("postgres/lab/data/branch0001/files");
    let mut killed = false;
    for _ in 0..600 {
        if let JobStatus::Done(_) = lab.poll_job(&job).await.expect("looks") {
            break;
        }
        // The first server, as soon as there is one.
        if let Some(server) =
            process::find_program_started_with(files.join("data").as_os_str()).filter(|_| !killed)
        {
            server.signal(Signal::KILL);
            killed = true;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(killed);
    assert_eq!(
        query_number(open_branch(lab.as_ref(), "drill").await.as_ref(), "select count(*) from orders").await,
        400
    );
}

async fn follow_job(test_lab: &TestLab, with: &str) {
    for _ in 0..600 {
        let lab = test_lab.open_target();
        let job = lab.find_job(&test_key(with), None).await.expect("looks").expect("is found");
        if let JobStatus::Done(_) = lab.poll_job(&job).await.expect("looks") {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    }
    panic!("{with} is not done");
}

#[tokio::test]
async fn a_branch_wakes_up_and_keeps_what_was_done() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    make_backup(lab.as_ref(), "BACKUP0001").await;
    make_branch(lab.as_ref(), &branch_request("drill", RecoveryTarget::BackupEnd), "BRANCH0001").await;
    change_rows(open_branch(lab.as_ref(), "drill").await.as_ref(), "delete from notes").await;
    let data = test_lab.state_folder().join("postgres/lab/data/branch0001/files/data");
    server::stop_server(&SystemClock, &data, server::ShutdownMode::Immediate)
        .await
        .expect("as if the machine went down");
    assert_eq!(lab.branches().expect("branches").get("drill").await.expect("is there").status, "stopped");
    assert_eq!(
        query_number(open_branch(lab.as_ref(), "drill").await.as_ref(), "select count(*) from notes").await,
        0
    );
    assert_eq!(lab.branches().expect("branches").get("drill").await.expect("is there").status, "ready");
}

#[tokio::test]
async fn a_branch_that_is_given_up_leaves_nothing() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    make_backup(lab.as_ref(), "BACKUP0001").await;
    let request = branch_request("drill", RecoveryTarget::BackupEnd);
    let job =
        lab.backups().expect("backups").restore(&request, &test_key("BRANCH0001")).await.expect("accepted");
    lab.poll_job(&job).await.expect("begins to copy");
    lab.cancel(&job).await.expect("is given up");
    assert!(lab.find_job(&test_key("BRANCH0001"), None).await.expect("looks").is_none());
    assert_eq!(lab.poll_job(&job).await.expect_err("is gone").code, Code::NotFound);
    let left: Vec<_> =
        fs::read_dir(test_lab.state_folder().join("postgres/lab/data")).expect("a folder").collect();
    assert!(left.is_empty(), "{left:?}");
}

/// A removal that was killed after the marker had gone: the record says that it was begun, and it is finished.
#[tokio::test]
async fn a_removal_that_was_killed_is_finished() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    make_backup(lab.as_ref(), "BACKUP0001").await;
    let made =
        make_branch(lab.as_ref(), &branch_request("drill", RecoveryTarget::BackupEnd), "BRANCH0001").await;
    let folder = test_lab.state_folder().join("postgres/lab/data/branch0001");
    let marker = folder.join(".redrill-branch.json");
    let branches = lab.branches().expect("branches");
    let kept = fs::read_to_string(&marker).expect("a marker");
    fs::remove_file(&marker).expect("it goes");
    let error = branches.delete("drill", &made.id).await.expect_err("it might be anybody's");
    assert_eq!((error.code, error.left_behind.len()), (Code::Refused, 1));

    fs::write(&marker, kept).expect("it is back");
    let record = test_lab.state_folder().join("postgres/lab/branches/drill.json");
    let text = fs::read_to_string(&record).expect("a record").replace("\"ready\"", "\"removing\"");
    fs::write(&record, text).expect("the removal is begun");
    fs::remove_file(&marker).expect("it goes");
    branches.delete("drill", &made.id).await.expect("goes");
    assert!(!folder.exists() && branches.list().await.expect("lists").is_empty());
}
