//! The commit of a transaction, and what became of one whose answer is lost.
//!
//! - A token is read after the statement has run and before the commit is sent: the transaction's id, the server and
//!   session it runs in, and where and when that was.
//! - A session that may still be at work on it is ended; then the server knows for certain. The server itself ends a
//!   session whose commit does not come within [`COMMIT_GRACE`].
//! - A server that was put back from a snapshot gives the same id out again. The transaction therefore leaves a message of
//!   its own in the WAL, and after a restart "committed" counts only where the WAL has that message before the commit.
//! - A session that runs a statement of a call bears the call's key, by which it is found and ended before anything else.

use super::{
    connect::{Client, Database},
    fetch::{fetch_rows, fetch_text, limit_in_millis},
    refusal::{self, statement_error},
    sessions::SessionName,
};
use crate::{
    base::moment::{Moment, Span},
    provider::{
        Code, Error, OpenTransaction, Result,
        model::{CallKey, CommitState, SqlOutcome},
        sql::statement,
    },
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// How long a transaction that has run waits for its commit: the server ends the session after that.
const COMMIT_GRACE: Span = Span::from_secs(60);

/// What tells later whether a transaction was committed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct CommitToken {
    /// The transaction's id with its epoch; `None` on a standby, where nothing can be committed.
    xid: Option<u64>,
    system_identifier: String,
    /// The timeline in hexadecimal, as in WAL segment names.
    timeline: String,
    /// Where the WAL ended. The commit's record is there or later.
    pub(in super::super) insert_lsn: String,
    pid: i32,
    backend_start: String,
    postmaster_start: Moment,
    rows_affected: u64,
}

/// What a server says of a transaction.
pub(in super::super) enum ServerReading {
    /// The server knows.
    Settled(CommitState),
    /// The server was restarted, and calls the transaction committed. Only the WAL says whether it means this one.
    Restarted,
}

/// A transaction that has run its statement.
pub(super) struct PendingTransaction {
    pub(super) client: Client,
    pub(super) token: CommitToken,
    /// How long to wait for the answer.
    pub(super) answer_timeout: std::time::Duration,
    pub(super) statement: String,
}

/// Returns an expression that writes a moment of the server as RFC 3339.
macro_rules! moment_sql {
    ($moment:literal) => {
        concat!("to_char(", $moment, " at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
    };
}

const TOKEN_SQL: &str = concat!(
    "select case when not pg_is_in_recovery() then pg_current_xact_id() end as xid,
            (select system_identifier from pg_control_system()) as system_identifier,
            case when pg_is_in_recovery() then '' else left(pg_walfile_name(pg_current_wal_lsn()), 8) end as timeline,
            case when pg_is_in_recovery() then '' else pg_current_wal_insert_lsn()::text end as insert_lsn,
            pg_backend_pid() as pid,
            (select a.backend_start from pg_stat_activity as a where a.pid = pg_backend_pid()) as backend_start, ",
    moment_sql!("pg_postmaster_start_time()"),
    " as postmaster_start"
);

const SERVER_SQL: &str = concat!(
    "select (select system_identifier from pg_control_system()) as system_identifier,
            case when not pg_is_in_recovery() then left(pg_walfile_name(pg_current_wal_lsn()), 8) end as timeline,
            ",
    moment_sql!("pg_postmaster_start_time()"),
    " as postmaster_start"
);

impl CommitToken {
    /// Reads the token of the transaction that is open, and gives it an id where it needed none so far: `notify` gets one
    /// only during its commit.
    pub(super) async fn fetch(client: &Client, rows_affected: u64) -> Result<Self> {
        let rows = fetch_rows(client, TOKEN_SQL).await?;
        let missing = |column: &str| Error::new(Code::Internal, format!("the server gave no `{column}`"));
        let text = |column: &str| {
            rows.first().and_then(|row| row.get(column)).map(str::to_owned).ok_or_else(|| missing(column))
        };
        let moment = |column: &str| Moment::parse(&text(column)?).map_err(|_| missing(column));
        Ok(Self {
            xid: text("xid").ok().and_then(|xid| xid.parse().ok()),
            system_identifier: text("system_identifier")?,
            timeline: text("timeline")?,
            insert_lsn: text("insert_lsn")?,
            pid: text("pid")?.parse().map_err(|_| missing("pid"))?,
            backend_start: text("backend_start")?,
            postmaster_start: moment("postmaster_start")?,
            rows_affected,
        })
    }

    /// Decodes a token that was recorded.
    ///
    /// # Errors
    /// [`Code::Internal`] for one of another version.
    pub(in super::super) fn decode(recorded: &Value) -> Result<Self> {
        Self::deserialize(recorded)
            .map_err(|e| Error::new(Code::Internal, format!("what was recorded is no transaction: {e}")))
    }

    /// Returns the id without its epoch, as WAL has it.
    pub(in super::super) fn short_xid(&self) -> u32 {
        // The upper half is the epoch.
        #[expect(clippy::cast_possible_truncation, reason = "the lower half is wanted")]
        let short = self.xid.map_or(0, |xid| xid as u32);
        short
    }

    /// Returns the state of a transaction that was committed.
    pub(in super::super) fn committed_state(&self) -> CommitState {
        CommitState::Committed(SqlOutcome { rows_affected: self.rows_affected })
    }

    /// Returns the error of a transaction whose server was restarted, and whose WAL cannot be read from here.
    pub(in super::super) fn restarted_error(&self) -> Error {
        self.unknown_error(
            "the server was restarted since, and only its WAL would say whether the transaction that it calls \
             committed is this one",
        )
    }

    /// Returns the error of a transaction of which nobody can know whether it was committed.
    pub(in super::super) fn unknown_error(&self, why: &str) -> Error {
        let xid = self.xid.unwrap_or_default();
        Error::new(Code::Unknown, format!("nobody knows whether transaction {xid} was committed: {why}"))
            .with_hint("look at what the statement should have changed, and decide")
    }
}

#[async_trait]
impl OpenTransaction for PendingTransaction {
    fn token(&self) -> Value {
        json!(self.token)
    }

    async fn commit(self: Box<Self>) -> Result<SqlOutcome> {
        let why = match tokio::time::timeout(self.answer_timeout, self.client.batch_execute("commit")).await {
            Ok(Ok(())) => return Ok(SqlOutcome { rows_affected: self.token.rows_affected }),
            Ok(Err(e)) if refusal::is_statement_refusal(&e) => {
                return Err(statement::add_lasting_effects_to_error(
                    statement_error(&e, "commit"),
                    &self.statement,
                ));
            }
            Ok(Err(e)) => refusal::innermost_reason(&e),
            Err(_) => "no answer in time".into(),
        };
        Err(Error::new(Code::Unknown, format!("the commit was sent, and no answer came: {why}")))
    }
}

/// Returns the prefix of the message that the transaction of a call leaves in the WAL.
pub(in super::super) fn message_prefix(key: &CallKey) -> String {
    format!("redrill {key}")
}

/// Begins the transaction of a call, in a session that bears its key.
pub(super) fn begin_sql(key: &CallKey) -> String {
    format!("begin; set local application_name = '{}'", SessionName::for_call(key))
}

/// Takes back what a statement has set for its session, which a connection pool would give to somebody else, leaves a message
/// in the WAL, and has the server end a session whose commit does not come.
pub(super) async fn reset_session_and_emit_message(
    client: &Client,
    timeout: Span,
    key: &CallKey,
) -> Result<()> {
    let sql = format!(
        "{}; set local statement_timeout = {}; set local idle_in_transaction_session_timeout = {}; \
         set local application_name = '{}'; \
         select case when not pg_is_in_recovery() then pg_logical_emit_message(true, '{}', '') end",
        statement::RELEASE_SESSION_SQL,
        limit_in_millis(timeout),
        limit_in_millis(COMMIT_GRACE),
        SessionName::for_call(key),
        message_prefix(key),
    );
    client.batch_execute(&sql).await.map_err(|e| statement_error(&e, &sql))
}

impl Database {
    /// Asks the server what became of a transaction, and ends the session that may still be at work on it.
    ///
    /// # Errors
    /// [`Code::Unknown`] when this server cannot know; as for connecting.
    pub(in super::super) async fn read_outcome_from_server(
        &self,
        token: &CommitToken,
    ) -> Result<ServerReading> {
        let Some(xid) = token.xid else { return Ok(ServerReading::Settled(CommitState::NotCommitted)) };
        let client = self.address.connect().await?;
        let server = fetch_rows(&client, SERVER_SQL).await?;
        let server = server.first().ok_or_else(|| token.unknown_error("the server gave no row"))?;
        if server.get("system_identifier") != Some(&token.system_identifier) {
            return Err(token.unknown_error("this is another database cluster"));
        }
        let Some(timeline) = server.get("timeline") else {
            return Ok(ServerReading::Settled(CommitState::Open("the database is in recovery".into())));
        };
        let same_timeline = timeline == token.timeline;
        let started = server.get("postmaster_start").and_then(|at| Moment::parse(at).ok());
        let started =
            started.ok_or_else(|| token.unknown_error("the server does not say since when it runs"))?;
        if same_timeline && started == token.postmaster_start {
            return read_outcome_from_same_server(&client, token, xid).await.map(ServerReading::Settled);
        }
        let status = match fetch_text(&client, &transaction_status_sql(xid)).await {
            Err(e) if e.message.contains("is in the future") => {
                return Err(token.unknown_error("the server was put back to a moment before it"));
            }
            status => status?,
        };
        match status.as_deref() {
            Some("aborted") if same_timeline => Ok(ServerReading::Settled(CommitState::NotCommitted)),
            Some("committed") => Ok(ServerReading::Restarted),
            _ if !same_timeline => Err(token.unknown_error(&format!(
                "the cluster was restored or promoted since, from timeline {} to {timeline}",
                token.timeline
            ))),
            None => Err(token.unknown_error(FORGOTTEN)),
            Some(_) => Err(token.unknown_error("another transaction has its id now")),
        }
    }
}

/// Why a server does not know an id.
const FORGOTTEN: &str = "it is so old that the server has forgotten it";
/// Asks the server that ran a transaction, which it has not stopped running since.
async fn read_outcome_from_same_server(
    client: &Client,
    token: &CommitToken,
    xid: u64,
) -> Result<CommitState> {
    // A session of a connection pool may long be at work for somebody else.
    let end = format!(
        "select pg_terminate_backend(pid) from pg_stat_activity \
         where pid = {} and backend_start = '{}' and backend_xid::text = '{}'",
        token.pid,
        token.backend_start,
        token.short_xid()
    );
    fetch_text(client, &end).await?;
    match fetch_text(client, &transaction_status_sql(xid)).await?.as_deref() {
        Some("committed") => Ok(token.committed_state()),
        Some("aborted") => Ok(CommitState::NotCommitted),
        Some(_) => Ok(CommitState::Open(format!("transaction {xid} is still in progress"))),
        None => Err(token.unknown_error(FORGOTTEN)),
    }
}

fn transaction_status_sql(xid: u64) -> String {
    format!("select pg_xact_status('{xid}')")
}
