//! A backup whose description cannot be read is there all the same.

use super::test_lab::{TestLab, change_rows, make_backup, test_key};
use crate::provider::{Code, Provider, model::BackupRequest};
use std::{collections::BTreeSet, fs, path::PathBuf};

/// Returns the file that describes a backup.
fn description(lab: &TestLab, id: &str) -> PathBuf {
    lab.lab_folder("backups").join(id).join("redrill.json")
}

/// Returns the names of the archived segments.
fn list_segments(lab: &TestLab) -> BTreeSet<String> {
    let entries = fs::read_dir(lab.lab_folder("archive")).expect("reads");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text"));
    names.filter(|name| name.len() == 24).collect()
}

async fn delete(lab: &dyn Provider, id: &str) {
    let backups = lab.backups().expect("backups");
    let plan = backups.plan_delete(id).await.expect("it may go");
    backups.delete(&plan, &test_key("DELETE0001")).await.expect("it is gone");
}

#[tokio::test]
async fn a_backup_that_may_be_the_one_of_a_call_is_not_made_again() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    let id = make_backup(lab.as_ref(), "BACKUP0001").await;
    let description = description(&test_lab, &id);
    fs::write(&description, "{").expect("written");
    let backups = lab.backups().expect("backups");
    let asked = backups.create(&BackupRequest::default(), &test_key("BACKUP0001")).await;
    let found = lab.find_job(&test_key("BACKUP0001"), None).await;
    for refused in [asked.map(drop), found.map(drop)] {
        let error = refused.expect_err("nobody knows what it is");
        assert_eq!(error.code, Code::Internal, "{error:?}");
        assert!(error.message.contains(&description.display().to_string()), "{error:?}");
    }
    make_backup(lab.as_ref(), "BACKUP0002").await;
}

#[tokio::test]
async fn what_a_backup_needs_that_cannot_be_read_stays_in_the_archive() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let lab = test_lab.open_target();
    change_rows(lab.as_ref(), "create table steps (id integer)").await;
    let mut made = Vec::new();
    for key in ["BACKUP0001", "BACKUP0002", "BACKUP0003", "BACKUP0004"] {
        made.push(make_backup(lab.as_ref(), key).await);
        change_rows(lab.as_ref(), "insert into steps values (1)").await;
        test_lab.run_statements(&["select pg_switch_wal()"]).await;
    }
    let description = description(&test_lab, &made[0]);
    let readable = fs::read(&description).expect("reads");
    fs::write(&description, "{").expect("written");
    let before = list_segments(&test_lab);
    delete(lab.as_ref(), &made[1]).await;
    assert!(list_segments(&test_lab).is_superset(&before), "it may need any of them");
    fs::write(&description, readable).expect("written");
    delete(lab.as_ref(), &made[0]).await;
    assert!(!list_segments(&test_lab).is_superset(&before), "what nobody needs goes");
}
