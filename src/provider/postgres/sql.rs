//! SQL on one database: a query that cannot change anything, and a change of which it can be known whether it happened.
//!
//! - A statement goes to the server alone: it is prepared first, and the server's own parser refuses two.
//! - A query runs in a read-only transaction that is always rolled back.
//! - A change's transaction id is written down after the statement has run and before it is committed. Whatever is
//!   lost afterwards, `pg_xact_status` still knows.
//! - Both have a connection of their own, which is closed when they are over, however they end.
//! - Values come as text, so that they are the same whatever the type, and are read by their type (`values`).

mod connect;
mod refusal;
mod values;

pub(super) use connect::{Address, Client};
pub(super) use refusal::refused;

use crate::{
    base::moment::Span,
    provider::{
        Accept, Code, Error, Result, Sql,
        model::{Health, Key, Rows, SqlOutcome},
        statement,
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
/// How many bytes of text the rows of a query may come to.
const BYTES_MAX: usize = 64 << 20;
/// How much longer than the server we wait before we say that it does not answer.
const GRACE: Duration = Duration::from_secs(5);
/// How often, and how far apart, a transaction that is still in progress is looked at.
const SETTLE_LOOKS: u32 = 20;
const SETTLE_PAUSE: Duration = Duration::from_millis(500);

/// One database of a cluster.
#[derive(Debug, Clone)]
pub(in crate::provider) struct Database {
    /// How to reach it.
    pub(super) address: Address,
}

/// What is written down of a transaction before it is committed.
#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    /// The transaction id with its epoch: it never comes again on this timeline.
    xid: String,
    system_identifier: String,
    /// The timeline, in hexadecimal as in the names of WAL segments. A restore to an earlier moment gives ids anew.
    timeline: String,
    rows_affected: u64,
}

/// What became of a transaction.
enum Fate {
    Committed,
    Aborted,
}

#[async_trait]
impl Sql for Database {
    async fn query(&self, sql: &str, timeout: Span) -> Result<Rows> {
        statement::check_query(sql)?;
        let client = self.address.connect().await?;
        within(timeout, async {
            begin(&client, "begin read only", timeout).await?;
            // After an error the connection is closed instead: there may be millions of rows on their way.
            let rows = rows(&client, sql).await?;
            drop(client.batch_execute("rollback").await);
            Ok(rows)
        })
        .await
    }

    async fn execute(
        &self,
        sql: &str,
        timeout: Span,
        _key: &Key,
        accepted: &dyn Accept,
    ) -> Result<SqlOutcome> {
        statement::check(sql)?;
        let client = self.address.connect().await?;
        let (rows_affected, mark) = within(timeout, async {
            begin(&client, "begin", timeout).await?;
            let rows_affected = run(&client, sql).await?;
            Ok((rows_affected, mark(&client, rows_affected).await?))
        })
        .await?;
        if let Some(mark) = &mark {
            let what = serde_json::to_value(mark).map_err(|e| Error::new(Code::Internal, e.to_string()))?;
            if let Err(error) = accepted.accepted(what).await {
                drop(client.batch_execute("rollback").await);
                return Err(error);
            }
        }
        self.commit(client, mark.as_ref(), timeout).await?;
        Ok(SqlOutcome { rows_affected })
    }

    async fn settle(&self, _key: &Key, accepted: Option<&Value>) -> Result<Option<SqlOutcome>> {
        // Nothing is committed before it is accepted.
        let Some(accepted) = accepted else { return Ok(None) };
        let mark: Mark = serde_json::from_value(accepted.clone())
            .map_err(|e| Error::new(Code::Internal, format!("what was recorded is no transaction: {e}")))?;
        Ok(match self.fate(&mark).await? {
            Fate::Committed => Some(SqlOutcome { rows_affected: mark.rows_affected }),
            Fate::Aborted => None,
        })
    }

    /// Returns how the database is; one that cannot be reached is not well, which is an answer and no error.
    async fn health(&self) -> Result<Health> {
        let asked = Instant::now();
        let client = match self.address.connect().await {
            Ok(client) => client,
            Err(e) if e.code == Code::Unavailable => return Ok(unreachable(&e, since(asked))),
            Err(e) => return Err(e),
        };
        let row = within(Span::seconds(10), records(&client, HEALTH)).await?;
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
            latency: since(asked),
            bytes: number("bytes"),
            connections: number("connections"),
        })
    }
}

const HEALTH: &str = "
    select current_setting('server_version') as version,
           pg_is_in_recovery() as in_recovery,
           current_setting('transaction_read_only') as read_only,
           pg_database_size(current_database()) as bytes,
           (select count(*) from pg_stat_activity where backend_type = 'client backend') as connections";

const MARK: &str = "
    select case when not pg_is_in_recovery() then pg_current_xact_id() end as xid,
           (select system_identifier from pg_control_system()) as system_identifier,
           case when not pg_is_in_recovery() then left(pg_walfile_name(pg_current_wal_lsn()), 8) end as timeline";

impl Database {
    /// Commits, and when the answer is lost finds out.
    async fn commit(&self, client: Client, mark: Option<&Mark>, timeout: Span) -> Result<()> {
        let wait = timeout.to_std() + GRACE;
        let why = match tokio::time::timeout(wait, client.batch_execute("commit")).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(e)) if refusal::is_an_answer(&e) => return Err(refused(&e, "commit")),
            Ok(Err(e)) => refusal::innermost(&e),
            Err(_) => "no answer in time".into(),
        };
        drop(client);
        let rolled_back =
            || Error::new(Code::Unavailable, format!("the commit failed and nothing was changed: {why}"));
        let Some(mark) = mark else { return Err(rolled_back()) };
        match self.fate(mark).await {
            Ok(Fate::Committed) => Ok(()),
            Ok(Fate::Aborted) => Err(rolled_back()),
            Err(e) => Err(Error::new(
                Code::Unknown,
                format!("nobody knows whether transaction {} was committed: {why}, then {e}", mark.xid),
            )
            .hint(format!("when the database answers again: `select pg_xact_status('{}')`", mark.xid))),
        }
    }

    /// Returns what became of a transaction, over a connection of its own; waits a little while it is in progress.
    async fn fate(&self, mark: &Mark) -> Result<Fate> {
        let mut last = None;
        for look in 0..SETTLE_LOOKS {
            if look > 0 {
                tokio::time::sleep(SETTLE_PAUSE).await;
            }
            match self.look(mark).await {
                Ok(Some(fate)) => return Ok(fate),
                Ok(None) => last = Some(in_progress(mark)),
                Err(e) if e.code == Code::Unavailable => last = Some(e),
                Err(e) => return Err(e),
            }
        }
        Err(last.unwrap_or_else(|| in_progress(mark)))
    }

    /// Returns what became of a transaction; `None` while it is in progress.
    async fn look(&self, mark: &Mark) -> Result<Option<Fate>> {
        let client = self.address.connect().await?;
        let ask = format!("select pg_xact_status('{}')", number(&mark.xid)?);
        let unknown = |why: String| {
            Error::new(
                Code::Unknown,
                format!("nobody knows whether transaction {} was committed: {why}", mark.xid),
            )
            .hint("look at what the statement should have changed, and decide")
        };
        let now = records(&client, MARK_OF_NOW).await?;
        let now = now.first().ok_or_else(|| unknown("the server gave no row".into()))?;
        if now.get("system_identifier") != Some(&mark.system_identifier) {
            return Err(unknown("this is another database cluster".into()));
        }
        let Some(timeline) = now.get("timeline") else {
            return Err(Error::new(Code::Unavailable, "the database is in recovery")
                .hint("ask again when recovery is over"));
        };
        if timeline != mark.timeline {
            return Err(unknown(format!(
                "the cluster was restored or promoted since, from timeline {} to {timeline}",
                mark.timeline
            )));
        }
        match text(&client, &ask).await?.as_deref() {
            Some("committed") => Ok(Some(Fate::Committed)),
            Some("aborted") => Ok(Some(Fate::Aborted)),
            Some(_) => Ok(None),
            None => Err(unknown("it is so old that the server has forgotten it".into())),
        }
    }
}

const MARK_OF_NOW: &str = "
    select (select system_identifier from pg_control_system()) as system_identifier,
           case when not pg_is_in_recovery() then left(pg_walfile_name(pg_current_wal_lsn()), 8) end as timeline";

/// Returns the first column of the first row, which is null also where there is no row.
///
/// # Errors
/// What the server says.
pub(super) async fn text(client: &tokio_postgres::Client, sql: &str) -> Result<Option<String>> {
    Ok(records(client, sql).await?.first().and_then(|row| row.get(0)).map(str::to_owned))
}

/// Returns the rows of one or more statements of our own, every value as text.
///
/// # Errors
/// What the server says.
pub(super) async fn records(client: &tokio_postgres::Client, sql: &str) -> Result<Vec<SimpleQueryRow>> {
    let messages = client.simple_query(sql).await.map_err(|e| refused(&e, sql))?;
    Ok(messages
        .into_iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        })
        .collect())
}

/// Returns what `work` gives, or [`Code::Timeout`] when the server does not keep its own time limit.
async fn within<T>(timeout: Span, work: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(timeout.to_std() + GRACE, work).await {
        Ok(done) => done,
        Err(_) => Err(Error::new(Code::Timeout, format!("the database did not answer within {timeout}"))
            .hint("the connection was closed; what it was doing is rolled back")),
    }
}

async fn begin(client: &Client, begin: &str, timeout: Span) -> Result<()> {
    let limit = timeout.to_std().as_millis().clamp(1, i32::MAX as u128);
    let sql = format!("{begin}; set local statement_timeout = {limit}");
    client.batch_execute(&sql).await.map_err(|e| refused(&e, &sql))
}

/// Has the server parse the statement, which refuses two in one, and returns what its columns are.
async fn prepare(client: &Client, sql: &str) -> Result<Statement> {
    let statement = client.prepare(sql).await.map_err(|e| refused(&e, sql))?;
    if statement.params().is_empty() {
        return Ok(statement);
    }
    Err(Error::new(
        Code::Invalid,
        "the statement has parameters (`$1`), and there is nothing to fill them with",
    )
    .hint("put the values into the statement"))
}

async fn rows(client: &Client, sql: &str) -> Result<Rows> {
    let statement = prepare(client, sql).await?;
    let columns: Vec<String> = statement.columns().iter().map(|c| c.name().to_owned()).collect();
    if let Some(twice) = columns.iter().enumerate().find(|(n, name)| columns[..*n].contains(name)) {
        return Err(Error::new(Code::Invalid, format!("two columns are called `{}`", twice.1))
            .hint("give one of them another name with `as`"));
    }
    let mut stream = pin!(client.simple_query_raw(sql).await.map_err(|e| refused(&e, sql))?);
    let (mut rows, mut bytes) = (Vec::new(), 0);
    while let Some(message) = stream.next().await {
        let SimpleQueryMessage::Row(row) = message.map_err(|e| refused(&e, sql))? else { continue };
        bytes += (0..row.len()).filter_map(|n| row.get(n)).map(str::len).sum::<usize>();
        if rows.len() == ROWS_MAX || bytes > BYTES_MAX {
            return Err(Error::new(
                Code::Refused,
                format!("the query gives more than {ROWS_MAX} rows or {} MiB", BYTES_MAX >> 20),
            )
            .hint("add a `limit`, or count and sum in the database"));
        }
        rows.push(object(&row, &statement));
    }
    Ok(Rows { columns, rows })
}

fn object(row: &SimpleQueryRow, statement: &Statement) -> Map<String, Value> {
    let columns = statement.columns().iter().enumerate();
    columns.map(|(n, c)| (c.name().to_owned(), values::value(row.get(n), c.type_()))).collect()
}

/// Runs a statement and returns how many rows it touched, in the words of the server's command tag.
async fn run(client: &Client, sql: &str) -> Result<u64> {
    prepare(client, sql).await?;
    let mut stream = pin!(client.simple_query_raw(sql).await.map_err(|e| refused(&e, sql))?);
    let mut rows_affected = 0;
    while let Some(message) = stream.next().await {
        if let SimpleQueryMessage::CommandComplete(rows) = message.map_err(|e| refused(&e, sql))? {
            rows_affected = rows;
        }
    }
    Ok(rows_affected)
}

/// Returns what is to be written down before the commit; nothing in recovery, where nothing can be committed.
///
/// An id is assigned even where the statement needed none so far: `notify` gets its own only while it is committed.
async fn mark(client: &Client, rows_affected: u64) -> Result<Option<Mark>> {
    let row = records(client, MARK).await?;
    let column = |name| row.first().and_then(|row| row.get(name)).map(str::to_owned);
    Ok(match (column("xid"), column("system_identifier"), column("timeline")) {
        (Some(xid), Some(system_identifier), Some(timeline)) => {
            Some(Mark { xid, system_identifier, timeline, rows_affected })
        }
        _ => None,
    })
}

fn number(xid: &str) -> Result<u64> {
    xid.parse().map_err(|_| Error::new(Code::Internal, format!("`{xid}` is no transaction id")))
}

fn in_progress(mark: &Mark) -> Error {
    Error::new(Code::Unavailable, format!("transaction {} is still in progress", mark.xid))
        .hint("ask again when its session is over")
}

fn unreachable(why: &Error, latency: Span) -> Health {
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

fn since(asked: Instant) -> Span {
    Span::millis(i64::try_from(asked.elapsed().as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
