//! What can really be restored, put together from the backups and the archive; the source may be dead.

use super::{
    builtin::{Builtin, Needed, Stored},
    cluster::Cluster,
    horizon::{self, Horizon},
    manifest,
    wal::{self, Commit, Lsn, Names},
};
use crate::{
    base::moment::Moment,
    provider::{
        Code, Error, Result,
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
    let backups: Vec<Usable> = all.iter().map(|stored| usable(&engine, &horizon, stored)).collect();
    let sound: Vec<&Stored> =
        all.iter().zip(&backups).filter(|(_, seen)| seen.usable).map(|(stored, _)| stored).collect();
    let latest = latest(cluster, &horizon, &sound).await?;
    let earliest = sound.iter().filter_map(|stored| stored.finished_at).min();
    // A backup can be restored to its own end, whatever is missing behind it.
    let whole = sound.iter().filter_map(|stored| stored.finished_at).max();
    Ok(Window {
        earliest,
        latest: latest.as_ref().map(|commit| commit.time).max(whole),
        latest_lsn: latest.map(|commit| commit.lsn.to_string()),
        gaps: [gaps(&horizon, &sound)?, lost(&horizon, &sound).await?].concat(),
        backups,
        timelines: horizon.archive.timelines.keys().copied().collect(),
        warnings: warnings(cluster, &horizon, &sound).await,
    })
}

fn usable(engine: &Builtin<'_>, horizon: &Horizon, stored: &Stored) -> Usable {
    let why = if let Ok(needed) = horizon::needed(stored) {
        let damage = manifest::compare(&engine.files(&stored.id).join("data")).err().map(|e| e.message);
        damage.or_else(|| {
            let missing = own_missing(horizon, needed)?;
            Some(format!("WAL segment `{missing}`, without which it is not whole, is missing"))
        })
    } else {
        Some("it is not complete yet".into())
    };
    Usable { id: stored.id.clone(), usable: why.is_none(), why }
}

/// Returns the first segment that is missing of those that were written while the backup was made.
fn own_missing(horizon: &Horizon, needed: &Needed) -> Option<String> {
    let start = Lsn::parse(&needed.start).ok()?;
    horizon.archive.first_missing(needed.timeline, start, Some(horizon::stop(needed)))
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

/// Returns a sentence for every stretch of time that is lost between a backup and the next, because WAL is missing
/// behind it.
async fn lost(horizon: &Horizon, sound: &[&Stored]) -> Result<Vec<String>> {
    let mut sentences = Vec::new();
    for (at, stored) in sound.iter().enumerate() {
        let needed = horizon::needed(stored)?;
        let reach = horizon.reach(needed, needed.timeline).await?;
        let Some(missing) = reach.missing else { continue };
        let next = sound.get(at + 1).copied();
        let is_before = |next: &Stored| {
            let start = horizon::needed(next).map(horizon::stop).unwrap_or_default();
            horizon.archive.name(needed.timeline, horizon.archive.segment_of(start)) < missing
        };
        // The next backup, and not this one, is the last before the hole.
        if next.is_some_and(is_before) {
            continue;
        }
        let from = reach.last.map(|commit| commit.time).max(stored.finished_at);
        let from = from.map_or_else(String::new, |from| format!(" after {from}"));
        let until =
            next.and_then(|next| next.finished_at).map_or_else(String::new, |t| format!(" and before {t}"));
        sentences.push(format!(
            "no moment{from}{until} can be restored: behind backup `{}` WAL segment `{missing}` is missing",
            stored.id
        ));
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
/// As for the archive; when nothing is found, also [`Code::WalGap`] and [`Code::Refused`] for WAL that could not be
/// looked at: that there was nothing is then not known.
pub(super) async fn events(cluster: &Cluster, query: &EventQuery) -> Result<Vec<Event>> {
    let all = Builtin::of(cluster)?.list()?;
    // What was dropped a moment ago lies in a segment that is not full yet.
    let archived = if cluster.is_running() { cluster.archive_now().await } else { Ok(()) };
    let horizon = Horizon::of(cluster, &all).await?;
    let mut names = Names::default();
    all.iter().filter_map(|stored| stored.names.clone()).for_each(|older| names.learn(older));
    if let Ok(client) = cluster.address.connect().await {
        names.learn(wal::relation_names(&client).await?);
    }
    let events = horizon.archive.events(&horizon.tools, query, &names).await?;
    if events.is_empty() {
        looked_everywhere(cluster, &horizon, &all, query, archived).await?;
    }
    Ok(events)
}

/// Refuses to say that there was nothing where not all of the time that was asked for could be searched.
async fn looked_everywhere(
    cluster: &Cluster,
    horizon: &Horizon,
    backups: &[Stored],
    query: &EventQuery,
    archived: Result<()>,
) -> Result<()> {
    if let Some(segment) = horizon.hidden(backups, query.since, query.until).await? {
        return Err(Error::new(
            Code::WalGap,
            format!("nothing was found, but WAL segment `{segment}` is missing and could not be searched"),
        )
        .hint("bring the segment back, or ask for a time span without it; `pitr window` shows every gap"));
    }
    let Err(why) = archived else { return Ok(()) };
    let timeline = cluster.timeline().await.unwrap_or_default();
    let last = horizon.last(timeline).await?.map(|commit| commit.time);
    if query.until.zip(last).is_some_and(|(until, last)| until <= last) {
        return Ok(());
    }
    let since = last.map_or_else(|| "any commit".into(), |last| format!("what was committed after {last}"));
    let message = format!("nothing was found, but {since} could not be searched: {}", why.message);
    Err(Error { code: Code::Refused, message, ..why })
}
