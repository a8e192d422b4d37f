//! The drops and truncates of tables, looked for in the whole archive.

use super::{
    archive_search::ArchiveSearch,
    cluster::Cluster,
    engine::{BuiltinEngine, StoredBackup},
    wal::{self, RelationNames},
};
use crate::provider::{
    Code, Error, Result,
    model::{TableEvent, TableEventQuery},
};

/// Returns the drops and truncates that the archive shows, each with what could not be searched.
///
/// # Errors
/// What reading the archive says. When nothing is found, also [`Code::WalGap`] and [`Code::Refused`] for WAL that could
/// not be searched: then nobody knows that there was nothing.
pub(super) async fn find_events(cluster: &Cluster, query: &TableEventQuery) -> Result<Vec<TableEvent>> {
    let all = BuiltinEngine::for_cluster(cluster)?.list_backups()?;
    // What was dropped a moment ago lies in a segment that is not full yet.
    let search = ArchiveSearch::archive_and_read(cluster, &all).await?;
    let mut names = RelationNames::default();
    all.iter().filter_map(|stored| stored.names.clone()).for_each(|older| names.merge_newer(older));
    if let Ok(client) = cluster.address.connect().await {
        names.merge_newer(wal::fetch_relation_names(&client).await?);
    }
    let mut events = search.view.archive.find_events(&search.view.programs, query, &names).await?;
    let Some(unseen) = unsearched_error(cluster, &search, &all, query).await? else { return Ok(events) };
    if events.is_empty() {
        return Err(Error { message: format!("nothing was found, but {}", unseen.message), ..unseen });
    }
    for event in &mut events {
        event.unseen = Some(unseen.message.clone());
    }
    Ok(events)
}

/// Returns which part of the requested time could not be searched, as an error; `None` when all of it was.
async fn unsearched_error(
    cluster: &Cluster,
    search: &ArchiveSearch,
    backups: &[StoredBackup],
    query: &TableEventQuery,
) -> Result<Option<Error>> {
    let view = &search.view;
    if let Some(segment) = view.find_unsearchable_segment(backups, query.since, query.until).await? {
        let message = format!("WAL segment `{segment}` is missing and could not be searched");
        return Ok(Some(Error::new(Code::WalGap, message).with_hint(
            "bring the segment back, or ask for a time span without it; `pitr window` shows every gap",
        )));
    }
    let Some(message) = search.describe_unarchived().await? else { return Ok(None) };
    let last = match cluster.current_timeline().await {
        Some(timeline) => view.last_commit_on_timeline(timeline).await?,
        None => None,
    };
    if query.until.zip(last).is_some_and(|(until, last)| until <= last.time) {
        return Ok(None);
    }
    let why = search.unarchived.as_ref().and_then(|why| why.hint.clone());
    let hint = why
        .unwrap_or_else(|| "ask for a time span that is archived; `pitr window` says to when it is".into());
    Ok(Some(Error::new(Code::Refused, message).with_hint(hint)))
}
