//! A search of the archive: brought up to date first, and with what it still could not see.
//!
//! What is found is all there is only where everything was read. What was written last is not in the archive yet, so it is
//! archived before every search by name, transaction or place; what cannot be archived is said with what was found.

use super::{
    archive_view::ArchiveView,
    cluster::{self, Cluster},
    engine::StoredBackup,
};
use crate::provider::{Code, Error, Result};

/// The state in a control file of a server that archived all it had before it ended.
const SHUT_DOWN: &str = "shut down";

/// The archive as it is for a search.
pub(super) struct ArchiveSearch {
    pub view: ArchiveView,
    /// Why the last of the WAL is not in the archive; `None` when it is.
    pub unarchived: Option<Error>,
}

impl ArchiveSearch {
    /// Archives everything that was written up to now, where the server runs, and reads the archive.
    ///
    /// # Errors
    /// As for [`ArchiveView::read_archive`].
    pub(super) async fn archive_and_read(cluster: &Cluster, backups: &[StoredBackup]) -> Result<Self> {
        let fenced = if cluster.is_running() { Some(cluster.commit_and_archive_fence().await) } else { None };
        let view = ArchiveView::read_archive(cluster, backups).await?;
        let unarchived = match fenced {
            Some(fenced) => fenced.err(),
            None => explain_if_stopped_server_left_wal(cluster, &view).await,
        };
        Ok(Self { view, unarchived })
    }

    /// Returns what of the target's history could not be searched, as a sentence; `None` when all was.
    ///
    /// # Errors
    /// [`Code::Tool`].
    pub(super) async fn describe_unsearched(&self, backups: &[StoredBackup]) -> Result<Option<String>> {
        let hole = self.view.find_unsearchable_segment(backups, None, None).await?;
        let hole =
            hole.map(|segment| format!("WAL segment `{segment}` is missing and could not be searched"));
        let sentences: Vec<String> =
            [self.describe_unarchived().await?, hole].into_iter().flatten().collect();
        Ok(Some(sentences.join("; ")).filter(|unseen| !unseen.is_empty()))
    }

    /// Returns what could not be searched because it is not archived, as a sentence; `None` when everything is.
    ///
    /// # Errors
    /// [`Code::Tool`].
    pub(super) async fn describe_unarchived(&self) -> Result<Option<String>> {
        let Some(why) = &self.unarchived else { return Ok(None) };
        let what = match self.view.last_commit_in_archive().await? {
            Some(last) => format!("what was committed after {}", last.time),
            None => "any commit".into(),
        };
        Ok(Some(format!("{what} could not be searched: {}", why.message)))
    }

    /// Adds to an error of a search what could not be searched: what was not found may be there.
    ///
    /// # Errors
    /// [`Code::Tool`].
    pub(super) async fn add_unsearched_to_error(&self, error: Error) -> Result<Error> {
        let unseen = self.describe_unarchived().await?;
        Ok(match unseen {
            // What is not in the part that was searched may be in the other.
            Some(unseen) if error.code == Code::NotFound => Error::new(
                Code::Unavailable,
                format!("nobody knows: in what could be searched, {}; {unseen}", error.message),
            )
            .with_hint("start the server, or archive its last WAL, and ask again"),
            Some(unseen) => Error { message: format!("{}; {unseen}", error.message), ..error },
            None => error,
        })
    }
}

/// Returns why a server that does not run may have left WAL that was never archived; `None` when it has not.
async fn explain_if_stopped_server_left_wal(cluster: &Cluster, view: &ArchiveView) -> Option<Error> {
    let down = |why: String| Some(Error::new(Code::Refused, format!("its server is down, {why}")));
    let control = match cluster.read_control_file().await {
        Ok(control) => control,
        Err(error) => return down(format!("and how it ended cannot be seen: {}", error.message)),
    };
    if control.state != SHUT_DOWN {
        return down("and was not shut down in order, so that its last WAL was never archived".into());
    }
    let left = cluster::list_unarchived_wal(&cluster.data, &view.archive.folder);
    left.first().and_then(|first| down(format!("and its WAL from `{first}` on was never archived")))
}
