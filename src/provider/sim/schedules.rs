//! Backups that a simulated target takes by its own clock.
//!
//! Nobody need look: whoever opens the world next finds every backup that was due since, with the content of the moment
//! at which it was complete, and none whose days are over. While the target is off nothing is taken.

use super::{
    Sim,
    archive::{Saved, span_micros},
    backups::{decode, json},
    store::{Present, broken, micros, moment},
    switches::POWER,
};
use crate::{
    base::moment::{Moment, Span},
    provider::{
        Code, Error, Result, Schedules,
        model::{Every, Key, Schedule, ScheduleRequest},
    },
};
use async_trait::async_trait;
use jiff::{civil, tz::TimeZone};
use rusqlite::{Row, params};
use serde_json::json as object;

/// A schedule as it stands in the world.
struct Planned {
    id: String,
    every: Every,
    at: String,
    keep_days: Option<u32>,
    finish_at: i64,
    key: Option<String>,
}

#[async_trait]
impl Schedules for Sim {
    async fn list(&self) -> Result<Vec<Schedule>> {
        self.store()?.look(|p| p.planned()?.into_iter().map(|s| p.shown_schedule(s)).collect())
    }

    async fn create(&self, request: &ScheduleRequest, key: &Key) -> Result<Schedule> {
        let time = time_of(&request.at)?;
        if request.keep_days.is_some_and(|days| !(1..=365).contains(&days)) {
            return Err(Error::new(Code::Invalid, "a simulated target keeps backups for 1 to 365 days"));
        }
        let what = format!("{} {}", word(request.every), request.at);
        decode(self.store()?.effect(Some(key), "schedule.create", &what, |p| {
            if p.planned()?.iter().any(|s| s.every == request.every && s.at == request.at) {
                let message = format!("`{}` has a schedule for `{what}` already", p.target);
                return Err(
                    Error::new(Code::Conflict, message).hint("choose another time, or delete that one")
                );
            }
            let id = format!("schedule-{key}");
            p.plan_schedule(&id, (request.every, time), request.keep_days, Some(key), p.now)?;
            let made = p.planned()?.into_iter().find(|s| s.id == id);
            json(p.shown_schedule(made.ok_or_else(|| Error::new(Code::Internal, "a schedule was lost"))?)?)
        })?)
    }

    async fn delete(&self, id: &str) -> Result<()> {
        let delete = |p: &Present<'_>| {
            let gone = p.planned()?.iter().any(|s| s.id == id);
            p.remove("schedules", id)?;
            Ok(gone.then(|| object!({ "id": id })))
        };
        self.store()?.effect_if(None, "schedule.delete", id, delete).map(drop)
    }
}

impl Present<'_> {
    /// Adds a schedule whose first backup is the first after `from`.
    pub(super) fn plan_schedule(
        &self,
        id: &str,
        (every, time): (Every, civil::Time),
        keep_days: Option<u32>,
        key: Option<&Key>,
        from: i64,
    ) -> Result<()> {
        let finish = self.finish_of(next_after(every, time, from));
        let at = time.strftime("%H:%M").to_string();
        let sql = "insert into schedules values (?1, ?2, ?3, ?4, ?5, ?6)";
        let values = params![id, word(every), at, keep_days, finish, key.map(|k| &k.0)];
        self.conn.execute(sql, values).map(drop).map_err(|e| broken(&e))
    }

    /// Takes every scheduled backup that should be complete by now, and drops those whose days are over.
    pub(super) fn settle_schedules(&self) -> Result<()> {
        let power = self.switch(POWER)?;
        for schedule in self.planned()? {
            let time = time_of(&schedule.at)?;
            let mut finish = schedule.finish_at;
            while finish <= self.now {
                let begun = finish - span_micros(self.world.backup_duration());
                if power.value == "on" && power.since <= begun {
                    self.take_scheduled(&schedule, begun, finish)?;
                }
                finish = self.finish_of(next_after(schedule.every, time, begun));
            }
            if finish != schedule.finish_at {
                let sql = "update schedules set finish_at = ?2 where id = ?1";
                self.conn.execute(sql, params![schedule.id, finish]).map_err(|e| broken(&e))?;
            }
        }
        let over = "delete from backups where id in (select backup from kept where until <= ?1)";
        self.conn.execute(over, [self.now]).map_err(|e| broken(&e))?;
        self.conn.execute("delete from kept where until <= ?1", [self.now]).map(drop).map_err(|e| broken(&e))
    }

    fn take_scheduled(&self, schedule: &Planned, begun: i64, finish: i64) -> Result<()> {
        let days = schedule.keep_days.map(|days| Span::seconds(i64::from(days) * 86_400));
        let until = finish.saturating_add(span_micros(days.unwrap_or_else(|| self.world.retention())));
        if until <= self.now {
            return Ok(());
        }
        let id = format!("{}-{}", schedule.id, moment(begun).0.strftime("%Y%m%d%H%M"));
        let lines = self.main_lines()?;
        let line = lines
            .iter()
            .rev()
            .find(|l| l.begun_at <= finish)
            .or(lines.first())
            .ok_or_else(|| Error::new(Code::Internal, "the world has no line of history"))?;
        let backup = Saved {
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
        self.complete(backup, finish)?;
        let sql = "insert or replace into kept values (?1, ?2)";
        self.conn.execute(sql, params![id, until]).map(drop).map_err(|e| broken(&e))
    }

    /// Returns the ids of the backups that schedules took.
    pub(super) fn scheduled_backups(&self) -> Result<Vec<String>> {
        self.rows("select backup from kept", [], |row| row.get(0))
    }

    /// Returns the schedules as a portrait shows them.
    pub(super) fn schedule_lines(&self) -> Result<Vec<String>> {
        let keeps = |s: &Planned| s.keep_days.map(|days| format!(", kept {days} days")).unwrap_or_default();
        let line = |s: &Planned| format!("every {} at {}{}", word(s.every), s.at, keeps(s));
        let mut lines: Vec<String> = self.planned()?.iter().map(line).collect();
        lines.sort_unstable();
        Ok(lines)
    }

    fn planned(&self) -> Result<Vec<Planned>> {
        let sql = "select id, every, at, keep_days, finish_at, key from schedules order by rowid";
        let read = |row: &Row<'_>| {
            let every = match row.get::<_, String>(1)?.as_str() {
                "week" => Every::Week,
                "month" => Every::Month,
                _ => Every::Day,
            };
            Ok(Planned {
                id: row.get(0)?,
                every,
                at: row.get(2)?,
                keep_days: row.get(3)?,
                finish_at: row.get(4)?,
                key: row.get(5)?,
            })
        };
        self.rows(sql, [], read)
    }

    fn shown_schedule(&self, planned: Planned) -> Result<Schedule> {
        let is_on = self.switch(POWER)?.value == "on";
        let next = planned.finish_at - span_micros(self.world.backup_duration());
        Ok(Schedule {
            id: planned.id,
            target: self.target.into(),
            every: planned.every,
            at: planned.at,
            keep_days: planned.keep_days,
            next_at: is_on.then(|| moment(next)),
            method: "simulated".into(),
            key: planned.key.map(Key),
        })
    }

    fn finish_of(&self, begun: Moment) -> i64 {
        micros(begun).saturating_add(span_micros(self.world.backup_duration()))
    }
}

/// Reads `HH:MM`.
///
/// # Errors
/// [`Code::Invalid`].
pub(super) fn time_of(text: &str) -> Result<civil::Time> {
    civil::Time::strptime("%H:%M", text).map_err(|_| {
        Error::new(Code::Invalid, format!("`{text}` is no time of day")).hint("write it as `03:00`, in UTC")
    })
}

/// Returns the first moment after `from` (microseconds since 1970) at which a schedule comes round.
fn next_after(every: Every, time: civil::Time, from: i64) -> Moment {
    let mut day = moment(from).0.to_zoned(TimeZone::UTC).date();
    loop {
        let is_its_day = match every {
            Every::Day => true,
            Every::Week => day.weekday() == civil::Weekday::Monday,
            Every::Month => day.day() == 1,
        };
        let at = day.to_datetime(time).to_zoned(TimeZone::UTC).map(|zoned| Moment(zoned.timestamp()));
        match (at, day.tomorrow()) {
            (Ok(at), _) if is_its_day && micros(at) > from => return at,
            (Ok(_), Ok(next)) => day = next,
            // The end of the calendar: never again.
            _ => return Moment(jiff::Timestamp::MAX),
        }
    }
}

fn word(every: Every) -> &'static str {
    match every {
        Every::Day => "day",
        Every::Week => "week",
        Every::Month => "month",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_time_is_after_now_and_on_its_day() {
        let from = |text: &str| micros(Moment::parse(text).expect("a moment"));
        let time = time_of("03:00").expect("a time");
        let cases = [
            (Every::Day, "2026-11-20T02:59:59Z", "2026-11-20T03:00:00Z"),
            (Every::Day, "2026-11-20T03:00:00Z", "2026-11-21T03:00:00Z"),
            (Every::Week, "2026-11-20T12:00:00Z", "2026-11-23T03:00:00Z"),
            (Every::Month, "2026-12-01T03:00:00Z", "2027-01-01T03:00:00Z"),
        ];
        for (every, now, next) in cases {
            assert_eq!(next_after(every, time, from(now)).to_string(), next);
        }
        assert!(time_of("25:00").is_err() && time_of("three").is_err());
    }
}
