//! Where recovery can stop, and what it starts from: every refusal of a restore comes from here.

use super::{
    archive::Saved,
    history::{Line, lsn_text, read_lsn},
    store::{Present, micros, moment},
};
use crate::{
    base::{
        moment::{Moment, Span},
        suggest,
    },
    provider::{
        Code, Error, Result,
        model::{At, RecoveryPoint, RestoreRequest, Usable, Window},
    },
};

/// A restore that can be done.
pub(super) struct Plan {
    /// The backup it starts from.
    pub(super) backup: Saved,
    /// The line it follows.
    pub(super) line: Line,
    /// The place at which it stops.
    pub(super) cut: i64,
    /// The last transaction that is in.
    pub(super) reached: Option<Moment>,
}

/// A place on a line.
struct Stop {
    line: Line,
    cut: i64,
    /// The moment, where the target is one: a backup must have been complete by then.
    by: Option<i64>,
}

impl Present<'_> {
    /// Returns why a backup cannot be used, or `None` when it can.
    pub(super) fn unusable(&self, backup: &Saved) -> Option<String> {
        let Some(finished) = backup.finished_at else { return Some(format!("it is {}", backup.status)) };
        let retention = self.world.retention();
        let kept_since = micros(self.now().plus(Span(-retention.0)));
        (finished < kept_since).then(|| format!("it is older than the retention of {retention}"))
    }

    /// Returns the backups that can be used, oldest first.
    pub(super) fn usable(&self) -> Result<Vec<Saved>> {
        Ok(self.saved()?.into_iter().filter(|b| self.unusable(b).is_none()).collect())
    }

    /// Returns the earliest restorable moment, without the backup `gone`.
    pub(super) fn earliest(&self, gone: Option<&str>) -> Result<Option<Moment>> {
        let usable = self.usable()?;
        let left = usable.iter().filter(|b| Some(b.id.as_str()) != gone);
        Ok(left.filter_map(|b| b.finished_at).min().map(moment))
    }

    /// Returns what can be restored.
    pub(super) fn window(&self) -> Result<Window> {
        let earliest = self.earliest(None)?;
        let lines = self.main_lines()?;
        let backups = self.saved()?;
        let warning =
            earliest.is_none().then(|| "there is no usable backup, so nothing can be restored".to_owned());
        Ok(Window {
            earliest,
            latest: earliest.map(|_| self.now()),
            latest_lsn: earliest.map(|_| self.log_end()).transpose()?.map(lsn_text),
            gaps: Vec::new(),
            backups: backups
                .iter()
                .map(|b| {
                    let why = self.unusable(b);
                    Usable { id: b.id.clone(), usable: why.is_none(), why }
                })
                .collect(),
            timelines: lines.iter().filter_map(|l| u32::try_from(l.number).ok()).collect(),
            warnings: warning.into_iter().collect(),
        })
    }

    /// Returns how a restore would be done.
    ///
    /// # Errors
    /// Every reason why not.
    pub(super) fn plan(&self, request: &RestoreRequest) -> Result<Plan> {
        let named = request.backup.as_deref().map(|id| self.demand_usable(id)).transpose()?;
        let usable = self.usable()?;
        let newest = usable.last().ok_or_else(|| {
            Error::new(Code::Refused, format!("`{}` has no usable backup", self.target))
                .hint("make one with `backup create`")
        })?;
        let stop = self.stop(&request.to, named.as_ref().unwrap_or(newest))?;
        let chain = self.chain(stop.line.id, stop.cut)?;
        let holds_target = |b: &&Saved| {
            let by = stop.by.is_none_or(|by| b.finished_at.is_some_and(|finished| finished <= by));
            by && chain.iter().any(|(line, upto)| *line == b.line && b.stop <= *upto)
        };
        let backup = match &named {
            Some(backup) => Some(backup).filter(holds_target),
            None => usable.iter().rev().find(holds_target),
        };
        let backup = backup.ok_or_else(|| self.before_window(&request.to.at, named.as_ref()))?.clone();
        if let Some(problem) = self.damage(&backup)? {
            return Err(Error::new(
                Code::CorruptBackup,
                format!("the backup `{}` is damaged: {problem}", backup.id),
            )
            .hint("restore from another with `backup:`"));
        }
        let reached = self.last_entry(stop.line.id, stop.cut)?.map(|e| moment(e.at));
        Ok(Plan { backup, line: stop.line, cut: stop.cut, reached })
    }

    fn demand_usable(&self, id: &str) -> Result<Saved> {
        let backup = self.one_saved(id)?;
        match self.unusable(&backup) {
            None => Ok(backup),
            Some(why) => {
                Err(Error::new(Code::Refused, format!("the backup `{id}` cannot be restored: {why}"))
                    .hint("`backup::pitr::window` lists what can"))
            }
        }
    }

    fn stop(&self, to: &RecoveryPoint, backup: &Saved) -> Result<Stop> {
        let asked = to.timeline.map(|n| self.timeline(n)).transpose()?;
        let exact = |lsn: i64| if to.inclusive { lsn } else { lsn - 1 };
        let stop = match &to.at {
            At::BackupEnd => Stop { line: self.or_line(asked, backup.line)?, cut: backup.stop, by: None },
            At::Latest => {
                let line = asked.map_or_else(|| self.main_line(), Ok)?;
                Stop { line, cut: self.log_end()?, by: None }
            }
            At::Time(at) => self.stop_at_time(*at, to.inclusive, asked)?,
            At::Xid(text) => {
                let xid = text.parse::<i64>().map_err(|_| {
                    Error::new(Code::Invalid, format!("`{text}` is not a transaction id"))
                        .hint("write digits")
                })?;
                let place = self.place_of(xid)?;
                let (line, lsn) = self.on_target(place, asked, || format!("transaction `{xid}`"))?;
                Stop { line, cut: exact(lsn), by: None }
            }
            At::Lsn(text) => {
                let lsn = read_lsn(text)?;
                if lsn > self.log_end()? {
                    return Err(self.after_window(&to.at));
                }
                let line = asked.map_or_else(|| self.line_at(|l| l.start < lsn), Ok)?;
                Stop { line, cut: exact(lsn), by: None }
            }
            At::Name(name) => {
                let mark = self.mark(name)?;
                let known = self.mark_names()?;
                let place = mark.map(|m| (m.line, m.lsn));
                let (line, lsn) = self
                    .on_target(place, asked, || format!("restore point `{name}`"))
                    .map_err(|e| e.hint(suggest::hint(name, known.iter().map(String::as_str))))?;
                Stop { line, cut: lsn, by: None }
            }
        };
        Ok(stop)
    }

    fn stop_at_time(&self, at: Moment, inclusive: bool, asked: Option<Line>) -> Result<Stop> {
        let by = micros(at);
        let line = asked.map_or_else(|| self.line_at(|l| l.begun_at <= by), Ok)?;
        if by > line.ended_at.unwrap_or(self.now) {
            return Err(self.after_window(&At::Time(at)));
        }
        let cut = self.place_at(line.id, by, inclusive)?;
        Ok(Stop { line, cut, by: Some(by) })
    }

    /// Returns the newest of the target's lines that had begun by then, or the first.
    fn line_at(&self, begun: impl Fn(&Line) -> bool) -> Result<Line> {
        let lines = self.main_lines()?;
        let newest = lines.iter().rev().find(|l| begun(l)).or(lines.first());
        newest.cloned().ok_or_else(|| Error::new(Code::Internal, "the world has no line of history"))
    }

    fn or_line(&self, asked: Option<Line>, id: i64) -> Result<Line> {
        asked.map_or_else(|| self.line(id), Ok)
    }

    fn timeline(&self, number: u32) -> Result<Line> {
        let lines = self.main_lines()?;
        let known: Vec<String> = lines.iter().map(|l| l.number.to_string()).collect();
        lines.into_iter().find(|l| l.number == i64::from(number)).ok_or_else(|| {
            Error::new(Code::NotFound, format!("`{}` has no timeline {number}", self.target))
                .hint(format!("its timelines are {}", known.join(", ")))
        })
    }

    /// Returns the line and place of something that was found, if the target's own history holds it.
    fn on_target(
        &self,
        place: Option<(i64, i64)>,
        asked: Option<Line>,
        what: impl Fn() -> String,
    ) -> Result<(Line, i64)> {
        let missing = || {
            Error::new(Code::NotFound, format!("the history of `{}` holds no {}", self.target, what()))
                .hint("`backup::pitr::find` lists drops and truncates with their transactions and places")
        };
        let (id, lsn) = place.ok_or_else(missing)?;
        let own = self.main_lines()?.into_iter().find(|l| l.id == id).ok_or_else(missing)?;
        let Some(asked) = asked else { return Ok((own, lsn)) };
        let held = self.chain(asked.id, i64::MAX)?.iter().any(|(line, upto)| *line == id && lsn <= *upto);
        if held { Ok((asked, lsn)) } else { Err(missing()) }
    }

    fn before_window(&self, at: &At, named: Option<&Saved>) -> Error {
        let bound = match named {
            Some(b) => format!("the end of the backup `{}`", b.id),
            None => "the earliest restorable moment".into(),
        };
        Error::new(Code::TargetBeforeWindow, format!("the target {} lies before {bound}", shown(at)))
            .hint(self.window_text())
    }

    fn after_window(&self, at: &At) -> Error {
        Error::new(
            Code::TargetAfterWindow,
            format!("the target {} lies after the latest restorable moment", shown(at)),
        )
        .hint(self.window_text())
    }

    fn window_text(&self) -> String {
        match self.earliest(None) {
            Ok(Some(earliest)) => format!("the window goes from `{earliest}` to `{}`", self.now()),
            Ok(None) => "there is no usable backup".into(),
            Err(e) => e.message,
        }
    }
}

fn shown(at: &At) -> String {
    match at {
        At::BackupEnd => "`the end of the backup`".into(),
        At::Latest => "`latest`".into(),
        At::Time(at) => format!("`{at}`"),
        At::Xid(text) | At::Lsn(text) | At::Name(text) => format!("`{text}`"),
    }
}
