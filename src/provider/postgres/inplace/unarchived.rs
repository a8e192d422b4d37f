//! WAL that lies in the data folder alone: when the data is exchanged, what was committed in it is in no archive.

use super::managed::{Place, refused};
use crate::provider::{
    Result,
    postgres::cluster::{self, Cluster},
};
use std::{fs, path::Path};

/// Refuses while the server cannot archive; one that lags behind is given the time to catch up.
///
/// # Errors
/// As for [`Cluster::archive_now`].
pub(super) async fn refuse(cluster: &Cluster, place: &Place) -> Result<()> {
    if place.live.is_none() {
        return Ok(());
    }
    if let Some(why) = cluster.archiver_failing().await? {
        return Err(cluster::archiver_error(&why));
    }
    if waiting(&place.data).is_empty() { Ok(()) } else { cluster.archive_now().await }
}

/// Refuses when a server that does not run has left segments that are not in `archive`.
///
/// # Errors
/// [`crate::provider::Code::Refused`] with the first of them.
pub(super) fn check(data: &Path, archive: &Path) -> Result<()> {
    let mut left = waiting(data);
    left.retain(|segment| !archive.join(segment).is_file());
    let Some(first) = left.first() else { return Ok(()) };
    let why = format!("{} WAL files from `{first}` on were never archived, and would be lost", left.len());
    Err(refused(data, &why).hint(format!(
        "start the server and let it archive them; or copy them from `{}` to `{}` yourself",
        data.join("pg_wal").display(),
        archive.display()
    )))
}

/// Returns the files that wait to be archived, oldest first.
fn waiting(data: &Path) -> Vec<String> {
    let entries = fs::read_dir(data.join("pg_wal/archive_status")).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut all: Vec<String> =
        names.filter_map(|name| Some(name.strip_suffix(".ready")?.to_owned())).collect();
    all.sort_unstable();
    all
}
