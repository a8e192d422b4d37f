//! The bytes of WAL records: the contents of segments without page headers.
//!
//! Only what `pg_waldump` does not print is read here: the time of a restore point, and names in rows of
//! `pg_class` and `pg_namespace`. Rows are not decoded; they are recognized by their fixed start: the OID,
//! then the name in 64 zero-padded bytes.

use super::{Lsn, WalArchive, names::Relation};
use crate::{
    base::moment::{Moment, Span},
    provider::{Code, Error, Result},
};
use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
};

/// The size of a page header, and of the longer one on a segment's first page.
const PAGE_HEADER_BYTES: usize = 24;
const LONG_PAGE_HEADER_BYTES: usize = 40;
/// The offset of the page size in the long header.
const PAGE_BYTES_OFFSET: usize = 36;
/// The size of a record's header with the two bytes before its data.
const RECORD_HEADER_BYTES: usize = 24 + 2;
/// Seconds from 1970 to 2000, where PostgreSQL's time begins.
const POSTGRES_EPOCH_SECONDS: i64 = 946_684_800;
/// The length of a name.
const NAME_BYTES: usize = 64;

impl WalArchive {
    /// Returns the bytes of a timeline from `from` to `to` without page headers.
    ///
    /// # Errors
    /// [`Code::WalGap`] when a segment cannot be read.
    pub(super) fn read_payload(&self, timeline: u32, from: Lsn, to: Lsn) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for segment in self.segment_at(from)..=self.segment_at(to) {
            let start = self.segment_start(segment).0;
            let (skip, end) = (from.0.saturating_sub(start), (to.0 - start).min(self.segment_bytes));
            let name = self.segment_name(timeline, segment);
            self.append_payload(&name, skip, end, &mut bytes)
                .map_err(|e| Error::new(Code::WalGap, format!("the segment `{name}` cannot be read: {e}")))?;
        }
        Ok(bytes)
    }

    /// Appends what lies between two offsets of a segment.
    fn append_payload(&self, name: &str, from: u64, to: u64, bytes: &mut Vec<u8>) -> io::Result<()> {
        let mut file = File::open(self.folder.join(name))?;
        let mut header = [0; LONG_PAGE_HEADER_BYTES];
        file.read_exact(&mut header)?;
        let page = u64::from(read_u32(&header, PAGE_BYTES_OFFSET).unwrap_or_default());
        if !page.is_power_of_two() {
            return Err(io::Error::other("it does not say how long its pages are"));
        }
        let mut at = from - from % page;
        file.seek(SeekFrom::Start(at))?;
        let mut buffer = vec![0; usize::try_from(page).map_err(io::Error::other)?];
        while at < to {
            file.read_exact(&mut buffer)?;
            let header = if at == 0 { LONG_PAGE_HEADER_BYTES } else { PAGE_HEADER_BYTES };
            let within = |place: u64| usize::try_from(place.saturating_sub(at).min(page)).unwrap_or(0);
            let (start, end) = (within(from).max(header), within(to));
            bytes.extend_from_slice(buffer.get(start..end).unwrap_or_default());
            at += page;
        }
        Ok(())
    }

    /// Returns when the restore point at `lsn` was made: the first eight bytes of its data, microseconds since 2000.
    pub(super) fn read_restore_point_time(&self, timeline: u32, lsn: Lsn) -> Result<Moment> {
        // Two page headers at most lie in between.
        let bytes = self.read_payload(timeline, lsn, Lsn(lsn.0 + 256))?;
        let data = bytes.get(RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + 8).and_then(|d| d.try_into().ok());
        let micros = data
            .map(i64::from_le_bytes)
            .ok_or_else(|| Error::new(Code::WalGap, format!("the restore point at {lsn} is not whole")))?;
        let epoch = Moment(jiff::Timestamp::from_second(POSTGRES_EPOCH_SECONDS).unwrap_or_default());
        Ok(epoch.saturating_add(Span(jiff::SignedDuration::from_micros(micros))))
    }
}

/// Finds the newest row of `pg_class` for `oid`: its name, the oid of its schema, and its kind.
pub(super) fn find_class_row(bytes: &[u8], oid: u32) -> Option<(Relation, u32)> {
    find_catalog_rows(bytes, oid).filter_map(|(row, name)| parse_class_row(row, name)).last()
}

/// Finds the newest row of `pg_namespace` for `oid` and returns its name.
pub(super) fn find_schema_name(bytes: &[u8], oid: u32) -> Option<String> {
    find_catalog_rows(bytes, oid).last().map(|(_, name)| name)
}

/// Returns every place that starts with `oid` and a padded name.
fn find_catalog_rows(bytes: &[u8], oid: u32) -> impl Iterator<Item = (&[u8], String)> {
    let oid = oid.to_le_bytes();
    let first = oid[0];
    let starts = bytes.iter().enumerate().filter(move |(_, byte)| **byte == first).map(|(at, _)| at);
    starts.map(|at| &bytes[at..]).filter(move |row| row.starts_with(&oid)).filter_map(|row| {
        let name = row.get(4..4 + NAME_BYTES)?;
        let end = name.iter().position(|byte| *byte == 0).filter(|end| *end > 0)?;
        let padded = name[end..].iter().all(|byte| *byte == 0);
        let name = std::str::from_utf8(&name[..end]).ok()?;
        (padded && !name.chars().any(char::is_control)).then(|| (row, name.to_owned()))
    })
}

/// Parses the rest of a `pg_class` row after the name. PostgreSQL 18 moved persistence and kind by four
/// bytes.
fn parse_class_row(row: &[u8], name: String) -> Option<(Relation, u32)> {
    let schema = read_u32(row, 4 + NAME_BYTES)?;
    let is = |at: usize, letters: &[u8]| row.get(at).is_some_and(|byte| letters.contains(byte));
    let at = [114, 118].into_iter().find(|at| is(*at, b"put") && is(at + 1, b"rpiItSmvfc"))?;
    let relation = Relation { schema: None, name, kind: char::from(row[at + 1]), temporary: row[at] == b't' };
    Some((relation, schema))
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes)
}
