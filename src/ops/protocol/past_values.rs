//! How long a look that shows what was asked for may be showing what was before the last change.
//!
//! A platform can answer before it acts, and a look can lag behind. A value that an element had a short while ago, before
//! another call changed it, is therefore no sign of a new change until no look can lag so far behind. Nor is what a list has
//! now and had not before what a call has made, until no look can show the list from before the last call that added to it.
//! Nor does a look that may show such a value say what a call is to ask for, or that it is refused: it is looked again.

use super::{
    plan::plan_in_time,
    planned_from::{PlannedFrom, may_refuse_everything},
    sending::{RequestTracker, StaleLooks},
    watch::{Look, watch},
};
use crate::{
    base::{
        clock::{Stopwatch, Uptime},
        moment::Span,
        value::untag_value,
    },
    ops::{
        context::{CallContext, ElementValue},
        job_wait::next_poll_delay,
        thing::ThingPart,
    },
    provider::{Code, Error, Provider, Result, model::Progress},
};
use serde_json::Value;

impl RequestTracker<'_> {
    /// Plans a call, and plans it again while what it was planned from, or what refuses it, may be from before the last change
    /// that another call made. `planned_from` says of what the look of the last plan speaks, given what refused it.
    ///
    /// A look shows how it was when it began, or before: what counts is which past values it could show then, also those that no
    /// look shows any more when it is answered.
    ///
    /// # Errors
    /// What the plan refuses; [`Code::Timeout`] where the call has no time to find out. Nothing was asked for.
    pub(super) async fn plan_from_current_looks<T, F: Future<Output = Result<T>>>(
        &mut self,
        provider: &dyn Provider,
        subject: &str,
        timeout: Span,
        plan: impl Fn() -> F,
        planned_from: impl Fn(Option<&Error>) -> Vec<PlannedFrom>,
    ) -> Result<T> {
        let cx = self.cx;
        let (clock, mut waited, mut last_refusal) = (cx.fleet.clock(), Span::ZERO, None);
        let stopwatch = Stopwatch::start(clock.as_ref());
        loop {
            let past_at_start = self.list_past_values().await?;
            let planned = plan_in_time(plan()).await;
            self.past_at_plan = self.list_past_values().await?;
            self.past_at_plan.extend(past_at_start.into_iter().map(|(past, _)| (past, Span::ZERO)));
            let refusal = planned.as_ref().err();
            let Some(doubt) = self.find_plan_doubt(refusal, &planned_from(refusal)) else {
                return planned.map_err(|e| tell_last_refusal(e, last_refusal.as_ref()));
            };
            last_refusal = planned.err();
            if doubt > stopwatch.remaining_of(timeout) && !self.has_lost_request() {
                let why = "a look may not show what was changed right before";
                return Err(tell_last_refusal(unaskable_error(subject, why, doubt), last_refusal.as_ref()));
            }
            // What no look shows any more needs no waiting: the call is planned again at once.
            if doubt > Span::ZERO {
                let phase = format!("waiting until a look shows what was changed right before {subject}");
                cx.host.report_progress(&Progress::with_phase(phase));
                let pause = next_poll_delay(waited).min(doubt);
                provider.let_time_pass(clock.as_ref(), pause).await;
                waited = Span(waited.0.saturating_add(pause.0));
            }
        }
    }

    /// Lists what elements were before other calls changed them, and how long a look may still show that, at the places of the
    /// call's things; nothing where no look lags behind.
    async fn list_past_values(&self) -> Result<Vec<(ElementValue, Span)>> {
        if self.landing.cannot_land_late() {
            return Ok(Vec::new());
        }
        let places: Vec<String> = self.things.iter().map(|thing| thing.place.clone()).collect();
        self.cx.host.list_past_values(&places).await
    }

    /// Returns how long a look may still show what the last plan was made from, because it was so before another call's change:
    /// zero where none does any more and that of the plan did; `None` where it did not.
    fn find_plan_doubt(&self, refusal: Option<&Error>, from: &[PlannedFrom]) -> Option<Span> {
        #[cfg(test)]
        if super::mutant::believes_planning_look() {
            return None;
        }
        let is_doubtful = |past: &ElementValue| {
            from.iter().any(|from| from.may_have_shown(past))
                || refusal.is_some_and(|refusal| may_refuse_everything(past, refusal))
        };
        let may_come_from_look = refusal.is_none_or(|e| e.code.may_come_from_look());
        let past = self.past_at_plan.iter().filter(|_| may_come_from_look);
        past.filter(|(past, _)| is_doubtful(past)).map(|(_, left)| *left).max()
    }

    /// Returns how long a look may still show one of these values because an element had it before another call changed it.
    async fn find_stale_look_time(&self, wanted: &[ElementValue]) -> Result<Span> {
        let places: Vec<String> = wanted.iter().map(|one| one.place.clone()).collect();
        let past = self.cx.host.list_past_values(&places).await?;
        let is_stale =
            |(past, _): &&(ElementValue, Span)| wanted.iter().any(|one| past.may_be_taken_for(one));
        Ok(past.iter().filter(is_stale).map(|(_, left)| *left).max().unwrap_or(Span::ZERO))
    }

    /// Forgets what elements of the call were before it where that may be what they were before another call changed them: the
    /// look that showed it may have lagged behind.
    async fn doubt_values_before(&mut self) -> Result<()> {
        let now = self.list_past_values().await?;
        for one in &mut self.values_before {
            if self.past_at_plan.iter().chain(&now).any(|(past, _)| past.may_be_taken_for(one)) {
                one.value = None;
            }
        }
        Ok(())
    }

    /// Finds out how long a look that shows these values may be showing what was before the last change. A change that no look
    /// within the call's time could tell from that is refused, unless it was asked for before.
    ///
    /// # Errors
    /// [`Code::Timeout`]; nothing was asked for.
    pub(super) async fn begin_stale_look_time(
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
        let (began, span) = (self.cx.fleet.clock().uptime(), self.find_stale_look_time(wanted).await?);
        self.stale_looks = Some(StaleLooks { since: began, span });
        self.doubt_values_before().await?;
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
        let (place, element) = (thing.place.clone(), format!("list:{list}"));
        Some(ElementValue { place, element, value: Some(Value::Null) })
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
        let span = self.find_stale_look_time(&list).await?;
        if span > timeout && !self.has_lost_request() {
            return Err(unaskable_error(subject, "a look may not show what was made right before", span));
        }
        pass_time(self.cx, provider, span, &format!("waiting until {subject} can be told from the last one"))
            .await
    }

    /// Returns how long a look that shows what is wanted may still be showing what was before the last change.
    pub(super) fn stale_look_time_left(&self) -> Span {
        let Some(StaleLooks { since, span }) = &self.stale_looks else { return Span::ZERO };
        let passed = self.cx.fleet.clock().uptime().since_in_same_boot(since).unwrap_or(Span::ZERO);
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

/// Returns the error of a call whose time is too short to look again, with what refused it before.
fn tell_last_refusal(error: Error, refusal: Option<&Error>) -> Error {
    match refusal {
        Some(refusal) if error.code == Code::Timeout => {
            let said = format!("{}: {}", refusal.code, refusal.message_with_hint());
            Error { message: format!("{}; the last look said: {said}", error.message), ..error }
        }
        _ => error,
    }
}

/// Lets time pass, and says for what.
async fn pass_time(cx: &CallContext<'_>, provider: &dyn Provider, span: Span, phase: &str) -> Result<()> {
    if span == Span::ZERO {
        return Ok(());
    }
    let look = || async { Ok(Look::NotYet((), Progress::with_phase(phase))) };
    watch(cx, provider, span, look).await.map(drop)
}
