//! A throw-away cluster that gives a simulated platform a real database.
//!
//! - Its folder is chosen first and the cluster made at the first use, so that its address is known before.
//! - Its server is a child of the thread that starts it and ends with that thread, also when that is killed.
//! - Roles are as on the platform: `postgres` owns everything and is no superuser; whoever logs in has a password.
//! - Nothing of it is left when it is dropped.

use super::{
    cluster::server_log,
    sql::{self, DatabaseAddress},
};
use crate::{
    base::{file, program::run_program},
    provider::{
        Code, Error, Result,
        host::{
            disk,
            programs::{self, Programs},
        },
    },
};
use serde_json::{Map, Number, Value};
use std::{
    ffi::OsStr,
    fs,
    path::PathBuf,
    process::{Child, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio_postgres::{SimpleQueryMessage, types::Type};

/// The port, which only names the socket.
const PORT: u16 = 5432;
/// How long the server may take to let us in.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// The one superuser.
const ADMIN_ROLE: &str = "supabase_admin";
/// The roles that every cluster of the platform has.
const ROLES_SQL: &str = "
    create role postgres login createdb createrole bypassrls;
    create role anon nologin;
    create role authenticated nologin;
    create role service_role nologin bypassrls;
    grant anon, authenticated, service_role to postgres with admin option;
    grant pg_read_all_data to postgres with admin option;
    alter database postgres owner to postgres;
    create role supabase_read_only_user nologin bypassrls in role pg_read_all_data;
    create role cli_login_supabase_read_only_user noinherit in role supabase_read_only_user;
    alter role cli_login_supabase_read_only_user set default_transaction_read_only = on;
    create role cli_login_postgres noinherit in role postgres;
";
/// The login role for reading; it may `set role` to what the rest of its name says.
const READER_ROLE: &str = "cli_login_supabase_read_only_user";
/// The login role for writing.
const WRITER_ROLE: &str = "cli_login_postgres";

/// A throw-away cluster with the platform's roles.
pub struct PlatformCluster {
    programs: Programs,
    folder: TempDir,
    server: Option<Child>,
}

/// A role that somebody may log in as.
pub struct RoleLogin {
    pub role: String,
    pub password: String,
}

/// The result of a script.
#[derive(Debug, Default)]
pub struct ScriptResult {
    /// The rows of its last statement.
    pub rows: Vec<Map<String, Value>>,
    /// Whether it wrote.
    pub wrote: bool,
}

impl PlatformCluster {
    /// Chooses a folder and starts nothing.
    ///
    /// # Errors
    /// [`Code::Unavailable`] with what to install.
    pub fn new() -> Result<Self> {
        let programs = Programs::for_new_cluster(None)?;
        // Short, for the sake of the socket, and where the cluster's own user gets to.
        let folder = tempfile::Builder::new().prefix("rd-").tempdir_in("/var/tmp");
        let folder = folder.map_err(|e| Error::new(Code::Tool, format!("no folder for a cluster: {e}")))?;
        programs.chown_to_owner(folder.path())?;
        Ok(Self { programs, folder, server: None })
    }

    /// Returns the folder of its socket.
    pub fn socket_folder(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// Returns the port that names the socket.
    #[expect(clippy::unused_self, reason = "it goes with the host")]
    pub fn port(&self) -> u16 {
        PORT
    }

    /// Starts it, unless it runs.
    ///
    /// # Errors
    /// [`Code::Tool`] with the server's own words.
    pub async fn ensure_started(&mut self) -> Result<()> {
        if self.server.is_some() {
            return Ok(());
        }
        self.make_cluster().await?;
        self.server = Some(self.spawn_server()?);
        let admin = self.address_for_role(ADMIN_ROLE);
        let begun = Instant::now();
        while let Err(e) = admin.connect().await {
            if begun.elapsed() > START_TIMEOUT {
                let said = fs::read(self.folder.path().join("log")).unwrap_or_default();
                return Err(Error::new(e.code, format!("{}: {}", e.message, programs::tail_output(&said))));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let client = admin.connect().await?;
        client.batch_execute(ROLES_SQL).await.map_err(|e| sql::statement_error(&e, ROLES_SQL))
    }

    async fn make_cluster(&self) -> Result<()> {
        let data = self.data();
        disk::remove_folder(&data)?;
        disk::make_private_folder(&self.programs, &self.socket_folder())?;
        let fixed =
            ["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--username", ADMIN_ROLE];
        let mut args: Vec<&OsStr> = fixed.iter().map(OsStr::new).collect();
        args.extend([OsStr::new("-D"), data.as_os_str()]);
        self.programs.run("initdb", &args).await?;
        // The socket's folder is private; a password is asked of everybody but the platform itself.
        let rules =
            format!("local all {ADMIN_ROLE} trust\nlocal all postgres trust\nlocal all all scram-sha-256\n");
        let path = data.join("pg_hba.conf");
        let failed = |e| Error::new(Code::Tool, format!("`{}` cannot be written: {e}", path.display()));
        file::write_atomic(&path, rules.as_bytes()).map_err(failed)?;
        self.programs.chown_to_owner(&path)
    }

    fn spawn_server(&self) -> Result<Child> {
        let failed = |e| Error::new(Code::Tool, format!("PostgreSQL cannot be started: {e}"));
        let log = fs::File::create(self.folder.path().join("log")).map_err(failed)?;
        let mut command = self.programs.command("setpriv");
        command.args(["--pdeathsig", "QUIT"]).arg(self.programs.bin.join("postgres"));
        command.arg("-D").arg(self.data());
        let socket = format!("unix_socket_directories={}", self.socket_folder().display());
        let settings =
            ["listen_addresses=", "fsync=off", "shared_buffers=16MB", "max_connections=30", "timezone=UTC"];
        for setting in settings.into_iter().chain([socket.as_str()]) {
            command.args(["-c", setting]);
        }
        command.arg("-c").arg(format!("log_line_prefix={}", server_log::LOG_PREFIX));
        command.stdout(Stdio::null()).stderr(log).spawn().map_err(failed)
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn address_for_role(&self, user: &str) -> DatabaseAddress {
        let host = self.socket_folder().display().to_string();
        DatabaseAddress { host, port: PORT, user: user.into(), database: "postgres".into(), password: None }
    }

    /// Makes the database what a script says, as `postgres`: all of it or nothing, in the place of what was there.
    ///
    /// # Errors
    /// What the database refuses.
    pub async fn replace_content(&mut self, script: &str) -> Result<()> {
        self.ensure_started().await?;
        let client = self.address_for_role(ADMIN_ROLE).connect().await?;
        let whole = format!(
            "begin;
             drop schema public cascade;
             create schema public authorization pg_database_owner;
             grant usage on schema public to public;
             set local role postgres;
             {script}
             commit;"
        );
        client.batch_execute(&whole).await.map_err(|e| sql::statement_error(&e, script))
    }

    /// Lets somebody log in for `seconds`, with a new password. The role inherits nothing: its name says what it may
    /// become.
    ///
    /// # Errors
    /// What the database refuses.
    pub async fn grant_login(&mut self, read_only: bool, seconds: u32) -> Result<RoleLogin> {
        self.ensure_started().await?;
        let mut random = [0; 20];
        getrandom::fill(&mut random)
            .map_err(|e| Error::new(Code::Internal, format!("no random number: {e}")))?;
        let password = data_encoding::BASE32_NOPAD.encode(&random).to_lowercase();
        let role = if read_only { READER_ROLE } else { WRITER_ROLE };
        let script = format!(
            "set log_statement = 'none';
             do $do$ begin execute format('alter role {role} login password %L valid until %L',
                 '{password}', now() + interval '{seconds} seconds'); end $do$;"
        );
        let client = self.address_for_role(ADMIN_ROLE).connect().await?;
        // The statement holds the password: it is not repeated.
        client.batch_execute(&script).await.map_err(|e| sql::statement_error(&e, "alter role"))?;
        Ok(RoleLogin { role: role.into(), password })
    }

    /// Lets nobody log in any more.
    ///
    /// # Errors
    /// What the database refuses.
    pub async fn revoke_logins(&mut self) -> Result<()> {
        if self.server.is_none() {
            return Ok(());
        }
        let client = self.address_for_role(ADMIN_ROLE).connect().await?;
        let script = format!("alter role {READER_ROLE} nologin; alter role {WRITER_ROLE} nologin");
        client.batch_execute(&script).await.map_err(|e| sql::statement_error(&e, &script))
    }

    /// Runs a script as `postgres`, and returns the rows of its last statement in the platform's types.
    ///
    /// # Errors
    /// What the database refuses: the message begins with `ERROR:` and the code.
    pub async fn run_script(&self, script: &str, read_only: bool) -> Result<ScriptResult> {
        let client = self.address_for_role("postgres").connect().await?;
        let refused = |e: &tokio_postgres::Error| {
            let said = e.as_db_error();
            let message = said.map(|s| format!("ERROR:  {}: {}", s.code().code(), s.message()));
            Error { message: message.unwrap_or_else(|| e.to_string()), ..sql::statement_error(e, script) }
        };
        client.batch_execute("set default_transaction_read_only = on").await.map_err(|e| refused(&e))?;
        match query_rows(&client, script).await {
            Ok(rows) => Ok(ScriptResult { rows, wrote: false }),
            // 25006: the script writes, so it runs again in read-write mode.
            Err(e) if !read_only && e.code().is_some_and(|c| c.code() == "25006") => {
                client
                    .batch_execute("set default_transaction_read_only = off")
                    .await
                    .map_err(|e| refused(&e))?;
                query_rows(&client, script)
                    .await
                    .map(|rows| ScriptResult { rows, wrote: true })
                    .map_err(|e| refused(&e))
            }
            Err(e) => Err(refused(&e)),
        }
    }
}

/// Returns the major version of the PostgreSQL that is installed.
///
/// # Errors
/// [`Code::Unavailable`] with what to install.
pub fn installed_major_version() -> Result<String> {
    let programs = Programs::for_new_cluster(None)?;
    let mut postgres = programs.command("postgres");
    postgres.arg("--version");
    let output = run_program(postgres)
        .map_err(|e| Error::new(Code::Tool, format!("`postgres` cannot be started: {e}")))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let major = text.split(|c: char| !c.is_ascii_digit()).find(|part| !part.is_empty());
    major.map(Into::into).ok_or_else(|| Error::new(Code::Tool, "`postgres` does not say its version"))
}

/// Returns the folder of PostgreSQL's programs.
#[cfg(test)]
pub(crate) fn programs_folder() -> Result<PathBuf> {
    Ok(Programs::for_new_cluster(None)?.bin)
}

impl Drop for PlatformCluster {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            // Its own immediate shutdown takes its children along, which a kill would not.
            let pid = rustix::process::Pid::from_child(&server);
            rustix::process::kill_process(pid, rustix::process::Signal::QUIT).ok();
            drop(server.wait());
        }
    }
}

async fn query_rows(
    client: &tokio_postgres::Client,
    script: &str,
) -> Result<Vec<Map<String, Value>>, tokio_postgres::Error> {
    // A script of several statements has no types; its rows are texts.
    let prepared = client.prepare(script).await.ok();
    let types: Vec<Type> =
        prepared.iter().flat_map(|s| s.columns().iter().map(|c| c.type_().clone())).collect();
    let (mut rows, mut next) = (Vec::new(), Vec::new());
    for message in client.simple_query(script).await? {
        match message {
            SimpleQueryMessage::Row(row) => {
                let cell = |(at, column): (usize, &tokio_postgres::SimpleColumn)| {
                    (column.name().to_owned(), to_platform_value(row.get(at), types.get(at)))
                };
                next.push(row.columns().iter().enumerate().map(cell).collect());
            }
            SimpleQueryMessage::CommandComplete(_) => rows = std::mem::take(&mut next),
            _ => {}
        }
    }
    Ok(rows)
}

/// Converts a value as the platform's API does: safe numbers, booleans and JSON as such, all else as text.
fn to_platform_value(text: Option<&str>, column_type: Option<&Type>) -> Value {
    let Some(text) = text else { return Value::Null };
    let plain = || Value::String(text.to_owned());
    match column_type {
        Some(&(Type::INT2 | Type::INT4 | Type::INT8 | Type::OID)) => {
            let safe = text.parse::<i64>().ok().filter(|n| n.unsigned_abs() < 1 << 53);
            safe.map_or_else(plain, Value::from)
        }
        Some(&(Type::FLOAT4 | Type::FLOAT8)) => {
            text.parse().ok().and_then(Number::from_f64).map_or_else(plain, Value::Number)
        }
        Some(&Type::BOOL) => (text == "t").into(),
        Some(&(Type::JSON | Type::JSONB)) => serde_json::from_str(text).unwrap_or_else(|_| plain()),
        Some(&(Type::TEXT_ARRAY | Type::VARCHAR_ARRAY)) => {
            parse_text_array(text).map_or_else(plain, |items| items.into_iter().map(Value::String).collect())
        }
        _ => plain(),
    }
}

/// Reads a list of texts as PostgreSQL writes it: `{a,"b c"}`.
fn parse_text_array(text: &str) -> Option<Vec<String>> {
    let inner = text.strip_prefix('{')?.strip_suffix('}')?;
    let (mut items, mut item, mut quoted, mut escaped) = (Vec::new(), String::new(), false, false);
    for c in inner.chars() {
        match c {
            _ if escaped => {
                item.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => items.push(std::mem::take(&mut item)),
            _ => item.push(c),
        }
    }
    if !inner.is_empty() {
        items.push(item);
    }
    Some(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read() {
        assert_eq!(
            parse_text_array("{a,\"b, \\\"c\\\"\"}"),
            Some(vec!["a".to_owned(), "b, \"c\"".to_owned()])
        );
        assert_eq!(parse_text_array("{}"), Some(Vec::new()));
    }

    mod postgres {
        use super::*;
        use crate::testing;

        #[tokio::test]
        async fn it_lets_in_whoever_has_a_password_and_leaves_nothing() {
            if !testing::postgres_or_skip() {
                return;
            }
            let mut cluster = PlatformCluster::new().expect("a folder");
            cluster
                .replace_content(
                    "create table t (id bigint primary key, b boolean); insert into t values (1, true);",
                )
                .await
                .expect("filled");
            let login = cluster.grant_login(true, 60).await.expect("a role");
            let (program, host) = (cluster.programs.bin.join("psql"), cluster.socket_folder());
            let psql = |password: &str, sql: &str| {
                let mut command = std::process::Command::new(&program);
                command.env("PGPASSWORD", password).arg("-XAtc").arg(sql);
                command.args(["-U", &login.role, "-d", "postgres", "-h"]).arg(&host);
                command.output().expect("psql runs")
            };
            assert_eq!(
                psql(&login.password, "set role supabase_read_only_user; select id from t").stdout,
                b"SET\n1\n"
            );
            assert!(!psql(&login.password, "select id from t").status.success(), "it inherits nothing");
            assert!(!psql("wrong", "select 1").status.success(), "a password is asked for");
            let ran =
                cluster.run_script("select id, b, 1.5::numeric as n from t", true).await.expect("asked");
            assert_eq!(Value::from(ran.rows), serde_json::json!([{ "id": 1, "b": true, "n": "1.5" }]));
            let refused = cluster.run_script("delete from t", true).await.expect_err("only reads");
            assert!(refused.message.starts_with("ERROR:  25006"), "{}", refused.message);
            assert!(cluster.run_script("delete from t", false).await.expect("done").wrote);
            cluster.revoke_logins().await.expect("locked");
            assert!(!psql(&login.password, "select 1").status.success(), "locked out");
            let folder = cluster.folder.path().to_owned();
            drop(cluster);
            assert!(!folder.exists());
        }
    }
}
