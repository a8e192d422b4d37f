//! The tracker of a request: what is on disk before a request goes out, and until when it may land.

use super::{
    failure::{EffectFailure, EffectResult, refuse_when_only_settling},
    watch::Look,
};
use crate::{
    base::{clock::Uptime, moment::Span, send_deadline::with_send_deadline},
    ops::{
        args::CallArgs,
        context::{CallContext, ElementValue, ThingClaim, ThingHold},
        evidence::Evidence,
        thing::Thing,
    },
    provider::{
        Code, Error, Provider, Result, SideEffects,
        model::{EffectKind, LandingLimit},
    },
};

/// How long a lost request is looked for before it is asked for again.
pub(super) const LOOK_TIMEOUT: Span = Span::from_secs(90);
/// How long a provider may try to get a request out; nothing is sent after that.
pub(super) const SENDING_TIME: Span = Span::from_secs(180);

/// The request of one call: the things that it changes, and until when it may land.
pub(super) struct RequestTracker<'a> {
    pub(super) cx: &'a CallContext<'a>,
    pub(super) things: Vec<Thing>,
    pub(super) landing: LandingLimit,
    /// The last moment at which any request of the call may have been sent, as far as it is not known to have failed.
    lost: Option<Uptime>,
    /// Since when a lost request of the call is looked for here.
    looking_since: Option<Uptime>,
    /// When the last request was answered.
    answered: Option<Uptime>,
    /// Whether what was asked for goes on as a job, to an end that nobody knows beforehand.
    is_accepted: bool,
    /// Whether that is so of an earlier attempt, and the call was to be made anew all the same.
    is_earlier_at_work: bool,
    /// The things of which no look can tell whether the answered request has landed there.
    unproven: Vec<Thing>,
    /// How long a look that shows what is wanted may be showing what was before the last change.
    pub(super) stale_looks: Option<StaleLooks>,
    /// What elements were that the look of the last plan could show though another call had changed them, and how long a look
    /// could still show that when it was answered.
    pub(super) past_at_plan: Vec<(ElementValue, Span)>,
    /// What each element that the call changes was before.
    pub(super) values_before: Vec<ElementValue>,
    #[expect(dead_code, reason = "it is held, not looked at")]
    hold: Option<ThingHold>,
}

/// For how long, and since when, looks may show what was before the last change.
pub(super) struct StaleLooks {
    pub(super) since: Uptime,
    pub(super) span: Span,
}

/// What came of one request.
pub(super) enum RequestAnswer<T> {
    /// It was answered.
    Answered(T),
    /// It got no answer, or one that cannot be read, and may land.
    Lost(Error),
    /// It was refused, and changed nothing.
    Refused(Error),
}

impl<'a> RequestTracker<'a> {
    /// Claims these parts of the call's target once nothing else is under way at them; until then nothing is read
    /// either.
    pub(super) async fn claim_when_free(
        cx: &'a CallContext<'a>,
        args: &CallArgs,
        provider: &dyn Provider,
        (kind, things): (EffectKind, Vec<Thing>),
    ) -> EffectResult<RequestTracker<'a>> {
        let landing = provider.landing_limit(kind);
        let may_be_asked_for = cx.recorded.is_some() || landing.cannot_land_late() && cx.is_taken_up;
        if !may_be_asked_for {
            refuse_when_only_settling(cx).await?;
        }
        // The time of a call ends waiting, never uncertainty.
        let limit = (!may_be_asked_for).then(|| args.timeout());
        let ThingClaim { hold, open_since, is_at_work } =
            cx.host.wait_and_claim_things(&things, limit).await?;
        let lost = open_since.map(|sent_by| clamp_sending_time_to_now(&sent_by, cx));
        let is_earlier_at_work = is_at_work && cx.is_to_be_redone();
        let looking_since = lost.as_ref().map(|_| cx.fleet.clock().uptime());
        Ok(RequestTracker {
            cx,
            things,
            landing,
            lost,
            looking_since,
            answered: None,
            is_accepted: false,
            is_earlier_at_work,
            unproven: Vec::new(),
            stale_looks: None,
            past_at_plan: Vec::new(),
            values_before: Vec::new(),
            hold,
        })
    }

    /// Takes a request over that an earlier process may have sent, until `sent_by` or until it died: whoever takes a call
    /// up holds the run, so nobody else does any more.
    pub(super) async fn adopt_lost_request(&mut self, sent_by: &Uptime) -> Result<()> {
        self.lost = Some(clamp_sending_time_to_now(sent_by, self.cx));
        self.looking_since.get_or_insert_with(|| self.cx.fleet.clock().uptime());
        self.redate_quarantine().await
    }

    /// Keeps the things under quarantine until the job that was accepted is settled: what a provider states of its
    /// requests says nothing of how long their work takes.
    pub(super) async fn quarantine_until_settled(&mut self) -> Result<()> {
        self.is_accepted = true;
        self.cx.host.begin_quarantine(&self.things, &self.cx.fleet.clock().uptime(), None).await
    }

    /// Takes a job over that an earlier process saw accepted: its request has landed, which says nothing of an earlier
    /// attempt's.
    pub(super) async fn adopt_accepted_job(&mut self) -> Result<()> {
        if !self.cx.is_to_be_redone() {
            // Its things are under quarantine since it was accepted.
            self.answered = self.lost.take();
            self.looking_since = None;
        }
        self.quarantine_until_settled().await
    }

    /// Counts a request that was refused, because it is so already, as one that was answered then.
    pub(super) fn count_refusal_as_answer(&mut self, at: Uptime) {
        self.answered = Some(at);
    }

    /// Keeps these things under quarantine beyond the end of the call, until what was answered must have landed: they
    /// were as wanted before, so a look that shows them so proves nothing.
    pub(super) fn doubt_landing_at(&mut self, things: Vec<Thing>) {
        #[cfg(test)]
        if super::mutant::takes_look_for_landing() {
            return;
        }
        self.unproven = things;
    }

    /// Returns since when a lost request of the call is looked for here.
    pub(super) fn looking_since(&self) -> Option<&Uptime> {
        self.looking_since.as_ref()
    }

    /// Returns whether a request of the call may still land.
    pub(super) fn has_lost_request(&self) -> bool {
        self.lost.is_some()
    }

    /// Records what is about to be asked for, puts the things under quarantine, and asks.
    pub(super) async fn record_and_send<T>(
        &mut self,
        evidence: impl FnOnce(Uptime) -> Evidence,
        request: impl Future<Output = Result<T>>,
    ) -> EffectResult<RequestAnswer<T>> {
        let clock = self.cx.fleet.clock();
        let sent_by = clock.uptime().saturating_add(SENDING_TIME);
        #[cfg(test)]
        let (recorded_at, is_mutant) = (clock.uptime(), super::mutant::counts_from_record());
        #[cfg(test)]
        let sent_by = if is_mutant { recorded_at.clone() } else { sent_by };
        if !self.landing.cannot_land_late() {
            self.cx.host.begin_quarantine(&self.things, &sent_by, self.quarantine_span()).await?;
            let lands_by = sent_by.saturating_add(self.landing.max_delay().unwrap_or(Span::ZERO));
            self.keep_past_values(&lands_by).await?;
        }
        self.cx.host.record_evidence(&evidence(sent_by.clone())).await?;
        let answer = self.send_unrecorded(with_send_deadline(sent_by, request)).await;
        #[cfg(test)]
        if self.has_lost_request() && is_mutant {
            self.lost = Some(recorded_at);
        }
        if matches!(answer, RequestAnswer::Lost(_)) {
            self.redate_quarantine().await?;
            self.redate_past_values(true).await?;
        }
        Ok(answer)
    }

    /// Counts the quarantine from when a request was really sent: nothing of the call goes out any more.
    async fn redate_quarantine(&self) -> Result<()> {
        match self.last_sending_time() {
            Some(sent_by) if !self.landing.cannot_land_late() => {
                self.cx.host.begin_quarantine(&self.things, sent_by, self.quarantine_span()).await
            }
            _ => Ok(()),
        }
    }

    /// Returns how long the quarantine lasts after the last request; `None` where nobody knows.
    fn quarantine_span(&self) -> Option<Span> {
        self.landing.max_delay().filter(|_| !self.is_earlier_at_work)
    }

    /// Returns when the last request of the call, as far as it may have changed something, was sent at the latest.
    pub(super) fn last_sending_time(&self) -> Option<&Uptime> {
        self.answered.as_ref().or(self.lost.as_ref())
    }

    /// Asks for something that leaves nothing to be recorded: it cannot land later, and its key finds it.
    pub(super) async fn send_unrecorded<T>(
        &mut self,
        request: impl Future<Output = Result<T>>,
    ) -> RequestAnswer<T> {
        let answer = request.await;
        let now = self.cx.fleet.clock().uptime();
        match answer {
            Ok(value) => {
                self.answered = Some(now);
                RequestAnswer::Answered(value)
            }
            // An answer that could not be read is no answer either.
            Err(e) if matches!(e.code, Code::Unknown | Code::Internal) => {
                self.looking_since.get_or_insert_with(|| now.clone());
                self.lost = Some(now);
                RequestAnswer::Lost(e)
            }
            Err(e) => RequestAnswer::Refused(e),
        }
    }

    /// Returns how long a lost request may still land, nothing left being zero; `None` where nobody knows.
    pub(super) fn landing_time_left(&self) -> Option<Span> {
        self.landing_time_left_after(self.lost.as_ref())
    }

    pub(super) fn landing_time_left_after(&self, sent_by: Option<&Uptime>) -> Option<Span> {
        let Some(sent_by) = sent_by.filter(|_| !self.landing.cannot_land_late()) else {
            return Some(Span::ZERO);
        };
        let span = self.landing.max_delay()?;
        let passed = self.cx.fleet.clock().uptime().since_in_same_boot(sent_by);
        Some(passed.map_or(span, |passed| Span(span.0.saturating_sub(passed.0)).max(Span::ZERO)))
    }

    /// Returns the error of a call whose request was answered and is not seen within the call's time: until when it may
    /// still take effect, and what waits for that.
    pub(super) fn unapplied_error(&self, message: String) -> Error {
        let left = self.landing_time_left_after(self.last_sending_time());
        let error = Error::new(Code::NotApplied, message);
        if left == Some(Span::ZERO) {
            return error.with_hint("look what is there now, then ask again");
        }
        let error = Error { side_effects: SideEffects::Unknown, ..error };
        match left {
            Some(left) => {
                let until = self.cx.fleet.clock().now().saturating_add(left).round_up_to_second();
                error.with_hint(format!(
                    "look again later: it may still take effect until {until}; until then the next change there waits"
                ))
            }
            None => error.with_hint("look again later: nobody knows until when it may still take effect"),
        }
    }

    /// Returns whether no request of the call can land any more.
    pub(super) fn is_past_landing(&self) -> bool {
        self.landing_time_left() == Some(Span::ZERO)
    }

    /// Returns how long it takes until what was asked for must have landed; all of the time where another process asked.
    pub(super) fn time_until_landed(&self) -> Span {
        let span = self.landing.max_delay().unwrap_or(Span::ZERO);
        self.last_sending_time().and_then(|sent| self.landing_time_left_after(Some(sent))).unwrap_or(span)
    }

    /// Returns how long to look for a lost request before anything else is done about it.
    pub(super) fn look_limit(&self) -> Span {
        self.landing_time_left().map_or(LOOK_TIMEOUT, |left| left.min(LOOK_TIMEOUT))
    }

    /// Looks for what a lost request makes until it can land no more; `why` is the error of one that did not.
    pub(super) async fn await_lost_result<T, F: Future<Output = Result<Option<T>>>>(
        &self,
        provider: &dyn Provider,
        subject: &str,
        why: Error,
        find: impl Fn() -> F,
    ) -> EffectResult<T> {
        let look = || async { Ok(Look::from_found(subject, find().await?)) };
        match self.watch_lost_request(provider, subject, look).await? {
            Some(found) => Ok(found),
            None => Err(self.never_landed_failure(why)),
        }
    }

    /// Returns the error of a call that could not be planned or was refused, where an earlier attempt may have asked before:
    /// what that one asked for can still come.
    pub(super) fn blame_earlier_attempt(&self, error: Error) -> Error {
        // Nobody knows until when an accepted job is at work.
        let may_land = self.is_earlier_at_work || self.has_lost_request() && !self.is_past_landing();
        if !may_land {
            return error;
        }
        let message = format!("{}; what was asked for before may still take effect", error.message);
        let side_effects =
            if error.side_effects == SideEffects::None { SideEffects::Unknown } else { error.side_effects };
        Error { message, side_effects, ..error }
    }

    /// Returns the failure of a lost request that was looked for and is not there.
    pub(super) fn never_landed_failure(&self, why: Error) -> EffectFailure {
        match self.landing_time_left() {
            Some(_) => why.into(),
            None => EffectFailure::Undecided(format!("{why}; and nobody knows until when it may still come")),
        }
    }

    /// Ends the quarantine when the call is settled, unless a request may still land, and returns what came of the call.
    pub(super) async fn lift_quarantine_if_settled<T>(&self, result: EffectResult<T>) -> EffectResult<T> {
        let may_land = match &result {
            // The job may still be at work, and its quarantine has no end that is known.
            Err(EffectFailure::Undecided(_)) if self.is_accepted => return result,
            Err(EffectFailure::Undecided(_)) => true,
            // Only what is seen to be done ends what an earlier attempt began.
            Err(_) if self.is_earlier_at_work => true,
            // It was answered, and what was asked for may still come.
            Err(EffectFailure::Failed(e)) if e.code == Code::NotApplied => true,
            _ => !self.is_past_landing(),
        };
        self.redate_past_values(may_land).await?;
        if may_land {
            self.redate_quarantine().await?;
        } else if self.is_accepted || !self.landing.cannot_land_late() {
            self.lift_proven().await?;
        }
        result
    }

    /// Ends the quarantine of the things at which nothing can land any more.
    async fn lift_proven(&self) -> Result<()> {
        let answered = self.answered.as_ref().filter(|_| !self.unproven.is_empty());
        let may_land = |sent_by: &&Uptime| self.landing_time_left_after(Some(sent_by)) != Some(Span::ZERO);
        let Some(sent_by) = answered.filter(may_land) else {
            return self.cx.host.lift_quarantines_at(&self.things).await;
        };
        self.cx.host.begin_quarantine(&self.unproven, sent_by, self.quarantine_span()).await?;
        let is_proven = |thing: &&Thing| !self.unproven.contains(thing);
        let proven: Vec<_> = self.things.iter().filter(is_proven).cloned().collect();
        self.cx.host.lift_quarantines_at(&proven).await
    }
}

/// Returns the reading at which a request was sent at the latest: not later than now, and now where the machine was
/// booted since.
fn clamp_sending_time_to_now(sent_by: &Uptime, cx: &CallContext<'_>) -> Uptime {
    let now = cx.fleet.clock().uptime();
    if now.since_in_same_boot(sent_by).is_some_and(|passed| passed > Span::ZERO) {
        sent_by.clone()
    } else {
        now
    }
}
