//! Watching: looking again and again until something is seen or the time is up.

use super::failure::{EffectFailure, EffectResult};
use crate::{
    base::{clock::Stopwatch, moment::Span},
    ops::{context::CallContext, job_wait::next_poll_delay},
    provider::{Error, Provider, Result, model::Progress},
};

/// What one look shows.
pub(super) enum Look<T> {
    /// What was looked for.
    Seen(T),
    /// Something else, so far.
    NotYet(T, Progress),
}

impl<T> Look<Option<T>> {
    /// Returns the look for something that is there or not.
    pub(super) fn from_found(subject: &str, found: Option<T>) -> Self {
        match found {
            Some(found) => Look::Seen(Some(found)),
            None => Look::NotYet(None, Progress::with_phase(format!("looking for {subject}"))),
        }
    }
}

/// What a watch ended with.
pub(super) enum Watched<T> {
    /// What was looked for was seen.
    Seen(T),
    /// The time was up; the last look, which was after it, showed this.
    TimeUp(T),
}

/// How long it is looked before a person is told how long that may go on, and what else can be done.
const PATIENCE: Span = Span::from_secs(10);

/// Looks until what was looked for is seen, for `limit` at most and once at least.
///
/// # Errors
/// What ends the watch, and the error of the last look: what an earlier one showed proves nothing about the time since.
pub(super) async fn watch<T, F: Future<Output = Result<Look<T>>>>(
    cx: &CallContext<'_>,
    provider: &dyn Provider,
    limit: Span,
    mut look: impl FnMut() -> F,
) -> Result<Watched<T>> {
    #[cfg(test)]
    let limit = if super::mutant::looks_once() { Span::ZERO } else { limit };
    let clock = cx.fleet.clock();
    let stopwatch = Stopwatch::start(clock.as_ref());
    let mut waited = Span::ZERO;
    loop {
        // A simulated target's time passes without the process's own.
        let is_last = waited.max(stopwatch.elapsed()) >= limit;
        let pause = match look().await {
            Ok(Look::Seen(seen)) => return Ok(Watched::Seen(seen)),
            Ok(Look::NotYet(shown, _)) if is_last => return Ok(Watched::TimeUp(shown)),
            Ok(Look::NotYet(_, mut progress)) => {
                let passed = waited.max(stopwatch.elapsed());
                if passed >= PATIENCE {
                    let left = Span(limit.0.saturating_sub(passed.0));
                    let until = clock.now().saturating_add(left).round_up_to_second();
                    progress.phase = format!(
                        "{} (until {until} at most; Ctrl-C stops, a resume looks on)",
                        progress.phase
                    );
                }
                cx.host.report_progress(&progress);
                progress.again_in
            }
            Err(e) if e.code.is_look_failure() && !is_last => None,
            Err(e) => return Err(e),
        };
        let pause = pause.unwrap_or_else(|| next_poll_delay(waited)).min(limit).max(Span::from_millis(1));
        provider.let_time_pass(clock.as_ref(), pause).await;
        waited = Span(waited.0.saturating_add(pause.0));
    }
}

/// Looks until something is there, for `limit` at most.
///
/// # Errors
/// As for [`look_failure`] when the last look failed.
pub(super) async fn find_within<T, F: Future<Output = Result<Option<T>>>>(
    cx: &CallContext<'_>,
    provider: &dyn Provider,
    limit: Span,
    subject: &str,
    find: impl Fn() -> F,
) -> EffectResult<Option<T>> {
    let look = || async { Ok(Look::from_found(subject, find().await?)) };
    match watch(cx, provider, limit, look).await {
        Ok(Watched::Seen(found) | Watched::TimeUp(found)) => Ok(found),
        Err(e) => Err(look_failure(subject, e)),
    }
}

/// Returns what it means that a look failed which had to show something. An error that names what is left behind says
/// that the thing was not made whole; any other leaves open whether it is there.
pub(super) fn look_failure(subject: &str, error: Error) -> EffectFailure {
    if error.left_behind.is_empty() {
        EffectFailure::Undecided(format!("{subject} cannot be looked for: {}", error.message_with_hint()))
    } else {
        error.into()
    }
}
