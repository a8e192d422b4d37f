//! `Commit`: a statement whose commit is the effect.
//!
//! A token is recorded after the statement has run and before it is committed; afterwards the target is asked for it.

use super::{
    failure::{EffectFailure, EffectResult, demand_acting, lost_error, misfit_failure},
    watch::find_within,
};
use crate::{
    base::moment::Span,
    ops::{
        args::CallArgs,
        context::{CallContext, EvidenceRecorder},
        evidence::Evidence,
    },
    provider::{
        Code, Provider,
        model::{EffectKind, SqlOutcome},
    },
};
use serde_json::{Value, json};

/// Takes a statement up where it is: runs it, or asks whether it was committed.
pub(in crate::ops) async fn take_commit(
    cx: &CallContext<'_>,
    args: &CallArgs,
    provider: &dyn Provider,
    statement: &str,
) -> EffectResult<Value> {
    let token = match &cx.recorded {
        None => None,
        Some(Evidence::Commit { token }) => Some(token),
        Some(other) => return Err(misfit_failure(other, "commit")),
    };
    if cx.is_taken_up
        && let Some(outcome) = find_outcome(cx, provider, token).await?
    {
        return Ok(json!(outcome));
    }
    demand_acting(cx)?;
    let recorder = EvidenceRecorder::new(cx, |token| Evidence::Commit { token });
    match provider.sql()?.execute(statement, args.timeout(), cx.key, &recorder).await {
        Err(e) if e.code == Code::Unknown => {
            match find_outcome(cx, provider, recorder.last().as_ref()).await? {
                Some(outcome) => Ok(json!(outcome)),
                None => Err(lost_error("the statement", provider.landing(EffectKind::Statement)).into()),
            }
        }
        done => Ok(json!(done?)),
    }
}

/// Returns the outcome of a statement that may have been committed; `None` if it was not. One that reached its commit is
/// asked about until that can land no more. Any error means that the outcome is unknown: an error of another kind would
/// have the statement run again.
async fn find_outcome(
    cx: &CallContext<'_>,
    provider: &dyn Provider,
    token: Option<&Value>,
) -> EffectResult<Option<SqlOutcome>> {
    let sql = provider.sql().map_err(|e| EffectFailure::Undecided(e.message))?;
    let landing = provider.landing(EffectKind::Statement).span().filter(|_| token.is_some());
    let find = || sql.settle(cx.key, token);
    find_within(cx, provider, landing.unwrap_or(Span::ZERO), "the transaction", find).await
}
