//! Deleting a backup, and the WAL that nothing needs any more afterwards.

use super::{
    builtin::{Builtin, Stored},
    cluster::Cluster,
    horizon::{self, Horizon},
    inplace,
    records::Phase,
    wal::Lsn,
};
use crate::provider::{Code, Error, Result, model::Deleted};
use std::ffi::OsStr;

/// Returns what deleting a backup would take with it.
///
/// # Errors
/// [`Code::NotFound`].
pub(super) async fn plan(cluster: &Cluster, id: &str) -> Result<Deleted> {
    let all = Builtin::of(cluster)?.list()?;
    let stored = Builtin::of(cluster)?.get(id)?;
    let rest: Vec<&Stored> = all.iter().filter(|other| other.id != id).collect();
    let wal = match Horizon::of(cluster, &all).await {
        Ok(horizon) => first_needed(&horizon, &rest).map_or(0, |first| bytes_before(&horizon, first)),
        // Without an archive nothing of it becomes free.
        Err(_) => 0,
    };
    let earliest =
        |of: &[&Stored]| of.iter().filter(|s| s.is_completed()).filter_map(|s| s.finished_at).min();
    Ok(Deleted {
        id: id.into(),
        also: Vec::new(),
        bytes: stored.bytes + wal,
        earliest_before: earliest(&all.iter().collect::<Vec<_>>()),
        earliest_after: earliest(&rest),
    })
}

/// Deletes a backup as it was planned.
///
/// # Errors
/// [`Code::Conflict`] when the world is not as it was, or somebody restores from it.
pub(super) async fn delete(cluster: &Cluster, plan: &Deleted) -> Result<()> {
    let engine = Builtin::of(cluster)?;
    let all = engine.list()?;
    if all.iter().any(|stored| stored.id == plan.id) {
        let now = self::plan(cluster, &plan.id).await?;
        if (&now.also, now.earliest_after) != (&plan.also, plan.earliest_after) {
            return Err(Error::new(
                Code::Conflict,
                format!("other backups have come or gone since the deletion of `{}` was planned", plan.id),
            )
            .hint("plan it again"));
        }
        if !engine.get(&plan.id)?.is_completed() {
            return Err(Error::new(Code::Conflict, format!("backup `{}` is still being made", plan.id))
                .hint("wait until it is complete"));
        }
        let copied = cluster
            .records
            .branches()?
            .into_iter()
            .find(|branch| branch.phase == Phase::Copying && branch.recovery.backup == plan.id);
        if let Some(user) =
            copied.map(|branch| format!("branch `{}`", branch.name)).or(inplace::copying(cluster, &plan.id)?)
        {
            return Err(Error::new(
                Code::Conflict,
                format!("{user} is being restored from backup `{}`", plan.id),
            ));
        }
    }
    engine.delete(&plan.id)?;
    clean_archive(cluster, &all, &plan.id).await
}

/// Removes the WAL that no backup needs any more. When no backup is left, nothing is removed: somebody else may have
/// one of his own.
async fn clean_archive(cluster: &Cluster, all: &[Stored], deleted: &str) -> Result<()> {
    let rest: Vec<&Stored> = all.iter().filter(|stored| stored.id != deleted).collect();
    let Ok(horizon) = Horizon::of(cluster, all).await else { return Ok(()) };
    let Some(first) = first_needed(&horizon, &rest) else { return Ok(()) };
    let timeline = horizon.archive.timelines.keys().next().copied().unwrap_or(1);
    let name = horizon.archive.name(timeline, first);
    let args = [horizon.archive.folder.as_os_str(), OsStr::new(&name)];
    horizon.tools.run("pg_archivecleanup", &args).await.map(drop).map_err(Error::with_side_effects)
}

/// Returns the number of the oldest segment that one of these backups needs; also one that is being made.
fn first_needed(horizon: &Horizon, backups: &[&Stored]) -> Option<u64> {
    if backups.iter().any(|stored| !stored.is_completed()) {
        // Where it begins is not known before it is complete, so everything stays.
        return None;
    }
    let start = |stored: &&Stored| {
        let needed = horizon::needed(stored).ok()?;
        Some(horizon.archive.segment_of(Lsn::parse(&needed.start).ok()?))
    };
    backups.iter().filter_map(start).min()
}

fn bytes_before(horizon: &Horizon, first: u64) -> u64 {
    let older = |segments: &std::collections::BTreeSet<u64>| segments.range(..first).count() as u64;
    horizon.archive.timelines.values().map(|timeline| older(&timeline.segments)).sum::<u64>()
        * horizon.archive.segment_bytes
}
