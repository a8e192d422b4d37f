//! What `pg_waldump` says, record by record.

use super::{Archive, Lsn, Timeline};
use crate::{
    base::moment::Moment,
    provider::{
        Code, Error, Result,
        postgres::tools::{Tools, tail},
    },
};
use std::{ffi::OsStr, ops::RangeInclusive, process::Stdio};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

/// A transaction's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Commit {
    /// When, to the microsecond.
    pub time: Moment,
    /// The place of the record.
    pub lsn: Lsn,
    /// The transaction's id, without its epoch.
    pub xid: u32,
}

/// A named restore point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct RestorePoint {
    /// When it was made.
    pub time: Moment,
    /// The place of the record.
    pub lsn: Lsn,
    /// The timeline it is on.
    pub timeline: u32,
}

/// What `pg_waldump` says where the archive ends.
const ENDS: &[&str] = &["could not find a valid record"];

/// One record.
pub(super) struct Record<'a> {
    /// The kind of thing it is about: `Heap`, `Transaction`.
    pub rmgr: &'a str,
    /// The transaction, without its epoch; 0 for none.
    pub xid: u32,
    /// Its place.
    pub lsn: Lsn,
    /// What it says.
    pub desc: &'a str,
}

/// Which stretch of WAL to read.
pub(super) enum Stretch {
    /// Whole segments of one timeline, without a hole.
    Segments(RangeInclusive<u64>),
    /// From one place up to another. `pg_waldump` waits five seconds for a segment that is not there: the end is never
    /// left open.
    Places(Lsn, Lsn),
}

impl Archive {
    /// Gives every record of the kinds `rmgrs` (none: of all kinds) to `look` until it answers `false`.
    ///
    /// # Errors
    /// [`Code::Tool`] when `pg_waldump` cannot do its work, [`Code::CorruptBackup`] when it stops before the last of
    /// the segments.
    pub(super) async fn read(
        &self,
        tools: &Tools,
        timeline: u32,
        stretch: &Stretch,
        rmgrs: &[&str],
        mut look: impl FnMut(&Record<'_>) -> bool + Send,
    ) -> Result<()> {
        let mut command = tools.command("pg_waldump");
        command.args([OsStr::new("--path"), self.folder.as_os_str()]);
        for rmgr in rmgrs {
            command.args(["--rmgr", rmgr]);
        }
        match stretch {
            Stretch::Segments(run) => {
                command.args([self.name(timeline, *run.start()), self.name(timeline, *run.end())]);
            }
            Stretch::Places(from, to) => {
                command.args(["--timeline", &timeline.to_string()]);
                command.args(["--start", &from.to_string(), "--end", &to.to_string()]);
            }
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let failed = |e: std::io::Error| Error::new(Code::Tool, format!("`pg_waldump` cannot be run: {e}"));
        let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn().map_err(failed)?;
        let (Some(stdout), Some(mut stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(Error::new(Code::Internal, "`pg_waldump` was started without its pipes"));
        };
        let mut lines = BufReader::with_capacity(1 << 16, stdout);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).await.map_err(failed)? > 0 {
            // A restore point's name may be in any encoding.
            let text = String::from_utf8_lossy(&line);
            let record = Record::parse(text.trim_end_matches('\n'));
            if record.is_some_and(|record| !look(&record)) {
                return Ok(());
            }
            line.clear();
        }
        let mut said = Vec::new();
        stderr.read_to_end(&mut said).await.map_err(failed)?;
        self.judge(timeline, stretch, &said)
    }

    /// Tells the end of what was written, which `pg_waldump` calls an error, from what is one.
    fn judge(&self, timeline: u32, stretch: &Stretch, said: &[u8]) -> Result<()> {
        let words = String::from_utf8_lossy(said);
        let stopped = words.split_once("error in WAL record at ").map(|(_, rest)| rest);
        let stopped = stopped.and_then(|rest| Lsn::parse(rest.split_once(':')?.0).ok());
        match (stretch, stopped) {
            (Stretch::Segments(run), Some(at)) if self.segment_of(at) < *run.end() => Err(Error::new(
                Code::CorruptBackup,
                format!(
                    "the archived segment `{}` cannot be read past {at}: {}",
                    self.name(timeline, self.segment_of(at)),
                    tail(said)
                ),
            )
            .hint("what comes after it cannot be replayed; make a new backup")),
            _ if said.is_empty() || stopped.is_some() || ENDS.iter().any(|end| words.contains(end)) => Ok(()),
            _ => Err(Error::new(Code::Tool, format!("`pg_waldump` cannot read the archive: {}", tail(said)))),
        }
    }

    /// Returns the last commit that a replay on `timeline` comes to, from its newest segment backward and on to its
    /// ancestors. After a hole, what is behind it counts too: see [`Archive::first_missing`].
    ///
    /// # Errors
    /// [`Code::Tool`].
    pub(in super::super) async fn last_commit(&self, tools: &Tools, timeline: u32) -> Result<Option<Commit>> {
        let ancestors = self.timelines.get(&timeline).map(|t| t.ancestors.as_slice()).unwrap_or_default();
        let mut found = self.last_commit_before(tools, timeline, Lsn(u64::MAX)).await?;
        for &(ancestor, left) in ancestors.iter().rev() {
            if found.is_none() {
                found = self.last_commit_before(tools, ancestor, left).await?;
            }
        }
        Ok(found)
    }

    /// Returns the last commit in the files of one timeline before `end`.
    async fn last_commit_before(&self, tools: &Tools, timeline: u32, end: Lsn) -> Result<Option<Commit>> {
        let runs = self.timelines.get(&timeline).map(Timeline::runs).unwrap_or_default();
        for run in runs.into_iter().rev() {
            for first in run.clone().rev() {
                // The record may start in one segment and end in the next, which is why we read on to the end.
                let stretch = Stretch::Segments(first..=*run.end());
                let mut found = None;
                let read = self.read(tools, timeline, &stretch, &["Transaction"], |record| {
                    found = record.commit().filter(|c| c.lsn < end).or(found.take());
                    true
                });
                read.await?;
                if found.is_some() {
                    return Ok(found);
                }
            }
        }
        Ok(None)
    }

    /// Returns the first commit on a timeline at or after `from` and before the next hole.
    ///
    /// # Errors
    /// [`Code::Tool`].
    pub(in super::super) async fn first_commit(
        &self,
        tools: &Tools,
        timeline: u32,
        from: Lsn,
    ) -> Result<Option<Commit>> {
        let runs = self.timelines.get(&timeline).map(Timeline::runs).unwrap_or_default();
        let Some(run) = runs.into_iter().find(|run| run.contains(&self.segment_of(from))) else {
            return Ok(None);
        };
        let stretch = Stretch::Places(from, self.start_of(run.end() + 1));
        let mut found = None;
        let read = self.read(tools, timeline, &stretch, &["Transaction"], |record| {
            found = record.commit();
            found.is_none()
        });
        read.await?;
        Ok(found)
    }

    /// Gives every record of the kinds `rmgrs` that a replay on `timeline` from `from` on comes to, up to the first hole
    /// or the end, to `look` until it answers `false`.
    ///
    /// # Errors
    /// As for [`Archive::read`].
    pub(super) async fn replay(
        &self,
        tools: &Tools,
        timeline: u32,
        from: Lsn,
        rmgrs: &[&str],
        mut look: impl FnMut(&Record<'_>) -> bool + Send,
    ) -> Result<()> {
        let mut goes_on = true;
        for (on, run) in self.path(timeline, self.segment_of(from)) {
            let stretch =
                Stretch::Places(from.max(self.start_of(*run.start())), self.start_of(run.end() + 1));
            let read = self.read(tools, on, &stretch, rmgrs, |record| {
                goes_on = look(record);
                goes_on
            });
            read.await?;
            if !goes_on {
                break;
            }
        }
        Ok(())
    }

    /// Returns every restore point of that name in the archive, newest first.
    ///
    /// # Errors
    /// [`Code::Tool`].
    pub(in super::super) async fn restore_points(
        &self,
        tools: &Tools,
        name: &str,
    ) -> Result<Vec<RestorePoint>> {
        let mut points = Vec::new();
        for (&timeline, there) in &self.timelines {
            let mut places = Vec::new();
            for run in there.runs() {
                let stretch = Stretch::Segments(run);
                let read = self.read(tools, timeline, &stretch, &["XLOG"], |record| {
                    if record.desc.strip_prefix("RESTORE_POINT ") == Some(name)
                        && self.counts(timeline, record.lsn)
                    {
                        places.push(record.lsn);
                    }
                    true
                });
                read.await?;
            }
            for lsn in places {
                points.push(RestorePoint { time: self.time_of_restore_point(timeline, lsn)?, lsn, timeline });
            }
        }
        points.sort_by_key(|point| std::cmp::Reverse(point.time));
        Ok(points)
    }
}

impl<'a> Record<'a> {
    /// Reads `rmgr: Heap  len (rec/tot): …, tx: 7, lsn: 0/1, prev 0/0, desc: …`.
    fn parse(line: &'a str) -> Option<Self> {
        let rest = line.strip_prefix("rmgr: ")?;
        let (rmgr, rest) = rest.split_once(' ')?;
        let (_, rest) = rest.split_once("tx:")?;
        let (xid, rest) = rest.split_once(',')?;
        let (_, rest) = rest.split_once("lsn: ")?;
        let (lsn, rest) = rest.split_once(',')?;
        let (_, desc) = rest.split_once("desc: ")?;
        Some(Self { rmgr, xid: xid.trim().parse().ok()?, lsn: Lsn::parse(lsn).ok()?, desc })
    }

    /// Returns the commit that this record is, if it is one; that of a prepared transaction has its id in words.
    pub(super) fn commit(&self) -> Option<Commit> {
        let (kind, rest) = self.desc.split_once(' ')?;
        let (xid, rest) = match kind {
            "COMMIT" => (self.xid, rest),
            "COMMIT_PREPARED" => {
                let (xid, rest) = rest.split_once(": ")?;
                (xid.parse().ok()?, rest)
            }
            _ => return None,
        };
        Some(Commit { time: moment(rest.split(';').next()?)?, lsn: self.lsn, xid })
    }
}

/// Reads `2026-11-20 10:47:42.448317 UTC`; the programs run in UTC.
fn moment(text: &str) -> Option<Moment> {
    let text = text.trim().strip_suffix(" UTC")?;
    Moment::parse(&format!("{}Z", text.replacen(' ', "T", 1))).ok()
}
