//! A recovery target, looked for in the archive: on which timeline it is, and where recovery stops for it.

use crate::{
    base::moment::Moment,
    provider::{
        Code, Error, Result,
        model::{RecoveryPoint, RecoveryTarget},
        postgres::{
            archive_view::ArchiveView,
            cluster::Cluster,
            engine::StoredBackup,
            records::RecoveryStop,
            wal::{Commit, Lsn},
        },
    },
};

/// A recovery target that was found in the archive.
pub(super) struct ArchivedTarget {
    pub timeline: u32,
    pub stop: RecoveryStop,
    /// The moment, for a target in time: a backup must have been complete by then.
    pub time: Option<Moment>,
    /// The position in the WAL, if known: everything up to it must be there.
    pub lsn: Option<Lsn>,
}

/// Finds the target in the archive; when it is not there yet and the server runs, archives up to now first.
pub(super) async fn resolve_target(
    cluster: &Cluster,
    all: &[StoredBackup],
    to: &RecoveryPoint,
) -> Result<(ArchiveView, ArchivedTarget)> {
    if to.at == RecoveryTarget::Latest && cluster.is_running() {
        cluster.archive_fence().await?;
        let view = ArchiveView::read_archive(cluster, all).await?;
        let target = find_target(cluster, &view, to).await?;
        return Ok((view, target));
    }
    let view = ArchiveView::read_archive(cluster, all).await?;
    let error = match find_target(cluster, &view, to).await {
        Ok(target) => return Ok((view, target)),
        Err(error) => error,
    };
    let is_past = !matches!(&to.at, RecoveryTarget::Time(time) if *time > cluster.clock.now());
    if error.code != Code::TargetAfterWindow || !is_past || !cluster.is_running() {
        return Err(error);
    }
    cluster.archive_fence().await?;
    let view = ArchiveView::read_archive(cluster, all).await?;
    let target = find_target(cluster, &view, to).await?;
    Ok((view, target))
}

async fn find_target(cluster: &Cluster, view: &ArchiveView, to: &RecoveryPoint) -> Result<ArchivedTarget> {
    match &to.at {
        RecoveryTarget::Time(time) => find_time(view, *time, to).await,
        RecoveryTarget::Latest => find_latest(cluster, view, to.timeline).await,
        RecoveryTarget::Lsn(text) => find_lsn(view, Lsn::parse(text)?, to.timeline).await,
        RecoveryTarget::Xid(text) => find_xid(view, text, to.timeline).await,
        RecoveryTarget::Name(name) => find_name(view, name, to.timeline).await,
        RecoveryTarget::BackupEnd => {
            Err(Error::new(Code::Internal, "the end of a backup is not looked for in the archive"))
        }
    }
}

async fn find_time(view: &ArchiveView, time: Moment, to: &RecoveryPoint) -> Result<ArchivedTarget> {
    let found = match to.timeline {
        Some(asked) => Some(asked),
        None => only_timeline(&view.timelines_holding_time(time).await?, "the moment")?,
    };
    let Some(timeline) = found else {
        return Err(hint_at_timelines(after_window_error(latest_commit(view).await?.as_ref()), view));
    };
    let last = view.last_commit(timeline).await?.filter(|last| time <= last.time);
    let Some(last) = last else {
        return Err(after_window_error(view.last_commit(timeline).await?.as_ref()));
    };
    // Nothing comes after the last commit at which recovery could notice that it has gone far enough.
    let is_the_end = to.inclusive && time == last.time;
    let stop = if is_the_end { RecoveryStop::Lsn(last.lsn.to_string()) } else { RecoveryStop::Time(time) };
    Ok(ArchivedTarget { timeline, stop, time: Some(time), lsn: is_the_end.then_some(last.lsn) })
}

async fn find_latest(cluster: &Cluster, view: &ArchiveView, asked: Option<u32>) -> Result<ArchivedTarget> {
    let timeline = match asked {
        Some(asked) => asked,
        None => match cluster.current_timeline().await {
            Some(current) => current,
            None => view.archive.timelines.keys().next_back().copied().unwrap_or(1),
        },
    };
    let last = view.last_commit(timeline).await?.ok_or_else(|| after_window_error(None))?;
    Ok(ArchivedTarget {
        timeline,
        stop: RecoveryStop::Lsn(last.lsn.to_string()),
        time: None,
        lsn: Some(last.lsn),
    })
}

async fn find_lsn(view: &ArchiveView, lsn: Lsn, asked: Option<u32>) -> Result<ArchivedTarget> {
    let mut holding = view.timelines_holding_lsn(lsn).await?;
    holding.retain(|timeline| asked.is_none_or(|asked| asked == *timeline));
    let Some(timeline) = only_timeline(&holding, "the place")? else {
        return Err(after_window_error(latest_commit(view).await?.as_ref()));
    };
    Ok(ArchivedTarget { timeline, stop: RecoveryStop::Lsn(lsn.to_string()), time: None, lsn: Some(lsn) })
}

async fn find_xid(view: &ArchiveView, text: &str, asked: Option<u32>) -> Result<ArchivedTarget> {
    let wrong = || Error::new(Code::Invalid, format!("`{text}` is no transaction id"));
    let full: u64 = text.trim().parse().map_err(|_| wrong())?;
    // With its epoch an id has 64 bits; WAL has the lower 32.
    let xid = u32::try_from(full & u64::from(u32::MAX)).map_err(|_| wrong())?;
    let mut commits = view.archive.find_commits(&view.programs, xid).await?;
    commits.retain(|(timeline, _)| asked.is_none_or(|asked| asked == *timeline));
    let timelines: Vec<u32> = commits.iter().map(|(timeline, _)| *timeline).collect();
    let timeline = only_timeline(&timelines, "the transaction")?.ok_or_else(|| {
        Error::new(Code::TargetAfterWindow, format!("no commit of transaction {text} is in the archive"))
            .with_hint("look at `pitr window`; a transaction that was rolled back cannot be a target")
    })?;
    let lsn = commits.first().map(|(_, commit)| commit.lsn);
    Ok(ArchivedTarget { timeline, stop: RecoveryStop::Xid(xid.to_string()), time: None, lsn })
}

async fn find_name(view: &ArchiveView, name: &str, asked: Option<u32>) -> Result<ArchivedTarget> {
    let mut points = view.archive.find_restore_points(&view.programs, name).await?;
    points.retain(|point| asked.is_none_or(|asked| asked == point.timeline));
    let mut timelines: Vec<u32> = points.iter().map(|point| point.timeline).collect();
    timelines.sort_unstable();
    timelines.dedup();
    let timeline = only_timeline(&timelines, "the restore point")?.ok_or_else(|| {
        Error::new(Code::TargetAfterWindow, format!("there is no restore point `{name}` in the archive"))
            .with_hint("make one with `pitr mark`")
    })?;
    let [point] = points.as_slice() else {
        return Err(Error::new(
            Code::Refused,
            format!(
                "there are {} restore points `{name}`, and recovery stops at the first it meets",
                points.len()
            ),
        )
        .with_hint(format!(
            "name a place instead: {}",
            points.iter().map(|p| format!("`{}` of {}", p.lsn, p.time)).collect::<Vec<_>>().join(", ")
        )));
    };
    Ok(ArchivedTarget { timeline, stop: RecoveryStop::Name(name.into()), time: None, lsn: Some(point.lsn) })
}

/// Returns the only timeline, or `None` when there is none; refuses several.
fn only_timeline(timelines: &[u32], what: &str) -> Result<Option<u32>> {
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
        .with_hint(format!("say which, such as `timeline={}`", several[0]))),
    }
}

/// Returns the last commit of the whole archive.
async fn latest_commit(view: &ArchiveView) -> Result<Option<Commit>> {
    let mut latest: Option<Commit> = None;
    for &timeline in view.archive.timelines.keys() {
        let last = view.last_commit(timeline).await?;
        if last.as_ref().map(|c| c.time) > latest.as_ref().map(|c| c.time) {
            latest = last;
        }
    }
    Ok(latest)
}

/// Adds to the hint the timelines to choose from, where there are several.
fn hint_at_timelines(error: Error, view: &ArchiveView) -> Error {
    let there: Vec<String> = view.archive.timelines.keys().map(|id| format!("`timeline={id}`")).collect();
    match &error.hint {
        Some(hint) if there.len() > 1 => {
            let hint = format!("{hint}; between two timelines, say which: {}", there.join(", "));
            error.with_hint(hint)
        }
        _ => error,
    }
}

fn after_window_error(latest: Option<&Commit>) -> Error {
    let error =
        Error::new(Code::TargetAfterWindow, "nothing in the archive was committed at the target or later");
    match latest {
        Some(latest) => error.with_hint(format!(
            "the last commit that is archived is of {}; while the source is alive, `pitr mark` and restoring to now bring the archive up to date",
            latest.time
        )),
        None => error.with_hint("no commit is archived yet"),
    }
}
