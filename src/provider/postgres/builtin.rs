//! The engine that needs nothing but the PostgreSQL server package.
//!
//! A backup is a folder `<backup_dir>/<id>` with
//! - `redrill.json`: what is known of it, written before anything else and replaced as a whole;
//! - `files/data` and `files/tablespaces/<oid>`: a plain copy with a checksum for every file;
//! - `output`, `verified`: what the programs that made and checked it said.
//!
//! A name that begins with a point is not a backup yet, or not any more. Nothing is known from exit codes: every
//! stage ends with something in the folder that was not there before.
//!
//! Another engine stands in by answering the same calls: `list`, `get`, `by_key`, `create`, `observe`, `discard`,
//! `verify`, `delete`, `copy`, and [`restore_command`].

mod making;

pub(super) use making::Look;

use super::{
    cluster::Cluster,
    disk,
    process::{self, Child},
    records,
    wal::Names,
};
use crate::{
    base::{former_name, moment::Moment},
    provider::{
        Code, Error, Result,
        model::{Backup, Key, Restorable},
    },
};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

/// The name of the file with what is known of a backup.
const SIDECAR: &str = "redrill.json";

/// Returns the file with what is known of the backup in `folder`.
pub(super) fn sidecar(folder: &Path) -> PathBuf {
    former_name::existing(folder.join(SIDECAR))
}

/// How far a backup is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stage {
    /// The data is being copied.
    Copying,
    /// The copy is being compared with its checksums.
    Verifying,
    /// The WAL that it needs is being archived.
    Archiving,
    /// It can be restored.
    Completed,
}

/// What is known of a backup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Stored {
    /// Its id, and the name of its folder.
    pub id: String,
    /// The target it is of.
    pub target: String,
    /// What the maker called it.
    pub label: Option<String>,
    /// The key of the call that made it.
    pub key: Key,
    /// How far it is.
    pub stage: Stage,
    /// The child that works on it.
    child: Option<Child>,
    /// How often the copy was begun.
    starts: u32,
    /// When it was asked for.
    pub started_at: Moment,
    /// When the copy was complete: the earliest moment it can be restored to.
    pub finished_at: Option<Moment>,
    /// How many bytes the databases had when it was asked for.
    expected_bytes: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// Who the cluster is.
    pub system_identifier: String,
    /// Where the cluster archived its WAL, for the day on which it cannot be asked any more.
    pub archive: PathBuf,
    /// The stretch of WAL without which the copy makes no sense.
    pub wal: Option<Needed>,
    /// What the last comparison with its checksums found wrong.
    #[serde(default)]
    pub damaged: Option<String>,
    /// Tables by the numbers of their files, for reading the WAL later.
    pub names: Option<Names>,
}

/// A stretch of WAL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Needed {
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
pub(super) struct Builtin<'a> {
    cluster: &'a Cluster,
    folder: &'a Path,
}

impl Stored {
    /// Returns whether it can be restored as far as it is concerned itself.
    pub(super) fn is_completed(&self) -> bool {
        self.stage == Stage::Completed
    }

    fn status(&self) -> &'static str {
        match (self.is_completed(), &self.damaged) {
            (true, Some(_)) => "damaged",
            (true, None) => "completed",
            (false, _) => "running",
        }
    }

    /// Returns it as it is seen from outside.
    pub(super) fn backup(&self) -> Backup {
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

impl<'a> Builtin<'a> {
    /// Returns the backups of a cluster.
    ///
    /// # Errors
    /// [`Code::Invalid`] when the target says of no folder for them.
    pub(super) fn of(cluster: &'a Cluster) -> Result<Self> {
        Ok(Self { cluster, folder: cluster.backup_dir()? })
    }

    /// Returns every backup, oldest first. One of which nothing can be read is left out, and does not keep anybody
    /// from the others: see [`Builtin::unreadable`].
    ///
    /// # Errors
    /// [`Code::Unavailable`] when the folder cannot be read.
    pub(super) fn list(&self) -> Result<Vec<Stored>> {
        let stored = self.folders()?.into_iter().map(|folder| records::read::<Stored>(&sidecar(&folder)));
        let mut all: Vec<Stored> = stored.filter_map(|read| read.ok().flatten()).collect();
        all.sort_by(|a, b| (a.started_at, &a.id).cmp(&(b.started_at, &b.id)));
        Ok(all)
    }

    /// Returns why something that looks like a backup cannot be read as one, a sentence each.
    ///
    /// # Errors
    /// [`Code::Unavailable`] when the folder cannot be read.
    pub(super) fn unreadable(&self) -> Result<Vec<String>> {
        let read = self.folders()?.into_iter().map(|folder| records::read::<Stored>(&sidecar(&folder)));
        Ok(read.filter_map(|read| read.err().map(|e| e.message)).collect())
    }

    fn folders(&self) -> Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(self.folder) {
            Ok(entries) => entries.flatten(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => {
                return Err(Error::new(
                    Code::Unavailable,
                    format!("the backups in `{}` cannot be read: {e}", self.folder.display()),
                ));
            }
        };
        let shown = entries.filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."));
        Ok(shown.map(|entry| entry.path()).collect())
    }

    /// Returns one backup.
    ///
    /// # Errors
    /// [`Code::NotFound`].
    pub(super) fn get(&self, id: &str) -> Result<Stored> {
        let all = self.list()?;
        all.iter().find(|stored| stored.id == id).cloned().ok_or_else(|| {
            let newest =
                all.last().map_or_else(|| "there is none".into(), |s| format!("the newest is `{}`", s.id));
            Error::new(Code::NotFound, format!("`{}` has no backup `{id}`", self.cluster.name)).hint(newest)
        })
    }

    /// Returns the backup that was made with `key`.
    ///
    /// # Errors
    /// [`Code::Internal`].
    pub(super) fn by_key(&self, key: &Key) -> Result<Option<Stored>> {
        Ok(self.list()?.into_iter().find(|stored| stored.key == *key))
    }

    /// Returns the folder of a backup's files.
    pub(super) fn files(&self, id: &str) -> PathBuf {
        self.folder.join(id).join("files")
    }

    /// Ends whatever works on a backup and removes it.
    ///
    /// # Errors
    /// [`Code::Tool`] naming what is left.
    pub(super) fn discard(&self, id: &str) -> Result<()> {
        if let Ok(stored) = self.get(id) {
            let data = self.files(id).join("data");
            let child =
                stored.child.filter(Child::is_alive).or_else(|| process::started_with(data.as_os_str()));
            if let Some(child) = child {
                child.signal_group(Signal::KILL);
                child.signal(Signal::KILL);
            }
        }
        self.delete(id)
    }

    /// Removes a backup; from the first moment on it is no longer listed, and one that is gone is no error.
    ///
    /// # Errors
    /// [`Code::Tool`] naming what is left.
    pub(super) fn delete(&self, id: &str) -> Result<()> {
        let aside = self.folder.join(format!(".deleting-{id}"));
        let shown = self.folder.join(id);
        if sidecar(&shown).is_file() {
            fs::rename(&shown, &aside).map_err(|e| {
                Error::new(Code::Tool, format!("`{}` cannot be moved aside: {e}", shown.display()))
            })?;
        }
        disk::remove(&aside)
    }

    /// Reads a backup through and returns what is wrong with it, a sentence each; what is found stays written down with
    /// the backup until it is found to be sound.
    ///
    /// # Errors
    /// [`Code::Tool`] when the program cannot be started.
    pub(super) async fn verify(&self, id: &str) -> Result<Vec<String>> {
        let data = self.files(id).join("data");
        let tools = self.cluster.tools()?;
        let output = tools.try_run("pg_verifybackup", &[data.as_os_str()]).await?;
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
        let stored = self.get(id)?;
        let damaged = problems.first().cloned();
        if stored.damaged != damaged
            && let Err(error) = self.keep(&tools, &Stored { damaged, ..stored })
        {
            problems.push(format!("this could not be written down: {}", error.message));
        }
        Ok(problems)
    }

    /// Returns the folder in which a copy grows until it is complete.
    pub(super) fn partial(to: &Path) -> PathBuf {
        to.with_extension("partial")
    }

    /// Returns the program and arguments that copy a backup's files to `to`, which appears only when it is complete.
    pub(super) fn copy(&self, id: &str, to: &Path) -> (&'static str, Vec<OsString>) {
        const SCRIPT: &str = r#"rm -rf -- "$2" && cp -a --reflink=auto -- "$1" "$2" && mv -T -- "$2" "$3""#;
        let partial = Self::partial(to);
        let script = ["-c", SCRIPT, "redrill"].map(OsString::from);
        let folders = [self.files(id), partial, to.to_path_buf()].map(PathBuf::into_os_string);
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
