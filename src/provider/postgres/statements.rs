//! Statements on a cluster: as on any database; and what a restarted server does not know of a commit, its archive does.

use super::{
    Postgres,
    archive_view::ArchiveView,
    cluster::Cluster,
    sql::{CommitToken, ServerReading, message_prefix},
    wal::Lsn,
};
use crate::{
    base::moment::Span,
    provider::{
        OpenTransaction, Result, Sql,
        model::{CallKey, CommitState, Health, Rows, SqlOutcome},
    },
};
use async_trait::async_trait;
use serde_json::Value;

#[async_trait]
impl Sql for Postgres {
    async fn query(&self, sql: &str, timeout: Span) -> Result<Rows> {
        self.database.query(sql, timeout).await
    }

    async fn execute_uncommitted(
        &self,
        sql: &str,
        timeout: Span,
        key: &CallKey,
    ) -> Result<Box<dyn OpenTransaction>> {
        self.database.execute_uncommitted(sql, timeout, key).await
    }

    async fn execute_outside_transaction(&self, sql: &str, timeout: Span) -> Result<SqlOutcome> {
        self.database.execute_outside_transaction(sql, timeout).await
    }

    async fn find_commit_state(&self, key: &CallKey, token: &Value) -> Result<CommitState> {
        if token.is_null() {
            return self.database.terminate_unfinished_session(key).await;
        }
        let token = CommitToken::decode(token)?;
        match (self.database.read_outcome_from_server(&token).await?, &self.cluster) {
            (ServerReading::Settled(state), _) => Ok(state),
            (ServerReading::Restarted, Some(cluster)) => {
                read_outcome_from_archive(cluster, &token, key).await
            }
            (ServerReading::Restarted, None) => Err(token.restarted_error()),
        }
    }

    fn runs_statement_before_commit(&self) -> bool {
        true
    }

    async fn health(&self) -> Result<Health> {
        self.database.health().await
    }
}

/// Looks in the archive, brought up to now, for the message of a call's transaction and the commit after it.
async fn read_outcome_from_archive(
    cluster: &Cluster,
    token: &CommitToken,
    key: &CallKey,
) -> Result<CommitState> {
    let unknown = |why: &str| token.unknown_error(&format!("the server was restarted since, and {why}"));
    cluster
        .commit_and_archive_fence()
        .await
        .map_err(|e| unknown(&format!("the WAL cannot be archived: {e}")))?;
    let view = ArchiveView::read_archive(cluster, &[]).await.map_err(|e| unknown(&e.message))?;
    let prefix = message_prefix(key);
    let from = Lsn::parse(&token.insert_lsn)?;
    match view.archive.find_commit_after_message(&view.programs, token.short_xid(), &prefix).await? {
        Some(commit) if commit.lsn >= from => Ok(token.committed_state()),
        _ => Err(unknown("its WAL does not show that the transaction with this id is this one")),
    }
}
