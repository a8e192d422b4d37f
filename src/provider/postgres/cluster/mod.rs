//! A cluster whose data is on this machine: its folders, programs and WAL archive.

pub(super) mod control_file;
pub(super) mod server;
pub(super) mod server_log;

use super::{
    config::PostgresConfig,
    records::TargetRecords,
    sql::{self, DatabaseAddress},
};
use crate::{
    base::{clock::Clock, moment::Span},
    provider::{Code, Error, OpenContext, Result, host::programs::Programs},
};
use control_file::ControlFile;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

/// How often the archiver is polled before a segment counts as not archived.
const ARCHIVE_POLLS_MAX: u32 = 600;
/// The time between two polls.
const POLL_INTERVAL: Span = Span::from_millis(100);

/// A cluster whose data is on this machine.
#[derive(Clone)]
pub(super) struct Cluster {
    pub name: String,
    pub address: DatabaseAddress,
    pub data: PathBuf,
    /// The records of its branches and restores.
    pub records: TargetRecords,
    /// The configuration file that has it, if one does.
    pub config_file: Option<PathBuf>,
    /// The clock of the run.
    pub clock: Arc<dyn Clock>,
    backup_dir: Option<PathBuf>,
    archive_dir: Option<PathBuf>,
    bin_dir: Option<PathBuf>,
}

impl Cluster {
    /// Returns the cluster of a target; `None` when its data is not on this machine.
    pub(super) fn new(opening: &OpenContext<'_>, config: &PostgresConfig) -> Option<Self> {
        Some(Self {
            name: opening.target.name.clone(),
            address: config.address.clone(),
            data: config.data_dir.clone()?,
            records: TargetRecords::for_target(opening.state, &opening.target.name),
            config_file: opening.file.map(Path::to_path_buf),
            clock: Arc::clone(opening.clock),
            backup_dir: config.backup_dir.clone(),
            archive_dir: config.archive_dir.clone(),
            bin_dir: config.bin_dir.clone(),
        })
    }

    /// Returns the programs, run as the OS user that owns the data.
    ///
    /// # Errors
    /// [`Code::Unavailable`] with what to install; [`Code::Denied`] with who may run them.
    pub(super) fn programs(&self) -> Result<Programs> {
        Programs::for_cluster(&self.data, self.bin_dir.as_deref())
    }

    /// Returns the programs when the data may be in any of these folders, as during a restore in place.
    ///
    /// # Errors
    /// As for [`Cluster::programs`].
    pub(super) fn programs_for_any(&self, folders: &[&Path]) -> Result<Programs> {
        let there = folders.iter().find(|folder| folder.is_dir()).copied().unwrap_or(&self.data);
        Programs::for_cluster(there, self.bin_dir.as_deref())
    }

    /// Reads the control file; also while the server is stopped and in the middle of a restore in place.
    ///
    /// # Errors
    /// [`Code::Tool`].
    pub(super) async fn read_control_file(&self) -> Result<ControlFile> {
        let data = self.records.find_moved_data(&self.data)?.unwrap_or_else(|| self.data.clone());
        ControlFile::read(&self.programs_for_any(&[&data])?, &data).await
    }

    /// Returns the cluster's current timeline, from the server or else from its control file.
    pub(super) async fn current_timeline(&self) -> Option<u32> {
        let ask = "select left(pg_walfile_name(pg_current_wal_lsn()), 8)";
        let said = match self.address.connect().await {
            Ok(client) => sql::fetch_text(&client, ask).await.ok().flatten(),
            Err(_) => None,
        };
        match said.and_then(|hex| u32::from_str_radix(&hex, 16).ok()) {
            Some(timeline) => Some(timeline),
            None => self.read_control_file().await.ok().map(|control| control.timeline),
        }
    }

    /// Returns whether the server runs.
    pub(super) fn is_running(&self) -> bool {
        server::find_server(&self.data).is_some()
    }

    /// Returns the folder of backups.
    ///
    /// # Errors
    /// [`Code::Invalid`] when it is not set.
    pub(super) fn backup_dir(&self) -> Result<&Path> {
        self.backup_dir.as_deref().ok_or_else(|| {
            Error::new(Code::Invalid, format!("target `{}` has no `backup_dir`", self.name))
                .with_hint("set `backup_dir` to a folder for its backups, on another disk than the data")
        })
    }

    /// Returns the folder that WAL is archived in: as set, else as the running server says, else as `remembered`.
    ///
    /// # Errors
    /// [`Code::Refused`] with how to set it.
    pub(super) async fn find_archive_dir(&self, remembered: Option<&Path>) -> Result<PathBuf> {
        if let Some(folder) = &self.archive_dir {
            return Ok(folder.clone());
        }
        match (self.ask_server_archive_dir().await, remembered) {
            (Ok(folder), _) => Ok(folder),
            (Err(_), Some(folder)) => Ok(folder.to_path_buf()),
            (Err(error), None) => Err(error),
        }
    }

    async fn ask_server_archive_dir(&self) -> Result<PathBuf> {
        let client = self.address.connect().await?;
        let archiving = sql::fetch_rows(
            &client,
            "select current_setting('archive_mode') as mode, current_setting('archive_library', true) as library, \
             current_setting('archive_command') as command, \
             current_setting('basic_archive.archive_directory', true) as folder",
        )
        .await?;
        let field =
            |name: &str| archiving.first().and_then(|row| row.get(name)).unwrap_or_default().to_owned();
        if field("mode") == "off" {
            return Err(Error::new(Code::Refused, format!("`{}` does not archive its WAL", self.name))
                .with_hint("set `archive_mode = on`, `archive_library = 'basic_archive'` and `basic_archive.archive_directory`, and restart the server"));
        }
        let folder = match field("library").as_str() {
            "basic_archive" => Some(field("folder")).filter(|f| !f.is_empty()),
            "" => folder_of_archive_command(&field("command")),
            _ => None,
        };
        folder.map(PathBuf::from).ok_or_else(|| {
            Error::new(Code::Refused, format!("it cannot be seen where `{}` archives its WAL", self.name))
                .with_hint("set `archive_dir` of the target to the folder that holds the plain WAL segments")
        })
    }

    /// Returns why archiving does not work right now, or `None` when it does.
    ///
    /// # Errors
    /// As for [`DatabaseAddress::connect`].
    pub(super) async fn archiver_failure(&self) -> Result<Option<String>> {
        let client = self.address.connect().await?;
        sql::fetch_text(
            &client,
            "select format('the archiver has failed %s times since %s, last with %s', failed_count, \
             coalesce(last_archived_time::text, 'the start'), last_failed_wal) \
             from pg_stat_archiver where last_failed_time > coalesce(last_archived_time, '-infinity')",
        )
        .await
    }

    /// Commits a marker and archives it, so that everything up to now can be restored. On an idle database
    /// recovery would otherwise reach the end of WAL before it notices its target.
    ///
    /// # Errors
    /// As for [`Cluster::switch_wal_and_await_archiving`].
    pub(super) async fn commit_and_archive_fence(&self) -> Result<()> {
        if let Some(why) = self.archiver_failure().await? {
            return Err(archiver_error(&why));
        }
        let client = self.address.connect().await?;
        sql::fetch_text(&client, "select pg_logical_emit_message(true, 'redrill', 'fence')").await?;
        self.switch_wal_and_await_archiving().await
    }

    /// Switches to a new WAL segment and returns when the old one is archived.
    ///
    /// # Errors
    /// [`Code::Refused`] when the archiver fails, before anything is done; [`Code::Timeout`].
    pub(super) async fn switch_wal_and_await_archiving(&self) -> Result<()> {
        if let Some(why) = self.archiver_failure().await? {
            return Err(archiver_error(&why));
        }
        let client = self.address.connect().await?;
        let segment = sql::fetch_text(&client, "select pg_walfile_name(pg_switch_wal())").await?;
        self.wait_until_archived(&segment.unwrap_or_default()).await
    }

    async fn wait_until_archived(&self, segment: &str) -> Result<()> {
        for _ in 0..ARCHIVE_POLLS_MAX {
            if self.is_segment_archived(segment).await? {
                return Ok(());
            }
            if let Some(why) = self.archiver_failure().await? {
                return Err(archiver_error(&why).with_side_effects());
            }
            self.clock.sleep(POLL_INTERVAL).await;
        }
        Err(Error::new(Code::Timeout, format!("WAL segment `{segment}` was not archived within a minute"))
            .with_hint("look at `pg_stat_archiver` and the server's log"))
    }

    /// Returns whether the server is done with archiving `segment`.
    ///
    /// # Errors
    /// As for [`DatabaseAddress::connect`].
    async fn is_segment_archived(&self, segment: &str) -> Result<bool> {
        let client = self.address.connect().await?;
        let last = sql::fetch_text(&client, "select last_archived_wal from pg_stat_archiver").await?;
        // Names of later segments sort later; a `.history` file says nothing about segments.
        Ok(last.is_some_and(|last| {
            last.len() >= 24
                && last.is_char_boundary(24)
                && last.as_bytes()[..24].iter().all(u8::is_ascii_hexdigit)
                && &last[..24] >= segment
        }))
    }
}

/// Returns the error of an archiver that fails.
pub(super) fn archiver_error(why: &str) -> Error {
    Error::new(Code::Refused, format!("WAL is not being archived: {why}")).with_hint(
        "mend what the server's log says about archiving; until then nothing after the last archived segment can be restored",
    )
}

/// Returns whether the server of a data folder has WAL files that wait to be archived.
pub(super) fn has_waiting_wal(data: &Path) -> bool {
    !list_waiting_wal(data).is_empty()
}

/// Returns the WAL files of a data folder that wait to be archived and are not in `archive`, oldest first.
pub(super) fn list_unarchived_wal(data: &Path, archive: &Path) -> Vec<String> {
    let mut left = list_waiting_wal(data);
    left.retain(|file| !archive.join(file).is_file());
    left
}

/// Returns the WAL files that a server says wait to be archived, oldest first.
fn list_waiting_wal(data: &Path) -> Vec<String> {
    let entries = fs::read_dir(data.join("pg_wal/archive_status")).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut all: Vec<String> =
        names.filter_map(|name| Some(name.strip_suffix(".ready")?.to_owned())).collect();
    all.sort_unstable();
    all
}

/// Returns the folder of a plain `cp %p FOLDER/%f`, with or without a test before it.
fn folder_of_archive_command(command: &str) -> Option<String> {
    let copy = command.rsplit("&&").next()?.trim();
    let words: Vec<&str> = copy.split_whitespace().map(|w| w.trim_matches(['"', '\''])).collect();
    let ["cp", rest @ ..] = words.as_slice() else { return None };
    let ["%p", to] = rest.iter().copied().filter(|w| !w.starts_with('-')).collect::<Vec<_>>()[..] else {
        return None;
    };
    to.strip_suffix("/%f").filter(|folder| folder.starts_with('/')).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_copy_shows_its_folder() {
        for (command, folder) in [
            ("cp %p /wal/%f", Some("/wal")),
            ("test ! -f /wal/%f && cp %p /wal/%f", Some("/wal")),
            ("cp -f \"%p\" '/wal dir/%f'", None),
            ("cp -f \"%p\" \"/wal/%f\"", Some("/wal")),
            ("pgbackrest archive-push %p", None),
            ("cp %p relative/%f", None),
        ] {
            assert_eq!(folder_of_archive_command(command).as_deref(), folder, "{command}");
        }
    }
}
