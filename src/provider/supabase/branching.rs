//! Making a branch: asked for by name, found again by name, ready when its own database answers.
//!
//! A branch that was asked for `with_data` is seeded from the latest physical backup, whichever that is. So what it was
//! made from is compared before and after.

use super::{
    Supabase,
    branches::{self, Row},
    platform, statuses,
};
use crate::{
    base::moment::{Moment, Span},
    provider::{
        Accept, Code, Error, Result,
        model::{At, Branch, Job, Key, Observed, Progress, RestoreRequest},
    },
};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The kind of job that makes a branch.
pub(super) const KIND: &str = "branch";
/// How long a branch that was just asked for may be missing from the list.
const LATE: Span = Span::seconds(30);
/// How long a branch may be missing from the list before it counts as gone.
const LOST: Span = Span::seconds(5 * 60);

/// What a branch is filled with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Seed {
    /// A dump of ours, by its id, into an empty branch.
    Dump(String),
    /// The platform's latest physical backup; its number where the platform lists it.
    Latest(Option<i64>),
}

/// What waiting for a branch needs to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Making {
    /// What it is filled with.
    pub seed: Seed,
    temporary: bool,
    run: Option<String>,
    asked_at: Moment,
}

impl Making {
    fn of(detail: &Value) -> Result<Self> {
        serde_json::from_value(detail.clone())
            .map_err(|e| Error::new(Code::Internal, format!("the job of a branch cannot be read: {e}")))
    }
}

fn job(name: &str, making: &Making) -> Job {
    Job { kind: KIND.into(), id: name.into(), detail: json!(making) }
}

impl Supabase {
    /// Plans and accepts a restore into a new branch.
    ///
    /// # Errors
    /// Every refusal, before anything is made; then what the API says.
    pub(super) async fn restore_into(
        &self,
        request: &RestoreRequest,
        name: &str,
        key: &Key,
        intent: &dyn Accept,
    ) -> Result<Job> {
        let name = branches::full_name(name, key)?;
        let seed = self.seed(request).await?;
        let making = Making {
            seed,
            temporary: request.temporary,
            run: request.run.clone(),
            asked_at: self.clock.now(),
        };
        if self.branch_by_key(key).await?.is_some() {
            return Ok(job(&name, &making));
        }
        intent.accepted(json!({ "kind": KIND, "name": name, "detail": making })).await?;
        let body = json!({ "branch_name": name, "with_data": matches!(making.seed, Seed::Latest(_)) });
        let path = format!("/v1/projects/{}/branches", self.reference);
        match self.api.send(Method::POST, &path, Some(&body)).await {
            Ok(_) => Ok(job(&name, &making)),
            // The name holds the key: whoever has it is this call, a moment ago.
            Err(e) if e.code == Code::Conflict && self.branch_by_key(key).await?.is_some() => {
                Ok(job(&name, &making))
            }
            Err(e) => Err(e),
        }
    }

    async fn seed(&self, request: &RestoreRequest) -> Result<Seed> {
        match (&request.backup, &request.to.at) {
            (Some(id), At::BackupEnd) => {
                if let Some(number) = platform::number(id) {
                    return self.latest_or_refuse(id, number).await;
                }
                let dump = self.dumps().get(id)?;
                dump.check_restorable()?;
                self.programs_for(dump.server_major)?;
                Ok(Seed::Dump(dump.id))
            }
            (None, At::Latest) => {
                let kept = self.kept().await?;
                if kept.bounds().is_none() && kept.latest().is_none() {
                    return Err(Error::new(
                        Code::Refused,
                        format!("`{}` has no physical backup to fill a branch with", self.name()),
                    )
                    .hint("take a dump with `backup::create`, and restore that into a branch"));
                }
                Ok(Seed::Latest(kept.latest().map(|latest| latest.id)))
            }
            _ => Err(Error::unsupported(
                "the platform fills a branch from its latest physical backup only, not as of a given point",
                "restore in place with `backup::pitr::restore`, copy the latest with `branch::create`, or restore a \
                 dump of `backup::create` into a branch",
            )),
        }
    }

    async fn latest_or_refuse(&self, id: &str, number: i64) -> Result<Seed> {
        let kept = self.kept().await?;
        match kept.latest() {
            Some(latest) if latest.id == number => Ok(Seed::Latest(Some(number))),
            _ if kept.backups.iter().all(|backup| backup.id != number) => {
                Err(Error::new(Code::NotFound, format!("`{}` has no backup `{id}`", self.name())))
            }
            Some(latest) => Err(Error::unsupported(
                format!(
                    "the platform fills a branch from its latest physical backup only, which is not `{id}`"
                ),
                format!("restore `platform-{}`, the latest, into a branch, or `{id}` in place", latest.id),
            )),
            None => Err(Error::unsupported(
                format!("the platform fills a branch from a physical backup only, and `{id}` is none"),
                "take a dump with `backup::create`, and restore that into a branch",
            )),
        }
    }

    /// Returns the branch that `key` made.
    ///
    /// # Errors
    /// What the API says.
    pub(super) async fn branch_by_key(&self, key: &Key) -> Result<Option<Row>> {
        Ok(self.branch_rows().await?.into_iter().find(|row| row.key().as_ref() == Some(key)))
    }

    /// Returns the job of the branch that was about to be asked for; `None` when it was not. A second request with its
    /// name would be turned away, so that this cannot make two.
    ///
    /// # Errors
    /// What the API says.
    pub(super) async fn find_branch(&self, key: &Key, intent: &Value) -> Result<Option<Job>> {
        let making = Making::of(&intent["detail"])?;
        loop {
            if let Some(row) = self.branch_by_key(key).await? {
                return Ok(Some(job(&row.name, &making)));
            }
            if !self.may_still_appear(making.asked_at, LATE).await {
                return Ok(None);
            }
        }
    }

    /// Looks at a branch that is being made and takes it one part further.
    ///
    /// # Errors
    /// Why it cannot be made; it has then been removed.
    pub(super) async fn observe_branch(&self, job: &Job) -> Result<Observed> {
        let making = Making::of(&job.detail)?;
        let Some(row) = self.branch_rows().await?.into_iter().find(|row| row.name == job.id) else {
            return if self.clock.now().since(making.asked_at) < LOST {
                Ok(self.waiting(&making, "asked for, and not in the list yet"))
            } else {
                Err(Error::new(Code::NotFound, format!("branch `{}` is gone", job.id)))
            };
        };
        let looked = self.look_at_branch(&row, &making).await;
        match looked {
            Err(error) if is_fatal(error.code) => Err(self.without_branch(&row, error).await),
            looked => looked,
        }
    }

    async fn look_at_branch(&self, row: &Row, making: &Making) -> Result<Observed> {
        let Some(inside) = self.inside(&row.project_ref).await? else {
            return Ok(self.waiting(making, "just made, and not found yet"));
        };
        if row.status.ends_with("_FAILED") {
            return Err(Error::new(Code::Tool, format!("branch `{}` is {}", row.name, row.status)).hint(
                "the migrations of the project do not build it from nothing: see the logs of the branch's workflow",
            ));
        }
        if statuses::is_final(&inside.status) {
            return Err(Error::new(Code::Tool, format!("branch `{}` is {}", row.name, inside.status)));
        }
        if inside.status != statuses::HEALTHY || statuses::is_working(&row.status) {
            return Ok(self.waiting(making, format!("{}, {}", inside.status, row.status)));
        }
        if let Some(why) = self.why_silent(&row.project_ref).await? {
            return Ok(self.waiting(making, format!("up, and does not answer yet: {why}")));
        }
        let backup = match &making.seed {
            Seed::Dump(id) => match self.load(&row.project_ref, &inside, id).await? {
                Some(progress) => return Ok(Observed::Running(progress)),
                None => Some(id.clone()),
            },
            Seed::Latest(number) => {
                self.check_still_latest(*number).await?;
                number.map(|number| format!("platform-{number}"))
            }
        };
        let branch = Branch {
            backup,
            temporary: making.temporary,
            run: making.run.clone(),
            ..row.branch(&self.target, Some(&inside))?
        };
        self.forget_load(&row.project_ref)?;
        Ok(Observed::Done(branch.handle()))
    }

    fn waiting(&self, making: &Making, phase: impl Into<String>) -> Observed {
        Observed::Running(Progress { again_in: Some(self.pace(making.asked_at)), ..Progress::phase(phase) })
    }

    /// Refuses when a newer backup than the one that was meant may be in the branch.
    async fn check_still_latest(&self, number: Option<i64>) -> Result<()> {
        let latest = self.kept().await?.latest().map(|latest| latest.id);
        if number.is_none() || latest == number {
            return Ok(());
        }
        Err(Error::new(
            Code::Refused,
            "a newer backup was completed while the branch was made, and nobody can tell which of the two is in it",
        )
        .hint("list the backups again, and restore the latest"))
    }

    /// Removes a branch that came to nothing, and says so in its error.
    async fn without_branch(&self, row: &Row, error: Error) -> Error {
        self.abandon_load(&row.project_ref);
        match self.delete_branch(&row.project_ref).await {
            Ok(()) => error,
            Err(left) => {
                let error = error.leaving(format!("branch {}/{}", self.target, row.name));
                let hint = format!("delete the branch yourself: {}", left.message);
                error.hint(hint)
            }
        }
    }

    /// Gives a branch up that is being made.
    ///
    /// # Errors
    /// What the API says.
    pub(super) async fn cancel_branch(&self, job: &Job) -> Result<()> {
        let Some(row) = self.branch_rows().await?.into_iter().find(|row| row.name == job.id) else {
            let asked_at = Making::of(&job.detail)?.asked_at;
            return if self.clock.now().since(asked_at) < LOST {
                Err(Error::new(Code::Unavailable, format!("branch `{}` is not in the list yet", job.id)))
            } else {
                Ok(())
            };
        };
        self.abandon_load(&row.project_ref);
        self.delete_branch(&row.project_ref).await
    }
}

/// Returns whether an error says something about the branch, and not only about the look at it.
fn is_fatal(code: Code) -> bool {
    !matches!(code, Code::Throttled | Code::Unavailable | Code::Timeout | Code::Unknown | Code::Denied)
}
