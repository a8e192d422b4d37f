//! Backups that a simulated target takes by its own clock.
//!
//! Nobody need look: whoever opens the world next finds every backup that was due since, with the content of the moment
//! at which it was complete, and none whose days are over. While the target is off nothing is taken.

use super::{
    Sim,
    archive::{BackupRow, span_to_micros},
    backups::{from_json, to_json},
    store::{WorldTx, from_micros, store_error, to_micros},
    switches::POWER,
};
use crate::{
    base::moment::{Moment, Span},
    provider::{
        Code, Error, Result, Schedules,
        model::{CallKey, Frequency, Schedule, ScheduleRequest},
    },
};
use async_trait::async_trait;
use jiff::{civil, tz::TimeZone};
use rusqlite::{Row, params};
use serde_json::json as object;

/// A schedule as it stands in the world.
struct ScheduleRow {
    id: String,
    every: Frequency,
    at: String,
    keep_days: Option<u32>,
    finish_at: i64,
    key: Option<String>,
}

#[async_trait]
impl Schedules for Sim {
    async fn list(&self) -> Result<Vec<Schedule>> {
        self.open_store()?
            .read_world(|p| p.list_schedule_rows()?.into_iter().map(|s| p.to_schedule(s)).collect())
    }

    async fn create(&self, request: &ScheduleRequest, key: &CallKey) -> Result<Schedule> {
        let time = parse_time_of_day(&request.at)?;
        if request.keep_days.is_some_and(|days| !(1..=365).contains(&days)) {
            return Err(Error::new(Code::Invalid, "a simulated target keeps backups for 1 to 365 days"));
        }
        let what = format!("{} {}", frequency_word(request.every), request.at);
        from_json(self.open_store()?.apply_effect(Some(key), "schedule.create", &what, |p| {
            if p.list_schedule_rows()?.iter().any(|s| s.every == request.every && s.at == request.at) {
                let message = format!("`{}` has a schedule for `{what}` already", p.target);
                return Err(
                    Error::new(Code::Conflict, message).with_hint("choose another time, or delete that one")
                );
            }
            let id = format!("schedule-{key}");
            p.add_schedule(&id, (request.every, time), request.keep_days, Some(key), p.now)?;
            let made = p.list_schedule_rows()?.into_iter().find(|s| s.id == id);
            to_json(p.to_schedule(made.ok_or_else(|| Error::new(Code::Internal, "a schedule was lost"))?)?)
        })?)
    }

    async fn delete(&self, id: &str) -> Result<()> {
        let delete = |p: &WorldTx<'_>| {
            let gone = p.list_schedule_rows()?.iter().any(|s| s.id == id);
            p.delete_row("schedules", id)?;
            Ok(gone.then(|| object!({ "id": id })))
        };
        self.open_store()?.apply_effect_if_needed(None, "schedule.delete", id, delete).map(drop)
    }
}

impl WorldTx<'_> {
    /// Adds a schedule whose first backup is the first after `from`.
    pub(super) fn add_schedule(
        &self,
        id: &str,
        (every, time): (Frequency, civil::Time),
        keep_days: Option<u32>,
        key: Option<&CallKey>,
        from: i64,
    ) -> Result<()> {
        let finish = self.backup_finish(next_occurrence(every, time, from));
        let at = time.strftime("%H:%M").to_string();
        let sql = "insert into schedules values (?1, ?2, ?3, ?4, ?5, ?6)";
        let values = params![id, frequency_word(every), at, keep_days, finish, key.map(|k| &k.0)];
        self.conn.execute(sql, values).map(drop).map_err(|e| store_error(&e))
    }

    /// Takes every scheduled backup that should be complete by now, and drops those whose days are over.
    pub(super) fn take_due_backups(&self) -> Result<()> {
        let power = self.read_switch(POWER)?;
        for schedule in self.list_schedule_rows()? {
            let time = parse_time_of_day(&schedule.at)?;
            let mut finish = schedule.finish_at;
            while finish <= self.now {
                let begun = finish - span_to_micros(self.world.backup_duration());
                if power.value == "on" && power.since <= begun {
                    self.take_scheduled_backup(&schedule, begun, finish)?;
                }
                finish = self.backup_finish(next_occurrence(schedule.every, time, begun));
            }
            if finish != schedule.finish_at {
                let sql = "update schedules set finish_at = ?2 where id = ?1";
                self.conn.execute(sql, params![schedule.id, finish]).map_err(|e| store_error(&e))?;
            }
        }
        let over = "delete from backups where id in (select backup from kept where until <= ?1)";
        self.conn.execute(over, [self.now]).map_err(|e| store_error(&e))?;
        self.conn
            .execute("delete from kept where until <= ?1", [self.now])
            .map(drop)
            .map_err(|e| store_error(&e))
    }

    fn take_scheduled_backup(&self, schedule: &ScheduleRow, begun: i64, finish: i64) -> Result<()> {
        let days = schedule.keep_days.map(|days| Span::from_secs(i64::from(days) * 86_400));
        let until = finish.saturating_add(span_to_micros(days.unwrap_or_else(|| self.world.retention())));
        if until <= self.now {
            return Ok(());
        }
        let id = format!("{}-{}", schedule.id, from_micros(begun).0.strftime("%Y%m%d%H%M"));
        let lines = self.main_timelines()?;
        let line = lines
            .iter()
            .rev()
            .find(|l| l.begun_at <= finish)
            .or(lines.first())
            .ok_or_else(|| Error::new(Code::Internal, "the world has no line of history"))?;
        let backup = BackupRow {
            id: id.clone(),
            label: Some("scheduled".into()),
            line: line.id,
            stop: 0,
            digest: String::new(),
            bytes: 0,
            status: "running".into(),
            started_at: begun,
            finished_at: None,
            key: None,
        };
        self.complete_backup(backup, finish)?;
        let sql = "insert or replace into kept values (?1, ?2)";
        self.conn.execute(sql, params![id, until]).map(drop).map_err(|e| store_error(&e))
    }

    /// Returns the ids of the backups that schedules took.
    pub(super) fn scheduled_backup_ids(&self) -> Result<Vec<String>> {
        self.query_rows("select backup from kept", [], |row| row.get(0))
    }

    /// Returns the schedules as a portrait shows them.
    pub(super) fn describe_schedules(&self) -> Result<Vec<String>> {
        let keeps =
            |s: &ScheduleRow| s.keep_days.map(|days| format!(", kept {days} days")).unwrap_or_default();
        let line = |s: &ScheduleRow| format!("every {} at {}{}", frequency_word(s.every), s.at, keeps(s));
        let mut lines: Vec<String> = self.list_schedule_rows()?.iter().map(line).collect();
        lines.sort_unstable();
        Ok(lines)
    }

    fn list_schedule_rows(&self) -> Result<Vec<ScheduleRow>> {
        let sql = "select id, every, at, keep_days, finish_at, key from schedules order by rowid";
        let read = |row: &Row<'_>| {
            let every = match row.get::<_, String>(1)?.as_str() {
                "week" => Frequency::Week,
                "month" => Frequency::Month,
                _ => Frequency::Day,
            };
            Ok(ScheduleRow {
                id: row.get(0)?,
                every,
                at: row.get(2)?,
                keep_days: row.get(3)?,
                finish_at: row.get(4)?,
                key: row.get(5)?,
            })
        };
        self.query_rows(sql, [], read)
    }

    fn to_schedule(&self, planned: ScheduleRow) -> Result<Schedule> {
        let is_on = self.read_switch(POWER)?.value == "on";
        let next = planned.finish_at - span_to_micros(self.world.backup_duration());
        Ok(Schedule {
            id: planned.id,
            target: self.target.into(),
            every: planned.every,
            at: planned.at,
            keep_days: planned.keep_days,
            next_at: is_on.then(|| from_micros(next)),
            method: "simulated".into(),
            key: planned.key.map(CallKey),
        })
    }

    fn backup_finish(&self, begun: Moment) -> i64 {
        to_micros(begun).saturating_add(span_to_micros(self.world.backup_duration()))
    }
}

/// Reads `HH:MM`.
///
/// # Errors
/// [`Code::Invalid`].
pub(super) fn parse_time_of_day(text: &str) -> Result<civil::Time> {
    civil::Time::strptime("%H:%M", text).map_err(|_| {
        Error::new(Code::Invalid, format!("`{text}` is no time of day"))
            .with_hint("write it as `03:00`, in UTC")
    })
}

/// Returns the first moment after `from` (microseconds since 1970) at which a schedule comes round.
fn next_occurrence(every: Frequency, time: civil::Time, from: i64) -> Moment {
    let mut day = from_micros(from).0.to_zoned(TimeZone::UTC).date();
    loop {
        let is_its_day = match every {
            Frequency::Day => true,
            Frequency::Week => day.weekday() == civil::Weekday::Monday,
            Frequency::Month => day.day() == 1,
        };
        let at = day.to_datetime(time).to_zoned(TimeZone::UTC).map(|zoned| Moment(zoned.timestamp()));
        match (at, day.tomorrow()) {
            (Ok(at), _) if is_its_day && to_micros(at) > from => return at,
            (Ok(_), Ok(next)) => day = next,
            // The end of the calendar: never again.
            _ => return Moment(jiff::Timestamp::MAX),
        }
    }
}

fn frequency_word(every: Frequency) -> &'static str {
    match every {
        Frequency::Day => "day",
        Frequency::Week => "week",
        Frequency::Month => "month",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_time_is_after_now_and_on_its_day() {
        let from = |text: &str| to_micros(Moment::parse(text).expect("a moment"));
        let time = parse_time_of_day("03:00").expect("a time");
        let cases = [
            (Frequency::Day, "2026-11-20T02:59:59Z", "2026-11-20T03:00:00Z"),
            (Frequency::Day, "2026-11-20T03:00:00Z", "2026-11-21T03:00:00Z"),
            (Frequency::Week, "2026-11-20T12:00:00Z", "2026-11-23T03:00:00Z"),
            (Frequency::Month, "2026-12-01T03:00:00Z", "2027-01-01T03:00:00Z"),
        ];
        for (every, now, next) in cases {
            assert_eq!(next_occurrence(every, time, from(now)).to_string(), next);
        }
        assert!(parse_time_of_day("25:00").is_err() && parse_time_of_day("three").is_err());
    }
}
