//! Quarantines: things of targets at which a request may still take effect although nobody waits for it any more.
//!
//! A quarantine holds for every run of the state folder, and stays when its run stops, ends or is abandoned, until somebody
//! lifts it or the run is pruned. Time is
//! counted on the machine's uptime, which nobody sets; after a boot the whole span is waited for again.

use super::{Error, Journal, schema};
use crate::base::{
    clock::Uptime,
    moment::{Moment, Span},
    sqlite::Db,
};
use rusqlite::params;
use std::collections::BTreeMap;

/// A call of which a request may still land.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantine {
    /// The identity of the target or branch.
    pub place: String,
    /// The part of it; `None` for all of it.
    pub part: Option<String>,
    pub run: String,
    pub call: String,
    /// Nothing of the call was sent after this.
    pub sent_by: Uptime,
    /// How long after that it may land; `None` where nobody knows.
    pub span: Option<Span>,
}

impl Quarantine {
    /// Returns how long the quarantine still lasts; nothing left is zero. `None` where nobody knows.
    pub fn time_left(&self, now: &Uptime) -> Option<Span> {
        let span = self.span?;
        let passed = now.since_in_same_boot(&self.sent_by);
        Some(passed.map_or(span, |passed| Span(span.0.saturating_sub(passed.0)).max(Span::ZERO)))
    }
}

impl Journal {
    /// Puts things under quarantine, on disk when this returns. A second one of the same call at the same thing
    /// replaces the first.
    ///
    /// # Errors
    /// [`Error::NotWritable`], [`Error::Unreadable`].
    pub fn put_under_quarantine(&self, all: &[Quarantine]) -> Result<(), Error> {
        self.change_quarantines(|tx| insert_quarantines(tx, all))
    }

    /// Ends the quarantines of a call at these parts of places, on disk when this returns.
    ///
    /// # Errors
    /// [`Error::NotWritable`], [`Error::Unreadable`].
    pub fn lift_quarantines_at(
        &self,
        run: &str,
        call: &str,
        things: &[(String, Option<String>)],
    ) -> Result<(), Error> {
        let sql = "delete from quarantines where run = ?1 and call = ?2 and place = ?3 and part = ?4";
        self.change_quarantines(|tx| {
            things.iter().try_for_each(|(place, part)| {
                let part = part_column_value(part.as_deref());
                tx.prepare(sql)?.execute(params![run, call, place, part]).map(drop)
            })
        })
    }

    /// Changes quarantines in one transaction.
    fn change_quarantines(&self, change: impl FnOnce(&Db) -> rusqlite::Result<()>) -> Result<(), Error> {
        let db = self.lock_db();
        let tx = db.begin_write();
        tx.and_then(|tx| change(&tx).and_then(|()| tx.commit()))
            .map_err(|e| schema::to_journal_error(&self.state, &e))
    }

    /// Returns every quarantine, also those that are over.
    ///
    /// # Errors
    /// [`Error::Unreadable`].
    pub fn list_quarantines(&self) -> Result<Vec<Quarantine>, Error> {
        select_quarantines(&self.lock_db()).map_err(|e| schema::to_journal_error(&self.state, &e))
    }

    /// Returns until when a request of each call of a run may still take effect, of those of which one may; `None` where nobody
    /// knows.
    ///
    /// # Errors
    /// [`Error::Unreadable`].
    pub fn list_landing_ends(&self, run: &str) -> Result<BTreeMap<String, Option<Moment>>, Error> {
        let (now, up) = (self.clock.now(), self.clock.uptime());
        let mut landings: BTreeMap<String, Option<Moment>> = BTreeMap::new();
        for one in self.list_quarantines()?.into_iter().filter(|one| one.run == run) {
            let until = match one.time_left(&up) {
                Some(Span::ZERO) => continue,
                left => left.map(|left| now.saturating_add(left).round_up_to_second()),
            };
            let latest = landings.entry(one.call).or_insert(until);
            *latest = latest.zip(until).map(|(one, other)| one.max(other));
        }
        Ok(landings)
    }

    /// Counts the span of a quarantine anew from `now`: the machine was booted since.
    ///
    /// # Errors
    /// [`Error::NotWritable`], [`Error::Unreadable`].
    pub fn restart_quarantine(&self, one: &Quarantine, now: Uptime) -> Result<(), Error> {
        self.put_under_quarantine(&[Quarantine { sent_by: now, ..one.clone() }])
    }

    /// Ends the quarantines of a call.
    ///
    /// # Errors
    /// [`Error::NotWritable`], [`Error::Unreadable`].
    pub fn lift_quarantines(&self, run: &str, call: &str) -> Result<(), Error> {
        self.change_quarantines(|tx| delete_quarantines(tx, run, call))
    }

    /// Ends the quarantines of a call that have no known end: somebody has decided what came of it.
    ///
    /// # Errors
    /// [`Error::NotWritable`], [`Error::Unreadable`].
    pub fn lift_endless_quarantines(&self, run: &str, call: &str) -> Result<(), Error> {
        let sql = "delete from quarantines where run = ?1 and call = ?2 and span is null";
        self.change_quarantines(|tx| tx.prepare(sql)?.execute(params![run, call]).map(drop))
    }

    /// Makes every quarantine unreadable and unwritable, or readable again, for all who have the journal open.
    ///
    /// # Errors
    /// [`Error::NotWritable`], [`Error::Unreadable`].
    #[cfg(test)]
    pub(crate) fn hide_quarantines(&self, hidden: bool) -> Result<(), Error> {
        let (from, to) = if hidden { ("quarantines", "hidden") } else { ("hidden", "quarantines") };
        let renamed = self.lock_db().execute(&format!("alter table {from} rename to {to}"), []);
        renamed.map(drop).map_err(|e| schema::to_journal_error(&self.state, &e))
    }
}

/// Returns until when a request may still take effect, in words.
pub fn describe_landing_end(until: Option<Moment>) -> String {
    until.map_or_else(|| "nobody knows until when".to_owned(), |at| format!("until {at}"))
}

fn insert_quarantines(tx: &Db, all: &[Quarantine]) -> rusqlite::Result<()> {
    all.iter().try_for_each(|one| insert_quarantine(tx, one))
}

fn insert_quarantine(tx: &Db, one: &Quarantine) -> rusqlite::Result<()> {
    let span = one.span.map(Span::as_millis);
    tx.prepare(
        "insert or replace into quarantines (place, part, run, call, boot, sent_by, span) \
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        one.place,
        part_column_value(one.part.as_deref()),
        one.run,
        one.call,
        one.sent_by.boot,
        one.sent_by.millis,
        span
    ])
    .map(drop)
}

pub(super) fn select_quarantines(db: &Db) -> rusqlite::Result<Vec<Quarantine>> {
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Quarantine {
            place: row.get(0)?,
            part: Some(row.get(1)?).filter(|part: &String| !part.is_empty()),
            run: row.get(2)?,
            call: row.get(3)?,
            sent_by: Uptime { boot: row.get(4)?, millis: row.get(5)? },
            span: row.get::<_, Option<i64>>(6)?.map(Span::from_millis),
        })
    };
    let sql = "select place, part, run, call, boot, sent_by, span from quarantines order by run, call";
    db.prepare(sql)?.query_map([], read)?.collect()
}

/// Returns a part as its column has it: a key column is never null.
pub(super) fn part_column_value(part: Option<&str>) -> &str {
    part.unwrap_or("")
}

fn delete_quarantines(tx: &Db, run: &str, call: &str) -> rusqlite::Result<()> {
    tx.prepare("delete from quarantines where run = ?1 and call = ?2")?.execute(params![run, call]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::super::tests::TestJournal;
    use super::*;

    fn uptime(boot: &str, millis: i64) -> Uptime {
        Uptime { boot: boot.into(), millis }
    }

    fn quarantine(part: Option<&str>, call: &str, span: Option<Span>) -> Quarantine {
        let (run, call) = ("r".into(), call.into());
        let part = part.map(str::to_owned);
        Quarantine { place: "x".into(), part, run, call, sent_by: uptime("a", 10_000), span }
    }

    #[test]
    fn a_quarantine_lasts_as_long_as_something_may_land() {
        let one = quarantine(Some("tls"), "c#0", Some(Span::from_secs(60)));
        for (now, left) in [
            (uptime("a", 0), 70),
            (uptime("a", 20_000), 50),
            (uptime("a", 90_000), 0),
            // The machine was booted: nobody knows how long that took.
            (uptime("b", 90_000), 60),
        ] {
            assert_eq!(one.time_left(&now), Some(Span::from_secs(left)), "{now:?}");
        }
        assert_eq!(quarantine(None, "c#0", None).time_left(&uptime("a", i64::MAX)), None);
    }

    #[test]
    fn a_quarantine_is_of_a_thing_and_ends_with_its_call() {
        let test = TestJournal::new();
        let (first, second) = (quarantine(Some("tls"), "c#0", None), quarantine(None, "c#1", None));
        test.journal.put_under_quarantine(&[first.clone(), second.clone()]).expect("written");
        let list = || test.journal.list_quarantines().expect("read");
        assert_eq!(list(), [first.clone(), second.clone()]);
        test.journal.restart_quarantine(&first, uptime("b", 5)).expect("written");
        assert_eq!(list(), [Quarantine { sent_by: uptime("b", 5), ..first }, second]);
        assert_eq!(test.journal.list_landing_ends("other").expect("read"), BTreeMap::new());
        let landings = test.journal.list_landing_ends("r").expect("read");
        assert_eq!(landings.keys().collect::<Vec<_>>(), ["c#0", "c#1"]);
        let bounded = quarantine(None, "c#2", Some(Span::from_secs(60)));
        test.journal.put_under_quarantine(std::slice::from_ref(&bounded)).expect("written");
        for call in ["c#1", "c#2"] {
            test.journal.lift_endless_quarantines("r", call).expect("written");
        }
        assert_eq!(list().into_iter().map(|one| one.call).collect::<Vec<_>>(), ["c#0", "c#2"]);
        test.journal.lift_quarantines("r", "c#0").expect("written");
        assert_eq!(list(), [bounded]);
    }
}
