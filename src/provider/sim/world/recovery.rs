//! The recovery window, and plans of restores: which backup to start from and where to stop.
//!
//! Every refusal of a restore that depends on backups and history comes from here.

use super::{
    backups::BackupRow,
    history::Timeline,
    lsn::{format_lsn, parse_lsn},
    time::{from_micros, to_micros},
    tx::WorldTx,
};
use crate::{
    base::{
        moment::{Moment, Span},
        suggest,
    },
    provider::{
        Code, Error, Result,
        model::{
            BackupDeletion, BackupUsability, RecoveryPoint, RecoveryTarget, RecoveryWindow, RestoreRequest,
        },
    },
};

/// A restore that can be done.
pub(super) struct ReplayPlan {
    /// The backup it starts from.
    pub(super) backup: BackupRow,
    /// The timeline it follows.
    pub(in crate::provider::sim) line: Timeline,
    /// The place at which it stops.
    pub(in crate::provider::sim) cut: i64,
    /// The last transaction that is in.
    pub(super) reached: Option<Moment>,
}

/// A place on a timeline.
struct StopPoint {
    line: Timeline,
    cut: i64,
    /// The moment, where the target is one: a backup must have been complete by then.
    by: Option<i64>,
}

impl WorldTx<'_> {
    /// Returns why a backup cannot be used; `None` when it can.
    fn why_unusable(&self, backup: &BackupRow) -> Option<String> {
        let Some(finished) = backup.finished_at else { return Some(format!("it is {}", backup.status)) };
        let retention = self.spec.retention();
        let kept_since = to_micros(self.current_moment().saturating_add(Span(-retention.0)));
        (finished < kept_since).then(|| format!("it is older than the retention of {retention}"))
    }

    /// Returns the backups that can be used, oldest first.
    fn usable_backups(&self) -> Result<Vec<BackupRow>> {
        Ok(self.list_backup_rows()?.into_iter().filter(|b| self.why_unusable(b).is_none()).collect())
    }

    /// Returns the earliest restorable moment without the backup `gone`.
    pub(super) fn earliest_restorable(&self, gone: Option<&str>) -> Result<Option<Moment>> {
        let usable = self.usable_backups()?;
        let left = usable.iter().filter(|b| Some(b.id.as_str()) != gone);
        Ok(left.filter_map(|b| b.finished_at).min().map(from_micros))
    }

    /// Returns the recovery window.
    pub(in crate::provider::sim) fn recovery_window(&self) -> Result<RecoveryWindow> {
        let earliest = self.earliest_restorable(None)?;
        let lines = self.main_timelines()?;
        let backups = self.list_backup_rows()?;
        let warning =
            earliest.is_none().then(|| "there is no usable backup, so nothing can be restored".to_owned());
        Ok(RecoveryWindow {
            earliest,
            latest: earliest.map(|_| self.current_moment()),
            latest_lsn: earliest.map(|_| self.log_end()).transpose()?.map(format_lsn),
            gaps: Vec::new(),
            backups: backups
                .iter()
                .map(|b| {
                    let why = self.why_unusable(b);
                    BackupUsability { id: b.id.clone(), usable: why.is_none(), why }
                })
                .collect(),
            timelines: lines.iter().filter_map(|l| u32::try_from(l.number).ok()).collect(),
            warnings: warning.into_iter().collect(),
        })
    }

    /// Returns what deleting a backup would take with it.
    pub(in crate::provider::sim) fn plan_backup_deletion(&self, id: &str) -> Result<BackupDeletion> {
        let backup = self.demand_backup(id)?;
        let after = self.earliest_restorable(Some(id))?;
        // Log that only this backup needed: from its end to the end of the next one.
        let others = self.list_backup_rows()?.into_iter().filter(|b| b.id != id && b.finished_at.is_some());
        let stops: Vec<i64> = others.map(|b| b.stop).collect();
        let next = stops.iter().copied().min().map_or_else(|| self.log_end(), Ok)?;
        let log = if backup.finished_at.is_some() { (next - backup.stop).max(0) } else { 0 };
        Ok(BackupDeletion {
            id: id.into(),
            also: Vec::new(),
            bytes: (backup.bytes + log).unsigned_abs(),
            earliest_before: self.earliest_restorable(None)?,
            earliest_after: after,
        })
    }

    /// Plans a restore.
    ///
    /// # Errors
    /// Every reason why not.
    pub(super) fn plan_restore(&self, request: &RestoreRequest) -> Result<ReplayPlan> {
        let named = request.backup.as_deref().map(|id| self.demand_usable_backup(id)).transpose()?;
        let usable = self.usable_backups()?;
        let newest = usable.last().ok_or_else(|| {
            Error::new(Code::Refused, format!("`{}` has no usable backup", self.target))
                .with_hint("make one with `backup create`")
        })?;
        let stop = self.resolve_stop_point(&request.to, named.as_ref().unwrap_or(newest))?;
        let chain = self.timeline_chain(stop.line.id, stop.cut)?;
        let holds_target = |b: &&BackupRow| {
            let by = stop.by.is_none_or(|by| b.finished_at.is_some_and(|finished| finished <= by));
            by && chain.iter().any(|(line, upto)| *line == b.line && b.stop <= *upto)
        };
        let backup = match &named {
            Some(backup) => Some(backup).filter(holds_target),
            None => usable.iter().rev().find(holds_target),
        };
        let backup = backup.ok_or_else(|| self.before_window_error(&request.to.at, named.as_ref()))?.clone();
        if let Some(problem) = self.find_damage(&backup)? {
            return Err(Error::new(
                Code::CorruptBackup,
                format!("the backup `{}` is damaged: {problem}", backup.id),
            )
            .with_hint("restore from another with `backup:`"));
        }
        let reached = self.last_entry(stop.line.id, stop.cut)?.map(|e| from_micros(e.at));
        Ok(ReplayPlan { backup, line: stop.line, cut: stop.cut, reached })
    }

    fn demand_usable_backup(&self, id: &str) -> Result<BackupRow> {
        let backup = self.demand_backup(id)?;
        match self.why_unusable(&backup) {
            None => Ok(backup),
            Some(why) => {
                Err(Error::new(Code::Refused, format!("the backup `{id}` cannot be restored: {why}"))
                    .with_hint("`backup::pitr::window` lists what can"))
            }
        }
    }

    fn resolve_stop_point(&self, to: &RecoveryPoint, backup: &BackupRow) -> Result<StopPoint> {
        let requested = to.timeline.map(|n| self.demand_timeline(n)).transpose()?;
        let exact = |lsn: i64| if to.inclusive { lsn } else { lsn - 1 };
        let stop = match &to.at {
            RecoveryTarget::BackupEnd => StopPoint {
                line: self.timeline_or_default(requested, backup.line)?,
                cut: backup.stop,
                by: None,
            },
            RecoveryTarget::Latest => {
                let line = requested.map_or_else(|| self.main_timeline(), Ok)?;
                StopPoint { line, cut: self.log_end()?, by: None }
            }
            RecoveryTarget::Time(at) => self.resolve_stop_time(*at, to.inclusive, requested)?,
            RecoveryTarget::Xid(text) => {
                let xid = text.parse::<i64>().map_err(|_| {
                    Error::new(Code::Invalid, format!("`{text}` is not a transaction id"))
                        .with_hint("write digits")
                })?;
                let place = self.find_transaction(xid)?;
                let (line, lsn) =
                    self.locate_on_target(place, requested, || format!("transaction `{xid}`"))?;
                StopPoint { line, cut: exact(lsn), by: None }
            }
            RecoveryTarget::Lsn(text) => {
                let lsn = parse_lsn(text)?;
                if lsn > self.log_end()? {
                    return Err(self.after_window_error(&to.at));
                }
                let line = requested.map_or_else(|| self.newest_timeline_where(|l| l.start < lsn), Ok)?;
                StopPoint { line, cut: exact(lsn), by: None }
            }
            RecoveryTarget::Name(name) => {
                let mark = self.find_restore_point(name)?;
                let known = self.restore_point_names()?;
                let place = mark.map(|m| (m.line, m.lsn));
                let (line, lsn) =
                    self.locate_on_target(place, requested, || format!("restore point `{name}`")).map_err(
                        |e| e.with_hint(suggest::suggest_name(name, known.iter().map(String::as_str))),
                    )?;
                StopPoint { line, cut: lsn, by: None }
            }
        };
        Ok(stop)
    }

    fn resolve_stop_time(
        &self,
        at: Moment,
        inclusive: bool,
        requested: Option<Timeline>,
    ) -> Result<StopPoint> {
        let by = to_micros(at);
        let line = requested.map_or_else(|| self.newest_timeline_where(|l| l.begun_at <= by), Ok)?;
        if by > line.ended_at.unwrap_or(self.now) {
            return Err(self.after_window_error(&RecoveryTarget::Time(at)));
        }
        let cut = self.lsn_at_time(line.id, by, inclusive)?;
        Ok(StopPoint { line, cut, by: Some(by) })
    }

    /// Returns the newest of the target's timelines that had `begun`, or the first.
    fn newest_timeline_where(&self, begun: impl Fn(&Timeline) -> bool) -> Result<Timeline> {
        let lines = self.main_timelines()?;
        let newest = lines.iter().rev().find(|l| begun(l)).or(lines.first());
        newest.cloned().ok_or_else(|| Error::new(Code::Internal, "the world has no line of history"))
    }

    fn timeline_or_default(&self, requested: Option<Timeline>, id: i64) -> Result<Timeline> {
        requested.map_or_else(|| self.find_timeline(id), Ok)
    }

    fn demand_timeline(&self, number: u32) -> Result<Timeline> {
        let lines = self.main_timelines()?;
        let known: Vec<String> = lines.iter().map(|l| l.number.to_string()).collect();
        lines.into_iter().find(|l| l.number == i64::from(number)).ok_or_else(|| {
            Error::new(Code::NotFound, format!("`{}` has no timeline {number}", self.target))
                .with_hint(format!("its timelines are {}", known.join(", ")))
        })
    }

    /// Returns the timeline and place of something that was found, if the target's own history holds it.
    fn locate_on_target(
        &self,
        place: Option<(i64, i64)>,
        requested: Option<Timeline>,
        what: impl Fn() -> String,
    ) -> Result<(Timeline, i64)> {
        let missing = || {
            Error::new(Code::NotFound, format!("the history of `{}` holds no {}", self.target, what()))
                .with_hint(
                    "`backup::pitr::find` lists drops and truncates with their transactions and places",
                )
        };
        let (id, lsn) = place.ok_or_else(missing)?;
        let own = self.main_timelines()?.into_iter().find(|l| l.id == id).ok_or_else(missing)?;
        let Some(requested) = requested else { return Ok((own, lsn)) };
        let held = self
            .timeline_chain(requested.id, i64::MAX)?
            .iter()
            .any(|(line, upto)| *line == id && lsn <= *upto);
        if held { Ok((requested, lsn)) } else { Err(missing()) }
    }

    fn before_window_error(&self, at: &RecoveryTarget, named: Option<&BackupRow>) -> Error {
        let bound = match named {
            Some(b) => format!("the end of the backup `{}`", b.id),
            None => "the earliest restorable moment".into(),
        };
        Error::new(
            Code::TargetBeforeWindow,
            format!("the target {} lies before {bound}", describe_recovery_target(at)),
        )
        .with_hint(self.describe_window())
    }

    fn after_window_error(&self, at: &RecoveryTarget) -> Error {
        Error::new(
            Code::TargetAfterWindow,
            format!("the target {} lies after the latest restorable moment", describe_recovery_target(at)),
        )
        .with_hint(self.describe_window())
    }

    fn describe_window(&self) -> String {
        match self.earliest_restorable(None) {
            Ok(Some(earliest)) => format!("the window goes from `{earliest}` to `{}`", self.current_moment()),
            Ok(None) => "there is no usable backup".into(),
            Err(e) => e.message,
        }
    }
}

fn describe_recovery_target(at: &RecoveryTarget) -> String {
    match at {
        RecoveryTarget::BackupEnd => "`the end of the backup`".into(),
        RecoveryTarget::Latest => "`latest`".into(),
        RecoveryTarget::Time(at) => format!("`{at}`"),
        RecoveryTarget::Xid(text) | RecoveryTarget::Lsn(text) | RecoveryTarget::Name(text) => {
            format!("`{text}`")
        }
    }
}
