//! Loading a dump into an empty branch: `pg_restore`, in one transaction, detached.
//!
//! Its folder stays until the branch is deleted: whoever takes the call up must see that the dump is in the branch.
//! - A load that never ran, because redrill was killed first, is started.
//! - One that was killed has left nothing, because it is one transaction, and is started once more. Killed again, it fails, and the
//!   branch is deleted.

use crate::{
    base::former_name,
    provider::{
        Code, Error, Result,
        host::{disk, process::TrackedProcess, programs::tail_output, record_file},
        model::Progress,
        supabase::{
            branches::BranchDetails,
            dump::{self, DetachedProgram, ProgramStatus, file_error},
            project::Supabase,
        },
    },
};
use serde::{Deserialize, Serialize};
use std::{
    ffi::OsString,
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

/// The program that loads, and the stem of its log and status files.
const LOAD_PROGRAM: &str = "pg_restore";
/// The file that holds the state of a load.
const LOAD_STATE_FILE: &str = "redrill.json";

/// The persisted state of a load.
#[derive(Debug, Serialize, Deserialize)]
struct LoadState {
    child: Option<TrackedProcess>,
    starts: u32,
    /// How often it was killed.
    #[serde(default)]
    killed: u32,
}

/// How often a load may be killed.
const KILLS_MAX: u32 = 2;

impl Supabase {
    /// Starts or polls the load of a dump into a branch; `None` when it is done.
    ///
    /// # Errors
    /// Why the dump cannot be loaded.
    pub(super) async fn start_or_poll_load(
        &self,
        reference: &str,
        details: &BranchDetails,
        id: &str,
    ) -> Result<Option<Progress>> {
        let folder = self.load_folder(reference);
        let Some(load) = record_file::read_record::<LoadState>(&former_name::fall_back_to_former_path(
            folder.join(LOAD_STATE_FILE),
        ))?
        else {
            self.start_load(reference, details, id, LoadState { child: None, starts: 1, killed: 0 }).await?;
            return Ok(Some(Progress::with_phase("loading the dump")));
        };
        match DetachedProgram::in_folder(&folder, LOAD_PROGRAM).poll_status(load.child.as_ref()) {
            ProgramStatus::Running => Ok(Some(Progress::with_phase("loading the dump"))),
            ProgramStatus::Exited { success: true, .. } => Ok(None),
            // Nothing was loaded: a new password takes a moment to become valid.
            ProgramStatus::Exited { log_tail, .. }
                if log_tail.contains("password authentication failed") && load.starts < 3 =>
            {
                let again = LoadState { starts: load.starts + 1, ..load };
                self.start_load(reference, details, id, again).await?;
                Ok(Some(Progress::with_phase("loading the dump")))
            }
            // It was killed after its commit and before its last word, or nobody could say so.
            ProgramStatus::Exited { log_tail, .. }
                if load.killed > 0 && log_tail.contains("already exists") =>
            {
                Err(dump::vanished_error(LOAD_PROGRAM, load.killed))
            }
            ProgramStatus::Exited { log_tail, .. } => Err(load_error(id, &log_tail)),
            ProgramStatus::NeverRan => {
                self.start_load(reference, details, id, load).await?;
                Ok(Some(Progress::with_phase("loading the dump")))
            }
            ProgramStatus::Vanished if load.killed + 1 >= KILLS_MAX => {
                Err(dump::vanished_error(LOAD_PROGRAM, KILLS_MAX))
            }
            ProgramStatus::Vanished => {
                let again = LoadState { killed: load.killed + 1, ..load };
                self.start_load(reference, details, id, again).await?;
                Ok(Some(Progress::with_phase("loading the dump, which was killed")))
            }
        }
    }

    async fn start_load(
        &self,
        reference: &str,
        details: &BranchDetails,
        id: &str,
        load: LoadState,
    ) -> Result<()> {
        let folder = self.load_folder(reference);
        let stored = self.dump_store().find_dump(id)?;
        stored.check_restorable()?;
        let file = self.dump_store().dump_path(id);
        let branch_major = dump::parse_major_version(&details.postgres_version).unwrap_or_default();
        let tools = self.find_client_programs(stored.server_major.max(branch_major))?;
        let login = self.log_in_to_branch(reference, details).await?;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(|e| file_error(&folder, "be made", &e))?;
        let list: Vec<OsString> = dump::pg_restore_list_args(&file);
        let list: Vec<_> = list.iter().map(OsString::as_os_str).collect();
        let listed = tools.run_with_any_exit("pg_restore", &list).await?;
        if !listed.status.success() {
            let why = tail_output(&listed.stderr);
            return Err(Error::new(Code::CorruptBackup, format!("dump `{id}` cannot be read: {why}")));
        }
        let contents = folder.join("contents");
        fs::write(&contents, dump::select_branch_entries(&String::from_utf8_lossy(&listed.stdout)))
            .map_err(|e| file_error(&contents, "be written", &e))?;
        // Saved before the start, so that a second load never starts beside this one.
        Self::save_load(&folder, &LoadState { child: None, ..load })?;
        let mut args: Vec<OsString> = vec!["--single-transaction".into(), "--no-owner".into()];
        args.extend(["-L".into(), contents.into_os_string()]);
        args.extend(login.program_args());
        args.push(file.into());
        let child = DetachedProgram::in_folder(&folder, LOAD_PROGRAM).start_program(
            &tools,
            LOAD_PROGRAM,
            &args,
            &login.program_environment(),
        )?;
        Self::save_load(&folder, &LoadState { child: Some(child), ..load })
    }

    fn save_load(folder: &Path, load: &LoadState) -> Result<()> {
        record_file::write_record(&former_name::fall_back_to_former_path(folder.join(LOAD_STATE_FILE)), load)
    }

    /// Stops the load of a branch that is being abandoned and removes its folder.
    pub(in crate::provider::supabase) fn stop_and_remove_load(&self, reference: &str) {
        let folder = self.load_folder(reference);
        if let Ok(Some(load)) = record_file::read_record::<LoadState>(&former_name::fall_back_to_former_path(
            folder.join(LOAD_STATE_FILE),
        )) {
            DetachedProgram::in_folder(&folder, LOAD_PROGRAM).kill_program(load.child.as_ref());
        }
        disk::remove_folder(&folder).ok();
    }

    fn load_folder(&self, reference: &str) -> PathBuf {
        self.state.join("loads").join(reference)
    }
}

fn load_error(id: &str, log_tail: &str) -> Error {
    let error = Error::new(Code::Tool, format!("dump `{id}` could not be loaded: {log_tail}"));
    if log_tail.contains("role \"") && log_tail.contains("does not exist") {
        return error.with_hint(
            "a new branch has none of the roles that were made in the project; a dump holds no roles",
        );
    }
    error
}
