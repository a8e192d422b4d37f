//! Jobs: accepted in one transaction, due when the world's clock says so, completed in another.
//!
//! A job needs no polling. Whoever opens the world next completes what is due, in the order it was due, each as of the
//! time it was due.

use super::{
    effects::to_json,
    history::Timeline,
    switches::POWER,
    time::{from_micros, span_to_micros},
    tx::{WorldTx, store_error},
};
use crate::{
    base::moment::Span,
    provider::{
        Code, Error, Result,
        model::{CallKey, Job, JobStatus, Progress, PromotionOutcome, RestoreOutcome},
    },
};
use rusqlite::{OptionalExtension as _, Row, params};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

/// The kind of a job that makes a backup.
pub(in crate::provider::sim) const BACKUP: &str = "backup";

/// The kind of a job that makes a branch.
pub(super) const BRANCH: &str = "branch";

/// The kind of a job that restores the target itself.
pub(super) const RESTORE: &str = "restore";
/// The kind of a job that makes a replica.
pub(in crate::provider::sim) const REPLICA: &str = "replica";

/// The kind of a job that resets a branch.
pub(in crate::provider::sim) const RESET: &str = "reset";

/// The kind of a job that promotes a branch.
pub(in crate::provider::sim) const PROMOTE: &str = "promote";

/// The kind of a job that pauses the target.
pub(in crate::provider::sim) const PAUSE: &str = "pause";

/// The kind of a job that resumes the target.
pub(in crate::provider::sim) const RESUME: &str = "resume";

/// A job, as a row of the world's file.
struct JobRow {
    id: String,
    kind: String,
    subject: String,
    state: String,
    started_at: i64,
    ends_at: i64,
    bytes: i64,
    detail: String,
    value: Option<String>,
}

/// What a restore in place needs at its end.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RestoreDetail {
    /// The timeline to fork from.
    pub(in crate::provider::sim) line: i64,
    /// The place after which to fork.
    pub(in crate::provider::sim) cut: i64,
    /// The backup it started from.
    pub(super) backup: String,
    /// The time of the last transaction that is in, in microseconds since 1970.
    pub(super) reached: Option<i64>,
}

/// What a promotion needs at its end.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::provider::sim) struct PromotionDetail {
    pub(in crate::provider::sim) line: i64,
    /// The place after which to fork.
    pub(in crate::provider::sim) cut: i64,
    pub(in crate::provider::sim) branch: String,
}

const SELECT_JOBS: &str =
    "select id, kind, subject, state, started_at, ends_at, bytes, detail, value from jobs";

fn read_job_row(row: &Row<'_>) -> rusqlite::Result<JobRow> {
    Ok(JobRow {
        id: row.get(0)?,
        kind: row.get(1)?,
        subject: row.get(2)?,
        state: row.get(3)?,
        started_at: row.get(4)?,
        ends_at: row.get(5)?,
        bytes: row.get(6)?,
        detail: row.get(7)?,
        value: row.get(8)?,
    })
}

impl WorldTx<'_> {
    /// Accepts a job.
    pub(in crate::provider::sim) fn accept_job(
        &self,
        kind: &str,
        key: &CallKey,
        subject: &str,
        takes: Span,
        bytes: u64,
        detail: &Value,
    ) -> Result<Job> {
        let id = format!("{kind}-{key}");
        let sql = "insert into jobs (id, kind, subject, state, started_at, ends_at, bytes, detail)
                   values (?1, ?2, ?3, 'running', ?4, ?5, ?6, ?7)";
        let ends = self.now.saturating_add(span_to_micros(takes));
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.conn
            .execute(sql, params![id, kind, subject, self.now, ends, bytes, detail.to_string()])
            .map_err(|e| store_error(&e))?;
        Ok(Job { kind: kind.into(), id, detail: Value::Null })
    }

    /// Returns whether anything is due.
    pub(super) fn has_due_work(&self) -> Result<bool> {
        let sql = "select exists (select 1 from jobs where state = 'running' and ends_at <= ?1)
                   or exists (select 1 from schedules where finish_at <= ?1)
                   or exists (select 1 from kept where until <= ?1)";
        self.conn.query_row(sql, [self.now], |row| row.get(0)).map_err(|e| store_error(&e))
    }

    /// Completes everything that is due.
    pub(super) fn complete_due_work(&self) -> Result<()> {
        for row in self.list_jobs_where("where state = 'running' order by ends_at, id")? {
            if row.ends_at <= self.now {
                let value = self.complete_job(&row)?;
                self.set_job_state(&row.id, "done", Some(&value))?;
            }
        }
        self.run_due_schedules()
    }

    fn complete_job(&self, row: &JobRow) -> Result<Value> {
        match row.kind.as_str() {
            BACKUP => Ok(self
                .complete_backup(self.demand_backup(&row.subject)?, row.ends_at)?
                .to_backup(self.target)
                .to_handle()),
            BRANCH => Ok(self.mark_branch_ready(&row.subject)?.to_handle()),
            REPLICA => to_json(self.mark_replica_ready(&row.subject)?),
            RESET => Ok(self.complete_branch_reset(&row.subject, row.ends_at)?.to_handle()),
            PROMOTE => self.apply_promotion(row),
            PAUSE => self.set_switch(POWER, "paused", row.ends_at).map(|()| Value::Null),
            RESUME => self.set_switch(POWER, "on", row.ends_at).map(|()| Value::Null),
            _ => self.apply_restore(row),
        }
    }

    /// Puts the target on a new timeline, forked where the restore stopped; the old one stays in the archive.
    fn apply_restore(&self, row: &JobRow) -> Result<Value> {
        let detail: RestoreDetail = row.parse_detail()?;
        let (before, number) = self.fork_main_timeline(detail.line, detail.cut, row.ends_at)?;
        to_json(RestoreOutcome {
            target: self.target.into(),
            backup: detail.backup,
            reached: detail.reached.map(from_micros),
            timeline: u32::try_from(number).ok(),
            kept: Some(format!("timeline {}", before.number)),
            unseen: None,
            running: true,
        })
    }

    /// Puts the target on a new timeline, forked from the branch's as that was when the job was accepted.
    fn apply_promotion(&self, row: &JobRow) -> Result<Value> {
        let detail: PromotionDetail = row.parse_detail()?;
        self.fork_main_timeline(detail.line, detail.cut, row.ends_at)?;
        to_json(PromotionOutcome {
            target: self.target.into(),
            branch: detail.branch,
            carried: "data".into(),
        })
    }

    /// Ends the target's timeline and begins the next, forked from a place of any timeline. Returns the one that ended and
    /// the number of the next.
    fn fork_main_timeline(&self, timeline: i64, end: i64, at: i64) -> Result<(Timeline, i64)> {
        let before = self.main_timeline()?;
        let number = self.main_timelines()?.iter().map(|l| l.number).max().unwrap_or(0) + 1;
        self.conn
            .execute("update lines set ended_at = ?2 where id = ?1", params![before.id, at])
            .map_err(|e| store_error(&e))?;
        self.begin_timeline_at_current_lsn(None, number, Some((timeline, end)), at)?;
        Ok((before, number))
    }

    /// Returns the state of a job.
    pub(in crate::provider::sim) fn poll_job(&self, job: &Job) -> Result<JobStatus> {
        let Some(row) = self.find_job(&job.id)? else {
            return self.poll_instant_effect(job);
        };
        match row.state.as_str() {
            "running" => Ok(JobStatus::Running(row.progress_at(self.now))),
            "done" => Ok(JobStatus::Done(
                row.value.as_deref().and_then(|v| serde_json::from_str(v).ok()).unwrap_or_default(),
            )),
            _ => {
                let failed = Error::new(Code::Refused, format!("the job `{}` was given up", job.id));
                Ok(JobStatus::Failed(
                    failed.with_hint("what it had made is removed; ask again to begin anew"),
                ))
            }
        }
    }

    /// Returns the state of an effect that took no time: a job that was over at once.
    fn poll_instant_effect(&self, job: &Job) -> Result<JobStatus> {
        match self.find_effect(&CallKey(job.id.clone()))? {
            Some(effect) => Ok(JobStatus::Done(effect.answer)),
            None => Err(missing_job_error(self.target, job)),
        }
    }

    /// Cancels a job, and returns whether it does so now; one that was cancelled before is no error.
    ///
    /// # Errors
    /// The job is not there, or is over.
    pub(in crate::provider::sim) fn cancel_job(&self, job: &Job) -> Result<bool> {
        let row = self.find_job(&job.id)?.ok_or_else(|| missing_job_error(self.target, job))?;
        match (row.state.as_str(), row.kind.as_str()) {
            ("running", BACKUP) => self.delete_row("backups", &row.subject)?,
            ("running", BRANCH) => self.delete_row("branches", &row.subject)?,
            ("running", REPLICA) => self.delete_row("replicas", &row.subject)?,
            ("running", RESET) => drop(self.mark_branch_ready(&row.subject)?),
            ("running", PAUSE) => self.set_switch(POWER, "on", self.now)?,
            ("running", RESUME) => self.set_switch(POWER, "paused", self.now)?,
            // A restore in place and a promotion have touched nothing before their end.
            ("running", _) => {}
            ("cancelled", _) => return Ok(false),
            _ => {
                let message = format!("the job `{}` is over and cannot be given up", job.id);
                return Err(Error::new(Code::Refused, message).with_hint("delete what it made"));
            }
        }
        self.set_job_state(&row.id, "cancelled", None).map(|()| true)
    }

    /// Cancels the job that makes `subject`, if there is one.
    pub(in crate::provider::sim) fn cancel_job_for(&self, subject: &str) -> Result<()> {
        let sql = "update jobs set state = 'cancelled' where state = 'running' and subject = ?1";
        self.conn.execute(sql, [subject]).map(drop).map_err(|e| store_error(&e))
    }

    /// Returns the ids of the jobs that go on.
    pub(in crate::provider::sim) fn unfinished_job_ids(&self) -> Result<Vec<String>> {
        Ok(self
            .list_jobs_where("where state = 'running' order by id")?
            .into_iter()
            .map(|row| row.id)
            .collect())
    }

    /// Refuses while the target is being restored in place, or made what a branch is.
    pub(in crate::provider::sim) fn demand_not_being_replaced(&self, code: Code) -> Result<()> {
        self.demand_no_job(RESTORE, code, "is being restored")?;
        self.demand_no_job(PROMOTE, code, "is being made what a branch is")
    }

    /// Refuses while a backup is being made.
    pub(in crate::provider::sim) fn demand_no_backup_job(&self) -> Result<()> {
        self.demand_no_job(BACKUP, Code::Conflict, "is being backed up")
    }

    fn demand_no_job(&self, kind: &str, code: Code, what: &str) -> Result<()> {
        let rows = self.list_jobs_where("where state = 'running'")?;
        match rows.iter().find(|row| row.kind == kind) {
            None => Ok(()),
            Some(row) => Err(Error::new(
                code,
                format!("`{}` {what} since `{}`", self.target, from_micros(row.started_at)),
            )
            .with_hint(format!("it is over at `{}`", from_micros(row.ends_at)))),
        }
    }

    fn find_job(&self, id: &str) -> Result<Option<JobRow>> {
        self.conn
            .query_row(&format!("{SELECT_JOBS} where id = ?1"), [id], read_job_row)
            .optional()
            .map_err(|e| store_error(&e))
    }

    fn list_jobs_where(&self, which: &str) -> Result<Vec<JobRow>> {
        self.query_rows(&format!("{SELECT_JOBS} {which}"), [], read_job_row)
    }

    fn set_job_state(&self, id: &str, state: &str, value: Option<&Value>) -> Result<()> {
        let sql = "update jobs set state = ?2, value = ?3 where id = ?1";
        self.conn
            .execute(sql, params![id, state, value.map(Value::to_string)])
            .map(drop)
            .map_err(|e| store_error(&e))
    }
}

impl JobRow {
    fn parse_detail<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(&self.detail)
            .map_err(|e| Error::new(Code::Internal, format!("the job `{}` cannot be read: {e}", self.id)))
    }

    fn progress_at(&self, now: i64) -> Progress {
        let phase = match self.kind.as_str() {
            BACKUP | REPLICA => "copying",
            PAUSE => "pausing",
            RESUME => "resuming",
            _ => "replaying history",
        };
        let total = self.bytes.unsigned_abs();
        let (passed, whole) = (now - self.started_at, (self.ends_at - self.started_at).max(1));
        let done =
            u128::from(total) * u128::from(passed.max(0).unsigned_abs()) / u128::from(whole.unsigned_abs());
        // Whoever waits sets the clock forward, so polling eight times serves as well as thousands.
        let again_in = Some(Span::from_millis(whole / 8_000 + 1));
        if total == 0 {
            return Progress { again_in, ..Progress::with_phase(phase) };
        }
        Progress {
            again_in,
            ..Progress::with_bytes(phase, u64::try_from(done).unwrap_or(total), Some(total))
        }
    }
}

/// Returns the error of a job that the target does not have.
pub(in crate::provider::sim) fn missing_job_error(target: &str, job: &Job) -> Error {
    Error::new(Code::NotFound, format!("`{target}` has no job `{}`", job.id))
}
