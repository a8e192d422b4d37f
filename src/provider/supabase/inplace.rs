//! Restoring in place: the whole project, offline for as long as it takes, without a way back.
//!
//! - The platform gives a restore no id, no progress and no end. So how the project was is written down before it is
//!   asked, and what was seen since is kept beside it, for whoever goes on.
//! - It is over when the project has left [`statuses::HEALTHY`], or shows that it was restored, and is back and answers.
//! - Whether a restore that was perhaps asked for is one that was asked for, only its traces can tell. Without them
//!   nobody knows, and nobody asks again.

mod plan;
mod traces;

use super::{Supabase, platform, statuses};
use crate::{
    base::moment::{Moment, Span},
    provider::{
        Accept, Code, Error, Result,
        model::{Job, Key, Observed, Progress, RestoreRequest, Restored},
        postgres::records,
    },
};
use plan::Plan;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::PathBuf;
use traces::Traces;

/// The kind of job that restores in place.
pub(super) const KIND: &str = "restore";
/// How long the platform may take from accepting a restore to showing it.
const LATE: Span = Span::seconds(30);
/// After how long a restore counts as stuck when people are told of it.
const STUCK: Span = Span::seconds(8 * 3600);

/// Everything that waiting for a restore needs to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Underway {
    plan: Plan,
    before: Traces,
    asked_at: Moment,
}

/// What was seen of a restore, kept for whoever goes on.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Seen {
    /// The statuses in their order, each with the moment it was first seen.
    statuses: Vec<(String, Moment)>,
}

impl Underway {
    fn of(detail: &Value) -> Result<Self> {
        serde_json::from_value(detail.clone())
            .map_err(|e| Error::new(Code::Internal, format!("the job of a restore cannot be read: {e}")))
    }

    fn job(&self, key: &Key) -> Job {
        Job { kind: KIND.into(), id: key.to_string(), detail: json!(self) }
    }
}

impl Seen {
    fn left(&self) -> bool {
        self.statuses.iter().any(|(status, _)| !statuses::is_settled(status))
    }

    /// Returns whether the status is news.
    fn note(&mut self, status: &str, now: Moment) -> bool {
        let is_news = self.statuses.last().is_none_or(|(last, _)| last != status);
        if is_news {
            self.statuses.push((status.into(), now));
        }
        is_news
    }
}

impl Supabase {
    /// Plans and accepts a restore in place.
    ///
    /// # Errors
    /// Every refusal, before anything is sent; then what the API says, and [`Code::Unknown`] when it says nothing.
    pub(super) async fn restore_in_place(
        &self,
        request: &RestoreRequest,
        key: &Key,
        intent: &dyn Accept,
    ) -> Result<Job> {
        let plan = self.plan_in_place(request).await?;
        let underway = Underway { plan, before: self.traces().await?, asked_at: self.clock.now() };
        intent.accepted(json!({ "kind": KIND, "detail": underway })).await?;
        let (path, body) = underway.plan.request();
        let path = format!("/v1/projects/{}/database/backups/{path}", self.reference);
        self.api.send(Method::POST, &path, Some(&body)).await?;
        Ok(underway.job(key))
    }

    /// Returns the job of the restore that was about to be asked for, when it shows.
    ///
    /// # Errors
    /// [`Code::Unknown`] when it does not: it may have been asked for and not begun, or never asked for.
    pub(super) async fn find_restore(&self, key: &Key, intent: &Value) -> Result<Option<Job>> {
        let underway = Underway::of(&intent["detail"])?;
        while !self.shows_a_restore(&underway).await? {
            if !self.may_still_appear(underway.asked_at, LATE).await {
                return Err(self.unknown(&underway));
            }
        }
        Ok(Some(underway.job(key)))
    }

    async fn shows_a_restore(&self, underway: &Underway) -> Result<bool> {
        let status = self.described().await?.status;
        Ok(!statuses::is_settled(&status) || self.traces().await?.show_a_restore(&underway.before))
    }

    fn unknown(&self, underway: &Underway) -> Error {
        let what = format!(
            "whether `{}` was told to go back {} cannot be known: it was about to be asked {}, and shows no trace of it",
            self.name(),
            underway.plan,
            underway.asked_at
        );
        Error::new(Code::Unknown, what)
            .hint("look at the project's backups in its dashboard, and decide the call")
    }

    /// Looks at a restore.
    ///
    /// # Errors
    /// [`Code::Tool`] when the platform says that it failed, with what support will ask.
    pub(super) async fn observe_restore(&self, job: &Job) -> Result<Observed> {
        let underway = Underway::of(&job.detail)?;
        let status = self.described().await?.status;
        let now = self.clock.now();
        let path = self.seen_path(&job.id);
        let mut seen: Seen = records::read(&path)?.unwrap_or_default();
        if seen.note(&status, now) {
            records::write(&path, &seen)?;
        }
        if statuses::is_final(&status) {
            let what = format!("`{}` was told to go back {} and is {status}", self.name(), underway.plan);
            return Err(Error::new(Code::Tool, what).with_side_effects().hint(self.report(&underway, &seen)));
        }
        if status != statuses::HEALTHY {
            return Ok(self.restoring(&underway, &seen, &format!("{status} since {}", since(&seen))));
        }
        let traces = match self.why_silent(&self.reference).await? {
            None => self.traces().await?,
            Some(why) => {
                return Ok(self.restoring(
                    &underway,
                    &seen,
                    &format!("back, and does not answer yet: {why}"),
                ));
            }
        };
        let began = seen.left()
            || traces.show_a_restore(&underway.before)
            || traces.show_a_start_since(underway.asked_at);
        if !began {
            return Ok(self.restoring(&underway, &seen, "accepted, and not begun"));
        }
        let restored = Restored {
            target: self.name(),
            backup: underway.plan.backup(),
            reached: underway.plan.reached(),
            timeline: traces.timeline(),
            kept: None,
            running: true,
        };
        let restored =
            serde_json::to_value(restored).map_err(|e| Error::new(Code::Internal, e.to_string()))?;
        Ok(Observed::Done(restored))
    }

    fn restoring(&self, underway: &Underway, seen: &Seen, phase: &str) -> Observed {
        let took = self.clock.now().since(underway.asked_at);
        let phase = if took > STUCK {
            format!("{phase}; stuck: {}", self.report(underway, seen))
        } else {
            format!("{phase} (asked for {})", second(underway.asked_at))
        };
        Observed::Running(Progress { again_in: Some(self.pace(underway.asked_at)), ..Progress::phase(phase) })
    }

    /// Returns why a restore cannot be given up.
    pub(super) fn cancel_restore(&self, job: &Job) -> Error {
        let seen: Seen = records::read(&self.seen_path(&job.id)).ok().flatten().unwrap_or_default();
        let hint =
            Underway::of(&job.detail).map_or_else(|e| e.message, |underway| self.report(&underway, &seen));
        Error::unsupported("the platform cannot stop a restore", hint)
    }

    /// Returns what was seen of a restore, and what the platform's support will ask.
    fn report(&self, underway: &Underway, seen: &Seen) -> String {
        let statuses: Vec<_> =
            seen.statuses.iter().map(|(status, at)| format!("{status} from {}", second(*at))).collect();
        format!(
            "it goes on by itself and cannot be stopped; should it not end, tell the platform's support: project `{}`, asked {} to go \
             back {}, seen {}",
            self.reference,
            second(underway.asked_at),
            underway.plan,
            if statuses.is_empty() { "nothing".into() } else { statuses.join(", ") }
        )
    }

    fn seen_path(&self, key: &str) -> PathBuf {
        self.state.join("restores").join(format!("{key}.json"))
    }
}

fn since(seen: &Seen) -> String {
    seen.statuses.last().map(|(_, at)| second(*at).to_string()).unwrap_or_default()
}

/// Returns a moment without the part of a second that nobody wants to read.
fn second(moment: Moment) -> Moment {
    platform::moment(moment.0.as_second()).unwrap_or(moment)
}
