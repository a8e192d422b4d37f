//! Deleting a backup, and the WAL that nothing needs any more afterwards.
//!
//! An archive may be shared: other tools, and other targets, have backups of the same cluster. Each leaves a history
//! file in the archive. WAL from the oldest of them on is kept, and all of it where some is of another cluster.

use super::{
    builtin::{Builtin, Stored},
    cluster::Cluster,
    horizon::{self, Horizon},
    inplace,
    records::{self, Phase},
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
        Ok(horizon) => first_kept(&horizon, &stored, &rest).map_or(0, |first| bytes_before(&horizon, first)),
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
    let deleted = all.iter().find(|stored| stored.id == plan.id);
    if deleted.is_some() {
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
    match deleted {
        Some(deleted) => clean_archive(cluster, &all, deleted).await,
        None => Ok(()),
    }
}

/// Removes the WAL that no backup needs any more. When no backup is left, nothing is removed: somebody else may have
/// one of his own.
async fn clean_archive(cluster: &Cluster, all: &[Stored], deleted: &Stored) -> Result<()> {
    let rest: Vec<&Stored> = all.iter().filter(|stored| stored.id != deleted.id).collect();
    let Ok(horizon) = Horizon::of(cluster, all).await else { return Ok(()) };
    let archive = &horizon.archive;
    let first = first_kept(&horizon, deleted, &rest);
    // It would keep its WAL from being removed for ever.
    for (history, ..) in archive.backups.iter().filter(|history| is_of(history, deleted)) {
        records::remove(&archive.folder.join(history)).map_err(Error::with_side_effects)?;
    }
    let Some(first) = first else { return Ok(()) };
    let timeline = archive.timelines.keys().next().copied().unwrap_or(1);
    let name = archive.name(timeline, first);
    let args = [archive.folder.as_os_str(), OsStr::new(&name)];
    horizon.tools.run("pg_archivecleanup", &args).await.map(drop).map_err(Error::with_side_effects)
}

/// Returns the number of the oldest segment that is kept when `deleted` goes and `rest` stays; `None` when all are.
fn first_kept(horizon: &Horizon, deleted: &Stored, rest: &[&Stored]) -> Option<u64> {
    let archive = &horizon.archive;
    let others = archive.backups.iter().filter(|history| !is_of(history, deleted));
    let first =
        others.map(|(_, _, start)| archive.segment_of(*start)).chain([first_needed(horizon, rest)?]).min()?;
    let goes = archive.timelines.iter().flat_map(|(timeline, there)| {
        there.segments.range(..first).map(|segment| archive.name(*timeline, *segment))
    });
    let own = Some(deleted.system_identifier.as_str());
    goes.into_iter().all(|segment| archive.writer(&segment).as_deref() == own).then_some(first)
}

/// Returns whether a history file in the archive is that of `stored`.
fn is_of((_, timeline, start): &(String, u32, Lsn), stored: &Stored) -> bool {
    stored.wal.as_ref().is_some_and(|needed| {
        needed.timeline == *timeline && Lsn::parse(&needed.start).is_ok_and(|s| s == *start)
    })
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
