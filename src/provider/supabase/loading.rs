//! Loading a dump into an empty branch: `pg_restore`, in one transaction, detached.
//!
//! One that vanished without a word may have committed. The branch is new, so that it is removed instead of guessed
//! about.

use super::{
    Supabase,
    branches::Inside,
    contents, dumps, programs,
    work::{Look, Work, cannot},
};
use crate::base::former_name;
use crate::provider::{
    Code, Error, Result,
    model::Progress,
    postgres::{disk, process::Child, records, tools},
};
use serde::{Deserialize, Serialize};
use std::{
    ffi::OsString,
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

/// What the program leaves its traces as.
const LOAD: &str = "pg_restore";
/// The name of the file with what is known of a load.
const RECORD: &str = "redrill.json";

/// What is known of a load.
#[derive(Debug, Serialize, Deserialize)]
struct Load {
    child: Option<Child>,
    starts: u32,
}

impl Supabase {
    /// Takes the loading of a dump into a branch one part further; `None` when it is loaded.
    ///
    /// # Errors
    /// Why it cannot be loaded.
    pub(super) async fn load(
        &self,
        reference: &str,
        inside: &Inside,
        dump: &str,
    ) -> Result<Option<Progress>> {
        let folder = self.load_folder(reference);
        let Some(load) = records::read::<Load>(&former_name::existing(folder.join(RECORD)))? else {
            self.start_load(reference, inside, dump, 1).await?;
            return Ok(Some(Progress::phase("loading the dump")));
        };
        match Work::of(&folder, LOAD).look(load.child.as_ref()) {
            Look::Running => Ok(Some(Progress::phase("loading the dump"))),
            Look::Ended { well: true, .. } => Ok(None),
            // Nothing was begun: a new password takes a moment to be known.
            Look::Ended { said, .. }
                if said.contains("password authentication failed") && load.starts < 3 =>
            {
                self.start_load(reference, inside, dump, load.starts + 1).await?;
                Ok(Some(Progress::phase("loading the dump")))
            }
            Look::Ended { said, .. } => Err(failure(dump, &said)),
            Look::Vanished => Err(dumps::vanished(LOAD)),
        }
    }

    async fn start_load(&self, reference: &str, inside: &Inside, dump: &str, starts: u32) -> Result<()> {
        let folder = self.load_folder(reference);
        let stored = self.dumps().get(dump)?;
        stored.check_restorable()?;
        let file = self.dumps().file(dump);
        let branch_major = programs::major(&inside.postgres_version).unwrap_or_default();
        let tools = self.programs_for(stored.server_major.max(branch_major))?;
        let login = self.login_to_branch(reference, inside).await?;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(|e| cannot(&folder, "be made", &e))?;
        let list: Vec<OsString> = dumps::list_args(&file);
        let list: Vec<_> = list.iter().map(OsString::as_os_str).collect();
        let listed = tools.try_run("pg_restore", &list).await?;
        if !listed.status.success() {
            let why = tools::tail(&listed.stderr);
            return Err(Error::new(Code::CorruptBackup, format!("dump `{dump}` cannot be read: {why}")));
        }
        let contents = folder.join("contents");
        fs::write(&contents, contents::for_branch(&String::from_utf8_lossy(&listed.stdout)))
            .map_err(|e| cannot(&contents, "be written", &e))?;
        // Written down before it is begun, so that nobody ever begins a second one beside it.
        Self::keep_load(&folder, &Load { child: None, starts })?;
        let mut args: Vec<OsString> = vec!["--single-transaction".into(), "--no-owner".into()];
        args.extend(["-L".into(), contents.into_os_string()]);
        args.extend(login.args());
        args.push(file.into());
        let child = Work::of(&folder, LOAD).begin(&tools, LOAD, &args, &login.environment())?;
        Self::keep_load(&folder, &Load { child: Some(child), starts })
    }

    fn keep_load(folder: &Path, load: &Load) -> Result<()> {
        records::write(&former_name::existing(folder.join(RECORD)), load)
    }

    /// Ends the loading of a branch that is given up. What is left of it is nobody's.
    pub(super) fn abandon_load(&self, reference: &str) {
        let folder = self.load_folder(reference);
        if let Ok(Some(load)) = records::read::<Load>(&former_name::existing(folder.join(RECORD))) {
            Work::of(&folder, LOAD).end(load.child.as_ref());
        }
        disk::remove(&folder).ok();
    }

    /// Forgets the loading of a branch that is ready.
    ///
    /// # Errors
    /// [`Code::Tool`].
    pub(super) fn forget_load(&self, reference: &str) -> Result<()> {
        disk::remove(&self.load_folder(reference))
    }

    fn load_folder(&self, reference: &str) -> PathBuf {
        self.state.join("loads").join(reference)
    }
}

fn failure(dump: &str, said: &str) -> Error {
    let error = Error::new(Code::Tool, format!("dump `{dump}` could not be loaded: {said}"));
    if said.contains("role \"") && said.contains("does not exist") {
        return error
            .hint("a new branch has none of the roles that were made in the project; a dump holds no roles");
    }
    error
}
