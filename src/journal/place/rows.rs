//! Places as rows of the journal: every one at which the state has acted, the present one last.

use super::{super::rows::parse_column, PlaceNote};
use crate::base::sqlite::Db;
use rusqlite::{OptionalExtension as _, params};
use std::collections::BTreeMap;

/// Returns the place at which the state acts.
pub(super) fn select_last_place(db: &Db) -> rusqlite::Result<Option<PlaceNote>> {
    let mut last = db.prepare("select note from places order by ord desc limit 1")?;
    last.query_row([], |row| parse_column(row, 0, |text| serde_json::from_str(&text))).optional()
}

/// Adds a place: the first one, or one that somebody has taken over.
pub(super) fn insert_place_of_state(
    db: &Db,
    note: &PlaceNote,
    by: &str,
    rolled_back: bool,
) -> rusqlite::Result<()> {
    let text = serde_json::to_string(note).map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))?;
    db.prepare("insert into places (note, by, rolled_back) values (?1, ?2, ?3)")?
        .execute(params![text, by, rolled_back])
        .map(drop)
}

/// Returns the number of the last record of every run, of those that were pruned as well.
pub(super) fn select_last_record_numbers(db: &Db) -> rusqlite::Result<BTreeMap<String, u64>> {
    let mut all = db.prepare(
        "select id, (select max(seq) from records where run = runs.ord) from runs
         union all select run, records from tombstones",
    )?;
    let read = |row: &rusqlite::Row<'_>| {
        let last: Option<i64> = row.get(1)?;
        Ok((row.get(0)?, last.map_or(0, i64::cast_unsigned)))
    };
    all.query_map([], read)?.collect()
}
