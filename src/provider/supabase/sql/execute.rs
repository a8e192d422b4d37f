//! Executing a statement so that it can be determined afterwards whether it was committed.
//!
//! A request carries a whole transaction, so its id cannot be learned before it is committed. Instead the transaction
//! leaves a mark that is named after the call's key: an empty large object, which any role may make, with the number
//! of rows in its comment. It is there exactly when the transaction was committed. It is removed when the outcome has
//! been written down.
//!
//! A request that was lost may still arrive. The transaction therefore starts only before a moment on the database's
//! own clock, and holds an advisory lock while it runs: when that moment has passed, nobody holds the lock and there
//! is no mark, it was not committed and never will be.

use super::{
    refusal::{SQL_ERROR_PREFIX, map_sql_refusal, parse_sqlstate},
    statements,
};
use crate::{
    base::moment::Span,
    provider::{
        Accept, Code, Error, Result,
        model::{CallKey, SqlOutcome},
        sql::statement,
        supabase::project::Supabase,
    },
};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// How long the answer to a change is waited for: the platform's own gateway gives up earlier.
const ANSWER_TIMEOUT: Span = Span::from_secs(300);
/// The longest wait for the removal of a mark, which may fail harmlessly.
const CLEAR_TIMEOUT: Span = Span::from_secs(5);
/// How often, and how far apart, a transaction without an answer is polled: for longer than it may still start.
const POLLS_MAX: u32 = 24;
const POLL_INTERVAL: Span = Span::from_secs(2);

/// The record of a transaction, written before it is sent.
#[derive(Debug, Serialize, Deserialize)]
struct TransactionIntent {
    /// Names the lock and the large object.
    number: u32,
    /// When it starts at the latest, in the database's words.
    until: String,
    /// The timeline: a database that was restored since has another past.
    timeline: String,
    /// How many rows it changed, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rows_affected: Option<u64>,
}

/// The state of a transaction.
enum TransactionState {
    Committed(u64),
    NotCommitted,
    /// It runs, or may still start.
    Pending,
}

/// Runs one statement in a transaction of its own.
///
/// # Errors
/// What the database says; [`Code::Unknown`] when nobody knows whether it was committed.
pub(super) async fn execute_statement(
    project: &Supabase,
    sql: &str,
    timeout: Span,
    key: &CallKey,
    accepted: &dyn Accept,
) -> Result<SqlOutcome> {
    let sql = statement::single_statement(sql)?;
    let mut pending = prepare_commit(project, key).await?;
    let statement =
        statements::execute_sql(sql, &key.0, pending.number, marker_oid(&pending), &pending.until)
            .ok_or_else(|| {
                Error::new(Code::Invalid, "the statement holds a mark of the call that is to run it")
            })?;
    let body = json!({ "query": statement });
    accepted.accepted(commit_to_json(&pending)).await?;
    let api = project.api.with_timeout(timeout.min(ANSWER_TIMEOUT));
    let outcome = match api.send_write(Method::POST, &project.database_path("query"), Some(&body)).await {
        Ok(_) => wait_for_outcome(project, key, &pending).await?,
        Err(error) if is_certain_refusal(&error) => return Err(map_late_error(map_sql_refusal(error))),
        Err(error) => match wait_for_outcome(project, key, &pending).await? {
            TransactionState::NotCommitted => return Err(not_run_error(error)),
            seen => seen,
        },
    };
    let TransactionState::Committed(rows_affected) = outcome else {
        return Err(Error::new(
            Code::Unknown,
            "the API says that the statement has run, and the database shows no trace of it",
        )
        .with_hint("look at what the statement should have changed, and decide"));
    };
    pending.rows_affected = Some(rows_affected);
    accepted.accepted(commit_to_json(&pending)).await?;
    remove_marker(project, &pending).await;
    Ok(SqlOutcome { rows_affected })
}

/// Returns the outcome of a statement that may have been sent.
///
/// # Errors
/// [`Code::Unknown`] when nobody can know; [`Code::Unavailable`] while it runs.
pub(super) async fn settle_statement(
    project: &Supabase,
    key: &CallKey,
    accepted: Option<&Value>,
) -> Result<Option<SqlOutcome>> {
    // Nothing is sent before it is accepted.
    let Some(accepted) = accepted else { return Ok(None) };
    let pending: TransactionIntent = serde_json::from_value(accepted.clone())
        .map_err(|e| Error::new(Code::Internal, format!("what was recorded is no transaction: {e}")))?;
    if let Some(rows_affected) = pending.rows_affected {
        return Ok(Some(SqlOutcome { rows_affected }));
    }
    // The mark stays: until the outcome is on disk, another resume has to find it.
    match wait_for_outcome(project, key, &pending).await? {
        TransactionState::Committed(rows_affected) => Ok(Some(SqlOutcome { rows_affected })),
        TransactionState::NotCommitted | TransactionState::Pending => Ok(None),
    }
}

/// Returns the record of a transaction that is to start soon.
async fn prepare_commit(project: &Supabase, key: &CallKey) -> Result<TransactionIntent> {
    let now = project.query_answer(&statements::clock_sql()).await?;
    let text = |name: &str| now[name].as_str().map(str::to_owned);
    let (Some(until), Some(timeline)) = (text("until"), text("timeline")) else {
        return Err(Error::new(Code::Unavailable, "the database does not say what time it is there"));
    };
    let digest = Sha256::digest(key.0.as_bytes());
    let number = u32::from_be_bytes([digest[0] & 0x7f, digest[1], digest[2], digest[3]]);
    Ok(TransactionIntent { number, until, timeline, rows_affected: None })
}

fn commit_to_json(pending: &TransactionIntent) -> Value {
    json!(pending)
}

/// Returns the large object's oid, in a range that ordinary oids do not reach.
fn marker_oid(pending: &TransactionIntent) -> u32 {
    pending.number | 0x8000_0000
}

/// Returns whether an error means that nothing was committed: the platform turned the request away, or the database
/// refused the statement itself. A connection that broke between the two of them says neither.
fn is_certain_refusal(error: &Error) -> bool {
    match error.message.split_once(SQL_ERROR_PREFIX) {
        Some((_, text)) => {
            parse_sqlstate(text.trim()).is_some_and(|s| !s.starts_with("08") && !s.starts_with("57P"))
        }
        None => !matches!(error.code, Code::Unknown | Code::Refused | Code::Invalid),
    }
}

/// Returns the error of a statement that turned out not to have run.
fn not_run_error(error: Error) -> Error {
    if error.code != Code::Unknown {
        return map_sql_refusal(error);
    }
    let why = error.message.rsplit_once("took effect: ").map_or(error.message.as_str(), |(_, why)| why);
    Error::new(Code::Unavailable, format!("the statement was not run and nothing was changed: {why}"))
        .with_hint("it did not reach the database in time, and no longer can: ask again")
}

fn map_late_error(error: Error) -> Error {
    if !error.message.contains(statements::TOO_LATE) {
        return error;
    }
    Error::new(
        Code::Unavailable,
        "the statement reached the database too late and was not run, and nothing was changed",
    )
    .with_hint("the platform is slow: ask again")
}

/// Polls a transaction until its outcome is known.
async fn wait_for_outcome(
    project: &Supabase,
    key: &CallKey,
    pending: &TransactionIntent,
) -> Result<TransactionState> {
    for poll in 0..POLLS_MAX {
        if poll > 0 {
            project.clock.sleep(POLL_INTERVAL).await;
        }
        match poll_transaction(project, key, pending).await {
            Ok(TransactionState::Pending) => {}
            Err(e) if matches!(e.code, Code::Unavailable | Code::Timeout) && poll + 1 < POLLS_MAX => {}
            Ok(seen) => return Ok(seen),
            Err(e) => return Err(unknown_commit_error(&e.message)),
        }
    }
    Err(unknown_commit_error("it is still running"))
}

fn unknown_commit_error(why: &str) -> Error {
    Error::new(Code::Unknown, format!("nobody knows whether the statement was committed: {why}"))
        .with_hint("ask again when the database answers and the statement is over")
}

/// Polls a transaction. Whether it may still run is asked first, and whether it left its mark second: the other way
/// round it could be committed in between.
async fn poll_transaction(
    project: &Supabase,
    key: &CallKey,
    pending: &TransactionIntent,
) -> Result<TransactionState> {
    let now =
        project.query_answer(&statements::transaction_state_sql(pending.number, &pending.until)).await?;
    let comment = project.query_answer(&statements::marker_sql(marker_oid(pending))).await?;
    if let Some(touched) =
        comment.as_str().and_then(|text| text.strip_prefix(&statements::marker_comment(&key.0)))
    {
        let rows =
            touched.parse().map_err(|_| Error::new(Code::Internal, format!("`{touched}` is no number")))?;
        return Ok(TransactionState::Committed(rows));
    }
    if now["timeline"] != pending.timeline.as_str() {
        return Err(Error::new(Code::Unknown, "the database was restored or failed over since"));
    }
    let is_over = now["late"] == true && now["running"] == false;
    Ok(if is_over { TransactionState::NotCommitted } else { TransactionState::Pending })
}

/// Removes the mark. If that fails, an empty large object stays, whose comment says whose it is.
async fn remove_marker(project: &Supabase, pending: &TransactionIntent) {
    let body = json!({ "query": statements::remove_marker_sql(marker_oid(pending)) });
    drop(
        project
            .api
            .with_timeout(CLEAR_TIMEOUT)
            .send_write(Method::POST, &project.database_path("query"), Some(&body))
            .await,
    );
}
