//! The files of an archive: segments by timeline, the gaps between them, and which timeline forked from
//! which.

use super::Lsn;
use crate::{
    base::moment::Moment,
    provider::{Code, Error, Result},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Read as _},
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

/// The segment size of a cluster that was created without `--wal-segsize`.
const DEFAULT_SEGMENT_BYTES: u64 = 16 << 20;
const SEGMENT_BYTES_MIN: u64 = 1 << 20;
const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// The length read of a segment's first page header, and the offsets of its flags and system identifier.
const HEADER_BYTES: usize = 32;
const INFO_OFFSET: usize = 2;
const LONG_HEADER_FLAG: u16 = 2;
const SYSTEM_IDENTIFIER_OFFSET: usize = 24;

/// A folder of archived WAL.
#[derive(Debug, Clone)]
pub(in super::super) struct WalArchive {
    pub folder: PathBuf,
    /// The size of a segment.
    pub segment_bytes: u64,
    /// The archived part of each timeline, by timeline number.
    pub timelines: BTreeMap<u32, ArchivedTimeline>,
    /// Files with a segment's name but the wrong size; they are treated as missing.
    pub damaged: Vec<String>,
    /// The backup history files, of any tool: name, timeline and start position of the backup.
    pub backups: Vec<(String, u32, Lsn)>,
}

/// The archived part of one timeline.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct ArchivedTimeline {
    /// Segment numbers, counted from LSN 0.
    pub segments: BTreeSet<u64>,
    /// Ancestors from the history file, oldest first: the timeline and the position where it was left.
    pub ancestors: Vec<(u32, Lsn)>,
    /// When its history file was archived; the timeline existed by then.
    pub begun: Option<Moment>,
}

impl ArchivedTimeline {
    /// Returns the timeline that it forked from and the fork position; `None` without a history file.
    pub(in super::super) fn parent_timeline(&self) -> Option<(u32, Lsn)> {
        self.ancestors.last().copied()
    }

    /// Returns the ranges of consecutive segments, oldest first.
    pub(super) fn contiguous_segments(&self) -> Vec<RangeInclusive<u64>> {
        let mut runs: Vec<RangeInclusive<u64>> = Vec::new();
        for &segment in &self.segments {
            match runs.last_mut() {
                Some(run) if *run.end() + 1 == segment => *run = *run.start()..=segment,
                _ => runs.push(segment..=segment),
            }
        }
        runs
    }
}

impl WalArchive {
    /// Scans a folder of archived WAL.
    ///
    /// # Errors
    /// [`Code::Unavailable`] when the folder cannot be read.
    pub(in super::super) fn scan_folder(folder: &Path) -> Result<Self> {
        let unreadable = |why: io::Error| {
            Error::new(Code::Unavailable, format!("the archive `{}` cannot be read: {why}", folder.display()))
                .with_hint("see `archive_dir` of the target, and who may read it")
        };
        let (mut segments, mut histories) = (Vec::new(), Vec::new());
        let mut timelines: BTreeMap<u32, ArchivedTimeline> = BTreeMap::new();
        for entry in fs::read_dir(folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let Ok(file) = entry.file_name().into_string() else { continue };
            if is_segment_name(&file) {
                segments.push((file, entry.metadata().map_err(unreadable)?.len()));
            } else if file.ends_with(".backup") {
                histories.push(file);
            } else if let Some(timeline) = file.strip_suffix(".history").and_then(parse_hex_word) {
                let text = fs::read_to_string(entry.path()).map_err(unreadable)?;
                let there = timelines.entry(timeline).or_default();
                there.ancestors = parse_history_file(&text);
                let written = entry.metadata().and_then(|found| found.modified()).map_err(unreadable)?;
                there.begun = written.try_into().ok().map(Moment);
            }
        }
        let segment_bytes = detect_segment_bytes(&segments);
        let mut damaged = Vec::new();
        for (file, length) in segments {
            match parse_segment_name(&file, segment_bytes) {
                Some((timeline, number)) if length == segment_bytes => {
                    timelines.entry(timeline).or_default().segments.insert(number);
                }
                _ => damaged.push(file),
            }
        }
        let begins = |file: String| {
            let (segment, offset) = file.strip_suffix(".backup")?.split_once('.')?;
            let (timeline, number) =
                is_segment_name(segment).then(|| parse_segment_name(segment, segment_bytes))??;
            let lsn = Lsn(number * segment_bytes + u64::from(parse_hex_word(offset)?));
            Some((file, timeline, lsn))
        };
        let backups = histories.into_iter().filter_map(begins).collect();
        Ok(Self { folder: folder.into(), segment_bytes, timelines, damaged, backups })
    }

    /// Returns the system identifier in the first page of the newest segment; `None` if that page has none.
    pub(in super::super) fn system_identifier(&self) -> Option<String> {
        let newest = self.timelines.iter().rev().find_map(|(&timeline, there)| {
            there.segments.last().map(|segment| self.segment_name(timeline, *segment))
        })?;
        self.read_system_identifier(&newest)
    }

    /// Returns the system identifier in the first page of a segment.
    pub(in super::super) fn read_system_identifier(&self, segment: &str) -> Option<String> {
        let mut header = [0; HEADER_BYTES];
        fs::File::open(self.folder.join(segment)).and_then(|mut file| file.read_exact(&mut header)).ok()?;
        let info = u16::from_le_bytes(header[INFO_OFFSET..INFO_OFFSET + 2].try_into().ok()?);
        let identifier = u64::from_le_bytes(header[SYSTEM_IDENTIFIER_OFFSET..].try_into().ok()?);
        (info & LONG_HEADER_FLAG != 0).then(|| identifier.to_string())
    }

    /// Returns the name of a segment.
    pub(in super::super) fn segment_name(&self, timeline: u32, segment: u64) -> String {
        format_segment_name(timeline, segment, self.segment_bytes)
    }

    /// Returns the number of the segment that holds the byte at `lsn`.
    pub(in super::super) fn segment_at(&self, lsn: Lsn) -> u64 {
        lsn.0 / self.segment_bytes
    }

    /// Returns the position of the first byte of a segment.
    pub(in super::super) fn segment_start(&self, segment: u64) -> Lsn {
        Lsn(segment * self.segment_bytes)
    }

    /// Returns the names of the first and the last segment of a timeline.
    #[cfg(test)]
    pub(super) fn segment_bounds(&self, timeline: u32) -> Option<(String, String)> {
        let segments = &self.timelines.get(&timeline)?.segments;
        let (first, last) = (segments.first()?, segments.last()?);
        Some((self.segment_name(timeline, *first), self.segment_name(timeline, *last)))
    }

    /// Returns the gaps between the first and the last segment of a timeline, each as the names of
    /// its first and last missing segment.
    pub(in super::super) fn missing_segment_names(&self, timeline: u32) -> Vec<(String, String)> {
        let name = |segment| self.segment_name(timeline, segment);
        self.missing_segments(timeline)
            .into_iter()
            .map(|hole| (name(*hole.start()), name(*hole.end())))
            .collect()
    }

    /// Returns the gaps between the first and the last segment of a timeline.
    pub(in super::super) fn missing_segments(&self, timeline: u32) -> Vec<RangeInclusive<u64>> {
        let runs =
            self.timelines.get(&timeline).map(ArchivedTimeline::contiguous_segments).unwrap_or_default();
        runs.windows(2).map(|pair| pair[0].end() + 1..=pair[1].start() - 1).collect()
    }

    /// Returns the name of the first segment that is missing for a replay on `timeline` from `from` up to, and with,
    /// the byte before `to`; without `to`, up to the last segment there is. `None` when nothing is missing.
    ///
    /// WAL from before the timeline's fork is looked up on the ancestor that wrote it.
    pub(in super::super) fn first_missing_segment(
        &self,
        timeline: u32,
        from: Lsn,
        to: Option<Lsn>,
    ) -> Option<String> {
        let none = ArchivedTimeline::default();
        let there = self.timelines.get(&timeline).unwrap_or(&none);
        let last = match to {
            Some(to) => self.segment_at(Lsn(to.0.saturating_sub(1))),
            None => there.segments.last().copied().unwrap_or_default().max(self.segment_at(from)),
        };
        (self.segment_at(from)..=last).find_map(|segment| {
            let on = self.timeline_to_read(timeline, segment);
            let there = self.timelines.get(&on).is_some_and(|t| t.segments.contains(&segment));
            (!there).then(|| self.segment_name(on, segment))
        })
    }

    /// Returns the files that a replay on `timeline` reads from segment `from` up to the first missing one: ranges of
    /// segments, each with the timeline whose files they are.
    pub(super) fn replayed_segment_ranges(
        &self,
        timeline: u32,
        from: u64,
    ) -> Vec<(u32, RangeInclusive<u64>)> {
        let mut path: Vec<(u32, RangeInclusive<u64>)> = Vec::new();
        for segment in from.. {
            let on = self.timeline_to_read(timeline, segment);
            if !self.timelines.get(&on).is_some_and(|there| there.segments.contains(&segment)) {
                break;
            }
            match path.last_mut() {
                Some((last, run)) if *last == on => *run = *run.start()..=segment,
                _ => path.push((on, segment..=segment)),
            }
        }
        path
    }

    /// Returns whether a record in a file of `timeline` belongs to that timeline. A record from before the
    /// fork belongs to the parent if the archive has the parent's file of that segment. Often it does not,
    /// because the parent ended before the segment was full.
    pub(super) fn belongs_to_timeline(&self, timeline: u32, lsn: Lsn) -> bool {
        let Some((parent, fork)) = self.timelines.get(&timeline).and_then(ArchivedTimeline::parent_timeline)
        else {
            return true;
        };
        let parent = self.timelines.get(&parent);
        lsn >= fork || !parent.is_some_and(|p| p.segments.contains(&self.segment_at(lsn)))
    }

    /// Returns whether what a file of timeline `on` has at `lsn` is part of the history of `timeline`.
    pub(in super::super) fn is_in_history(&self, timeline: u32, on: u32, lsn: Lsn) -> bool {
        let ancestors = self.timelines.get(&timeline).map(|t| t.ancestors.as_slice()).unwrap_or_default();
        timeline == on || ancestors.iter().any(|(ancestor, left)| *ancestor == on && lsn < *left)
    }

    /// Returns the timeline that wrote what a file of `timeline` has at `lsn`: a file in which a timeline began has the end
    /// of its ancestor, too.
    pub(in super::super) fn timeline_that_wrote(&self, timeline: u32, lsn: Lsn) -> u32 {
        let ancestors = self.timelines.get(&timeline).map(|t| t.ancestors.as_slice()).unwrap_or_default();
        let older = ancestors.iter().find(|(_, left)| lsn < *left);
        older.map_or(timeline, |(ancestor, _)| *ancestor)
    }

    /// Returns the timeline whose file of a segment a replay on `timeline` needs: the newest that had begun by then.
    fn timeline_to_read(&self, timeline: u32, segment: u64) -> u32 {
        let ancestors = self.timelines.get(&timeline).map(|t| t.ancestors.as_slice()).unwrap_or_default();
        let older = ancestors.iter().find(|(_, left)| segment < self.segment_at(*left));
        older.map_or(timeline, |(ancestor, _)| *ancestor)
    }
}

/// Returns the name of a segment of a timeline.
fn format_segment_name(timeline: u32, segment: u64, segment_bytes: u64) -> String {
    let each = (1 << 32) / segment_bytes;
    format!("{timeline:08X}{:08X}{:08X}", segment / each, segment % each)
}

/// Returns the name of the segment that holds the last byte before `lsn`.
pub(in super::super) fn segment_name_before(timeline: u32, lsn: &str, segment_bytes: u64) -> Option<String> {
    let number = Lsn::parse(lsn).ok()?.0.checked_sub(1)? / segment_bytes;
    Some(format_segment_name(timeline, number, segment_bytes))
}

/// Returns the timeline and the number of a segment, from its name.
fn parse_segment_name(name: &str, segment_bytes: u64) -> Option<(u32, u64)> {
    let (timeline, log, part) =
        (parse_hex_word(&name[..8])?, parse_hex_word(&name[8..16])?, parse_hex_word(&name[16..])?);
    let each = (1 << 32) / segment_bytes;
    (u64::from(part) < each).then_some((timeline, u64::from(log) * each + u64::from(part)))
}

fn parse_hex_word(digits: &str) -> Option<u32> {
    u32::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 8)
}

fn is_segment_name(name: &str) -> bool {
    name.len() == 24 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'))
}

/// Returns the most common segment size, so that a truncated file does not decide.
fn detect_segment_bytes(segments: &[(String, u64)]) -> u64 {
    let mut lengths: BTreeMap<u64, usize> = BTreeMap::new();
    for (_, length) in segments {
        if length.is_power_of_two() && (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(length) {
            *lengths.entry(*length).or_default() += 1;
        }
    }
    lengths.into_iter().max_by_key(|(_, files)| *files).map_or(DEFAULT_SEGMENT_BYTES, |(length, _)| length)
}

/// Parses a history file: one ancestor per line, as number, position and reason separated by tabs.
fn parse_history_file(text: &str) -> Vec<(u32, Lsn)> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        Some((words.next()?.parse().ok()?, Lsn::parse(words.next()?).ok()?))
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make_archive(segment_bytes: u64, files: &[&str]) -> (tempfile::TempDir, WalArchive) {
        let folder = tempfile::tempdir().expect("a folder");
        for file in files {
            let made = fs::File::create(folder.path().join(file)).expect("a file");
            made.set_len(segment_bytes).expect("its length");
        }
        let read = WalArchive::scan_folder(folder.path()).expect("an archive");
        (folder, read)
    }

    #[test]
    fn holes_are_named() {
        let (_folder, read) = make_archive(
            1 << 20,
            &[
                "000000010000000000000002",
                "000000010000000000000003",
                "000000010000000000000006",
                "000000010000000000000003.00000028.backup",
                "000000010000000000000007.partial",
            ],
        );
        assert_eq!(read.segment_bytes, 1 << 20);
        let hole = ("000000010000000000000004".to_owned(), "000000010000000000000005".to_owned());
        assert_eq!(read.missing_segment_names(1), [hole]);
        assert_eq!(read.segment_bounds(1).expect("bounds").1, "000000010000000000000006");
        let missing = |from, to| read.first_missing_segment(1, from, to);
        assert_eq!(missing(Lsn(0x20_0028), Some(Lsn(0x40_0000))), None);
        assert_eq!(
            missing(Lsn(0x20_0028), Some(Lsn(0x40_0001))).as_deref(),
            Some("000000010000000000000004")
        );
        assert_eq!(missing(Lsn(0x20_0028), None).as_deref(), Some("000000010000000000000004"));
        assert_eq!(missing(Lsn(0x10_0000), None).as_deref(), Some("000000010000000000000001"));
        assert_eq!(missing(Lsn(0x60_0000), None), None);
    }

    #[test]
    fn the_first_page_says_whose_it_is() {
        let newest = "000000020000000000000004";
        let (folder, read) = make_archive(1 << 20, &["000000010000000000000003", newest]);
        assert_eq!(read.system_identifier(), None, "no page at all");
        let mut page = [0; 40];
        page[..2].copy_from_slice(&0xD110_u16.to_le_bytes());
        page[2] = 2;
        page[24..32].copy_from_slice(&7_552_345_678_901_234_567_u64.to_le_bytes());
        let path = folder.path().join(newest);
        let mut file = fs::File::options().write(true).open(path).expect("a file");
        std::io::Write::write_all(&mut file, &page).expect("written");
        assert_eq!(read.system_identifier().as_deref(), Some("7552345678901234567"));
    }

    #[test]
    fn a_short_file_is_as_good_as_missing() {
        let (folder, _) =
            make_archive(DEFAULT_SEGMENT_BYTES, &["0000000100000000000000FF", "000000010000000100000001"]);
        fs::File::create(folder.path().join("000000010000000100000000")).expect("an empty file");
        let read = WalArchive::scan_folder(folder.path()).expect("an archive");
        assert_eq!(read.damaged, ["000000010000000100000000"]);
        assert_eq!(read.missing_segment_names(1).len(), 1);
        assert_eq!(read.missing_segment_names(1)[0].0, "000000010000000100000000");
    }

    #[test]
    fn what_lies_before_a_fork_is_the_parents() {
        let (folder, _) = make_archive(
            1 << 20,
            &["000000010000000000000002", "000000010000000000000003", "000000030000000000000005"],
        );
        let history = "1\t0/300148\tno recovery target specified\n\n2\t0/500000\tbefore 2026-11-20\n";
        fs::write(folder.path().join("00000003.history"), history).expect("a history");
        let read = WalArchive::scan_folder(folder.path()).expect("an archive");
        assert_eq!(read.timelines[&3].parent_timeline(), Some((2, Lsn(0x50_0000))));
        // Segment 3 holds the first fork: the child's copy of it is the one that goes on.
        let missing = |from| read.first_missing_segment(3, Lsn(from), None);
        assert_eq!(missing(0x20_0000).as_deref(), Some("000000020000000000000003"));
        assert_eq!(missing(0x50_0000), None);
    }
}
