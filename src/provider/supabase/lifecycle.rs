//! A project, switched on and off.
//!
//! `POST /v1/projects/{ref}/restore` switches a paused project on; it restores no data.

use super::{
    Supabase,
    project::{State, word},
    statuses,
};
use crate::{
    base::moment::Span,
    provider::{
        Accept, Code, Error, Lifecycle, Result,
        model::{Addon, Job, Key, Observed, Progress},
    },
};
use async_trait::async_trait;
use reqwest::Method;
use serde_json::{Value, json};

/// The kinds of job that are made here.
pub(super) const PAUSE: &str = "pause";
/// See [`PAUSE`].
pub(super) const RESUME: &str = "resume";

/// How far apart a project is looked at: it takes minutes.
const AGAIN_IN: Span = Span::seconds(5);

#[async_trait]
impl Lifecycle for Supabase {
    async fn ready(&self) -> Result<Observed> {
        let state = self.state().await?;
        if state.status == "INACTIVE" {
            return Err(Error::new(Code::Refused, format!("project {} is paused", self.reference))
                .hint("switch it on with `project::resume`"));
        }
        self.ready_from(&state).await
    }

    async fn pause(&self, key: &Key, intent: &dyn Accept) -> Result<Job> {
        self.switch(PAUSE, key, intent).await
    }

    async fn resume(&self, key: &Key, intent: &dyn Accept) -> Result<Job> {
        self.switch(RESUME, key, intent).await
    }

    async fn addons(&self) -> Result<Vec<Addon>> {
        let said = self.api.get(&format!("/v1/projects/{}/billing/addons", self.reference)).await?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let addons = said["selected_addons"].as_array().cloned().unwrap_or_default();
        let read = |addon: &Value| Addon {
            kind: text(&addon["type"]),
            variant: text(&addon["variant"]["id"]),
            name: text(&addon["variant"]["name"]),
        };
        Ok(addons.iter().map(read).collect())
    }
}

impl Supabase {
    /// Asks to switch on or off, unless it is so already.
    async fn switch(&self, kind: &str, key: &Key, intent: &dyn Accept) -> Result<Job> {
        let status = self.state().await?.status;
        let job = self.switching(kind);
        match (kind, status.as_str()) {
            (PAUSE, "INACTIVE" | "PAUSING") | (RESUME, "ACTIVE_HEALTHY" | "COMING_UP" | "RESTORING") => {
                return Ok(job);
            }
            (PAUSE, "ACTIVE_HEALTHY" | "ACTIVE_UNHEALTHY" | "PAUSE_FAILED")
            | (RESUME, "INACTIVE" | "RESTORE_FAILED") => {}
            (_, other) => {
                return Err(Error::new(
                    Code::Refused,
                    format!("project {} cannot {kind} while it is `{}`", self.reference, word(other)),
                )
                .hint(
                    "wait with `project::wait_ready`; when it stays so for an hour, ask Supabase's support",
                ));
            }
        }
        intent.accepted(json!({"kind": kind, "ref": self.reference, "status": status, "key": key})).await?;
        let action = if kind == PAUSE { "pause" } else { "restore" };
        self.api.send(Method::POST, &format!("/v1/projects/{}/{action}", self.reference), None).await?;
        Ok(job)
    }

    fn switching(&self, kind: &str) -> Job {
        Job { kind: kind.into(), id: self.reference.clone(), detail: Value::Null }
    }

    /// Returns the job of a pause or a resume that was intended and may have been accepted: what the project is tells.
    ///
    /// # Errors
    /// [`Code::Unknown`] when it tells neither.
    pub(super) async fn find_switch(&self, kind: &str) -> Result<Option<Job>> {
        let status = self.state().await?.status;
        match (kind, status.as_str()) {
            (PAUSE, "INACTIVE" | "PAUSING") | (RESUME, "ACTIVE_HEALTHY" | "COMING_UP" | "RESTORING") => {
                Ok(Some(self.switching(kind)))
            }
            // Asking again for what is asked already is refused by the platform, and changes nothing.
            (PAUSE, "ACTIVE_HEALTHY" | "ACTIVE_UNHEALTHY") | (RESUME, "INACTIVE") => Ok(None),
            (_, other) => Err(Error::new(
                Code::Unknown,
                format!(
                    "the project is `{}`, which does not tell whether the {kind} was accepted",
                    word(other)
                ),
            )
            .hint("look at the project's dashboard, and decide")),
        }
    }

    /// Looks at a pause or a resume.
    ///
    /// # Errors
    /// [`Code::Refused`] when it has failed.
    pub(super) async fn observe_switch(&self, kind: &str) -> Result<Observed> {
        let state = self.state().await?;
        match (kind, state.status.as_str()) {
            (PAUSE, "INACTIVE") => Ok(Observed::Done(json!(self.item_of(&state)))),
            (PAUSE, "PAUSE_FAILED" | "REMOVED" | "GOING_DOWN") => Err(self.dead_end(&state)),
            (PAUSE, status) => Ok(running(word(status))),
            // Right after it is asked for, it is still shown as it was.
            (_, "INACTIVE") => Ok(running("paused".into())),
            _ => self.ready_from(&state).await,
        }
    }

    /// Looks whether a project is ready. Its status alone does not say so: connections fail for up to a minute after
    /// it does (supabase/supabase#39604), so its services and the database itself are asked too.
    ///
    /// # Errors
    /// [`Code::Refused`] when it will not get ready by itself.
    pub(super) async fn ready_from(&self, state: &State) -> Result<Observed> {
        if statuses::is_final(&state.status) {
            return Err(self.dead_end(state));
        }
        if state.status != statuses::HEALTHY {
            return Ok(running(word(&state.status)));
        }
        Ok(match self.why_silent(&self.reference).await? {
            None => Observed::Done(json!(self.item_of(state))),
            Some(why) => running(format!("does not answer yet: {why}")),
        })
    }

    fn dead_end(&self, state: &State) -> Error {
        Error::new(Code::Refused, format!("project {} is `{}`", self.reference, word(&state.status)))
            .hint("it does not get out of this by itself: see its dashboard, or ask Supabase's support with the reference and since when")
            .with_side_effects()
    }
}

/// Returns the error of giving up a pause or a resume, which cannot be called back.
pub(super) fn goes_on(job: &Job) -> Error {
    Error::new(Code::Unsupported, format!("a {} that was accepted goes on by itself", job.kind))
        .hint("see how far it is with `project::get`")
}

fn running(phase: String) -> Observed {
    Observed::Running(Progress { again_in: Some(AGAIN_IN), ..Progress::phase(phase) })
}

#[cfg(test)]
mod tests {
    use super::super::stage::{REF, Reply, Stage};
    use super::*;
    use crate::provider::{Provider as _, Unwritten};

    fn key() -> Key {
        Key("abcdefghij".into())
    }

    /// Serves a project that is `statuses`, one a look, with healthy services and a database that answers.
    async fn project(statuses: &'static [&'static str]) -> Stage {
        Stage::serve(move |seen| {
            if seen.line.contains("/health") {
                Reply::json(200, &json!([{"name": "db", "status": "ACTIVE_HEALTHY"}]))
            } else if seen.line.contains("/database/query") {
                Reply::json(201, &json!([{"one": 1}]))
            } else if seen.line.starts_with("POST") {
                Reply::text(200, "")
            } else {
                Reply::json(
                    200,
                    &json!({"name": "Shop", "status": statuses[seen.earlier.min(statuses.len() - 1)]}),
                )
            }
        })
        .await
    }

    #[tokio::test]
    async fn supabase_t12_resume_is_the_restore_of_the_project_and_of_nothing_else() {
        let stage = project(&["INACTIVE", "INACTIVE", "COMING_UP", "ACTIVE_HEALTHY"]).await;
        let target = stage.project();
        let job = target.resume(&key(), &Unwritten).await.expect("accepted");
        let writes: Vec<_> = stage.lines().into_iter().filter(|l| l.starts_with("POST")).collect();
        assert_eq!(writes, [format!("POST /v1/projects/{REF}/restore")]);
        for phase in ["paused", "coming_up"] {
            let Observed::Running(progress) = target.observe(&job).await.expect("a look") else {
                panic!("{phase}")
            };
            assert_eq!(progress.phase, phase);
        }
        let Observed::Done(project) = target.observe(&job).await.expect("a look") else { panic!("ready") };
        assert_eq!(project["status"], "healthy");
    }

    #[tokio::test]
    async fn supabase_pause_is_asked_for_once_and_not_at_all_when_it_is_so() {
        let stage = project(&["ACTIVE_HEALTHY", "PAUSING", "INACTIVE"]).await;
        let target = stage.project();
        let job = Lifecycle::pause(&target, &key(), &Unwritten).await.expect("accepted");
        assert!(matches!(target.observe(&job).await, Ok(Observed::Running(_))));
        assert!(matches!(target.observe(&job).await, Ok(Observed::Done(_))));
        let again = Lifecycle::pause(&target, &key(), &Unwritten).await.expect("it is so already");
        assert_eq!(again, job);
        assert_eq!(stage.lines().iter().filter(|l| l.starts_with("POST")).count(), 1);
    }

    #[tokio::test]
    async fn supabase_a_resume_while_it_pauses_is_refused_before_anything_is_sent() {
        let stage = project(&["PAUSING"]).await;
        let error = stage.project().resume(&key(), &Unwritten).await.expect_err("not now");
        assert_eq!(error.code, Code::Refused);
        assert!(error.message.contains("`pausing`"), "{error}");
        assert!(stage.lines().iter().all(|l| l.starts_with("GET")));
    }

    #[tokio::test]
    async fn supabase_an_intended_switch_is_known_by_how_the_project_is() {
        for (kind, status, found) in [
            (PAUSE, "PAUSING", Ok(true)),
            (PAUSE, "ACTIVE_HEALTHY", Ok(false)),
            (RESUME, "COMING_UP", Ok(true)),
            (RESUME, "INACTIVE", Ok(false)),
            (RESUME, "UPGRADING", Err(Code::Unknown)),
        ] {
            let stage = Stage::serve(move |_| Reply::json(200, &json!({"status": status}))).await;
            let intent = json!({"kind": kind});
            let known = stage.project().find(&key(), Some(&intent)).await;
            assert_eq!(known.map(|job| job.is_some()).map_err(|e| e.code), found, "{kind} {status}");
        }
    }

    #[tokio::test]
    async fn supabase_ready_is_status_and_services_and_a_real_query() {
        let stage = Stage::serve(|seen| {
            if seen.line.contains("/health?services=db") {
                let status = if seen.earlier == 0 { "COMING_UP" } else { "ACTIVE_HEALTHY" };
                Reply::json(
                    200,
                    &json!([{"name": "db", "status": status, "error": "{\"error\":\"not found\"}"}]),
                )
            } else if seen.line.contains("/database/query") {
                match seen.earlier {
                    0 => {
                        Reply::json(400, &json!({"message": "Failed to run sql query: connect ECONNREFUSED"}))
                    }
                    _ => Reply::json(201, &json!([{"one": 1}])),
                }
            } else {
                let status = if seen.earlier == 0 { "RESTORING" } else { "ACTIVE_HEALTHY" };
                Reply::json(200, &json!({"status": status}))
            }
        })
        .await;
        let target = stage.project();
        for phase in
            ["restoring", "does not answer yet: its database is COMING_UP", "does not answer yet: the API"]
        {
            let Observed::Running(progress) = target.ready().await.expect("a look") else {
                panic!("{phase}")
            };
            assert!(progress.phase.starts_with(phase), "{}", progress.phase);
        }
        assert!(matches!(target.ready().await, Ok(Observed::Done(_))));
    }

    #[tokio::test]
    async fn supabase_what_cannot_get_ready_is_not_waited_for() {
        for status in ["RESTORE_FAILED", "INIT_FAILED", "GOING_DOWN", "REMOVED", "INACTIVE"] {
            let stage = Stage::serve(move |_| Reply::json(200, &json!({"status": status}))).await;
            assert_eq!(stage.project().ready().await.expect_err(status).code, Code::Refused);
        }
    }

    #[tokio::test]
    async fn supabase_addons_are_read() {
        let stage = Stage::serve(|_| {
            Reply::json(
                200,
                &json!({"selected_addons": [{"type": "pitr", "variant": {"id": "pitr_7", "name": "7 days", "price": {}}},
                                            {"type": "of_next_year", "variant": {"id": "x"}}]}),
            )
        })
        .await;
        let addons = stage.project().addons().await.expect("add-ons");
        assert_eq!((addons[0].kind.as_str(), addons[0].variant.as_str()), ("pitr", "pitr_7"));
        assert_eq!(addons[1].kind, "of_next_year");
    }
}
