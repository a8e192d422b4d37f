//! A workflow, as the platform keeps it.

use crate::base::moment::Moment;

/// A workflow: a branch operation in the background.
#[derive(Debug, Clone)]
pub(super) struct Workflow {
    pub(super) id: String,
    /// The id of the branch.
    pub(super) branch: String,
    pub(super) started_at: Moment,
}
