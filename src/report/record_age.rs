//! How old the last record of a run is, and whether a person is asked before the run goes on.

use super::format_seconds;
use crate::{
    base::moment::{Moment, Span},
    ops::spec::{Effect, Permission},
    runtime::Runtime,
};

/// The age from which a run that may destroy something asks before it goes on.
const STALE_AFTER: Span = Span::from_secs(30 * 60);
/// How far the clock may have been corrected since without anybody being asked.
const CLOCK_TOLERANCE: Span = Span::from_secs(-60);

/// How old the last record of a run is, by the clock of this machine.
#[derive(Debug, Clone, Copy)]
pub struct RecordAge(Span);

impl RecordAge {
    /// Returns the age of a record that was written at a moment.
    pub fn of_run(runtime: &Runtime, written_at: Moment) -> Self {
        Self::from_span(runtime.clock().now().duration_since(written_at))
    }

    /// Returns the age of a record that was written so long ago; negative where the clock was set back since.
    pub fn from_span(age: Span) -> Self {
        Self(age)
    }

    /// Returns the right to destroy something about which a person is asked first, if there is one: the record is old, or the
    /// clock was set back since, and nobody knows how old it is.
    pub fn right_to_ask_about(self, needs: &[Permission]) -> Option<&Permission> {
        let is_certainly_new = self.0 <= STALE_AFTER && !self.is_unknown();
        needs.iter().find(|need| need.effect == Effect::Destroy).filter(|_| !is_certainly_new)
    }

    /// Says how old it is: `5 s old`.
    pub fn describe(self) -> String {
        if self.is_unknown() {
            return "later than the clock of this machine".into();
        }
        format!("{} old", format_seconds(self.0.max(Span::ZERO).as_secs_f64().floor()))
    }

    fn is_unknown(self) -> bool {
        self.0 < CLOCK_TOLERANCE
    }
}
