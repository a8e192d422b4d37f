//! The whole thing, for real: a lab of its own for every test.

use super::{branch, lab};
use crate::{
    base::{clock::Machine, moment::Span},
    config::{Config, LAB, Locations},
    provider::{
        Fleet, Provider, Result,
        model::{At, BackupRequest, Branch, Job, Key, Observed, RecoveryPoint, RestoreRequest},
    },
};
use serde_json::Value;
use std::{path::Path, sync::Arc, time::Duration};

/// A lab that goes away with the test, however the test ends.
struct Stage {
    state: tempfile::TempDir,
}

impl Stage {
    async fn up() -> Self {
        let folder = tempfile::Builder::new().prefix("fd-").tempdir_in("/var/tmp").expect("a folder");
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open).expect("others may pass");
        let stage = Self { state: folder };
        let status = lab::up(stage.path()).await.expect("the lab comes up");
        assert_eq!(status.status, "up");
        stage
    }

    fn path(&self) -> &Path {
        self.state.path()
    }

    fn fleet(&self) -> Fleet {
        let locations = Locations { config: None, state: Some(self.path().into()) };
        let config: Config = crate::config::load(&locations).expect("the configuration reads");
        Fleet::new(Arc::new(config), Arc::new(Machine))
    }

    fn open(&self) -> Arc<dyn Provider> {
        self.fleet().target(LAB).expect("the lab is a target")
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let state = self.path().to_path_buf();
        let down = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(lab::down(&state)).expect("the lab goes down");
        });
        down.join().expect("the lab goes down");
    }
}

async fn finish(provider: &dyn Provider, job: &Job) -> Result<Value> {
    for _ in 0..600 {
        if let Observed::Done(value) = provider.observe(job).await? {
            return Ok(value);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{job:?} is not done after half a minute");
}

fn key(text: &str) -> Key {
    Key(text.into())
}

fn into(name: &str, at: At) -> RestoreRequest {
    RestoreRequest {
        backup: None,
        to: RecoveryPoint { at, inclusive: true, timeline: None },
        into: Some(name.into()),
        temporary: true,
        run: Some("run1".into()),
    }
}

struct Nowhere;

#[async_trait::async_trait]
impl crate::provider::Accept for Nowhere {
    async fn accepted(&self, _: Value) -> Result<()> {
        Ok(())
    }
}

async fn change(provider: &dyn Provider, sql: &str) {
    let database = provider.sql().expect("SQL");
    database.execute(sql, Span::seconds(10), &key("SQL"), &Nowhere).await.expect(sql);
}

async fn number(provider: &dyn Provider, sql: &str) -> i64 {
    let rows = provider.sql().expect("SQL").query(sql, Span::seconds(10)).await.expect(sql);
    rows.rows[0].values().next().and_then(Value::as_i64).expect("a number")
}

#[tokio::test]
async fn postgres_a_backup_becomes_a_branch_and_leaves_nothing() {
    let stage = Stage::up().await;
    let lab = stage.open();
    let backups = lab.backups().expect("backups");
    let job = backups
        .create(&BackupRequest { label: Some("first".into()) }, &key("BACKUP0001"))
        .await
        .expect("accepted");
    let backup = finish(lab.as_ref(), &job).await.expect("a backup");
    assert_eq!(backup["$backup"]["status"], "completed");
    let job = backups.restore(&into("drill", At::BackupEnd), &key("BRANCH0001")).await.expect("accepted");
    let made: Branch = branch::from_handle(&finish(lab.as_ref(), &job).await.expect("a branch"));
    assert_eq!((made.status.as_str(), made.timeline), ("ready", Some(2)));
    let branches = lab.branches().expect("branches");
    let opened = branches.open("drill").await.expect("opens");
    assert_eq!(number(opened.as_ref(), "select count(*) from orders").await, 400);
    branches.delete("drill", &made.id).await.expect("goes");
    assert!(branches.list().await.expect("lists").is_empty());
}

#[tokio::test]
async fn postgres_a_restore_in_place_gives_the_backup_back() {
    let stage = Stage::up().await;
    let lab = stage.open();
    let backups = lab.backups().expect("backups");
    let job = backups.create(&BackupRequest::default(), &key("BACKUP0001")).await.expect("accepted");
    finish(lab.as_ref(), &job).await.expect("a backup");
    change(lab.as_ref(), "delete from order_items").await;
    let request = RestoreRequest { into: None, ..into("", At::BackupEnd) };
    let job = backups.restore(&request, &key("RESTORE001")).await.expect("accepted");
    let restored = finish(lab.as_ref(), &job).await.expect("restored");
    assert_eq!(restored["timeline"], 2);
    assert_eq!(number(lab.as_ref(), "select count(*) from order_items").await, 800);
    assert_eq!(
        number(
            lab.as_ref(),
            "select count(*) from pg_settings where name like 'recovery_target%' and source = 'command line'"
        )
        .await,
        0
    );
    let kept = restored["kept"].as_str().expect("the old data is kept");
    assert!(Path::new(kept).join("PG_VERSION").is_file());
    change(lab.as_ref(), "delete from order_items").await;
}
