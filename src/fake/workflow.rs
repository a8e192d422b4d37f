//! A workflow: a branch operation in the background.

use crate::base::moment::Moment;

/// A workflow: a branch operation in the background.
#[derive(Debug, Clone)]
pub(super) struct Workflow {
    pub(super) id: String,
    /// The branch it is about.
    pub(super) branch: String,
    /// When it was begun.
    pub(super) at: Moment,
}
