//! Making a backup, a part at a look: the copy, the comparison with its checksums, the WAL that it needs.
//!
//! Each part ends with something in the folder that was not there before, and can be begun again when it does not.

use super::{Builtin, Needed, SIDECAR, Stage, Stored, sidecar};
use crate::{
    base::moment::{Moment, Span},
    provider::{
        Code, Error, Result,
        model::{BackupRequest, Key, Progress},
        postgres::{
            cluster,
            control::Control,
            disk,
            process::{self, Child},
            records, sql,
            tools::{self, Tools},
            wal,
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

/// How often a copy that was killed is begun again.
const STARTS_MAX: u32 = 3;
/// More than the longest tick of a kernel's clock.
const TICK: Span = Span::millis(20);
/// After how long a folder that was never finished is nobody's.
const FORGOTTEN: Duration = Duration::from_secs(3600);

/// One look at a backup that is being made.
pub(in super::super) enum Look {
    /// Not there yet.
    Running(Progress),
    /// Complete.
    Completed(Box<Stored>),
}

impl Builtin<'_> {
    /// Begins a backup and returns its id.
    ///
    /// # Errors
    /// [`Code::Refused`] when WAL is not being archived: the backup would be worth nothing. [`Code::NoDiskSpace`].
    pub(in super::super) async fn create(&self, request: &BackupRequest, key: &Key) -> Result<String> {
        if let Some(made) = self.by_key(key)? {
            return Ok(made.id);
        }
        let tools = self.cluster.tools()?;
        self.sweep();
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
            damaged: None,
            names: None,
        };
        self.put(&tools, &stored)?;
        self.start_copy(&tools, stored.clone()).await.inspect_err(|_| drop(self.discard(&stored.id)))?;
        Ok(stored.id)
    }

    /// Removes what earlier lives began to make, or to remove, and did not finish.
    fn sweep(&self) {
        for entry in fs::read_dir(self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let age =
                entry.metadata().and_then(|found| found.modified()).ok().and_then(|at| at.elapsed().ok());
            let is_new = name.starts_with(".new-") && age.is_some_and(|age| age > FORGOTTEN);
            if is_new || name.starts_with(".deleting-") {
                // What cannot be removed now is tried again next time.
                disk::remove(&entry.path()).ok();
            }
        }
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

    /// Replaces what is known of a backup.
    pub(super) fn keep(&self, tools: &Tools, stored: &Stored) -> Result<()> {
        let path = sidecar(&self.folder.join(&stored.id));
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
    pub(in super::super) async fn observe(&self, id: &str) -> Result<Look> {
        let stored = self.get(id)?;
        let tools = self.cluster.tools()?;
        let looked = match stored.stage {
            Stage::Completed => return Ok(Look::Completed(Box::new(stored))),
            Stage::Copying => self.observe_copy(&tools, stored).await,
            Stage::Verifying => self.observe_verification(&tools, stored),
            Stage::Archiving => self.observe_archiving(&tools, stored).await,
        };
        looked.map_err(|error| match self.discard(id) {
            Ok(()) => error,
            Err(left) => Error { left_behind: left.left_behind, ..error }.with_side_effects(),
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
        let segment_bytes = Control::read(tools, &files.join("data")).await?.segment_bytes;
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
    fn a_damaged_source_is_told_from_a_failure() {
        let damaged = failure(b"pg_basebackup: error: checksum error occurred").expect("an error");
        assert_eq!(damaged.code, Code::CorruptSource);
        assert_eq!(failure(b"pg_basebackup: error: no room").expect("an error").code, Code::Tool);
        assert!(failure(b"").is_none());
    }
}
