//! A change of elements, and the looks at it.

use super::{
    elements::{ElementsStanding, SetLook, compare_elements},
    failure::{EffectFailure, EffectResult},
    planned_from::PlannedFrom,
    sending::RequestTracker,
    watch::{Look, Watched, watch},
};
use crate::{
    base::moment::Span,
    ops::{context::CallContext, evidence::ElementChanges, thing::Thing},
    provider::{
        Provider, Result,
        model::{EffectKind, Progress},
    },
};
use async_trait::async_trait;
use serde_json::Value;

/// The pause between two looks at a change that was answered.
const LOOK_INTERVAL: Span = Span::from_secs(2);

/// What a look follows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum LookAfter {
    /// Nothing was asked for.
    Nothing,
    /// What was asked for got no answer.
    Loss,
    /// What was asked for was answered.
    Answer,
}

/// A change as a look has shown it.
pub(super) struct SeenChange {
    pub(super) standing: ElementsStanding,
    pub(super) look: SetLook,
}

/// A change of elements.
#[async_trait]
pub(in crate::ops) trait SetEffect: Sync {
    /// What is changed, for messages: `the enforcement of TLS`.
    fn name_effect_for_messages(&self) -> &'static str;
    /// What kind of request it is.
    fn kind(&self) -> EffectKind;
    /// The parts of the target that it changes: two calls at one of them are made one after the other.
    fn changed_things(&self) -> Vec<Thing>;
    /// Returns the parts of the target to which some elements of a change belong.
    fn things_of(&self, _names: &[&str]) -> Vec<Thing> {
        self.changed_things()
    }
    /// Plans the change: every element that the call is about, as it is and as it is to be. Every refusal comes from here.
    async fn plan(&self) -> Result<ElementChanges>;
    /// Returns from what the last plan was made or refused, where it depends on more than the elements of the call.
    fn planned_from(&self) -> Option<PlannedFrom> {
        None
    }
    /// Looks at the elements of a change, fresh.
    async fn look(&self, changes: &ElementChanges) -> Result<SetLook>;
    /// Returns the elements of a change of which nothing is asked, because a look calls them done.
    fn list_elements_not_requested(&self, _changes: &ElementChanges) -> Vec<String> {
        Vec::new()
    }
    /// Makes certain that a request whose answer never came can take effect no more, on targets where a request can be
    /// ended.
    async fn end_lost_requests(&self) -> Result<()> {
        Ok(())
    }
    /// Returns why elements that are as wanted may not hold yet, where a request that was not answered may have left a
    /// part undone that another request does.
    async fn find_half_done(&self) -> Result<Option<String>> {
        Ok(None)
    }
    /// Asks for the change.
    async fn send_request(&self, changes: &ElementChanges) -> Result<()>;
    /// Returns what the call gives back when a look has shown the change.
    fn result(&self, changes: &ElementChanges, look: SetLook) -> Value;
}

/// A change on its way.
pub(super) struct SetRequest<'a> {
    pub(super) cx: &'a CallContext<'a>,
    pub(super) provider: &'a dyn Provider,
    pub(super) effect: &'a dyn SetEffect,
    pub(super) changes: ElementChanges,
    /// How long an answered change is waited for.
    pub(super) limit: Span,
    /// How long the call may take.
    pub(super) timeout: Span,
}

impl SetRequest<'_> {
    /// Looks until no look can lag behind so far that it shows what was before now, as long as these elements are as wanted.
    /// Returns the last look; `None` as soon as one shows something else, or when the call has no time for that.
    pub(super) async fn look_until_lag_is_over(
        &self,
        sending: &RequestTracker<'_>,
        names: &[String],
    ) -> Result<Option<SeenChange>> {
        let Some(bound) = sending.landing.max_delay().filter(|bound| *bound <= self.timeout) else {
            return Ok(None);
        };
        let look = || async {
            let (Look::Seen(seen) | Look::NotYet(seen, _)) = self.look(LookAfter::Nothing).await?;
            let holds = |name: &String| {
                let found = seen.look.elements.get(name).unwrap_or(&Value::Null);
                self.changes.get(name).is_some_and(|change| change.wanted == *found)
            };
            if !names.iter().all(holds) {
                return Ok(Look::Seen(None));
            }
            let phase = format!("looking whether {} holds", self.effect.name_effect_for_messages());
            Ok(Look::NotYet(Some(seen), look_progress(phase)))
        };
        let (Watched::Seen(seen) | Watched::TimeUp(seen)) =
            watch(self.cx, self.provider, bound, look).await?;
        Ok(seen)
    }

    /// Looks how the elements stand.
    pub(super) async fn look(&self, after: LookAfter) -> Result<Look<SeenChange>> {
        if after == LookAfter::Loss {
            self.effect.end_lost_requests().await?;
        }
        let mut look = self.effect.look(&self.changes).await?;
        let mut standing = compare_elements(&self.changes, &look);
        if after != LookAfter::Answer
            && matches!(standing, ElementsStanding::AsWanted | ElementsStanding::Unapplied)
            && let Some(why) = self.effect.find_half_done().await?
        {
            standing = ElementsStanding::InPart;
            look.unapplied = Some(why);
        }
        #[cfg(test)]
        let standing = if super::mutant::finds_other_list(&self.changes, &look) {
            ElementsStanding::Changed
        } else {
            standing
        };
        let doing = look.unapplied.clone();
        let seen = SeenChange { standing, look };
        if seen.standing == ElementsStanding::AsWanted {
            return Ok(Look::Seen(seen));
        }
        let phase = doing.unwrap_or_else(|| format!("looking at {}", self.effect.name_effect_for_messages()));
        Ok(Look::NotYet(seen, look_progress(phase)))
    }

    /// Looks until the elements are as wanted and hold, for `limit` at most, and tells how they stand then.
    pub(super) async fn watch_until_wanted(&self, limit: Span, after: LookAfter) -> EffectResult<SeenChange> {
        self.watch_until_seen(limit, || self.look(after)).await
    }

    /// Looks until a look shows what was looked for, for `limit` at most.
    pub(super) async fn watch_until_seen<F: Future<Output = Result<Look<SeenChange>>>>(
        &self,
        limit: Span,
        look: impl FnMut() -> F,
    ) -> EffectResult<SeenChange> {
        match watch(self.cx, self.provider, limit, look).await {
            Ok(Watched::Seen(seen) | Watched::TimeUp(seen)) => Ok(seen),
            Err(e) => Err(EffectFailure::Undecided(format!(
                "{} cannot be looked at: {e}",
                self.effect.name_effect_for_messages()
            ))),
        }
    }
}

pub(super) fn look_progress(phase: impl Into<String>) -> Progress {
    Progress { again_in: Some(LOOK_INTERVAL), ..Progress::with_phase(phase) }
}
