//! What takes time: accepted in one transaction, over when the world's clock says so, completed in one more.
//!
//! A job needs nobody to look at it. Whoever opens the world next completes what was due, in the order it was due, each
//! with the end it had.

use super::{
    archive::{Saved, span_micros},
    backups::json,
    history::Line,
    store::{Present, broken, moment},
    switches::POWER,
};
use crate::{
    base::moment::Span,
    provider::{
        Code, Error, Result,
        model::{Job, Key, Observed, Progress, Promoted, Restored},
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
struct Work {
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
pub(super) struct Forking {
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
pub(super) struct Promoting {
    /// The branch's line.
    pub(super) line: i64,
    /// The place after which.
    pub(super) cut: i64,
    /// The branch's name.
    pub(super) branch: String,
}

const WORK: &str = "select id, kind, subject, state, started_at, ends_at, bytes, detail, value from jobs";

fn read_work(row: &Row<'_>) -> rusqlite::Result<Work> {
    Ok(Work {
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

impl Present<'_> {
    /// Accepts a job.
    pub(super) fn accept(
        &self,
        kind: &str,
        key: &Key,
        subject: &str,
        takes: Span,
        bytes: u64,
        detail: &Value,
    ) -> Result<Job> {
        let id = format!("{kind}-{key}");
        let sql = "insert into jobs (id, kind, subject, state, started_at, ends_at, bytes, detail)
                   values (?1, ?2, ?3, 'running', ?4, ?5, ?6, ?7)";
        let ends = self.now.saturating_add(span_micros(takes));
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.conn
            .execute(sql, params![id, kind, subject, self.now, ends, bytes, detail.to_string()])
            .map_err(|e| broken(&e))?;
        Ok(Job { kind: kind.into(), id, detail: Value::Null })
    }

    /// Returns whether something should have been over by now.
    pub(super) fn is_due(&self) -> Result<bool> {
        let sql = "select exists (select 1 from jobs where state = 'running' and ends_at <= ?1)
                   or exists (select 1 from schedules where finish_at <= ?1)
                   or exists (select 1 from kept where until <= ?1)";
        self.conn.query_row(sql, [self.now], |row| row.get(0)).map_err(|e| broken(&e))
    }

    /// Completes everything that should have been over by now.
    pub(super) fn settle(&self) -> Result<()> {
        for work in self.works("where state = 'running' order by ends_at, id")? {
            if work.ends_at <= self.now {
                let value = self.complete_work(&work)?;
                self.set_state(&work.id, "done", Some(&value))?;
            }
        }
        self.settle_schedules()
    }

    fn complete_work(&self, work: &Work) -> Result<Value> {
        match work.kind.as_str() {
            BACKUP => {
                Ok(self.complete(self.one_saved(&work.subject)?, work.ends_at)?.shown(self.target).handle())
            }
            BRANCH => Ok(self.ready_branch(&work.subject)?.handle()),
            REPLICA => json(self.ready_replica(&work.subject)?),
            RESET => Ok(self.complete_reset(&work.subject, work.ends_at)?.handle()),
            PROMOTE => self.complete_promotion(work),
            PAUSE => self.set_switch(POWER, "paused", work.ends_at).map(|()| Value::Null),
            RESUME => self.set_switch(POWER, "on", work.ends_at).map(|()| Value::Null),
            _ => self.complete_restore(work),
        }
    }

    /// Puts the target on a new line, forked where the restore stopped; the old one stays in the archive.
    fn complete_restore(&self, work: &Work) -> Result<Value> {
        let forking: Forking = work.detail()?;
        let (before, number) = self.fork_main(forking.line, forking.cut, work.ends_at)?;
        json(Restored {
            target: self.target.into(),
            backup: forking.backup,
            reached: forking.reached.map(moment),
            timeline: u32::try_from(number).ok(),
            kept: Some(format!("timeline {}", before.number)),
            running: true,
        })
    }

    /// Puts the target on a new line, forked from the branch's as that was when it was asked.
    fn complete_promotion(&self, work: &Work) -> Result<Value> {
        let promoting: Promoting = work.detail()?;
        self.fork_main(promoting.line, promoting.cut, work.ends_at)?;
        json(Promoted { target: self.target.into(), branch: promoting.branch, carried: "data".into() })
    }

    /// Ends the target's line and begins the next, forked at a place of any line; returns the one and the other's number.
    fn fork_main(&self, line: i64, cut: i64, at: i64) -> Result<(Line, i64)> {
        let before = self.main_line()?;
        let number = self.main_lines()?.iter().map(|l| l.number).max().unwrap_or(0) + 1;
        self.conn
            .execute("update lines set ended_at = ?2 where id = ?1", params![before.id, at])
            .map_err(|e| broken(&e))?;
        self.begin_line(None, number, Some((line, cut)), at)?;
        Ok((before, number))
    }

    /// Takes one look at a job.
    pub(super) fn observe(&self, job: &Job) -> Result<Observed> {
        let Some(work) = self.work(&job.id)? else {
            return self.observe_effect(job);
        };
        match work.state.as_str() {
            "running" => Ok(Observed::Running(work.progress(self.now))),
            "done" => Ok(Observed::Done(
                work.value.as_deref().and_then(|v| serde_json::from_str(v).ok()).unwrap_or_default(),
            )),
            _ => Err(Error::new(Code::Refused, format!("the job `{}` was given up", job.id))
                .hint("what it had made is removed; ask again to begin anew")),
        }
    }

    /// An effect that took no time is a job that was over at once.
    fn observe_effect(&self, job: &Job) -> Result<Observed> {
        match self.effect(&Key(job.id.clone()))? {
            Some(effect) => Ok(Observed::Done(effect.answer)),
            None => Err(Error::new(Code::NotFound, format!("`{}` has no job `{}`", self.target, job.id))),
        }
    }

    /// Gives a job up and returns whether it went on until now.
    pub(super) fn give_up(&self, job: &Job) -> Result<bool> {
        let missing = || Error::new(Code::NotFound, format!("`{}` has no job `{}`", self.target, job.id));
        let work = self.work(&job.id)?.ok_or_else(missing)?;
        match (work.state.as_str(), work.kind.as_str()) {
            ("running", BACKUP) => self.remove("backups", &work.subject)?,
            ("running", BRANCH) => self.remove("branches", &work.subject)?,
            ("running", REPLICA) => self.remove("replicas", &work.subject)?,
            ("running", RESET) => drop(self.ready_branch(&work.subject)?),
            ("running", PAUSE) => self.set_switch(POWER, "on", self.now)?,
            ("running", RESUME) => self.set_switch(POWER, "paused", self.now)?,
            // A restore in place and a promotion have touched nothing before their end.
            ("running", _) => {}
            ("cancelled", _) => return Ok(false),
            _ => {
                let message = format!("the job `{}` is over and cannot be given up", job.id);
                return Err(Error::new(Code::Refused, message).hint("delete what it made"));
            }
        }
        self.set_state(&work.id, "cancelled", None).map(|()| true)
    }

    /// Gives up the job that makes `subject`, if one does.
    pub(super) fn give_up_making(&self, subject: &str) -> Result<()> {
        let sql = "update jobs set state = 'cancelled' where state = 'running' and subject = ?1";
        self.conn.execute(sql, [subject]).map(drop).map_err(|e| broken(&e))
    }

    /// Removes a backup or a branch.
    pub(super) fn remove(&self, table: &str, id: &str) -> Result<()> {
        self.conn
            .execute(&format!("delete from {table} where id = ?1"), [id])
            .map(drop)
            .map_err(|e| broken(&e))
    }

    /// Returns the ids of the jobs that go on.
    pub(super) fn unfinished(&self) -> Result<Vec<String>> {
        Ok(self.works("where state = 'running' order by id")?.into_iter().map(|work| work.id).collect())
    }

    /// Refuses while the target is being restored in place, or made what a branch is.
    pub(super) fn demand_unrestored(&self, code: Code) -> Result<()> {
        self.demand_no_job(RESTORE, code, "is being restored")?;
        self.demand_no_job(PROMOTE, code, "is being made what a branch is")
    }

    /// Refuses while a backup is being made.
    pub(super) fn demand_no_backup(&self) -> Result<()> {
        self.demand_no_job(BACKUP, Code::Conflict, "is being backed up")
    }

    fn demand_no_job(&self, kind: &str, code: Code, what: &str) -> Result<()> {
        let works = self.works("where state = 'running'")?;
        match works.iter().find(|w| w.kind == kind) {
            None => Ok(()),
            Some(work) => {
                Err(Error::new(code, format!("`{}` {what} since `{}`", self.target, moment(work.started_at)))
                    .hint(format!("it is over at `{}`", moment(work.ends_at))))
            }
        }
    }

    fn work(&self, id: &str) -> Result<Option<Work>> {
        self.conn
            .query_row(&format!("{WORK} where id = ?1"), [id], read_work)
            .optional()
            .map_err(|e| broken(&e))
    }

    fn works(&self, which: &str) -> Result<Vec<Work>> {
        self.rows(&format!("{WORK} {which}"), [], read_work)
    }

    fn set_state(&self, id: &str, state: &str, value: Option<&Value>) -> Result<()> {
        let sql = "update jobs set state = ?2, value = ?3 where id = ?1";
        self.conn
            .execute(sql, params![id, state, value.map(Value::to_string)])
            .map(drop)
            .map_err(|e| broken(&e))
    }
}

impl Work {
    fn detail<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(&self.detail)
            .map_err(|e| Error::new(Code::Internal, format!("the job `{}` cannot be read: {e}", self.id)))
    }

    fn progress(&self, now: i64) -> Progress {
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
        let again_in = Some(Span::millis(whole / 8_000 + 1));
        if total == 0 {
            return Progress { again_in, ..Progress::phase(phase) };
        }
        Progress { again_in, ..Progress::bytes(phase, u64::try_from(done).unwrap_or(total), Some(total)) }
    }
}

/// Returns a backup that is about to be made.
pub(super) fn begun_backup(key: &Key, label: Option<&str>, line: i64, bytes: u64, at: i64) -> Saved {
    Saved {
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
