//! The lab: a throw-away cluster with a small shop database, for practice on a real server.
//!
//! - Nothing of it is fixed: folder, socket and name belong to one state folder, so that many live side by side.
//! - Every part of `up` can be done again, so that an `up` that was killed is finished by the next one.
//! - `down` leaves no process and no file.

use super::{
    disk, process,
    records::{self, BranchRecord, TargetRecords},
    server,
    sql::{self, DatabaseAddress},
    tools::Programs,
};
use crate::{
    base::{
        clock::{Clock as _, SystemClock},
        file,
        moment::Span,
    },
    config::{self, LAB},
    provider::{Code, Error, Result},
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
/// The time between two looks.
const POLL_INTERVAL: Span = Span::from_millis(50);
/// The tables of the shop and what is in them.
const SHOP_SQL: &str = include_str!("lab/shop.sql");

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

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Where the data is while it is being made.
    fn partial(&self) -> PathBuf {
        self.folder.join("data.partial")
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("socket")
    }

    fn archive(&self) -> PathBuf {
        self.folder.join("archive")
    }

    fn backups(&self) -> PathBuf {
        self.folder.join("backups")
    }

    fn address(&self) -> DatabaseAddress {
        DatabaseAddress {
            host: self.socket().display().to_string(),
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
    let tools = Programs::for_new_cluster(None)?;
    let place = load_or_choose_location(state, &tools).await?;
    disk::make_private_folder(&tools, &place.folder)?;
    for folder in [place.socket(), place.archive(), place.backups()] {
        disk::make_private_folder(&tools, &folder)?;
    }
    make_cluster(&tools, &place).await?;
    start_server(&tools, &place).await?;
    populate_shop(&place).await?;
    write_target(state, &place)?;
    lab_status(state)
}

/// Stops the lab of a state folder and all its branches, and removes everything of them.
///
/// # Errors
/// What could not be stopped or removed.
pub async fn remove_lab(state: &Path) -> Result<LabStatus> {
    records::remove_file(&config::lab_file(state))?;
    let records = TargetRecords::for_target(state, LAB);
    for branch in records.list_branches()? {
        remove_branch(&branch).await?;
        records.forget_branch(&branch.name)?;
    }
    disk::remove_folder(records.home())?;
    if let Some(place) = records::read_record::<LabLocation>(&LabLocation::record_path(state))? {
        if let Some(starting) = process::find_started_with(place.data().as_os_str()) {
            starting.signal(rustix::process::Signal::QUIT);
        }
        server::stop_server(&SystemClock, &place.data(), server::ShutdownMode::Immediate).await?;
        kill_children(&place.folder).await;
        // What `initdb` had started is not named after the folder, and works in it.
        server::stop_server(&SystemClock, &place.partial(), server::ShutdownMode::Immediate).await?;
        disk::remove_folder(&place.folder)?;
        records::remove_file(&LabLocation::record_path(state))?;
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
    let Some(place) = records::read_record::<LabLocation>(&LabLocation::record_path(state))? else {
        return Ok(LabStatus { status: "down", folder: None, host: None, port: None, branches });
    };
    let runs = server::find_server(&place.data()).is_some() && config::lab_file(state).is_file();
    Ok(LabStatus {
        status: if runs { "up" } else { "stopped" },
        host: Some(place.socket()),
        port: Some(PORT),
        folder: Some(place.folder),
        branches,
    })
}

async fn load_or_choose_location(state: &Path, tools: &Programs) -> Result<LabLocation> {
    let path = LabLocation::record_path(state);
    if let Some(place) = records::read_record(&path)? {
        return Ok(place);
    }
    let failed =
        |e: std::io::Error| Error::new(Code::Tool, format!("`{}` cannot be made: {e}", state.display()));
    fs::create_dir_all(state).map_err(failed)?;
    let state = fs::canonicalize(state).map_err(failed)?;
    let own = state.join("lab");
    let folder = if disk::fits_socket(&own.join("socket")) && disk::is_reachable(tools, &state).await {
        own
    } else {
        random_lab_folder()?
    };
    let place = LabLocation { folder };
    records::write_record(&path, &place)?;
    Ok(place)
}

/// Returns a new folder name below `/var/tmp`, which every OS user can reach.
fn random_lab_folder() -> Result<PathBuf> {
    let mut random = [0; 5];
    getrandom::fill(&mut random).map_err(|e| Error::new(Code::Internal, format!("no random number: {e}")))?;
    let name = data_encoding::BASE32_NOPAD.encode(&random).to_lowercase();
    Ok(Path::new("/var/tmp").join(format!("redrill-lab-{name}")))
}

async fn make_cluster(tools: &Programs, place: &LabLocation) -> Result<()> {
    let data = place.data();
    if data.is_dir() {
        return Ok(());
    }
    let partial = place.partial();
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
    tools.run("initdb", &args).await?;
    let put = |name: &str, text: &str| {
        let path = partial.join(name);
        file::write_atomic(&path, text.as_bytes())
            .map_err(|e| Error::new(Code::Tool, format!("`{}` cannot be written: {e}", path.display())))?;
        tools.chown_to_owner(&path)
    };
    put("postgresql.conf", &render_settings(tools, place))?;
    // The socket's folder is private: only the cluster's own user and root get to it.
    put("pg_hba.conf", "local all all trust\nlocal replication all trust\n")?;
    fs::rename(&partial, &data)
        .map_err(|e| Error::new(Code::Tool, format!("`{}` cannot be made: {e}", data.display())))
}

fn render_settings(tools: &Programs, place: &LabLocation) -> String {
    let archive = place.archive().display().to_string().replace('\'', "''");
    let (library, command) = if tools.has_library("basic_archive") {
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
        place.socket().display().to_string().replace('\'', "''"),
        server::LOG_PREFIX,
    )
}

async fn start_server(tools: &Programs, place: &LabLocation) -> Result<()> {
    let (data, log) = (place.data(), place.folder.join("server.log"));
    for step in 0..START_POLLS_MAX {
        if server::find_server(&data).is_some() {
            if place.address().connect().await.is_ok() {
                return Ok(());
            }
        } else if process::find_started_with(data.as_os_str()).is_none() {
            if step > 0 {
                break;
            }
            server::start_server(tools, &data, &[], &log)?;
        }
        SystemClock.sleep(POLL_INTERVAL).await;
    }
    let said = fs::read(&log).unwrap_or_default();
    Err(Error::new(
        Code::Tool,
        format!("the lab's server did not start: {}", super::tools::tail_output(&said)),
    )
    .with_hint("run `redrill lab down`, then `redrill lab up`")
    .with_left_behind(place.folder.display().to_string()))
}

/// Makes the shop, all of it or nothing, unless it is there.
async fn populate_shop(place: &LabLocation) -> Result<()> {
    let client = place.address().connect().await?;
    if sql::fetch_text(&client, "select to_regclass('public.orders')").await?.is_some() {
        return Ok(());
    }
    client.batch_execute(SHOP_SQL).await.map_err(|e| sql::statement_error(&e, SHOP_SQL))
}

/// Writes the configuration entry of the target `lab`.
fn write_target(state: &Path, place: &LabLocation) -> Result<()> {
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
    let address = place.address();
    let entry = Entry {
        provider: "postgres",
        data_dir: place.data(),
        host: place.socket(),
        port: PORT,
        user: address.user,
        database: address.database,
        backup_dir: place.backups(),
        archive_dir: place.archive(),
    };
    let path = config::lab_file(state);
    let text =
        toml::to_string(&entry).map_err(|e| Error::new(Code::Internal, format!("the lab's entry: {e}")))?;
    file::write_atomic(&path, text.as_bytes())
        .map_err(|e| Error::new(Code::Tool, format!("`{}` cannot be written: {e}", path.display())))
}

/// Removes a branch of a lab that goes away as a whole.
async fn remove_branch(branch: &BranchRecord) -> Result<()> {
    kill_children(&branch.folder).await;
    server::stop_server(&SystemClock, &branch.data_folder(), server::ShutdownMode::Immediate).await?;
    disk::remove_folder(&branch.folder)?;
    disk::remove_folder(&branch.socket)
}

/// Ends every process that was started for something in `folder`, and returns when none is left.
async fn kill_children(folder: &Path) {
    while let Some(child) = process::find_started_below(folder) {
        child.signal_group(rustix::process::Signal::KILL);
        child.signal(rustix::process::Signal::KILL);
        SystemClock.sleep(POLL_INTERVAL).await;
    }
}
