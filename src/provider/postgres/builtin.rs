//! The engine that needs nothing but the PostgreSQL server package.
//!
//! A backup is a folder `<backup_dir>/<id>` with
//! - `firedrill.json`: what is known of it, written before anything else and replaced as a whole;
//! - `files/data` and `files/tablespaces/<oid>`: a plain copy with a checksum for every file;
//! - `output`, `verified`: what the programs that made and checked it said.
//!
//! A name that begins with a point is not a backup yet, or not any more. Nothing is known from exit codes: every
//! stage ends with something in the folder that was not there before.
//!
//! Another engine stands in by answering the same calls: `list`, `get`, `by_key`, `create`, `observe`, `discard`,
//! `verify`, `delete`, `copy`, and [`restore_command`].

use super::{
    cluster::{self, Cluster},
    disk, process,
    process::Child,
    records, sql,
    tools::{self, Tools},
    wal::{self, Names},
};
use crate::{
    base::moment::{Moment, Span},
    provider::{
        Code, Error, Result,
        model::{Backup, BackupRequest, Key, Progress, Restorable},
    },
};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use std::{
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
};

/// The name of the file with what is known of a backup.
const SIDECAR: &str = "firedrill.json";
/// How often a copy that was killed is begun again.
const STARTS_MAX: u32 = 3;
/// More than the longest tick of a kernel's clock.
const TICK: Span = Span::millis(20);

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

/// One look at a backup that is being made.
pub(super) enum Look {
    /// Not there yet.
    Running(Progress),
    /// Complete.
    Completed(Box<Stored>),
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

    /// Returns it as it is seen from outside.
    pub(super) fn backup(&self) -> Backup {
        Backup {
            id: self.id.clone(),
            target: self.target.clone(),
            label: self.label.clone(),
            method: "base_backup".into(),
            status: if self.is_completed() { "completed" } else { "running" }.into(),
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

    /// Returns every backup, oldest first.
    ///
    /// # Errors
    /// [`Code::Internal`] when what is known of one cannot be read.
    pub(super) fn list(&self) -> Result<Vec<Stored>> {
        let entries = fs::read_dir(self.folder).into_iter().flatten().flatten();
        let shown = entries.filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."));
        let stored = shown.map(|entry| records::read::<Stored>(&entry.path().join(SIDECAR)));
        let mut all: Vec<Stored> = stored.filter_map(Result::transpose).collect::<Result<_>>()?;
        all.sort_by(|a, b| (a.started_at, &a.id).cmp(&(b.started_at, &b.id)));
        Ok(all)
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

    /// Begins a backup and returns its id.
    ///
    /// # Errors
    /// [`Code::Refused`] when WAL is not being archived: the backup would be worth nothing. [`Code::NoDiskSpace`].
    pub(super) async fn create(&self, request: &BackupRequest, key: &Key) -> Result<String> {
        if let Some(made) = self.by_key(key)? {
            return Ok(made.id);
        }
        let tools = self.cluster.tools()?;
        let archive = self.cluster.archive_dir(None).await?;
        if let Some(why) = self.cluster.archiver_failing().await? {
            return Err(cluster::archiver_error(&why));
        }
        let client = self.cluster.address.connect().await?;
        let bytes = sql::text(&client, "select sum(pg_database_size(oid)) from pg_database").await?;
        let expected_bytes = bytes.and_then(|n| n.parse().ok()).unwrap_or_default();
        disk::room_for(expected_bytes, self.folder)?;
        let started_at = self.cluster.clock.now();
        let stored = Stored {
            id: format!("{}-{key}", started_at.0.strftime("%Y%m%dT%H%M%SZ")),
            target: self.cluster.name.clone(),
            label: request.label.clone(),
            key: key.clone(),
            stage: Stage::Copying,
            child: None,
            starts: 0,
            started_at,
            finished_at: None,
            expected_bytes,
            bytes: 0,
            system_identifier: self.cluster.control().await?.system_identifier,
            archive,
            wal: None,
            names: None,
        };
        self.put(&tools, &stored)?;
        self.start_copy(&tools, stored.clone()).await.inspect_err(|_| drop(self.discard(&stored.id)))?;
        Ok(stored.id)
    }

    /// Makes the folder of a backup, with what is known of it inside from the first moment on.
    fn put(&self, tools: &Tools, stored: &Stored) -> Result<()> {
        let failed = |e: std::io::Error| {
            Error::new(Code::Tool, format!("`{}` cannot be written: {e}", self.folder.display()))
        };
        if !self.folder.is_dir() {
            fs::create_dir_all(self.folder.parent().unwrap_or(Path::new("/"))).map_err(failed)?;
            disk::make_private(tools, self.folder)?;
        }
        let new = self.folder.join(format!(".new-{}", stored.id));
        disk::make_private(tools, &new)?;
        records::write(&new.join(SIDECAR), stored)?;
        tools.hand_over(&new.join(SIDECAR))?;
        fs::rename(&new, self.folder.join(&stored.id)).map_err(failed)
    }

    fn keep(&self, tools: &Tools, stored: &Stored) -> Result<()> {
        let path = self.folder.join(&stored.id).join(SIDECAR);
        records::write(&path, stored)?;
        tools.hand_over(&path)
    }

    /// Begins the copy, or begins it again.
    async fn start_copy(&self, tools: &Tools, mut stored: Stored) -> Result<Stored> {
        let files = self.files(&stored.id);
        disk::remove(&files)?;
        disk::make_private(tools, &files)?;
        let output = self.folder.join(&stored.id).join("output");
        records::remove(&output)?;
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
        for (oid, location) in self.tablespaces().await? {
            let to = files.join("tablespaces").join(oid);
            args.push(format!("-T{}={}", escaped(&location), escaped(&to.display().to_string())).into());
        }
        let password = match &address.password {
            Some(reference) => {
                Some(reference.resolve().map_err(|e| Error::new(Code::Invalid, e.to_string()))?)
            }
            None => None,
        };
        let environment: Vec<(&str, &OsStr)> =
            password.iter().map(|secret| ("PGPASSWORD", OsStr::new(secret.reveal()))).collect();
        let args: Vec<&OsStr> = args.iter().map(OsString::as_os_str).collect();
        stored.starts += 1;
        stored.child = Some(tools.spawn_detached("pg_basebackup", &args, &environment, &output)?);
        self.keep(tools, &stored)?;
        Ok(stored)
    }

    /// Returns the number and the folder of every tablespace that lies outside the data folder.
    async fn tablespaces(&self) -> Result<Vec<(String, String)>> {
        let client = self.cluster.address.connect().await?;
        let rows = sql::records(
            &client,
            "select oid, pg_tablespace_location(oid) as location from pg_tablespace \
             where pg_tablespace_location(oid) like '/%'",
        )
        .await?;
        let field = |row: &tokio_postgres::SimpleQueryRow, name| row.get(name).map(str::to_owned);
        Ok(rows.iter().filter_map(|row| Some((field(row, "oid")?, field(row, "location")?))).collect())
    }

    /// Looks at a backup and takes it one part further.
    ///
    /// # Errors
    /// What went wrong; the backup has then been removed.
    pub(super) async fn observe(&self, id: &str) -> Result<Look> {
        let stored = self.get(id)?;
        let tools = self.cluster.tools()?;
        let looked = match stored.stage {
            Stage::Completed => return Ok(Look::Completed(Box::new(stored))),
            Stage::Copying => self.observe_copy(&tools, stored).await,
            Stage::Verifying => self.observe_verification(&tools, stored),
            Stage::Archiving => self.observe_archiving(&tools, stored).await,
        };
        looked.or_else(|error| {
            self.discard(id)?;
            Err(error)
        })
    }

    async fn observe_copy(&self, tools: &Tools, mut stored: Stored) -> Result<Look> {
        let files = self.files(&stored.id);
        let data = files.join("data");
        let at_work = stored.child.as_ref().is_some_and(Child::is_alive);
        if at_work || process::started_with(data.as_os_str()).is_some() {
            let done = disk::bytes_in(&files);
            return Ok(Look::Running(Progress::bytes(
                "copying",
                done,
                Some(stored.expected_bytes.max(done)),
            )));
        }
        let said = fs::read(self.folder.join(&stored.id).join("output")).unwrap_or_default();
        if let Some(error) = failure(&said) {
            return Err(error);
        }
        if !data.join("backup_manifest").is_file() {
            if stored.starts >= STARTS_MAX {
                return Err(Error::new(
                    Code::Tool,
                    format!("`pg_basebackup` was killed {} times without a word", stored.starts),
                ));
            }
            self.start_copy(tools, stored).await?;
            return Ok(Look::Running(Progress::phase("copying")));
        }
        stored.stage = Stage::Verifying;
        self.start_verification(tools, stored)
    }

    fn start_verification(&self, tools: &Tools, mut stored: Stored) -> Result<Look> {
        let output = self.folder.join(&stored.id).join("verified");
        records::remove(&output)?;
        let data = self.files(&stored.id).join("data");
        stored.child = Some(tools.spawn_detached("pg_verifybackup", &[data.as_os_str()], &[], &output)?);
        self.keep(tools, &stored)?;
        Ok(Look::Running(Progress::phase("comparing with checksums")))
    }

    fn observe_verification(&self, tools: &Tools, mut stored: Stored) -> Result<Look> {
        if stored.child.as_ref().is_some_and(Child::is_alive) {
            return Ok(Look::Running(Progress::phase("comparing with checksums")));
        }
        let said = fs::read(self.folder.join(&stored.id).join("verified")).unwrap_or_default();
        if said.is_empty() {
            return self.start_verification(tools, stored);
        }
        if !String::from_utf8_lossy(&said).contains("backup successfully verified") {
            return Err(Error::new(
                Code::CorruptBackup,
                format!("the copy differs from its checksums: {}", tools::tail(&said)),
            ));
        }
        stored.stage = Stage::Archiving;
        stored.child = None;
        stored.wal = Some(needed(&self.files(&stored.id))?);
        self.keep(tools, &stored)?;
        Ok(Look::Running(Progress::phase("waiting for its WAL to be archived")))
    }

    async fn observe_archiving(&self, tools: &Tools, mut stored: Stored) -> Result<Look> {
        let files = self.files(&stored.id);
        let segment_bytes = super::control::Control::read(tools, &files.join("data")).await?.segment_bytes;
        let needed = stored.wal.clone().map_or_else(|| needed(&files), Ok)?;
        let last = wal::segment_name(needed.timeline, &needed.stop, segment_bytes).unwrap_or_default();
        let archived = fs::metadata(stored.archive.join(&last)).is_ok_and(|file| file.len() == segment_bytes);
        if !archived {
            // A source that does not answer has not failed to archive.
            if let Ok(Some(why)) = self.cluster.archiver_failing().await {
                return Err(cluster::archiver_error(&why));
            }
            return Ok(Look::Running(Progress::phase("waiting for its WAL to be archived")));
        }
        let manifest = fs::metadata(files.join("data/backup_manifest")).and_then(|found| found.modified());
        // A file's time lags behind the clock by up to a tick; the end of the backup must not come out too early.
        let written = manifest.ok().and_then(|time| jiff::Timestamp::try_from(time).ok()).map(Moment);
        stored.finished_at = written.map(|time| time.plus(TICK));
        stored.bytes = disk::bytes_in(&files);
        // What the tables are called is a comfort for later; a source that is gone by now does not spoil the backup.
        if let Ok(client) = self.cluster.address.connect().await {
            stored.names = wal::relation_names(&client).await.ok();
        }
        stored.stage = Stage::Completed;
        self.keep(tools, &stored)?;
        Ok(Look::Completed(Box::new(stored)))
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
        if shown.join(SIDECAR).is_file() {
            fs::rename(&shown, &aside).map_err(|e| {
                Error::new(Code::Tool, format!("`{}` cannot be moved aside: {e}", shown.display()))
            })?;
        }
        disk::remove(&aside)
    }

    /// Reads a backup through and returns what is wrong with it, a sentence each.
    ///
    /// # Errors
    /// [`Code::Tool`] when the program cannot be started.
    pub(super) async fn verify(&self, id: &str) -> Result<Vec<String>> {
        let data = self.files(id).join("data");
        let output = self.cluster.tools()?.try_run("pg_verifybackup", &[data.as_os_str()]).await?;
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
        let script = ["-c", SCRIPT, "firedrill"].map(OsString::from);
        let folders = [self.files(id), partial, to.to_path_buf()].map(PathBuf::into_os_string);
        ("sh", script.into_iter().chain(folders).collect())
    }
}

/// Returns the `restore_command` that takes WAL from `archive`.
pub(super) fn restore_command(archive: &Path) -> String {
    let quoted = archive.display().to_string().replace('\'', r"'\''").replace('%', "%%");
    format!("cp -- '{quoted}'/%f \"%p\"")
}

/// Returns what a copy's manifest says about the WAL that it needs.
fn needed(files: &Path) -> Result<Needed> {
    #[derive(Deserialize)]
    struct Manifest {
        #[serde(rename = "WAL-Ranges")]
        ranges: Vec<Needed>,
    }
    let manifest: Option<Manifest> = records::read(&files.join("data/backup_manifest"))?;
    let range = manifest.and_then(|manifest| manifest.ranges.into_iter().next_back());
    range.ok_or_else(|| Error::new(Code::CorruptBackup, "the copy's manifest names no WAL"))
}

/// Returns what went wrong according to the last words of `pg_basebackup`.
fn failure(said: &[u8]) -> Option<Error> {
    let text = String::from_utf8_lossy(said);
    if text.contains("checksum error occurred") || text.contains("checksum verification failed") {
        let message = format!("pages of the source do not match their checksums: {}", tools::tail(said));
        return Some(
            Error::new(Code::CorruptSource, message)
                .hint("find the damaged table with `pg_amcheck`, and restore it from an older backup"),
        );
    }
    let failed = text.lines().any(|line| line.contains("error: ") || line.contains("fatal: "));
    failed.then(|| Error::new(Code::Tool, format!("`pg_basebackup` failed: {}", tools::tail(said))))
}

/// Escapes the `=` that separates the two folders of a mapping.
fn escaped(path: &str) -> String {
    path.replace('=', "\\=")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_and_a_percent_survive_the_restore_command() {
        assert_eq!(restore_command(Path::new("/a'b/50%")), r#"cp -- '/a'\''b/50%%'/%f "%p""#);
    }

    #[test]
    fn a_damaged_source_is_told_from_a_failure() {
        let damaged = failure(b"pg_basebackup: error: checksum error occurred").expect("an error");
        assert_eq!(damaged.code, Code::CorruptSource);
        assert_eq!(failure(b"pg_basebackup: error: no room").expect("an error").code, Code::Tool);
        assert!(failure(b"").is_none());
    }
}
