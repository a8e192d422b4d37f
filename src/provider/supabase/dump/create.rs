//! Creating a dump, one part a poll: `pg_dump` writes it, `pg_restore` reads it through, and then it gets its name.
//!
//! A program that vanished is started again; a dump that failed is removed.

use super::{
    client_programs::parse_major_version,
    contents,
    detached::{DetachedProgram, ProgramStatus, file_error, vanished_error},
    login::Login,
    store::{DUMP_PROGRAM, Dump, DumpPhase, DumpStore, READ_PROGRAM},
    verify::{pg_restore_read_args, sync_and_hash_file},
};
use crate::{
    base::{file, moment::Span},
    provider::{
        Code, Error, Result,
        host::disk,
        model::{BackupRequest, CallKey, Job, JobStatus, Progress},
        supabase::project::Supabase,
    },
};
use serde_json::Value;
use std::{ffi::OsString, fs};

/// The kind of job that makes a dump.
pub(in crate::provider::supabase) const DUMP_JOB: &str = "backup";
/// How often `pg_dump` is started at most.
const STARTS_MAX: u32 = 3;
/// The server's message about a password that is not valid yet, or no longer.
const STALE_PASSWORD: &str = "password authentication failed";

/// Returns the job that makes a dump.
pub(in crate::provider::supabase) fn dump_job(id: String) -> Job {
    Job { kind: DUMP_JOB.into(), id, detail: Value::Null }
}

impl Supabase {
    /// Starts a dump.
    ///
    /// # Errors
    /// Every refusal, before anything is made; [`Code::NoDiskSpace`].
    pub(in crate::provider::supabase) async fn request_dump(
        &self,
        request: &BackupRequest,
        key: &CallKey,
    ) -> Result<Job> {
        let dumps = self.dump_store();
        if let Some(made) = dumps.find_dump_by_key(key)? {
            return Ok(dump_job(made.id));
        }
        let version = self.fetch_project_details().await?.database.version.unwrap_or_default();
        let server_major = parse_major_version(&version).ok_or_else(|| {
            Error::new(Code::Internal, format!("the platform gave `{version}` for the version of the server"))
        })?;
        self.find_client_programs(server_major)?;
        let login = self.log_in_read_only().await?;
        let started_at = self.clock.now();
        let dump = Dump {
            id: format!("dump-{}-{key}", started_at.0.strftime("%Y%m%dT%H%M%SZ")),
            target: self.display_name(),
            reference: self.reference.clone(),
            label: request.label.clone(),
            key: key.clone(),
            phase: DumpPhase::Dumping,
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
        let started = dumps.create_dump_folder(&dump).and_then(|()| self.start_pg_dump(dump, &login));
        started.map_err(|error| discard_failed_dump(&dumps, &id, error))?;
        Ok(dump_job(id))
    }

    fn start_pg_dump(&self, mut dump: Dump, login: &Login) -> Result<()> {
        let dumps = self.dump_store();
        let tools = self.find_client_programs(dump.server_major)?;
        let mut args: Vec<OsString> =
            vec!["--format=custom".into(), "-f".into(), dumps.partial_dump_path(&dump.id).into()];
        args.extend(["--lock-wait-timeout=60s", "--no-subscriptions"].map(OsString::from));
        args.extend(
            contents::excluded_schema_patterns().map(|schema| format!("--exclude-schema={schema}").into()),
        );
        args.extend(login.program_args());
        dump.starts += 1;
        dump.phase = DumpPhase::Dumping;
        let home = dumps.dump_folder(&dump.id);
        dump.child = Some(DetachedProgram::in_folder(&home, DUMP_PROGRAM).start_program(
            &tools,
            "pg_dump",
            &args,
            &login.program_environment(),
        )?);
        dumps.save_dump(&dump)
    }

    /// Polls a dump that is being made, and starts its next part.
    ///
    /// # Errors
    /// Why it cannot be made; it has then been removed.
    pub(in crate::provider::supabase) async fn poll_dump(&self, id: &str) -> Result<JobStatus> {
        let dumps = self.dump_store();
        let dump = dumps.find_dump(id)?;
        let polled = match dump.phase {
            DumpPhase::Completed => Ok(JobStatus::Done(dump.to_backup().to_handle())),
            DumpPhase::Dumping => self.poll_pg_dump(dump).await,
            DumpPhase::Reading => self.poll_read_through(dump).await,
        };
        polled.map_err(|error| match error.code {
            // The platform gave no login: the next poll tries again.
            Code::Throttled | Code::Unavailable | Code::Timeout => error,
            _ => discard_failed_dump(&dumps, id, error),
        })
    }

    async fn poll_pg_dump(&self, dump: Dump) -> Result<JobStatus> {
        let dumps = self.dump_store();
        let home = dumps.dump_folder(&dump.id);
        match DetachedProgram::in_folder(&home, DUMP_PROGRAM).poll_status(dump.child.as_ref()) {
            ProgramStatus::Running => {
                let done = fs::metadata(dumps.partial_dump_path(&dump.id)).map_or(0, |file| file.len());
                Ok(JobStatus::Running(Progress::with_bytes("dumping", done, None)))
            }
            ProgramStatus::Exited { success: true, .. } => self.start_read_through(dump),
            ProgramStatus::Exited { log_tail, .. }
                if log_tail.contains(STALE_PASSWORD) && dump.starts < STARTS_MAX =>
            {
                self.clock.sleep(Span::from_secs(3)).await;
                self.restart_dump(dump).await
            }
            ProgramStatus::Exited { log_tail, .. } => Err(dump_error(&log_tail)),
            ProgramStatus::NeverRan => self.restart_dump(dump).await,
            ProgramStatus::Vanished => {
                // On a full disk there is no room for an error message either.
                disk::check_free_space(0, &home)?;
                if dump.starts < STARTS_MAX {
                    self.restart_dump(dump).await
                } else {
                    Err(vanished_error(DUMP_PROGRAM, dump.starts))
                }
            }
        }
    }

    async fn restart_dump(&self, dump: Dump) -> Result<JobStatus> {
        let login = self.log_in_read_only().await?;
        self.start_pg_dump(dump, &login)?;
        Ok(JobStatus::Running(Progress::with_phase("dumping")))
    }

    fn start_read_through(&self, mut dump: Dump) -> Result<JobStatus> {
        let dumps = self.dump_store();
        let tools = self.find_client_programs(dump.server_major)?;
        let args = pg_restore_read_args(&dumps.partial_dump_path(&dump.id));
        let home = dumps.dump_folder(&dump.id);
        dump.phase = DumpPhase::Reading;
        dump.child = Some(DetachedProgram::in_folder(&home, READ_PROGRAM).start_program(
            &tools,
            "pg_restore",
            &args,
            &[],
        )?);
        dumps.save_dump(&dump)?;
        Ok(JobStatus::Running(Progress::with_phase("reading it through")))
    }

    async fn poll_read_through(&self, mut dump: Dump) -> Result<JobStatus> {
        let dumps = self.dump_store();
        let (home, partial, whole) =
            (dumps.dump_folder(&dump.id), dumps.partial_dump_path(&dump.id), dumps.dump_path(&dump.id));
        match DetachedProgram::in_folder(&home, READ_PROGRAM).poll_status(dump.child.as_ref()) {
            ProgramStatus::Running => {
                return Ok(JobStatus::Running(Progress::with_phase("reading it through")));
            }
            ProgramStatus::Exited { success: true, .. } => {}
            ProgramStatus::Exited { log_tail, .. } => {
                return Err(Error::new(
                    Code::CorruptBackup,
                    format!("the dump cannot be read through: {log_tail}"),
                ));
            }
            ProgramStatus::NeverRan | ProgramStatus::Vanished => return self.start_read_through(dump),
        }
        let sum = sync_and_hash_file(if whole.is_file() { whole.clone() } else { partial.clone() }).await?;
        if !whole.is_file() {
            fs::rename(&partial, &whole).map_err(|e| file_error(&partial, "be renamed", &e))?;
        }
        file::sync_folder(&home).map_err(|e| file_error(&home, "be synced", &e))?;
        dump.bytes = sum.bytes;
        dump.sha256 = Some(sum.sha256);
        dump.finished_at = Some(self.clock.now());
        dump.child = None;
        dump.phase = DumpPhase::Completed;
        dumps.save_dump(&dump)?;
        Ok(JobStatus::Done(dump.to_backup().to_handle()))
    }
}

/// Removes a failed dump; what cannot be removed is named in the error.
fn discard_failed_dump(dumps: &DumpStore<'_>, id: &str, error: Error) -> Error {
    match dumps.stop_and_delete(id) {
        Ok(()) => error,
        Err(left) => Error { left_behind: left.left_behind, ..error }.with_side_effects(),
    }
}

/// Returns the error of a `pg_dump` that failed.
fn dump_error(log_tail: &str) -> Error {
    let has = |words: &[&str]| words.iter().any(|word| log_tail.contains(word));
    let message = |code| Error::new(code, format!("the database could not be dumped: {log_tail}"));
    if has(&["No space left on device", "could not write to file", "could not write to output file"]) {
        message(Code::NoDiskSpace).with_hint("make room, or set `backup_dir` of the target")
    } else if has(&[
        "could not translate host name",
        "Network is unreachable",
        "Cannot assign requested address",
    ]) {
        message(Code::Tool).with_hint(
            "a project's own address is reached over IPv6 only, unless IPv4 was booked: set `db_host` of the target to \
             that of the session pooler",
        )
    } else if has(&["permission denied"]) {
        message(Code::Denied).with_hint("the read-only role of the platform may not read this")
    } else {
        message(Code::Tool)
    }
}
