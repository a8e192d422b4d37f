//! `Commit`: a statement whose commit is the effect.
//!
//! A token is recorded after the statement has run and before it is committed; afterwards the target is asked for it.
//! Where the target shows a commit by a mark, the outcome is recorded before the mark is removed: whoever takes the call
//! up finds one of the two. No mark stays once the call is settled.

use super::{
    failure::{EffectFailure, EffectResult, demand_acting, lost_error, misfit_failure},
    sending::LOOK_TIMEOUT,
    watch::{Look, Watched, find_within, watch},
};
use crate::{
    ops::{args::CallArgs, context::CallContext, evidence::Evidence, thing::Thing},
    provider::{
        Code, Provider, Sql, mark_lasting_effects,
        model::{CommitState, EffectKind, Progress, SqlOutcome},
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
    let sql = provider.sql()?;
    match &cx.recorded {
        None => {}
        Some(Evidence::Commit { token, outcome: Some(outcome) }) => {
            return finish_commit(cx, provider, sql, token, outcome).await;
        }
        Some(Evidence::Commit { token, outcome: None }) => {
            if let Some(outcome) = find_outcome(cx, provider, sql, token).await? {
                return finish_commit(cx, provider, sql, token, &outcome).await;
            }
        }
        Some(other) => return Err(misfit_failure(other, "commit")),
    }
    demand_acting(cx)?;
    let _claim = cx.host.claim_things(&[Thing::rows(args)?], Some(args.timeout())).await?;
    let transaction = sql.open_transaction(statement, args.timeout(), cx.key).await?;
    let token = transaction.token();
    cx.host.record_evidence(&Evidence::Commit { token: token.clone(), outcome: None }).await?;
    let committed = match transaction.commit().await {
        Err(e) if e.code == Code::Unknown => find_outcome(cx, provider, sql, &token).await?,
        committed => Some(committed?),
    };
    let Some(outcome) = committed else {
        let error = lost_error("the statement", provider.landing(EffectKind::Statement));
        return Err(mark_lasting_effects(error, statement).into());
    };
    finish_commit(cx, provider, sql, &token, &outcome).await
}

/// Returns the outcome of a statement whose commit may have been asked for; `None` if it was not committed. It is asked
/// about until the commit can land no more.
async fn find_outcome(
    cx: &CallContext<'_>,
    provider: &dyn Provider,
    sql: &dyn Sql,
    token: &Value,
) -> EffectResult<Option<SqlOutcome>> {
    let landing = provider.landing(EffectKind::Statement);
    let look = || async {
        let state = sql.settle(cx.key, token).await?;
        let is_settled = match &state {
            CommitState::Committed(_) => true,
            CommitState::NotCommitted => landing.is_fenced(),
            CommitState::Open(_) => false,
        };
        let progress = Progress::with_phase("asking whether the statement was committed");
        Ok(if is_settled { Look::Seen(state) } else { Look::NotYet(state, progress) })
    };
    let limit = landing.span().unwrap_or(LOOK_TIMEOUT);
    let limit = if landing.is_fenced() { LOOK_TIMEOUT } else { limit };
    let (Watched::Seen(state) | Watched::TimeUp(state)) =
        watch(cx, provider, limit, look).await.map_err(|e| match e.code {
            Code::Internal => EffectFailure::Unreadable(e.message),
            _ => EffectFailure::Undecided(e.message),
        })?;
    match state {
        CommitState::Committed(outcome) => Ok(Some(outcome)),
        CommitState::NotCommitted => Ok(None),
        CommitState::Open(why) => Err(EffectFailure::Undecided(format!(
            "nobody knows yet whether the statement was committed: {why}"
        ))),
    }
}

/// Settles a statement that was committed: removes the mark by which that was known, after it is known from the record.
async fn finish_commit(
    cx: &CallContext<'_>,
    provider: &dyn Provider,
    sql: &dyn Sql,
    token: &Value,
    outcome: &SqlOutcome,
) -> EffectResult<Value> {
    if sql.leaves_commit_mark() {
        let known = Evidence::Commit { token: token.clone(), outcome: Some(outcome.clone()) };
        if cx.recorded.as_ref() != Some(&known) {
            cx.host.record_evidence(&known).await?;
        }
        let remove = || async { sql.remove_commit_mark(token).await.map(Some) };
        find_within(cx, provider, LOOK_TIMEOUT, "its mark", remove).await.map_err(|e| match e {
            EffectFailure::Undecided(why) => EffectFailure::Undecided(format!(
                "the statement was committed, and the mark that it left in the database is not removed yet: {why}"
            )),
            other => other,
        })?;
    }
    Ok(json!(outcome))
}
