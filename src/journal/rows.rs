//! Runs, sources and records as rows: every statement about them.

use super::{NewRun, Source, Status, Tombstone, chain::Row};
use crate::base::{moment::Moment, sqlite::Db};
use rusqlite::{OptionalExtension as _, params};

/// The number under which the store keeps a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ord(i64);

/// Where a run stands, and why it stopped, as the store keeps it for lists.
pub(super) type Standing = (Option<Status>, Option<String>);

/// The first and the last record of each run (or of one), newest first.
const GLANCE: &str = "
    select runs.id, runs.status, runs.reason,
           first.at, first.body, first.hash, last.seq, last.at, last.calls, last.body, last.hash
    from runs
    join records as first on first.run = runs.ord and first.seq = 1
    join records as last on last.run = runs.ord
         and last.seq = (select max(seq) from records where run = runs.ord)
    where ?1 is null or runs.id = ?1
    order by runs.ord desc";

/// What a summary is made of.
pub(super) struct Glance {
    pub(super) id: String,
    pub(super) status: String,
    pub(super) reason: Option<String>,
    pub(super) first: Row,
    pub(super) last: Row,
}

/// Returns what summaries are made of: for every run, newest first, or for one.
pub(super) fn glances(db: &Db, id: Option<&str>) -> rusqlite::Result<Vec<Glance>> {
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Glance {
            id: row.get(0)?,
            status: row.get(1)?,
            reason: row.get(2)?,
            first: Row { seq: 1, at: row.get(3)?, calls: 0, body: row.get(4)?, hash: row.get(5)? },
            last: Row {
                seq: unsigned(row, 6)?,
                at: row.get(7)?,
                calls: unsigned(row, 8)?,
                body: row.get(9)?,
                hash: row.get(10)?,
            },
        })
    };
    db.prepare(GLANCE)?.query_map([id], read)?.collect()
}

/// Returns the ids of all runs, newest first.
pub(super) fn ids(db: &Db) -> rusqlite::Result<Vec<String>> {
    db.prepare("select id from runs order by ord desc")?.query_map([], |row| row.get(0))?.collect()
}

/// Returns the number of a run; `QueryReturnedNoRows` where there is none.
pub(super) fn ord(db: &Db, id: &str) -> rusqlite::Result<Ord> {
    db.prepare("select ord from runs where id = ?1")?.query_row([id], |row| row.get(0)).map(Ord)
}

/// Returns the status that is kept of a run.
pub(super) fn status(db: &Db, run: Ord) -> rusqlite::Result<String> {
    db.prepare("select status from runs where ord = ?1")?.query_row([run.0], |row| row.get(0))
}

/// Returns the texts of an edition of a run.
pub(super) fn sources(db: &Db, run: Ord, edition: u32) -> rusqlite::Result<Vec<Source>> {
    let mut all = db.prepare(
        "select path, text from (
             select run, 0 as edition, ord, path, text from sources
             union all select run, edition, ord, path, text from editions)
         where run = ?1 and edition = ?2 order by ord",
    )?;
    all.query_map(params![run.0, edition], |row| Ok(Source { path: row.get(0)?, text: row.get(1)? }))?
        .collect()
}

/// Adds an edition of a run's texts.
pub(super) fn edit(all: &Db, run: Ord, edition: u32, sources: &[Source]) -> rusqlite::Result<()> {
    for (ord, source) in (0_i64..).zip(sources) {
        all.prepare("insert into editions (run, edition, ord, path, text) values (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![run.0, edition, ord, source.path, source.text])?;
    }
    Ok(())
}

/// Asks the process that moves a run to stop.
pub(super) fn request(db: &Db, run: &str, by: &str, at: Moment) -> rusqlite::Result<()> {
    db.prepare("insert or replace into requests (run, by, at) values (?1, ?2, ?3)")?
        .execute(params![run, by, at.to_string()])
        .map(drop)
}

/// Returns who asks the process that moves a run to stop.
pub(super) fn requested(db: &Db, run: &str) -> rusqlite::Result<Option<String>> {
    let mut asked = db.prepare("select by from requests where run = ?1")?;
    asked.query_row([run], |row| row.get(0)).optional()
}

/// Takes back what was asked of whoever moved a run. Nothing is written where nothing was.
pub(super) fn forget_request(db: &Db, run: &str) -> rusqlite::Result<()> {
    if requested(db, run)?.is_none() {
        return Ok(());
    }
    db.execute("delete from requests where run = ?1", [run]).map(drop)
}

/// Hands out the records of a run, in order.
pub(super) fn each(db: &Db, run: Ord, mut each: impl FnMut(Row)) -> rusqlite::Result<()> {
    let mut all = db.prepare("select seq, at, calls, body, hash from records where run = ?1 order by seq")?;
    let mut rows = all.query([run.0])?;
    while let Some(row) = rows.next()? {
        let (seq, calls) = (unsigned(row, 0)?, unsigned(row, 2)?);
        each(Row { seq, at: row.get(1)?, calls, body: row.get(3)?, hash: row.get(4)? });
    }
    Ok(())
}

/// Adds a run with its texts and its first record, in one commit.
pub(super) fn insert_run(db: &Db, new: &NewRun, id: &str, first: &Row) -> rusqlite::Result<Ord> {
    let all = db.change()?;
    all.execute("insert into runs (id, status) values (?1, ?2)", params![id, Status::Running.as_str()])?;
    let run = Ord(all.last_insert_rowid());
    for (ord, source) in (0_i64..).zip(&new.sources) {
        all.prepare("insert into sources (run, ord, path, text) values (?1, ?2, ?3, ?4)")?
            .execute(params![run.0, ord, source.path, source.text])?;
    }
    insert(&all, run, first)?;
    all.keep()?;
    Ok(run)
}

/// Adds a record.
pub(super) fn insert(all: &Db, run: Ord, row: &Row) -> rusqlite::Result<()> {
    all.prepare("insert into records (run, seq, at, calls, body, hash) values (?1, ?2, ?3, ?4, ?5, ?6)")?
        .execute(params![run.0, row.seq.cast_signed(), row.at, row.calls.cast_signed(), row.body, row.hash])
        .map(drop)
}

/// Keeps where a run stands.
pub(super) fn keep(all: &Db, run: Ord, (status, reason): &Standing) -> rusqlite::Result<()> {
    all.prepare("update runs set status = ?2, reason = ?3 where ord = ?1")?
        .execute(params![run.0, status.map(Status::as_str), reason])
        .map(drop)
}

/// Returns the number and the hash of a run's last record.
pub(super) fn last(db: &Db, run: Ord) -> rusqlite::Result<(u64, String)> {
    db.prepare("select seq, hash from records where run = ?1 order by seq desc limit 1")?
        .query_row([run.0], |row| Ok((unsigned(row, 0)?, row.get(1)?)))
}

/// Removes a run with all that belongs to it, and puts up its tombstone.
pub(super) fn bury(all: &Db, run: Ord, stone: &Tombstone) -> rusqlite::Result<()> {
    all.execute("delete from leases where run = ?1", [&stone.run])?;
    all.execute("delete from records where run = ?1", [run.0])?;
    all.execute("delete from sources where run = ?1", [run.0])?;
    all.execute("delete from editions where run = ?1", [run.0])?;
    all.execute("delete from requests where run = ?1", [&stone.run])?;
    all.execute("delete from runs where ord = ?1", [run.0])?;
    let Tombstone { run, runbook, status, records, head, pruned_at } = stone;
    all.execute(
        "insert into tombstones (run, runbook, status, records, head, pruned_at)
         values (?1, ?2, ?3, ?4, ?5, ?6)",
        params![run, runbook, status.as_str(), records.cast_signed(), head, pruned_at.to_string()],
    )
    .map(drop)
}

/// Returns the tombstone of a run; `QueryReturnedNoRows` where there is none.
pub(super) fn tombstone(db: &Db, run: &str) -> rusqlite::Result<Tombstone> {
    let sql = "select run, runbook, status, records, head, pruned_at from tombstones where run = ?1";
    db.prepare(sql)?.query_row([run], |row| {
        Ok(Tombstone {
            run: row.get(0)?,
            runbook: row.get(1)?,
            status: parsed(row, 2, |text| serde_json::from_value(text.into()))?,
            records: unsigned(row, 3)?,
            head: row.get(4)?,
            pruned_at: parsed(row, 5, |text| Moment::parse(&text))?,
        })
    })
}

fn parsed<T, E: std::error::Error + Send + Sync + 'static>(
    row: &rusqlite::Row<'_>,
    column: usize,
    parse: impl FnOnce(String) -> Result<T, E>,
) -> rusqlite::Result<T> {
    parse(row.get(column)?).map_err(|e| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(e))
    })
}

fn unsigned(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let number: i64 = row.get(column)?;
    u64::try_from(number).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, number))
}
