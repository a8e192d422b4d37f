//! What can really be restored, put together from the backups and the archive; the source may be dead.

use super::{
    builtin::{Builtin, Stored},
    cluster::Cluster,
    horizon::{self, Horizon},
    manifest,
    wal::{self, Commit, Lsn, Names},
};
use crate::{
    base::moment::Moment,
    provider::{
        Code, Result,
        model::{Event, EventQuery, Usable, Verification, Window},
    },
};

/// Returns what can be restored.
///
/// # Errors
/// [`Code::Refused`] when nobody knows where the archive is, [`Code::Unavailable`] when it cannot be read.
pub(super) async fn window(cluster: &Cluster) -> Result<Window> {
    let engine = Builtin::of(cluster)?;
    let all = engine.list()?;
    let horizon = Horizon::of(cluster, &all).await?;
    let backups: Vec<Usable> = all.iter().map(|stored| usable(&engine, stored)).collect();
    let sound: Vec<&Stored> =
        all.iter().zip(&backups).filter(|(_, seen)| seen.usable).map(|(stored, _)| stored).collect();
    let latest = latest(cluster, &horizon, &sound).await?;
    let earliest = sound.iter().filter_map(|stored| stored.finished_at).min();
    Ok(Window {
        earliest,
        latest: latest.as_ref().map(|commit| commit.time).max(earliest),
        latest_lsn: latest.map(|commit| commit.lsn.to_string()),
        gaps: gaps(&horizon, &sound)?,
        backups,
        timelines: horizon.archive.timelines.keys().copied().collect(),
        warnings: warnings(cluster, &horizon, &sound).await,
    })
}

fn usable(engine: &Builtin<'_>, stored: &Stored) -> Usable {
    let why = if stored.is_completed() {
        manifest::compare(&engine.files(&stored.id).join("data")).err().map(|e| e.message)
    } else {
        Some("it is not complete yet".into())
    };
    Usable { id: stored.id.clone(), usable: why.is_none(), why }
}

/// Returns the last commit that recovery gets to from any backup, on the timeline that the cluster is on.
async fn latest(cluster: &Cluster, horizon: &Horizon, sound: &[&Stored]) -> Result<Option<Commit>> {
    let newest = horizon.archive.timelines.keys().next_back().copied();
    let current = cluster.timeline().await.filter(|id| horizon.archive.timelines.contains_key(id));
    let Some(timeline) = current.or(newest) else { return Ok(None) };
    let mut latest: Option<Commit> = None;
    for stored in sound.iter().rev() {
        let needed = horizon::needed(stored)?;
        if horizon.leads_to(needed, timeline) {
            let reached = horizon.reach(needed, timeline).await?.last;
            if reached.as_ref().map(|c| c.time) > latest.as_ref().map(|c| c.time) {
                latest = reached;
            }
        }
    }
    Ok(latest)
}

/// Returns a sentence for every hole behind the oldest backup.
fn gaps(horizon: &Horizon, sound: &[&Stored]) -> Result<Vec<String>> {
    let Some(oldest) = sound.first() else { return Ok(Vec::new()) };
    let since = horizon::stop(horizon::needed(oldest)?);
    let archive = &horizon.archive;
    let mut sentences = Vec::new();
    for &timeline in archive.timelines.keys() {
        let own = archive.name(timeline, archive.segment_of(since));
        for (first, last) in archive.gaps(timeline) {
            if last < own {
                continue;
            }
            let which = if first == last {
                format!("WAL segment `{first}` is")
            } else {
                format!("WAL segments `{first}` to `{last}` are")
            };
            let next = next_after(horizon, sound, &last);
            sentences.push(match next {
                Some(next) => format!("{which} missing: nothing from there on can be restored, until {next}"),
                None => format!(
                    "{which} missing: nothing from there on can be restored, until there is a newer backup"
                ),
            });
        }
    }
    Ok(sentences)
}

/// Returns when the first backup behind a hole was whole.
fn next_after(horizon: &Horizon, sound: &[&Stored], missing: &str) -> Option<Moment> {
    let behind = |stored: &&&Stored| {
        horizon::needed(stored).is_ok_and(|needed| {
            let segment = horizon.archive.segment_of(horizon::stop(needed));
            *horizon.archive.name(needed.timeline, segment) > *missing
        })
    };
    sound.iter().find(behind).and_then(|stored| stored.finished_at)
}

async fn warnings(cluster: &Cluster, horizon: &Horizon, sound: &[&Stored]) -> Vec<String> {
    let mut warnings = Vec::new();
    if sound.is_empty() {
        warnings.push("there is no usable backup, so nothing can be restored".to_owned());
    }
    warnings.extend(Builtin::of(cluster).and_then(|engine| engine.unreadable()).unwrap_or_default());
    match cluster.archiver_failing().await {
        Ok(None) => {}
        Ok(Some(why)) => warnings.push(format!("WAL is not being archived: {why}")),
        Err(e) => warnings.push(format!("whether the archiver works cannot be seen: {}", e.message)),
    }
    for damaged in &horizon.archive.damaged {
        warnings.push(format!("the archived segment `{damaged}` does not have the length of a segment"));
    }
    warnings
}

/// Reads a backup through, and looks for the WAL that it needs.
///
/// # Errors
/// [`Code::NotFound`]; [`Code::Refused`] when it is not complete.
pub(super) async fn verify(cluster: &Cluster, id: &str) -> Result<Verification> {
    let engine = Builtin::of(cluster)?;
    let stored = engine.get(id)?;
    let needed = horizon::needed(&stored)?;
    let mut problems = engine.verify(id).await?;
    let mut checked = vec!["checksums".to_owned()];
    match Horizon::of(cluster, std::slice::from_ref(&stored)).await {
        Ok(horizon) => {
            checked.push("wal".into());
            let start = Lsn::parse(&needed.start)?;
            let stop = Some(horizon::stop(needed));
            let missing = horizon.archive.first_missing(needed.timeline, start, stop);
            problems.extend(
                missing.map(|segment| format!("WAL segment `{segment}` is missing from the archive")),
            );
        }
        Err(e) => problems.push(format!("the archive was not looked at: {}", e.message)),
    }
    Ok(Verification { id: id.into(), ok: problems.is_empty(), checked, problems })
}

/// Returns the drops and truncates that the archive shows.
///
/// # Errors
/// As for the archive.
pub(super) async fn events(cluster: &Cluster, query: &EventQuery) -> Result<Vec<Event>> {
    let all = Builtin::of(cluster)?.list()?;
    if cluster.is_running() {
        // What was dropped a moment ago lies in a segment that is not full yet.
        match cluster.archive_now().await {
            Err(e) if e.code != Code::Refused && e.code != Code::Unavailable => return Err(e),
            _ => {}
        }
    }
    let horizon = Horizon::of(cluster, &all).await?;
    let mut names = Names::default();
    all.iter().filter_map(|stored| stored.names.clone()).for_each(|older| names.learn(older));
    if let Ok(client) = cluster.address.connect().await {
        names.learn(wal::relation_names(&client).await?);
    }
    horizon.archive.events(&horizon.tools, query, &names).await
}
