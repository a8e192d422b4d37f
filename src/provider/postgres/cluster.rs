//! A cluster on this machine: its folders, its programs, its archive, and the few things we ask of it.

use super::{
    control::Control,
    inplace,
    records::Records,
    server,
    settings::Settings,
    sql::{self, Address},
    tools::Tools,
};
use crate::{
    base::{clock::Clock, moment::Span},
    provider::{Code, Error, Result, fleet::Opening},
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// How long we wait for a segment to be archived, in steps of [`STEP`].
const ARCHIVE_STEPS: u32 = 600;
/// The time between two looks.
const STEP: Span = Span::millis(100);

/// A cluster whose data is on this machine.
#[derive(Clone)]
pub(super) struct Cluster {
    /// The target's name.
    pub name: String,
    /// How to connect.
    pub address: Address,
    /// The data folder.
    pub data: PathBuf,
    /// What we write down about its branches and restores.
    pub records: Records,
    /// The clock of the run.
    pub clock: Arc<dyn Clock>,
    backup_dir: Option<PathBuf>,
    archive_dir: Option<PathBuf>,
    bin_dir: Option<PathBuf>,
}

impl Cluster {
    /// Returns the cluster of a target; `None` when its data is not on this machine.
    pub(super) fn new(opening: &Opening<'_>, settings: &Settings) -> Option<Self> {
        Some(Self {
            name: opening.target.name.clone(),
            address: settings.address.clone(),
            data: settings.data_dir.clone()?,
            records: Records::of_target(opening.state, &opening.target.name),
            clock: Arc::clone(opening.clock),
            backup_dir: settings.backup_dir.clone(),
            archive_dir: settings.archive_dir.clone(),
            bin_dir: settings.bin_dir.clone(),
        })
    }

    /// Returns the programs, run as the OS user that owns the data.
    ///
    /// # Errors
    /// What to install, or who may.
    pub(super) fn tools(&self) -> Result<Tools> {
        Tools::of_cluster(&self.data, self.bin_dir.as_deref())
    }

    /// Returns the programs while the data may be in any of these folders.
    ///
    /// # Errors
    /// As for [`Cluster::tools`].
    pub(super) fn tools_for(&self, folders: &[&Path]) -> Result<Tools> {
        let there = folders.iter().find(|folder| folder.is_dir()).copied().unwrap_or(&self.data);
        Tools::of_cluster(there, self.bin_dir.as_deref())
    }

    /// Returns what the control file says; works when the server does not run, and in the middle of a restore in place.
    ///
    /// # Errors
    /// [`Code::Tool`].
    pub(super) async fn control(&self) -> Result<Control> {
        let data = inplace::moved_aside(self)?.unwrap_or_else(|| self.data.clone());
        Control::read(&self.tools_for(&[&data])?, &data).await
    }

    /// Returns the timeline that the cluster is on: the server's own word, else its control file's.
    pub(super) async fn timeline(&self) -> Option<u32> {
        let ask = "select left(pg_walfile_name(pg_current_wal_lsn()), 8)";
        let said = match self.address.connect().await {
            Ok(client) => sql::text(&client, ask).await.ok().flatten(),
            Err(_) => None,
        };
        match said.and_then(|hex| u32::from_str_radix(&hex, 16).ok()) {
            Some(timeline) => Some(timeline),
            None => self.control().await.ok().map(|control| control.timeline),
        }
    }

    /// Returns whether the server runs.
    pub(super) fn is_running(&self) -> bool {
        server::running(&self.data).is_some()
    }

    /// Returns the folder of backups.
    ///
    /// # Errors
    /// [`Code::Invalid`] when it is not set.
    pub(super) fn backup_dir(&self) -> Result<&Path> {
        self.backup_dir.as_deref().ok_or_else(|| {
            Error::new(Code::Invalid, format!("target `{}` has no `backup_dir`", self.name))
                .hint("set `backup_dir` to a folder for its backups, on another disk than the data")
        })
    }

    /// Returns the folder that WAL is archived in: as set, else as the running server says, else as `remembered`.
    ///
    /// # Errors
    /// [`Code::Refused`] with how to set it.
    pub(super) async fn archive_dir(&self, remembered: Option<&Path>) -> Result<PathBuf> {
        if let Some(folder) = &self.archive_dir {
            return Ok(folder.clone());
        }
        match (self.archive_dir_by_server().await, remembered) {
            (Ok(folder), _) => Ok(folder),
            (Err(_), Some(folder)) => Ok(folder.to_path_buf()),
            (Err(error), None) => Err(error),
        }
    }

    async fn archive_dir_by_server(&self) -> Result<PathBuf> {
        let client = self.address.connect().await?;
        let archiving = sql::records(
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
                .hint("set `archive_mode = on`, `archive_library = 'basic_archive'` and `basic_archive.archive_directory`, and restart the server"));
        }
        let folder = match field("library").as_str() {
            "basic_archive" => Some(field("folder")).filter(|f| !f.is_empty()),
            "" => folder_of_command(&field("command")),
            _ => None,
        };
        folder.map(PathBuf::from).ok_or_else(|| {
            Error::new(Code::Refused, format!("it cannot be seen where `{}` archives its WAL", self.name))
                .hint("set `archive_dir` of the target to the folder that holds the plain WAL segments")
        })
    }

    /// Returns why archiving does not work right now, or `None` when it does.
    ///
    /// # Errors
    /// What connecting says.
    pub(super) async fn archiver_failing(&self) -> Result<Option<String>> {
        let client = self.address.connect().await?;
        sql::text(
            &client,
            "select format('the archiver has failed %s times since %s, last with %s', failed_count, \
             coalesce(last_archived_time::text, 'the start'), last_failed_wal) \
             from pg_stat_archiver where last_failed_time > coalesce(last_archived_time, '-infinity')",
        )
        .await
    }

    /// Commits a marker and archives it: afterwards everything up to now can be restored, also on an idle database,
    /// where recovery would otherwise run off the end.
    ///
    /// # Errors
    /// As for [`Cluster::archive_now`].
    pub(super) async fn fence(&self) -> Result<()> {
        if let Some(why) = self.archiver_failing().await? {
            return Err(archiver_error(&why));
        }
        let client = self.address.connect().await?;
        sql::text(&client, "select pg_logical_emit_message(true, 'redrill', 'fence')").await?;
        self.archive_now().await
    }

    /// Switches to a new WAL segment and returns when the old one is archived.
    ///
    /// # Errors
    /// [`Code::Refused`] when the archiver fails, before anything is done; [`Code::Timeout`].
    pub(super) async fn archive_now(&self) -> Result<()> {
        if let Some(why) = self.archiver_failing().await? {
            return Err(archiver_error(&why));
        }
        let client = self.address.connect().await?;
        let segment = sql::text(&client, "select pg_walfile_name(pg_switch_wal())").await?;
        self.wait_archived(&segment.unwrap_or_default()).await
    }

    async fn wait_archived(&self, segment: &str) -> Result<()> {
        for _ in 0..ARCHIVE_STEPS {
            if self.is_archived(segment).await? {
                return Ok(());
            }
            if let Some(why) = self.archiver_failing().await? {
                return Err(archiver_error(&why).with_side_effects());
            }
            self.clock.sleep(STEP).await;
        }
        Err(Error::new(Code::Timeout, format!("WAL segment `{segment}` was not archived within a minute"))
            .hint("look at `pg_stat_archiver` and the server's log"))
    }

    /// Returns whether the server is done with archiving `segment`.
    ///
    /// # Errors
    /// What connecting says.
    pub(super) async fn is_archived(&self, segment: &str) -> Result<bool> {
        let client = self.address.connect().await?;
        let last = sql::text(&client, "select last_archived_wal from pg_stat_archiver").await?;
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
    Error::new(Code::Refused, format!("WAL is not being archived: {why}")).hint(
        "mend what the server's log says about archiving; until then nothing after the last archived segment can be restored",
    )
}

/// Returns the folder of a plain `cp %p FOLDER/%f`, with or without a test before it.
fn folder_of_command(command: &str) -> Option<String> {
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
            assert_eq!(folder_of_command(command).as_deref(), folder, "{command}");
        }
    }
}
