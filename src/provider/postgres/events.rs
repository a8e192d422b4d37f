//! The drops and truncates of tables, looked for in the whole archive.

use super::{
    archive_view::ArchiveView,
    cluster::Cluster,
    engine::{BuiltinEngine, StoredBackup},
    wal::{self, RelationNames},
};
use crate::provider::{
    Code, Error, Result,
    model::{TableEvent, TableEventQuery},
};

/// Returns the drops and truncates that the archive shows.
///
/// # Errors
/// What reading the archive says. When nothing is found, also [`Code::WalGap`] and [`Code::Refused`] for WAL that could
/// not be searched: then nobody knows that there was nothing.
pub(super) async fn find_events(cluster: &Cluster, query: &TableEventQuery) -> Result<Vec<TableEvent>> {
    let all = BuiltinEngine::for_cluster(cluster)?.list_backups()?;
    // What was dropped a moment ago lies in a segment that is not full yet.
    let archived = if cluster.is_running() { cluster.archive_now().await } else { Ok(()) };
    let view = ArchiveView::read_archive(cluster, &all).await?;
    let mut names = RelationNames::default();
    all.iter().filter_map(|stored| stored.names.clone()).for_each(|older| names.merge_newer(older));
    if let Ok(client) = cluster.address.connect().await {
        names.merge_newer(wal::fetch_relation_names(&client).await?);
    }
    let events = view.archive.find_events(&view.programs, query, &names).await?;
    if events.is_empty() {
        check_searched_everywhere(cluster, &view, &all, query, archived).await?;
    }
    Ok(events)
}

/// Fails when part of the requested time could not be searched.
async fn check_searched_everywhere(
    cluster: &Cluster,
    view: &ArchiveView,
    backups: &[StoredBackup],
    query: &TableEventQuery,
    archived: Result<()>,
) -> Result<()> {
    if let Some(segment) = view.find_unsearchable_segment(backups, query.since, query.until).await? {
        return Err(Error::new(
            Code::WalGap,
            format!("nothing was found, but WAL segment `{segment}` is missing and could not be searched"),
        )
        .with_hint(
            "bring the segment back, or ask for a time span without it; `pitr window` shows every gap",
        ));
    }
    let Err(why) = archived else { return Ok(()) };
    let timeline = cluster.current_timeline().await.unwrap_or_default();
    let last = view.last_commit(timeline).await?.map(|commit| commit.time);
    if query.until.zip(last).is_some_and(|(until, last)| until <= last) {
        return Ok(());
    }
    let since = last.map_or_else(|| "any commit".into(), |last| format!("what was committed after {last}"));
    let message = format!("nothing was found, but {since} could not be searched: {}", why.message);
    Err(Error { code: Code::Refused, message, ..why })
}
