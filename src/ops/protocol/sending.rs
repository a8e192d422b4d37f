//! Sending: what is on disk before a request goes out, and until when it may land.

use super::{
    failure::{EffectFailure, EffectResult},
    watch::find_within,
};
use crate::{
    base::{clock::Uptime, moment::Span},
    ops::{
        context::{CallContext, ThingClaim},
        evidence::Evidence,
    },
    provider::{
        Code, Error, Provider, Result,
        model::{EffectKind, Landing},
    },
};

/// How long a lost request is looked for before it is asked for again.
const LOOK_TIMEOUT: Span = Span::from_secs(90);
/// How long a provider may try to get a request out; nothing is sent after that.
pub(super) const SENDING_TIME: Span = Span::from_secs(180);

/// The request of one call: the things that it changes, and until when it may land.
pub(super) struct Sending<'a> {
    cx: &'a CallContext<'a>,
    things: Vec<String>,
    pub(super) landing: Landing,
    /// The last moment at which any request of the call may have been sent, as far as it is not known to have failed.
    lost: Option<Uptime>,
    #[expect(dead_code, reason = "it is held, not looked at")]
    claim: ThingClaim,
}

/// What came of one request.
pub(super) enum RequestAnswer<T> {
    /// It was answered.
    Answered(T),
    /// It got no answer, and may land.
    Lost,
    /// It was refused, and changed nothing.
    Refused(Error),
}

impl<'a> Sending<'a> {
    /// Waits until nothing else is under way at these parts of the call's target; until then nothing is read either.
    pub(super) async fn claim(
        cx: &'a CallContext<'a>,
        provider: &dyn Provider,
        kind: EffectKind,
        things: Vec<String>,
    ) -> Result<Sending<'a>> {
        let claim = cx.host.claim_things(&things).await?;
        Ok(Sending { cx, things, landing: provider.landing(kind), lost: None, claim })
    }

    /// Takes a request over that an earlier process may have sent, until `sent_by` or until it died: whoever takes a call
    /// up holds the run, so nobody else does any more.
    pub(super) fn adopt(&mut self, sent_by: &Uptime) {
        let now = self.cx.fleet.clock().uptime();
        let is_later = now.since(sent_by).is_some_and(|passed| passed > Span::ZERO);
        self.lost = Some(if is_later || now.boot != sent_by.boot { sent_by.clone() } else { now });
    }

    /// Returns whether a request of the call may still land.
    pub(super) fn is_open(&self) -> bool {
        self.lost.is_some()
    }

    /// Records what is about to be asked for, puts the things under quarantine, and asks.
    pub(super) async fn ask<T>(
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
        if !self.landing.is_fenced() {
            self.cx.host.begin_quarantine(&self.things, &sent_by, self.landing.span()).await?;
        }
        self.cx.host.record_evidence(&evidence(sent_by)).await?;
        let answer = self.ask_unrecorded(request).await;
        #[cfg(test)]
        if self.is_open() && is_mutant {
            self.lost = Some(recorded_at);
        }
        Ok(answer)
    }

    /// Asks for something that leaves nothing to be recorded: it cannot land later, and its key finds it.
    pub(super) async fn ask_unrecorded<T>(
        &mut self,
        request: impl Future<Output = Result<T>>,
    ) -> RequestAnswer<T> {
        match request.await {
            Ok(value) => RequestAnswer::Answered(value),
            Err(e) if e.code == Code::Unknown => {
                self.lost = Some(self.cx.fleet.clock().uptime());
                RequestAnswer::Lost
            }
            Err(e) => RequestAnswer::Refused(e),
        }
    }

    /// Returns how long a lost request may still land, nothing left being zero; `None` where nobody knows.
    pub(super) fn time_left(&self) -> Option<Span> {
        let Some(sent_by) = self.lost.as_ref().filter(|_| !self.landing.is_fenced()) else {
            return Some(Span::ZERO);
        };
        let span = self.landing.span()?;
        let passed = self.cx.fleet.clock().uptime().since(sent_by);
        Some(passed.map_or(span, |passed| Span(span.0.saturating_sub(passed.0)).max(Span::ZERO)))
    }

    /// Returns whether no request of the call can land any more.
    pub(super) fn has_landed(&self) -> bool {
        self.time_left() == Some(Span::ZERO)
    }

    /// Returns how long to look for a lost request before anything else is done about it.
    pub(super) fn look_time(&self) -> Span {
        self.time_left().map_or(LOOK_TIMEOUT, |left| left.min(LOOK_TIMEOUT))
    }

    /// Looks for what a lost request makes until it can land no more; `why` is the error of one that did not.
    pub(super) async fn find_lost<T, F: Future<Output = Result<Option<T>>>>(
        &self,
        provider: &dyn Provider,
        subject: &str,
        why: Error,
        find: impl Fn() -> F,
    ) -> EffectResult<T> {
        let limit = self.time_left().unwrap_or_else(|| self.look_time());
        match find_within(self.cx, provider, limit, subject, find).await? {
            Some(found) => Ok(found),
            None => Err(self.lost_failure(why)),
        }
    }

    /// Returns the failure of a lost request that was looked for and is not there.
    pub(super) fn lost_failure(&self, why: Error) -> EffectFailure {
        match self.time_left() {
            Some(_) => why.into(),
            None => EffectFailure::Undecided(format!("{why}; and nobody knows until when it may still come")),
        }
    }

    /// Ends the quarantine when the call is settled, unless a request may still land, and returns what came of the call.
    pub(super) async fn finish<T>(&self, result: EffectResult<T>) -> EffectResult<T> {
        let may_land = match &result {
            Err(EffectFailure::Undecided(_)) => true,
            // It was answered, and what was asked for may still come.
            Err(EffectFailure::Failed(e)) if e.code == Code::NotApplied => true,
            _ => !self.has_landed(),
        };
        if !may_land && !self.landing.is_fenced() {
            self.cx.host.lift_quarantines().await?;
        }
        result
    }
}
