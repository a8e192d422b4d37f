//! SQL on one database: queries that cannot change anything, and changes whose outcome can be looked up.
//!
//! - Each statement is sent alone: it is prepared first, so the server's own parser refuses two in one.
//! - A query runs in a read-only transaction that is always rolled back.
//! - A change's transaction is open after its statement has run, and can be recorded before it is committed (`commit`).
//! - Each has a connection of its own, which is closed at the end, however it ends.
//! - Values arrive as text and are parsed by their type (`values`).

mod commit;
mod connect;
mod fetch;
mod refusal;
mod sessions;
mod values;

pub(super) use commit::{CommitToken, ServerReading, message_prefix};
pub(in crate::provider) use connect::Database;
pub(super) use connect::{Client, DatabaseAddress};
pub(super) use fetch::{fetch_rows, fetch_text, send_change};
pub(super) use refusal::statement_error;
pub(super) use sessions::{SessionName, end_sessions, name_session};

use crate::{
    base::moment::Span,
    provider::{
        Code, Error, OpenTransaction, Result, Sql,
        model::{CallKey, CommitState, Health, Rows, SqlOutcome},
        sql::statement,
    },
};
use async_trait::async_trait;
use commit::PendingTransaction;
use fetch::limit_in_millis;
use futures_util::StreamExt as _;
use serde_json::{Map, Value};
use sessions::{END_POLL_INTERVAL, tell_sessions_to_end};
use std::{future::Future, pin::pin, time::Duration};
use tokio::time::Instant;
use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow, Statement};

/// How many rows a query may give.
const ROWS_MAX: usize = 100_000;
/// How many bytes of text the rows of a query may have in total.
const BYTES_MAX: usize = 64 << 20;
/// How long we wait beyond the server's own time limit before reporting that it does not answer.
const ANSWER_GRACE: Duration = Duration::from_secs(5);
#[async_trait]
impl Sql for Database {
    async fn query(&self, sql: &str, timeout: Span) -> Result<Rows> {
        statement::check_query(sql)?;
        let client = self.address.connect().await?;
        within_timeout(timeout, async {
            begin_transaction(&client, "begin read only", timeout).await?;
            // After an error the connection is closed instead: there may be millions of rows on their way.
            let rows = query_rows(&client, sql).await?;
            drop(client.batch_execute("rollback; select pg_advisory_unlock_all()").await);
            Ok(rows)
        })
        .await
    }

    async fn execute_uncommitted(
        &self,
        sql: &str,
        timeout: Span,
        key: &CallKey,
    ) -> Result<Box<dyn OpenTransaction>> {
        statement::check_statement(sql)?;
        let client = self.address.connect().await?;
        let token = within_timeout(timeout, async {
            // An earlier attempt may still be at work, and would be in the way.
            while !tell_sessions_to_end(&client, &[SessionName::for_call(key)]).await? {
                tokio::time::sleep(END_POLL_INTERVAL).await;
            }
            begin_transaction(&client, &commit::begin_sql(key), timeout).await?;
            let ran = run_statement(&client, sql).await;
            let rows_affected = ran.map_err(|e| statement::add_lasting_effects_to_error(e, sql))?;
            commit::reset_session_and_emit_message(&client, timeout, key).await?;
            CommitToken::fetch(&client, rows_affected).await
        })
        .await?;
        let answer_timeout = timeout.to_std() + ANSWER_GRACE;
        Ok(Box::new(PendingTransaction { client, token, answer_timeout, statement: sql.to_owned() }))
    }

    async fn execute_outside_transaction(&self, sql: &str, timeout: Span) -> Result<SqlOutcome> {
        statement::check_statement(sql)?;
        // Once it is sent nobody could tell what came of it.
        statement::check_copies_without_client(sql)?;
        let client = self.address.connect().await?;
        let ran = run_outside_transaction(&client, sql, timeout).await;
        // A session whose answer is lost ends with its connection.
        if !matches!(&ran, Err(e) if e.code == Code::Unknown) {
            drop(
                tokio::time::timeout(ANSWER_GRACE, client.batch_execute(statement::RELEASE_SESSION_SQL))
                    .await,
            );
        }
        ran
    }

    async fn find_commit_state(&self, key: &CallKey, token: &Value) -> Result<CommitState> {
        if token.is_null() {
            return self.terminate_unfinished_session(key).await;
        }
        let token = CommitToken::decode(token)?;
        match self.read_outcome_from_server(&token).await? {
            ServerReading::Settled(state) => Ok(state),
            ServerReading::Restarted => Err(token.restarted_error()),
        }
    }

    fn runs_statement_before_commit(&self) -> bool {
        true
    }

    /// Returns the health of the database; being unreachable is a result, not an error.
    async fn health(&self) -> Result<Health> {
        let asked = Instant::now();
        let client = match self.address.connect().await {
            Ok(client) => client,
            Err(e) if e.code == Code::Unavailable => {
                return Ok(health_from_connect_error(&e, elapsed_since(asked)));
            }
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

impl Database {
    /// Ends the session of a statement whose commit was never sent.
    ///
    /// # Errors
    /// As for connecting.
    pub(super) async fn terminate_unfinished_session(&self, key: &CallKey) -> Result<CommitState> {
        let client = self.address.connect().await?;
        Ok(if tell_sessions_to_end(&client, &[SessionName::for_call(key)]).await? {
            CommitState::NotCommitted
        } else {
            CommitState::Open("its session was told to end".into())
        })
    }
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
    let sql = format!("{begin}; set local statement_timeout = {}", limit_in_millis(timeout));
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

/// Runs a statement outside a transaction. Its time limit is the session's, and behind a pooler a session's settings may stay
/// with a connection that somebody else is given: there, only we wait no longer.
async fn run_outside_transaction(client: &Client, sql: &str, timeout: Span) -> Result<SqlOutcome> {
    within_timeout(timeout, async {
        if !client.is_pooled().await? {
            let limit = format!("set statement_timeout = {}", limit_in_millis(timeout));
            client.batch_execute(&limit).await.map_err(|e| statement_error(&e, &limit))?;
        }
        prepare_statement(client, sql).await
    })
    .await?;
    let lost =
        |why: &str| Error::new(Code::Unknown, format!("the statement was sent, and no answer came: {why}"));
    match tokio::time::timeout(timeout.to_std() + ANSWER_GRACE, send_statement(client, sql)).await {
        Ok(Ok(rows_affected)) => Ok(SqlOutcome { rows_affected }),
        Ok(Err(e)) if refusal::is_statement_refusal(&e) => {
            Err(statement::add_partial_effects_to_error(statement_error(&e, sql)))
        }
        Ok(Err(e)) => Err(lost(&refusal::innermost_reason(&e))),
        Err(_) => Err(lost("the time for it is over")),
    }
}

/// Runs a statement and returns how many rows it affected, by the server's command tag.
async fn run_statement(client: &Client, sql: &str) -> Result<u64> {
    prepare_statement(client, sql).await?;
    send_statement(client, sql).await.map_err(|e| statement_error(&e, sql))
}

async fn send_statement(client: &Client, sql: &str) -> Result<u64, tokio_postgres::Error> {
    let mut stream = pin!(client.simple_query_raw(sql).await?);
    let mut rows_affected = 0;
    while let Some(message) = stream.next().await {
        if let SimpleQueryMessage::CommandComplete(rows) = message? {
            rows_affected = rows;
        }
    }
    Ok(rows_affected)
}

/// Returns the health of a server that takes no connection: `starting` while it refuses them for that (57P03), else
/// `unreachable`.
fn health_from_connect_error(error: &Error, latency: Span) -> Health {
    let starting = error.message.contains("57P03");
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
    Span::from_std(asked.elapsed())
}

#[cfg(test)]
mod tests;
