//! Restoring a project in place: it is offline meanwhile, and there is no undo.
//!
//! - The platform gives a restore no id, no progress and no end. So the state of the project is recorded before the
//!   request, and every status seen since is kept in a file, for the process that goes on.
//! - A restore is over when the project is up and answers, and its [`ProjectFingerprint`] shows that it was restored. A
//!   status is no proof: whoever pauses or restarts the project takes it through the same ones, and a look at it may lag
//!   behind. Where a status is all there is, as of a restore that failed, it counts when no look can be from before.
//! - Whether a lost request was accepted, only the same signs can tell. Where they do not, the outcome is unknown and the
//!   request is not sent again.

mod fingerprint;
mod plan;

use crate::{
    base::moment::{Moment, Span},
    provider::{
        Code, Error, PlannedJob, Result,
        host::record_file,
        model::{CallKey, Job, JobStatus, Progress, RestoreOutcome, RestoreRequest},
        supabase::{platform_backups::moment_from_unix, project::Supabase, statuses},
    },
};
use fingerprint::{ProjectFingerprint, RestoreSign};
use plan::InPlaceRecoveryTarget;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::PathBuf;

/// The kind of job that restores in place.
pub(in crate::provider::supabase) const RESTORE_JOB: &str = "restore";
/// The age at which the progress of a restore says that it is stuck.
const STUCK_TIMEOUT: Span = Span::from_secs(8 * 3600);

/// The detail of a restore's job.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct RestoreJob {
    plan: InPlaceRecoveryTarget,
    before: ProjectFingerprint,
    asked_at: Moment,
}

/// The statuses seen during a restore, kept for the process that goes on.
#[derive(Debug, Default, Serialize, Deserialize)]
struct StatusHistory {
    /// The statuses in their order, each with the moment it was first seen.
    statuses: Vec<(String, Moment)>,
}

impl RestoreJob {
    fn from_detail(detail: &Value) -> Result<Self> {
        serde_json::from_value(detail.clone())
            .map_err(|e| Error::new(Code::Internal, format!("the job of a restore cannot be read: {e}")))
    }

    fn to_job(&self, key: &CallKey) -> Job {
        Job { kind: RESTORE_JOB.into(), id: key.to_string(), detail: json!(self) }
    }
}

/// Reads the detail of a restore's job.
///
/// # Errors
/// [`Code::Internal`] for what nobody records.
pub(in crate::provider::supabase) fn check_restore_detail(detail: &Value) -> Result<()> {
    RestoreJob::from_detail(detail).map(drop)
}

impl StatusHistory {
    fn has_gone_down(&self) -> bool {
        self.statuses.iter().any(|(status, _)| !statuses::is_project_up(status))
    }

    /// Returns whether the project was seen at a restore, and at nothing that has another cause.
    fn shows_only_restore(&self) -> bool {
        let mut seen = self.statuses.iter().map(|(status, _)| status.as_str());
        seen.clone().any(|status| status == statuses::RESTORING)
            && !seen.any(statuses::is_project_off_or_pausing)
    }

    /// Appends the status if it differs from the last one; returns whether it did.
    fn add_status_if_changed(&mut self, status: &str, now: Moment) -> bool {
        let is_news = self.statuses.last().is_none_or(|(last, _)| last != status);
        if is_news {
            self.statuses.push((status.into(), now));
        }
        is_news
    }
}

impl Supabase {
    /// Plans a restore in place.
    ///
    /// # Errors
    /// Every refusal.
    pub(in crate::provider::supabase) async fn plan_restore_in_place<'a>(
        &'a self,
        request: &RestoreRequest,
        key: &'a CallKey,
    ) -> Result<PlannedJob<'a>> {
        let plan = self.plan_recovery_target(request).await?;
        let detail = RestoreJob { plan, before: self.fetch_fingerprint().await, asked_at: self.clock.now() };
        let traces = json!({ "kind": RESTORE_JOB, "detail": detail });
        let planned = PlannedJob::with_traces(traces, Box::pin(self.request_restore(detail, key)));
        Ok(PlannedJob { believed_after: self.landing_time, ..planned })
    }

    async fn request_restore(&self, detail: RestoreJob, key: &CallKey) -> Result<Job> {
        let (path, body) = detail.plan.to_request();
        let path = format!("/v1/projects/{}/database/backups/{path}", self.reference);
        self.api.send_write(Method::POST, &path, Some(&body)).await?;
        Ok(detail.to_job(key))
    }

    /// Returns the job of a restore whose request may have been sent, once the project shows it.
    ///
    /// # Errors
    /// [`Code::Unknown`] when it does not: the restore may not have begun yet, or the request was never sent.
    pub(in crate::provider::supabase) async fn find_restore_job(
        &self,
        key: &CallKey,
        intent: &Value,
    ) -> Result<Option<Job>> {
        let detail = RestoreJob::from_detail(&intent["detail"])?;
        let status = self.fetch_project_details().await?.status;
        let is_begun = match status.as_str() {
            statuses::RESTORING | "RESTORE_FAILED" => true,
            status if statuses::is_project_up(status) => {
                let sign = self.fetch_fingerprint().await.compare_with(&detail.before);
                sign == RestoreSign::Restored
            }
            _ => false,
        };
        if is_begun {
            Ok(Some(detail.to_job(key)))
        } else {
            Err(self.unknown_outcome_error(&detail, &status))
        }
    }

    fn unknown_outcome_error(&self, detail: &RestoreJob, status: &str) -> Error {
        let what = format!(
            "whether `{}` was told to go back {} cannot be known: it was about to be asked {}, is {status}, and shows no \
             trace of it",
            self.display_name(),
            detail.plan,
            detail.asked_at
        );
        Error::new(Code::Unknown, what)
            .with_hint("look at the project's backups in its dashboard, and decide the call")
    }

    /// Polls a restore; one that the platform says has failed has an error with what support will ask.
    ///
    /// # Errors
    /// What the API says.
    pub(in crate::provider::supabase) async fn poll_restore(&self, job: &Job) -> Result<JobStatus> {
        let detail = RestoreJob::from_detail(&job.detail)?;
        let status = self.fetch_project_details().await?.status;
        let seen = self.append_to_status_history(job, &status)?;
        if is_failed_end(&status) {
            let what =
                format!("`{}` was told to go back {} and is {status}", self.display_name(), detail.plan);
            let failed = Error::new(Code::Tool, what).with_side_effects();
            let failed = failed.with_hint(self.describe_for_support(&detail, &seen));
            return Ok(self.wrap_possibly_stale_end(JobStatus::Failed(failed)));
        }
        let waiting = |phase: &str| Ok(self.restoring_status(&detail, &seen, phase));
        if statuses::is_project_off_or_pausing(&status) {
            return waiting(&format!(
                "{status} since {}, which is no restore: somebody pauses the project",
                format_since(&seen)
            ));
        }
        if status != statuses::ACTIVE_HEALTHY {
            return waiting(&format!("{status} since {}", format_since(&seen)));
        }
        if let Some(why) = self.why_not_ready(&self.reference).await? {
            return waiting(&format!("back, and does not answer yet: {why}"));
        }
        let fingerprint = self.fetch_fingerprint().await;
        let sign = fingerprint.compare_with(&detail.before);
        match sign {
            RestoreSign::Restored => {}
            RestoreSign::NotRestored if seen.has_gone_down() => {
                return waiting(
                    "it was down and is up, and its database is the one of before: that was no restore",
                );
            }
            RestoreSign::NotRestored => return waiting("accepted, and not begun"),
            RestoreSign::Untold if detail.before.has_database_part() => {
                return waiting("back, and does not say its timeline");
            }
            // Before, the database did not answer: what the platform shows is all there is.
            RestoreSign::Untold if seen.shows_only_restore() => {}
            RestoreSign::Untold => {
                return waiting(
                    "its database did not answer before, and nothing tells whether it was restored",
                );
            }
        }
        let restored = RestoreOutcome {
            target: self.display_name(),
            backup: detail.plan.source_backup(),
            reached: detail.plan.reached_moment(),
            timeline: fingerprint.timeline_number(),
            kept: None,
            unseen: None,
            running: true,
        };
        let restored =
            serde_json::to_value(restored).map_err(|e| Error::new(Code::Internal, e.to_string()))?;
        let done = JobStatus::Done(restored);
        Ok(if sign == RestoreSign::Untold { self.wrap_possibly_stale_end(done) } else { done })
    }

    /// Adds the status to the ones seen during a restore, and returns them.
    fn append_to_status_history(&self, job: &Job, status: &str) -> Result<StatusHistory> {
        let path = self.history_path(&job.id);
        let mut seen: StatusHistory = record_file::read_record(&path)?.unwrap_or_default();
        if seen.add_status_if_changed(status, self.clock.now()) {
            record_file::write_record(&path, &seen)?;
        }
        Ok(seen)
    }

    fn restoring_status(&self, detail: &RestoreJob, seen: &StatusHistory, phase: &str) -> JobStatus {
        let took = self.clock.now().duration_since(detail.asked_at);
        let phase = if took > STUCK_TIMEOUT {
            format!("{phase}; stuck: {}", self.describe_for_support(detail, seen))
        } else {
            format!("{phase} (asked for {})", truncate_to_second(detail.asked_at))
        };
        JobStatus::Running(Progress {
            again_in: Some(self.poll_interval(detail.asked_at)),
            ..Progress::with_phase(phase)
        })
    }

    /// Returns why a restore cannot be cancelled.
    pub(in crate::provider::supabase) fn restore_cancel_error(&self, job: &Job) -> Error {
        let seen: StatusHistory =
            record_file::read_record(&self.history_path(&job.id)).ok().flatten().unwrap_or_default();
        let hint = RestoreJob::from_detail(&job.detail)
            .map_or_else(|e| e.message, |detail| self.describe_for_support(&detail, &seen));
        Error::unsupported("the platform cannot stop a restore", hint)
    }

    /// Returns the statuses seen during a restore, and what else the platform's support will ask.
    fn describe_for_support(&self, detail: &RestoreJob, seen: &StatusHistory) -> String {
        let statuses: Vec<_> = seen
            .statuses
            .iter()
            .map(|(status, at)| format!("{status} from {}", truncate_to_second(*at)))
            .collect();
        format!(
            "it goes on by itself and cannot be stopped; should it not end, tell the platform's support: project `{}`, asked {} to go \
             back {}, seen {}",
            self.reference,
            truncate_to_second(detail.asked_at),
            detail.plan,
            if statuses.is_empty() { "nothing".into() } else { statuses.join(", ") }
        )
    }

    fn history_path(&self, key: &str) -> PathBuf {
        self.state.join("restores").join(format!("{key}.json"))
    }
}

/// Returns whether a restore ends in this status, and not well. Whoever pauses a project or takes it down takes it through
/// others, and a restore that was accepted may still come after them.
fn is_failed_end(status: &str) -> bool {
    ["RESTORE_FAILED", "INIT_FAILED", "REMOVED"].contains(&status)
}

fn format_since(seen: &StatusHistory) -> String {
    seen.statuses.last().map(|(_, at)| truncate_to_second(*at).to_string()).unwrap_or_default()
}

/// Truncates a moment to whole seconds.
fn truncate_to_second(moment: Moment) -> Moment {
    moment_from_unix(moment.0.as_second()).unwrap_or(moment)
}
