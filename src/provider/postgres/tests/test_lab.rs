//! What these tests do to a lab behind redrill's back, and what they ask of it.

pub(super) use crate::testing::TestLab;
use crate::{
    base::{clock::SystemClock, moment::Span, value},
    provider::{
        Provider, Result,
        host::programs::Programs,
        model::{
            BackupRequest, Branch, CallKey, Job, JobStatus, RecoveryPoint, RecoveryTarget, RestoreRequest,
        },
        postgres::{cluster::server, lab, sql::DatabaseAddress},
    },
};
use serde_json::Value;
use std::{fs, path::PathBuf, sync::Arc, time::Duration};

impl TestLab {
    /// Returns a folder of the lab.
    pub(super) fn lab_folder(&self, name: &str) -> PathBuf {
        let status = lab::lab_status(&self.state_folder()).expect("a status");
        status.folder.expect("the lab is there").join(name)
    }

    /// Makes a folder that the cluster can write to.
    pub(super) fn make_folder(&self, name: &str) -> PathBuf {
        let folder = self.state_folder().join(name);
        crate::provider::host::disk::make_private_folder(&self.programs(), &folder).expect("a folder");
        folder
    }

    /// Returns the programs, run as the lab's own user.
    pub(super) fn programs(&self) -> Programs {
        Programs::for_cluster(&self.lab_folder("data"), None).expect("the tools")
    }

    /// Runs statements that may not run in a transaction.
    pub(super) async fn run_statements(&self, statements: &[&str]) {
        let host = self.lab_folder("socket").display().to_string();
        let address = DatabaseAddress {
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

    async fn is_answering(&self) -> bool {
        let host = self.lab_folder("socket").display().to_string();
        let address = DatabaseAddress {
            host,
            port: 5432,
            user: "postgres".into(),
            database: "postgres".into(),
            password: None,
        };
        address.connect().await.is_ok()
    }

    /// Stops the lab's server.
    pub(super) async fn stop_server(&self) {
        server::stop_server(&SystemClock, &self.lab_folder("data"), server::ShutdownMode::Fast)
            .await
            .expect("stops");
    }

    /// Stops the lab's server as a crash would.
    pub(super) async fn crash_server(&self) {
        server::stop_server(&SystemClock, &self.lab_folder("data"), server::ShutdownMode::Immediate)
            .await
            .expect("stops");
    }

    /// Starts the lab's server with options.
    pub(super) async fn start_server(&self, options: &[&str]) {
        let options: Vec<_> = options.iter().map(Into::into).collect();
        server::start_server(
            &self.programs(),
            &self.lab_folder("data"),
            &options,
            &self.lab_folder("server.log"),
        )
        .expect("starts");
        for _ in 0..200 {
            if server::is_server_ready(&self.lab_folder("data")) || self.is_answering().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{}", std::fs::read_to_string(self.lab_folder("server.log")).unwrap_or_default());
    }
}

/// Polls a job until it is over.
pub(super) async fn finish_job(provider: &dyn Provider, job: &Job) -> Result<Value> {
    for _ in 0..600 {
        match provider.poll_job(job).await? {
            JobStatus::Done(value) => return Ok(value),
            JobStatus::Failed(why) => return Err(why),
            JobStatus::Running(_) | JobStatus::NotBegun(_) | JobStatus::Lagging(..) => {}
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{job:?} is not done after half a minute");
}

/// Returns a key with this text.
pub(super) fn test_key(text: &str) -> CallKey {
    CallKey(text.into())
}

/// Returns the request for a branch.
pub(super) fn branch_request(name: &str, at: RecoveryTarget) -> RestoreRequest {
    RestoreRequest {
        backup: None,
        to: RecoveryPoint { at, inclusive: true, timeline: None },
        into: Some(name.into()),
        temporary: true,
        run: Some("run1".into()),
    }
}

/// Returns the request for a restore in place.
pub(super) fn in_place_request(at: RecoveryTarget) -> RestoreRequest {
    RestoreRequest { into: None, ..branch_request("", at) }
}

/// Executes a statement that changes rows.
pub(super) async fn change_rows(provider: &dyn Provider, sql: &str) {
    let database = provider.sql().expect("SQL");
    database.execute(sql, Span::from_secs(10), &test_key("SQL")).await.expect(sql);
}

/// Returns the number that a query gives.
pub(super) async fn query_number(provider: &dyn Provider, sql: &str) -> i64 {
    let rows = provider.sql().expect("SQL").query(sql, Span::from_secs(10)).await.expect(sql);
    rows.rows[0].values().next().and_then(Value::as_i64).expect("a number")
}

/// Returns the text that a query gives.
pub(super) async fn query_text(provider: &dyn Provider, sql: &str) -> String {
    let rows = provider.sql().expect("SQL").query(sql, Span::from_secs(10)).await.expect(sql);
    rows.rows[0].values().next().and_then(Value::as_str).expect("a text").to_owned()
}

/// Makes a backup and returns its id.
pub(super) async fn make_backup(lab: &dyn Provider, with: &str) -> String {
    let backups = lab.backups().expect("backups");
    let job = backups.create(&BackupRequest::default(), &test_key(with)).await.expect("accepted");
    let backup = finish_job(lab, &job).await.expect("a backup");
    backup["$backup"]["id"].as_str().expect("an id").to_owned()
}

/// Makes a branch.
pub(super) async fn make_branch(lab: &dyn Provider, request: &RestoreRequest, with: &str) -> Branch {
    let job = lab.backups().expect("backups").restore(request, &test_key(with)).await.expect("accepted");
    let handle = finish_job(lab, &job).await.expect("a branch");
    let inner = value::untag_as(&handle, value::BRANCH_TAG).expect("a branch handle");
    serde_json::from_value(inner.clone()).expect("a branch")
}

/// Opens a branch.
pub(super) async fn open_branch(lab: &dyn Provider, name: &str) -> Arc<dyn Provider> {
    lab.branches().expect("branches").open(name).await.expect("opens")
}

pub(super) async fn insert_note(lab: &dyn Provider, text: &str) {
    change_rows(lab, &format!("insert into notes (country, note) values ('SE', '{text}')")).await;
}

/// Returns the names of what is in the archive, sorted.
pub(super) fn archived_files(test_lab: &TestLab) -> Vec<String> {
    let files = fs::read_dir(test_lab.lab_folder("archive")).expect("an archive").flatten();
    let mut names: Vec<String> = files.filter_map(|file| file.file_name().into_string().ok()).collect();
    names.sort();
    names
}
