//! How long a look that shows what was asked for may be showing what was before the last change.
//!
//! A platform can answer before it acts, and a look can lag behind. A value that an element had a short while ago, before
//! another call changed it, is therefore no sign of a new change until no look can lag so far behind.

use super::sending::RequestTracker;
use crate::{
    base::{clock::Uptime, moment::Span, value::untag_value},
    ops::context::ElementValue,
    provider::{Code, Error, Result},
};
use serde_json::Value;

/// How long looks are in doubt.
pub(super) struct LookDoubt {
    began: Uptime,
    span: Span,
}

impl RequestTracker<'_> {
    /// Finds out how long a look that shows these values may be showing what was before the last change. A change that no look
    /// within the call's time could tell from that is refused, unless it was asked for before.
    ///
    /// # Errors
    /// [`Code::Timeout`]; nothing was asked for.
    pub(super) async fn begin_doubt(
        &mut self,
        subject: &str,
        wanted: &[ElementValue],
        timeout: Span,
    ) -> Result<()> {
        // Where nothing lands late, no look lags behind either.
        if self.landing.cannot_land_late() {
            return Ok(());
        }
        #[cfg(test)]
        if super::mutant::believes_past_value() {
            return Ok(());
        }
        let (began, span) = (self.cx.fleet.clock().uptime(), self.cx.host.find_time_in_doubt(wanted).await?);
        self.doubt = Some(LookDoubt { began, span });
        if span <= timeout || self.has_lost_request() {
            return Ok(());
        }
        let what = format!(
            "{subject} was not asked for: it was so a short while ago, and a look may show that for {span} more, for which \
             the call has no time"
        );
        Err(Error::new(Code::Timeout, what).with_hint(format!("give it more than {span} with `timeout:`")))
    }

    /// Returns how long a look that shows what is wanted may still be showing what was before the last change.
    pub(super) fn time_in_doubt(&self) -> Span {
        let Some(LookDoubt { began, span }) = &self.doubt else { return Span::ZERO };
        let passed = self.cx.fleet.clock().uptime().since_in_same_boot(began).unwrap_or(Span::ZERO);
        Span(span.0.saturating_sub(passed.0)).max(Span::ZERO)
    }

    /// Notes that what the call has made was not there before, in the place of the first of its things.
    pub(super) fn note_making(&mut self, made: &Value) {
        let fields = untag_value(made).map_or(made, |(_, fields)| fields);
        if let (Some(thing), Some(id)) = (self.things.first(), fields["id"].as_str()) {
            self.values_before = vec![ElementValue::absent(thing.place.clone(), id)];
        }
    }

    /// Keeps what the elements of the call were before it, for calls that change them back: it changed them at `changed_by` at
    /// the latest.
    pub(super) async fn keep_past_values(&self, changed_by: &Uptime) -> Result<()> {
        match self.landing.max_delay() {
            Some(lag) if !self.values_before.is_empty() => {
                self.cx.host.keep_past_values(&self.values_before, changed_by, lag).await
            }
            _ => Ok(()),
        }
    }

    /// Counts how long looks may show what was before from when the call's last request must have changed it, and forgets that
    /// where none has.
    pub(super) async fn redate_past_values(&self, may_land: bool) -> Result<()> {
        let now = self.cx.fleet.clock().uptime();
        match self.last_sending_time() {
            None if self.values_before.is_empty() => Ok(()),
            None => self.cx.host.keep_past_values(&[], &now, Span::ZERO).await,
            Some(sent_by) if may_land => {
                let left = self.landing_time_left_after(Some(sent_by)).unwrap_or(Span::ZERO);
                self.keep_past_values(&now.saturating_add(left)).await
            }
            Some(_) => self.keep_past_values(&now).await,
        }
    }
}
