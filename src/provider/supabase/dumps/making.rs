//! Making a dump, a part at a look: `pg_dump` writes it, `pg_restore` reads it through, and then it has its name.
//!
//! What was begun and vanished without a word is begun again; what failed is removed.

use super::{Dump, Dumps, Look, SIDECAR, Stage, Work, cannot, checksum, programs, read_args};
use crate::{
    base::{file, moment::Span},
    provider::{
        Code, Error, Result,
        model::{BackupRequest, Job, Key, Observed, Progress},
        postgres::{disk, records},
        supabase::{Supabase, contents, login::Login},
    },
};
use serde_json::Value;
use std::{ffi::OsString, fs, os::unix::fs::DirBuilderExt as _, time::Duration};

/// The kind of job that makes a dump.
pub(in super::super) const KIND: &str = "backup";
/// What the program that dumps leaves its traces as.
pub(super) const DUMP: &str = "pg_dump";
/// What the program that reads a dump through leaves its traces as.
pub(super) const READ: &str = "pg_restore";
/// After how long a folder that was never finished is nobody's.
const FORGOTTEN: Duration = Duration::from_secs(3600);
/// How often a program that was killed without a word is begun again.
const STARTS_MAX: u32 = 3;
/// What a server says to a password that is too new, or too old already.
const STALE_PASSWORD: &str = "password authentication failed";

/// Returns the job that makes a dump.
pub(in super::super) fn job(id: String) -> Job {
    Job { kind: KIND.into(), id, detail: Value::Null }
}

impl Supabase {
    /// Begins a dump.
    ///
    /// # Errors
    /// What stands in its way, before anything is made; [`Code::NoDiskSpace`].
    pub(in super::super) async fn create_dump(&self, request: &BackupRequest, key: &Key) -> Result<Job> {
        let dumps = self.dumps();
        if let Some(made) = dumps.by_key(key)? {
            return Ok(job(made.id));
        }
        let version = self.described().await?.database.version.unwrap_or_default();
        let server_major = programs::major(&version).ok_or_else(|| {
            Error::new(Code::Internal, format!("the platform gave `{version}` for the version of the server"))
        })?;
        self.programs_for(server_major)?;
        let login = self.login().await?;
        let started_at = self.clock.now();
        let dump = Dump {
            id: format!("dump-{}-{key}", started_at.0.strftime("%Y%m%dT%H%M%SZ")),
            target: self.name(),
            reference: self.reference.clone(),
            label: request.label.clone(),
            key: key.clone(),
            stage: Stage::Dumping,
            child: None,
            starts: 0,
            started_at,
            finished_at: None,
            bytes: 0,
            sha256: None,
            server_major,
            damaged: None,
        };
        let id = dump.id.clone();
        let begun = dumps.put(&dump).and_then(|()| self.start_dump(dump, &login));
        begun.map_err(|error| without(&dumps, &id, error))?;
        Ok(job(id))
    }

    fn start_dump(&self, mut dump: Dump, login: &Login) -> Result<()> {
        let dumps = self.dumps();
        let tools = self.programs_for(dump.server_major)?;
        let mut args: Vec<OsString> =
            vec!["--format=custom".into(), "-f".into(), dumps.partial(&dump.id).into()];
        args.extend(["--lock-wait-timeout=60s", "--no-subscriptions"].map(OsString::from));
        args.extend(contents::left_out().map(|schema| format!("--exclude-schema={schema}").into()));
        args.extend(login.args());
        dump.starts += 1;
        dump.stage = Stage::Dumping;
        let home = dumps.home(&dump.id);
        dump.child = Some(Work::of(&home, DUMP).begin(&tools, "pg_dump", &args, &login.environment())?);
        dumps.keep(&dump)
    }

    /// Looks at a dump that is being made and takes it one part further.
    ///
    /// # Errors
    /// Why it cannot be made; it has then been removed.
    pub(in super::super) async fn observe_dump(&self, id: &str) -> Result<Observed> {
        let dumps = self.dumps();
        let dump = dumps.get(id)?;
        let looked = match dump.stage {
            Stage::Completed => Ok(Observed::Done(dump.backup().handle())),
            Stage::Dumping => self.observe_dumping(dump).await,
            Stage::Reading => self.observe_reading(dump).await,
        };
        looked.map_err(|error| match error.code {
            // The platform could not be asked for a login: the dump is begun at another look.
            Code::Throttled | Code::Unavailable | Code::Timeout => error,
            _ => without(&dumps, id, error),
        })
    }

    async fn observe_dumping(&self, dump: Dump) -> Result<Observed> {
        let dumps = self.dumps();
        let home = dumps.home(&dump.id);
        match Work::of(&home, DUMP).look(dump.child.as_ref()) {
            Look::Running => {
                let done = fs::metadata(dumps.partial(&dump.id)).map_or(0, |file| file.len());
                Ok(Observed::Running(Progress::bytes("dumping", done, None)))
            }
            Look::Ended { well: true, .. } => self.start_reading(dump),
            Look::Ended { said, .. } if said.contains(STALE_PASSWORD) && dump.starts < STARTS_MAX => {
                self.clock.sleep(Span::seconds(3)).await;
                self.dump_again(dump).await
            }
            Look::Ended { said, .. } => Err(failure(&said)),
            Look::Vanished => {
                // On a full disk there is no room for its last words either.
                disk::room_for(0, &home)?;
                if dump.starts < STARTS_MAX { self.dump_again(dump).await } else { Err(vanished(DUMP)) }
            }
        }
    }

    async fn dump_again(&self, dump: Dump) -> Result<Observed> {
        let login = self.login().await?;
        self.start_dump(dump, &login)?;
        Ok(Observed::Running(Progress::phase("dumping")))
    }

    fn start_reading(&self, mut dump: Dump) -> Result<Observed> {
        let dumps = self.dumps();
        let tools = self.programs_for(dump.server_major)?;
        let args = read_args(&dumps.partial(&dump.id));
        let home = dumps.home(&dump.id);
        dump.stage = Stage::Reading;
        dump.child = Some(Work::of(&home, READ).begin(&tools, "pg_restore", &args, &[])?);
        dumps.keep(&dump)?;
        Ok(Observed::Running(Progress::phase("reading it through")))
    }

    async fn observe_reading(&self, mut dump: Dump) -> Result<Observed> {
        let dumps = self.dumps();
        let (home, partial, whole) = (dumps.home(&dump.id), dumps.partial(&dump.id), dumps.file(&dump.id));
        match Work::of(&home, READ).look(dump.child.as_ref()) {
            Look::Running => return Ok(Observed::Running(Progress::phase("reading it through"))),
            Look::Ended { well: true, .. } => {}
            Look::Ended { said, .. } => {
                return Err(Error::new(
                    Code::CorruptBackup,
                    format!("the dump cannot be read through: {said}"),
                ));
            }
            Look::Vanished => return self.start_reading(dump),
        }
        let sum = checksum(if whole.is_file() { whole.clone() } else { partial.clone() }).await?;
        if !whole.is_file() {
            fs::rename(&partial, &whole).map_err(|e| cannot(&partial, "be renamed", &e))?;
        }
        file::sync_folder(&home).map_err(|e| cannot(&home, "be synced", &e))?;
        dump.bytes = sum.bytes;
        dump.sha256 = Some(sum.sha256);
        dump.finished_at = Some(self.clock.now());
        dump.child = None;
        dump.stage = Stage::Completed;
        dumps.keep(&dump)?;
        Ok(Observed::Done(dump.backup().handle()))
    }
}

impl Dumps<'_> {
    /// Makes the folder of a dump, for nobody else to look into, with what is known of it inside from the first moment on.
    fn put(&self, dump: &Dump) -> Result<()> {
        self.sweep();
        let (new, home) = (self.folder.join(format!(".new-{}", dump.id)), self.home(&dump.id));
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&new);
        made.map_err(|e| cannot(&new, "be made", &e))?;
        let written = records::write(&new.join(SIDECAR), dump);
        let shown =
            written.and_then(|()| fs::rename(&new, &home).map_err(|e| cannot(&new, "be renamed", &e)));
        shown.inspect_err(|_| drop(disk::remove(&new)))
    }

    /// Removes what earlier lives began to make, or to remove, and did not finish.
    fn sweep(&self) {
        for entry in fs::read_dir(self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let changed = entry.metadata().and_then(|found| found.modified()).ok();
            let is_old = changed.and_then(|at| at.elapsed().ok()).is_some_and(|age| age > FORGOTTEN);
            if name.starts_with(".deleting-") || (is_old && name.starts_with(".new-")) {
                // What cannot be removed now is tried again next time.
                disk::remove(&entry.path()).ok();
            }
        }
    }
}

/// Removes a dump that came to nothing, and says so in its error.
fn without(dumps: &Dumps<'_>, id: &str, error: Error) -> Error {
    match dumps.discard(id) {
        Ok(()) => error,
        Err(left) => Error { left_behind: left.left_behind, ..error }.with_side_effects(),
    }
}

/// Returns the error of a program that was killed without a word.
pub(in super::super) fn vanished(program: &str) -> Error {
    Error::new(Code::Tool, format!("`{program}` was killed without a word"))
        .hint("see whether the machine ran out of memory, or was restarted")
}

/// Returns what a program of PostgreSQL failed with.
pub(in super::super) fn failure(said: &str) -> Error {
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    let message = |code| Error::new(code, format!("the database could not be dumped: {said}"));
    if has(&["No space left on device", "could not write to file", "could not write to output file"]) {
        message(Code::NoDiskSpace).hint("make room, or set `backup_dir` of the target")
    } else if has(&[
        "could not translate host name",
        "Network is unreachable",
        "Cannot assign requested address",
    ]) {
        message(Code::Tool).hint(
            "a project's own address is reached over IPv6 only, unless IPv4 was booked: set `db_host` of the target to \
             that of the session pooler",
        )
    } else if has(&["permission denied"]) {
        message(Code::Denied).hint("the read-only role of the platform may not read this")
    } else {
        message(Code::Tool)
    }
}
