//! Makes a backup, one phase per poll: the copy, the comparison with its checksums, the WAL that it needs.
//!
//! Each phase ends by adding something to the folder, and is started again when it did not.

use super::{BackupPhase, BuiltinEngine, RequiredWal, SIDECAR_FILE, StoredBackup};
use crate::{
    base::moment::{Moment, Span},
    provider::{
        Code, Error, Result,
        host::{
            disk,
            process::{self, TrackedProcess},
            programs::{self, Programs},
            record_file,
        },
        model::{BackupRequest, CallKey, Progress},
        postgres::{
            cluster::{self, control_file::ControlFile},
            sql, wal,
        },
    },
};
use serde::Deserialize;
use std::{
    ffi::{OsStr, OsString},
    fs,
    path::Path,
    time::Duration,
};

/// How often a copy is started before being killed counts as failure.
const STARTS_MAX: u32 = 3;
/// Longer than any tick of the kernel's clock.
const KERNEL_TICK: Span = Span::from_millis(20);
/// The age at which an unfinished folder counts as abandoned.
const ABANDONED_AGE: Duration = Duration::from_secs(3600);

/// The result of polling a backup.
pub(in super::super) enum BackupPoll {
    /// It is still being made.
    Running(Progress),
    /// It is complete.
    Completed(Box<StoredBackup>),
    /// It has failed, and has been removed, or is named in the error.
    Failed(Error),
}

impl BuiltinEngine<'_> {
    /// Begins a backup and returns its id.
    ///
    /// # Errors
    /// [`Code::Refused`] when WAL is not being archived: the backup would be worth nothing. [`Code::NoDiskSpace`].
    pub(in super::super) async fn start_backup(
        &self,
        request: &BackupRequest,
        key: &CallKey,
    ) -> Result<String> {
        if let Some(made) = self.find_backup_by_key(key)? {
            return Ok(made.id);
        }
        let programs = self.cluster.programs()?;
        self.remove_leftovers();
        let archive = self.cluster.find_archive_dir(None).await?;
        if let Some(why) = self.cluster.archiver_failure().await? {
            return Err(cluster::archiver_error(&why));
        }
        let client = self.cluster.address.connect().await?;
        let bytes = sql::fetch_text(&client, "select sum(pg_database_size(oid)) from pg_database").await?;
        let expected_bytes = bytes.and_then(|n| n.parse().ok()).unwrap_or_default();
        disk::check_free_space(expected_bytes, self.folder)?;
        let started_at = self.cluster.clock.now();
        let stored = StoredBackup {
            // It ends with the key, by which it is found also where the rest cannot be read.
            id: format!("{}-{key}", started_at.0.strftime("%Y%m%dT%H%M%SZ")),
            target: self.cluster.name.clone(),
            label: request.label.clone(),
            key: key.clone(),
            phase: BackupPhase::Copying,
            child: None,
            starts: 0,
            started_at,
            finished_at: None,
            expected_bytes,
            bytes: 0,
            system_identifier: self.cluster.read_control_file().await?.system_identifier,
            archive,
            wal: None,
            damaged: None,
            names: None,
        };
        self.create_backup_folder(&programs, &stored)?;
        self.start_copy(&programs, stored.clone())
            .await
            .inspect_err(|_| drop(self.stop_and_remove_backup(&stored.id)))?;
        Ok(stored.id)
    }

    /// Removes what earlier processes started to make, or to delete, and did not finish.
    fn remove_leftovers(&self) {
        for entry in fs::read_dir(self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let age =
                entry.metadata().and_then(|found| found.modified()).ok().and_then(|at| at.elapsed().ok());
            let is_new = name.starts_with(".new-") && age.is_some_and(|age| age > ABANDONED_AGE);
            if is_new || name.starts_with(".deleting-") {
                // What cannot be removed now is tried again next time.
                disk::remove_folder(&entry.path()).ok();
            }
        }
    }

    /// Creates the folder of a backup, with its description inside from the start.
    fn create_backup_folder(&self, programs: &Programs, stored: &StoredBackup) -> Result<()> {
        let failed = |e: std::io::Error| {
            Error::new(Code::Tool, format!("`{}` cannot be written: {e}", self.folder.display()))
        };
        if !self.folder.is_dir() {
            fs::create_dir_all(self.folder.parent().unwrap_or(Path::new("/"))).map_err(failed)?;
            disk::make_private_folder(programs, self.folder)?;
        }
        let new = self.folder.join(format!(".new-{}", stored.id));
        disk::make_private_folder(programs, &new)?;
        record_file::write_record(&new.join(SIDECAR_FILE), stored)?;
        programs.chown_to_owner(&new.join(SIDECAR_FILE))?;
        fs::rename(&new, self.folder.join(&stored.id)).map_err(failed)
    }

    /// Starts the copy, or starts it again.
    async fn start_copy(&self, programs: &Programs, mut stored: StoredBackup) -> Result<StoredBackup> {
        let files = self.files_folder(&stored.id);
        disk::remove_folder(&files)?;
        disk::make_private_folder(programs, &files)?;
        let output = self.folder.join(&stored.id).join("output");
        record_file::remove_file(&output)?;
        let address = &self.cluster.address;
        let data = files.join("data");
        let port = address.port.to_string();
        let mut args: Vec<OsString> = vec!["-D".into(), data.into(), "-l".into(), stored.id.clone().into()];
        args.extend(["-h", &address.host, "-p", &port, "-U", &address.user].map(OsString::from));
        // `stream` carries the WAL that makes the copy whole along, so that it can be restored even when the archive
        // is lost.
        args.extend(
            ["-w", "-Fp", "-Xstream", "-cfast", "--manifest-checksums=SHA256", "--no-slot"]
                .map(OsString::from),
        );
        for (oid, location) in self.list_outside_tablespaces().await? {
            let to = files.join("tablespaces").join(oid);
            args.push(
                format!(
                    "-T{}={}",
                    escape_tablespace_mapping(&location),
                    escape_tablespace_mapping(&to.display().to_string())
                )
                .into(),
            );
        }
        let password = match &address.password {
            Some(reference) => {
                Some(reference.read_secret().map_err(|e| Error::new(Code::Invalid, e.to_string()))?)
            }
            None => None,
        };
        let environment: Vec<(&str, &OsStr)> =
            password.iter().map(|secret| ("PGPASSWORD", OsStr::new(secret.expose_secret()))).collect();
        let args: Vec<&OsStr> = args.iter().map(OsString::as_os_str).collect();
        stored.starts += 1;
        stored.child = Some(programs.spawn_detached("pg_basebackup", &args, &environment, &output)?);
        self.save_backup(programs, &stored)?;
        Ok(stored)
    }

    /// Returns the number and the folder of every tablespace that lies outside the data folder.
    async fn list_outside_tablespaces(&self) -> Result<Vec<(String, String)>> {
        let client = self.cluster.address.connect().await?;
        let rows = sql::fetch_rows(
            &client,
            "select oid, pg_tablespace_location(oid) as location from pg_tablespace \
             where pg_tablespace_location(oid) like '/%'",
        )
        .await?;
        let field = |row: &tokio_postgres::SimpleQueryRow, name| row.get(name).map(str::to_owned);
        Ok(rows.iter().filter_map(|row| Some((field(row, "oid")?, field(row, "location")?))).collect())
    }

    /// Polls a backup and advances it by one phase.
    ///
    /// # Errors
    /// Why it cannot be looked at.
    pub(in super::super) async fn poll_backup(&self, id: &str) -> Result<BackupPoll> {
        let stored = self.get_backup(id)?;
        let programs = self.cluster.programs()?;
        let looked = match stored.phase {
            BackupPhase::Completed => return Ok(BackupPoll::Completed(Box::new(stored))),
            BackupPhase::Copying => self.poll_copy(&programs, stored).await,
            BackupPhase::Verifying => self.poll_verification(&programs, stored),
            BackupPhase::Archiving => self.poll_archiving(&programs, stored).await,
        };
        looked.or_else(|error| {
            Ok(BackupPoll::Failed(match self.stop_and_remove_backup(id) {
                Ok(()) => error,
                Err(left) => Error { left_behind: left.left_behind, ..error }.with_side_effects(),
            }))
        })
    }

    async fn poll_copy(&self, programs: &Programs, mut stored: StoredBackup) -> Result<BackupPoll> {
        let files = self.files_folder(&stored.id);
        let data = files.join("data");
        let at_work = stored.child.as_ref().is_some_and(TrackedProcess::is_alive)
            || programs::is_log_in_use(&self.folder.join(&stored.id).join("output"));
        if at_work || process::find_program_started_with(data.as_os_str()).is_some() {
            let done = disk::folder_size_in_bytes(&files);
            return Ok(BackupPoll::Running(Progress::with_bytes(
                "copying",
                done,
                Some(stored.expected_bytes.max(done)),
            )));
        }
        let said = fs::read(self.folder.join(&stored.id).join("output")).unwrap_or_default();
        if let Some(error) = find_copy_error(&said) {
            return Err(error);
        }
        if !data.join("backup_manifest").is_file() {
            if stored.starts >= STARTS_MAX {
                return Err(Error::new(
                    Code::Tool,
                    format!("`pg_basebackup` was killed {} times without a word", stored.starts),
                ));
            }
            self.start_copy(programs, stored).await?;
            return Ok(BackupPoll::Running(Progress::with_phase("copying")));
        }
        stored.phase = BackupPhase::Verifying;
        self.start_verification(programs, stored)
    }

    fn start_verification(&self, programs: &Programs, mut stored: StoredBackup) -> Result<BackupPoll> {
        let output = self.folder.join(&stored.id).join("verified");
        record_file::remove_file(&output)?;
        let data = self.files_folder(&stored.id).join("data");
        stored.child = Some(programs.spawn_detached("pg_verifybackup", &[data.as_os_str()], &[], &output)?);
        self.save_backup(programs, &stored)?;
        Ok(BackupPoll::Running(Progress::with_phase("comparing with checksums")))
    }

    fn poll_verification(&self, programs: &Programs, mut stored: StoredBackup) -> Result<BackupPoll> {
        let is_at_work = stored.child.as_ref().is_some_and(TrackedProcess::is_alive)
            || programs::is_log_in_use(&self.folder.join(&stored.id).join("verified"));
        if is_at_work {
            return Ok(BackupPoll::Running(Progress::with_phase("comparing with checksums")));
        }
        let said = fs::read(self.folder.join(&stored.id).join("verified")).unwrap_or_default();
        if said.is_empty() {
            return self.start_verification(programs, stored);
        }
        if !String::from_utf8_lossy(&said).contains("backup successfully verified") {
            return Err(Error::new(
                Code::CorruptBackup,
                format!("the copy differs from its checksums: {}", programs::tail_output(&said)),
            ));
        }
        stored.phase = BackupPhase::Archiving;
        stored.child = None;
        stored.wal = Some(read_required_wal(&self.files_folder(&stored.id))?);
        self.save_backup(programs, &stored)?;
        Ok(BackupPoll::Running(Progress::with_phase("waiting for its WAL to be archived")))
    }

    async fn poll_archiving(&self, programs: &Programs, mut stored: StoredBackup) -> Result<BackupPoll> {
        let files = self.files_folder(&stored.id);
        let segment_bytes = ControlFile::read(programs, &files.join("data")).await?.segment_bytes;
        let needed = stored.wal.clone().map_or_else(|| read_required_wal(&files), Ok)?;
        let last = wal::segment_name_before(needed.timeline, &needed.stop, segment_bytes).unwrap_or_default();
        let archived = fs::metadata(stored.archive.join(&last)).is_ok_and(|file| file.len() == segment_bytes);
        if !archived {
            // A source that does not answer has not failed to archive.
            if let Ok(Some(why)) = self.cluster.archiver_failure().await {
                return Err(cluster::archiver_error(&why));
            }
            return Ok(BackupPoll::Running(Progress::with_phase("waiting for its WAL to be archived")));
        }
        let manifest = fs::metadata(files.join("data/backup_manifest")).and_then(|found| found.modified());
        // A file's time lags behind the clock by up to a tick; the end of the backup must not come out too early.
        let written = manifest.ok().and_then(|time| jiff::Timestamp::try_from(time).ok()).map(Moment);
        stored.finished_at = written.map(|time| time.saturating_add(KERNEL_TICK));
        stored.bytes = disk::folder_size_in_bytes(&files);
        // Table names are only a convenience for later; a source that is gone by now does not spoil the
        // backup.
        if let Ok(client) = self.cluster.address.connect().await {
            stored.names = wal::fetch_relation_names(&client).await.ok();
        }
        stored.phase = BackupPhase::Completed;
        self.save_backup(programs, &stored)?;
        Ok(BackupPoll::Completed(Box::new(stored)))
    }
}

/// Returns what a copy's manifest says about the WAL that it needs.
fn read_required_wal(files: &Path) -> Result<RequiredWal> {
    #[derive(Deserialize)]
    struct WalManifest {
        #[serde(rename = "WAL-Ranges")]
        ranges: Vec<RequiredWal>,
    }
    let manifest: Option<WalManifest> = record_file::read_record(&files.join("data/backup_manifest"))?;
    let range = manifest.and_then(|manifest| manifest.ranges.into_iter().next_back());
    range.ok_or_else(|| Error::new(Code::CorruptBackup, "the copy's manifest names no WAL"))
}

/// Returns the error that the output of `pg_basebackup` reports.
fn find_copy_error(said: &[u8]) -> Option<Error> {
    let text = String::from_utf8_lossy(said);
    if text.contains("checksum error occurred") || text.contains("checksum verification failed") {
        let message =
            format!("pages of the source do not match their checksums: {}", programs::tail_output(said));
        return Some(
            Error::new(Code::CorruptSource, message)
                .with_hint("find the damaged table with `pg_amcheck`, and restore it from an older backup"),
        );
    }
    let failed = text.lines().any(|line| line.contains("error: ") || line.contains("fatal: "));
    failed.then(|| Error::new(Code::Tool, format!("`pg_basebackup` failed: {}", programs::tail_output(said))))
}

/// Escapes the `=` that separates the two folders of a mapping.
fn escape_tablespace_mapping(path: &str) -> String {
    path.replace('=', "\\=")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_source_is_told_from_a_failure() {
        let damaged = find_copy_error(b"pg_basebackup: error: checksum error occurred").expect("an error");
        assert_eq!(damaged.code, Code::CorruptSource);
        assert_eq!(find_copy_error(b"pg_basebackup: error: no room").expect("an error").code, Code::Tool);
        assert!(find_copy_error(b"").is_none());
    }
}
