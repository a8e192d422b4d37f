//! A lab of its own for every test, and the few things that every test does with it.

use super::super::{branch, lab, scratch, server, sql::Address, tools::Tools};
use crate::{
    base::{clock::Machine, moment::Span},
    config::{Config, LAB, Locations},
    provider::{
        Fleet, Provider, Result, Unwritten,
        model::{At, BackupRequest, Branch, Job, Key, Observed, RecoveryPoint, RestoreRequest},
    },
};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// A lab that goes away with the test, however the test ends.
pub(super) struct Stage {
    state: tempfile::TempDir,
}

impl Stage {
    /// Makes a lab.
    ///
    /// Where PostgreSQL is not installed there is none: the test is skipped, and says so.
    pub(super) async fn up() -> Option<Self> {
        Self::up_with(0o755).await
    }

    /// Makes a lab whose state folder has these permissions.
    pub(super) async fn up_with(mode: u32) -> Option<Self> {
        if !scratch::postgres_or_skip() {
            return None;
        }
        let folder = tempfile::Builder::new().prefix("fd-").tempdir_in("/var/tmp").expect("a folder");
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(folder.path(), permissions).expect("they are ours to set");
        let stage = Self { state: folder };
        let status = lab::up(stage.path()).await.expect("the lab comes up");
        assert_eq!(status.status, "up");
        Some(stage)
    }

    /// Returns the state folder.
    pub(super) fn path(&self) -> &Path {
        self.state.path()
    }

    /// Returns the lab, as another life of redrill would open it.
    pub(super) fn open(&self) -> Arc<dyn Provider> {
        open_in(self.path())
    }
}

/// Returns the lab that a state folder has an entry of.
pub(super) fn open_in(state: &Path) -> Arc<dyn Provider> {
    let locations = Locations { config: None, state: Some(state.into()) };
    let config: Config = crate::config::load(&locations).expect("the configuration reads");
    Fleet::new(Arc::new(config), Arc::new(Machine)).target(LAB).expect("the lab is a target")
}

impl Stage {
    /// Returns a folder of the lab.
    pub(super) fn folder(&self, name: &str) -> PathBuf {
        let status = lab::status(self.path()).expect("a status");
        status.folder.expect("the lab is there").join(name)
    }

    /// Makes a folder that the cluster can write to.
    pub(super) fn make_folder(&self, name: &str) -> PathBuf {
        let folder = self.path().join(name);
        super::super::disk::make_private(&self.tools(), &folder).expect("a folder");
        folder
    }

    /// Returns the programs, run as the lab's own user.
    pub(super) fn tools(&self) -> Tools {
        Tools::of_cluster(&self.folder("data"), None).expect("the tools")
    }

    /// Runs statements that may not run in a transaction.
    pub(super) async fn run(&self, statements: &[&str]) {
        let host = self.folder("socket").display().to_string();
        let address = Address {
            host,
            port: 5432,
            user: "postgres".into(),
            database: "postgres".into(),
            password: None,
        };
        let client = address.connect().await.expect("connects");
        for sql in statements {
            client.batch_execute(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        }
    }

    async fn answers(&self) -> bool {
        let host = self.folder("socket").display().to_string();
        let address = Address {
            host,
            port: 5432,
            user: "postgres".into(),
            database: "postgres".into(),
            password: None,
        };
        address.connect().await.is_ok()
    }

    /// Stops the lab's server.
    pub(super) async fn stop(&self) {
        server::stop(&Machine, &self.folder("data"), server::Stop::Fast).await.expect("stops");
    }

    /// Stops the lab's server as a crash would.
    pub(super) async fn crash(&self) {
        server::stop(&Machine, &self.folder("data"), server::Stop::Immediate).await.expect("stops");
    }

    /// Starts the lab's server with options.
    pub(super) async fn start(&self, options: &[&str]) {
        let options: Vec<_> = options.iter().map(Into::into).collect();
        server::start(&self.tools(), &self.folder("data"), &options, &self.folder("server.log"))
            .expect("starts");
        for _ in 0..200 {
            if server::is_ready(&self.folder("data")) || self.answers().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{}", std::fs::read_to_string(self.folder("server.log")).unwrap_or_default());
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

/// Looks at a job until it is over.
pub(super) async fn finish(provider: &dyn Provider, job: &Job) -> Result<Value> {
    for _ in 0..600 {
        if let Observed::Done(value) = provider.observe(job).await? {
            return Ok(value);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{job:?} is not done after half a minute");
}

/// Returns a key.
pub(super) fn key(text: &str) -> Key {
    Key(text.into())
}

/// Returns the request for a branch.
pub(super) fn into(name: &str, at: At) -> RestoreRequest {
    RestoreRequest {
        backup: None,
        to: RecoveryPoint { at, inclusive: true, timeline: None },
        into: Some(name.into()),
        temporary: true,
        run: Some("run1".into()),
    }
}

/// Returns the request for a restore in place.
pub(super) fn in_place(at: At) -> RestoreRequest {
    RestoreRequest { into: None, ..into("", at) }
}

/// Changes something.
pub(super) async fn change(provider: &dyn Provider, sql: &str) {
    let database = provider.sql().expect("SQL");
    database.execute(sql, Span::seconds(10), &key("SQL"), &Unwritten).await.expect(sql);
}

/// Returns the number that a query gives.
pub(super) async fn number(provider: &dyn Provider, sql: &str) -> i64 {
    let rows = provider.sql().expect("SQL").query(sql, Span::seconds(10)).await.expect(sql);
    rows.rows[0].values().next().and_then(Value::as_i64).expect("a number")
}

/// Returns the text that a query gives.
pub(super) async fn text(provider: &dyn Provider, sql: &str) -> String {
    let rows = provider.sql().expect("SQL").query(sql, Span::seconds(10)).await.expect(sql);
    rows.rows[0].values().next().and_then(Value::as_str).expect("a text").to_owned()
}

/// Makes a backup and returns its id.
pub(super) async fn back_up(lab: &dyn Provider, with: &str) -> String {
    let backups = lab.backups().expect("backups");
    let job = backups.create(&BackupRequest::default(), &key(with)).await.expect("accepted");
    let backup = finish(lab, &job).await.expect("a backup");
    backup["$backup"]["id"].as_str().expect("an id").to_owned()
}

/// Makes a branch.
pub(super) async fn branch_of(lab: &dyn Provider, request: &RestoreRequest, with: &str) -> Branch {
    let job =
        lab.backups().expect("backups").restore(request, &key(with), &Unwritten).await.expect("accepted");
    branch::from_handle(&finish(lab, &job).await.expect("a branch"))
}

/// Opens a branch.
pub(super) async fn opened(lab: &dyn Provider, name: &str) -> Arc<dyn Provider> {
    lab.branches().expect("branches").open(name).await.expect("opens")
}
