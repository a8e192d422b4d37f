//! The lab: a throw-away cluster with a small shop database, for practice on a real server.
//!
//! - Nothing of it is fixed: folder, socket and name belong to one state folder, so that many live side by side.
//! - Every part of `up` can be done again, so that an `up` that was killed is finished by the next one.
//! - `down` leaves no process and no file.

use super::{
    cluster::{server, server_log},
    loaded_files::is_loaded_sql,
    records::{BranchRecord, TargetRecords},
    sql::{self, DatabaseAddress},
};
use crate::{
    base::{
        clock::{Clock as _, SystemClock},
        file,
        moment::Span,
    },
    config::{self, LAB},
    provider::{
        Code, Error, Result,
        host::{disk, process, programs::Programs, record_file},
    },
};
use serde::{Deserialize, Serialize};
use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

/// The port, which only names the socket.
const PORT: u16 = 5432;
/// How often the server is polled before its start counts as failed.
const START_POLLS_MAX: u32 = 600;
/// The time between two polls.
const POLL_INTERVAL: Span = Span::from_millis(50);
/// How often, and how far apart, the server is made to read its files again until it is certain that it has: a few seconds.
const RELOAD_POLLS_MAX: u32 = 100;
const RELOAD_POLL_INTERVAL: Span = Span::from_millis(100);
/// The tables of the shop and what is in them.
const SHOP_SQL: &str = include_str!("shop.sql");

/// The state of the lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LabStatus {
    /// `up`, `stopped` or `down`.
    pub status: &'static str,
    /// The folder that everything of it is in.
    pub folder: Option<PathBuf>,
    /// The folder of its socket.
    pub host: Option<PathBuf>,
    /// The port, which only names the socket.
    pub port: Option<u16>,
    /// The branches it has.
    pub branches: Vec<String>,
}

/// The place of a lab, saved before anything of it is created.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct LabLocation {
    folder: PathBuf,
}

impl LabLocation {
    fn record_path(state: &Path) -> PathBuf {
        state.join("lab.json")
    }

    fn data_folder(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn server_log_path(&self) -> PathBuf {
        self.folder.join("server.log")
    }

    /// Where the data is while it is being made.
    fn unfinished_data_folder(&self) -> PathBuf {
        self.folder.join("data.partial")
    }

    fn socket_folder(&self) -> PathBuf {
        self.folder.join("socket")
    }

    fn archive_folder(&self) -> PathBuf {
        self.folder.join("archive")
    }

    fn backups_folder(&self) -> PathBuf {
        self.folder.join("backups")
    }

    fn address(&self) -> DatabaseAddress {
        DatabaseAddress {
            host: self.socket_folder().display().to_string(),
            port: PORT,
            user: "postgres".into(),
            database: "postgres".into(),
            password: None,
        }
    }
}

/// Returns an error where no cluster can be made here.
///
/// # Errors
/// [`Code::Unavailable`] with what to install.
pub fn check_installed() -> Result<()> {
    Programs::for_new_cluster(None).map(drop)
}

/// Makes the lab of a state folder and starts it; one that is up already is left as it is.
///
/// # Errors
/// [`Code::Unavailable`] with what to install; [`Code::Tool`] with the server's own words.
pub async fn start_lab(state: &Path) -> Result<LabStatus> {
    let programs = Programs::for_new_cluster(None)?;
    let location = load_or_choose_location(state, &programs).await?;
    disk::make_private_folder(&programs, &location.folder)?;
    for folder in [location.socket_folder(), location.archive_folder(), location.backups_folder()] {
        disk::make_private_folder(&programs, &folder)?;
    }
    make_cluster(&programs, &location).await?;
    start_server(&programs, &location).await?;
    populate_shop_if_missing(&location).await?;
    reload_until_files_are_applied(&location).await?;
    write_target_entry(state, &location)?;
    lab_status(state)
}

/// Stops the lab of a state folder and all its branches, and removes everything of them.
///
/// # Errors
/// What could not be stopped or removed.
pub async fn remove_lab(state: &Path) -> Result<LabStatus> {
    record_file::remove_file(&config::lab_target_path(state))?;
    let records = TargetRecords::for_target(state, LAB);
    for branch in records.list_branches()? {
        remove_branch(&branch).await?;
        records.remove_branch_record(&branch.name)?;
    }
    disk::remove_folder(records.target_folder())?;
    if let Some(location) = record_file::read_record::<LabLocation>(&LabLocation::record_path(state))? {
        server::stop_server_at_once(&SystemClock, &location.data_folder(), &location.server_log_path())
            .await?;
        kill_processes_below_and_wait(&location.folder).await;
        // What `initdb` had started is not named after the folder, and works in it.
        server::stop_server(
            &SystemClock,
            &location.unfinished_data_folder(),
            server::ShutdownMode::Immediate,
        )
        .await?;
        disk::remove_folder(&location.folder)?;
        record_file::remove_file(&LabLocation::record_path(state))?;
    }
    // Only when nothing of another target is in it.
    fs::remove_dir(state.join("postgres")).ok();
    lab_status(state)
}

/// Returns how the lab of a state folder is.
///
/// # Errors
/// [`Code::Internal`] when what was written down about it cannot be read.
pub fn lab_status(state: &Path) -> Result<LabStatus> {
    let branches = TargetRecords::for_target(state, LAB)
        .list_branches()?
        .into_iter()
        .map(|branch| branch.name)
        .collect();
    let Some(location) = record_file::read_record::<LabLocation>(&LabLocation::record_path(state))? else {
        return Ok(LabStatus { status: "down", folder: None, host: None, port: None, branches });
    };
    let runs =
        server::find_server(&location.data_folder()).is_some() && config::lab_target_path(state).is_file();
    Ok(LabStatus {
        status: if runs { "up" } else { "stopped" },
        host: Some(location.socket_folder()),
        port: Some(PORT),
        folder: Some(location.folder),
        branches,
    })
}

async fn load_or_choose_location(state: &Path, programs: &Programs) -> Result<LabLocation> {
    let path = LabLocation::record_path(state);
    if let Some(location) = record_file::read_record(&path)? {
        return Ok(location);
    }
    let failed =
        |e: std::io::Error| Error::new(Code::Tool, format!("`{}` cannot be made: {e}", state.display()));
    fs::create_dir_all(state).map_err(failed)?;
    let state = fs::canonicalize(state).map_err(failed)?;
    let own = state.join("lab");
    let folder =
        if server::fits_socket(&own.join("socket")) && disk::can_os_user_enter(programs, &state).await {
            own
        } else {
            random_lab_folder()?
        };
    let location = LabLocation { folder };
    record_file::write_record(&path, &location)?;
    Ok(location)
}

/// Returns a new folder name below `/var/tmp`, which every OS user can reach.
fn random_lab_folder() -> Result<PathBuf> {
    let mut random = [0; 5];
    getrandom::fill(&mut random).map_err(|e| Error::new(Code::Internal, format!("no random number: {e}")))?;
    let name = data_encoding::BASE32_NOPAD.encode(&random).to_lowercase();
    Ok(Path::new("/var/tmp").join(format!("redrill-lab-{name}")))
}

async fn make_cluster(programs: &Programs, location: &LabLocation) -> Result<()> {
    let data = location.data_folder();
    if data.is_dir() {
        return Ok(());
    }
    let partial = location.unfinished_data_folder();
    disk::remove_folder(&partial)?;
    let fixed = [
        "--no-sync",
        "--auth=trust",
        "--username=postgres",
        "--encoding=UTF8",
        "--locale=C.UTF-8",
        "-k",
        "-D",
    ];
    let mut args: Vec<&OsStr> = fixed.iter().map(OsStr::new).collect();
    args.push(partial.as_os_str());
    programs.run("initdb", &args).await?;
    let put = |name: &str, text: &str| {
        let path = partial.join(name);
        file::write_atomic(&path, text.as_bytes())
            .map_err(|e| Error::new(Code::Tool, format!("`{}` cannot be written: {e}", path.display())))?;
        programs.chown_to_owner(&path)
    };
    put("postgresql.conf", &render_settings(programs, location))?;
    // The socket's folder is private: only the cluster's own user and root get to it.
    put("pg_hba.conf", "local all all trust\nlocal replication all trust\n")?;
    fs::rename(&partial, &data)
        .map_err(|e| Error::new(Code::Tool, format!("`{}` cannot be made: {e}", data.display())))
}

fn render_settings(programs: &Programs, location: &LabLocation) -> String {
    let archive = location.archive_folder().display().to_string().replace('\'', "''");
    let (library, command) = if programs.has_library("basic_archive") {
        ("archive_library = 'basic_archive'", format!("basic_archive.archive_directory = '{archive}'"))
    } else {
        ("", format!("archive_command = 'test ! -f {archive}/%f && cp %p {archive}/%f'"))
    };
    format!(
        "# Written by redrill for its lab.\n\
         listen_addresses = ''\n\
         port = {PORT}\n\
         unix_socket_directories = '{}'\n\
         unix_socket_permissions = 0700\n\
         cluster_name = 'redrill lab'\n\
         wal_level = replica\n\
         archive_mode = on\n\
         {library}\n\
         {command}\n\
         archive_timeout = 60\n\
         shared_buffers = 32MB\n\
         max_connections = 40\n\
         min_wal_size = 32MB\n\
         max_wal_size = 128MB\n\
         password_encryption = 'scram-sha-256'\n\
         log_line_prefix = '{}'\n\
         log_timezone = 'UTC'\n\
         timezone = 'UTC'\n\
         lc_messages = 'C'\n",
        location.socket_folder().display().to_string().replace('\'', "''"),
        server_log::LOG_PREFIX,
    )
}

async fn start_server(programs: &Programs, location: &LabLocation) -> Result<()> {
    let (data, log) = (location.data_folder(), location.server_log_path());
    for step in 0..START_POLLS_MAX {
        if server::find_server(&data).is_some() {
            if location.address().connect().await.is_ok() {
                return Ok(());
            }
        } else if process::find_program_started_with(data.as_os_str()).is_none() {
            if step > 0 {
                break;
            }
            server::start_server(programs, &data, &[], &log)?;
        }
        SystemClock.sleep(POLL_INTERVAL).await;
    }
    let said = fs::read(&log).unwrap_or_default();
    Err(Error::new(
        Code::Tool,
        format!("the lab's server did not start: {}", crate::provider::host::programs::tail_output(&said)),
    )
    .with_hint("run `redrill lab down`, then `redrill lab up`")
    .with_left_behind(location.folder.display().to_string()))
}

/// Makes the shop, all of it or nothing, unless it is there.
async fn populate_shop_if_missing(location: &LabLocation) -> Result<()> {
    let client = location.address().connect().await?;
    if sql::fetch_text(&client, "select to_regclass('public.orders')").await?.is_some() {
        return Ok(());
    }
    client.batch_execute(SHOP_SQL).await.map_err(|e| sql::statement_error(&e, SHOP_SQL))
}

/// Makes the server read its files again until it is certain that it has: they were written just before it started, and a file's
/// times have whole seconds, so that its settings and rules would be shown as not applied.
async fn reload_until_files_are_applied(location: &LabLocation) -> Result<()> {
    let applied = format!(
        "select bool_and({}) from (values (current_setting('config_file')), (current_setting('hba_file')), \
         ('postgresql.auto.conf')) file(name), pg_stat_file(file.name) f",
        is_loaded_sql("f")
    );
    for _ in 0..RELOAD_POLLS_MAX {
        // A session begins with the load time of the server: a new one shows the change.
        let client = location.address().connect().await?;
        if sql::fetch_text(&client, &applied).await?.as_deref() == Some("t") {
            return Ok(());
        }
        sql::fetch_text(&client, "select pg_reload_conf()").await?;
        SystemClock.sleep(RELOAD_POLL_INTERVAL).await;
    }
    Err(Error::new(Code::Tool, "the lab's server did not read its files again"))
}

/// Writes the configuration entry of the target `lab`.
fn write_target_entry(state: &Path, location: &LabLocation) -> Result<()> {
    #[derive(Serialize)]
    struct Entry {
        provider: &'static str,
        data_dir: PathBuf,
        host: PathBuf,
        port: u16,
        user: String,
        database: String,
        backup_dir: PathBuf,
        archive_dir: PathBuf,
    }
    let address = location.address();
    let entry = Entry {
        provider: "postgres",
        data_dir: location.data_folder(),
        host: location.socket_folder(),
        port: PORT,
        user: address.user,
        database: address.database,
        backup_dir: location.backups_folder(),
        archive_dir: location.archive_folder(),
    };
    let path = config::lab_target_path(state);
    let text =
        toml::to_string(&entry).map_err(|e| Error::new(Code::Internal, format!("the lab's entry: {e}")))?;
    file::write_atomic(&path, text.as_bytes())
        .map_err(|e| Error::new(Code::Tool, format!("`{}` cannot be written: {e}", path.display())))
}

/// Removes a branch of a lab that goes away as a whole.
async fn remove_branch(branch: &BranchRecord) -> Result<()> {
    kill_processes_below_and_wait(&branch.copy.folder).await;
    server::stop_server(&SystemClock, &branch.copy.data_folder(), server::ShutdownMode::Immediate).await?;
    disk::remove_folder(&branch.copy.folder)?;
    disk::remove_folder(&branch.copy.socket)
}

/// Ends every process that was started for something in `folder`, and returns when none is left.
async fn kill_processes_below_and_wait(folder: &Path) {
    while let Some(child) = process::find_program_started_below(folder) {
        child.signal_group(rustix::process::Signal::KILL);
        child.signal(rustix::process::Signal::KILL);
        SystemClock.sleep(POLL_INTERVAL).await;
    }
}
