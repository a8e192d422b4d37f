//! Schedules, as rows of the world's file, and the backups that they take.
//!
//! Nobody needs to poll: whoever opens the world next finds every backup that was due since, with the content of the moment
//! at which it was complete, and none whose days are over. While the target is off nothing is taken.

use super::{
    backups::BackupRow,
    calendar::{frequency_word, next_occurrence, parse_time_of_day},
    switches::POWER,
    time::{from_micros, span_to_micros, to_micros},
    tx::{WorldTx, store_error},
};
use crate::{
    base::moment::{Moment, Span},
    provider::{
        Code, Error, Result,
        model::{CallKey, Frequency, Schedule},
    },
};
use jiff::civil;
use rusqlite::{Row, params};

/// A schedule, as a row of the world's file.
pub(in crate::provider::sim) struct ScheduleRow {
    pub(in crate::provider::sim) id: String,
    pub(in crate::provider::sim) every: Frequency,
    /// The time of day in UTC, `HH:MM`.
    pub(in crate::provider::sim) at: String,
    keep_days: Option<u32>,
    /// When its next backup is complete, in microseconds since 1970.
    finish_at: i64,
    key: Option<String>,
}

impl WorldTx<'_> {
    /// Adds a schedule whose first backup is the first after `from`.
    pub(in crate::provider::sim) fn add_schedule(
        &self,
        id: &str,
        (every, time): (Frequency, civil::Time),
        keep_days: Option<u32>,
        key: Option<&CallKey>,
        from: i64,
    ) -> Result<()> {
        let finish = self.backup_finish_micros(next_occurrence(every, time, from));
        let at = time.strftime("%H:%M").to_string();
        let sql = "insert into schedules values (?1, ?2, ?3, ?4, ?5, ?6)";
        let values = params![id, frequency_word(every), at, keep_days, finish, key.map(|k| &k.0)];
        self.conn.execute(sql, values).map(drop).map_err(|e| store_error(&e))
    }

    /// Takes every scheduled backup that should be complete by now, and deletes those whose days are over.
    pub(super) fn run_due_schedules(&self) -> Result<()> {
        let power = self.read_switch(POWER)?;
        for schedule in self.list_schedule_rows()? {
            let time = parse_time_of_day(&schedule.at)?;
            let mut finish = schedule.finish_at;
            while finish <= self.now {
                let begun = finish - span_to_micros(self.spec.backup_duration());
                if power.value == "on" && power.since <= begun {
                    self.take_scheduled_backup(&schedule, begun, finish)?;
                }
                finish = self.backup_finish_micros(next_occurrence(schedule.every, time, begun));
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
        let until = finish.saturating_add(span_to_micros(days.unwrap_or_else(|| self.spec.retention())));
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
        let backup = BackupRow::new_running(id.clone(), Some("scheduled"), line.id, begun);
        self.complete_backup(backup, finish)?;
        let sql = "insert or replace into kept values (?1, ?2)";
        self.conn.execute(sql, params![id, until]).map(drop).map_err(|e| store_error(&e))
    }

    /// Returns the ids of the backups that schedules took.
    pub(in crate::provider::sim) fn scheduled_backup_ids(&self) -> Result<Vec<String>> {
        self.query_rows("select backup from kept", [], |row| row.get(0))
    }

    /// Returns the schedules as a normalized world shows them.
    pub(in crate::provider::sim) fn normalized_schedules(&self) -> Result<Vec<String>> {
        let keeps =
            |s: &ScheduleRow| s.keep_days.map(|days| format!(", kept {days} days")).unwrap_or_default();
        let line = |s: &ScheduleRow| format!("every {} at {}{}", frequency_word(s.every), s.at, keeps(s));
        let mut lines: Vec<String> = self.list_schedule_rows()?.iter().map(line).collect();
        lines.sort_unstable();
        Ok(lines)
    }

    /// Returns every schedule, oldest first.
    pub(in crate::provider::sim) fn list_schedule_rows(&self) -> Result<Vec<ScheduleRow>> {
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

    /// Returns a schedule as providers return it.
    pub(in crate::provider::sim) fn to_schedule(&self, row: ScheduleRow) -> Result<Schedule> {
        let is_on = self.read_switch(POWER)?.value == "on";
        let next = row.finish_at - span_to_micros(self.spec.backup_duration());
        Ok(Schedule {
            id: row.id,
            target: self.target.into(),
            every: row.every,
            at: row.at,
            keep_days: row.keep_days,
            next_at: is_on.then(|| from_micros(next)),
            method: "simulated".into(),
            key: row.key.map(CallKey),
        })
    }

    fn backup_finish_micros(&self, begun: Moment) -> i64 {
        to_micros(begun).saturating_add(span_to_micros(self.spec.backup_duration()))
    }
}
