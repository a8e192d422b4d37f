//! Runs `pg_waldump` and parses its output, record by record.

use super::{
    Lsn,
    archive::{ArchivedTimeline, WalArchive},
};
use crate::{
    base::moment::Moment,
    provider::{
        Code, Error, Result,
        host::programs::{Programs, tail_output},
        model::RestorePoint,
    },
};
use std::{ffi::OsStr, ops::RangeInclusive, process::Stdio};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

/// The commit of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Commit {
    /// The commit time, to the microsecond.
    pub time: Moment,
    /// The position of the record.
    pub lsn: Lsn,
    /// The transaction's id, without its epoch.
    pub xid: u32,
}

/// A named restore point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct WalRestorePoint {
    pub name: String,
    /// When it was made.
    pub time: Moment,
    /// The position of the record.
    pub lsn: Lsn,
    /// The timeline whose file it is in.
    pub timeline: u32,
}

impl WalRestorePoint {
    /// Returns the restore point as providers return it.
    pub(in super::super) fn to_restore_point(&self) -> RestorePoint {
        RestorePoint {
            name: self.name.clone(),
            lsn: Some(self.lsn.to_string()),
            timeline: Some(self.timeline),
            time: self.time,
        }
    }
}

/// The messages of `pg_waldump` at the end of the WAL; they are no error.
const END_OF_WAL_MESSAGES: &[&str] = &["could not find a valid record"];

/// One WAL record.
pub(super) struct WalRecord<'a> {
    /// The resource manager: `Heap`, `Transaction`.
    pub rmgr: &'a str,
    /// The transaction id without epoch; 0 for none.
    pub xid: u32,
    pub lsn: Lsn,
    /// The description that `pg_waldump` prints.
    pub desc: &'a str,
}

/// A range of WAL to read.
pub(super) enum WalRange {
    /// Consecutive whole segments of one timeline.
    Segments(RangeInclusive<u64>),
    /// From one position to another. `pg_waldump` waits five seconds for a missing segment, so the end is
    /// never open.
    Between(Lsn, Lsn),
}

impl WalArchive {
    /// Passes every record of the resource managers `rmgrs` (empty: all) to `visit` until it returns `false`.
    ///
    /// # Errors
    /// [`Code::Tool`] when `pg_waldump` cannot do its work, [`Code::CorruptBackup`] when it stops before the last of
    /// the segments.
    pub(super) async fn visit_records(
        &self,
        programs: &Programs,
        timeline: u32,
        range: &WalRange,
        rmgrs: &[&str],
        mut visit: impl FnMut(&WalRecord<'_>) -> bool + Send,
    ) -> Result<()> {
        let mut command = programs.command("pg_waldump");
        command.args([OsStr::new("--path"), self.folder.as_os_str()]);
        for rmgr in rmgrs {
            command.args(["--rmgr", rmgr]);
        }
        match range {
            WalRange::Segments(run) => {
                command.args([
                    self.segment_name(timeline, *run.start()),
                    self.segment_name(timeline, *run.end()),
                ]);
            }
            WalRange::Between(from, to) => {
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
            let record = WalRecord::parse_line(text.trim_end_matches('\n'));
            if record.is_some_and(|record| !visit(&record)) {
                return Ok(());
            }
            line.clear();
        }
        let mut said = Vec::new();
        stderr.read_to_end(&mut said).await.map_err(failed)?;
        self.check_waldump_errors(timeline, range, &said)
    }

    /// Tells a real error in `said` from the end of the WAL, which `pg_waldump` also reports as an error.
    fn check_waldump_errors(&self, timeline: u32, range: &WalRange, said: &[u8]) -> Result<()> {
        let words = String::from_utf8_lossy(said);
        let stopped = words.split_once("error in WAL record at ").map(|(_, rest)| rest);
        let stopped = stopped.and_then(|rest| Lsn::parse(rest.split_once(':')?.0).ok());
        match (range, stopped) {
            (WalRange::Segments(run), Some(at)) if self.segment_at(at) < *run.end() => Err(Error::new(
                Code::CorruptBackup,
                format!(
                    "the archived segment `{}` cannot be read past {at}: {}",
                    self.segment_name(timeline, self.segment_at(at)),
                    tail_output(said)
                ),
            )
            .with_hint("what comes after it cannot be replayed; make a new backup")),
            _ if said.is_empty()
                || stopped.is_some()
                || END_OF_WAL_MESSAGES.iter().any(|end| words.contains(end)) =>
            {
                Ok(())
            }
            _ => Err(Error::new(
                Code::Tool,
                format!("`pg_waldump` cannot read the archive: {}", tail_output(said)),
            )),
        }
    }

    /// Returns the last commit that a replay on `timeline` reaches, searching backward from its newest
    /// segment into its ancestors. Commits behind a gap count too.
    ///
    /// # Errors
    /// [`Code::Tool`].
    pub(in super::super) async fn find_last_commit(
        &self,
        programs: &Programs,
        timeline: u32,
    ) -> Result<Option<Commit>> {
        let ancestors = self.timelines.get(&timeline).map(|t| t.ancestors.as_slice()).unwrap_or_default();
        let mut found = self.find_last_commit_before(programs, timeline, Lsn(u64::MAX)).await?;
        for &(ancestor, left) in ancestors.iter().rev() {
            if found.is_none() {
                found = self.find_last_commit_before(programs, ancestor, left).await?;
            }
        }
        Ok(found)
    }

    /// Returns the last commit in the files of one timeline before `end`.
    async fn find_last_commit_before(
        &self,
        programs: &Programs,
        timeline: u32,
        end: Lsn,
    ) -> Result<Option<Commit>> {
        let runs =
            self.timelines.get(&timeline).map(ArchivedTimeline::contiguous_segments).unwrap_or_default();
        for run in runs.into_iter().rev() {
            for first in run.clone().rev() {
                // The record may start in one segment and end in the next, which is why we read on to the end.
                let range = WalRange::Segments(first..=*run.end());
                let mut found = None;
                let read = self.visit_records(programs, timeline, &range, &["Transaction"], |record| {
                    found = record.to_commit().filter(|c| c.lsn < end).or(found.take());
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

    /// Returns the first commit on a timeline at or after `from` and before the next gap.
    ///
    /// # Errors
    /// [`Code::Tool`].
    pub(in super::super) async fn find_first_commit(
        &self,
        programs: &Programs,
        timeline: u32,
        from: Lsn,
    ) -> Result<Option<Commit>> {
        let runs =
            self.timelines.get(&timeline).map(ArchivedTimeline::contiguous_segments).unwrap_or_default();
        let Some(run) = runs.into_iter().find(|run| run.contains(&self.segment_at(from))) else {
            return Ok(None);
        };
        let range = WalRange::Between(from, self.segment_start(run.end() + 1));
        let mut found = None;
        let read = self.visit_records(programs, timeline, &range, &["Transaction"], |record| {
            found = record.to_commit();
            found.is_none()
        });
        read.await?;
        Ok(found)
    }

    /// Passes every record of the resource managers `rmgrs` that a replay on `timeline` from `from` reaches,
    /// up to the first gap or the end, to `visit` until it returns `false`.
    ///
    /// # Errors
    /// As for a read of one range.
    pub(super) async fn visit_replayed_records(
        &self,
        programs: &Programs,
        timeline: u32,
        from: Lsn,
        rmgrs: &[&str],
        mut visit: impl FnMut(&WalRecord<'_>) -> bool + Send,
    ) -> Result<()> {
        let mut goes_on = true;
        for (on, run) in self.replayed_segment_ranges(timeline, self.segment_at(from)) {
            let range = WalRange::Between(
                from.max(self.segment_start(*run.start())),
                self.segment_start(run.end() + 1),
            );
            let read = self.visit_records(programs, on, &range, rmgrs, |record| {
                goes_on = visit(record);
                goes_on
            });
            read.await?;
            if !goes_on {
                break;
            }
        }
        Ok(())
    }

    /// Returns every restore point in these segments of every timeline, newest first.
    ///
    /// # Errors
    /// [`Code::Tool`].
    pub(in super::super) async fn list_restore_points(
        &self,
        programs: &Programs,
        within: RangeInclusive<u64>,
    ) -> Result<Vec<WalRestorePoint>> {
        let mut points = Vec::new();
        for (&timeline, there) in &self.timelines {
            let mut found = Vec::new();
            for run in there.contiguous_segments() {
                let run = *run.start().max(within.start())..=*run.end().min(within.end());
                if run.is_empty() {
                    continue;
                }
                let range = WalRange::Segments(run);
                let read = self.visit_records(programs, timeline, &range, &["XLOG"], |record| {
                    if let Some(name) = record.desc.strip_prefix("RESTORE_POINT ")
                        && self.belongs_to_timeline(timeline, record.lsn)
                    {
                        found.push((name.to_owned(), record.lsn));
                    }
                    true
                });
                read.await?;
            }
            for (name, lsn) in found {
                let time = self.read_restore_point_time(timeline, lsn)?;
                points.push(WalRestorePoint { name, time, lsn, timeline });
            }
        }
        points.sort_by_key(|point| std::cmp::Reverse(point.time));
        Ok(points)
    }
}

impl<'a> WalRecord<'a> {
    /// Reads `rmgr: Heap  len (rec/tot): …, tx: 7, lsn: 0/1, prev 0/0, desc: …`.
    fn parse_line(line: &'a str) -> Option<Self> {
        let rest = line.strip_prefix("rmgr: ")?;
        let (rmgr, rest) = rest.split_once(' ')?;
        let (_, rest) = rest.split_once("tx:")?;
        let (xid, rest) = rest.split_once(',')?;
        let (_, rest) = rest.split_once("lsn: ")?;
        let (lsn, rest) = rest.split_once(',')?;
        let (_, desc) = rest.split_once("desc: ")?;
        Some(Self { rmgr, xid: xid.trim().parse().ok()?, lsn: Lsn::parse(lsn).ok()?, desc })
    }

    /// Returns this record as a commit. `COMMIT_PREPARED` carries the transaction id in its description.
    pub(super) fn to_commit(&self) -> Option<Commit> {
        let (kind, rest) = self.desc.split_once(' ')?;
        let (xid, rest) = match kind {
            "COMMIT" => (self.xid, rest),
            "COMMIT_PREPARED" => {
                let (xid, rest) = rest.split_once(": ")?;
                (xid.parse().ok()?, rest)
            }
            _ => return None,
        };
        Some(Commit { time: parse_waldump_time(rest.split(';').next()?)?, lsn: self.lsn, xid })
    }
}

/// Reads `2026-11-20 10:47:42.448317 UTC`; the programs run in UTC.
fn parse_waldump_time(text: &str) -> Option<Moment> {
    let text = text.trim().strip_suffix(" UTC")?;
    Moment::parse(&format!("{}Z", text.replacen(' ', "T", 1))).ok()
}
