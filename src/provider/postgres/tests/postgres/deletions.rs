//! Deletions of backups, and the WAL that goes with them.

use super::test_lab::{
    TestLab, archived_files, branch_request, insert_note, make_backup, make_branch, open_branch,
    query_number, test_key,
};
use crate::provider::{Code, model::RecoveryTarget};
use std::ffi::OsStr;

#[tokio::test]
async fn a_deletion_says_what_goes_and_takes_no_more() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    let first = make_backup(lab.as_ref(), "BACKUP0001").await;
    insert_note(lab.as_ref(), "one").await;
    let second = make_backup(lab.as_ref(), "BACKUP0002").await;
    let backups = lab.backups().expect("backups");
    let plan = backups.plan_delete(&first).await.expect("a plan");
    let sizes = (backups.get(&first).await.expect("is there").bytes, 16 << 20);
    assert!(plan.bytes >= sizes.0 + sizes.1, "{plan:?}");
    assert_eq!(plan.earliest_after, backups.get(&second).await.expect("is there").finished_at);
    let outdated = backups.plan_delete(&second).await.expect("a plan");
    backups.delete(&plan, &test_key("DELETE0001")).await.expect("goes");
    backups.delete(&plan, &test_key("DELETE0001")).await.expect("is gone already");
    let error = backups.delete(&outdated, &test_key("DELETE0002")).await.expect_err("is outdated");
    assert_eq!(error.code, Code::Conflict);
    let ids: Vec<String> = backups.list().await.expect("lists").into_iter().map(|b| b.id).collect();
    assert_eq!(ids, std::slice::from_ref(&second));
    assert!(backups.verify(&second).await.expect("reads it").ok, "its WAL is still there");
    make_branch(lab.as_ref(), &branch_request("drill", RecoveryTarget::Latest), "BRANCH0001").await;
    assert_eq!(
        query_number(open_branch(lab.as_ref(), "drill").await.as_ref(), "select count(*) from notes").await,
        21
    );
}

/// Somebody else's backup of the same cluster has left its history file in the archive.
#[tokio::test]
async fn a_deletion_leaves_the_wal_of_other_backups() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    let theirs = test_lab.make_folder("theirs");
    let socket = test_lab.lab_folder("socket");
    let args = ["-U", "postgres", "-X", "none", "-c", "fast", "-h"].map(OsStr::new);
    let args = [&args[..], &[socket.as_os_str(), OsStr::new("-D"), theirs.as_os_str()]].concat();
    test_lab.programs().run("pg_basebackup", &args).await.expect("a backup");
    let first = make_backup(lab.as_ref(), "BACKUP0001").await;
    insert_note(lab.as_ref(), "one").await;
    make_backup(lab.as_ref(), "BACKUP0002").await;
    let history = |name: &String| name.ends_with(".backup");
    let before = archived_files(&test_lab);
    let needed = before.iter().find(|name| history(name)).expect("a history")[..24].to_owned();
    assert_eq!(before.iter().filter(|name| history(name)).count(), 3);
    let backups = lab.backups().expect("backups");
    let plan = backups.plan_delete(&first).await.expect("a plan");
    // What came before their backup is all that goes.
    let older = before.iter().filter(|name| name.len() == 24 && **name < needed).count() as u64;
    assert_eq!(plan.bytes, backups.get(&first).await.expect("is there").bytes + (older << 24));
    backups.delete(&plan, &test_key("DELETE0001")).await.expect("goes");
    let after = archived_files(&test_lab);
    for name in before.iter().filter(|name| name.len() == 24 && **name >= needed) {
        assert!(after.contains(name), "{name} is gone");
    }
    assert_eq!(
        after.iter().filter(|name| history(name)).count(),
        2,
        "that of the deleted backup went with it"
    );
}
