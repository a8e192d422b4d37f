//! A runbook whose text was edited while a run of it stood still.

use super::text_edits::{TextEdit, list_edits};
use crate::runtime::{Runbook, ScriptRunner};
use std::{fmt, sync::Arc};

/// A runbook with an edit that leaves it one: it parses, its header reads, and a run of it would not be refused.
pub(super) struct EditedRunbook {
    pub(super) edit: TextEdit,
    pub(super) runbook: Runbook,
}

impl fmt::Debug for EditedRunbook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.edit.name)
    }
}

/// Returns the edits of a runbook that leave it one, in the order of its text.
pub(super) fn list_possible_edits(runbook: &Runbook) -> Vec<Arc<EditedRunbook>> {
    list_edits(&runbook.text).into_iter().filter_map(|edit| compile_edit_if_runnable(runbook, edit)).collect()
}

fn compile_edit_if_runnable(runbook: &Runbook, edit: TextEdit) -> Option<Arc<EditedRunbook>> {
    let edited = runbook.with_text(edit.text.clone()).ok()?;
    ScriptRunner::require_runnable(&edited).ok()?;
    Some(Arc::new(EditedRunbook { edit, runbook: edited }))
}
