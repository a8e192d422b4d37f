//! A branch, as the platform keeps it.

use crate::base::moment::Moment;

/// The row of a branch in the list of branches.
#[derive(Debug, Clone)]
pub(super) struct PlatformBranch {
    pub(super) id: String,
    pub(super) name: String,
    /// The reference of the branch's project; for the default branch, of production.
    pub(super) reference: String,
    /// The reference of the parent project.
    pub(super) parent: String,
    pub(super) is_default: bool,
    pub(super) persistent: bool,
    pub(super) with_data: bool,
    pub(super) git_branch: Option<String>,
    pub(super) notify_url: Option<String>,
    pub(super) created_at: Moment,
    pub(super) updated_at: Moment,
    pub(super) review_requested_at: Option<Moment>,
    /// When a scheduled deletion is due.
    pub(super) deleted_at: Option<Moment>,
    /// The name and id of the branch in its parent's world, when it was made with data.
    pub(super) world_branch: Option<(String, String)>,
}
