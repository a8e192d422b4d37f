//! Our own backups of a project: logical dumps, since the platform takes none when asked.
//!
//! A dump is a folder `<backup_dir>/<id>` with
//! - `redrill.json`: what is known of it, there before anything else and replaced as a whole;
//! - `dump.partial`, and `dump` once it is whole, read through and on disk;
//! - what the programs said.
//!
//! A folder whose name begins with a dot is being created or deleted.
//!
//! What a dump does not hold: roles and their passwords, the objects of Storage, the project's settings, secrets and
//! functions, and the platform's own schemas except those of users and buckets.

mod making;

pub(super) use making::{DUMP_JOB, dump_job, vanished_error};

use super::{
    programs,
    work::{DetachedProgram, ProgramStatus, file_error},
};
use crate::{
    base::{former_name, moment::Moment},
    provider::{
        Code, Error, Result,
        host::{disk, process::TrackedProcess, programs::Programs, record_file as records},
        model::{Backup, BackupUsability, CallKey, Restorable, Verification},
    },
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

/// The name of the file with what is known of a dump.
const SIDECAR: &str = "redrill.json";

/// Returns the file with what is known of the dump in `folder`.
fn sidecar_path(folder: &Path) -> PathBuf {
    former_name::find_existing_path(folder.join(SIDECAR))
}

/// The phase of a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum DumpPhase {
    /// `pg_dump` is at work.
    Dumping,
    /// `pg_restore` reads the finished file through.
    Reading,
    /// It can be restored.
    Completed,
}

/// What is known of a dump.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Dump {
    /// Its id, and the name of its folder.
    pub id: String,
    target: String,
    /// The project it is of.
    reference: String,
    label: Option<String>,
    /// The key of the call that made it.
    pub key: CallKey,
    stage: DumpPhase,
    child: Option<TrackedProcess>,
    starts: u32,
    started_at: Moment,
    finished_at: Option<Moment>,
    bytes: u64,
    sha256: Option<String>,
    /// The major version of the server it is of.
    pub server_major: u32,
    /// The first problem that the last verification found.
    #[serde(default)]
    damaged: Option<String>,
}

/// The dumps of one project.
pub(super) struct DumpStore<'a> {
    /// The folder they are in.
    pub folder: &'a Path,
    /// The target's name, for messages.
    pub target: String,
    /// The project they are of.
    pub reference: &'a str,
}

impl Dump {
    fn is_completed(&self) -> bool {
        self.stage == DumpPhase::Completed
    }

    /// Refuses a dump that is not whole.
    ///
    /// # Errors
    /// [`Code::Refused`], [`Code::CorruptBackup`].
    pub(super) fn check_restorable(&self) -> Result<()> {
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

    /// Returns it as it is seen from outside.
    pub(super) fn to_backup(&self) -> Backup {
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

    /// Returns whether it can be restored.
    pub(super) fn to_usability(&self) -> BackupUsability {
        let checked = self.check_restorable();
        BackupUsability {
            id: self.id.clone(),
            usable: checked.is_ok(),
            why: checked.err().map(|e| e.message),
        }
    }
}

impl DumpStore<'_> {
    /// Returns every dump of the project, oldest first; one of which nothing can be read is left out.
    ///
    /// # Errors
    /// [`Code::Tool`] when the folder cannot be read.
    pub(super) fn list_dumps(&self) -> Result<Vec<Dump>> {
        let entries = match fs::read_dir(self.folder) {
            Ok(entries) => entries.flatten(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(file_error(self.folder, "be read", &e)),
        };
        let shown = entries.filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."));
        let read = shown
            .filter_map(|entry| records::read_record::<Dump>(&sidecar_path(&entry.path())).ok().flatten());
        let mut dumps: Vec<Dump> = read.filter(|dump| dump.reference == self.reference).collect();
        dumps.sort_by(|a, b| (a.started_at, &a.id).cmp(&(b.started_at, &b.id)));
        Ok(dumps)
    }

    /// Returns one dump.
    ///
    /// # Errors
    /// [`Code::NotFound`].
    pub(super) fn find_dump(&self, id: &str) -> Result<Dump> {
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
    pub(super) fn find_by_key(&self, key: &CallKey) -> Result<Option<Dump>> {
        Ok(self.list_dumps()?.into_iter().find(|dump| dump.key == *key))
    }

    /// Returns the file of a dump.
    pub(super) fn dump_path(&self, id: &str) -> PathBuf {
        self.dump_folder(id).join("dump")
    }

    fn partial_path(&self, id: &str) -> PathBuf {
        self.dump_folder(id).join("dump.partial")
    }

    fn dump_folder(&self, id: &str) -> PathBuf {
        self.folder.join(id)
    }

    fn save_dump(&self, dump: &Dump) -> Result<()> {
        records::write_record(&sidecar_path(&self.dump_folder(&dump.id)), dump)
    }

    /// Ends whatever works on a dump and removes it; one that is gone is no error.
    ///
    /// # Errors
    /// [`Code::Tool`] naming what is left.
    pub(super) fn stop_and_delete(&self, id: &str) -> Result<()> {
        if let Ok(dump) = self.find_dump(id) {
            let home = self.dump_folder(id);
            for name in [making::DUMP_PROGRAM, making::READ_PROGRAM] {
                DetachedProgram::in_folder(&home, name).kill_program(dump.child.as_ref());
            }
        }
        self.delete_dump(id)
    }

    /// Removes a dump; from the first moment on it is no longer listed, and one that is gone is no error.
    ///
    /// # Errors
    /// [`Code::Tool`] naming what is left.
    pub(super) fn delete_dump(&self, id: &str) -> Result<()> {
        let (home, aside) = (self.dump_folder(id), self.folder.join(format!(".deleting-{id}")));
        match fs::rename(&home, &aside) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(file_error(&home, "be moved aside", &e)),
        }
        disk::remove_folder(&aside)
    }

    /// Reads a dump through and compares it with its checksum; what is found stays written down with the dump.
    ///
    /// # Errors
    /// [`Code::Refused`] while it is made, [`Code::Tool`] when a program cannot be started.
    pub(super) async fn verify_dump(&self, id: &str, tools: &Programs) -> Result<Verification> {
        let dump = self.find_dump(id)?;
        if !dump.is_completed() {
            return Err(Error::new(Code::Refused, format!("dump `{id}` is not complete")));
        }
        let file = self.dump_path(id);
        let mut problems = Vec::new();
        match hash_file(file.clone()).await {
            Ok(sum) if Some(&sum.sha256) == dump.sha256.as_ref() => {}
            Ok(sum) => {
                problems.push(format!("its checksum is {} and was another when it was made", sum.sha256));
            }
            Err(e) => problems.push(e.message),
        }
        if problems.is_empty() {
            for args in [pg_restore_list_args(&file), pg_restore_read_args(&file)] {
                let args: Vec<_> = args.iter().map(OsString::as_os_str).collect();
                let said = tools.try_run("pg_restore", &args).await?;
                if !said.status.success() {
                    problems.push(crate::provider::host::programs::tail_output(&said.stderr));
                }
            }
        }
        let damaged = problems.first().cloned();
        if damaged != dump.damaged {
            self.save_dump(&Dump { damaged, ..dump })?;
        }
        let checked = ["checksum", "contents", "data"].map(str::to_owned).to_vec();
        Ok(Verification { id: id.into(), ok: problems.is_empty(), checked, problems })
    }
}

/// Returns the arguments with which `pg_restore` lists what is in a dump.
pub(super) fn pg_restore_list_args(file: &Path) -> Vec<OsString> {
    vec!["--list".into(), file.into()]
}

/// Returns the arguments with which `pg_restore` reads a dump through and keeps nothing.
fn pg_restore_read_args(file: &Path) -> Vec<OsString> {
    vec!["-f".into(), "/dev/null".into(), file.into()]
}

struct FileDigest {
    sha256: String,
    bytes: u64,
}

/// Syncs a file to disk and returns its checksum and size.
async fn hash_file(file: PathBuf) -> Result<FileDigest> {
    let read = tokio::task::spawn_blocking(move || {
        hash_file_blocking(&file).map_err(|e| file_error(&file, "be read", &e))
    });
    read.await.map_err(|e| Error::new(Code::Internal, e.to_string()))?
}

fn hash_file_blocking(file: &Path) -> io::Result<FileDigest> {
    let mut file = File::open(file)?;
    file.sync_all()?;
    let (mut hash, mut bytes, mut block) = (Sha256::new(), 0, vec![0; 1 << 20]);
    loop {
        let read = file.read(&mut block)?;
        if read == 0 {
            return Ok(FileDigest { sha256: data_encoding::HEXLOWER.encode(&hash.finalize()), bytes });
        }
        hash.update(&block[..read]);
        bytes += read as u64;
    }
}
