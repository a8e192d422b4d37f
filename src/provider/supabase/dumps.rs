//! Our own backups of a project: logical dumps, since the platform takes none when asked.
//!
//! A dump is a folder `<backup_dir>/<id>` with
//! - `redrill.json`: what is known of it, there before anything else and replaced as a whole;
//! - `dump.partial`, and `dump` once it is whole, read through and on disk;
//! - what the programs said.
//!
//! A name that begins with a point is not a dump yet, or not any more.
//!
//! What a dump does not hold: roles and their passwords, the objects of Storage, the project's settings, secrets and
//! functions, and the platform's own schemas except those of users and buckets.

mod making;

pub(super) use making::{KIND, job, vanished};

use super::{
    programs,
    work::{Look, Work, cannot},
};
use crate::{
    base::{former_name, moment::Moment},
    provider::{
        Code, Error, Result,
        model::{Backup, Key, Restorable, Usable, Verification},
        postgres::{disk, process::Child, records, tools::Tools},
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
fn sidecar(folder: &Path) -> PathBuf {
    former_name::existing(folder.join(SIDECAR))
}

/// How far a dump is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Stage {
    /// `pg_dump` is at work.
    Dumping,
    /// What it wrote is read through.
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
    pub key: Key,
    stage: Stage,
    child: Option<Child>,
    starts: u32,
    started_at: Moment,
    finished_at: Option<Moment>,
    bytes: u64,
    sha256: Option<String>,
    /// The major version of the server it is of.
    pub server_major: u32,
    /// What the last reading through found wrong.
    #[serde(default)]
    damaged: Option<String>,
}

/// The dumps of one project.
pub(super) struct Dumps<'a> {
    /// The folder they are in.
    pub folder: &'a Path,
    /// Whose they are, for people.
    pub target: String,
    /// The project they are of.
    pub reference: &'a str,
}

impl Dump {
    fn is_completed(&self) -> bool {
        self.stage == Stage::Completed
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
    pub(super) fn backup(&self) -> Backup {
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
    pub(super) fn usable(&self) -> Usable {
        let checked = self.check_restorable();
        Usable { id: self.id.clone(), usable: checked.is_ok(), why: checked.err().map(|e| e.message) }
    }
}

impl Dumps<'_> {
    /// Returns every dump of the project, oldest first; one of which nothing can be read is left out.
    ///
    /// # Errors
    /// [`Code::Tool`] when the folder cannot be read.
    pub(super) fn list(&self) -> Result<Vec<Dump>> {
        let entries = match fs::read_dir(self.folder) {
            Ok(entries) => entries.flatten(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(cannot(self.folder, "be read", &e)),
        };
        let shown = entries.filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."));
        let read = shown.filter_map(|entry| records::read::<Dump>(&sidecar(&entry.path())).ok().flatten());
        let mut dumps: Vec<Dump> = read.filter(|dump| dump.reference == self.reference).collect();
        dumps.sort_by(|a, b| (a.started_at, &a.id).cmp(&(b.started_at, &b.id)));
        Ok(dumps)
    }

    /// Returns one dump.
    ///
    /// # Errors
    /// [`Code::NotFound`].
    pub(super) fn get(&self, id: &str) -> Result<Dump> {
        let all = self.list()?;
        let newest =
            all.last().map_or_else(|| "there is none".into(), |dump| format!("the newest is `{}`", dump.id));
        all.into_iter().find(|dump| dump.id == id).ok_or_else(|| {
            Error::new(Code::NotFound, format!("`{}` has no backup `{id}`", self.target)).hint(newest)
        })
    }

    /// Returns the dump that was made with `key`.
    ///
    /// # Errors
    /// As [`Dumps::list`].
    pub(super) fn by_key(&self, key: &Key) -> Result<Option<Dump>> {
        Ok(self.list()?.into_iter().find(|dump| dump.key == *key))
    }

    /// Returns the file of a dump.
    pub(super) fn file(&self, id: &str) -> PathBuf {
        self.home(id).join("dump")
    }

    fn partial(&self, id: &str) -> PathBuf {
        self.home(id).join("dump.partial")
    }

    fn home(&self, id: &str) -> PathBuf {
        self.folder.join(id)
    }

    fn keep(&self, dump: &Dump) -> Result<()> {
        records::write(&sidecar(&self.home(&dump.id)), dump)
    }

    /// Ends whatever works on a dump and removes it; one that is gone is no error.
    ///
    /// # Errors
    /// [`Code::Tool`] naming what is left.
    pub(super) fn discard(&self, id: &str) -> Result<()> {
        if let Ok(dump) = self.get(id) {
            let home = self.home(id);
            for name in [making::DUMP, making::READ] {
                Work::of(&home, name).end(dump.child.as_ref());
            }
        }
        self.delete(id)
    }

    /// Removes a dump; from the first moment on it is no longer listed, and one that is gone is no error.
    ///
    /// # Errors
    /// [`Code::Tool`] naming what is left.
    pub(super) fn delete(&self, id: &str) -> Result<()> {
        let (home, aside) = (self.home(id), self.folder.join(format!(".deleting-{id}")));
        match fs::rename(&home, &aside) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(cannot(&home, "be moved aside", &e)),
        }
        disk::remove(&aside)
    }

    /// Reads a dump through and compares it with its checksum; what is found stays written down with the dump.
    ///
    /// # Errors
    /// [`Code::Refused`] while it is made, [`Code::Tool`] when a program cannot be started.
    pub(super) async fn verify(&self, id: &str, tools: &Tools) -> Result<Verification> {
        let dump = self.get(id)?;
        if !dump.is_completed() {
            return Err(Error::new(Code::Refused, format!("dump `{id}` is not complete")));
        }
        let file = self.file(id);
        let mut problems = Vec::new();
        match checksum(file.clone()).await {
            Ok(sum) if Some(&sum.sha256) == dump.sha256.as_ref() => {}
            Ok(sum) => {
                problems.push(format!("its checksum is {} and was another when it was made", sum.sha256));
            }
            Err(e) => problems.push(e.message),
        }
        if problems.is_empty() {
            for args in [list_args(&file), read_args(&file)] {
                let args: Vec<_> = args.iter().map(OsString::as_os_str).collect();
                let said = tools.try_run("pg_restore", &args).await?;
                if !said.status.success() {
                    problems.push(crate::provider::postgres::tools::tail(&said.stderr));
                }
            }
        }
        let damaged = problems.first().cloned();
        if damaged != dump.damaged {
            self.keep(&Dump { damaged, ..dump })?;
        }
        let checked = ["checksum", "contents", "data"].map(str::to_owned).to_vec();
        Ok(Verification { id: id.into(), ok: problems.is_empty(), checked, problems })
    }
}

/// Returns the arguments with which `pg_restore` lists what is in a dump.
pub(super) fn list_args(file: &Path) -> Vec<OsString> {
    vec!["--list".into(), file.into()]
}

/// Returns the arguments with which `pg_restore` reads a dump through and keeps nothing.
fn read_args(file: &Path) -> Vec<OsString> {
    vec!["-f".into(), "/dev/null".into(), file.into()]
}

struct Sum {
    sha256: String,
    bytes: u64,
}

/// Returns the checksum and the size of a file that is safely on disk by then.
async fn checksum(file: PathBuf) -> Result<Sum> {
    let read = tokio::task::spawn_blocking(move || sum(&file).map_err(|e| cannot(&file, "be read", &e)));
    read.await.map_err(|e| Error::new(Code::Internal, e.to_string()))?
}

fn sum(file: &Path) -> io::Result<Sum> {
    let mut file = File::open(file)?;
    file.sync_all()?;
    let (mut hash, mut bytes, mut block) = (Sha256::new(), 0, vec![0; 1 << 20]);
    loop {
        let read = file.read(&mut block)?;
        if read == 0 {
            return Ok(Sum { sha256: data_encoding::HEXLOWER.encode(&hash.finalize()), bytes });
        }
        hash.update(&block[..read]);
        bytes += read as u64;
    }
}
