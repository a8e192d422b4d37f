//! `Commit`: a statement whose commit is the effect.
//!
//! A token is recorded after the statement has run and before it is committed; afterwards the target is asked for it.
//! Where the target shows a commit by a mark, the outcome is recorded before the mark is removed: whoever takes the call
//! up finds one of the two. No mark stays once the call is settled.
//!
//! A target that runs the statement before there is a token is told apart by a record without one: whoever takes the call up
//! has the session ended first. While a statement may be at work, its rows are under quarantine: what changes all of the
//! target waits.

use super::{
    failure::{
        EffectFailure, EffectResult, never_landed_error, refuse_doubtful_call, refuse_when_only_settling,
        wrong_evidence_failure,
    },
    sending::LOOK_TIMEOUT,
    watch::{Look, Watched, find_within, watch},
};
#[cfg(test)]
use crate::base::mutant::{Mutant, is_mutant};
use crate::{
    base::{clock::Uptime, moment::Span},
    ops::{args::CallArgs, context::CallContext, evidence::Evidence, thing::Thing},
    provider::{
        Code, Provider, Sql, add_lasting_effects_to_error,
        model::{CommitState, EffectKind, Progress, SqlOutcome},
    },
};
use serde_json::{Value, json};
use std::sync::OnceLock;

/// How much longer than the time of its call a statement may be at work when nobody ends it: it waits to be started, or for
/// its commit.
const WORK_GRACE: Span = Span::from_secs(60);

/// Begins a statement, or goes on with one that was begun: runs it, or asks whether it was committed.
pub(in crate::ops) async fn begin_or_continue_commit(
    cx: &CallContext<'_>,
    args: &CallArgs,
    provider: &dyn Provider,
    statement: &str,
) -> EffectResult<Value> {
    let (sql, things) = (provider.sql()?, vec![Thing::rows_of_target(args)?]);
    let commit =
        StatementCommit { cx, provider, sql, things, timeout: args.timeout(), open_since: OnceLock::new() };
    let value = commit.execute_or_recover(args, statement).await;
    // While nobody knows, it may still be at work.
    let is_settled = !matches!(value, Err(EffectFailure::Undecided(_) | EffectFailure::Unreadable(_)));
    if commit.may_outlive_process() && is_settled {
        commit.end_quarantine().await?;
    }
    value
}

/// A statement on its way to its commit.
struct StatementCommit<'a> {
    cx: &'a CallContext<'a>,
    provider: &'a dyn Provider,
    sql: &'a dyn Sql,
    things: Vec<Thing>,
    timeout: Span,
    /// Until when an earlier attempt's statement may have been sent that may still be at work, once that was looked up.
    open_since: OnceLock<Option<Uptime>>,
}

impl StatementCommit<'_> {
    /// Returns how long a statement may be at work.
    fn max_work_time(&self) -> Span {
        Span(self.timeout.0.saturating_add(WORK_GRACE.0))
    }

    /// Ends the quarantine of a statement that is settled. What an earlier attempt began, which has another key, may be at work
    /// all the same.
    async fn end_quarantine(&self) -> EffectResult<()> {
        match self.open_since.get() {
            _ if !self.cx.is_to_be_redone() => self.cx.host.lift_quarantines().await?,
            Some(None) => self.cx.host.lift_quarantines().await?,
            Some(Some(sent_by)) => {
                self.cx.host.begin_quarantine(&self.things, sent_by, Some(self.max_work_time())).await?;
            }
            // It may be the earlier attempt's, and ends by itself.
            None => {}
        }
        Ok(())
    }

    /// Returns whether a statement may go on when its process is gone.
    fn may_outlive_process(&self) -> bool {
        let cannot_land_late = self.provider.landing_limit(EffectKind::Statement).cannot_land_late();
        !cannot_land_late || self.sql.runs_statement_before_commit() || self.sql.leaves_commit_mark()
    }

    async fn execute_or_recover(&self, args: &CallArgs, statement: &str) -> EffectResult<Value> {
        let Self { cx, provider, sql, things, .. } = self;
        let was_lost = || {
            let error = never_landed_error("the statement", provider.landing_limit(EffectKind::Statement));
            EffectFailure::from(add_lasting_effects_to_error(error, statement))
        };
        refuse_doubtful_call(cx)?;
        match &cx.recorded {
            None => refuse_when_only_settling(cx).await?,
            Some(Evidence::Commit { token, outcome: Some(outcome) }) => {
                return finish_commit(cx, *provider, *sql, token, outcome).await;
            }
            Some(Evidence::Commit { token, outcome: None }) => {
                if let Some(outcome) = await_commit_outcome(cx, *provider, *sql, token).await? {
                    return finish_commit(cx, *provider, *sql, token, &outcome).await;
                }
                if cx.settles_only {
                    return Err(was_lost());
                }
            }
            Some(other) => return Err(wrong_evidence_failure(other, "commit")),
        }
        let claim = cx.host.wait_and_claim_things(things, Some(self.timeout)).await?;
        self.open_since.get_or_init(|| claim.open_since.clone());
        if self.may_outlive_process() {
            let work = self.max_work_time();
            cx.host.begin_quarantine(things, &cx.fleet.clock().uptime(), Some(work)).await?;
        }
        if sql.runs_statement_before_commit() {
            cx.host.record_evidence(&Evidence::Commit { token: Value::Null, outcome: None }).await?;
        }
        let transaction = sql.execute_uncommitted(statement, args.timeout(), cx.key).await?;
        let token = transaction.token();
        cx.host.record_evidence(&Evidence::Commit { token: token.clone(), outcome: None }).await?;
        let committed = match transaction.commit().await {
            #[cfg(test)]
            Err(e) if e.code == Code::Unknown && is_mutant(Mutant::CommitAnswerBelieved) => {
                Some(SqlOutcome { rows_affected: 0 })
            }
            Err(e) if e.code == Code::Unknown => await_commit_outcome(cx, *provider, *sql, &token).await?,
            committed => Some(committed?),
        };
        let outcome = committed.ok_or_else(was_lost)?;
        finish_commit(cx, *provider, *sql, &token, &outcome).await
    }
}

/// Returns the outcome of a statement whose commit may have been asked for; `None` if it was not committed. It is asked
/// about until the commit can land no more.
async fn await_commit_outcome(
    cx: &CallContext<'_>,
    provider: &dyn Provider,
    sql: &dyn Sql,
    token: &Value,
) -> EffectResult<Option<SqlOutcome>> {
    let landing = provider.landing_limit(EffectKind::Statement);
    let look = || async {
        let state = match sql.find_commit_state(cx.key, token).await {
            // Who cannot know now cannot know later.
            Err(e) if e.code == Code::Unknown => return Ok(Look::Seen(Err(e))),
            state => state?,
        };
        let is_settled = match &state {
            CommitState::Committed(_) => true,
            CommitState::NotCommitted => landing.cannot_land_late(),
            CommitState::Open(_) => false,
        };
        let progress = Progress::with_phase("asking whether the statement was committed");
        Ok(if is_settled { Look::Seen(Ok(state)) } else { Look::NotYet(Ok(state), progress) })
    };
    let limit = landing.max_delay().filter(|_| !landing.cannot_land_late()).unwrap_or(LOOK_TIMEOUT);
    let (Watched::Seen(state) | Watched::TimeUp(state)) =
        watch(cx, provider, limit, look).await.map_err(|e| match e.code {
            Code::Internal => EffectFailure::Unreadable(e.message),
            _ => EffectFailure::Undecided(e.message),
        })?;
    match state.map_err(EffectFailure::from)? {
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
            EffectFailure::Undecided(why) => EffectFailure::Undecided(describe_kept_mark(&why)),
            // Whatever it fails with says nothing of the statement.
            EffectFailure::Failed(e) => EffectFailure::Undecided(describe_kept_mark(&e.message)),
            other => other,
        })?;
    }
    Ok(json!(outcome))
}

/// Says of a statement that was committed why it is not settled.
fn describe_kept_mark(why: &str) -> String {
    format!(
        "the statement was committed, and the mark that it left in the database is not removed yet: {why}"
    )
}
