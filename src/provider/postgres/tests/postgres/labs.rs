//! The lab itself.

use super::test_lab::{TestLab, branch_request, make_backup, make_branch, open_branch, query_number};
use crate::provider::{model::RecoveryTarget, postgres::lab};
use std::path::Path;

#[tokio::test]
async fn a_lab_up_twice_is_up_once_and_down_leaves_nothing() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    let first = lab::lab_status(&test_lab.state_folder()).expect("a status");
    assert_eq!(lab::start_lab(&test_lab.state_folder()).await.expect("is up already"), first);
    let lab = test_lab.open_target();
    assert_eq!(query_number(lab.as_ref(), "select count(*) from customers").await, 60);
    let network = lab.network().expect("a network");
    assert!(network.allowed_ranges().await.expect("ranges").applied, "a fresh lab has read its files");
    assert_eq!(lab::remove_lab(&test_lab.state_folder()).await.expect("goes down").status, "down");
    let left: Vec<_> =
        std::fs::read_dir(test_lab.state_folder()).expect("a folder").flatten().map(|e| e.path()).collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(lab::remove_lab(&test_lab.state_folder()).await.expect("is down already").status, "down");
}

/// The state folder of root is closed to the user whom PostgreSQL runs as.
#[tokio::test]
async fn a_lab_and_its_branches_are_elsewhere_when_the_state_folder_is_closed() {
    let Some(test_lab) = TestLab::start_lab_with_mode(0o700).await else { return };
    let lab = test_lab.open_target();
    let folder = test_lab.lab_folder("");
    make_backup(lab.as_ref(), "BACKUP0001").await;
    let made =
        make_branch(lab.as_ref(), &branch_request("drill", RecoveryTarget::BackupEnd), "BRANCH0001").await;
    assert_eq!(
        query_number(open_branch(lab.as_ref(), "drill").await.as_ref(), "select count(*) from orders").await,
        400
    );
    let socket = made.host.expect("a socket");
    if rustix::process::geteuid().is_root() {
        assert!(folder.starts_with("/var/tmp") && !folder.starts_with(test_lab.state_folder()), "{folder:?}");
        assert!(socket.starts_with("/var/tmp/redrill-branch-branch0001-"), "{socket}");
    }
    lab::remove_lab(&test_lab.state_folder()).await.expect("goes down");
    assert!(!folder.exists() && !Path::new(&socket).exists());
}

#[tokio::test]
async fn a_lab_whose_making_was_killed_is_finished_by_the_next() {
    let Some(test_lab) = TestLab::start_lab().await else { return };
    // As if killed after the cluster was made, before it was filled and found.
    test_lab.run_statements(&["drop table order_items, orders, customers, notes"]).await;
    test_lab.stop_server().await;
    std::fs::remove_file(crate::config::lab_target_path(&test_lab.state_folder())).expect("was there");
    assert_eq!(lab::lab_status(&test_lab.state_folder()).expect("a status").status, "stopped");
    assert_eq!(lab::start_lab(&test_lab.state_folder()).await.expect("is finished").status, "up");
    assert_eq!(query_number(test_lab.open_target().as_ref(), "select count(*) from orders").await, 400);
}
