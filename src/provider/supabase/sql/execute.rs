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
        statement,
        supabase::project::Supabase,
    },
};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// How long its answer is waited for: the platform's own gateway gives up earlier.
const ANSWER_TIMEOUT: Span = Span::from_secs(300);
/// The longest wait for the removal of a mark, which may fail harmlessly.
const CLEAR_TIMEOUT: Span = Span::from_secs(5);
/// How often, and how far apart, a transaction is looked for that was not answered: longer than it may start.
const POLLS_MAX: u32 = 24;
const POLL_INTERVAL: Span = Span::from_secs(2);

/// What is written down of a transaction before it is sent.
#[derive(Debug, Serialize, Deserialize)]
struct PendingCommit {
    /// Names the lock and the large object.
    number: u32,
    /// When it starts at the latest, in the database's words.
    until: String,
    /// The timeline: a database that was restored since has another past.
    timeline: String,
    /// How many rows it touched, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rows_affected: Option<u64>,
}

/// What is seen of a transaction.
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
    let mut mark = prepare_commit(project, key).await?;
    let statement = statements::execute_sql(sql, &key.0, mark.number, marker_oid(&mark), &mark.until)
        .ok_or_else(|| {
            Error::new(Code::Invalid, "the statement holds a mark of the call that is to run it")
        })?;
    let body = json!({ "query": statement });
    accepted.accepted(commit_to_json(&mark)).await?;
    let api = project.api.with_timeout(timeout.min(ANSWER_TIMEOUT));
    let sight = match api.send_write(Method::POST, &project.database_path("query"), Some(&body)).await {
        Ok(_) => wait_for_outcome(project, key, &mark).await?,
        Err(error) if is_certain_refusal(&error) => return Err(map_late_error(map_sql_refusal(error))),
        Err(error) => match wait_for_outcome(project, key, &mark).await? {
            TransactionState::NotCommitted => return Err(not_run_error(error)),
            seen => seen,
        },
    };
    let TransactionState::Committed(rows_affected) = sight else {
        return Err(Error::new(
            Code::Unknown,
            "the API says that the statement has run, and the database shows no trace of it",
        )
        .with_hint("look at what the statement should have changed, and decide"));
    };
    mark.rows_affected = Some(rows_affected);
    accepted.accepted(commit_to_json(&mark)).await?;
    remove_marker(project, &mark).await;
    Ok(SqlOutcome { rows_affected })
}

/// Returns what became of a statement that may have been sent.
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
    let mark: PendingCommit = serde_json::from_value(accepted.clone())
        .map_err(|e| Error::new(Code::Internal, format!("what was recorded is no transaction: {e}")))?;
    if let Some(rows_affected) = mark.rows_affected {
        return Ok(Some(SqlOutcome { rows_affected }));
    }
    // The mark stays: until the outcome is on disk, another resume has to find it.
    match wait_for_outcome(project, key, &mark).await? {
        TransactionState::Committed(rows_affected) => Ok(Some(SqlOutcome { rows_affected })),
        TransactionState::NotCommitted | TransactionState::Pending => Ok(None),
    }
}

/// Returns the mark of a transaction that is to start soon.
async fn prepare_commit(project: &Supabase, key: &CallKey) -> Result<PendingCommit> {
    let now = project.query_answer(&statements::clock_sql()).await?;
    let text = |name: &str| now[name].as_str().map(str::to_owned);
    let (Some(until), Some(timeline)) = (text("until"), text("timeline")) else {
        return Err(Error::new(Code::Unavailable, "the database does not say what time it is there"));
    };
    let digest = Sha256::digest(key.0.as_bytes());
    let number = u32::from_be_bytes([digest[0] & 0x7f, digest[1], digest[2], digest[3]]);
    Ok(PendingCommit { number, until, timeline, rows_affected: None })
}

fn commit_to_json(mark: &PendingCommit) -> Value {
    json!(mark)
}

/// Returns the large object's oid, in a range that ordinary oids do not reach.
fn marker_oid(mark: &PendingCommit) -> u32 {
    mark.number | 0x8000_0000
}

/// Returns whether an error means that nothing was committed: the platform turned the request away, or the database
/// refused the statement itself. A connection that broke between the two of them says neither.
fn is_certain_refusal(error: &Error) -> bool {
    match error.message.split_once(SQL_ERROR_PREFIX) {
        Some((_, said)) => {
            parse_sqlstate(said.trim()).is_some_and(|s| !s.starts_with("08") && !s.starts_with("57P"))
        }
        None => !matches!(error.code, Code::Unknown | Code::Refused | Code::Invalid),
    }
}

/// Returns the error of a statement of which it turned out that it was not run.
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

/// Looks for a transaction until it is known what became of it.
async fn wait_for_outcome(
    project: &Supabase,
    key: &CallKey,
    mark: &PendingCommit,
) -> Result<TransactionState> {
    for look in 0..POLLS_MAX {
        if look > 0 {
            project.clock.sleep(POLL_INTERVAL).await;
        }
        match poll_transaction(project, key, mark).await {
            Ok(TransactionState::Pending) => {}
            Err(e) if matches!(e.code, Code::Unavailable | Code::Timeout) && look + 1 < POLLS_MAX => {}
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

/// Looks at a transaction. Whether it can still be on its way is asked first, and whether it left its mark after that:
/// the other way round it could be committed in between.
async fn poll_transaction(
    project: &Supabase,
    key: &CallKey,
    mark: &PendingCommit,
) -> Result<TransactionState> {
    let now = project.query_answer(&statements::transaction_state_sql(mark.number, &mark.until)).await?;
    let said = project.query_answer(&statements::marker_sql(marker_oid(mark))).await?;
    if let Some(touched) =
        said.as_str().and_then(|said| said.strip_prefix(&statements::marker_comment(&key.0)))
    {
        let rows =
            touched.parse().map_err(|_| Error::new(Code::Internal, format!("`{touched}` is no number")))?;
        return Ok(TransactionState::Committed(rows));
    }
    if now["timeline"] != mark.timeline.as_str() {
        return Err(Error::new(Code::Unknown, "the database was restored or failed over since"));
    }
    let is_over = now["late"] == true && now["running"] == false;
    Ok(if is_over { TransactionState::NotCommitted } else { TransactionState::Pending })
}

/// Removes the mark. That it stays is a trifle: an empty large object, whose comment says whose it is.
async fn remove_marker(project: &Supabase, mark: &PendingCommit) {
    let body = json!({ "query": statements::remove_marker_sql(marker_oid(mark)) });
    drop(
        project
            .api
            .with_timeout(CLEAR_TIMEOUT)
            .send_write(Method::POST, &project.database_path("query"), Some(&body))
            .await,
    );
}
