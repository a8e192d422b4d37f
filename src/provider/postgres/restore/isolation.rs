//! Isolation of a copy: it reaches nothing outside its own folder.
//!
//! A copy of a cluster that is started carelessly archives into its source's archive, writes into its source's
//! tablespaces, and, when the source subscribes to somebody, takes rows from the publisher that the source will never
//! get. So a copy keeps nothing of its source's configuration: every file of it is written here.

use super::recovery;
use crate::provider::{
    Code, Error, Result,
    host::{disk, programs::Programs, record_file},
    postgres::{
        cluster::{control_file::ControlFile, server_log},
        engine, records,
    },
};
use std::{
    fmt::Write as _,
    fs, io,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Component, Path, PathBuf},
};

/// The settings of one isolated copy.
pub(super) struct IsolatedCopy<'a> {
    /// Its name in the process list.
    pub cluster_name: String,
    /// The folder of its socket.
    pub socket: &'a Path,
    /// The port, which only names the socket.
    pub port: u16,
    /// Where recovery stops.
    pub recovery: &'a records::RecoveryPlan,
    /// What its source's control file says.
    pub control: &'a ControlFile,
}

/// Rewrites the configuration of the copy in `files`, so that a server started on it recovers, and reaches nothing
/// but its own folder. Idempotent.
///
/// # Errors
/// [`Code::Refused`] for a tablespace that leads out of the copy; [`Code::Tool`].
pub(super) fn write_isolated_configuration(
    programs: &Programs,
    files: &Path,
    isolation: &IsolatedCopy<'_>,
) -> Result<()> {
    let data = files.join("data");
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).map_err(|e| write_error(&data, &e))?;
    relink_tablespaces_inside(files)?;
    for stale in ["postmaster.pid", "postmaster.opts", "standby.signal"] {
        record_file::remove_file(&data.join(stale))?;
    }
    let put = |name: &str, text: &str| {
        let path = data.join(name);
        crate::base::file::write_atomic(&path, text.as_bytes()).map_err(|e| write_error(&path, &e))?;
        programs.chown_to_owner(&path)
    };
    put("postgresql.auto.conf", "# Emptied by redrill: an isolated copy keeps no setting of its source.\n")?;
    // Only the owner can enter the socket's folder, and everybody who can enter may connect.
    put("pg_hba.conf", "local all all trust\n")?;
    put("pg_ident.conf", "")?;
    put("postgresql.conf", &render_settings(isolation))?;
    put("recovery.signal", "")?;
    disk::make_private_folder(programs, isolation.socket)
}

fn render_settings(isolation: &IsolatedCopy<'_>) -> String {
    let socket = isolation.socket.display().to_string();
    let port = isolation.port.to_string();
    let mut settings: Vec<(&str, String)> = vec![
        ("cluster_name", isolation.cluster_name.chars().take(60).collect()),
        ("listen_addresses", String::new()),
        ("port", port),
        ("unix_socket_directories", socket),
        ("unix_socket_permissions", "0700".into()),
        ("external_pid_file", String::new()),
        ("ssl", "off".into()),
        // Nothing of it gets into the source's archive or replication.
        ("archive_mode", "off".into()),
        ("primary_conninfo", String::new()),
        ("primary_slot_name", String::new()),
        ("max_logical_replication_workers", "0".into()),
        // Nothing starts by itself: job runners live in preloaded libraries.
        ("shared_preload_libraries", String::new()),
        ("session_preload_libraries", String::new()),
        ("local_preload_libraries", String::new()),
        ("cron.launch_active_jobs", "off".into()),
        ("hot_standby", "on".into()),
        ("wal_level", "replica".into()),
        ("shared_buffers", "128MB".into()),
        ("logging_collector", "off".into()),
        ("log_destination", "stderr".into()),
        ("log_line_prefix", server_log::LOG_PREFIX.into()),
        ("log_timezone", "UTC".into()),
        ("timezone", "UTC".into()),
        ("lc_messages", "C".into()),
        ("restore_command", engine::restore_command(&isolation.recovery.archive)),
    ];
    settings.extend(recovery::recovery_target_settings(isolation.recovery));
    settings.extend(isolation.control.minima.iter().map(|(name, value)| (name.as_str(), value.to_string())));
    let mut text = String::from("# Written by redrill for an isolated copy.\n");
    for (name, value) in settings {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{name} = '{}'", value.replace('\'', "''"));
    }
    text
}

/// Points every tablespace of a copy at the copy's own folder.
///
/// # Errors
/// [`Code::Refused`] where the copy has no folder of its own for one.
fn relink_tablespaces_inside(files: &Path) -> Result<()> {
    let links = files.join("data/pg_tblspc");
    let own = |oid: &Path| files.join("tablespaces").join(oid);
    for (oid, _) in list_tablespace_links(&files.join("data"))? {
        let to = own(&oid);
        if !to.is_dir() {
            return Err(unmapped_tablespace_error(&oid));
        }
        let beside = links.join("redrill.link");
        record_file::remove_file(&beside)?;
        symlink(&to, &beside)
            .and_then(|()| fs::rename(&beside, links.join(&oid)))
            .map_err(|e| write_error(&links, &e))?;
    }
    let map = files.join("data/tablespace_map");
    let Ok(text) = fs::read_to_string(&map) else { return Ok(()) };
    let rewritten = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(oid, _)| format!("{oid} {}\n", own(Path::new(oid)).display()));
    crate::base::file::write_atomic(&map, rewritten.collect::<String>().as_bytes())
        .map_err(|e| write_error(&map, &e))
}

/// Fails when a tablespace of the copy leads out of `files`, as one does whose creation was replayed.
///
/// # Errors
/// [`Code::Refused`] with the first that does; [`Code::Tool`].
pub(super) fn check_tablespace_links(files: &Path) -> Result<()> {
    let own = files.join("tablespaces");
    for (oid, to) in list_tablespace_links(&files.join("data"))? {
        if !to.starts_with(&own) || to.components().any(|part| part == Component::ParentDir) {
            return Err(unmapped_tablespace_error(&oid));
        }
    }
    Ok(())
}

/// Returns the number and the folder of every tablespace of `data` that is a link.
///
/// # Errors
/// [`Code::Tool`].
pub(super) fn list_tablespace_links(data: &Path) -> Result<Vec<(PathBuf, PathBuf)>> {
    let links = data.join("pg_tblspc");
    let entries = fs::read_dir(&links).map_err(|e| write_error(&links, &e))?.flatten();
    Ok(entries
        .filter_map(|entry| Some((PathBuf::from(entry.file_name()), fs::read_link(entry.path()).ok()?)))
        .collect())
}

/// Returns the error of a tablespace for which a copy has no folder of its own.
pub(super) fn unmapped_tablespace_error(oid: &Path) -> Error {
    Error::new(
        Code::Refused,
        format!(
            "tablespace {} lies outside the backup, and a copy would write into the source's",
            oid.display()
        ),
    )
    .with_hint("make a new backup: it takes every tablespace into its own folder")
}

fn write_error(path: &Path, why: &io::Error) -> Error {
    Error::new(Code::Tool, format!("`{}` cannot be written: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_out_of_a_copy_is_seen_and_never_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let (files, outside) = (folder.path().join("files"), folder.path().join("outside"));
        let own = files.join("tablespaces/7");
        for made in [&files.join("data/pg_tblspc"), &own, &outside] {
            fs::create_dir_all(made).expect("a folder");
        }
        fs::write(outside.join("rows"), "rows").expect("a file");
        symlink(&own, files.join("data/pg_tblspc/7")).expect("a link");
        check_tablespace_links(&files).expect("it is its own");
        for leads_out in [outside.clone(), files.join("tablespaces/../../outside")] {
            let link = files.join("data/pg_tblspc/8");
            symlink(leads_out, &link).expect("a link");
            assert_eq!(check_tablespace_links(&files).expect_err("leads out").code, Code::Refused);
            fs::remove_file(link).expect("goes");
        }
        symlink(&outside, files.join("data/pg_tblspc/8")).expect("a link");
        disk::remove_folder(&files).expect("goes");
        assert!(!files.exists() && outside.join("rows").exists());
    }
}
