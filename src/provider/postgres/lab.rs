//! The lab: a throw-away cluster with a small shop in it, to learn and to rehearse on something real.
//!
//! - Nothing of it is fixed: folder, socket and name belong to one state folder, so that many live side by side.
//! - Every part of `up` can be done again, so that an `up` that was killed is finished by the next one.
//! - `down` leaves no process and no file.

use super::{
    disk, process,
    records::{self, BranchRecord, Records},
    server,
    sql::{self, Address},
    tools::Tools,
};
use crate::{
    base::{
        clock::{Clock as _, Machine},
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
/// How long the server may take to let us in, in steps of [`STEP`].
const START_STEPS: u32 = 600;
/// The time between two looks.
const STEP: Span = Span::millis(50);
/// The tables of the shop and what is in them.
const SHOP: &str = include_str!("lab/shop.sql");

/// How the lab is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
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

/// Where a lab is: written down before it is made.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Place {
    folder: PathBuf,
}

impl Place {
    fn path(state: &Path) -> PathBuf {
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

    fn address(&self) -> Address {
        Address {
            host: self.socket().display().to_string(),
            port: PORT,
            user: "postgres".into(),
            database: "postgres".into(),
            password: None,
        }
    }
}

/// Makes the lab of a state folder and starts it; one that is up already is left as it is.
///
/// # Errors
/// [`Code::Unavailable`] with what to install; [`Code::Tool`] with the server's own words.
pub async fn up(state: &Path) -> Result<Status> {
    let tools = Tools::for_new_cluster(None)?;
    let place = place(state, &tools).await?;
    disk::make_private(&tools, &place.folder)?;
    for folder in [place.socket(), place.archive(), place.backups()] {
        disk::make_private(&tools, &folder)?;
    }
    make_cluster(&tools, &place).await?;
    start(&tools, &place).await?;
    fill(&place).await?;
    write_target(state, &place)?;
    status(state)
}

/// Stops the lab of a state folder and all its branches, and removes everything of them.
///
/// # Errors
/// What could not be stopped or removed.
pub async fn down(state: &Path) -> Result<Status> {
    records::remove(&config::lab_file(state))?;
    let records = Records::of_target(state, LAB);
    for branch in records.branches()? {
        remove_branch(&branch).await?;
        records.forget_branch(&branch.name)?;
    }
    disk::remove(records.home())?;
    if let Some(place) = records::read::<Place>(&Place::path(state))? {
        if let Some(starting) = process::started_with(place.data().as_os_str()) {
            starting.signal(rustix::process::Signal::QUIT);
        }
        server::stop(&Machine, &place.data(), server::Stop::Immediate).await?;
        end_children(&place.folder).await;
        // What `initdb` had started is not named after the folder, and works in it.
        server::stop(&Machine, &place.partial(), server::Stop::Immediate).await?;
        disk::remove(&place.folder)?;
        records::remove(&Place::path(state))?;
    }
    // Only when nothing of another target is in it.
    fs::remove_dir(state.join("postgres")).ok();
    status(state)
}

/// Returns how the lab of a state folder is.
///
/// # Errors
/// [`Code::Internal`] when what was written down about it cannot be read.
pub fn status(state: &Path) -> Result<Status> {
    let branches = Records::of_target(state, LAB).branches()?.into_iter().map(|branch| branch.name).collect();
    let Some(place) = records::read::<Place>(&Place::path(state))? else {
        return Ok(Status { status: "down", folder: None, host: None, port: None, branches });
    };
    let runs = server::running(&place.data()).is_some() && config::lab_file(state).is_file();
    Ok(Status {
        status: if runs { "up" } else { "stopped" },
        host: Some(place.socket()),
        port: Some(PORT),
        folder: Some(place.folder),
        branches,
    })
}

async fn place(state: &Path, tools: &Tools) -> Result<Place> {
    let path = Place::path(state);
    if let Some(place) = records::read(&path)? {
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
        elsewhere()?
    };
    let place = Place { folder };
    records::write(&path, &place)?;
    Ok(place)
}

/// Returns a folder that nobody has yet, where every user of the machine gets to.
fn elsewhere() -> Result<PathBuf> {
    let mut random = [0; 5];
    getrandom::fill(&mut random).map_err(|e| Error::new(Code::Internal, format!("no random number: {e}")))?;
    let name = data_encoding::BASE32_NOPAD.encode(&random).to_lowercase();
    Ok(Path::new("/var/tmp").join(format!("redrill-lab-{name}")))
}

async fn make_cluster(tools: &Tools, place: &Place) -> Result<()> {
    let data = place.data();
    if data.is_dir() {
        return Ok(());
    }
    let partial = place.partial();
    disk::remove(&partial)?;
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
        file::replace(&path, text.as_bytes())
            .map_err(|e| Error::new(Code::Tool, format!("`{}` cannot be written: {e}", path.display())))?;
        tools.hand_over(&path)
    };
    put("postgresql.conf", &settings(tools, place))?;
    // The socket's folder is private: only the cluster's own user and root get to it.
    put("pg_hba.conf", "local all all trust\nlocal replication all trust\n")?;
    fs::rename(&partial, &data)
        .map_err(|e| Error::new(Code::Tool, format!("`{}` cannot be made: {e}", data.display())))
}

fn settings(tools: &Tools, place: &Place) -> String {
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

async fn start(tools: &Tools, place: &Place) -> Result<()> {
    let (data, log) = (place.data(), place.folder.join("server.log"));
    for step in 0..START_STEPS {
        if server::running(&data).is_some() {
            if place.address().connect().await.is_ok() {
                return Ok(());
            }
        } else if process::started_with(data.as_os_str()).is_none() {
            if step > 0 {
                break;
            }
            server::start(tools, &data, &[], &log)?;
        }
        Machine.sleep(STEP).await;
    }
    let said = fs::read(&log).unwrap_or_default();
    Err(Error::new(Code::Tool, format!("the lab's server did not start: {}", super::tools::tail(&said)))
        .hint("run `redrill lab down`, then `redrill lab up`")
        .leaving(place.folder.display().to_string()))
}

/// Makes the shop, all of it or nothing, unless it is there.
async fn fill(place: &Place) -> Result<()> {
    let client = place.address().connect().await?;
    if sql::text(&client, "select to_regclass('public.orders')").await?.is_some() {
        return Ok(());
    }
    client.batch_execute(SHOP).await.map_err(|e| sql::refused(&e, SHOP))
}

/// Leaves the entry by which the configuration finds the lab.
fn write_target(state: &Path, place: &Place) -> Result<()> {
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
    file::replace(&path, text.as_bytes())
        .map_err(|e| Error::new(Code::Tool, format!("`{}` cannot be written: {e}", path.display())))
}

/// Removes a branch of a lab that goes away as a whole.
async fn remove_branch(branch: &BranchRecord) -> Result<()> {
    end_children(&branch.folder).await;
    server::stop(&Machine, &branch.data(), server::Stop::Immediate).await?;
    disk::remove(&branch.folder)?;
    disk::remove(&branch.socket)
}

/// Ends every process that was started for something in `folder`, and returns when none is left.
async fn end_children(folder: &Path) {
    while let Some(child) = process::started_below(folder) {
        child.signal_group(rustix::process::Signal::KILL);
        child.signal(rustix::process::Signal::KILL);
        Machine.sleep(STEP).await;
    }
}
