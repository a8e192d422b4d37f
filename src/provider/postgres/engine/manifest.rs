//! The quick check of a backup: whether every file of its manifest is there and has its length.
//!
//! `backup verify` reads every byte; this check is cheap enough before each restore. Damage that
//! `backup verify` found last time counts too.

use super::sidecar_path;
use crate::provider::{Code, Error, Result, host::record_file};
use serde::Deserialize;
use std::{fs, path::Path};

#[derive(Deserialize)]
struct Manifest {
    #[serde(rename = "Files")]
    files: Vec<ManifestEntry>,
}

#[derive(Deserialize)]
struct ManifestEntry {
    /// Absent for a name that is no UTF-8, which PostgreSQL itself never makes.
    #[serde(rename = "Path")]
    path: Option<String>,
    #[serde(rename = "Size")]
    size: u64,
}

/// The part of a backup's sidecar that is read here.
#[derive(Deserialize)]
struct DamageNote {
    #[serde(default)]
    damaged: Option<String>,
}

/// Compares the files in a backup's `data` with its manifest, by name and length.
///
/// # Errors
/// [`Code::CorruptBackup`] with the first file that differs.
pub(in super::super) fn compare_with_manifest(data: &Path) -> Result<()> {
    let damaged = |what: String| {
        Error::new(Code::CorruptBackup, format!("the backup in `{}` is damaged: {what}", data.display()))
            .with_hint("choose another backup, and see `backup verify`")
    };
    let known = match data.ancestors().nth(2) {
        Some(backup) => record_file::read_record::<DamageNote>(&sidecar_path(backup))?,
        None => None,
    };
    if let Some(what) = known.and_then(|known| known.damaged) {
        return Err(damaged(format!("`backup verify` found that {what}")));
    }
    let manifest: Manifest = record_file::read_record(&data.join("backup_manifest"))
        .map_err(|e| damaged(e.message))?
        .ok_or_else(|| damaged("its manifest is missing".into()))?;
    for ManifestEntry { path, size } in manifest.files {
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
