//! The platform's own daily backup, of which only the time of day can be set, and on one plan.

use super::Supabase;
use crate::{
    base::moment::{Moment, Span},
    provider::{
        Code, Error, Result, Schedules,
        model::{Every, Key, Schedule, ScheduleRequest},
    },
};
use async_trait::async_trait;
use reqwest::Method;
use serde_json::{Value, json};

/// The name of the one schedule there is.
const ID: &str = "daily";

#[async_trait]
impl Schedules for Supabase {
    async fn list(&self) -> Result<Vec<Schedule>> {
        let said = self.api.get(&self.schedule_path()).await.map_err(instead)?;
        Ok(vec![self.schedule(&said)?])
    }

    /// Sets the time of day. The platform takes three changes a day, and keeps nothing of who asked.
    async fn create(&self, request: &ScheduleRequest, _key: &Key) -> Result<Schedule> {
        if request.every != Every::Day {
            return Err(elsewhere("the platform takes its own backup once a day and never else"));
        }
        if request.keep_days.is_some() {
            return Err(elsewhere("how long the platform's own backups are kept is the plan's to say"));
        }
        let body = json!({ "schedule_for": format!("{}:00", request.at) });
        let said = self.api.send(Method::PATCH, &self.schedule_path(), Some(&body)).await.map_err(instead)?;
        self.schedule(&said)
    }

    async fn delete(&self, _id: &str) -> Result<()> {
        Err(Error::unsupported(
            "the platform's own daily backup cannot be switched off",
            "set another time of day with `backup::schedule::create`",
        ))
    }
}

impl Supabase {
    fn schedule_path(&self) -> String {
        format!("/v1/projects/{}/database/backups/schedule", self.reference)
    }

    fn schedule(&self, said: &Value) -> Result<Schedule> {
        let time = said["schedule_for"].as_str().unwrap_or_default();
        let at = time.get(..5).filter(|at| at.as_bytes()[2] == b':').map(str::to_owned).ok_or_else(|| {
            Error::new(Code::Internal, format!("the API gives `{time}` as the time of day of a schedule"))
        })?;
        Ok(Schedule {
            id: ID.into(),
            target: self.target.clone(),
            every: Every::Day,
            next_at: next(self.clock.now(), time),
            at,
            keep_days: None,
            method: "physical".into(),
            key: None,
        })
    }
}

/// Returns when a time of day comes next, in UTC.
fn next(now: Moment, time: &str) -> Option<Moment> {
    let full = if time.len() == 5 { format!("{time}:00") } else { time.to_owned() };
    let today = Moment::parse(&format!("{}T{full}Z", now.to_string().get(..10)?)).ok()?;
    Some(if today > now { today } else { today.plus(Span::seconds(86_400)) })
}

/// Returns the error with what to do where the plan has no schedule: there is none to be found, or none to be had.
fn instead(error: Error) -> Error {
    match error.code {
        Code::NotFound | Code::Unsupported => {
            let other = elsewhere(error.message);
            Error { retryable: false, ..other }
        }
        _ => error,
    }
}

fn elsewhere(reason: impl Into<String>) -> Error {
    Error::unsupported(
        reason,
        "put a runbook that calls `backup::create` on the schedule of your CI or of cron: `redrill run backup.rhai`",
    )
}

#[cfg(test)]
mod tests {
    use super::super::stage::{Reply, Stage};
    use super::*;

    fn request(every: Every, keep_days: Option<u32>) -> ScheduleRequest {
        ScheduleRequest { every, at: "02:30".into(), keep_days }
    }

    fn key() -> Key {
        Key("abcdefghij".into())
    }

    #[tokio::test]
    async fn supabase_schedule_is_one_and_only_its_time_of_day_is_set() {
        let stage = Stage::serve(|seen| {
            if seen.line.starts_with("PATCH") {
                Reply::json(200, &json!({"schedule_for": seen.body["schedule_for"], "updated_at": "x"}))
            } else {
                Reply::json(200, &json!({"schedule_for": "23:15:00", "updated_at": "x"}))
            }
        })
        .await;
        let target = stage.project();
        let all = target.list().await.expect("one");
        assert_eq!((all.len(), all[0].at.as_str(), all[0].every), (1, "23:15", Every::Day));
        let next = all[0].next_at.expect("known").to_string();
        assert_eq!(next, "2026-11-20T23:15:00Z");
        let set = target.create(&request(Every::Day, None), &key()).await.expect("set");
        assert_eq!((set.id, set.at.as_str()), (all[0].id.clone(), "02:30"));
        assert_eq!(set.next_at.expect("known").to_string(), "2026-11-21T02:30:00Z");
        assert_eq!(stage.seen().pop().expect("sent").body, json!({"schedule_for": "02:30:00"}));
    }

    #[tokio::test]
    async fn supabase_t22_schedules_that_cannot_be_say_what_to_do_instead() {
        for (status, said) in
            [(402, "Feature requires a higher plan"), (404, "Project or backup schedule not found")]
        {
            let stage = Stage::serve(move |_| Reply::json(status, &json!({"message": said}))).await;
            let target = stage.project();
            for error in [
                target.list().await.expect_err(said),
                target.create(&request(Every::Day, None), &key()).await.expect_err(said),
            ] {
                assert_eq!(error.code, Code::Unsupported);
                assert!(error.message.contains(said), "{error}");
                assert!(error.hint.expect("a hint").contains("cron"));
            }
        }
        let stage = Stage::serve(|_| Reply::text(500, "")).await;
        for wanted in [request(Every::Week, None), request(Every::Day, Some(7))] {
            let error = stage.project().create(&wanted, &key()).await.expect_err("not there");
            assert_eq!(error.code, Code::Unsupported);
        }
        assert_eq!(stage.project().delete(ID).await.expect_err("not there").code, Code::Unsupported);
        assert_eq!(stage.seen().len(), 0);
    }
}
