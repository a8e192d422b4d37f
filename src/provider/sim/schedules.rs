//! Backups that a simulated target takes by its own clock.

use super::{
    target::Sim,
    world::{
        WorldTx,
        calendar::{frequency_word, parse_time_of_day},
        from_json, to_json,
    },
};
use crate::provider::{
    Code, Error, Result, Schedules,
    model::{CallKey, Schedule, ScheduleRequest},
};
use async_trait::async_trait;
use serde_json::json as object;

#[async_trait]
impl Schedules for Sim {
    async fn list(&self) -> Result<Vec<Schedule>> {
        self.open_store()?.read_current_world(|tx| {
            tx.list_schedule_rows()?.into_iter().map(|s| tx.to_schedule(s)).collect()
        })
    }

    async fn create(&self, request: &ScheduleRequest, key: &CallKey) -> Result<Schedule> {
        let time = parse_time_of_day(&request.at)?;
        if request.keep_days.is_some_and(|days| !(1..=365).contains(&days)) {
            return Err(Error::new(Code::Invalid, "a simulated target keeps backups for 1 to 365 days"));
        }
        let what = format!("{} {}", frequency_word(request.every), request.at);
        from_json(self.open_store()?.apply_effect(Some(key), "schedule.create", &what, |tx| {
            if tx.list_schedule_rows()?.iter().any(|s| s.every == request.every && s.at == request.at) {
                let message = format!("`{}` has a schedule for `{what}` already", tx.target);
                return Err(
                    Error::new(Code::Conflict, message).with_hint("choose another time, or delete that one")
                );
            }
            let id = format!("schedule-{key}");
            tx.add_schedule(&id, (request.every, time), request.keep_days, Some(key), tx.now)?;
            let made = tx.list_schedule_rows()?.into_iter().find(|s| s.id == id);
            to_json(tx.to_schedule(made.ok_or_else(|| Error::new(Code::Internal, "a schedule was lost"))?)?)
        })?)
    }

    async fn delete(&self, id: &str) -> Result<()> {
        let delete = |tx: &WorldTx<'_>| {
            let gone = tx.list_schedule_rows()?.iter().any(|s| s.id == id);
            tx.delete_row("schedules", id)?;
            Ok(gone.then(|| object!({ "id": id })))
        };
        self.open_store()?.apply_effect_if_needed(None, "schedule.delete", id, delete).map(drop)
    }
}
