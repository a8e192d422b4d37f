//! The dumps of a project: their folders and their records.

use super::detached::{DetachedProgram, file_error};
use crate::{
    base::{former_name, moment::Moment},
    provider::{
        Code, Error, Result,
        host::{disk, process::TrackedProcess, record_file},
        model::{Backup, BackupUsability, CallKey, Restorable},
        supabase::project::Supabase,
    },
};
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

/// The program that dumps, and the stem of its log and status files.
pub(super) const DUMP_PROGRAM: &str = "pg_dump";
/// The program that reads a dump through, and the stem of its log and status files.
pub(super) const READ_PROGRAM: &str = "pg_restore";
/// The age at which an unfinished folder counts as orphaned.
const ORPHAN_AGE: Duration = Duration::from_secs(3600);
/// The file name of a dump's record.
const SIDECAR: &str = "redrill.json";

/// The phase of a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum DumpPhase {
    /// `pg_dump` is at work.
    Dumping,
    /// `pg_restore` reads the finished file through.
    Reading,
    /// It can be restored.
    Completed,
}

/// The record of a dump.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::provider::supabase) struct Dump {
    /// Its id, and the name of its folder.
    pub id: String,
    pub(super) target: String,
    /// The project it is of.
    pub(super) reference: String,
    pub(super) label: Option<String>,
    /// The key of the call that made it.
    pub key: CallKey,
    #[serde(rename = "stage")]
    pub(super) phase: DumpPhase,
    pub(super) child: Option<TrackedProcess>,
    pub(super) starts: u32,
    pub(super) started_at: Moment,
    pub(super) finished_at: Option<Moment>,
    pub(super) bytes: u64,
    pub(super) sha256: Option<String>,
    /// The major version of the server it is of.
    pub server_major: u32,
    /// The first problem that the last verification found.
    #[serde(default)]
    pub(super) damaged: Option<String>,
}

/// The dumps of one project.
pub(in crate::provider::supabase) struct DumpStore<'a> {
    /// The folder they are in.
    pub folder: &'a Path,
    /// The target's name, for messages.
    pub target: String,
    /// The project they are of.
    pub reference: &'a str,
}

impl Dump {
    pub(super) fn is_completed(&self) -> bool {
        self.phase == DumpPhase::Completed
    }

    /// Refuses a dump that is not complete or is damaged.
    ///
    /// # Errors
    /// [`Code::Refused`], [`Code::CorruptBackup`].
    pub(in crate::provider::supabase) fn check_restorable(&self) -> Result<()> {
        if !self.is_completed() {
            return Err(Error::new(Code::Refused, format!("dump `{}` is not complete", self.id)));
        }
        match &self.damaged {
            Some(why) => {
                Err(Error::new(Code::CorruptBackup, format!("dump `{}` is damaged: {why}", self.id)))
            }
            None => Ok(()),
        }
    }

    /// Converts the record to the provider-neutral backup.
    pub(in crate::provider::supabase) fn to_backup(&self) -> Backup {
        let status = match (self.is_completed(), &self.damaged) {
            (true, Some(_)) => "damaged",
            (true, None) => "completed",
            (false, _) => "running",
        };
        Backup {
            id: self.id.clone(),
            target: self.target.clone(),
            label: self.label.clone(),
            method: "logical_dump".into(),
            status: status.into(),
            started_at: self.started_at,
            finished_at: self.finished_at,
            bytes: self.bytes,
            restorable: vec![Restorable::Branch],
            key: Some(self.key.clone()),
        }
    }

    /// Returns whether the dump can be restored, and why not.
    pub(in crate::provider::supabase) fn to_usability(&self) -> BackupUsability {
        let checked = self.check_restorable();
        BackupUsability {
            id: self.id.clone(),
            usable: checked.is_ok(),
            why: checked.err().map(|e| e.message),
        }
    }
}

impl DumpStore<'_> {
    /// Returns every dump of the project, oldest first; a dump whose record cannot be read is left out.
    ///
    /// # Errors
    /// [`Code::Tool`] when the folder cannot be read.
    pub(in crate::provider::supabase) fn list_dumps(&self) -> Result<Vec<Dump>> {
        let entries = match fs::read_dir(self.folder) {
            Ok(entries) => entries.flatten(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(file_error(self.folder, "be read", &e)),
        };
        let shown = entries.filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."));
        let read = shown.filter_map(|entry| {
            record_file::read_record::<Dump>(&sidecar_path(&entry.path())).ok().flatten()
        });
        let mut dumps: Vec<Dump> = read.filter(|dump| dump.reference == self.reference).collect();
        dumps.sort_by(|a, b| (a.started_at, &a.id).cmp(&(b.started_at, &b.id)));
        Ok(dumps)
    }

    /// Returns one dump.
    ///
    /// # Errors
    /// [`Code::NotFound`].
    pub(in crate::provider::supabase) fn find_dump(&self, id: &str) -> Result<Dump> {
        let all = self.list_dumps()?;
        let newest =
            all.last().map_or_else(|| "there is none".into(), |dump| format!("the newest is `{}`", dump.id));
        all.into_iter().find(|dump| dump.id == id).ok_or_else(|| {
            Error::new(Code::NotFound, format!("`{}` has no backup `{id}`", self.target)).with_hint(newest)
        })
    }

    /// Returns the dump that was made with `key`.
    ///
    /// # Errors
    /// As [`DumpStore::list_dumps`].
    pub(in crate::provider::supabase) fn find_dump_by_key(&self, key: &CallKey) -> Result<Option<Dump>> {
        Ok(self.list_dumps()?.into_iter().find(|dump| dump.key == *key))
    }

    /// Returns the file of a dump.
    pub(in crate::provider::supabase) fn dump_path(&self, id: &str) -> PathBuf {
        self.dump_folder(id).join("dump")
    }

    pub(super) fn partial_dump_path(&self, id: &str) -> PathBuf {
        self.dump_folder(id).join("dump.partial")
    }

    pub(super) fn dump_folder(&self, id: &str) -> PathBuf {
        self.folder.join(id)
    }

    pub(super) fn save_dump(&self, dump: &Dump) -> Result<()> {
        record_file::write_record(&sidecar_path(&self.dump_folder(&dump.id)), dump)
    }

    /// Kills the programs that work on a dump and deletes it; a dump that is gone is no error.
    ///
    /// # Errors
    /// [`Code::Tool`] naming what is left.
    pub(in crate::provider::supabase) fn stop_and_delete(&self, id: &str) -> Result<()> {
        if let Ok(dump) = self.find_dump(id) {
            let home = self.dump_folder(id);
            for name in [DUMP_PROGRAM, READ_PROGRAM] {
                DetachedProgram::in_folder(&home, name).kill_program(dump.child.as_ref());
            }
        }
        self.delete_dump(id)
    }

    /// Deletes a dump, which disappears from the list first; a dump that is gone is no error.
    ///
    /// # Errors
    /// [`Code::Tool`] naming what is left.
    fn delete_dump(&self, id: &str) -> Result<()> {
        let (home, aside) = (self.dump_folder(id), self.folder.join(format!(".deleting-{id}")));
        match fs::rename(&home, &aside) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(file_error(&home, "be moved aside", &e)),
        }
        disk::remove_folder(&aside)
    }

    /// Creates the folder of a dump, which only its owner may read and which has the record in it from the start.
    pub(super) fn create_dump_folder(&self, dump: &Dump) -> Result<()> {
        self.sweep_leftovers();
        let (new, home) = (self.folder.join(format!(".new-{}", dump.id)), self.dump_folder(&dump.id));
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&new);
        made.map_err(|e| file_error(&new, "be made", &e))?;
        let written = record_file::write_record(&new.join(SIDECAR), dump);
        let shown =
            written.and_then(|()| fs::rename(&new, &home).map_err(|e| file_error(&new, "be renamed", &e)));
        shown.inspect_err(|_| drop(disk::remove_folder(&new)))
    }

    /// Removes folders that an earlier process left half-created or half-deleted.
    fn sweep_leftovers(&self) {
        for entry in fs::read_dir(self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let changed = entry.metadata().and_then(|found| found.modified()).ok();
            let is_old = changed.and_then(|at| at.elapsed().ok()).is_some_and(|age| age > ORPHAN_AGE);
            if name.starts_with(".deleting-") || (is_old && name.starts_with(".new-")) {
                // What cannot be removed now is tried again next time.
                disk::remove_folder(&entry.path()).ok();
            }
        }
    }
}

impl Supabase {
    /// Returns the dumps of this project.
    pub(in crate::provider::supabase) fn dump_store(&self) -> DumpStore<'_> {
        DumpStore { folder: &self.backups, target: self.display_name(), reference: &self.reference }
    }
}

/// Returns the record of the dump in `folder`.
fn sidecar_path(folder: &Path) -> PathBuf {
    former_name::fall_back_to_former_path(folder.join(SIDECAR))
}
