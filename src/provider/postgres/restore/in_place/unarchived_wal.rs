//! Guards WAL that only the data folder has: replacing the data would lose what was committed in it.

use super::{data_folder::DataFolder, refusal::not_in_place_error};
use crate::provider::{
    Result,
    postgres::cluster::{self, Cluster},
};
use std::path::Path;

/// Fails while a running server cannot archive; waits for one that lags behind.
///
/// # Errors
/// As for [`Cluster::switch_wal_and_await_archiving`].
pub(super) async fn wait_until_wal_is_archived(cluster: &Cluster, current: &DataFolder) -> Result<()> {
    if current.running.is_none() {
        return Ok(());
    }
    if let Some(why) = cluster.archiver_failure().await? {
        return Err(cluster::archiver_error(&why));
    }
    let is_waiting = cluster::has_waiting_wal(&current.data);
    if is_waiting { cluster.switch_wal_and_await_archiving().await } else { Ok(()) }
}

/// Fails when a stopped server has left segments that are not in `archive`.
///
/// # Errors
/// [`crate::provider::Code::Refused`] with the first of them.
pub(super) fn check_no_unarchived_wal(data: &Path, archive: &Path) -> Result<()> {
    let left = cluster::list_unarchived_wal(data, archive);
    let Some(first) = left.first() else { return Ok(()) };
    let why = format!("{} WAL files from `{first}` on were never archived, and would be lost", left.len());
    Err(not_in_place_error(data, &why).with_hint(format!(
        "start the server and let it archive them; or copy them from `{}` to `{}` yourself",
        data.join("pg_wal").display(),
        archive.display()
    )))
}
