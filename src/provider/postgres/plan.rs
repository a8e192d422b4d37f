//! What a restore will do, decided before anything is made: where it stops, on which timeline, from which backup.
//!
//! Recovery itself notices late, or never, that a target cannot be reached: it dies after minutes of replay, and with
//! the wrong timeline it comes up with the wrong rows. So each refusal is made here, from the archive alone. The one
//! thing that is done to the source, when it is alive and the target lies between the end of the archive and now, is a
//! fence: a marker and a WAL switch.

use super::{
    builtin::{Builtin, Stored},
    cluster::Cluster,
    control::Control,
    disk,
    horizon::{self, Horizon},
    isolation, manifest,
    records::{Recovery, Stop},
    wal::{Commit, Lsn, Until},
};
use crate::{
    base::moment::Moment,
    provider::{
        Code, Error, Result,
        model::{At, RecoveryPoint, RestoreRequest},
    },
};
use std::{fs, path::Path};

/// A restore that nothing speaks against.
pub(super) struct Plan {
    /// Where it starts and stops.
    pub recovery: Recovery,
    /// The cluster that is restored.
    pub system_identifier: String,
}

/// A place to stop at that the archive holds.
struct Target {
    timeline: u32,
    stop: Stop,
    /// The moment, where it is one: a backup must have been whole by then.
    time: Option<Moment>,
    /// The place in the WAL, where it is known: it must be there without a hole.
    place: Option<Lsn>,
}

/// Plans a restore to `folder`.
///
/// # Errors
/// Every refusal there is.
pub(super) async fn restore(cluster: &Cluster, request: &RestoreRequest, folder: &Path) -> Result<Plan> {
    let engine = Builtin::of(cluster)?;
    let all = engine.list()?;
    let asked = request.backup.as_deref().map(|id| engine.get(id)).transpose()?;
    if let Some(asked) = &asked {
        horizon::needed(asked)?;
    }
    // A damaged backup is only in the way of those who ask for it.
    let is_sound = |stored: &Stored| {
        stored.is_completed() && manifest::compare(&engine.files(&stored.id).join("data")).is_ok()
    };
    let candidates: Vec<Stored> = match asked {
        Some(asked) => vec![asked],
        None => all.iter().filter(|stored| is_sound(stored)).cloned().collect(),
    };
    let (Some(oldest), Some(newest)) = (candidates.first(), candidates.last()) else {
        return Err(Error::new(Code::Refused, format!("`{}` has no usable backup", cluster.name))
            .hint("make one with `backup create`"));
    };
    let system_identifier = check(cluster, newest, folder).await?;
    let (backup, horizon, target) = if request.to.at == At::BackupEnd {
        let needed = horizon::needed(newest)?;
        let own = needed.timeline;
        if request.to.timeline.is_some_and(|asked| asked != own) {
            return Err(Error::new(
                Code::Invalid,
                format!("backup `{}` ends on timeline {own}, and on no other", newest.id),
            ));
        }
        let place = Some(horizon::stop(needed));
        let target = Target { timeline: own, stop: Stop::BackupEnd, time: None, place };
        (newest.clone(), Horizon::of(cluster, &all).await?, target)
    } else {
        not_before(&request.to.at, oldest)?;
        let (horizon, target) = resolve(cluster, &all, &request.to).await?;
        let backup = choose(&horizon, &candidates, &target).await?;
        (backup, horizon, target)
    };
    if backup.id != newest.id {
        check(cluster, &backup, folder).await?;
    }
    makes_no_tablespace(&horizon, &backup, &target).await?;
    let recovery = Recovery {
        backup: backup.id,
        stop: target.stop,
        inclusive: request.to.inclusive,
        timeline: target.timeline,
        archive: horizon.archive.folder,
    };
    Ok(Plan { recovery, system_identifier })
}

/// Refuses a moment at which no backup was whole yet, whatever the archive holds.
fn not_before(at: &At, oldest: &Stored) -> Result<()> {
    match (at, oldest.finished_at) {
        (At::Time(time), Some(earliest)) if *time < earliest => Err(before_window(earliest)),
        _ => Ok(()),
    }
}

/// Finds the target in the archive; when it is not there yet and the source is alive, brings the archive up to now.
async fn resolve(cluster: &Cluster, all: &[Stored], to: &RecoveryPoint) -> Result<(Horizon, Target)> {
    if to.at == At::Latest && cluster.is_running() {
        cluster.fence().await?;
        let horizon = Horizon::of(cluster, all).await?;
        let target = find(cluster, &horizon, to).await?;
        return Ok((horizon, target));
    }
    let horizon = Horizon::of(cluster, all).await?;
    let error = match find(cluster, &horizon, to).await {
        Ok(target) => return Ok((horizon, target)),
        Err(error) => error,
    };
    let is_past = !matches!(&to.at, At::Time(time) if *time > cluster.clock.now());
    if error.code != Code::TargetAfterWindow || !is_past || !cluster.is_running() {
        return Err(error);
    }
    cluster.fence().await?;
    let horizon = Horizon::of(cluster, all).await?;
    let target = find(cluster, &horizon, to).await?;
    Ok((horizon, target))
}

async fn find(cluster: &Cluster, horizon: &Horizon, to: &RecoveryPoint) -> Result<Target> {
    match &to.at {
        At::Time(time) => find_time(horizon, *time, to).await,
        At::Latest => find_latest(cluster, horizon, to.timeline).await,
        At::Lsn(text) => find_lsn(horizon, Lsn::parse(text)?, to.timeline).await,
        At::Xid(text) => find_xid(horizon, text, to.timeline).await,
        At::Name(name) => find_name(horizon, name, to.timeline).await,
        At::BackupEnd => {
            Err(Error::new(Code::Internal, "the end of a backup is not looked for in the archive"))
        }
    }
}

async fn find_time(horizon: &Horizon, time: Moment, to: &RecoveryPoint) -> Result<Target> {
    let found = match to.timeline {
        Some(asked) => Some(asked),
        None => one(&horizon.holding_time(time).await?, "the moment")?,
    };
    let Some(timeline) = found else {
        return Err(with_timelines(after_window(latest(horizon).await?.as_ref()), horizon));
    };
    let last = horizon.last(timeline).await?.filter(|last| time <= last.time);
    let Some(last) = last else {
        return Err(after_window(horizon.last(timeline).await?.as_ref()));
    };
    // Nothing comes after the last commit at which recovery could notice that it has gone far enough.
    let is_the_end = to.inclusive && time == last.time;
    let stop = if is_the_end { Stop::Lsn(last.lsn.to_string()) } else { Stop::Time(time) };
    Ok(Target { timeline, stop, time: Some(time), place: is_the_end.then_some(last.lsn) })
}

async fn find_latest(cluster: &Cluster, horizon: &Horizon, asked: Option<u32>) -> Result<Target> {
    let timeline = match asked {
        Some(asked) => asked,
        None => match cluster.timeline().await {
            Some(current) => current,
            None => horizon.archive.timelines.keys().next_back().copied().unwrap_or(1),
        },
    };
    let last = horizon.last(timeline).await?.ok_or_else(|| after_window(None))?;
    Ok(Target { timeline, stop: Stop::Lsn(last.lsn.to_string()), time: None, place: Some(last.lsn) })
}

async fn find_lsn(horizon: &Horizon, place: Lsn, asked: Option<u32>) -> Result<Target> {
    let mut holding = horizon.holding_place(place).await?;
    holding.retain(|timeline| asked.is_none_or(|asked| asked == *timeline));
    let Some(timeline) = one(&holding, "the place")? else {
        return Err(after_window(latest(horizon).await?.as_ref()));
    };
    Ok(Target { timeline, stop: Stop::Lsn(place.to_string()), time: None, place: Some(place) })
}

async fn find_xid(horizon: &Horizon, text: &str, asked: Option<u32>) -> Result<Target> {
    let wrong = || Error::new(Code::Invalid, format!("`{text}` is no transaction id"));
    let full: u64 = text.trim().parse().map_err(|_| wrong())?;
    // With its epoch it is longer; in the WAL it stands without.
    let xid = u32::try_from(full & u64::from(u32::MAX)).map_err(|_| wrong())?;
    let mut commits = horizon.archive.commits_of(&horizon.tools, xid).await?;
    commits.retain(|(timeline, _)| asked.is_none_or(|asked| asked == *timeline));
    let timelines: Vec<u32> = commits.iter().map(|(timeline, _)| *timeline).collect();
    let timeline = one(&timelines, "the transaction")?.ok_or_else(|| {
        Error::new(Code::TargetAfterWindow, format!("no commit of transaction {text} is in the archive"))
            .hint("look at `pitr window`; a transaction that was rolled back cannot be a target")
    })?;
    let place = commits.first().map(|(_, commit)| commit.lsn);
    Ok(Target { timeline, stop: Stop::Xid(xid.to_string()), time: None, place })
}

async fn find_name(horizon: &Horizon, name: &str, asked: Option<u32>) -> Result<Target> {
    let mut points = horizon.archive.restore_points(&horizon.tools, name).await?;
    points.retain(|point| asked.is_none_or(|asked| asked == point.timeline));
    let mut timelines: Vec<u32> = points.iter().map(|point| point.timeline).collect();
    timelines.sort_unstable();
    timelines.dedup();
    let timeline = one(&timelines, "the restore point")?.ok_or_else(|| {
        Error::new(Code::TargetAfterWindow, format!("there is no restore point `{name}` in the archive"))
            .hint("make one with `pitr mark`")
    })?;
    let [point] = points.as_slice() else {
        return Err(Error::new(
            Code::Refused,
            format!(
                "there are {} restore points `{name}`, and recovery stops at the first it meets",
                points.len()
            ),
        )
        .hint(format!(
            "name a place instead: {}",
            points.iter().map(|p| format!("`{}` of {}", p.lsn, p.time)).collect::<Vec<_>>().join(", ")
        )));
    };
    Ok(Target { timeline, stop: Stop::Name(name.into()), time: None, place: Some(point.lsn) })
}

/// Returns the only one; refuses two.
fn one(timelines: &[u32], what: &str) -> Result<Option<u32>> {
    match timelines {
        [] => Ok(None),
        [only] => Ok(Some(*only)),
        several => Err(Error::new(
            Code::AmbiguousTimeline,
            format!(
                "{what} is on {} timelines: {}",
                several.len(),
                several.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
            ),
        )
        .hint(format!("say which, such as `timeline={}`", several[0]))),
    }
}

/// Returns the last commit of the whole archive.
async fn latest(horizon: &Horizon) -> Result<Option<Commit>> {
    let mut latest: Option<Commit> = None;
    for &timeline in horizon.archive.timelines.keys() {
        let last = horizon.last(timeline).await?;
        if last.as_ref().map(|c| c.time) > latest.as_ref().map(|c| c.time) {
            latest = last;
        }
    }
    Ok(latest)
}

/// Returns the newest backup from which the target can be reached without a hole.
async fn choose(horizon: &Horizon, candidates: &[Stored], target: &Target) -> Result<Stored> {
    let mut refusal = None;
    for stored in candidates.iter().rev() {
        match stands_against(horizon, stored, target).await? {
            None => return Ok(stored.clone()),
            // The newest backup that is old enough has the most to say.
            Some(error) if error.code == Code::WalGap => refusal = refusal.or(Some(error)),
            Some(_) => {}
        }
    }
    let earliest = candidates.first().and_then(|stored| stored.finished_at);
    Err(refusal.or(earliest.map(before_window)).unwrap_or_else(|| {
        Error::new(Code::Refused, format!("no backup leads to timeline {}", target.timeline))
    }))
}

async fn stands_against(horizon: &Horizon, stored: &Stored, target: &Target) -> Result<Option<Error>> {
    let needed = horizon::needed(stored)?;
    let from = horizon::stop(needed);
    let too_young = target.time.is_some_and(|time| stored.finished_at.is_none_or(|whole| time < whole))
        || target.place.is_some_and(|place| place < from)
        || !horizon.leads_to(needed, target.timeline);
    if too_young {
        return Ok(Some(Error::new(Code::TargetBeforeWindow, "the backup is younger than the target")));
    }
    let missing = if let Some(place) = target.place {
        horizon.archive.first_missing(target.timeline, from, Some(Lsn(place.0 + 1)))
    } else {
        let reach = horizon.reach(needed, target.timeline).await?;
        let reached = reach.last.is_some_and(|last| target.time.is_some_and(|time| time <= last.time));
        reach.missing.filter(|_| !reached)
    };
    Ok(missing.map(|segment| {
        Error::new(
            Code::WalGap,
            format!("WAL segment `{segment}` is missing between backup `{}` and the target", stored.id),
        )
        .hint("bring the segment back, or choose a target before it; `pitr window` shows every gap")
    }))
}

/// Refuses a replay that would make a tablespace: its record names the folder of the source's own, and a copy that
/// replays it writes and deletes there.
async fn makes_no_tablespace(horizon: &Horizon, backup: &Stored, target: &Target) -> Result<()> {
    let from = Lsn::parse(&horizon::needed(backup)?.start)?;
    let until = match (target.place, target.time) {
        (Some(place), _) => Until::Place(place),
        (None, Some(time)) => Until::Time(time),
        (None, None) => Until::Place(Lsn(u64::MAX)),
    };
    match horizon.archive.tablespace_made(&horizon.tools, target.timeline, from, until).await? {
        None => Ok(()),
        Some(made) => Err(Error::new(
            Code::Refused,
            format!(
                "tablespace {made} was made after backup `{}`, and replaying that would let the copy into the \
                 source's own files",
                backup.id
            ),
        )
        .hint("restore from a backup that was made after the tablespace, or to a moment with a later commit before it")),
    }
}

/// Refuses what is against the backup itself, or the place it would go to; returns the cluster it is of.
async fn check(cluster: &Cluster, backup: &Stored, folder: &Path) -> Result<String> {
    let files = Builtin::of(cluster)?.files(&backup.id);
    let data = files.join("data");
    manifest::compare(&data)?;
    for (oid, to) in isolation::tablespaces(&data)? {
        if !to.starts_with(&files) {
            return Err(isolation::not_mapped(&oid));
        }
    }
    let major =
        |data: &Path| fs::read_to_string(data.join("PG_VERSION")).unwrap_or_default().trim().to_owned();
    let (of_backup, of_cluster) = (major(&data), major(&cluster.data));
    if of_backup != of_cluster {
        return Err(Error::new(
            Code::Refused,
            format!(
                "backup `{}` is of PostgreSQL {of_backup}, and the cluster is of {of_cluster}",
                backup.id
            ),
        )
        .hint("a backup can only be restored with the programs of its own version"));
    }
    let copy = Control::read(&cluster.tools()?, &data).await?;
    let own = cluster.control().await?.system_identifier;
    if copy.system_identifier != own {
        return Err(Error::new(
            Code::Refused,
            format!("backup `{}` is of cluster {}, and not of {own}", backup.id, copy.system_identifier),
        ));
    }
    disk::room_for(backup.bytes, folder)?;
    Ok(copy.system_identifier)
}

/// Adds the timelines to choose from, where there are several.
fn with_timelines(error: Error, horizon: &Horizon) -> Error {
    let there: Vec<String> = horizon.archive.timelines.keys().map(|id| format!("`timeline={id}`")).collect();
    match &error.hint {
        Some(hint) if there.len() > 1 => {
            let hint = format!("{hint}; between two timelines, say which: {}", there.join(", "));
            error.hint(hint)
        }
        _ => error,
    }
}

fn before_window(earliest: Moment) -> Error {
    Error::new(Code::TargetBeforeWindow, "no backup is old enough for the target")
        .hint(format!("the earliest moment that can be restored is {earliest}"))
}

fn after_window(latest: Option<&Commit>) -> Error {
    let error =
        Error::new(Code::TargetAfterWindow, "nothing in the archive was committed at the target or later");
    match latest {
        Some(latest) => error.hint(format!(
            "the last commit that is archived is of {}; while the source is alive, `pitr mark` and restoring to now bring the archive up to date",
            latest.time
        )),
        None => error.hint("no commit is archived yet"),
    }
}
