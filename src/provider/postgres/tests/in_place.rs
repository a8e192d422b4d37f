//! Restoring in place, and the way back.

use super::stage::{Stage, back_up, change, finish, in_place, key, number};
use crate::provider::{
    Code,
    model::{At, RecoveryPoint, RestoreRequest},
};
use std::{fs, path::Path};

#[tokio::test]
async fn postgres_a_restore_in_place_gives_the_backup_back() {
    let stage = Stage::up().await;
    let lab = stage.open();
    back_up(lab.as_ref(), "BACKUP0001").await;
    change(lab.as_ref(), "delete from order_items").await;
    let before = lab.identity().await.expect("an identity");
    let backups = lab.backups().expect("backups");
    let job = backups.restore(&in_place(At::BackupEnd), &key("RESTORE001")).await.expect("accepted");
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
    let stage = Stage::up().await;
    let lab = stage.open();
    back_up(lab.as_ref(), "BACKUP0001").await;
    change(lab.as_ref(), "delete from order_items").await;
    let backups = lab.backups().expect("backups");
    let job = backups.restore(&in_place(At::Latest), &key("RESTORE001")).await.expect("accepted");
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

/// Every look is taken by another life of firedrill.
#[tokio::test]
async fn postgres_a_restore_in_place_survives_being_killed() {
    let stage = Stage::up().await;
    back_up(stage.open().as_ref(), "BACKUP0001").await;
    change(stage.open().as_ref(), "delete from order_items").await;
    let request = RestoreRequest {
        to: RecoveryPoint { at: At::BackupEnd, inclusive: true, timeline: Some(1) },
        ..in_place(At::BackupEnd)
    };
    stage.open().backups().expect("backups").restore(&request, &key("RESTORE001")).await.expect("accepted");
    let mut looks = 0;
    loop {
        let lab = stage.open();
        let job = lab.find(&key("RESTORE001")).await.expect("looks").expect("is found");
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
