//! Past values: what an element was before a call changed it, as long as a look that lags behind may still show that.
//!
//! They keep nobody away, as a quarantine does: who changes such an element back reads here that a look which shows it as
//! wanted may show what was before the last change. They hold for every run of the state folder, and end by themselves.

use super::{Error, Journal, schema};
use crate::base::{clock::Uptime, moment::Span, sqlite::Db};
use rusqlite::params;

/// What an element was before a call changed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastValue {
    /// The identity of the target or branch.
    pub place: String,
    /// The element, unique there.
    pub element: String,
    /// What it was, as JSON; `None` where nobody knows.
    pub value: Option<String>,
    pub run: String,
    pub call: String,
    /// The change was made at this moment at the latest.
    pub changed_by: Uptime,
    /// How far a look may lag behind.
    pub lag: Span,
}

impl PastValue {
    /// Returns how long a look may still show the value.
    pub fn time_left(&self, now: &Uptime) -> Span {
        let passed = now.since_in_same_boot(&self.changed_by);
        passed.map_or(self.lag, |passed| Span(self.lag.0.saturating_sub(passed.0)).max(Span::ZERO))
    }
}

impl Journal {
    /// Keeps past values of a call in the place of those that it has, on disk when this returns. Those of any call that no
    /// look can show any more are dropped.
    ///
    /// # Errors
    /// [`Error::NotWritable`], [`Error::Unreadable`].
    pub fn replace_past_values(&self, run: &str, call: &str, all: &[PastValue]) -> Result<(), Error> {
        let now = self.clock.uptime();
        let db = self.lock_db();
        let tx = db.begin_write();
        let replace = |tx: &Db| {
            tx.prepare("delete from past_values where run = ?1 and call = ?2")?.execute([run, call])?;
            let known = select_past_values(tx)?;
            let over = known.iter().filter(|one| one.time_left(&now) == Span::ZERO);
            over.into_iter().try_for_each(|one| delete_past_value(tx, one))?;
            all.iter().try_for_each(|one| insert_past_value(tx, one))
        };
        tx.and_then(|tx| replace(&tx).and_then(|()| tx.commit()))
            .map_err(|e| schema::to_journal_error(&self.state, &e))
    }

    /// Returns the past values that a look may still show. The time of those that were kept before the machine was booted
    /// counts anew from now.
    ///
    /// # Errors
    /// [`Error::NotWritable`], [`Error::Unreadable`].
    pub fn list_past_values(&self) -> Result<Vec<PastValue>, Error> {
        let now = self.clock.uptime();
        let db = self.lock_db();
        let list = || -> rusqlite::Result<Vec<PastValue>> {
            let mut known = select_past_values(&db)?;
            for one in known.iter_mut().filter(|one| one.changed_by.boot != now.boot) {
                one.changed_by = now.clone();
                insert_past_value(&db, one)?;
            }
            known.retain(|one| one.time_left(&now) > Span::ZERO);
            Ok(known)
        };
        list().map_err(|e| schema::to_journal_error(&self.state, &e))
    }
}

fn insert_past_value(db: &Db, one: &PastValue) -> rusqlite::Result<()> {
    let PastValue { place, element, value, run, call, changed_by, lag } = one;
    db.prepare(
        "insert or replace into past_values (place, element, value, run, call, boot, changed_by, lag) \
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![place, element, value, run, call, changed_by.boot, changed_by.millis, lag.as_millis()])
    .map(drop)
}

fn delete_past_value(db: &Db, one: &PastValue) -> rusqlite::Result<()> {
    let PastValue { place, element, run, call, .. } = one;
    db.prepare("delete from past_values where place = ?1 and element = ?2 and run = ?3 and call = ?4")?
        .execute(params![place, element, run, call])
        .map(drop)
}

fn select_past_values(db: &Db) -> rusqlite::Result<Vec<PastValue>> {
    let read = |row: &rusqlite::Row<'_>| {
        Ok(PastValue {
            place: row.get(0)?,
            element: row.get(1)?,
            value: row.get(2)?,
            run: row.get(3)?,
            call: row.get(4)?,
            changed_by: Uptime { boot: row.get(5)?, millis: row.get(6)? },
            lag: Span::from_millis(row.get(7)?),
        })
    };
    let sql = "select place, element, value, run, call, boot, changed_by, lag from past_values";
    db.prepare(sql)?.query_map([], read)?.collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::TestJournal;
    use super::*;

    fn past_value(call: &str, changed_by: Uptime, lag: Span) -> PastValue {
        let (place, element, value) = ("x".into(), "tls/tls".into(), Some("true".into()));
        PastValue { place, element, value, run: "r".into(), call: call.into(), changed_by, lag }
    }

    #[test]
    fn a_past_value_is_kept_as_long_as_a_look_may_show_it() {
        let test = TestJournal::new();
        let now = test.journal.clock.uptime();
        let long_ago = Uptime { millis: now.millis - 3_600_000, ..now.clone() };
        let before_boot = Uptime { boot: "another".into(), millis: 1 };
        let (lag, keep) = (Span::from_secs(600), |one: &PastValue| {
            test.journal.replace_past_values("r", &one.call, std::slice::from_ref(one)).expect("written");
        });
        let [over, lasts, older] = [("c#0", long_ago), ("c#1", now.clone()), ("c#2", before_boot)]
            .map(|(call, changed_by)| past_value(call, changed_by, lag));
        [&over, &lasts, &older].into_iter().for_each(keep);
        let listed = test.journal.list_past_values().expect("read");
        assert_eq!(listed.iter().map(|one| one.call.as_str()).collect::<Vec<_>>(), ["c#1", "c#2"]);
        assert!(listed[1].changed_by.boot == now.boot, "its time counts from now");

        test.journal.replace_past_values("r", "c#1", &[]).expect("written");
        let listed = test.journal.list_past_values().expect("read");
        assert_eq!(listed.iter().map(|one| one.call.as_str()).collect::<Vec<_>>(), ["c#2"]);
    }
}
