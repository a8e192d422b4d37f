//! Changes that carry no key in the world: how it was and how it is to be are written down before anything is asked.
//!
//! At a resume the world says where such a change stands. As wanted: it was done. As before: it never was, and is asked
//! for. Anything else: somebody was there in between, or half of it was done; nobody can know, and the run stops.

use super::{args::Args, spec::Context};
use crate::{
    base::moment::Span,
    provider::{Accept as _, Code, Error, Provider, Result, model::Observed},
};
use serde_json::{Value, json};

/// Writes down how it is and how it is to be.
///
/// # Errors
/// Whatever writing it down says.
pub(super) async fn about_to(cx: &Context<'_>, before: &Value, wanted: &Value) -> Result<()> {
    cx.intent().accepted(json!({ "before": before, "wanted": wanted })).await
}

/// Returns how it was before the change of a call that was interrupted, or nothing when it never came to asking.
pub(super) fn before<'a>(cx: &'a Context<'_>) -> Option<&'a Value> {
    cx.intended().map(|intended| &intended["before"])
}

/// Returns whether the change of an interrupted call is in the world, which is as `now` says.
///
/// # Errors
/// [`Code::Unknown`] when it is neither as before nor as wanted.
pub(super) fn is_done(cx: &Context<'_>, what: &str, now: &Value) -> Result<bool> {
    let Some(intended) = cx.intended() else { return Ok(false) };
    if *now == intended["wanted"] {
        return Ok(true);
    }
    if *now == intended["before"] {
        return Ok(false);
    }
    Err(unknown(what, &intended["before"], &intended["wanted"], now))
}

/// Returns the error that stops a run: the world is neither as it was nor as it was to be.
pub(super) fn unknown(what: &str, before: &Value, wanted: &Value, now: &Value) -> Error {
    let message =
        format!("{what} is neither as before nor as wanted: before {before}, wanted {wanted}, now {now}");
    Error::new(Code::Unknown, message)
}

/// How long what was changed is looked at, at most, until it is applied.
const PATIENCE: Span = Span::seconds(300);

/// Looks at what was changed until it is applied; `None` when that takes too long.
///
/// # Errors
/// What a look says that does not pass: it comes after the change, so something was changed.
pub(super) async fn applied<F: Future<Output = Result<Observed>> + Send>(
    cx: &Context<'_>,
    args: &Args,
    provider: &dyn Provider,
    look: impl FnMut() -> F + Send,
) -> Result<Option<Value>> {
    let patience = args.timeout().min(PATIENCE);
    cx.until(provider, patience, look).await.map_err(Error::with_side_effects)
}

/// Returns what a removal is about: what was written down before a crash, else what `find` finds, written down now.
///
/// # Errors
/// What `find` says.
pub(super) async fn about_to_remove(
    cx: &Context<'_>,
    find: impl Future<Output = Result<Value>>,
) -> Result<Value> {
    if let Some(recorded) = cx.accepted.clone() {
        return Ok(recorded);
    }
    let gone = find.await?;
    cx.accept(&gone).await?;
    Ok(gone)
}
