//! Exchanges the two data folders of a restore in place, and starts the new one privately for recovery.
//!
//! The folders show the state at any time: `aside` exists exactly while the data folder is not the old one.

use super::server_owner;
use crate::provider::{
    Code, Error, Result,
    host::{disk, programs::Programs, record_file},
    postgres::{
        cluster::{control_file::ControlFile, server_log},
        engine, records,
        restore::recovery,
    },
};
use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

/// The port of the private recovery, which only names its socket.
pub(super) const PRIVATE_PORT: u16 = 5432;
/// The suffixes of configuration files in a data folder.
const CONFIGURATION_SUFFIXES: [&str; 6] = [".conf", ".crt", ".key", ".pem", ".crl", ".csr"];

/// Copies the current configuration from the data folder into the copy, including the files that the server
/// `named`, and adds the signal file that starts recovery.
///
/// # Errors
/// [`Code::Tool`].
pub(super) fn carry_over_configuration(
    programs: &Programs,
    data: &Path,
    new: &Path,
    named: &[PathBuf],
) -> Result<()> {
    let failed = |path: &Path, e: &io::Error| {
        Error::new(Code::Tool, format!("`{}` cannot be copied: {e}", path.display()))
    };
    fs::set_permissions(new, fs::Permissions::from_mode(0o700)).map_err(|e| failed(new, &e))?;
    for entry in fs::read_dir(data).map_err(|e| failed(data, &e))?.flatten() {
        let name = entry.file_name();
        let is_configuration = CONFIGURATION_SUFFIXES.iter().any(|end| name.to_string_lossy().ends_with(end));
        if is_configuration && entry.path().is_file() {
            let to = new.join(&name);
            fs::copy(entry.path(), &to).map_err(|e| failed(&to, &e))?;
            programs.chown_to_owner(&to)?;
        }
    }
    for file in named.iter().filter(|file| data.join(file).is_file()) {
        let folder = file.parent().unwrap_or(Path::new(""));
        recreate_configuration_folder(programs, data, new, folder)?;
        let to = new.join(file);
        fs::copy(data.join(file), &to).map_err(|e| failed(&to, &e))?;
        programs.chown_to_owner(&to)?;
    }
    for stale in ["postmaster.pid", "postmaster.opts", "standby.signal"] {
        record_file::remove_file(&new.join(stale))?;
    }
    write_owned_file(programs, &new.join("recovery.signal"), "")
}

/// Creates a configuration folder in the copy, without the `.conf` files that the data no longer has.
fn recreate_configuration_folder(programs: &Programs, data: &Path, new: &Path, folder: &Path) -> Result<()> {
    if folder.as_os_str().is_empty() {
        return Ok(());
    }
    recreate_configuration_folder(programs, data, new, folder.parent().unwrap_or(Path::new("")))?;
    disk::make_private_folder(programs, &new.join(folder))?;
    for entry in fs::read_dir(new.join(folder)).into_iter().flatten().flatten() {
        let is_gone = !data.join(folder).join(entry.file_name()).exists();
        if is_gone && entry.path().extension().is_some_and(|end| end == "conf") {
            record_file::remove_file(&entry.path())?;
        }
    }
    Ok(())
}

/// Moves the old data aside and the new data to its place.
///
/// # Errors
/// [`Code::Tool`].
pub(super) fn move_new_data_in(data: &Path, aside: &Path, new: &Path) -> Result<()> {
    if !aside.exists() {
        rename_and_sync(data, aside)?;
    }
    if !data.exists() {
        rename_and_sync(new, data)?;
    }
    Ok(())
}

/// Moves the new data out of the way and the old data back.
///
/// # Errors
/// [`Code::Tool`].
pub(super) fn move_old_data_back(data: &Path, aside: &Path, new: &Path) -> Result<()> {
    if aside.exists() {
        if data.exists() {
            rename_and_sync(data, new)?;
        }
        rename_and_sync(aside, data)?;
    }
    Ok(())
}

fn rename_and_sync(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|e| {
        Error::new(Code::Tool, format!("`{}` cannot be moved to `{}`: {e}", from.display(), to.display()))
    })?;
    let folder = to.parent().unwrap_or(Path::new("/"));
    crate::base::file::sync_folder(folder)
        .map_err(|e| Error::new(Code::Tool, format!("`{}` cannot be synced: {e}", folder.display())))
}

/// Creates the folders of the private recovery and its `pg_hba.conf`.
///
/// # Errors
/// [`Code::Tool`].
pub(super) fn make_private_folders(programs: &Programs, folder: &Path, socket: &Path) -> Result<()> {
    disk::make_private_folder(programs, folder)?;
    disk::make_private_folder(programs, socket)?;
    write_owned_file(programs, &socket.join("pg_hba.conf"), "local all all trust\n")
}

fn write_owned_file(programs: &Programs, path: &Path, text: &str) -> Result<()> {
    crate::base::file::write_atomic(path, text.as_bytes())
        .map_err(|e| Error::new(Code::Tool, format!("`{}` cannot be written: {e}", path.display())))?;
    programs.chown_to_owner(path)
}

/// Returns the options of the private recovery. They go on the command line, so that none outlives it.
pub(super) fn private_recovery_options(
    recovery: &records::RecoveryPlan,
    control: &ControlFile,
    private: &Path,
) -> Vec<OsString> {
    let mut settings: Vec<(&str, String)> = vec![
        ("listen_addresses", String::new()),
        ("port", PRIVATE_PORT.to_string()),
        ("unix_socket_permissions", "0700".into()),
        ("hba_file", private.join("pg_hba.conf").display().to_string()),
        ("hot_standby", "on".into()),
        ("primary_conninfo", String::new()),
        ("max_logical_replication_workers", "0".into()),
        ("cron.launch_active_jobs", "off".into()),
        ("logging_collector", "off".into()),
        ("log_destination", "stderr".into()),
        ("log_line_prefix", server_log::LOG_PREFIX.into()),
        ("log_min_messages", "warning".into()),
        ("log_timezone", "UTC".into()),
        ("lc_messages", "C".into()),
        ("restore_command", engine::restore_command(&recovery.archive)),
        // A recovery target left over from an earlier restore would conflict.
        ("recovery_target", String::new()),
        ("recovery_target_lsn", String::new()),
        ("recovery_target_name", String::new()),
        ("recovery_target_time", String::new()),
        ("recovery_target_xid", String::new()),
    ];
    let targets = recovery::recovery_target_settings(recovery);
    settings.retain(|(name, _)| targets.iter().all(|(target, _)| target != name));
    settings.extend(targets);
    settings.extend(control.minima.iter().map(|(name, value)| (name.as_str(), value.to_string())));
    let settings = settings.iter().map(|(name, value)| format!("{name}={value}"));
    let settings = std::iter::once(server_owner::private_socket_setting(private)).chain(settings);
    settings.flat_map(|setting| ["-c".into(), setting.into()]).collect()
}
