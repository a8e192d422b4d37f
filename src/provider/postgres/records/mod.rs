//! Records of a target in the state folder: its branches and its restores in place.
//!
//! - A record is written before the things it names are created, so nothing exists without a record.
//! - A record is replaced as a whole, and removed last.

mod branch;
mod copy;
mod recovery_plan;
mod restore;

pub(super) use branch::{BranchPhase, BranchRecord};
pub(super) use copy::CopyRecord;
pub(super) use recovery_plan::{RecoveryPlan, RecoveryStop};
pub(super) use restore::{RestoreFailure, RestorePhase, RestoreRecord};

use crate::provider::{Code, Error, Result, host::record_file, model::CallKey};
use sha2::{Digest as _, Sha256};
use std::{
    io,
    path::{Path, PathBuf},
};

/// The records of one target.
#[derive(Debug, Clone)]
pub(super) struct TargetRecords {
    home: PathBuf,
}

impl TargetRecords {
    /// Returns the records of a target.
    pub(super) fn for_target(state: &Path, target: &str) -> Self {
        Self { home: state.join("postgres").join(target) }
    }

    /// Returns the folder of everything of this target in the state folder.
    pub(super) fn target_folder(&self) -> &Path {
        &self.home
    }

    /// Returns a name for `id` that is unique across state folders.
    pub(super) fn unique_name(&self, id: &str) -> String {
        let hash = Sha256::digest(self.home.as_os_str().as_encoded_bytes());
        format!("{id}-{}", data_encoding::HEXLOWER.encode(&hash[..4]))
    }

    /// Returns the record of a branch.
    ///
    /// # Errors
    /// [`Code::Internal`] when it cannot be read.
    pub(super) fn read_branch(&self, name: &str) -> Result<Option<BranchRecord>> {
        record_file::read_record(&self.branch_record_path(name))
    }

    /// Returns every branch, oldest first.
    ///
    /// # Errors
    /// [`Code::Internal`] when one cannot be read.
    pub(super) fn list_branches(&self) -> Result<Vec<BranchRecord>> {
        let mut branches: Vec<BranchRecord> = record_file::read_all_records(&self.home.join("branches"))?;
        branches.sort_by(|a, b| (a.created_at, &a.name).cmp(&(b.created_at, &b.name)));
        Ok(branches)
    }

    /// Writes down a branch that is about to be made.
    ///
    /// # Errors
    /// [`Code::Conflict`] when the name is taken, also by somebody who was a moment faster.
    pub(super) fn claim_branch_name(&self, record: &BranchRecord) -> Result<()> {
        let path = self.branch_record_path(&record.name);
        record_file::write_new_record(&path, &record.key.0, record).map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => {
                Error::new(Code::Conflict, format!("there is already a branch `{}`", record.name))
                    .with_hint("delete it first, or choose another name")
            }
            _ => record_file::unwritable_error(&path, &e),
        })
    }

    /// Replaces the record of a branch.
    ///
    /// # Errors
    /// [`Code::Internal`].
    pub(super) fn save_branch(&self, record: &BranchRecord) -> Result<()> {
        record_file::write_record(&self.branch_record_path(&record.name), record)
    }

    /// Removes the record of a branch; one that is gone is no error.
    ///
    /// # Errors
    /// [`Code::Internal`].
    pub(super) fn remove_branch_record(&self, name: &str) -> Result<()> {
        record_file::remove_file(&self.branch_record_path(name))
    }

    fn branch_record_path(&self, name: &str) -> PathBuf {
        self.home.join("branches").join(format!("{name}.json"))
    }
    /// Returns the branch that was made with `key`.
    ///
    /// # Errors
    /// [`Code::Internal`] when a record cannot be read.
    pub(super) fn find_branch_by_key(&self, key: &CallKey) -> Result<Option<BranchRecord>> {
        Ok(self.list_branches()?.into_iter().find(|record| record.key == *key))
    }

    /// Returns the record of the restore in place that has the key `key`.
    ///
    /// # Errors
    /// [`Code::Internal`] when it cannot be read.
    pub(super) fn read_restore(&self, key: &str) -> Result<Option<RestoreRecord>> {
        record_file::read_record(&self.restore_record_path(key))
    }

    /// Returns every restore in place, in no order.
    ///
    /// # Errors
    /// [`Code::Internal`] when one cannot be read.
    pub(super) fn list_restores(&self) -> Result<Vec<RestoreRecord>> {
        record_file::read_all_records(&self.home.join("restores"))
    }

    /// Writes the record of a restore in place, or replaces it.
    ///
    /// # Errors
    /// [`Code::Internal`].
    pub(super) fn save_restore(&self, record: &RestoreRecord) -> Result<()> {
        record_file::write_record(&self.restore_record_path(&record.key.0), record)
    }

    /// Removes the record of a restore in place; one that is gone is no error.
    ///
    /// # Errors
    /// [`Code::Internal`].
    pub(super) fn remove_restore_record(&self, key: &str) -> Result<()> {
        record_file::remove_file(&self.restore_record_path(key))
    }

    /// Returns the file of a restore's record.
    pub(super) fn restore_record_path(&self, key: &str) -> PathBuf {
        self.home.join("restores").join(format!("{key}.json"))
    }

    /// Returns where the old data of `data` is while a restore has moved it aside and put no other there.
    ///
    /// # Errors
    /// [`Code::Internal`] when a record cannot be read.
    pub(super) fn find_moved_data(&self, data: &Path) -> Result<Option<PathBuf>> {
        if data.is_dir() {
            return Ok(None);
        }
        let is_moved = |record: &RestoreRecord| record.data == data && record.aside.is_dir();
        Ok(self.list_restores()?.into_iter().find(is_moved).map(|record| record.aside))
    }

    /// Returns what a backup is being copied to, in words: a branch, or a data folder that is restored in place.
    ///
    /// # Errors
    /// [`Code::Internal`] when a record cannot be read.
    pub(super) fn find_reader_of_backup(&self, backup: &str) -> Result<Option<String>> {
        let copies = |branch: &BranchRecord| {
            branch.phase == BranchPhase::Copying && branch.copy.recovery.backup == backup
        };
        if let Some(branch) = self.list_branches()?.into_iter().find(copies) {
            return Ok(Some(format!("branch `{}`", branch.name)));
        }
        let copies = |restore: &RestoreRecord| {
            restore.phase == RestorePhase::Copying && restore.copy.recovery.backup == backup
        };
        let restore = self.list_restores()?.into_iter().find(copies);
        Ok(restore.map(|restore| format!("`{}`", restore.data.display())))
    }
}
