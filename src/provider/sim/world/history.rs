//! Timelines: the statements of each, in order, and where it forked from another.
//!
//! A timeline (`line` for short) begins empty or forks from another at a place in its log; what it holds is its parent's
//! statements up to the fork and then its own. Nothing in a timeline ever changes or goes away, so a branch shares the
//! past of its source and neither can reach the other. Places and transaction ids are given out once for the whole
//! world.

use super::{
    content::{Content, StatementOutcome},
    content_cache::{ContentFacts, ContentSummary},
    entry::HistoryEntry,
    time::from_micros,
    tx::{WorldTx, store_error},
};
use crate::{base::moment::Moment, provider::Result};
use rusqlite::{OptionalExtension as _, Row, params};

/// A timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::provider::sim) struct Timeline {
    /// Its id in the world.
    pub(in crate::provider::sim) id: i64,
    /// Its number, as PostgreSQL counts timelines.
    pub(super) number: i64,
    /// The timeline it forked from, and after which place.
    pub(in crate::provider::sim) fork: Option<(i64, i64)>,
    /// The place at which it began.
    pub(super) start: i64,
    /// When it began, in microseconds since 1970.
    pub(super) begun_at: i64,
    /// When a restore in place ended it.
    pub(super) ended_at: Option<i64>,
}

const SELECT_TIMELINES: &str = "select id, number, parent, fork, start, begun_at, ended_at from lines";

fn read_timeline_row(row: &Row<'_>) -> rusqlite::Result<Timeline> {
    let parent: Option<i64> = row.get(2)?;
    let fork: Option<i64> = row.get(3)?;
    Ok(Timeline {
        id: row.get(0)?,
        number: row.get(1)?,
        fork: parent.zip(fork),
        start: row.get(4)?,
        begun_at: row.get(5)?,
        ended_at: row.get(6)?,
    })
}

fn read_history_entry(row: &Row<'_>) -> rusqlite::Result<HistoryEntry> {
    Ok(HistoryEntry { lsn: row.get(0)?, xid: row.get(1)?, at: row.get(2)?, sql: row.get(3)? })
}

impl WorldTx<'_> {
    /// Returns the timeline that the target is on.
    pub(in crate::provider::sim) fn main_timeline(&self) -> Result<Timeline> {
        let sql = format!("{SELECT_TIMELINES} where branch is null and ended_at is null");
        self.conn.query_row(&sql, [], read_timeline_row).map_err(|e| store_error(&e))
    }

    /// Returns every timeline that the target was on, oldest first.
    pub(super) fn main_timelines(&self) -> Result<Vec<Timeline>> {
        self.query_rows(
            &format!("{SELECT_TIMELINES} where branch is null order by number"),
            [],
            read_timeline_row,
        )
    }

    /// Returns a timeline.
    pub(in crate::provider::sim) fn find_timeline(&self, id: i64) -> Result<Timeline> {
        self.conn
            .query_row(&format!("{SELECT_TIMELINES} where id = ?1"), [id], read_timeline_row)
            .map_err(|e| store_error(&e))
    }

    /// Begins a timeline, of a branch or of the target itself, and returns its id.
    pub(super) fn begin_timeline_at_current_lsn(
        &self,
        branch: Option<&str>,
        number: i64,
        fork: Option<(i64, i64)>,
        at: i64,
    ) -> Result<i64> {
        let sql = "insert into lines (branch, number, parent, fork, start, begun_at)
                   values (?1, ?2, ?3, ?4, (select lsn from world), ?5)";
        let values = params![branch, number, fork.map(|f| f.0), fork.map(|f| f.1), at];
        self.conn.execute(sql, values).map_err(|e| store_error(&e))?;
        Ok(self.conn.last_insert_rowid())
    }

    /// Returns the timelines that make up `timeline` as far as `end`, oldest first, each with the place up to which it counts.
    pub(super) fn timeline_chain(&self, timeline: i64, end: i64) -> Result<Vec<(i64, i64)>> {
        let mut chain = vec![(timeline, end)];
        let mut at = self.find_timeline(timeline)?;
        while let Some((parent, fork)) = at.fork {
            let upto = chain.last().map_or(fork, |(_, upto)| fork.min(*upto));
            chain.push((parent, upto));
            at = self.find_timeline(parent)?;
        }
        chain.reverse();
        Ok(chain)
    }

    /// Returns the statements of a timeline after one place and up to another, in their order.
    pub(super) fn history_entries(&self, timeline: i64, after: i64, end: i64) -> Result<Vec<HistoryEntry>> {
        let sql =
            "select lsn, xid, at, sql from history where line = ?1 and lsn > ?2 and lsn <= ?3 order by lsn";
        let mut entries = Vec::new();
        for (timeline, upto) in self.timeline_chain(timeline, end)? {
            entries.extend(self.query_rows(sql, params![timeline, after, upto], read_history_entry)?);
        }
        Ok(entries)
    }

    /// Returns every statement that was committed, oldest first, with its time and the name of the branch it is on, if that
    /// is still there.
    pub(in crate::provider::sim) fn list_statements(&self) -> Result<Vec<(Moment, Option<String>, String)>> {
        let sql =
            "select h.at, coalesce(b.name, l.branch), h.sql from history h join lines l on l.id = h.line
                   left join branches b on b.id = l.branch order by h.at, h.lsn";
        self.query_rows(sql, [], |row| Ok((from_micros(row.get(0)?), row.get(1)?, row.get(2)?)))
    }

    /// Returns the place of the last statement of a timeline that was committed at or before `at`, or 0.
    pub(super) fn lsn_at_time(&self, timeline: i64, at: i64, inclusive: bool) -> Result<i64> {
        let before = if inclusive { at.saturating_add(1) } else { at };
        Ok(self.newest_entry_before(timeline, i64::MAX, before)?.map_or(0, |e| e.lsn))
    }

    /// Returns the last statement of a timeline up to `end`.
    pub(in crate::provider::sim) fn last_entry(
        &self,
        timeline: i64,
        end: i64,
    ) -> Result<Option<HistoryEntry>> {
        self.newest_entry_before(timeline, end, i64::MAX)
    }

    /// Returns the newest statement of a timeline up to `end` that was committed before a time.
    fn newest_entry_before(&self, timeline: i64, end: i64, before: i64) -> Result<Option<HistoryEntry>> {
        let sql = "select lsn, xid, at, sql from history where line = ?1 and lsn <= ?2 and at < ?3
                   order by lsn desc limit 1";
        for (timeline, upto) in self.timeline_chain(timeline, end)?.into_iter().rev() {
            if let Some(entry) =
                self.query_rows(sql, params![timeline, upto, before], read_history_entry)?.pop()
            {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// Gives out the next place in the log, behind a record of `length` bytes, and the next transaction id.
    pub(in crate::provider::sim) fn allocate_transaction(&self, length: usize) -> Result<(i64, i64)> {
        // A record has a header and is aligned to eight bytes, as in PostgreSQL.
        let record = i64::try_from(length.div_ceil(8) * 8).unwrap_or(0) + 64;
        let sql = "update world set lsn = lsn + ?1, xid = xid + 1 returning lsn, xid";
        self.conn.query_row(sql, [record], |row| Ok((row.get(0)?, row.get(1)?))).map_err(|e| store_error(&e))
    }

    /// Adds a statement to a timeline.
    pub(in crate::provider::sim) fn append_entry(
        &self,
        timeline: i64,
        entry: &HistoryEntry,
        applied: &StatementOutcome,
    ) -> Result<()> {
        let sql = "insert into history (lsn, xid, line, at, sql, event, object) values (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let (event, object) = applied.event.as_ref().map(|(e, o)| (*e, o)).unzip();
        let values = params![entry.lsn, entry.xid, timeline, entry.at, entry.sql, event, object];
        self.conn.execute(sql, values).map(drop).map_err(|e| store_error(&e))
    }

    /// Returns the end of the whole log.
    pub(in crate::provider::sim) fn log_end(&self) -> Result<i64> {
        self.conn.query_row("select lsn from world", [], |row| row.get(0)).map_err(|e| store_error(&e))
    }

    /// Returns the timeline and place of a transaction.
    pub(super) fn find_transaction(&self, xid: i64) -> Result<Option<(i64, i64)>> {
        let sql = "select line, lsn from history where xid = ?1";
        self.conn
            .query_row(sql, [xid], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()
            .map_err(|e| store_error(&e))
    }

    /// Returns what is known of a timeline up to a place.
    pub(in crate::provider::sim) fn content_facts_at(&self, timeline: i64, end: i64) -> Result<ContentFacts> {
        self.cache.get_or_compute_facts(&self.history_entries(timeline, 0, end)?)
    }

    /// Returns the database of a timeline as it was at a place.
    pub(in crate::provider::sim) fn content_at(&self, timeline: i64, end: i64) -> Result<Content> {
        Content::replay(&self.history_entries(timeline, 0, end)?)
    }

    /// Returns the summary of a timeline up to a place; `compute` makes it where there is none yet.
    pub(in crate::provider::sim) fn cached_or_computed_summary(
        &self,
        timeline: i64,
        end: i64,
        compute: impl FnOnce() -> Result<ContentSummary>,
    ) -> Result<ContentSummary> {
        self.cache.get_or_compute_summary(&self.history_entries(timeline, 0, end)?, compute)
    }
}
