//! Looking for a lost request: until it can land no more, or until a person ends the looking.

use super::{
    failure::{EffectFailure, EffectResult},
    sending::{LOOK_TIMEOUT, RequestTracker},
    watch::{Look, Watched, look_failure, watch},
};
use crate::{
    base::moment::{Moment, Span},
    provider::{Provider, Result},
};

impl RequestTracker<'_> {
    /// Looks for a lost request until it is seen or can land no more, and returns what the last look showed.
    ///
    /// Once it was looked for for [`LOOK_TIMEOUT`], and only waiting is left, a person who is there may end the looking;
    /// it goes on while they think.
    ///
    /// # Errors
    /// As for [`look_failure`] when a look failed that had to show it; [`EffectFailure::Undecided`] when a person ended the
    /// looking.
    pub(super) async fn watch_lost_request<T, F: Future<Output = Result<Look<T>>>>(
        &self,
        provider: &dyn Provider,
        subject: &str,
        look: impl Fn() -> F,
    ) -> EffectResult<T> {
        let unseen = |e| look_failure(subject, e);
        let limit = self.landing_time_left().unwrap_or_else(|| self.look_limit());
        let until = self.cx.fleet.clock().now().saturating_add(limit).round_up_to_second();
        let by = tokio::select! {
            biased;
            watched = watch(self.cx, provider, limit, &look) => {
                let (Watched::Seen(shown) | Watched::TimeUp(shown)) = watched.map_err(unseen)?;
                return Ok(shown);
            }
            by = self.ask_to_stop_looking(subject, until) => by,
        };
        // The look that was under way may have been the one to show it.
        match look().await.map_err(unseen)? {
            Look::Seen(shown) => Ok(shown),
            Look::NotYet(..) => Err(EffectFailure::Undecided(format!(
                "{subject} was asked for, got no answer and is not seen; {by} ended the looking, and it may still come \
                 until {until}"
            ))),
        }
    }

    /// Asks a person whether to look on until `until`, and returns who ends it. Where nobody does, it is never ready.
    async fn ask_to_stop_looking(&self, subject: &str, until: Moment) -> String {
        let clock = self.cx.fleet.clock();
        let looked = self
            .looking_since()
            .and_then(|since| clock.uptime().since_in_same_boot(since))
            .unwrap_or(Span::ZERO);
        let patience = Span(LOOK_TIMEOUT.0.saturating_sub(looked.0)).max(Span::ZERO);
        // Who gives a run up waits for nothing else.
        let may_be_asked =
            !self.cx.settles_only && self.landing_time_left().is_some_and(|left| left > patience);
        if may_be_asked {
            clock.sleep(patience).await;
            if let Some(by) = self.cx.host.offer_to_stop_looking(subject, until).await {
                return by;
            }
        }
        std::future::pending().await
    }
}
