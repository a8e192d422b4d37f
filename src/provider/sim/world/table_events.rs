//! Drops and truncates of tables, as the history of the target shows them.

use super::{lsn::format_lsn, time::from_micros, tx::WorldTx};
use crate::provider::{
    Result,
    model::{TableEvent, TableEventQuery},
};
use rusqlite::Row;

impl WorldTx<'_> {
    /// Returns the events that a query looks for, newest first.
    pub(in crate::provider::sim) fn find_table_events(
        &self,
        query: &TableEventQuery,
    ) -> Result<Vec<TableEvent>> {
        let sql = "select h.event, h.object, h.at, h.xid, h.lsn, l.number from history h join lines l on l.id = h.line
                   where l.branch is null and h.event is not null order by h.lsn desc";
        let read = |row: &Row<'_>| {
            Ok(TableEvent {
                event: row.get(0)?,
                table: Some(format!("public.{}", row.get::<_, String>(1)?)),
                time: from_micros(row.get(2)?),
                xid: row.get::<_, i64>(3)?.to_string(),
                lsn: format_lsn(row.get(4)?),
                timeline: row.get(5)?,
                unseen: None,
            })
        };
        let mut events = self.query_rows(sql, [], read)?;
        events.retain(|e| matches_query(e, query));
        Ok(events)
    }
}

fn matches_query(event: &TableEvent, query: &TableEventQuery) -> bool {
    let table = |name: &String| {
        let full = if name.contains('.') { name.clone() } else { format!("public.{name}") };
        event.table.as_ref().is_some_and(|t| t.eq_ignore_ascii_case(&full))
    };
    query.table.as_ref().is_none_or(table)
        && query.event.as_ref().is_none_or(|e| *e == event.event)
        && query.since.is_none_or(|since| event.time >= since)
        && query.until.is_none_or(|until| event.time <= until)
}
