//! The verification of a backup: its own files, and the WAL that it needs.

use super::{
    archive_view::{self, ArchiveView},
    cluster::Cluster,
    engine::BuiltinEngine,
    wal::Lsn,
};
use crate::provider::{Result, model::Verification};

/// Verifies a backup: compares its files with their checksums, and looks for the WAL that it needs.
///
/// # Errors
/// [`Code::NotFound`]; [`Code::Refused`] when it is not complete.
pub(super) async fn verify_backup(cluster: &Cluster, id: &str) -> Result<Verification> {
    let engine = BuiltinEngine::for_cluster(cluster)?;
    let stored = engine.get_backup(id)?;
    let needed = archive_view::required_wal(&stored)?;
    let mut problems = engine.verify_backup(id).await?;
    let mut checked = vec!["checksums".to_owned()];
    match ArchiveView::read_archive(cluster, std::slice::from_ref(&stored)).await {
        Ok(view) => {
            checked.push("wal".into());
            let start = Lsn::parse(&needed.start)?;
            let stop = Some(archive_view::backup_end_lsn(needed));
            let missing = view.archive.first_missing_segment(needed.timeline, start, stop);
            problems.extend(
                missing.map(|segment| format!("WAL segment `{segment}` is missing from the archive")),
            );
        }
        Err(e) => problems.push(format!("the archive was not looked at: {}", e.message)),
    }
    Ok(Verification { id: id.into(), ok: problems.is_empty(), checked, problems })
}
