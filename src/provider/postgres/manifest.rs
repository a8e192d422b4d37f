//! A quick look at a backup: whether every file of its manifest is there and has its length.
//!
//! Reading every byte is `backup verify`; this is what a restore can afford before it begins. What `backup verify` found
//! the last time counts too.

use super::{builtin::sidecar, records};
use crate::provider::{Code, Error, Result};
use serde::Deserialize;
use std::{fs, path::Path};

#[derive(Deserialize)]
struct Manifest {
    #[serde(rename = "Files")]
    files: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    /// Absent for a name that is no UTF-8, which PostgreSQL itself never makes.
    #[serde(rename = "Path")]
    path: Option<String>,
    #[serde(rename = "Size")]
    size: u64,
}

/// What is known of a backup, as far as it is asked here.
#[derive(Deserialize)]
struct Known {
    #[serde(default)]
    damaged: Option<String>,
}

/// Compares the files in a backup's `data` with its manifest, by name and length.
///
/// # Errors
/// [`Code::CorruptBackup`] with the first file that differs.
pub(super) fn compare(data: &Path) -> Result<()> {
    let damaged = |what: String| {
        Error::new(Code::CorruptBackup, format!("the backup in `{}` is damaged: {what}", data.display()))
            .hint("choose another backup, and see `backup verify`")
    };
    let known = match data.ancestors().nth(2) {
        Some(backup) => records::read::<Known>(&sidecar(backup))?,
        None => None,
    };
    if let Some(what) = known.and_then(|known| known.damaged) {
        return Err(damaged(format!("`backup verify` found that {what}")));
    }
    let manifest: Manifest = records::read(&data.join("backup_manifest"))
        .map_err(|e| damaged(e.message))?
        .ok_or_else(|| damaged("its manifest is missing".into()))?;
    for Entry { path, size } in manifest.files {
        let Some(path) = path else { continue };
        match fs::metadata(data.join(&path)) {
            Ok(found) if found.len() == size => {}
            Ok(found) => {
                return Err(damaged(format!("`{path}` has {} bytes instead of {size}", found.len())));
            }
            Err(why) => return Err(damaged(format!("`{path}` cannot be read: {why}"))),
        }
    }
    Ok(())
}
