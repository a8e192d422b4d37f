//! Restores: into a new branch, and in place.

mod in_place;
mod into_branch;
mod load;

pub(super) use in_place::{RESTORE_JOB, check_restore_detail};
pub(super) use into_branch::{BRANCH_JOB, check_branch_detail};
