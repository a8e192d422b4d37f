//! From a backup to a branch, and to nothing.

use super::stage::{Stage, back_up, branch_of, change, finish, into, key, number, opened};
use crate::{
    base::clock::Machine,
    provider::{
        Code, Unwritten,
        model::{At, BackupRequest, Observed},
        postgres::{process, server},
    },
};
use rustix::process::Signal;
use std::{fs, path::Path};

#[tokio::test]
async fn postgres_a_backup_becomes_a_branch_and_leaves_nothing() {
    let Some(stage) = Stage::up().await else { return };
    let lab = stage.open();
    let backups = lab.backups().expect("backups");
    let request = BackupRequest { label: Some("first".into()) };
    let job = backups.create(&request, &key("BACKUP0001")).await.expect("accepted");
    assert_eq!(backups.create(&request, &key("BACKUP0001")).await.expect("again"), job);
    let backup = finish(lab.as_ref(), &job).await.expect("a backup");
    assert_eq!(backup["$backup"]["status"], "completed");
    assert_eq!(backup["$backup"]["label"], "first");

    let made = branch_of(lab.as_ref(), &into("drill", At::BackupEnd), "BRANCH0001").await;
    assert_eq!((made.status.as_str(), made.timeline), ("ready", Some(2)));
    let drill = opened(lab.as_ref(), "drill").await;
    assert_eq!(number(drill.as_ref(), "select count(*) from orders").await, 400);
    assert_eq!(drill.backups().map(drop).expect_err("a branch has no backups").code, Code::Unsupported);
    let error = backups
        .restore(&into("drill", At::BackupEnd), &key("BRANCH0002"), &Unwritten)
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
    let left: Vec<_> = fs::read_dir(stage.path().join("postgres/lab/data")).expect("a folder").collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Every look is taken by another life of redrill, which knows nothing but the key.
#[tokio::test]
async fn postgres_a_killed_run_is_followed_by_the_next() {
    let Some(stage) = Stage::up().await else { return };
    let request = BackupRequest::default();
    stage.open().backups().expect("backups").create(&request, &key("BACKUP0001")).await.expect("accepted");
    follow(&stage, "BACKUP0001").await;
    stage
        .open()
        .backups()
        .expect("backups")
        .restore(&into("drill", At::BackupEnd), &key("BRANCH0001"), &Unwritten)
        .await
        .expect("accepted");
    follow(&stage, "BRANCH0001").await;
    let lab = stage.open();
    assert_eq!(lab.backups().expect("backups").list().await.expect("lists").len(), 1);
    assert_eq!(lab.branches().expect("branches").list().await.expect("lists").len(), 1);
    assert!(lab.find(&key("OTHERKEY00"), None).await.expect("looks").is_none());
}

/// Not redrill is killed, but what works for it.
#[tokio::test]
async fn postgres_a_killed_child_is_followed_by_another() {
    let Some(stage) = Stage::up().await else { return };
    let lab = stage.open();
    let job = lab
        .backups()
        .expect("backups")
        .create(&BackupRequest::default(), &key("BACKUP0001"))
        .await
        .expect("accepted");
    let data = stage.folder("backups").join(&job.id).join("files/data");
    let child = process::started_with(data.as_os_str()).expect("pg_basebackup runs");
    child.signal(Signal::KILL);
    finish(lab.as_ref(), &job).await.expect("a backup all the same");
    let request = into("drill", At::BackupEnd);
    let job = lab
        .backups()
        .expect("backups")
        .restore(&request, &key("BRANCH0001"), &Unwritten)
        .await
        .expect("accepted");
    let files = stage.path().join("postgres/lab/data/branch0001/files");
    let mut killed = false;
    for _ in 0..600 {
        if let Observed::Done(_) = lab.observe(&job).await.expect("looks") {
            break;
        }
        // The first server, as soon as there is one.
        if let Some(server) = process::started_with(files.join("data").as_os_str()).filter(|_| !killed) {
            server.signal(Signal::KILL);
            killed = true;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(killed);
    assert_eq!(
        number(opened(lab.as_ref(), "drill").await.as_ref(), "select count(*) from orders").await,
        400
    );
}

async fn follow(stage: &Stage, with: &str) {
    for _ in 0..600 {
        let lab = stage.open();
        let job = lab.find(&key(with), None).await.expect("looks").expect("is found");
        if let Observed::Done(_) = lab.observe(&job).await.expect("looks") {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    }
    panic!("{with} is not done");
}

#[tokio::test]
async fn postgres_a_branch_wakes_up_and_keeps_what_was_done() {
    let Some(stage) = Stage::up().await else { return };
    let lab = stage.open();
    back_up(lab.as_ref(), "BACKUP0001").await;
    branch_of(lab.as_ref(), &into("drill", At::BackupEnd), "BRANCH0001").await;
    change(opened(lab.as_ref(), "drill").await.as_ref(), "delete from notes").await;
    let data = stage.path().join("postgres/lab/data/branch0001/files/data");
    server::stop(&Machine, &data, server::Stop::Immediate).await.expect("as if the machine went down");
    assert_eq!(lab.branches().expect("branches").get("drill").await.expect("is there").status, "stopped");
    assert_eq!(number(opened(lab.as_ref(), "drill").await.as_ref(), "select count(*) from notes").await, 0);
    assert_eq!(lab.branches().expect("branches").get("drill").await.expect("is there").status, "ready");
}

#[tokio::test]
async fn postgres_a_branch_that_is_given_up_leaves_nothing() {
    let Some(stage) = Stage::up().await else { return };
    let lab = stage.open();
    back_up(lab.as_ref(), "BACKUP0001").await;
    let request = into("drill", At::BackupEnd);
    let job = lab
        .backups()
        .expect("backups")
        .restore(&request, &key("BRANCH0001"), &Unwritten)
        .await
        .expect("accepted");
    lab.observe(&job).await.expect("begins to copy");
    lab.cancel(&job).await.expect("is given up");
    assert!(lab.find(&key("BRANCH0001"), None).await.expect("looks").is_none());
    assert_eq!(lab.observe(&job).await.expect_err("is gone").code, Code::NotFound);
    let left: Vec<_> = fs::read_dir(stage.path().join("postgres/lab/data")).expect("a folder").collect();
    assert!(left.is_empty(), "{left:?}");
}

/// A removal that was killed after the marker had gone: the record says that it was begun, and it is finished.
#[tokio::test]
async fn postgres_a_removal_that_was_killed_is_finished() {
    let Some(stage) = Stage::up().await else { return };
    let lab = stage.open();
    back_up(lab.as_ref(), "BACKUP0001").await;
    let made = branch_of(lab.as_ref(), &into("drill", At::BackupEnd), "BRANCH0001").await;
    let folder = stage.path().join("postgres/lab/data/branch0001");
    let marker = folder.join(".redrill-branch.json");
    let branches = lab.branches().expect("branches");
    let kept = fs::read_to_string(&marker).expect("a marker");
    fs::remove_file(&marker).expect("it goes");
    let error = branches.delete("drill", &made.id).await.expect_err("it might be anybody's");
    assert_eq!((error.code, error.left_behind.len()), (Code::Refused, 1));

    fs::write(&marker, kept).expect("it is back");
    let record = stage.path().join("postgres/lab/branches/drill.json");
    let text = fs::read_to_string(&record).expect("a record").replace("\"ready\"", "\"removing\"");
    fs::write(&record, text).expect("the removal is begun");
    fs::remove_file(&marker).expect("it goes");
    branches.delete("drill", &made.id).await.expect("goes");
    assert!(!folder.exists() && branches.list().await.expect("lists").is_empty());
}
