//! SQL through the Management API: a query as the platform's read-only role, and a change of which it can be known
//! whether it happened.
//!
//! - The endpoint answers 201 with a bare list of objects. That list has lost the order of the columns, their types
//!   and equal names, so a query is asked for its shape first, and gives its values as text (`query`).
//! - A change is one statement of ours around the one that was given, with a mark in the same transaction (`execute`).

mod client;
mod execute;
mod lone_statement;
mod query;
mod refusal;
pub mod statements;
#[cfg(test)]
mod tests;

use super::{
    project::Supabase,
    statuses::{ACTIVE_HEALTHY, map_project_status},
};
use crate::{
    base::moment::Span,
    provider::{
        Code, OpenTransaction, Result, Sql,
        model::{CallKey, CommitState, Health, Rows, SqlOutcome},
    },
};
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;

/// What a database that answers says of itself.
#[derive(Deserialize)]
struct HealthAnswer {
    in_recovery: bool,
    version: Option<String>,
    bytes: Option<u64>,
    connections: Option<u64>,
}

/// Whether the platform has made the database read-only, and somebody has overridden that.
#[derive(Deserialize)]
struct ReadOnlyAnswer {
    enabled: bool,
    override_enabled: bool,
}

#[async_trait]
impl Sql for Supabase {
    async fn query(&self, sql: &str, timeout: Span) -> Result<Rows> {
        query::fetch_rows(self, sql, timeout).await
    }

    async fn execute_uncommitted(
        &self,
        sql: &str,
        timeout: Span,
        key: &CallKey,
    ) -> Result<Box<dyn OpenTransaction>> {
        Ok(Box::new(execute::open_transaction(self, sql, timeout, key).await?))
    }

    async fn execute_outside_transaction(&self, sql: &str, timeout: Span) -> Result<SqlOutcome> {
        lone_statement::run_statement(self, sql, timeout).await
    }

    async fn find_commit_state(&self, key: &CallKey, token: &Value) -> Result<CommitState> {
        execute::find_transaction_outcome(self, key, token).await
    }

    async fn remove_commit_mark(&self, token: &Value) -> Result<()> {
        execute::remove_transaction_mark(self, token).await
    }

    fn leaves_commit_mark(&self) -> bool {
        true
    }

    /// Returns the health of the database. That it does not answer is a result and no error.
    async fn health(&self) -> Result<Health> {
        let asked_at = self.clock.now();
        let answer: HealthAnswer = match self.query_decoded_answer(&self.api, &statements::health_sql()).await
        {
            Ok(answer) => answer,
            Err(e) if matches!(e.code, Code::Denied | Code::Throttled | Code::Unsupported) => return Err(e),
            Err(_) => return self.unreachable_health().await,
        };
        let latency = Span::from_millis(
            self.clock.now().duration_since(asked_at).0.as_millis().try_into().unwrap_or(i64::MAX),
        );
        let in_recovery = answer.in_recovery;
        let read_only = self.is_read_only().await?;
        let status = match (in_recovery, read_only) {
            (true, _) => "in_recovery",
            (false, true) => "read_only",
            (false, false) => "healthy",
        };
        Ok(Health {
            ok: !in_recovery && !read_only,
            status: status.into(),
            version: answer.version,
            in_recovery,
            latency,
            bytes: answer.bytes,
            connections: answer.connections,
        })
    }
}

impl Supabase {
    /// Returns whether the platform has made the database read-only, as it does when its disk is full.
    async fn is_read_only(&self) -> Result<bool> {
        match self.get_project_resource::<ReadOnlyAnswer>("/readonly").await {
            Ok(answer) => Ok(answer.enabled && !answer.override_enabled),
            Err(e) if matches!(e.code, Code::NotFound | Code::Denied | Code::Unsupported) => Ok(false),
            Err(e) => Err(e),
        }
    }

    async fn unreachable_health(&self) -> Result<Health> {
        let state = self.fetch_project_state().await?;
        let status = if state.status == ACTIVE_HEALTHY {
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
