//! How long a look that shows what was asked for may be showing what was before the last change.
//!
//! A platform can answer before it acts, and a look can lag behind. A value that an element had a short while ago, before
//! another call changed it, is therefore no sign of a new change until no look can lag so far behind. Nor is what a list has
//! now and had not before what a call has made, until no look can show the list from before the last call that added to it.

use super::{
    sending::{LookDoubt, RequestTracker},
    watch::{Look, watch},
};
use crate::{
    base::{clock::Uptime, moment::Span, value::untag_value},
    ops::{
        context::{CallContext, ElementValue},
        thing::ThingPart,
    },
    provider::{Code, Error, Provider, Result, model::Progress},
};
use serde_json::Value;

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
        Err(unaskable_error(subject, "it was so a short while ago, and a look may show that", span))
    }

    /// Notes that the call adds to the list that its first thing is, for the next one that finds its own there as what is new.
    pub(super) fn note_addition(&mut self) {
        self.values_before.extend(self.list_before_addition());
    }

    /// Returns that a list is as it was before something was added to it.
    fn list_before_addition(&self) -> Option<ElementValue> {
        let thing = self.things.first()?;
        let ThingPart::Named(list) = &thing.part else { return None };
        Some(ElementValue::absent(thing.place.clone(), &format!("list:{list}")))
    }

    /// Waits until no look can show the call's list from before the last call that added to it: what that one made would be
    /// taken for new.
    ///
    /// # Errors
    /// [`Code::Timeout`] where that takes longer than the call has; nothing was asked for.
    pub(super) async fn wait_until_list_is_current(
        &self,
        provider: &dyn Provider,
        subject: &str,
        timeout: Span,
    ) -> Result<()> {
        let list: Vec<_> = self.list_before_addition().into_iter().collect();
        if self.landing.cannot_land_late() || list.is_empty() {
            return Ok(());
        }
        #[cfg(test)]
        if super::mutant::believes_past_value() {
            return Ok(());
        }
        let span = self.cx.host.find_time_in_doubt(&list).await?;
        if span > timeout && !self.has_lost_request() {
            return Err(unaskable_error(subject, "a look may not show what was made right before", span));
        }
        pass_time(self.cx, provider, span, &format!("waiting until {subject} can be told from the last one"))
            .await
    }

    /// Returns how long a look that shows what is wanted may still be showing what was before the last change.
    pub(super) fn time_in_doubt(&self) -> Span {
        let Some(LookDoubt { began, span }) = &self.doubt else { return Span::ZERO };
        let passed = self.cx.fleet.clock().uptime().since_in_same_boot(began).unwrap_or(Span::ZERO);
        Span(span.0.saturating_sub(passed.0)).max(Span::ZERO)
    }

    /// Notes that what the call has made was not there before, at the place of the first of its things.
    pub(super) fn note_making(&mut self, made: &Value) {
        let fields = untag_value(made).map_or(made, |(_, fields)| fields);
        if let (Some(thing), Some(id)) = (self.things.first(), fields["id"].as_str()) {
            self.values_before.push(ElementValue::absent(thing.place.clone(), id));
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

    /// Counts how long looks may show what was before from when the call's last request must have changed it: by now, and within
    /// the time in which it had to land. Forgets it where no request has changed anything.
    pub(super) async fn redate_past_values(&self, may_land: bool) -> Result<()> {
        let now = self.cx.fleet.clock().uptime();
        match self.last_sending_time() {
            None if self.values_before.is_empty() => Ok(()),
            None => self.cx.host.keep_past_values(&[], &now, Span::ZERO).await,
            Some(sent_by) if may_land => {
                let left = self.landing_time_left_after(Some(sent_by)).unwrap_or(Span::ZERO);
                self.keep_past_values(&now.saturating_add(left)).await
            }
            Some(sent_by) => {
                let landed = sent_by.saturating_add(self.landing.max_delay().unwrap_or(Span::ZERO));
                let is_over = now.since_in_same_boot(&landed).is_some_and(|passed| passed > Span::ZERO);
                self.keep_past_values(if is_over { &landed } else { &now }).await
            }
        }
    }
}

/// Returns the error of a call that could not tell in its time whether what it asks for was done.
fn unaskable_error(subject: &str, why: &str, span: Span) -> Error {
    let what = format!("{subject} was not asked for: {why} for {span} more, for which the call has no time");
    Error::new(Code::Timeout, what).with_hint(format!("give it more than {span} with `timeout:`"))
}

/// Lets time pass, and says for what.
async fn pass_time(cx: &CallContext<'_>, provider: &dyn Provider, span: Span, phase: &str) -> Result<()> {
    if span == Span::ZERO {
        return Ok(());
    }
    let look = || async { Ok(Look::NotYet((), Progress::with_phase(phase))) };
    watch(cx, provider, span, look).await.map(drop)
}
