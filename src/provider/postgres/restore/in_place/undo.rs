//! The undo of a restore in place: the old data is put back, and its server started again as it was.

use super::{checksums, cluster_server, ending, exchange, server_owner};
use crate::provider::{
    Code, Error, Result,
    host::disk,
    model::JobStatus,
    postgres::{
        cluster::Cluster,
        records::{RestoreFailure, RestorePhase, RestoreRecord},
        restore::{copying, restored_copy},
    },
};

/// Undoes the restore because of what it failed with first, else of `failure`, and returns that as its end.
///
/// # Errors
/// [`Code::Unknown`] with what prevents it: it is neither done nor undone, and undone further by the next poll.
pub(super) async fn undo_restore(
    cluster: &Cluster,
    record: RestoreRecord,
    failure: Option<RestoreFailure>,
) -> Result<JobStatus> {
    let failure = record.failure.clone().or(failure);
    let record = RestoreRecord { phase: RestorePhase::Undoing, failure, ..record };
    match record_and_undo(cluster, record.clone()).await {
        Ok(undone) => Ok(ending::end_restore(&undone)),
        Err(error) => Err(undo_failed_error(&record, error)),
    }
}

async fn record_and_undo(cluster: &Cluster, mut record: RestoreRecord) -> Result<RestoreRecord> {
    cluster.records.save_restore(&record)?;
    put_old_data_back(cluster, &mut record).await?;
    record.phase = RestorePhase::Undone;
    cluster.records.save_restore(&record)?;
    Ok(record)
}

async fn put_old_data_back(cluster: &Cluster, record: &mut RestoreRecord) -> Result<()> {
    let programs = cluster.programs_for_any(&[&record.data, &record.aside])?;
    if record.aside.is_dir() {
        server_owner::note_served_data(cluster, record)?;
        server_owner::check_no_foreign_server(record)?;
    }
    copying::kill_copy(cluster, &record.copy).await;
    checksums::kill_verification_and_wait(cluster.clock.as_ref(), &record.copy.data_folder()).await;
    if record.aside.is_dir() {
        restored_copy::stop_recovering_server(cluster, &record.copy, &record.data).await?;
        server_owner::note_served_data(cluster, record)?;
        let thrown_away = record.copy.data_folder();
        if record.served.is_none() && record.data.exists() {
            disk::remove_folder(&thrown_away)?;
        }
        let new = record.served.as_ref().unwrap_or(&thrown_away);
        exchange::move_old_data_back(&record.data, &record.aside, new)?;
    }
    cluster_server::restart_old_server(cluster, &programs, record).await
}

fn undo_failed_error(record: &RestoreRecord, error: Error) -> Error {
    let reason = record.failure.as_ref().map_or("the restore failed", |failure| &failure.message);
    let message = format!("{reason}; and it could not be undone: {}", error.message);
    let hint = format!(
        "mend that, and take the run up again: it goes on undoing; the data from before is in `{}`, or still in `{}`",
        record.aside.display(),
        record.data.display()
    );
    Error { code: Code::Unknown, retryable: false, message, ..error }
        .with_hint(hint)
        .with_left_behind(record.copy.folder.display().to_string())
}
