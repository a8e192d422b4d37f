//! The backup engine that needs only the PostgreSQL server package.
//!
//! A backup is a folder `<backup_dir>/<id>` with
//! - `redrill.json`: what is known of it, written before anything else and replaced as a whole;
//! - `files/data` and `files/tablespaces/<oid>`: a plain copy with a checksum for every file;
//! - `output`, `verified`: the output of the programs that made and checked it.
//!
//! A folder whose name begins with a dot is not yet, or no longer, a backup. Exit codes are not relied on:
//! every phase ends by adding something to the folder.
//!
//! Another engine would offer the same methods, and [`restore_command`].

pub(super) mod deletion;
mod making;
pub(super) mod manifest;

pub(super) use making::BackupPoll;

use super::{cluster::Cluster, wal::RelationNames};
use crate::{
    base::{former_name, moment::Moment},
    provider::{
        Code, Error, Result,
        host::{
            disk,
            process::{self, TrackedProcess},
            programs::Programs,
            record_file,
        },
        model::{Backup, CallKey, Restorable},
    },
};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

/// The name of the file that describes a backup.
const SIDECAR_FILE: &str = "redrill.json";

/// Returns the file with what is known of the backup in `folder`.
fn sidecar_path(folder: &Path) -> PathBuf {
    former_name::fall_back_to_former_path(folder.join(SIDECAR_FILE))
}

/// The phase of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum BackupPhase {
    /// The data is being copied.
    Copying,
    /// The copy is being compared with its checksums.
    Verifying,
    /// The WAL that it needs is being archived.
    Archiving,
    /// It can be restored.
    Completed,
}

/// The stored description of a backup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct StoredBackup {
    /// Its id, and the name of its folder.
    pub id: String,
    /// The target that was backed up.
    pub target: String,
    /// The label from the request.
    pub label: Option<String>,
    /// The key of the call that made it.
    pub key: CallKey,
    /// How far its making is.
    #[serde(rename = "stage")]
    pub phase: BackupPhase,
    /// The process that works on it.
    child: Option<TrackedProcess>,
    /// How often the copy was begun.
    starts: u32,
    /// When it was requested.
    pub started_at: Moment,
    /// When the copy was complete: the earliest moment that it can be restored to.
    pub finished_at: Option<Moment>,
    /// The size of the databases at the time of the request.
    expected_bytes: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// The system identifier of the cluster.
    pub system_identifier: String,
    /// The cluster's WAL archive, kept for when the cluster cannot be asked any more.
    pub archive: PathBuf,
    /// The WAL that the copy needs to be consistent.
    pub wal: Option<RequiredWal>,
    /// What the last comparison with its checksums found wrong.
    #[serde(default)]
    pub damaged: Option<String>,
    /// The names of relations by OID, for reading the WAL later.
    pub names: Option<RelationNames>,
}

/// The range of WAL that a copy needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RequiredWal {
    /// Its timeline.
    #[serde(rename = "Timeline")]
    pub timeline: u32,
    /// Where it begins.
    #[serde(rename = "Start-LSN")]
    pub start: String,
    /// Where it ends: recovery must get at least this far.
    #[serde(rename = "End-LSN")]
    pub stop: String,
}

/// The backups of one cluster.
pub(super) struct BuiltinEngine<'a> {
    cluster: &'a Cluster,
    folder: &'a Path,
}

impl StoredBackup {
    /// Returns whether it is complete; whether the archive has its WAL is another question.
    pub(super) fn is_completed(&self) -> bool {
        self.phase == BackupPhase::Completed
    }

    fn status(&self) -> &'static str {
        match (self.is_completed(), &self.damaged) {
            (true, Some(_)) => "damaged",
            (true, None) => "completed",
            (false, _) => "running",
        }
    }

    /// Converts it to the model's `Backup`.
    pub(super) fn to_backup(&self) -> Backup {
        Backup {
            id: self.id.clone(),
            target: self.target.clone(),
            label: self.label.clone(),
            method: "base_backup".into(),
            status: self.status().into(),
            started_at: self.started_at,
            finished_at: self.finished_at,
            bytes: self.bytes,
            restorable: vec![Restorable::Branch, Restorable::InPlace],
            key: Some(self.key.clone()),
        }
    }
}

impl<'a> BuiltinEngine<'a> {
    /// Returns the backups of a cluster.
    ///
    /// # Errors
    /// [`Code::Invalid`] when the target has no `backup_dir`.
    pub(super) fn for_cluster(cluster: &'a Cluster) -> Result<Self> {
        Ok(Self { cluster, folder: cluster.backup_dir()? })
    }

    /// Returns every backup, oldest first. One that cannot be read is left out and does not hide
    /// the others.
    ///
    /// # Errors
    /// [`Code::Unavailable`] when the folder cannot be read.
    pub(super) fn list_backups(&self) -> Result<Vec<StoredBackup>> {
        let stored = self
            .list_backup_folders()?
            .into_iter()
            .map(|folder| record_file::read_record::<StoredBackup>(&sidecar_path(&folder)));
        let mut all: Vec<StoredBackup> = stored.filter_map(|read| read.ok().flatten()).collect();
        all.sort_by(|a, b| (a.started_at, &a.id).cmp(&(b.started_at, &b.id)));
        Ok(all)
    }

    /// Returns one sentence for each folder that looks like a backup and cannot be read.
    ///
    /// # Errors
    /// [`Code::Unavailable`] when the folder cannot be read.
    pub(super) fn describe_unreadable_backups(&self) -> Result<Vec<String>> {
        let read = self
            .list_backup_folders()?
            .into_iter()
            .map(|folder| record_file::read_record::<StoredBackup>(&sidecar_path(&folder)));
        Ok(read.filter_map(|read| read.err().map(|e| e.message)).collect())
    }

    fn list_backup_folders(&self) -> Result<Vec<PathBuf>> {
        let unreadable = |e: io::Error| {
            let message = format!("the backups in `{}` cannot be read: {e}", self.folder.display());
            Error::new(Code::Unavailable, message)
        };
        let entries = match fs::read_dir(self.folder) {
            Ok(entries) => entries.collect::<io::Result<Vec<_>>>().map_err(unreadable)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(unreadable(e)),
        };
        let is_shown = |entry: &fs::DirEntry| !entry.file_name().as_encoded_bytes().starts_with(b".");
        Ok(entries.iter().filter(|entry| is_shown(entry)).map(fs::DirEntry::path).collect())
    }

    /// Returns one backup.
    ///
    /// # Errors
    /// [`Code::NotFound`].
    pub(super) fn get_backup(&self, id: &str) -> Result<StoredBackup> {
        let all = self.list_backups()?;
        all.iter().find(|stored| stored.id == id).cloned().ok_or_else(|| {
            let newest =
                all.last().map_or_else(|| "there is none".into(), |s| format!("the newest is `{}`", s.id));
            Error::new(Code::NotFound, format!("`{}` has no backup `{id}`", self.cluster.name))
                .with_hint(newest)
        })
    }

    /// Returns the backup that was made with `key`. One whose description cannot be read may be complete, and is not made again.
    ///
    /// # Errors
    /// [`Code::Unavailable`] when the folder cannot be read, [`Code::Internal`] when what may be that backup cannot.
    pub(super) fn find_backup_by_key(&self, key: &CallKey) -> Result<Option<StoredBackup>> {
        let folders = self.list_backup_folders()?;
        let is_its = |folder: &&PathBuf| {
            folder.file_name().is_some_and(|name| name.to_string_lossy().ends_with(&format!("-{key}")))
        };
        for folder in folders.iter().filter(is_its) {
            let stored = record_file::read_record::<StoredBackup>(&sidecar_path(folder)).map_err(|e| {
                e.with_hint(format!(
                    "it may be the backup of this very call; mend the file, or move `{}` away",
                    folder.display()
                ))
            })?;
            if let Some(stored) = stored.filter(|stored| stored.key == *key) {
                return Ok(Some(stored));
            }
        }
        Ok(None)
    }

    /// Saves the description of a backup.
    fn save_backup(&self, programs: &Programs, stored: &StoredBackup) -> Result<()> {
        let path = sidecar_path(&self.folder.join(&stored.id));
        record_file::write_record(&path, stored)?;
        programs.chown_to_owner(&path)
    }

    /// Returns the folder of a backup's files.
    pub(super) fn files_folder(&self, id: &str) -> PathBuf {
        self.folder.join(id).join("files")
    }

    /// Ends whatever works on a backup and removes it.
    ///
    /// # Errors
    /// [`Code::Tool`] naming what is left.
    pub(super) fn stop_and_remove_backup(&self, id: &str) -> Result<()> {
        if let Ok(Some(child)) = self.find_worker(id) {
            child.signal_group(Signal::KILL);
            child.signal(Signal::KILL);
        }
        self.delete_backup(id)
    }

    /// Returns whether a process works on a backup.
    ///
    /// # Errors
    /// As [`BuiltinEngine::get_backup`].
    pub(super) fn is_at_work(&self, id: &str) -> Result<bool> {
        Ok(self.find_worker(id)?.is_some())
    }

    fn find_worker(&self, id: &str) -> Result<Option<TrackedProcess>> {
        let stored = self.get_backup(id)?;
        let data = self.files_folder(id).join("data");
        let child = stored.child.filter(TrackedProcess::is_alive);
        Ok(child.or_else(|| process::find_program_started_with(data.as_os_str())))
    }

    /// Deletes a backup. It is unlisted at once; deleting one that is gone already is no error.
    ///
    /// # Errors
    /// [`Code::Tool`] naming what is left.
    pub(super) fn delete_backup(&self, id: &str) -> Result<()> {
        let aside = self.folder.join(format!(".deleting-{id}"));
        let shown = self.folder.join(id);
        if sidecar_path(&shown).is_file() {
            fs::rename(&shown, &aside).map_err(|e| {
                Error::new(Code::Tool, format!("`{}` cannot be moved aside: {e}", shown.display()))
            })?;
        }
        disk::remove_folder(&aside)
    }

    /// Verifies a backup and returns its problems, one sentence each. The first is recorded with the backup
    /// until a verification finds none.
    ///
    /// # Errors
    /// [`Code::Tool`] when the program cannot be started.
    pub(super) async fn verify_backup(&self, id: &str) -> Result<Vec<String>> {
        let data = self.files_folder(id).join("data");
        let programs = self.cluster.programs()?;
        let output = programs.run_with_any_exit("pg_verifybackup", &[data.as_os_str()]).await?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let mut problems: Vec<String> = said
            .lines()
            .map(|line| {
                line.trim().trim_start_matches("pg_verifybackup: ").trim_start_matches("error: ").to_owned()
            })
            .filter(|line| !line.is_empty())
            .collect();
        if problems.is_empty() && !output.status.success() {
            problems.push(format!("`pg_verifybackup` ended with {}", output.status));
        }
        let stored = self.get_backup(id)?;
        let damaged = problems.first().cloned();
        if stored.damaged != damaged
            && let Err(error) = self.save_backup(&programs, &StoredBackup { damaged, ..stored })
        {
            problems.push(format!("this could not be written down: {}", error.message));
        }
        Ok(problems)
    }

    /// Returns the folder in which a copy grows until it is complete.
    pub(super) fn partial_folder(to: &Path) -> PathBuf {
        to.with_extension("partial")
    }

    /// Returns the program and arguments that copy a backup's files to `to`, which appears only when
    /// complete.
    pub(super) fn restore_copy_command(&self, id: &str, to: &Path) -> (&'static str, Vec<OsString>) {
        const SCRIPT: &str = r#"rm -rf -- "$2" && cp -a --reflink=auto -- "$1" "$2" && mv -T -- "$2" "$3""#;
        let partial = Self::partial_folder(to);
        let script = ["-c", SCRIPT, "redrill"].map(OsString::from);
        let folders = [self.files_folder(id), partial, to.to_path_buf()].map(PathBuf::into_os_string);
        ("sh", script.into_iter().chain(folders).collect())
    }
}

/// Returns the `restore_command` that takes WAL from `archive`.
pub(super) fn restore_command(archive: &Path) -> String {
    let quoted = archive.display().to_string().replace('\'', r"'\''").replace('%', "%%");
    format!("cp -- '{quoted}'/%f \"%p\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_and_a_percent_survive_the_restore_command() {
        assert_eq!(restore_command(Path::new("/a'b/50%")), r#"cp -- '/a'\''b/50%%'/%f "%p""#);
    }
}
