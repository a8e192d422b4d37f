//! Jobs: accepted in one transaction, due when the world's clock says so, completed in another.
//!
//! A job needs no polling. Whoever opens the world next completes what is due, in the order it was due, each
//! as of the time it was due.

use super::{
    archive::{BackupRow, span_to_micros},
    backups::to_json,
    history::Timeline,
    store::{WorldTx, from_micros, store_error},
    switches::POWER,
};
use crate::{
    base::moment::Span,
    provider::{
        Code, Error, Result,
        model::{CallKey, Job, JobStatus, Progress, PromotionOutcome, RestoreOutcome},
    },
};
use rusqlite::{OptionalExtension as _, Row, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The kind of a job that makes a backup.
pub(super) const BACKUP: &str = "backup";
/// The kind of a job that makes a branch.
pub(super) const BRANCH: &str = "branch";
/// The kind of a job that restores the target itself.
pub(super) const RESTORE: &str = "restore";

/// The kind of a job that makes a replica.
pub(super) const REPLICA: &str = "replica";
/// The kind of a job that gives a branch back as it was made.
pub(super) const RESET: &str = "reset";
/// The kind of a job that makes the target what a branch is.
pub(super) const PROMOTE: &str = "promote";
/// The kind of a job that switches the target off.
pub(super) const PAUSE: &str = "pause";
/// The kind of a job that switches the target on.
pub(super) const RESUME: &str = "resume";

/// A job as it stands in the world.
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
    /// The line to fork from.
    pub(super) line: i64,
    /// The place after which.
    pub(super) cut: i64,
    /// The backup it started from.
    pub(super) backup: String,
    /// The last transaction that is in, in microseconds since 1970.
    pub(super) reached: Option<i64>,
}

/// What a promotion needs at its end.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PromotionDetail {
    pub(super) line: i64,
    /// The place after which.
    pub(super) cut: i64,
    pub(super) branch: String,
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
    pub(super) fn accept_job(
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

    /// Returns whether something should have been over by now.
    pub(super) fn has_due_work(&self) -> Result<bool> {
        let sql = "select exists (select 1 from jobs where state = 'running' and ends_at <= ?1)
                   or exists (select 1 from schedules where finish_at <= ?1)
                   or exists (select 1 from kept where until <= ?1)";
        self.conn.query_row(sql, [self.now], |row| row.get(0)).map_err(|e| store_error(&e))
    }

    /// Completes everything that should have been over by now.
    pub(super) fn complete_due_work(&self) -> Result<()> {
        for work in self.list_jobs("where state = 'running' order by ends_at, id")? {
            if work.ends_at <= self.now {
                let value = self.complete_job(&work)?;
                self.set_job_state(&work.id, "done", Some(&value))?;
            }
        }
        self.take_due_backups()
    }

    fn complete_job(&self, work: &JobRow) -> Result<Value> {
        match work.kind.as_str() {
            BACKUP => Ok(self
                .complete_backup(self.demand_backup(&work.subject)?, work.ends_at)?
                .to_backup(self.target)
                .to_handle()),
            BRANCH => Ok(self.mark_branch_ready(&work.subject)?.to_handle()),
            REPLICA => to_json(self.mark_replica_ready(&work.subject)?),
            RESET => Ok(self.complete_branch_reset(&work.subject, work.ends_at)?.to_handle()),
            PROMOTE => self.complete_promotion(work),
            PAUSE => self.set_switch(POWER, "paused", work.ends_at).map(|()| Value::Null),
            RESUME => self.set_switch(POWER, "on", work.ends_at).map(|()| Value::Null),
            _ => self.complete_restore(work),
        }
    }

    /// Puts the target on a new line, forked where the restore stopped; the old one stays in the archive.
    fn complete_restore(&self, work: &JobRow) -> Result<Value> {
        let forking: RestoreDetail = work.parse_detail()?;
        let (before, number) = self.fork_main_timeline(forking.line, forking.cut, work.ends_at)?;
        to_json(RestoreOutcome {
            target: self.target.into(),
            backup: forking.backup,
            reached: forking.reached.map(from_micros),
            timeline: u32::try_from(number).ok(),
            kept: Some(format!("timeline {}", before.number)),
            running: true,
        })
    }

    /// Puts the target on a new line, forked from the branch's as that was when it was asked.
    fn complete_promotion(&self, work: &JobRow) -> Result<Value> {
        let promoting: PromotionDetail = work.parse_detail()?;
        self.fork_main_timeline(promoting.line, promoting.cut, work.ends_at)?;
        to_json(PromotionOutcome {
            target: self.target.into(),
            branch: promoting.branch,
            carried: "data".into(),
        })
    }

    /// Ends the target's line and begins the next, forked at a place of any line; returns the one and the other's number.
    fn fork_main_timeline(&self, line: i64, cut: i64, at: i64) -> Result<(Timeline, i64)> {
        let before = self.main_timeline()?;
        let number = self.main_timelines()?.iter().map(|l| l.number).max().unwrap_or(0) + 1;
        self.conn
            .execute("update lines set ended_at = ?2 where id = ?1", params![before.id, at])
            .map_err(|e| store_error(&e))?;
        self.begin_timeline(None, number, Some((line, cut)), at)?;
        Ok((before, number))
    }

    /// Polls a job.
    pub(super) fn poll_job(&self, job: &Job) -> Result<JobStatus> {
        let Some(work) = self.find_job(&job.id)? else {
            return self.poll_effect(job);
        };
        match work.state.as_str() {
            "running" => Ok(JobStatus::Running(work.progress_at(self.now))),
            "done" => Ok(JobStatus::Done(
                work.value.as_deref().and_then(|v| serde_json::from_str(v).ok()).unwrap_or_default(),
            )),
            _ => Err(Error::new(Code::Refused, format!("the job `{}` was given up", job.id))
                .with_hint("what it had made is removed; ask again to begin anew")),
        }
    }

    /// An effect that took no time is a job that was over at once.
    fn poll_effect(&self, job: &Job) -> Result<JobStatus> {
        match self.find_effect(&CallKey(job.id.clone()))? {
            Some(effect) => Ok(JobStatus::Done(effect.answer)),
            None => Err(Error::new(Code::NotFound, format!("`{}` has no job `{}`", self.target, job.id))),
        }
    }

    /// Cancels a job and returns whether it was still running.
    pub(super) fn cancel_job(&self, job: &Job) -> Result<bool> {
        let missing = || Error::new(Code::NotFound, format!("`{}` has no job `{}`", self.target, job.id));
        let work = self.find_job(&job.id)?.ok_or_else(missing)?;
        match (work.state.as_str(), work.kind.as_str()) {
            ("running", BACKUP) => self.delete_row("backups", &work.subject)?,
            ("running", BRANCH) => self.delete_row("branches", &work.subject)?,
            ("running", REPLICA) => self.delete_row("replicas", &work.subject)?,
            ("running", RESET) => drop(self.mark_branch_ready(&work.subject)?),
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
        self.set_job_state(&work.id, "cancelled", None).map(|()| true)
    }

    /// Cancels the job that makes `subject`, if there is one.
    pub(super) fn cancel_job_for(&self, subject: &str) -> Result<()> {
        let sql = "update jobs set state = 'cancelled' where state = 'running' and subject = ?1";
        self.conn.execute(sql, [subject]).map(drop).map_err(|e| store_error(&e))
    }

    /// Removes a backup or a branch.
    pub(super) fn delete_row(&self, table: &str, id: &str) -> Result<()> {
        self.conn
            .execute(&format!("delete from {table} where id = ?1"), [id])
            .map(drop)
            .map_err(|e| store_error(&e))
    }

    /// Returns the ids of the jobs that go on.
    pub(super) fn unfinished_jobs(&self) -> Result<Vec<String>> {
        Ok(self.list_jobs("where state = 'running' order by id")?.into_iter().map(|work| work.id).collect())
    }

    /// Refuses while the target is being restored in place, or made what a branch is.
    pub(super) fn demand_no_restore_job(&self, code: Code) -> Result<()> {
        self.demand_no_job(RESTORE, code, "is being restored")?;
        self.demand_no_job(PROMOTE, code, "is being made what a branch is")
    }

    /// Refuses while a backup is being made.
    pub(super) fn demand_no_backup_job(&self) -> Result<()> {
        self.demand_no_job(BACKUP, Code::Conflict, "is being backed up")
    }

    fn demand_no_job(&self, kind: &str, code: Code, what: &str) -> Result<()> {
        let works = self.list_jobs("where state = 'running'")?;
        match works.iter().find(|w| w.kind == kind) {
            None => Ok(()),
            Some(work) => Err(Error::new(
                code,
                format!("`{}` {what} since `{}`", self.target, from_micros(work.started_at)),
            )
            .with_hint(format!("it is over at `{}`", from_micros(work.ends_at)))),
        }
    }

    fn find_job(&self, id: &str) -> Result<Option<JobRow>> {
        self.conn
            .query_row(&format!("{SELECT_JOBS} where id = ?1"), [id], read_job_row)
            .optional()
            .map_err(|e| store_error(&e))
    }

    fn list_jobs(&self, which: &str) -> Result<Vec<JobRow>> {
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
    fn parse_detail<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
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
        // Time here is moved on by whoever waits, so eight looks serve as well as thousands.
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

/// Returns a backup that is about to be made.
pub(super) fn new_backup_row(
    key: &CallKey,
    label: Option<&str>,
    line: i64,
    bytes: u64,
    at: i64,
) -> BackupRow {
    BackupRow {
        id: format!("backup-{key}"),
        label: label.map(Into::into),
        line,
        stop: 0,
        digest: String::new(),
        bytes: i64::try_from(bytes).unwrap_or(i64::MAX),
        status: "running".into(),
        started_at: at,
        finished_at: None,
        key: Some(key.0.clone()),
    }
}
