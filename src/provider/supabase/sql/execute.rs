//! Executing a statement so that it can be determined afterwards whether it was committed.
//!
//! A request carries a whole transaction, so its id cannot be learned before it is committed. Instead the transaction
//! leaves a mark that is named after the call's key: an empty large object, which any role may make, with the number
//! of rows in its comment. It is there exactly when the transaction was committed, and it is removed as soon as the outcome
//! is on disk: a dump by another role would stumble over it.
//!
//! A request that was lost may still arrive. The transaction therefore starts only before a moment on the database's
//! own clock, and holds an advisory lock while it runs. Whoever asks for its outcome ends the session that holds the lock;
//! when the moment has passed, nobody holds the lock and there is no mark, it was not committed and never will be.

use super::{
    refusal::{SQL_ERROR_PREFIX, map_sql_refusal, parse_sqlstate},
    statements,
};
use crate::{
    base::moment::Span,
    provider::{
        Code, Error, OpenTransaction, Result,
        model::{CallKey, CommitState, SqlOutcome},
        sql::statement,
        supabase::project::Supabase,
    },
};
use async_trait::async_trait;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// How long the answer to a change is waited for: the platform's own gateway gives up earlier.
const ANSWER_TIMEOUT: Span = Span::from_secs(300);
/// How long we wait beyond the server's own time limit before we stop waiting.
const ANSWER_GRACE: Span = Span::from_secs(5);

/// What is recorded of a transaction before it is sent.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TransactionToken {
    /// Names the lock and the large object.
    number: u32,
    /// When it starts at the latest, in the database's words.
    until: String,
    /// The timeline: a database that was restored since has another past.
    timeline: String,
}

/// When a transaction that is prepared now starts at the latest, and on which timeline.
#[derive(Deserialize)]
struct ClockAnswer {
    until: String,
    timeline: String,
}

/// How a transaction stands that may have been sent.
#[derive(Deserialize)]
struct TransactionState {
    /// Whether it can no longer start.
    late: bool,
    /// Whether a session still runs it.
    running: bool,
    timeline: String,
}

/// A statement that is ready to be sent as a transaction of its own.
pub(super) struct UnsentTransaction {
    project: Supabase,
    key: CallKey,
    token: TransactionToken,
    /// The statement of ours around the one that was given.
    request: String,
    /// The one that was given.
    statement: String,
    timeout: Span,
}

/// Prepares one statement to be sent as a transaction of its own.
///
/// # Errors
/// [`Code::Invalid`] for what is no single statement; what the database says when it is asked for its clock.
pub(super) async fn open_transaction(
    project: &Supabase,
    sql: &str,
    timeout: Span,
    key: &CallKey,
) -> Result<UnsentTransaction> {
    let statement = statement::require_single_statement(sql)?;
    let token = new_transaction_token(project, key).await?;
    let request = statements::transaction_request_sql(
        statement,
        &key.0,
        (token.number, transaction_mark_oid(&token)),
        &token.until,
        timeout,
    )
    .ok_or_else(|| Error::new(Code::Invalid, "the statement holds a mark of the call that is to run it"))?;
    let statement = statement.to_owned();
    Ok(UnsentTransaction { project: project.clone(), key: key.clone(), token, request, statement, timeout })
}

#[async_trait]
impl OpenTransaction for UnsentTransaction {
    fn token(&self) -> Value {
        json!(self.token)
    }

    async fn commit(self: Box<Self>) -> Result<SqlOutcome> {
        let body = json!({ "query": self.request });
        let limit = Span(self.timeout.0.saturating_add(ANSWER_GRACE.0)).min(ANSWER_TIMEOUT);
        let api = self.project.api.with_timeout(limit);
        match api.send_write(Method::POST, &self.project.database_path("query"), Some(&body)).await {
            Ok(()) => self.fetch_committed_outcome().await,
            Err(error) if is_certainly_not_committed(&error) => {
                let error = explain_if_too_late(map_sql_refusal(error));
                Err(statement::add_lasting_effects_to_error(error, &self.statement))
            }
            Err(error) => Err(Error::new(Code::Unknown, error.message)),
        }
    }
}

impl UnsentTransaction {
    /// Returns what a transaction that was answered has done, by its mark.
    async fn fetch_committed_outcome(&self) -> Result<SqlOutcome> {
        match read_transaction_mark(&self.project, &self.key, &self.token).await {
            Ok(Some(outcome)) => Ok(outcome),
            Ok(None) => Err(Error::new(
                Code::Unknown,
                "the API says that the statement has run, and the database does not show it",
            )),
            Err(error) => Err(Error::new(Code::Unknown, error.message)),
        }
    }
}

/// Returns what became of a transaction that may have been sent, and ends the session that may still be at work on it.
///
/// # Errors
/// [`Code::Unknown`] when nobody can know; what the API says when it cannot be asked.
pub(super) async fn find_transaction_outcome(
    project: &Supabase,
    key: &CallKey,
    token: &Value,
) -> Result<CommitState> {
    let token = decode_transaction_token(token)?;
    // Whether it may still run is asked first: the other way round it could be committed in between.
    let state = statements::transaction_state_sql(token.number, &token.until);
    let now: TransactionState = project.query_decoded_answer(&project.api, &state).await?;
    if let Some(outcome) = read_transaction_mark(project, key, &token).await? {
        return Ok(CommitState::Committed(outcome));
    }
    if now.timeline != token.timeline {
        let why = "nobody knows whether the statement was committed: the database was restored or failed over since";
        return Err(Error::new(Code::Unknown, why)
            .with_hint("look at what the statement should have changed, and decide"));
    }
    if now.running {
        // Whether it was told is asked by the next look, also when this request got no answer.
        match project.execute_confirmed_write(&project.api, &statements::session_end_sql(token.number)).await
        {
            Err(e) if e.code != Code::Unknown => return Err(e),
            _ => return Ok(CommitState::Open("its session is still at work, and was told to end".into())),
        }
    }
    if now.late {
        return Ok(CommitState::NotCommitted);
    }
    Ok(CommitState::Open(format!("it could still be started until {} by the database's clock", token.until)))
}

/// Removes the mark of a transaction whose outcome is on disk. One that is already gone is no error.
///
/// # Errors
/// What the API says.
pub(super) async fn remove_transaction_mark(project: &Supabase, token: &Value) -> Result<()> {
    let token = decode_transaction_token(token)?;
    project
        .execute_confirmed_write(
            &project.api,
            &statements::transaction_mark_removal_sql(transaction_mark_oid(&token)),
        )
        .await
}

fn decode_transaction_token(recorded: &Value) -> Result<TransactionToken> {
    TransactionToken::deserialize(recorded)
        .map_err(|e| Error::new(Code::Internal, format!("what was recorded is no transaction: {e}")))
}

/// Returns the token of a transaction that is to start soon.
async fn new_transaction_token(project: &Supabase, key: &CallKey) -> Result<TransactionToken> {
    let ClockAnswer { until, timeline } =
        project.query_decoded_answer(&project.api, &statements::clock_sql()).await?;
    let digest = Sha256::digest(key.0.as_bytes());
    let number = u32::from_be_bytes([digest[0] & 0x7f, digest[1], digest[2], digest[3]]);
    Ok(TransactionToken { number, until, timeline })
}

/// Returns the large object's oid, in a range that ordinary oids do not reach.
fn transaction_mark_oid(token: &TransactionToken) -> u32 {
    token.number | 0x8000_0000
}

/// Returns whether an error means that nothing was committed: the platform turned the request away, or the database
/// refused the statement itself. A connection that broke between the two of them says neither.
pub(super) fn is_certainly_not_committed(error: &Error) -> bool {
    match error.message.split_once(SQL_ERROR_PREFIX) {
        Some((_, text)) => {
            parse_sqlstate(text.trim()).is_some_and(|s| !s.starts_with("08") && !s.starts_with("57P"))
        }
        None => !matches!(error.code, Code::Unknown | Code::Refused | Code::Invalid),
    }
}

fn explain_if_too_late(error: Error) -> Error {
    if !error.message.contains(statements::TOO_LATE) {
        return error;
    }
    Error::new(
        Code::Unavailable,
        "the statement reached the database too late and was not run, and nothing was changed",
    )
    .with_hint("the platform is slow: ask again")
}

/// Returns what a transaction has done, if its mark is there.
async fn read_transaction_mark(
    project: &Supabase,
    key: &CallKey,
    token: &TransactionToken,
) -> Result<Option<SqlOutcome>> {
    let comment =
        project.query_answer_column(&statements::transaction_mark_sql(transaction_mark_oid(token))).await?;
    let comment = match &comment {
        Value::Null => return Ok(None),
        Value::String(text) => text,
        _ => {
            return Err(Error::new(
                Code::Unavailable,
                "the mark of the statement cannot be read: it is no text",
            ));
        }
    };
    let touched = comment.strip_prefix(&statements::transaction_mark_comment(&key.0));
    touched
        .map(|touched| {
            let rows_affected = touched.parse().map_err(|_| {
                Error::new(Code::Unknown, format!("the mark of the statement says `{touched}` rows"))
            })?;
            Ok(SqlOutcome { rows_affected })
        })
        .transpose()
}
