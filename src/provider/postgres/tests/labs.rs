//! The lab itself.

use super::stage::{Stage, back_up, branch_of, into, number, opened};
use crate::provider::{model::At, postgres::lab};
use std::path::Path;

#[tokio::test]
async fn lab_up_twice_is_up_once_and_down_leaves_nothing() {
    let Some(stage) = Stage::up().await else { return };
    let first = lab::status(stage.path()).expect("a status");
    assert_eq!(lab::up(stage.path()).await.expect("is up already"), first);
    assert_eq!(number(stage.open().as_ref(), "select count(*) from customers").await, 60);
    assert_eq!(lab::down(stage.path()).await.expect("goes down").status, "down");
    let left: Vec<_> =
        std::fs::read_dir(stage.path()).expect("a folder").flatten().map(|e| e.path()).collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(lab::down(stage.path()).await.expect("is down already").status, "down");
}

/// The state folder of root is closed to the user whom PostgreSQL runs as.
#[tokio::test]
async fn lab_and_branches_are_elsewhere_when_the_state_folder_is_closed() {
    let Some(stage) = Stage::up_with(0o700).await else { return };
    let lab = stage.open();
    let folder = stage.folder("");
    back_up(lab.as_ref(), "BACKUP0001").await;
    let made = branch_of(lab.as_ref(), &into("drill", At::BackupEnd), "BRANCH0001").await;
    assert_eq!(
        number(opened(lab.as_ref(), "drill").await.as_ref(), "select count(*) from orders").await,
        400
    );
    let socket = made.host.expect("a socket");
    if rustix::process::geteuid().is_root() {
        assert!(folder.starts_with("/var/tmp") && !folder.starts_with(stage.path()), "{folder:?}");
        assert!(socket.starts_with("/var/tmp/redrill-branch-branch0001-"), "{socket}");
    }
    lab::down(stage.path()).await.expect("goes down");
    assert!(!folder.exists() && !Path::new(&socket).exists());
}

#[tokio::test]
async fn lab_up_that_was_killed_is_finished_by_the_next() {
    let Some(stage) = Stage::up().await else { return };
    // As if killed after the cluster was made, before it was filled and found.
    stage.run(&["drop table order_items, orders, customers, notes"]).await;
    stage.stop().await;
    std::fs::remove_file(crate::config::lab_file(stage.path())).expect("was there");
    assert_eq!(lab::status(stage.path()).expect("a status").status, "stopped");
    assert_eq!(lab::up(stage.path()).await.expect("is finished").status, "up");
    assert_eq!(number(stage.open().as_ref(), "select count(*) from orders").await, 400);
}
