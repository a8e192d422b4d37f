//! Restoring into a new branch, which is requested and found again by its name, and ready when its database answers.
//!
//! The platform seeds a branch requested `with_data` from whatever physical backup is the latest, so
//! the latest backup is compared before and after.

use crate::{
    base::moment::Moment,
    provider::{
        Code, Error, PlannedJob, Result,
        model::{Branch, CallKey, Job, JobStatus, Progress, RecoveryTarget, RestoreRequest},
        supabase::{
            branches::{self, BranchRow},
            platform_backups,
            project::Supabase,
            statuses,
        },
    },
};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The kind of job that makes a branch.
pub(in crate::provider::supabase) const BRANCH_JOB: &str = "branch";

/// What a branch is filled with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum BranchSeed {
    /// A dump of ours, by its id, into an empty branch.
    Dump(String),
    /// The platform's latest physical backup; its number where the platform lists it.
    Latest(Option<i64>),
}

/// The detail of a branch's job.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct BranchJob {
    /// What the branch is filled with.
    seed: BranchSeed,
    temporary: bool,
    run: Option<String>,
    asked_at: Moment,
    /// What the platform has said where it refused the branch, because there is one of its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refusal: Option<String>,
}

impl BranchJob {
    fn from_detail(detail: &Value) -> Result<Self> {
        serde_json::from_value(detail.clone())
            .map_err(|e| Error::new(Code::Internal, format!("the job of a branch cannot be read: {e}")))
    }
}

/// Reads the detail of a branch's job.
///
/// # Errors
/// [`Code::Internal`] for what nobody records.
pub(in crate::provider::supabase) fn check_branch_detail(detail: &Value) -> Result<()> {
    BranchJob::from_detail(detail).map(drop)
}

fn branch_job(name: &str, detail: &BranchJob) -> Job {
    Job { kind: BRANCH_JOB.into(), id: name.into(), detail: json!(detail) }
}

impl Supabase {
    /// Plans a restore into a new branch.
    ///
    /// # Errors
    /// Every refusal.
    pub(in crate::provider::supabase) async fn plan_into_branch<'a>(
        &'a self,
        request: &RestoreRequest,
        name: &str,
        key: &'a CallKey,
    ) -> Result<PlannedJob<'a>> {
        let name = branches::build_full_branch_name(name, key)?;
        let seed = self.choose_branch_seed(request).await?;
        let detail = BranchJob {
            seed,
            temporary: request.temporary,
            run: request.run.clone(),
            asked_at: self.clock.now(),
            refusal: None,
        };
        let traces = json!({ "kind": BRANCH_JOB, "name": name, "detail": detail });
        Ok(PlannedJob::with_traces(traces, Box::pin(self.request_branch_if_missing(name, detail))))
    }

    /// Requests a branch, unless it is there.
    ///
    /// # Errors
    /// [`Code::Conflict`] where somebody else's is called as it is to be called for short: whoever gives that name means
    /// theirs.
    async fn request_branch_if_missing(&self, name: String, detail: BranchJob) -> Result<Job> {
        let rows = self.list_branch_rows().await?;
        if rows.iter().any(|row| row.name == name) {
            return Ok(branch_job(&name, &detail));
        }
        let short_name = CallKey::split_name_and_key(&name).map_or("", |(short_name, _)| short_name);
        if rows.iter().any(|row| row.name == short_name) {
            let what = format!("`{}` has a branch `{short_name}`, which redrill has not made", self.target);
            return Err(Error { retryable: false, ..Error::new(Code::Conflict, what) }
                .with_hint("make it under another name"));
        }
        let body = json!({ "branch_name": name, "with_data": matches!(detail.seed, BranchSeed::Latest(_)) });
        let path = format!("/v1/projects/{}/branches", self.reference);
        match self.api.send_write(Method::POST, &path, Some(&body)).await {
            Ok(()) => Ok(branch_job(&name, &detail)),
            // The name contains the key, so an existing branch of that name was created by this call, however late the
            // list shows it. Where none shows, it was refused for something else.
            Err(e) if e.code == Code::Conflict => {
                Ok(branch_job(&name, &BranchJob { refusal: Some(e.message), ..detail }))
            }
            Err(e) => Err(e),
        }
    }

    async fn choose_branch_seed(&self, request: &RestoreRequest) -> Result<BranchSeed> {
        match (&request.backup, &request.to.at) {
            (Some(id), RecoveryTarget::BackupEnd) => {
                if let Some(number) = platform_backups::parse_platform_id(id) {
                    return self.choose_platform_seed(number).await;
                }
                let dump = self.dump_store().find_dump(id)?;
                dump.check_restorable()?;
                self.find_client_programs(dump.server_major)?;
                Ok(BranchSeed::Dump(dump.id))
            }
            (None, RecoveryTarget::Latest) => {
                let platform = self.fetch_platform_backups().await?;
                if platform.window_bounds_in_seconds().is_none() && platform.latest_restorable().is_none() {
                    return Err(Error::new(
                        Code::Refused,
                        format!("`{}` has no physical backup to fill a branch with", self.display_name()),
                    )
                    .with_hint("take a dump with `backup::create`, and restore that into a branch"));
                }
                Ok(BranchSeed::Latest(platform.latest_restorable().map(|latest| latest.id)))
            }
            _ => Err(Error::unsupported(
                "the platform fills a branch from its latest physical backup only, not as of a given point",
                "restore in place with `backup::pitr::restore`, copy the latest with `branch::create`, or restore a \
                 dump of `backup::create` into a branch",
            )),
        }
    }

    async fn choose_platform_seed(&self, number: i64) -> Result<BranchSeed> {
        let id = platform_backups::to_platform_id(number);
        let platform = self.fetch_platform_backups().await?;
        match platform.latest_restorable() {
            Some(latest) if latest.id == number => Ok(BranchSeed::Latest(Some(number))),
            _ if platform.backups.iter().all(|backup| backup.id != number) => {
                Err(Error::new(Code::NotFound, format!("`{}` has no backup `{id}`", self.display_name())))
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

    /// Returns the branch of a full name.
    ///
    /// # Errors
    /// What the API says.
    async fn find_branch_named(&self, name: &str) -> Result<Option<BranchRow>> {
        Ok(self.list_branch_rows().await?.into_iter().find(|row| row.name == name))
    }

    /// Returns the job of a branch whose request may have been sent; `None` if no such branch appears. The platform
    /// refuses a second branch of one name, so sending the request again cannot create two.
    ///
    /// # Errors
    /// What the API says.
    pub(in crate::provider::supabase) async fn find_branch_job(&self, intent: &Value) -> Result<Option<Job>> {
        let detail = BranchJob::from_detail(&intent["detail"])?;
        let name = intent["name"].as_str().ok_or_else(|| {
            Error::new(Code::Internal, "what was recorded of a branch does not say how it is called")
        })?;
        Ok(self.find_branch_named(name).await?.map(|row| branch_job(&row.name, &detail)))
    }

    /// Polls a branch that is being created, and starts its next part.
    ///
    /// # Errors
    /// [`Code::NotFound`] while it is not listed, which it may not be for a while after it was asked for.
    pub(in crate::provider::supabase) async fn poll_branch(&self, job: &Job) -> Result<JobStatus> {
        let detail = BranchJob::from_detail(&job.detail)?;
        if let Some(row) = self.find_branch_named(&job.id).await? {
            return self.poll_branch_row(&row, &detail).await;
        }
        let refusal = detail.refusal.map_or_else(String::new, |refusal| format!("; {refusal}"));
        Err(Error::new(Code::NotFound, format!("branch `{}` is not in the list{refusal}", job.id)))
    }

    async fn poll_branch_row(&self, row: &BranchRow, detail: &BranchJob) -> Result<JobStatus> {
        let Some(project) = self.fetch_branch_details(&row.project_ref).await? else {
            return Ok(self.waiting_status(detail, "just made, and not found yet"));
        };
        if row.status.ends_with("_FAILED") {
            let failed = Error::new(Code::Tool, format!("branch `{}` is {}", row.name, row.status));
            return Ok(JobStatus::Failed(failed.with_hint(
                "the migrations of the project do not build it from nothing: see the logs of the branch's workflow",
            )));
        }
        if statuses::is_final_project_status(&project.status) {
            let failed = Error::new(Code::Tool, format!("branch `{}` is {}", row.name, project.status));
            return Ok(JobStatus::Failed(failed));
        }
        if project.status != statuses::ACTIVE_HEALTHY || statuses::is_workflow_running(&row.status) {
            return Ok(self.waiting_status(detail, format!("{}, {}", project.status, row.status)));
        }
        if let Some(why) = self.why_not_ready(&row.project_ref).await? {
            return Ok(self.waiting_status(detail, format!("up, and does not answer yet: {why}")));
        }
        let backup = match &detail.seed {
            BranchSeed::Dump(id) => match self.start_or_poll_load(&row.project_ref, &project, id).await {
                Ok(Some(progress)) => return Ok(JobStatus::Running(progress)),
                Ok(None) => Some(id.clone()),
                Err(e) if is_final_load_error(e.code) => return Ok(JobStatus::Failed(e)),
                Err(e) => return Err(e),
            },
            BranchSeed::Latest(number) => {
                if let Some(newer) = self.newer_backup_error(*number).await? {
                    return Ok(JobStatus::Failed(newer));
                }
                number.map(|number| format!("platform-{number}"))
            }
        };
        let branch = Branch {
            backup,
            temporary: detail.temporary,
            run: detail.run.clone(),
            ..row.to_branch(&self.target, Some(&project))?
        };
        Ok(JobStatus::Done(branch.to_handle()))
    }

    fn waiting_status(&self, detail: &BranchJob, phase: impl Into<String>) -> JobStatus {
        JobStatus::Running(Progress {
            again_in: Some(self.poll_interval(detail.asked_at)),
            ..Progress::with_phase(phase)
        })
    }

    /// Returns the error of a branch that may have been seeded from a newer backup than intended.
    async fn newer_backup_error(&self, number: Option<i64>) -> Result<Option<Error>> {
        let latest = self.fetch_platform_backups().await?.latest_restorable().map(|latest| latest.id);
        if number.is_none() || latest == number {
            return Ok(None);
        }
        let what = "a newer backup was completed while the branch was made, and nobody can tell which of the two is in it";
        Ok(Some(Error::new(Code::Refused, what).with_hint("list the backups again, and restore the latest")))
    }

    /// Deletes the branch of a job that failed, which its name says is the job's own, and adds to the error what is left.
    /// Somebody else may have deleted it meanwhile.
    pub(in crate::provider::supabase) async fn discard_failed_branch(
        &self,
        job: &Job,
        error: Error,
    ) -> Error {
        let is_listed = || self.is_branch_listed(|row| row.name == job.id);
        if let Ok(false) = is_listed().await {
            return error;
        }
        let why = match self.cancel_branch(job).await {
            Ok(()) if self.wait_until_gone(is_listed).await => return error,
            Ok(()) => format!("it was still listed {} after that was asked for", self.landing_time),
            Err(left) => left.message,
        };
        let hint = error.hint.as_ref().map_or_else(String::new, |hint| format!("{hint}; "));
        error
            .with_left_behind(format!("branch {}/{}", self.target, job.id))
            .with_hint(format!("{hint}delete the branch yourself: {why}"))
    }

    /// Returns whether the list shows a branch.
    ///
    /// # Errors
    /// What the API says.
    pub(in crate::provider::supabase) async fn is_branch_listed(
        &self,
        is_it: impl Fn(&BranchRow) -> bool + Send,
    ) -> Result<bool> {
        Ok(self.list_branch_rows().await?.iter().any(is_it))
    }

    /// Cancels a branch that is being created. Whoever asks looks when it is gone.
    ///
    /// # Errors
    /// What the API says.
    pub(in crate::provider::supabase) async fn cancel_branch(&self, job: &Job) -> Result<()> {
        let Some(row) = self.find_branch_named(&job.id).await? else {
            let what = format!("branch `{}` is not in the list, and may still be made", job.id);
            return Err(Error::new(Code::Unavailable, what));
        };
        self.stop_and_remove_load(&row.project_ref);
        self.delete_branch(&row.project_ref).await
    }
}

/// Returns whether an error says that a dump cannot be loaded, as opposed to the look that was to tell.
fn is_final_load_error(code: Code) -> bool {
    matches!(code, Code::Tool | Code::CorruptBackup | Code::NotFound | Code::NoDiskSpace)
}
