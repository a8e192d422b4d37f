//! What the header of a runbook gives and no call of it uses.

use super::{checker::RunbookChecker, finding::Severity};
use crate::runtime::remainder::RemainderRule;
use rhai::Position;

impl RunbookChecker<'_> {
    pub(super) fn report_unused_needs(&mut self) {
        let unused: Vec<_> = self
            .runbook
            .header
            .needs
            .iter()
            .filter(|right| !self.used.iter().any(|need| right.covers(need)))
            .cloned()
            .collect();
        for right in unused {
            let path = self.runbook.path.clone();
            self.add_finding(
                Severity::Warning,
                &path,
                Position::NONE,
                format!("`{right}` in `needs` is never used"),
                Some("take it out".into()),
            );
        }
    }

    /// Warns of what the header lets stay and no operation of the runbook can leave.
    pub(super) fn report_unneeded_leaves(&mut self) {
        let can_be_left = |rule: &RemainderRule| self.called.iter().any(|name| rule.can_be_left_by(name));
        let idle: Vec<String> = self
            .runbook
            .header
            .leaves
            .iter()
            .filter(|rule| !can_be_left(rule))
            .map(RemainderRule::to_string)
            .collect();
        for entry in idle {
            let path = self.runbook.path.clone();
            let message =
                format!("`{entry}` in `leaves` is nothing that an operation of this runbook can leave");
            self.add_finding(Severity::Warning, &path, Position::NONE, message, Some("take it out".into()));
        }
    }
}
