//! Runs, sources and records as rows: every statement about them.

use super::{NewRun, RunStatus, Source, Tombstone, chain::RecordRow, fold::RunState};
use crate::base::{moment::Moment, sqlite::Db};
use rusqlite::{OptionalExtension as _, params};

/// The number of a run in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RunRowId(i64);

/// The first and the last record of each run (or of one), newest first.
const RUN_ROWS_SQL: &str = "
    select runs.id, runs.status, runs.reason,
           first.at, first.body, first.hash, last.seq, last.at, last.calls, last.body, last.hash
    from runs
    join records as first on first.run = runs.ord and first.seq = 1
    join records as last on last.run = runs.ord
         and last.seq = (select max(seq) from records where run = runs.ord)
    where ?1 is null or runs.id = ?1
    order by runs.ord desc";

/// One run with its first and last record, from which a summary is made.
#[derive(Debug, Clone)]
pub(super) struct RunRow {
    pub(super) id: String,
    pub(super) status: String,
    pub(super) reason: Option<String>,
    pub(super) first: RecordRow,
    pub(super) last: RecordRow,
}

/// Returns the rows that summaries are made of: of every run, newest first, or of one.
pub(super) fn select_run_rows(db: &Db, id: Option<&str>) -> rusqlite::Result<Vec<RunRow>> {
    let read = |row: &rusqlite::Row<'_>| {
        Ok(RunRow {
            id: row.get(0)?,
            status: row.get(1)?,
            reason: row.get(2)?,
            first: RecordRow { seq: 1, at: row.get(3)?, calls: 0, body: row.get(4)?, hash: row.get(5)? },
            last: RecordRow {
                seq: read_unsigned(row, 6)?,
                at: row.get(7)?,
                calls: read_unsigned(row, 8)?,
                body: row.get(9)?,
                hash: row.get(10)?,
            },
        })
    };
    db.prepare(RUN_ROWS_SQL)?.query_map([id], read)?.collect()
}

/// Returns the ids of all runs, newest first.
pub(super) fn select_run_ids(db: &Db) -> rusqlite::Result<Vec<String>> {
    db.prepare("select id from runs order by ord desc")?.query_map([], |row| row.get(0))?.collect()
}

/// Returns the row id of a run; `QueryReturnedNoRows` if there is no such run.
pub(super) fn select_row_id(db: &Db, id: &str) -> rusqlite::Result<RunRowId> {
    db.prepare("select ord from runs where id = ?1")?.query_row([id], |row| row.get(0)).map(RunRowId)
}

/// Returns the stored status of a run.
pub(super) fn select_status(db: &Db, run: RunRowId) -> rusqlite::Result<String> {
    db.prepare("select status from runs where ord = ?1")?.query_row([run.0], |row| row.get(0))
}

/// Returns the sources of an edition of a run.
pub(super) fn select_sources(db: &Db, run: RunRowId, edition: u32) -> rusqlite::Result<Vec<Source>> {
    let mut all = db.prepare(
        "select path, text from (
             select run, 0 as edition, ord, path, text from sources
             union all select run, edition, ord, path, text from editions)
         where run = ?1 and edition = ?2 order by ord",
    )?;
    all.query_map(params![run.0, edition], |row| Ok(Source { path: row.get(0)?, text: row.get(1)? }))?
        .collect()
}

/// Adds an edition of a run's sources.
pub(super) fn insert_edition(
    tx: &Db,
    run: RunRowId,
    edition: u32,
    sources: &[Source],
) -> rusqlite::Result<()> {
    for (ord, source) in (0_i64..).zip(sources) {
        tx.prepare("insert into editions (run, edition, ord, path, text) values (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![run.0, edition, ord, source.path, source.text])?;
    }
    Ok(())
}

/// Stores the request that the process which holds a run stops.
pub(super) fn insert_stop_request(db: &Db, run: &str, by: &str, at: Moment) -> rusqlite::Result<()> {
    db.prepare("insert or replace into requests (run, by, at) values (?1, ?2, ?3)")?
        .execute(params![run, by, at.to_string()])
        .map(drop)
}

/// Returns who asks the process that holds a run to stop.
pub(super) fn select_stop_requester(db: &Db, run: &str) -> rusqlite::Result<Option<String>> {
    let mut request = db.prepare("select by from requests where run = ?1")?;
    request.query_row([run], |row| row.get(0)).optional()
}

/// Deletes the stop request of a run. Writes nothing if there is none.
pub(super) fn delete_stop_request(db: &Db, run: &str) -> rusqlite::Result<()> {
    if select_stop_requester(db, run)?.is_none() {
        return Ok(());
    }
    db.execute("delete from requests where run = ?1", [run]).map(drop)
}

/// Calls `each` with every record of a run, in order.
pub(super) fn for_each_record(
    db: &Db,
    run: RunRowId,
    mut each: impl FnMut(RecordRow),
) -> rusqlite::Result<()> {
    let mut all = db.prepare("select seq, at, calls, body, hash from records where run = ?1 order by seq")?;
    let mut rows = all.query([run.0])?;
    while let Some(row) = rows.next()? {
        let (seq, calls) = (read_unsigned(row, 0)?, read_unsigned(row, 2)?);
        each(RecordRow { seq, at: row.get(1)?, calls, body: row.get(3)?, hash: row.get(4)? });
    }
    Ok(())
}

/// Adds a run with its sources and its first record, in one commit.
pub(super) fn insert_run(db: &Db, new: &NewRun, id: &str, first: &RecordRow) -> rusqlite::Result<RunRowId> {
    let tx = db.begin_write()?;
    tx.execute("insert into runs (id, status) values (?1, ?2)", params![id, RunStatus::Running.as_str()])?;
    let run = RunRowId(tx.last_insert_rowid());
    for (ord, source) in (0_i64..).zip(&new.sources) {
        tx.prepare("insert into sources (run, ord, path, text) values (?1, ?2, ?3, ?4)")?
            .execute(params![run.0, ord, source.path, source.text])?;
    }
    insert_record(&tx, run, first)?;
    tx.commit()?;
    Ok(run)
}

/// Adds a record.
pub(super) fn insert_record(tx: &Db, run: RunRowId, row: &RecordRow) -> rusqlite::Result<()> {
    tx.prepare("insert into records (run, seq, at, calls, body, hash) values (?1, ?2, ?3, ?4, ?5, ?6)")?
        .execute(params![run.0, row.seq.cast_signed(), row.at, row.calls.cast_signed(), row.body, row.hash])
        .map(drop)
}

/// Stores where a run stands.
pub(super) fn update_run_state(tx: &Db, run: RunRowId, (status, reason): &RunState) -> rusqlite::Result<()> {
    tx.prepare("update runs set status = ?2, reason = ?3 where ord = ?1")?
        .execute(params![run.0, status.map(RunStatus::as_str), reason])
        .map(drop)
}

/// Returns the number and the hash of a run's last record.
pub(super) fn select_last_record(db: &Db, run: RunRowId) -> rusqlite::Result<(u64, String)> {
    db.prepare("select seq, hash from records where run = ?1 order by seq desc limit 1")?
        .query_row([run.0], |row| Ok((read_unsigned(row, 0)?, row.get(1)?)))
}

/// Deletes a run and everything of it, and inserts its tombstone.
pub(super) fn replace_with_tombstone(tx: &Db, run: RunRowId, tombstone: &Tombstone) -> rusqlite::Result<()> {
    tx.execute("delete from leases where run = ?1", [&tombstone.run])?;
    tx.execute("delete from quarantines where run = ?1", [&tombstone.run])?;
    tx.execute("delete from claims where run = ?1", [&tombstone.run])?;
    tx.execute("delete from records where run = ?1", [run.0])?;
    tx.execute("delete from sources where run = ?1", [run.0])?;
    tx.execute("delete from editions where run = ?1", [run.0])?;
    tx.execute("delete from requests where run = ?1", [&tombstone.run])?;
    tx.execute("delete from runs where ord = ?1", [run.0])?;
    let Tombstone { run, runbook, status, records, head, pruned_at } = tombstone;
    tx.execute(
        "insert into tombstones (run, runbook, status, records, head, pruned_at)
         values (?1, ?2, ?3, ?4, ?5, ?6)",
        params![run, runbook, status.as_str(), records.cast_signed(), head, pruned_at.to_string()],
    )
    .map(drop)
}

/// Returns the tombstone of a run; `QueryReturnedNoRows` if there is none.
pub(super) fn select_tombstone(db: &Db, run: &str) -> rusqlite::Result<Tombstone> {
    let sql = "select run, runbook, status, records, head, pruned_at from tombstones where run = ?1";
    db.prepare(sql)?.query_row([run], |row| {
        Ok(Tombstone {
            run: row.get(0)?,
            runbook: row.get(1)?,
            status: parse_column(row, 2, |text| serde_json::from_value(text.into()))?,
            records: read_unsigned(row, 3)?,
            head: row.get(4)?,
            pruned_at: parse_column(row, 5, |text| Moment::parse(&text))?,
        })
    })
}

/// Reads a column of text as what it means.
///
/// # Errors
/// It does not read.
pub(super) fn parse_column<T, E: std::error::Error + Send + Sync + 'static>(
    row: &rusqlite::Row<'_>,
    column: usize,
    parse: impl FnOnce(String) -> Result<T, E>,
) -> rusqlite::Result<T> {
    parse(row.get(column)?).map_err(|e| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(e))
    })
}

fn read_unsigned(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let number: i64 = row.get(column)?;
    u64::try_from(number).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, number))
}
