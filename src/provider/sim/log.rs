//! The log of a world: what was committed in its databases, and what took effect in it besides.

use super::{sql::EXECUTE_KIND, target::Sim};
use crate::{base::moment::Moment, provider::Result};
use serde::Serialize;

/// One line of a world's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogLine {
    /// When, by the world's clock.
    pub at: Moment,
    /// `statement`, or the kind of an effect: `backup.create`.
    pub kind: String,
    /// The branch on which a statement was committed; nothing for the target itself.
    pub branch: Option<String>,
    /// The statement, or what the effect was on.
    pub what: String,
}

impl Sim {
    /// Returns the log of the world since a moment, oldest first.
    ///
    /// # Errors
    /// Whatever the world's file says.
    pub fn read_log(&self, since: Option<Moment>) -> Result<Vec<LogLine>> {
        let store = self.open_store()?;
        let mut lines = store.read_current_world(|tx| {
            let statement = |(at, branch, what)| LogLine { at, kind: "statement".into(), branch, what };
            Ok(tx.list_statements()?.into_iter().map(statement).collect::<Vec<_>>())
        })?;
        // What `execute` did is there as its statement.
        let effects = store.effect_log()?.into_iter().filter(|effect| effect.kind != EXECUTE_KIND);
        lines.extend(effects.map(|effect| LogLine {
            at: effect.at,
            kind: effect.kind,
            branch: None,
            what: effect.what,
        }));
        lines.retain(|line| since.is_none_or(|since| line.at >= since));
        lines.sort_by_key(|line| line.at);
        Ok(lines)
    }
}
