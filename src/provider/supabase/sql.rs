//! SQL through the Management API: a query as the platform's read-only role, and a change of which it can be known
//! whether it happened.
//!
//! - The endpoint answers 201 with a bare list of objects. That list has lost the order of the columns, their types
//!   and equal names, so a query is asked for its shape first, and gives its values as text (`query`).
//! - A change is one statement of ours around the one that was given, with a mark in the same transaction (`execute`).

mod execute;
mod query;
#[cfg(test)]
mod tests;
pub mod wording;

use super::{Supabase, project::map_project_status, transport::ApiClient};
use crate::{
    base::moment::Span,
    provider::{
        Accept, Code, Error, Result, Sql,
        model::{CallKey, Health, Rows, SqlOutcome},
        sql::sqlstate,
    },
};
use async_trait::async_trait;
use reqwest::Method;
use serde_json::{Value, json};

#[async_trait]
impl Sql for Supabase {
    async fn query(&self, sql: &str, timeout: Span) -> Result<Rows> {
        query::fetch_rows(self, sql, timeout).await
    }

    async fn execute(
        &self,
        sql: &str,
        timeout: Span,
        key: &CallKey,
        accepted: &dyn Accept,
    ) -> Result<SqlOutcome> {
        execute::execute_statement(self, sql, timeout, key, accepted).await
    }

    async fn settle(&self, key: &CallKey, accepted: Option<&Value>) -> Result<Option<SqlOutcome>> {
        execute::settle_statement(self, key, accepted).await
    }

    /// Returns how the database is; one that does not answer is not well, which is an answer and no error.
    async fn health(&self) -> Result<Health> {
        let asked = self.clock.now();
        let answer = match self.query_answer(&wording::health_sql()).await {
            Ok(answer) => answer,
            Err(e) if matches!(e.code, Code::Denied | Code::Throttled | Code::Unsupported) => return Err(e),
            Err(_) => return self.unreachable_health().await,
        };
        let latency = Span::from_millis(
            self.clock.now().duration_since(asked).0.as_millis().try_into().unwrap_or(i64::MAX),
        );
        let in_recovery = answer["in_recovery"] == true;
        let read_only = self.is_read_only().await?;
        let status = match (in_recovery, read_only) {
            (true, _) => "in_recovery",
            (false, true) => "read_only",
            (false, false) => "healthy",
        };
        Ok(Health {
            ok: !in_recovery && !read_only,
            status: status.into(),
            version: answer["version"].as_str().map(str::to_owned),
            in_recovery,
            latency,
            bytes: answer["bytes"].as_u64(),
            connections: answer["connections"].as_u64(),
        })
    }
}

impl Supabase {
    fn database_path(&self, endpoint: &str) -> String {
        format!("/v1/projects/{}/database/{endpoint}", self.reference)
    }

    /// Runs one of our own statements and returns the column `answer` of its only row, parsed as JSON if it is.
    ///
    /// # Errors
    /// What the database says.
    pub(super) async fn query_answer(&self, sql: &str) -> Result<Value> {
        self.query_answer_with(&self.api, sql).await
    }

    async fn query_answer_with(&self, api: &ApiClient, sql: &str) -> Result<Value> {
        let rows = self.query_read_only(api, sql).await?;
        let answer = rows.as_array().and_then(|rows| rows.first()).map(|row| row["answer"].clone());
        match answer {
            Some(Value::String(text)) => Ok(serde_json::from_str(&text).unwrap_or(Value::String(text))),
            Some(answer) => Ok(answer),
            None => Err(Error::new(Code::Unavailable, "the API gave no row for a query that has one")),
        }
    }

    /// Returns the list of rows of a query, as the API gives it.
    async fn query_read_only(&self, api: &ApiClient, sql: &str) -> Result<Value> {
        let body = json!({ "query": sql });
        api.send_read(Method::POST, &self.database_path("query/read-only"), Some(&body))
            .await
            .map_err(map_sql_refusal)
    }

    /// Returns whether the platform has made the database read-only, as it does when its disk is full.
    async fn is_read_only(&self) -> Result<bool> {
        match self.api.get(&format!("/v1/projects/{}/readonly", self.reference)).await {
            Ok(said) => Ok(said["enabled"] == true && said["override_enabled"] != true),
            Err(e) if matches!(e.code, Code::NotFound | Code::Denied | Code::Unsupported) => Ok(false),
            Err(e) => Err(e),
        }
    }

    async fn unreachable_health(&self) -> Result<Health> {
        let state = self.fetch_project_state().await?;
        let status = if state.status == "ACTIVE_HEALTHY" {
            "unreachable".into()
        } else {
            map_project_status(&state.status)
        };
        Ok(Health {
            ok: false,
            status,
            version: state.version,
            in_recovery: false,
            latency: Span::ZERO,
            bytes: None,
            connections: None,
        })
    }
}

/// The prefix with which the API marks an error message of the database.
const SQL_ERROR_PREFIX: &str = "Failed to run sql query:";

/// Turns an API error that carries a database error into an error with its SQLSTATE and message.
fn map_sql_refusal(error: Error) -> Error {
    let Some((_, said)) = error.message.split_once(SQL_ERROR_PREFIX) else { return error };
    let said = said.trim();
    let Some(state) = parse_sqlstate(said) else {
        // No SQLSTATE: the database was not reached, or went away.
        return Error::new(Code::Unavailable, format!("the platform does not reach the database: {said}"))
            .with_hint("see how the project is with `project::get`: it may be paused, or coming up");
    };
    let message = said.split_once(&format!("{state}: ")).map_or(said, |(_, message)| message);
    let (message, rest) = message.split_once('\n').unwrap_or((message, ""));
    let refused = Error::new(
        sqlstate::code_for_sqlstate(state),
        format!("the database refused the statement: {} (SQLSTATE {state})", message.trim_end_matches('.')),
    );
    let ours = sqlstate::hint_for_sqlstate(state).or_else(|| hint_for_sqlstate(state));
    let hint = [ours.unwrap_or_default(), rest.trim_end()].into_iter().filter(|h| !h.is_empty());
    match hint.collect::<Vec<_>>().join("\n") {
        none if none.is_empty() => refused,
        hint => refused.with_hint(hint),
    }
}

/// Returns the SQLSTATE in `ERROR:  42P01: relation …`.
fn parse_sqlstate(said: &str) -> Option<&str> {
    let (_, rest) = said.split_once(':')?;
    let state = rest.trim_start().get(..5)?;
    let is_state = state.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase());
    (is_state && rest.trim_start()[5..].starts_with(':')).then_some(state)
}

fn hint_for_sqlstate(state: &str) -> Option<&'static str> {
    match state {
        "42501" => Some("a query is asked as `supabase_read_only_user`; use `db::execute` for a change"),
        "42P01" | "42883" | "42704" => {
            Some("write its schema, as in `public.orders`: no search path is sure there")
        }
        _ => None,
    }
}
