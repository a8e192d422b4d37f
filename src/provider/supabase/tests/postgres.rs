//! Dumps of a real PostgreSQL, and what is made of them: in throw-away clusters, which stand for a project and a branch.

use super::{
    BRANCH, KEY, MockApi, MockReply, Supabase, ask, described, key, main_row, project, row, windowed, writes,
};
use crate::provider::{
    Backups as _, Code, Provider as _, Result,
    host::process,
    model::{BackupRequest, Job, JobStatus, RecoveryTarget},
    postgres::test_cluster::TestCluster,
    supabase::{config::ConfiguredAddress, mock_api::REF},
};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::TempDir;

const PASSWORD: &str = "a password that nobody may see";

/// A project with a database, an empty branch for it, and the target that asks for both.
struct DumpTestEnv {
    source: TestCluster,
    branch: TestCluster,
    server: MockApi,
    target: Supabase,
    folder: TempDir,
}

impl DumpTestEnv {
    /// Starts both databases and the mock; `None` where PostgreSQL is not installed.
    async fn start() -> Option<Self> {
        let source = TestCluster::start(&[]).await?;
        let branch = TestCluster::start(&[]).await?;
        source
            .run_statements(&[
                "create role cli_login_reader noinherit login",
                "create role reader in role pg_read_all_data",
                "grant reader to cli_login_reader",
                "create schema auth create table users (id int primary key) create table sessions (id int)",
                "insert into auth.users values (1), (2)",
                "insert into auth.sessions values (7)",
                "create table orders (id int primary key, buyer int references auth.users, note text)",
                "insert into orders select n, 1 + n % 2, repeat('x', 500) || n from generate_series(1, 1000) n",
                "create schema vault create table secrets (id int)",
            ])
            .await;
        branch
            .run_statements(&[
                "create schema auth create table users (id int primary key) create table sessions (id int)",
            ])
            .await;
        let socket = branch.socket();
        let server = MockApi::serve_replies(move |seen| served(seen, &socket)).await;
        let (target, folder) = project(&server);
        let database =
            ConfiguredAddress { host: Some(source.socket().display().to_string()), port: Some(5432) };
        Some(Self { source, branch, server, target: Supabase { database, ..target }, folder })
    }

    async fn create(&self) -> Result<Job> {
        self.target.create(&BackupRequest { label: Some("drill".into()) }, &key()).await
    }

    async fn dump(&self) -> String {
        let job = self.create().await.expect("accepted");
        patiently(&self.target, &job).await.expect("dumped")["$backup"]["id"]
            .as_str()
            .expect("an id")
            .to_owned()
    }

    /// Holds the table for some seconds, so that whoever dumps it waits.
    fn hold(&self) -> impl Future<Output = ()> {
        self.source.run_statements(&["lock table orders in access exclusive mode; select pg_sleep(3)"])
    }

    fn left(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder.path().join("backups")).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    }
}

/// Answers as a project whose branch is made at once, with its database behind `socket`.
fn served(seen: &super::ReceivedRequest, socket: &Path) -> MockReply {
    let login = |role: &str| {
        MockReply::from_json(201, &json!({ "role": role, "password": PASSWORD, "ttl_seconds": 300 }))
    };
    let rows = || MockReply::from_json(201, &json!([{ "one": 1 }]));
    match seen.line.as_str() {
        line if line == format!("POST /v1/projects/{REF}/cli/login-role") => {
            assert_eq!(seen.body, json!({ "read_only": true }));
            login("cli_login_reader")
        }
        line if line == format!("POST /v1/projects/{BRANCH}/cli/login-role") => {
            assert_eq!(seen.body, json!({ "read_only": false }));
            login("postgres")
        }
        line if line == format!("POST /v1/projects/{REF}/branches") => {
            assert_eq!(seen.body["with_data"], false);
            MockReply::from_json(201, &Value::Null)
        }
        line if line == format!("GET /v1/projects/{REF}/branches") => {
            let branch = row(&format!("drill-rd{KEY}"), BRANCH, "FUNCTIONS_DEPLOYED");
            MockReply::from_json(
                200,
                &json!(if seen.earlier == 0 { vec![main_row()] } else { vec![main_row(), branch] }),
            )
        }
        line if line == format!("GET /v1/branches/{BRANCH}") => MockReply::from_json(
            200,
            &json!({ "ref": BRANCH, "postgres_version": "15.8", "status": "ACTIVE_HEALTHY",
                "db_host": socket, "db_port": 5432, "db_pass": PASSWORD, "jwt_secret": PASSWORD }),
        ),
        line if line == format!("DELETE /v1/branches/{BRANCH}") => {
            MockReply::from_json(200, &json!({ "message": "ok" }))
        }
        line if line == format!("POST /v1/projects/{BRANCH}/database/query/read-only") => rows(),
        line if line == format!("GET /v1/projects/{REF}") => described("ACTIVE_HEALTHY"),
        _ => windowed(seen),
    }
}

/// Follows a job that a real program works on, in real time.
async fn patiently(target: &Supabase, job: &Job) -> Result<Value> {
    for _ in 0..1000 {
        match target.poll_job(job).await? {
            JobStatus::Done(value) => return Ok(value),
            JobStatus::Failed(why) => return Err(target.remove_what_failed_job_made(job, why).await),
            JobStatus::Running(_) | JobStatus::NotBegun(_) | JobStatus::Lagging(..) => {}
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the {} is never done", job.kind)
}

/// Returns every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[tokio::test]
async fn a_dump_is_made_verified_loaded_into_a_branch_and_deleted() {
    let Some(env) = DumpTestEnv::start().await else { return };
    let id = env.dump().await;
    let backup = env.target.get(&id).await.expect("found");
    assert_eq!((backup.method.as_str(), backup.status.as_str()), ("logical_dump", "completed"));
    assert_eq!((backup.label.as_deref(), backup.key.clone()), (Some("drill"), Some(key())));
    assert!(backup.bytes > 1000, "{backup:?}");
    let verified = env.target.verify(&id).await.expect("read");
    assert!(verified.ok, "{verified:?}");

    let request = ask(Some(&id), RecoveryTarget::BackupEnd, Some("drill"));
    let job = env.target.restore(&request, &key()).await.expect("accepted");
    let made = patiently(&env.target, &job).await.expect("loaded");
    assert_eq!((&made["$branch"]["backup"], &made["$branch"]["status"]), (&json!(id), &json!("ready")));
    let socket = env.branch.socket().display().to_string();
    assert_eq!(made["$branch"]["host"], socket.as_str());
    env
        .branch
        .run_statements(&["do $$ begin
                assert (select count(*) = 1000 and count(distinct buyer) = 2 from orders), 'orders';
                assert (select count(*) = 2 from auth.users), 'users';
                assert (select count(*) = 0 from auth.sessions), 'a session was carried over';
                assert to_regclass('vault.secrets') is null, 'the vault was carried over';
                assert (select count(*) = 1 from pg_constraint where conrelid = 'orders'::regclass and contype = 'f');
            end $$"])
        .await;
    for path in files(env.folder.path()) {
        let bytes = fs::read(&path).unwrap_or_default();
        let said = bytes.windows(PASSWORD.len()).any(|part| part == PASSWORD.as_bytes());
        assert!(!said, "the password is in {}", path.display());
    }
    // A process that was killed before it wrote down that the branch is ready looks once more: nothing is loaded again.
    let again = patiently(&env.target, &job).await.expect("it is still loaded");
    assert_eq!(again, made);
    env.target.stop_and_remove_load(BRANCH);
    assert!(files(&env.folder.path().join("state")).is_empty());

    let plan = env.target.plan_delete(&id).await.expect("a plan");
    env.target.delete(&plan, &key()).await.expect("deleted");
    env.target.delete(&plan, &key()).await.expect("gone is no error");
    assert!(env.left().is_empty());
}

#[tokio::test]
async fn a_dump_whose_maker_died_is_found_by_its_key_and_goes_on() {
    let Some(env) = DumpTestEnv::start().await else { return };
    let (job, ()) = tokio::join!(
        async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let job = env.create().await.expect("accepted");
            let JobStatus::Running(_) = env.target.poll_job(&job).await.expect("a look") else {
                panic!("it cannot be done while the table is held")
            };
            // Another process of redrill: it knows the folder, the key, and nothing else.
            let successor = env.target.clone();
            let found = successor.find_job(&key(), None).await.expect("known").expect("found");
            assert_eq!(found, job);
            assert_eq!(env.create().await.expect("the same"), job);
            found
        },
        env.hold()
    );
    patiently(&env.target, &job).await.expect("dumped");
    let logins =
        env.server.request_lines().into_iter().filter(|line| line.ends_with("/cli/login-role")).count();
    assert_eq!((logins, env.left().len()), (1, 1));
}

#[tokio::test]
async fn a_dump_that_was_killed_is_begun_again_and_one_that_is_given_up_is_gone() {
    let Some(env) = DumpTestEnv::start().await else { return };
    let (job, ()) = tokio::join!(
        async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let job = env.create().await.expect("accepted");
            let child = process::find_program_started_below(&env.folder.path().join("backups"))
                .expect("it is at work");
            child.signal_group(Signal::KILL);
            job
        },
        env.hold()
    );
    patiently(&env.target, &job).await.expect("dumped in the end");
    let logins =
        env.server.request_lines().into_iter().filter(|line| line.ends_with("/cli/login-role")).count();
    assert_eq!(logins, 2);
    env.target.discard_all().await;

    let ((), ()) = tokio::join!(
        async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let job = env.create().await.expect("accepted");
            env.target.cancel(&job).await.expect("given up");
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(process::find_program_started_below(&env.folder.path().join("backups")).is_none());
            assert_eq!(env.target.find_job(&key(), None).await.expect("known"), None);
        },
        env.hold()
    );
    assert!(env.left().is_empty());
}

/// Redrill was killed when it had written down that a load begins, and what came after that is as given.
#[tokio::test]
async fn a_load_that_never_ran_is_started_and_one_that_is_killed_again_is_said_to_be() {
    let Some(env) = DumpTestEnv::start().await else { return };
    let id = env.dump().await;
    let folder = env.folder.path().join("state/loads").join(BRANCH);
    let request = ask(Some(&id), RecoveryTarget::BackupEnd, Some("drill"));
    let dead = json!({ "pid": i32::MAX, "started": 1, "boot": "earlier" });
    let restore = async |child: &Value, killed: u32| {
        fs::create_dir_all(&folder).expect("a folder");
        let left = json!({ "child": child, "starts": 1, "killed": killed });
        fs::write(folder.join("redrill.json"), left.to_string()).expect("written");
        let job = env.target.restore(&request, &key()).await.expect("accepted");
        patiently(&env.target, &job).await
    };
    let error = restore(&dead, 1).await.expect_err("it was killed twice");
    assert!(error.message.contains("was killed 2 times without a word"), "{error}");
    restore(&Value::Null, 0).await.expect("it is started");
    env.branch.run_statements(&["drop table orders", "truncate auth.users"]).await;
    fs::remove_dir_all(&folder).expect("gone");
    restore(&dead, 0).await.expect("it is started once more");
}

impl Supabase {
    async fn discard_all(&self) {
        for backup in self.list().await.expect("a list") {
            self.dump_store().stop_and_delete(&backup.id).expect("gone");
        }
    }
}

#[tokio::test]
async fn a_dump_that_cannot_be_made_leaves_nothing() {
    let Some(env) = DumpTestEnv::start().await else { return };
    env.source.run_statements(&["revoke reader from cli_login_reader"]).await;
    let job = env.create().await.expect("accepted");
    let error = patiently(&env.target, &job).await.expect_err("it may not become the role");
    assert_eq!(error.code, Code::Denied, "{error}");
    assert!(env.left().is_empty());
    assert_eq!(error.left_behind, [""; 0]);
}

#[tokio::test]
async fn a_full_disk_is_said_and_leaves_nothing() {
    let Some(env) = DumpTestEnv::start().await else { return };
    let small = env.folder.path().join("small");
    fs::create_dir(&small).expect("a folder");
    let Some(_mounted) = TmpfsMount::at(&small) else { return };
    // Random, so that it does not shrink.
    env.source.run_statements(&["insert into orders select n, 1, (select string_agg(md5(random()::text || n || m), '') from generate_series(1, 40) m) from generate_series(2001, 3000) n"]).await;
    let target = Supabase { backups: small.clone(), ..env.target.clone() };
    let job = target.create(&BackupRequest::default(), &key()).await.expect("accepted");
    let error = patiently(&target, &job).await.expect_err("no room");
    assert_eq!(error.code, Code::NoDiskSpace, "{error}");
    assert!(files(&small).is_empty());
}

/// A disk of half a MiB, where we may make one.
struct TmpfsMount(PathBuf);

impl TmpfsMount {
    fn at(folder: &Path) -> Option<Self> {
        let mount = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=512k", "none"])
            .arg(folder)
            .output();
        let mounted = mount.is_ok_and(|output| output.status.success());
        if !mounted {
            crate::base::terminal::print_message("skipped: a small disk cannot be mounted here");
        }
        mounted.then(|| Self(folder.to_path_buf()))
    }
}

impl Drop for TmpfsMount {
    fn drop(&mut self) {
        drop(std::process::Command::new("umount").arg("--lazy").arg(&self.0).output());
    }
}

#[tokio::test]
async fn a_dump_that_was_damaged_is_noticed_and_not_restored() {
    let Some(env) = DumpTestEnv::start().await else { return };
    let id = env.dump().await;
    let file = env.target.dump_store().dump_path(&id);
    let mut bytes = fs::read(&file).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::write(&file, bytes).expect("written");
    let verified = env.target.verify(&id).await.expect("read");
    assert!(!verified.ok && !verified.problems.is_empty(), "{verified:?}");
    assert_eq!(env.target.get(&id).await.expect("found").status, "damaged");
    let request = ask(Some(&id), RecoveryTarget::BackupEnd, Some("drill"));
    let error = env.target.restore(&request, &key()).await.expect_err("refused");
    assert_eq!(error.code, Code::CorruptBackup);
    assert!(writes(&env.server).iter().all(|line| !line.ends_with("/branches")));
}

#[tokio::test]
async fn a_branch_that_cannot_be_loaded_is_removed() {
    let Some(env) = DumpTestEnv::start().await else { return };
    env.source.run_statements(&["create role clerk", "grant select on orders to clerk"]).await;
    let id = env.dump().await;
    let request = ask(Some(&id), RecoveryTarget::BackupEnd, Some("drill"));
    let job = env.target.restore(&request, &key()).await.expect("accepted");
    let error = patiently(&env.target, &job).await.expect_err("there is no such role");
    assert!(error.hint.as_deref().is_some_and(|hint| hint.contains("roles")), "{error:?}");
    assert!(writes(&env.server).contains(&format!("DELETE /v1/branches/{BRANCH}")));
    // All of it or nothing.
    env.branch.run_statements(&["do $$ begin assert to_regclass('orders') is null; end $$"]).await;
    assert!(files(&env.folder.path().join("state")).is_empty());
}

#[tokio::test]
async fn a_dump_is_not_restored_in_place() {
    let Some(env) = DumpTestEnv::start().await else { return };
    let id = env.dump().await;
    let request = ask(Some(&id), RecoveryTarget::BackupEnd, None);
    let error = env.target.restore(&request, &key()).await.expect_err("refused");
    assert_eq!(error.code, Code::Unsupported);
    assert!(error.hint.expect("the nearest").contains("into:"));
}
