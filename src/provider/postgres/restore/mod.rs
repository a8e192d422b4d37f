//! Restores: the plan of one, the copy of a backup, its isolation and recovery, and what it ends as: a branch, or the
//! cluster itself in place.

mod archived_target;
pub(super) mod branch;
mod copying;
pub(super) mod in_place;
mod isolation;
pub(super) mod plan;
mod recovery;
mod restored_copy;
