//! What a restore will do, decided before anything is made.

use super::{
    builtin::{Builtin, Stored},
    cluster::Cluster,
    control::Control,
    disk, isolation,
    records::{Recovery, Stop},
};
use crate::provider::{
    Code, Error, Result,
    model::{At, RestoreRequest},
};
use std::path::Path;

/// A restore that nothing speaks against.
pub(super) struct Plan {
    /// Where it starts and stops.
    pub recovery: Recovery,
    /// The cluster that is restored.
    pub system_identifier: String,
}

/// Plans a restore to `folder`.
///
/// # Errors
/// Every refusal there is.
pub(super) async fn restore(cluster: &Cluster, request: &RestoreRequest, folder: &Path) -> Result<Plan> {
    let stored = choose(cluster, request)?;
    let files = Builtin::of(cluster)?.files(&stored.id);
    let tools = cluster.tools()?;
    let control = Control::read(&tools, &files.join("data")).await?;
    for (oid, to) in isolation::tablespaces(&files.join("data"))? {
        if !to.starts_with(&files) {
            return Err(isolation::not_mapped(&oid));
        }
    }
    disk::room_for(stored.bytes, folder)?;
    let stop = match &request.to.at {
        At::BackupEnd => Stop::BackupEnd,
        At::Latest => Stop::Lsn(cluster.fence().await?),
        At::Time(t) => Stop::Time(*t),
        At::Xid(x) => Stop::Xid(x.clone()),
        At::Lsn(l) => Stop::Lsn(l.clone()),
        At::Name(n) => Stop::Name(n.clone()),
    };
    Ok(Plan {
        system_identifier: control.system_identifier,
        recovery: Recovery {
            backup: stored.id.clone(),
            stop,
            inclusive: request.to.inclusive,
            timeline: request.to.timeline.unwrap_or(1),
            archive: cluster.archive_dir(Some(&stored.archive)).await?,
        },
    })
}

fn choose(cluster: &Cluster, request: &RestoreRequest) -> Result<Stored> {
    let engine = Builtin::of(cluster)?;
    match &request.backup {
        Some(id) => engine.get(id),
        None => engine.list()?.into_iter().rfind(Stored::is_completed).ok_or_else(|| {
            Error::new(Code::Refused, format!("`{}` has no complete backup", cluster.name))
                .hint("make one with `backup create`")
        }),
    }
}
