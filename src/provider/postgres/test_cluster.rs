//! A cluster that lives as long as a test: private folder, private socket, no network.
//!
//! It is a child of the test's thread and dies with it, also when the test is killed.

use super::sql::{Client, Database, DatabaseAddress};
use crate::provider::host::programs::Programs;
use serde_json::{Map, Value};
use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio_postgres::SimpleQueryMessage;

/// The port. There is no network; it is only part of the socket's file name.
pub(in super::super) const PORT: u16 = 5432;

/// A running cluster.
pub(in crate::provider) struct TestCluster {
    /// The programs it was made with.
    pub(super) programs: Programs,
    server: Child,
    folder: TempDir,
}

impl TestCluster {
    /// Makes and starts a cluster with these settings, `name=value`; none where PostgreSQL is not installed.
    pub(in crate::provider) async fn start(settings: &[&str]) -> Option<Self> {
        if !crate::testing::postgres_or_skip() {
            return None;
        }
        let programs = Programs::for_new_cluster(None).expect("PostgreSQL is installed");
        let folder = tempfile::Builder::new().prefix("rd-").tempdir_in("/var/tmp").expect("a folder");
        programs.chown_to_owner(folder.path()).expect("the folder is given away");
        let at = |name: &str| folder.path().join(name);
        let args = ["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C"];
        let mut args: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
        let (data, archive, socket) = (at("data"), at("archive"), at("socket"));
        args.extend([OsStr::new("--pgdata"), data.as_os_str()]);
        programs.run("initdb", &args).await.expect("initdb");
        for made in [&archive, &socket] {
            fs::create_dir(made).expect("a folder");
            programs.chown_to_owner(made).expect("the folder is given away");
        }
        let server = Self::spawn_server(&programs, folder.path(), settings);
        let cluster = Self { programs, server, folder };
        cluster.wait_until_up().await;
        Some(cluster)
    }

    fn spawn_server(programs: &Programs, folder: &Path, settings: &[&str]) -> Child {
        let log = fs::File::create(folder.join("log")).expect("a log");
        let mut command = programs.command("setpriv");
        command.args(["--pdeathsig", "QUIT"]).arg(programs.bin.join("postgres"));
        command.arg("-D").arg(folder.join("data")).args(["-c", "listen_addresses=", "-c", "fsync=off"]);
        command.arg("-c").arg(format!("unix_socket_directories={}", folder.join("socket").display()));
        command
            .arg("-c")
            .arg(format!("basic_archive.archive_directory={}", folder.join("archive").display()));
        for setting in settings {
            command.args(["-c", setting]);
        }
        command.stdout(Stdio::null()).stderr(log).spawn().expect("postgres starts")
    }

    /// Stops the cluster hard and starts it into recovery from its own archive, at the end of which it is on a new
    /// timeline.
    pub(in super::super) async fn recover_to_new_timeline(&mut self, settings: &[&str]) {
        self.stop();
        let signal = self.data().join("recovery.signal");
        fs::write(&signal, "").expect("written");
        self.programs.chown_to_owner(&signal).expect("the file is given away");
        let restore = format!("restore_command=cp {}/%f %p", self.archive().display());
        let settings: Vec<&str> = settings.iter().copied().chain([restore.as_str()]).collect();
        self.server = Self::spawn_server(&self.programs, self.folder.path(), &settings);
        self.wait_until_up().await;
        let client = self.connect().await;
        while super::sql::fetch_text(&client, "select pg_is_in_recovery()").await.expect("asked").as_deref()
            == Some("t")
        {
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// Stops the cluster hard, and starts it with these settings when `meanwhile` is done with its folder.
    pub(in super::super) async fn crash_and_restart(
        &mut self,
        settings: &[&str],
        meanwhile: impl FnOnce(&Path),
    ) {
        self.stop();
        meanwhile(&self.data());
        self.server = Self::spawn_server(&self.programs, self.folder.path(), settings);
        self.wait_until_up().await;
    }

    /// The server's own immediate shutdown takes its children along, which a kill would not.
    fn stop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.server);
        rustix::process::kill_process(pid, rustix::process::Signal::QUIT).ok();
        drop(self.server.wait());
    }

    async fn wait_until_up(&self) {
        let begun = Instant::now();
        while let Err(error) = self.database().address.connect().await {
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(begun.elapsed() < Duration::from_secs(30), "not up: {error}\n{log}");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// Returns the folder that `basic_archive` or `cp` may write to.
    pub(in super::super) fn archive(&self) -> PathBuf {
        self.folder.path().join("archive")
    }

    /// Returns the folder of the cluster.
    pub(in super::super) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Returns the folder of the socket.
    pub(in super::super) fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// Returns the database `postgres`, as the bootstrap superuser.
    pub(in crate::provider) fn database(&self) -> Database {
        self.database_as("postgres")
    }

    /// Returns the database `postgres`, as `user`.
    pub(super) fn database_as(&self, user: &str) -> Database {
        let host = self.socket().display().to_string();
        let address = DatabaseAddress {
            host,
            port: PORT,
            user: user.into(),
            database: "postgres".into(),
            password: None,
        };
        Database { address }
    }

    /// Connects to the database `postgres` as the bootstrap superuser.
    pub(super) async fn connect(&self) -> Client {
        self.database().address.connect().await.expect("connects")
    }

    /// Runs statements, each in a transaction of its own where they are several lines.
    pub(in crate::provider) async fn run_statements(&self, statements: &[&str]) {
        let client = self.connect().await;
        for sql in statements {
            client.batch_execute(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        }
    }
}

impl TestCluster {
    /// Runs what a platform is asked to run, and returns the rows of its last statement as objects of text, or the
    /// server's refusal with its SQLSTATE.
    pub(in crate::provider) async fn answer_as_platform(
        &self,
        sql: &str,
        read_only: bool,
    ) -> Result<Value, String> {
        let client = self.connect().await;
        if read_only {
            let role = "set default_transaction_read_only = on; set search_path = ''";
            client.batch_execute(role).await.expect("a role that reads");
        }
        let said = client.simple_query(sql).await.map_err(|e| match e.as_db_error() {
            Some(said) => format!("ERROR:  {}: {}", said.code().code(), said.message()),
            None => e.to_string(),
        })?;
        let mut rows = Vec::new();
        for message in said {
            match message {
                SimpleQueryMessage::RowDescription(_) => rows.clear(),
                SimpleQueryMessage::Row(row) => {
                    let columns = row.columns().iter().enumerate();
                    rows.push(
                        columns.map(|(n, c)| (c.name().to_owned(), row.get(n).into())).collect::<Map<_, _>>(),
                    );
                }
                _ => {}
            }
        }
        Ok(rows.into_iter().map(Value::Object).collect())
    }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        self.stop();
    }
}
