//! Pausing and resuming a project.
//!
//! `POST /v1/projects/{ref}/restore` switches a paused project on; it restores no data.

use super::{
    project::{ProjectState, Supabase},
    statuses::{self, map_project_status},
};
use crate::{
    base::moment::Span,
    provider::{
        Code, Error, Lifecycle, PlannedJob, Result,
        model::{Addon, CallKey, Job, JobStatus, Progress},
    },
};
use async_trait::async_trait;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

/// The kind of job that pauses a project.
pub(super) const PAUSE_JOB: &str = "pause";
/// The kind of job that resumes a project.
pub(super) const RESUME_JOB: &str = "resume";

/// The time between two polls; a switch takes minutes.
const POLL_INTERVAL: Span = Span::from_secs(5);

/// The paid add-ons of a project.
#[derive(Deserialize)]
struct AddonsAnswer {
    selected_addons: Vec<SelectedAddon>,
}

#[derive(Deserialize)]
struct SelectedAddon {
    #[serde(rename = "type")]
    kind: String,
    variant: AddonVariant,
}

#[derive(Deserialize)]
struct AddonVariant {
    id: String,
    name: Option<String>,
}

#[async_trait]
impl Lifecycle for Supabase {
    async fn check_ready(&self) -> Result<JobStatus> {
        let state = self.fetch_project_state().await?;
        if state.status == "INACTIVE" {
            return Err(Error::new(Code::Refused, format!("project {} is paused", self.reference))
                .with_hint("switch it on with `project::resume`"));
        }
        self.poll_ready(&state).await
    }

    async fn pause(&self, key: &CallKey) -> Result<Job> {
        self.plan_pause(key).await?.request.await
    }

    async fn resume(&self, key: &CallKey) -> Result<Job> {
        self.plan_resume(key).await?.request.await
    }

    async fn plan_pause<'a>(&'a self, key: &'a CallKey) -> Result<PlannedJob<'a>> {
        self.plan_power_change(PAUSE_JOB, key).await
    }

    async fn plan_resume<'a>(&'a self, key: &'a CallKey) -> Result<PlannedJob<'a>> {
        self.plan_power_change(RESUME_JOB, key).await
    }

    async fn addons(&self) -> Result<Vec<Addon>> {
        let answer: AddonsAnswer = self.get_project_resource("/billing/addons").await?;
        let addon = |addon: SelectedAddon| Addon {
            kind: addon.kind,
            variant: addon.variant.id,
            name: addon.variant.name.unwrap_or_default(),
        };
        Ok(answer.selected_addons.into_iter().map(addon).collect())
    }
}

impl Supabase {
    /// Plans a pause or a resume.
    async fn plan_power_change<'a>(&'a self, kind: &'static str, key: &CallKey) -> Result<PlannedJob<'a>> {
        let status = self.fetch_project_state().await?.status;
        let job = self.power_job(kind);
        match (kind, status.as_str()) {
            // What a look calls done is asked for all the same: the look may lag behind.
            (kind, status) if is_power_as_wanted(kind, status) => {}
            (PAUSE_JOB, "ACTIVE_HEALTHY" | "ACTIVE_UNHEALTHY" | "PAUSE_FAILED")
            | (RESUME_JOB, "INACTIVE" | "RESTORE_FAILED") => {}
            (_, other) => {
                return Err(Error::new(
                    Code::Refused,
                    format!(
                        "project {} cannot {kind} while it is `{}`",
                        self.reference,
                        map_project_status(other)
                    ),
                )
                .with_hint(
                    "wait with `project::wait_ready`; when it stays so for an hour, ask Supabase's support",
                ));
            }
        }
        let traces = json!({"kind": kind, "ref": self.reference, "status": status, "key": key});
        Ok(PlannedJob::with_traces(traces, Box::pin(self.request_power_change(kind, job))))
    }

    async fn request_power_change(&self, kind: &str, job: Job) -> Result<Job> {
        let action = if kind == PAUSE_JOB { "pause" } else { "restore" };
        let path = format!("/v1/projects/{}/{action}", self.reference);
        // The platform refuses what is so already; whoever asks looks whether it is.
        self.api.send_write(Method::POST, &path, None).await.map(|()| job)
    }

    fn power_job(&self, kind: &str) -> Job {
        Job { kind: kind.into(), id: self.reference.clone(), detail: Value::Null }
    }

    /// Returns the job of a pause or a resume whose request may have been sent, if the project's status shows it: nothing keeps
    /// the request itself.
    ///
    /// # Errors
    /// [`Code::Unknown`] when the status does not tell, [`Code::Internal`] for traces that cannot be read.
    pub(super) async fn infer_power_job(&self, kind: &str, traces: &Value) -> Result<Option<Job>> {
        let before = read_earlier_status(kind, traces)?;
        let status = self.fetch_project_state().await?.status;
        match (kind, status.as_str()) {
            (kind, status) if is_power_as_wanted(kind, status) => Ok(Some(self.power_job(kind))),
            // The platform refuses a request that it has accepted before, so it may be sent again.
            (PAUSE_JOB, "ACTIVE_HEALTHY" | "ACTIVE_UNHEALTHY") | (RESUME_JOB, "INACTIVE") => Ok(None),
            // One that failed before has not failed again; one that fails now was accepted.
            (PAUSE_JOB, "PAUSE_FAILED") | (RESUME_JOB, "RESTORE_FAILED") => {
                Ok((before != status).then(|| self.power_job(kind)))
            }
            (_, other) => Err(Error::new(
                Code::Unknown,
                format!(
                    "the project is `{}`, which does not tell whether the {kind} was accepted",
                    map_project_status(other)
                ),
            )
            .with_hint("look at the project's dashboard, and decide")),
        }
    }

    /// Polls a pause or a resume. Only a status that it alone takes the project through shows it at work: any other may be from
    /// before it, also one that is not what it makes.
    ///
    /// # Errors
    /// [`Code::Refused`] when it has failed.
    pub(super) async fn poll_power_change(&self, kind: &str) -> Result<JobStatus> {
        let state = self.fetch_project_state().await?;
        match (kind, state.status.as_str()) {
            (PAUSE_JOB, "INACTIVE") => Ok(JobStatus::Done(json!(self.to_project(&state)))),
            (PAUSE_JOB, "PAUSE_FAILED" | "REMOVED" | "GOING_DOWN") => {
                Ok(JobStatus::Failed(self.dead_end_error(&state)))
            }
            (PAUSE_JOB, "PAUSING") => Ok(running_status(map_project_status("PAUSING"))),
            // Right after the request the old status is still shown.
            (PAUSE_JOB, status) | (_, status @ "INACTIVE") => {
                Ok(JobStatus::NotBegun(switch_progress(map_project_status(status))))
            }
            (_, "COMING_UP" | statuses::RESTORING) => self.poll_ready(&state).await,
            _ => Ok(match self.poll_ready(&state).await? {
                JobStatus::Running(progress) => JobStatus::NotBegun(progress),
                over => over,
            }),
        }
    }

    /// Polls whether a project is ready. Connections fail for up to a minute after its status says so
    /// (supabase/supabase#39604), so its services and its database are asked too.
    ///
    /// # Errors
    /// [`Code::Refused`] when it will not get ready by itself.
    async fn poll_ready(&self, state: &ProjectState) -> Result<JobStatus> {
        if statuses::is_final_project_status(&state.status) {
            return Ok(JobStatus::Failed(self.dead_end_error(state)));
        }
        if state.status != statuses::ACTIVE_HEALTHY {
            return Ok(running_status(map_project_status(&state.status)));
        }
        Ok(match self.why_not_ready(&self.reference).await? {
            None => JobStatus::Done(json!(self.to_project(state))),
            Some(why) => running_status(format!("does not answer yet: {why}")),
        })
    }

    fn dead_end_error(&self, state: &ProjectState) -> Error {
        Error::new(Code::Refused, format!("project {} is `{}`", self.reference, map_project_status(&state.status)))
            .with_hint("it does not get out of this by itself: see its dashboard, or ask Supabase's support with the reference and since when")
            .with_side_effects()
    }
}

/// Returns how a project was before a pause or a resume was asked for.
///
/// # Errors
/// [`Code::Internal`] where nothing says so.
pub(super) fn read_earlier_status<'a>(kind: &str, traces: &'a Value) -> Result<&'a str> {
    traces["status"].as_str().ok_or_else(|| {
        Error::new(Code::Internal, format!("the recorded {kind} does not say how the project was"))
    })
}

/// Returns whether a project in this status is as a pause or a resume makes it, or on its way there.
fn is_power_as_wanted(kind: &str, status: &str) -> bool {
    match kind {
        PAUSE_JOB => matches!(status, "INACTIVE" | "PAUSING"),
        _ => matches!(status, "ACTIVE_HEALTHY" | "COMING_UP" | "RESTORING"),
    }
}

/// Returns the error of cancelling a pause or a resume, which the platform cannot stop.
pub(super) fn uncancellable_error(job: &Job) -> Error {
    Error::new(Code::Unsupported, format!("a {} that was accepted goes on by itself", job.kind))
        .with_hint("see how far it is with `project::get`")
}

fn running_status(phase: String) -> JobStatus {
    JobStatus::Running(switch_progress(phase))
}

fn switch_progress(phase: String) -> Progress {
    Progress { again_in: Some(POLL_INTERVAL), ..Progress::with_phase(phase) }
}

#[cfg(test)]
mod tests {
    use super::super::mock_api::{MockApi, MockReply, REF};
    use super::*;
    use crate::provider::Provider as _;

    fn key() -> CallKey {
        CallKey("abcdefghij".into())
    }

    /// Serves a project that is `statuses`, one a look, with healthy services and a database that answers.
    async fn project(statuses: &'static [&'static str]) -> MockApi {
        MockApi::serve_replies(move |seen| {
            if seen.line.contains("/health") {
                MockReply::from_json(200, &json!([{"name": "db", "status": "ACTIVE_HEALTHY"}]))
            } else if seen.line.contains("/database/query") {
                MockReply::from_json(201, &json!([{"one": 1}]))
            } else if seen.line.starts_with("POST") {
                MockReply::from_text(200, "")
            } else {
                MockReply::from_json(
                    200,
                    &json!({"name": "Shop", "status": statuses[seen.earlier.min(statuses.len() - 1)]}),
                )
            }
        })
        .await
    }

    #[tokio::test]
    async fn supabase_t12_resume_is_the_restore_of_the_project_and_of_nothing_else() {
        let server = project(&["INACTIVE", "INACTIVE", "COMING_UP", "ACTIVE_HEALTHY"]).await;
        let target = server.project();
        let job = target.resume(&key()).await.expect("accepted");
        let writes: Vec<_> = server.request_lines().into_iter().filter(|l| l.starts_with("POST")).collect();
        assert_eq!(writes, [format!("POST /v1/projects/{REF}/restore")]);
        let JobStatus::NotBegun(progress) = target.poll_job(&job).await.expect("a look") else {
            panic!("off")
        };
        assert_eq!(progress.phase, "paused");
        let JobStatus::Running(progress) = target.poll_job(&job).await.expect("a look") else {
            panic!("begun")
        };
        assert_eq!(progress.phase, "coming_up");
        let JobStatus::Done(project) = target.poll_job(&job).await.expect("a look") else { panic!("ready") };
        assert_eq!(project["status"], "healthy");
    }

    #[tokio::test]
    async fn supabase_pause_is_asked_for_also_where_a_look_calls_it_done() {
        let server = MockApi::serve_replies(|seen| match (seen.line.starts_with("POST"), seen.earlier) {
            (true, 0) => MockReply::from_text(200, ""),
            (true, _) => MockReply::from_json(400, &json!({"message": "This project cannot be paused"})),
            (false, earlier) => {
                let statuses = ["ACTIVE_HEALTHY", "PAUSING", "INACTIVE", "INACTIVE", "INACTIVE", "INACTIVE"];
                let status = statuses.get(earlier).unwrap_or(&"ACTIVE_HEALTHY");
                MockReply::from_json(200, &json!({"name": "Shop", "status": status}))
            }
        })
        .await;
        let target = server.project();
        let job = Lifecycle::pause(&target, &key()).await.expect("accepted");
        assert!(matches!(target.poll_job(&job).await, Ok(JobStatus::Running(_))));
        assert!(matches!(target.poll_job(&job).await, Ok(JobStatus::Done(_))));
        let refused = Lifecycle::pause(&target, &key()).await.expect_err("whatever the look shows");
        assert_eq!(refused.code, Code::Refused);
        assert_eq!(server.request_lines().iter().filter(|l| l.starts_with("POST")).count(), 2);
    }

    #[tokio::test]
    async fn supabase_a_switch_is_shown_at_work_by_no_status_that_may_be_from_before_it() {
        for (kind, status, is_at_work) in [
            (PAUSE_JOB, "PAUSING", true),
            (PAUSE_JOB, "ACTIVE_HEALTHY", false),
            (PAUSE_JOB, "COMING_UP", false),
            (RESUME_JOB, "COMING_UP", true),
            (RESUME_JOB, "INACTIVE", false),
            (RESUME_JOB, "PAUSING", false),
            (RESUME_JOB, "ACTIVE_UNHEALTHY", false),
        ] {
            let server =
                MockApi::serve_replies(move |_| MockReply::from_json(200, &json!({"status": status}))).await;
            let target = server.project();
            let shown = target.poll_job(&target.power_job(kind)).await.expect("a look");
            assert_eq!(matches!(shown, JobStatus::Running(_)), is_at_work, "{kind} {status}");
            assert_eq!(matches!(shown, JobStatus::NotBegun(_)), !is_at_work, "{kind} {status}");
        }
    }

    #[tokio::test]
    async fn supabase_a_resume_while_it_pauses_is_refused_before_anything_is_sent() {
        let server = project(&["PAUSING"]).await;
        let error = server.project().resume(&key()).await.expect_err("not now");
        assert_eq!(error.code, Code::Refused);
        assert!(error.message.contains("`pausing`"), "{error}");
        assert!(server.request_lines().iter().all(|l| l.starts_with("GET")));
    }

    #[tokio::test]
    async fn supabase_an_intended_switch_is_known_by_how_the_project_is() {
        for (kind, before, status, found) in [
            (PAUSE_JOB, "ACTIVE_HEALTHY", "PAUSING", Ok(true)),
            (PAUSE_JOB, "ACTIVE_HEALTHY", "ACTIVE_HEALTHY", Ok(false)),
            (PAUSE_JOB, "ACTIVE_HEALTHY", "PAUSE_FAILED", Ok(true)),
            (PAUSE_JOB, "PAUSE_FAILED", "PAUSE_FAILED", Ok(false)),
            (RESUME_JOB, "INACTIVE", "COMING_UP", Ok(true)),
            (RESUME_JOB, "INACTIVE", "INACTIVE", Ok(false)),
            (RESUME_JOB, "RESTORE_FAILED", "RESTORE_FAILED", Ok(false)),
            (RESUME_JOB, "INACTIVE", "UPGRADING", Err(Code::Unknown)),
        ] {
            let server =
                MockApi::serve_replies(move |_| MockReply::from_json(200, &json!({"status": status}))).await;
            let traces = json!({"kind": kind, "status": before});
            let known = server.project().find_job(&key(), Some(&traces)).await;
            assert_eq!(known.map(|job| job.is_some()).map_err(|e| e.code), found, "{kind} {status}");
        }
    }

    #[tokio::test]
    async fn supabase_ready_is_status_and_services_and_a_real_query() {
        let server = MockApi::serve_replies(|seen| {
            if seen.line.contains("/health?services=db") {
                let status = if seen.earlier == 0 { "COMING_UP" } else { "ACTIVE_HEALTHY" };
                MockReply::from_json(
                    200,
                    &json!([{"name": "db", "status": status, "error": "{\"error\":\"not found\"}"}]),
                )
            } else if seen.line.contains("/database/query") {
                match seen.earlier {
                    0 => MockReply::from_json(
                        400,
                        &json!({"message": "Failed to run sql query: connect ECONNREFUSED"}),
                    ),
                    _ => MockReply::from_json(201, &json!([{"one": 1}])),
                }
            } else {
                let status = if seen.earlier == 0 { "RESTORING" } else { "ACTIVE_HEALTHY" };
                MockReply::from_json(200, &json!({"status": status}))
            }
        })
        .await;
        let target = server.project();
        for phase in
            ["restoring", "does not answer yet: its database is COMING_UP", "does not answer yet: the API"]
        {
            let JobStatus::Running(progress) = target.check_ready().await.expect("a look") else {
                panic!("{phase}")
            };
            assert!(progress.phase.starts_with(phase), "{}", progress.phase);
        }
        assert!(matches!(target.check_ready().await, Ok(JobStatus::Done(_))));
    }

    #[tokio::test]
    async fn supabase_what_cannot_get_ready_is_not_waited_for() {
        for status in ["RESTORE_FAILED", "INIT_FAILED", "GOING_DOWN", "REMOVED", "INACTIVE"] {
            let server =
                MockApi::serve_replies(move |_| MockReply::from_json(200, &json!({"status": status}))).await;
            let why = match server.project().check_ready().await {
                Ok(JobStatus::Failed(why)) | Err(why) => why,
                other => panic!("{status}: {other:?}"),
            };
            assert_eq!(why.code, Code::Refused, "{status}");
        }
    }

    #[tokio::test]
    async fn supabase_addons_are_read() {
        let server = MockApi::serve_replies(|_| {
            MockReply::from_json(
                200,
                &json!({"selected_addons": [{"type": "pitr", "variant": {"id": "pitr_7", "name": "7 days", "price": {}}},
                                            {"type": "of_next_year", "variant": {"id": "x"}}]}),
            )
        })
        .await;
        let addons = server.project().addons().await.expect("add-ons");
        assert_eq!((addons[0].kind.as_str(), addons[0].variant.as_str()), ("pitr", "pitr_7"));
        assert_eq!(addons[1].kind, "of_next_year");
    }
}
