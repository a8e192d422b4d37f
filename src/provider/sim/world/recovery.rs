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
    base::moment::{Moment, Span},
    provider::{
        Code, Error, Result,
        model::{
            BackupDeletion, BackupUsability, RecoveryPoint, RecoveryTarget, RecoveryWindow, RestorePoint,
            RestoreRequest,
        },
        restore_points,
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
            by && is_backup_on_chain(&chain, b)
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
                let xid = restore_points::parse_xid(text)?;
                let place = i64::try_from(xid).ok().map(|xid| self.find_transaction(xid)).transpose()?;
                let (line, lsn) = self
                    .locate_in_target_history(place.flatten(), requested)?
                    .ok_or_else(|| restore_points::unknown_transaction_error(self.target, xid))?;
                StopPoint { line, cut: exact(lsn), by: None }
            }
            RecoveryTarget::Lsn(text) => {
                let lsn = parse_lsn(text)?;
                let line = requested.map_or_else(|| self.newest_timeline_where(|l| l.start < lsn), Ok)?;
                if lsn > self.timeline_end(&line)? {
                    return Err(self.after_window_error(&to.at));
                }
                StopPoint { line, cut: exact(lsn), by: None }
            }
            RecoveryTarget::Name(name) => {
                let place = self.find_restore_point(name)?.map(|m| (m.line, m.lsn));
                let known = self.restore_point_names()?;
                let (line, lsn) = self
                    .locate_in_target_history(place, requested)?
                    .ok_or_else(|| restore_points::unknown_name_error(self.target, name, &known))?;
                StopPoint { line, cut: lsn, by: None }
            }
            RecoveryTarget::Point(point) => {
                let (line, lsn) = self.locate_restore_point(point)?;
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
        let known: Vec<u32> = lines.iter().filter_map(|l| u32::try_from(l.number).ok()).collect();
        lines
            .into_iter()
            .find(|l| l.number == i64::from(number))
            .ok_or_else(|| restore_points::unknown_timeline_error(self.target, number, &known))
    }

    /// Returns the timeline and place of something that was found, if the target's own history holds it.
    fn locate_in_target_history(
        &self,
        place: Option<(i64, i64)>,
        requested: Option<Timeline>,
    ) -> Result<Option<(Timeline, i64)>> {
        let Some((id, lsn)) = place else { return Ok(None) };
        let own = self.main_timelines()?.into_iter().find(|l| l.id == id);
        let (Some(own), Some(requested)) = (&own, requested) else { return Ok(own.map(|own| (own, lsn))) };
        let held = self
            .timeline_chain(requested.id, i64::MAX)?
            .iter()
            .any(|(line, upto)| *line == own.id && lsn <= *upto);
        Ok(held.then_some((requested, lsn)))
    }

    /// Returns the timeline and place of a restore point, which must be where it says that it is.
    fn locate_restore_point(&self, point: &RestorePoint) -> Result<(Timeline, i64)> {
        let (Some(lsn), Some(_)) = (&point.lsn, point.timeline) else {
            return Err(restore_points::placeless_point_error(point));
        };
        let lsn = parse_lsn(lsn)?;
        let same =
            self.find_restore_point(&point.name)?.filter(|found| found.mark.timeline == point.timeline);
        let place = same.filter(|found| found.lsn == lsn).map(|found| (found.line, found.lsn));
        if let Some(located) = self.locate_in_target_history(place, None)? {
            return Ok(located);
        }
        let lines = self.main_timelines()?;
        let line = lines.iter().find(|line| point.timeline.map(i64::from) == Some(line.number));
        match line {
            Some(line) if !self.is_reachable(line.id, lsn)? => {
                Err(self.before_window_error(&RecoveryTarget::Point(point.clone()), None))
            }
            _ => Err(restore_points::unknown_point_error(self.target, point)),
        }
    }

    /// Returns whether recovery from a usable backup can come to a place on a timeline.
    pub(super) fn is_reachable(&self, timeline: i64, lsn: i64) -> Result<bool> {
        let chain = self.timeline_chain(timeline, lsn)?;
        Ok(self.usable_backups()?.iter().any(|backup| is_backup_on_chain(&chain, backup)))
    }

    /// Returns the last place of a timeline: where the next one began, or where the log ends.
    fn timeline_end(&self, line: &Timeline) -> Result<i64> {
        let next = self.main_timelines()?.into_iter().find(|l| l.number > line.number).map(|l| l.start);
        next.map_or_else(|| self.log_end(), Ok)
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

/// Returns whether a backup was whole at a place of these timelines, each with the place up to which it counts.
fn is_backup_on_chain(chain: &[(i64, i64)], backup: &BackupRow) -> bool {
    chain.iter().any(|(line, upto)| *line == backup.line && backup.stop <= *upto)
}

fn describe_recovery_target(at: &RecoveryTarget) -> String {
    match at {
        RecoveryTarget::BackupEnd => "`the end of the backup`".into(),
        RecoveryTarget::Latest => "`latest`".into(),
        RecoveryTarget::Time(at) => format!("`{at}`"),
        RecoveryTarget::Xid(text) | RecoveryTarget::Lsn(text) | RecoveryTarget::Name(text) => {
            format!("`{text}`")
        }
        RecoveryTarget::Point(point) => format!("`{}`", point.name),
    }
}
