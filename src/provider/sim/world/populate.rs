//! Fills a new world with what its file says: history, backups, and the environment of the database.
//!
//! A world of the first format had no environment, and gets what its text says, which is the same for every world that
//! says nothing: on, open, without overrides.

use super::{
    calendar::parse_time_of_day,
    content::Content,
    entry::HistoryEntry,
    file::{parse_range, setting_to_json},
    spec::PastEvent,
    switches::{POWER, RANGES, SSL, on_off},
    time::{span_to_micros, to_micros},
    tx::{WorldTx, store_error},
};
use crate::{base::moment::Moment, provider::Result};

/// Adds the history and the backups that a world has from the start, with `more` statements, and its environment.
pub(super) fn add_initial_history(tx: &WorldTx<'_>, anchor: Moment, more: &[(Moment, String)]) -> Result<()> {
    let mut past = tx.spec.past_events(anchor);
    past.extend(more.iter().map(|(at, sql)| (*at, PastEvent::Statement(sql.clone()))));
    // A stable order: of one time, what the text says comes first.
    past.sort_by_key(|(at, _)| *at);
    let begun = past.first().map_or(anchor, |(at, _)| *at);
    let line = tx.begin_timeline_at_current_lsn(None, 1, None, to_micros(begun))?;
    let mut content = Content::empty()?;
    for (at, what) in past {
        match what {
            PastEvent::Statement(sql) => {
                let (lsn, xid) = tx.allocate_transaction(sql.len())?;
                let entry = HistoryEntry { lsn, xid, at: to_micros(at), sql };
                let applied = content.apply_entry(&entry, None)?;
                tx.append_entry(line, &entry, &applied)?;
            }
            PastEvent::Mark(name) => drop(tx.add_restore_point(&name, to_micros(at), None)?),
        }
    }
    for backup in tx.spec.past_backups(anchor) {
        tx.add_past_backup(line, &backup)?;
    }
    create_and_fill_environment(tx)
}

/// Adds the tables of the second format, and fills them with what the world file says.
pub(super) fn create_and_fill_environment(tx: &WorldTx<'_>) -> Result<()> {
    tx.conn.raw_connection().execute_batch(include_str!("schema-2.sql")).map_err(|e| store_error(&e))?;
    // What is there from the start is applied from the start.
    let begun = tx.now - span_to_micros(tx.spec.apply_duration());
    tx.set_switch(POWER, "on", begun)?;
    tx.set_switch(SSL, on_off(tx.spec.ssl), begun)?;
    tx.set_switch(RANGES, "as made", begun)?;
    for schedule in &tx.spec.schedules {
        let (id, time) = (schedule.id.get_ref(), parse_time_of_day(schedule.at.get_ref())?);
        tx.add_schedule(id, (schedule.every, time), schedule.keep_days, None, tx.now)?;
    }
    for replica in &tx.spec.replicas {
        tx.add_replica(replica.id.get_ref(), replica.region.as_deref(), "ready", None)?;
    }
    for (name, value) in &tx.spec.settings {
        tx.override_from_start(name.get_ref(), &setting_to_json(value)?)?;
    }
    for text in &tx.spec.restrictions {
        tx.add_range(&parse_range(text.get_ref())?, begun)?;
    }
    tx.spec.bans.iter().try_for_each(|address| tx.add_ban(*address.get_ref()))
}
