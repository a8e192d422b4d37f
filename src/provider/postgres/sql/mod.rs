//! SQL on one database: queries that cannot change anything, and changes whose outcome can be looked up.
//!
//! - Each statement is sent alone: it is prepared first, so the server's own parser refuses two in one.
//! - A query runs in a read-only transaction that is always rolled back.
//! - A change's transaction id is written down after the statement has run and before it is committed. Whatever is
//!   lost afterwards, `pg_xact_status` still knows.
//! - Each has a connection of its own, which is closed at the end, however it ends.
//! - Values arrive as text and are parsed by their type (`values`).

mod connect;
mod refusal;
mod values;

pub(super) use connect::{Client, DatabaseAddress};
pub(super) use refusal::statement_error;

use crate::{
    base::moment::Span,
    provider::{
        Accept, Code, Error, Result, Sql,
        model::{CallKey, Health, Rows, SqlOutcome},
        sql::statement,
    },
};
use async_trait::async_trait;
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{future::Future, pin::pin, time::Duration};
use tokio::time::Instant;
use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow, Statement};

/// How many rows a query may give.
const ROWS_MAX: usize = 100_000;
/// How many bytes of text the rows of a query may have in total.
const BYTES_MAX: usize = 64 << 20;
/// How long we wait beyond the server's own time limit before reporting that it does not answer.
const ANSWER_GRACE: Duration = Duration::from_secs(5);
/// How often, and at what interval, a transaction in progress is polled.
const OUTCOME_POLLS_MAX: u32 = 20;
const OUTCOME_POLL_INTERVAL: Duration = Duration::from_millis(500);

/// One database of a cluster.
#[derive(Debug, Clone)]
pub(in crate::provider) struct Database {
    /// How to reach it.
    pub(super) address: DatabaseAddress,
}

/// What is recorded of a transaction before it is committed.
#[derive(Debug, Serialize, Deserialize)]
struct PendingCommit {
    /// The transaction id with its epoch: it never comes again on this timeline.
    xid: String,
    system_identifier: String,
    /// The timeline in hexadecimal, as in WAL segment names. A restore to an earlier moment reuses ids.
    timeline: String,
    rows_affected: u64,
}

/// The outcome of a transaction.
enum CommitOutcome {
    Committed,
    Aborted,
}

#[async_trait]
impl Sql for Database {
    async fn query(&self, sql: &str, timeout: Span) -> Result<Rows> {
        statement::check_query(sql)?;
        let client = self.address.connect().await?;
        within_timeout(timeout, async {
            begin_transaction(&client, "begin read only", timeout).await?;
            // After an error the connection is closed instead: there may be millions of rows on their way.
            let rows = query_rows(&client, sql).await?;
            drop(client.batch_execute("rollback").await);
            Ok(rows)
        })
        .await
    }

    async fn execute(
        &self,
        sql: &str,
        timeout: Span,
        _key: &CallKey,
        accepted: &dyn Accept,
    ) -> Result<SqlOutcome> {
        statement::check_statement(sql)?;
        let client = self.address.connect().await?;
        let (rows_affected, pending) = within_timeout(timeout, async {
            begin_transaction(&client, "begin", timeout).await?;
            let rows_affected = run_statement(&client, sql).await?;
            Ok((rows_affected, fetch_pending_commit(&client, rows_affected).await?))
        })
        .await?;
        if let Some(pending) = &pending {
            let what =
                serde_json::to_value(pending).map_err(|e| Error::new(Code::Internal, e.to_string()))?;
            if let Err(error) = accepted.accepted(what).await {
                drop(client.batch_execute("rollback").await);
                return Err(error);
            }
        }
        self.commit_transaction(client, pending.as_ref(), timeout).await?;
        Ok(SqlOutcome { rows_affected })
    }

    async fn settle(&self, _key: &CallKey, accepted: Option<&Value>) -> Result<Option<SqlOutcome>> {
        // Nothing is committed before it is accepted.
        let Some(accepted) = accepted else { return Ok(None) };
        let pending: PendingCommit = serde_json::from_value(accepted.clone())
            .map_err(|e| Error::new(Code::Internal, format!("what was recorded is no transaction: {e}")))?;
        Ok(match self.await_outcome(&pending).await? {
            CommitOutcome::Committed => Some(SqlOutcome { rows_affected: pending.rows_affected }),
            CommitOutcome::Aborted => None,
        })
    }

    /// Returns the health of the database; being unreachable is a result, not an error.
    async fn health(&self) -> Result<Health> {
        let asked = Instant::now();
        let client = match self.address.connect().await {
            Ok(client) => client,
            Err(e) if e.code == Code::Unavailable => return Ok(unreachable_health(&e, elapsed_since(asked))),
            Err(e) => return Err(e),
        };
        let row = within_timeout(Span::from_secs(10), fetch_rows(&client, HEALTH_SQL)).await?;
        let row = row.first().ok_or_else(|| Error::new(Code::Internal, "the server gave no row"))?;
        let number = |column: &str| row.get(column).and_then(|n| n.parse().ok());
        let in_recovery = row.get("in_recovery") == Some("t");
        let read_only = row.get("read_only") == Some("on");
        let status = match (in_recovery, read_only) {
            (true, _) => "in_recovery",
            (false, true) => "read_only",
            (false, false) => "healthy",
        };
        Ok(Health {
            ok: !in_recovery && !read_only,
            status: status.into(),
            version: row.get("version").map(str::to_owned),
            in_recovery,
            latency: elapsed_since(asked),
            bytes: number("bytes"),
            connections: number("connections"),
        })
    }
}

const HEALTH_SQL: &str = "
    select current_setting('server_version') as version,
           pg_is_in_recovery() as in_recovery,
           current_setting('transaction_read_only') as read_only,
           pg_database_size(current_database()) as bytes,
           (select count(*) from pg_stat_activity where backend_type = 'client backend') as connections";

const PENDING_COMMIT_SQL: &str = "
    select case when not pg_is_in_recovery() then pg_current_xact_id() end as xid,
           (select system_identifier from pg_control_system()) as system_identifier,
           case when not pg_is_in_recovery() then left(pg_walfile_name(pg_current_wal_lsn()), 8) end as timeline";

impl Database {
    /// Commits, and looks the outcome up when the answer is lost.
    async fn commit_transaction(
        &self,
        client: Client,
        pending: Option<&PendingCommit>,
        timeout: Span,
    ) -> Result<()> {
        let wait = timeout.to_std() + ANSWER_GRACE;
        let why = match tokio::time::timeout(wait, client.batch_execute("commit")).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(e)) if refusal::is_server_error(&e) => return Err(statement_error(&e, "commit")),
            Ok(Err(e)) => refusal::innermost_reason(&e),
            Err(_) => "no answer in time".into(),
        };
        drop(client);
        let rolled_back =
            || Error::new(Code::Unavailable, format!("the commit failed and nothing was changed: {why}"));
        let Some(pending) = pending else { return Err(rolled_back()) };
        match self.await_outcome(pending).await {
            Ok(CommitOutcome::Committed) => Ok(()),
            Ok(CommitOutcome::Aborted) => Err(rolled_back()),
            Err(e) => Err(Error::new(
                Code::Unknown,
                format!("nobody knows whether transaction {} was committed: {why}, then {e}", pending.xid),
            )
            .with_hint(format!(
                "when the database answers again: `select pg_xact_status('{}')`",
                pending.xid
            ))),
        }
    }

    /// Returns the outcome of a transaction, over new connections; polls for a while if it is in progress.
    async fn await_outcome(&self, pending: &PendingCommit) -> Result<CommitOutcome> {
        let mut last = None;
        for look in 0..OUTCOME_POLLS_MAX {
            if look > 0 {
                tokio::time::sleep(OUTCOME_POLL_INTERVAL).await;
            }
            match self.query_outcome(pending).await {
                Ok(Some(outcome)) => return Ok(outcome),
                Ok(None) => last = Some(in_progress_error(pending)),
                Err(e) if e.code == Code::Unavailable => last = Some(e),
                Err(e) => return Err(e),
            }
        }
        Err(last.unwrap_or_else(|| in_progress_error(pending)))
    }

    /// Returns the outcome of a transaction; `None` while it is in progress.
    async fn query_outcome(&self, pending: &PendingCommit) -> Result<Option<CommitOutcome>> {
        let client = self.address.connect().await?;
        let ask = format!("select pg_xact_status('{}')", parse_xid(&pending.xid)?);
        let unknown = |why: String| {
            Error::new(
                Code::Unknown,
                format!("nobody knows whether transaction {} was committed: {why}", pending.xid),
            )
            .with_hint("look at what the statement should have changed, and decide")
        };
        let now = fetch_rows(&client, CLUSTER_IDENTITY_SQL).await?;
        let now = now.first().ok_or_else(|| unknown("the server gave no row".into()))?;
        if now.get("system_identifier") != Some(&pending.system_identifier) {
            return Err(unknown("this is another database cluster".into()));
        }
        let Some(timeline) = now.get("timeline") else {
            return Err(Error::new(Code::Unavailable, "the database is in recovery")
                .with_hint("ask again when recovery is over"));
        };
        if timeline != pending.timeline {
            return Err(unknown(format!(
                "the cluster was restored or promoted since, from timeline {} to {timeline}",
                pending.timeline
            )));
        }
        match fetch_text(&client, &ask).await?.as_deref() {
            Some("committed") => Ok(Some(CommitOutcome::Committed)),
            Some("aborted") => Ok(Some(CommitOutcome::Aborted)),
            Some(_) => Ok(None),
            None => Err(unknown("it is so old that the server has forgotten it".into())),
        }
    }
}

const CLUSTER_IDENTITY_SQL: &str = "
    select (select system_identifier from pg_control_system()) as system_identifier,
           case when not pg_is_in_recovery() then left(pg_walfile_name(pg_current_wal_lsn()), 8) end as timeline";

/// Returns the first column of the first row, which is null also where there is no row.
///
/// # Errors
/// What the server says.
pub(super) async fn fetch_text(client: &tokio_postgres::Client, sql: &str) -> Result<Option<String>> {
    Ok(fetch_rows(client, sql).await?.first().and_then(|row| row.get(0)).map(str::to_owned))
}

/// Returns the rows of one or more statements of our own, every value as text.
///
/// # Errors
/// What the server says.
pub(super) async fn fetch_rows(client: &tokio_postgres::Client, sql: &str) -> Result<Vec<SimpleQueryRow>> {
    let messages = client.simple_query(sql).await.map_err(|e| statement_error(&e, sql))?;
    Ok(messages
        .into_iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        })
        .collect())
}

/// Returns the result of `work`, or [`Code::Timeout`] when the server overruns its own time limit.
async fn within_timeout<T>(timeout: Span, work: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(timeout.to_std() + ANSWER_GRACE, work).await {
        Ok(done) => done,
        Err(_) => Err(Error::new(Code::Timeout, format!("the database did not answer within {timeout}"))
            .with_hint("the connection was closed; what it was doing is rolled back")),
    }
}

async fn begin_transaction(client: &Client, begin: &str, timeout: Span) -> Result<()> {
    let limit = timeout.to_std().as_millis().clamp(1, i32::MAX as u128);
    let sql = format!("{begin}; set local statement_timeout = {limit}");
    client.batch_execute(&sql).await.map_err(|e| statement_error(&e, &sql))
}

/// Prepares the statement, for which the server refuses two in one, and returns its description.
async fn prepare_statement(client: &Client, sql: &str) -> Result<Statement> {
    let statement = client.prepare(sql).await.map_err(|e| statement_error(&e, sql))?;
    if statement.params().is_empty() {
        return Ok(statement);
    }
    Err(Error::new(
        Code::Invalid,
        "the statement has parameters (`$1`), and there is nothing to fill them with",
    )
    .with_hint("put the values into the statement"))
}

async fn query_rows(client: &Client, sql: &str) -> Result<Rows> {
    let statement = prepare_statement(client, sql).await?;
    let columns: Vec<String> = statement.columns().iter().map(|c| c.name().to_owned()).collect();
    if let Some(twice) = columns.iter().enumerate().find(|(n, name)| columns[..*n].contains(name)) {
        return Err(Error::new(Code::Invalid, format!("two columns are called `{}`", twice.1))
            .with_hint("give one of them another name with `as`"));
    }
    let mut stream = pin!(client.simple_query_raw(sql).await.map_err(|e| statement_error(&e, sql))?);
    let (mut rows, mut bytes) = (Vec::new(), 0);
    while let Some(message) = stream.next().await {
        let SimpleQueryMessage::Row(row) = message.map_err(|e| statement_error(&e, sql))? else { continue };
        bytes += (0..row.len()).filter_map(|n| row.get(n)).map(str::len).sum::<usize>();
        if rows.len() == ROWS_MAX || bytes > BYTES_MAX {
            return Err(Error::new(
                Code::Refused,
                format!("the query gives more than {ROWS_MAX} rows or {} MiB", BYTES_MAX >> 20),
            )
            .with_hint("add a `limit`, or count and sum in the database"));
        }
        rows.push(row_to_json(&row, &statement));
    }
    Ok(Rows { columns, rows })
}

fn row_to_json(row: &SimpleQueryRow, statement: &Statement) -> Map<String, Value> {
    let columns = statement.columns().iter().enumerate();
    columns.map(|(n, c)| (c.name().to_owned(), values::parse_column_value(row.get(n), c.type_()))).collect()
}

/// Runs a statement and returns how many rows it affected, by the server's command tag.
async fn run_statement(client: &Client, sql: &str) -> Result<u64> {
    prepare_statement(client, sql).await?;
    let mut stream = pin!(client.simple_query_raw(sql).await.map_err(|e| statement_error(&e, sql))?);
    let mut rows_affected = 0;
    while let Some(message) = stream.next().await {
        if let SimpleQueryMessage::CommandComplete(rows) = message.map_err(|e| statement_error(&e, sql))? {
            rows_affected = rows;
        }
    }
    Ok(rows_affected)
}

/// Returns what to record before the commit; `None` in recovery, where nothing can be committed.
///
/// This assigns an id even if the statement needed none so far: `notify` gets one only during its commit.
async fn fetch_pending_commit(client: &Client, rows_affected: u64) -> Result<Option<PendingCommit>> {
    let row = fetch_rows(client, PENDING_COMMIT_SQL).await?;
    let column = |name| row.first().and_then(|row| row.get(name)).map(str::to_owned);
    Ok(match (column("xid"), column("system_identifier"), column("timeline")) {
        (Some(xid), Some(system_identifier), Some(timeline)) => {
            Some(PendingCommit { xid, system_identifier, timeline, rows_affected })
        }
        _ => None,
    })
}

fn parse_xid(xid: &str) -> Result<u64> {
    xid.parse().map_err(|_| Error::new(Code::Internal, format!("`{xid}` is no transaction id")))
}

fn in_progress_error(pending: &PendingCommit) -> Error {
    Error::new(Code::Unavailable, format!("transaction {} is still in progress", pending.xid))
        .with_hint("ask again when its session is over")
}

fn unreachable_health(why: &Error, latency: Span) -> Health {
    let starting = why.message.contains("57P03");
    Health {
        ok: false,
        status: if starting { "starting" } else { "unreachable" }.into(),
        version: None,
        in_recovery: false,
        latency,
        bytes: None,
        connections: None,
    }
}

fn elapsed_since(asked: Instant) -> Span {
    Span::from_millis(i64::try_from(asked.elapsed().as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
