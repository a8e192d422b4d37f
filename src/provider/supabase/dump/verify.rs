//! Verifying a dump: its checksum, and `pg_restore` reading it through.

use super::{
    detached::file_error,
    store::{Dump, DumpStore},
};
use crate::provider::{
    Code, Error, Result,
    host::programs::{self, Programs},
    model::Verification,
};
use sha2::{Digest as _, Sha256};
use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

impl DumpStore<'_> {
    /// Compares a dump with its checksum and reads it through; the first problem is saved in its record.
    ///
    /// # Errors
    /// [`Code::Refused`] while it is being made, [`Code::Tool`] when a program cannot be started.
    pub(in crate::provider::supabase) async fn verify_dump(
        &self,
        id: &str,
        tools: &Programs,
    ) -> Result<Verification> {
        let dump = self.find_dump(id)?;
        if !dump.is_completed() {
            return Err(Error::new(Code::Refused, format!("dump `{id}` is not complete")));
        }
        let file = self.dump_path(id);
        let mut problems = Vec::new();
        match sync_and_hash_file(file.clone()).await {
            Ok(sum) if Some(&sum.sha256) == dump.sha256.as_ref() => {}
            Ok(sum) => {
                problems.push(format!("its checksum is {} and was another when it was made", sum.sha256));
            }
            Err(e) => problems.push(e.message),
        }
        if problems.is_empty() {
            for args in [pg_restore_list_args(&file), pg_restore_read_args(&file)] {
                let args: Vec<_> = args.iter().map(OsString::as_os_str).collect();
                let output = tools.run_with_any_exit("pg_restore", &args).await?;
                if !output.status.success() {
                    problems.push(programs::tail_output(&output.stderr));
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

/// Returns the arguments with which `pg_restore` lists the contents of a dump.
pub(in crate::provider::supabase) fn pg_restore_list_args(file: &Path) -> Vec<OsString> {
    vec!["--list".into(), file.into()]
}

/// Returns the arguments with which `pg_restore` reads a dump through and keeps nothing.
pub(super) fn pg_restore_read_args(file: &Path) -> Vec<OsString> {
    vec!["-f".into(), "/dev/null".into(), file.into()]
}

pub(super) struct FileDigest {
    pub sha256: String,
    pub bytes: u64,
}

/// Syncs a file to disk and returns its checksum and size.
pub(super) async fn sync_and_hash_file(file: PathBuf) -> Result<FileDigest> {
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
