//! The platform's own daily backup, of which only the time of day can be set, and on one plan.

use super::{project::Supabase, requests, transport::unreadable_answer_error};
use crate::{
    base::moment::{Moment, Span},
    provider::{
        Code, Error, Result, Schedules,
        model::{CallKey, Frequency, Schedule, ScheduleRequest},
    },
};
use async_trait::async_trait;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

/// The name of the one schedule there is.
const SCHEDULE_ID: &str = "daily";

#[async_trait]
impl Schedules for Supabase {
    async fn list(&self) -> Result<Vec<Schedule>> {
        let path = self.schedule_path();
        let answer = self.api.get(&path).await.map_err(add_schedule_alternative)?;
        let answer: ScheduleAnswer = requests::decode_answer(answer, &path)?;
        let at = parse_time_of_day(&answer.schedule_for).ok_or_else(|| {
            let why = format!("`schedule_for` is `{}`, which is no time of day", answer.schedule_for);
            unreadable_answer_error(&format!("`{path}`"), &why)
        })?;
        Ok(vec![self.daily_schedule(at)])
    }

    fn has_exactly_one(&self) -> bool {
        true
    }

    /// Sets the time of day. The platform takes three changes a day, and keeps no key.
    async fn create(&self, request: &ScheduleRequest, _key: &CallKey) -> Result<Schedule> {
        if request.every != Frequency::Day {
            return Err(unsupported_schedule_error(
                "the platform takes its own backup once a day and never else",
            ));
        }
        if request.keep_days.is_some() {
            return Err(unsupported_schedule_error(
                "how long the platform's own backups are kept is the plan's to say",
            ));
        }
        let body = json!({ "schedule_for": format!("{}:00", request.at) });
        let asked = self.api.send_write(Method::PATCH, &self.schedule_path(), Some(&body)).await;
        asked.map_err(add_schedule_alternative)?;
        Ok(self.daily_schedule(&request.at))
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

    /// Returns the one schedule there is, with a time of day such as `03:00`.
    fn daily_schedule(&self, at: &str) -> Schedule {
        Schedule {
            id: SCHEDULE_ID.into(),
            target: self.target.clone(),
            every: Frequency::Day,
            next_at: next_occurrence(self.clock.now(), at),
            at: at.to_owned(),
            keep_days: None,
            method: "physical".into(),
            key: None,
        }
    }
}

/// The platform's answer about its schedule.
#[derive(Deserialize)]
struct ScheduleAnswer {
    /// The time of day in UTC, with seconds.
    schedule_for: String,
}

/// Returns the hours and minutes of a time of day such as `03:00:00`; `None` for anything else.
fn parse_time_of_day(time: &str) -> Option<&str> {
    let (at, rest) = time.split_at_checked(5)?;
    let is_rest = rest.is_empty() || rest.starts_with(':');
    Moment::parse(&format!("2026-01-01T{at}:00Z")).ok().filter(|_| is_rest).map(|_| at)
}

/// Returns the next moment with this time of day, in UTC.
fn next_occurrence(now: Moment, at: &str) -> Option<Moment> {
    let today = Moment::parse(&format!("{}T{at}:00Z", now.to_string().get(..10)?)).ok()?;
    Some(if today > now { today } else { today.saturating_add(Span::from_secs(86_400)) })
}

/// Adds the alternative to the error of a plan that has no schedule.
fn add_schedule_alternative(error: Error) -> Error {
    match error.code {
        Code::NotFound | Code::Unsupported => {
            let other = unsupported_schedule_error(error.message);
            Error { retryable: false, ..other }
        }
        _ => error,
    }
}

fn unsupported_schedule_error(reason: impl Into<String>) -> Error {
    Error::unsupported(
        reason,
        "put a runbook that calls `backup::create` on the schedule of your CI or of cron: `redrill run backup.rhai`",
    )
}

#[cfg(test)]
mod tests {
    use super::super::mock_api::{MockApi, MockReply};
    use super::*;

    fn request(every: Frequency, keep_days: Option<u32>) -> ScheduleRequest {
        ScheduleRequest { every, at: "02:30".into(), keep_days }
    }

    fn key() -> CallKey {
        CallKey("abcdefghij".into())
    }

    #[tokio::test]
    async fn supabase_schedule_is_one_and_only_its_time_of_day_is_set() {
        let server = MockApi::serve_replies(|seen| {
            if seen.line.starts_with("PATCH") {
                MockReply::from_json(
                    200,
                    &json!({"schedule_for": seen.body["schedule_for"], "updated_at": "x"}),
                )
            } else {
                MockReply::from_json(200, &json!({"schedule_for": "23:15:00", "updated_at": "x"}))
            }
        })
        .await;
        let target = server.project();
        let all = target.list().await.expect("one");
        assert_eq!((all.len(), all[0].at.as_str(), all[0].every), (1, "23:15", Frequency::Day));
        let next = all[0].next_at.expect("known").to_string();
        assert_eq!(next, "2026-11-20T23:15:00Z");
        let set = target.create(&request(Frequency::Day, None), &key()).await.expect("set");
        assert_eq!((set.id, set.at.as_str()), (all[0].id.clone(), "02:30"));
        assert_eq!(set.next_at.expect("known").to_string(), "2026-11-21T02:30:00Z");
        assert_eq!(server.received_requests().pop().expect("sent").body, json!({"schedule_for": "02:30:00"}));
    }

    #[tokio::test]
    async fn supabase_t22_schedules_that_cannot_be_say_what_to_do_instead() {
        for (status, said) in
            [(402, "Feature requires a higher plan"), (404, "Project or backup schedule not found")]
        {
            let server =
                MockApi::serve_replies(move |_| MockReply::from_json(status, &json!({"message": said})))
                    .await;
            let target = server.project();
            for error in [
                target.list().await.expect_err(said),
                target.create(&request(Frequency::Day, None), &key()).await.expect_err(said),
            ] {
                assert_eq!(error.code, Code::Unsupported);
                assert!(error.message.contains(said), "{error}");
                assert!(error.hint.expect("a hint").contains("cron"));
            }
        }
        let server = MockApi::serve_replies(|_| MockReply::from_text(500, "")).await;
        for wanted in [request(Frequency::Week, None), request(Frequency::Day, Some(7))] {
            let error = server.project().create(&wanted, &key()).await.expect_err("not there");
            assert_eq!(error.code, Code::Unsupported);
        }
        assert_eq!(
            server.project().delete(SCHEDULE_ID).await.expect_err("not there").code,
            Code::Unsupported
        );
        assert_eq!(server.received_requests().len(), 0);
    }
}
