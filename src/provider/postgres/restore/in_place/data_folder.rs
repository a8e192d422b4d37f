//! The data folder that a restore replaces: whether it may be replaced, and how its server was last started.

use super::{lock, refusal::not_in_place_error, running_server::RunningServer};
use crate::provider::{
    Code, Error, Result,
    host::programs::{self, Programs},
    postgres::{
        cluster::{Cluster, server},
        restore::isolation,
    },
};
use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// A data folder that can be replaced in place.
pub(super) struct DataFolder {
    /// The folder, links followed.
    pub data: PathBuf,
    /// What its server is started with, besides the folder.
    pub options: Vec<String>,
    /// Where its server writes what it does not log elsewhere.
    pub log: PathBuf,
    /// What its server reported, if it runs.
    pub running: Option<RunningServer>,
}

impl DataFolder {
    /// Returns the data folder of a cluster if it can be replaced in place.
    ///
    /// # Errors
    /// Why not.
    pub(super) async fn load_replaceable(cluster: &Cluster) -> Result<Self> {
        let programs = cluster.programs()?;
        let unreadable = |e: std::io::Error| {
            Error::new(Code::Unavailable, format!("`{}` cannot be looked at: {e}", cluster.data.display()))
        };
        let data = fs::canonicalize(&cluster.data).map_err(unreadable)?;
        lock::check_unlocked_and_clear_stale(cluster, &data)?;
        let parent = data.parent().unwrap_or(Path::new("/"));
        let (own, above) =
            (fs::metadata(&data).map_err(unreadable)?, fs::metadata(parent).map_err(unreadable)?);
        if own.dev() != above.dev() {
            return Err(not_in_place_error(&data, "it is a disk of its own, and cannot be moved aside"));
        }
        if rustix::fs::access(parent, rustix::fs::Access::WRITE_OK).is_err() {
            return Err(not_in_place_error(
                &data,
                &format!("nothing can be written to `{}`", parent.display()),
            ));
        }
        if fs::symlink_metadata(data.join("pg_wal")).is_ok_and(|found| found.is_symlink()) {
            return Err(not_in_place_error(
                &data,
                "its WAL lies in another folder, which a copy would not use",
            ));
        }
        if !isolation::list_tablespace_links(&data)?.is_empty() {
            return Err(not_in_place_error(
                &data,
                "it has tablespaces outside its folder, which would have to be exchanged too",
            ));
        }
        if let Some(service) =
            server::find_server(&data).and_then(|server| find_other_systemd_service(server.pid))
        {
            return Err(not_in_place_error(&data, &format!("its server is run by `{service}`")).with_hint(format!(
                "stop it yourself with `systemctl stop {service}`, restore, and start it again; or restore into a branch"
            )));
        }
        let running = RunningServer::query_server(cluster, &data).await?;
        let options = find_start_options(&programs, &data, running.as_ref()).await?;
        let log = server::find_stderr_file(&data)
            .unwrap_or_else(|| cluster.records.target_folder().join("server.log"));
        Ok(Self { data, options, log, running })
    }
}

/// Returns the systemd service of a process, unless we run in the same service.
fn find_other_systemd_service(pid: i32) -> Option<String> {
    let of = |pid: &str| {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        text.trim_end().rsplit('/').next().filter(|unit| unit.ends_with(".service")).map(str::to_owned)
    };
    of(&pid.to_string()).filter(|service| of("self").as_ref() != Some(service))
}

/// Returns the options of the last start, without the data folder, after checking that a server started with
/// them uses this data and the same configuration.
pub(super) async fn find_start_options(
    programs: &Programs,
    data: &Path,
    running: Option<&RunningServer>,
) -> Result<Vec<String>> {
    let written = fs::read_to_string(data.join("postmaster.opts")).unwrap_or_default();
    let StartCommand { folder, mut options } = StartCommand::parse_line(&written);
    // A relative path refers to the folder where the server was started, which only the server knows.
    let configuration = folder.map(PathBuf::from).filter(|folder| folder.is_absolute()).or_else(|| {
        let own = options.iter().any(|option| option.contains("config_file"));
        running.filter(|_| !own).and_then(|running| running.config_file.parent().map(Path::to_path_buf))
    });
    if let Some(folder) = configuration.filter(|folder| !is_same_path(folder, data)) {
        // The server uses its last `-D`; its processes are found by the first, the data folder.
        options.splice(0..0, ["-D".to_owned(), folder.display().to_string()]);
    }
    let found = query_setting(programs, data, &options, "data_directory").await?;
    if !is_same_path(&found, data) {
        let why = format!("started as it was last, its server would use `{}`", found.display());
        return Err(not_in_place_error(data, &why));
    }
    if let Some(running) = running {
        let found = query_setting(programs, data, &options, "config_file").await?;
        if !is_same_path(&found, &running.config_file) {
            let why = format!(
                "its server uses `{}`, and started as it was last it would use `{}`",
                running.config_file.display(),
                found.display()
            );
            return Err(not_in_place_error(data, &why));
        }
    }
    Ok(options)
}

/// Asks the `postgres` program which value a setting would have.
async fn query_setting(programs: &Programs, data: &Path, options: &[String], name: &str) -> Result<PathBuf> {
    let mut args = vec![OsStr::new("-D"), data.as_os_str()];
    args.extend(options.iter().map(OsStr::new));
    args.extend(["-C", name].map(OsStr::new));
    let output = programs.run_with_any_exit("postgres", &args).await?;
    if !output.status.success() {
        let said = programs::tail_output(&output.stderr);
        return Err(not_in_place_error(
            data,
            &format!("its server cannot be started as it was last: {said}"),
        ));
    }
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

fn is_same_path(one: &Path, other: &Path) -> bool {
    match (fs::canonicalize(one), fs::canonicalize(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}

/// The command line in `postmaster.opts`.
#[derive(Debug, PartialEq, Eq)]
struct StartCommand {
    /// The last `-D`: where the configuration is, which need not be where the data is.
    folder: Option<String>,
    options: Vec<String>,
}

impl StartCommand {
    fn parse_line(line: &str) -> Self {
        let mut words =
            line.trim_end().split(" \"").skip(1).map(|word| word.trim_end_matches('"').to_owned());
        let mut started = Self { folder: None, options: Vec::new() };
        while let Some(word) = words.next() {
            match word.strip_prefix("-D") {
                Some("") => started.folder = words.next(),
                Some(folder) => started.folder = Some(folder.to_owned()),
                None => started.options.push(word),
            }
        }
        started
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_of_the_last_start_are_kept() {
        let line = "/usr/lib/postgresql/15/bin/postgres \"-D\" \"/var/lib/pg data\" \"-c\" \"config_file=/etc/a b.conf\"\n";
        let started = StartCommand::parse_line(line);
        assert_eq!(started.options, ["-c", "config_file=/etc/a b.conf"]);
        assert_eq!(started.folder.as_deref(), Some("/var/lib/pg data"));
        let debian = StartCommand::parse_line("postgres \"-D\" \"/data\" \"-D/etc/dir\" \"-p\" \"5544\"\n");
        assert_eq!(
            debian,
            StartCommand { folder: Some("/etc/dir".into()), options: vec!["-p".into(), "5544".into()] }
        );
    }
}
