//! Statements on a cluster: as on any database; and what a restarted server does not know of a commit, its archive does.

use super::{
    Postgres,
    archive_view::ArchiveView,
    cluster::Cluster,
    sql::{CommitToken, ServerReading},
    wal::Lsn,
};
use crate::{
    base::moment::{Moment, Span},
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

    async fn open_transaction(
        &self,
        sql: &str,
        timeout: Span,
        key: &CallKey,
    ) -> Result<Box<dyn OpenTransaction>> {
        self.database.open_transaction(sql, timeout, key).await
    }

    async fn execute_alone(&self, sql: &str, timeout: Span) -> Result<SqlOutcome> {
        self.database.execute_alone(sql, timeout).await
    }

    async fn settle(&self, _: &CallKey, token: &Value) -> Result<CommitState> {
        let token = CommitToken::decode(token)?;
        match (self.database.read_commit(&token).await?, &self.cluster) {
            (ServerReading::Settled(state), _) => Ok(state),
            (ServerReading::Restarted(at), Some(cluster)) => settle_from_archive(cluster, &token, at).await,
            (ServerReading::Restarted(_), None) => Err(token.restarted_error()),
        }
    }

    async fn health(&self) -> Result<Health> {
        self.database.health().await
    }
}

/// Looks for the record of a commit in the archive, brought up to now, and takes it only where its place and its time fit.
async fn settle_from_archive(
    cluster: &Cluster,
    token: &CommitToken,
    restarted: Moment,
) -> Result<CommitState> {
    let unknown = |why: &str| token.unknown_error(&format!("the server was restarted since, and {why}"));
    cluster.archive_fence().await.map_err(|e| unknown(&format!("the WAL cannot be archived: {e}")))?;
    let view = ArchiveView::read_archive(cluster, &[]).await.map_err(|e| unknown(&e.message))?;
    let from = Lsn::parse(&token.insert_lsn)?;
    let commits = view.archive.find_commits(&view.programs, token.short_xid()).await?;
    let mut later = commits.iter().filter(|(_, commit)| commit.lsn >= from);
    later
        .find_map(|(_, commit)| token.state_if_dated(commit.time, restarted))
        .ok_or_else(|| unknown("the commit that its archive has under this id is another one's"))
}
