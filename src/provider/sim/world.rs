//! A world as it is written: TOML in, checked data out.
//!
//! Times are relative (`-15m`) and become moments when a world is made. What is read here has been tried: its
//! statements run in order, its names are unique, its findings belong to checks.

use super::{
    content::{Content, HistoryEntry},
    written::{
        BackupToml, CheckToml, FindingToml, HistoryToml, MarkToml, NonNegativeSpan, PolicyToml, ReplicaToml,
        ScheduleToml, StatementsToml, everywhere, five_minutes, one_minute, ten_seconds, two_minutes, week,
    },
};
use crate::{
    base::{
        moment::{Moment, Span},
        suggest,
    },
    provider::{
        Code, Error, Result,
        model::{Addon, Finding, Policy},
    },
};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};
use toml::Spanned;

/// The built-in world: a small shop.
pub const SANDBOX: &str = include_str!("sandbox.toml");

/// A world, read and checked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WorldSpec {
    /// What it is, for people.
    pub(super) title: String,
    #[serde(default = "week")]
    retention: NonNegativeSpan,
    #[serde(default = "two_minutes")]
    backup_duration: NonNegativeSpan,
    #[serde(default = "two_minutes")]
    restore_duration: NonNegativeSpan,
    #[serde(default)]
    history: Vec<HistoryToml>,
    #[serde(default)]
    marks: Vec<MarkToml>,
    #[serde(default)]
    backups: Vec<BackupToml>,
    #[serde(default)]
    policies: Vec<PolicyToml>,
    /// Checks whose outcome the world itself says.
    #[serde(default)]
    pub(super) checks: Vec<CheckToml>,
    #[serde(default)]
    findings: Vec<FindingToml>,
    #[serde(default = "five_minutes")]
    replica_duration: NonNegativeSpan,
    #[serde(default = "one_minute")]
    pause_duration: NonNegativeSpan,
    #[serde(default = "five_minutes")]
    resume_duration: NonNegativeSpan,
    #[serde(default = "ten_seconds")]
    apply_duration: NonNegativeSpan,
    /// What takes backups by the clock, from when the world is made.
    #[serde(default)]
    pub(super) schedules: Vec<ScheduleToml>,
    /// Read replicas that are there.
    #[serde(default)]
    pub(super) replicas: Vec<ReplicaToml>,
    /// Overrides of the server's settings.
    #[serde(default)]
    pub(super) settings: BTreeMap<Spanned<String>, toml::Value>,
    /// The ranges that may connect.
    #[serde(default = "everywhere")]
    pub(super) restrictions: Vec<Spanned<String>>,
    /// The addresses that are shut out.
    #[serde(default)]
    pub(super) bans: Vec<Spanned<IpAddr>>,
    /// Whether connections without TLS are refused.
    #[serde(default)]
    pub(super) ssl: bool,
    /// What was booked besides the plan.
    #[serde(default)]
    pub(super) addons: Vec<Addon>,
}

/// An event from before the world was made.
pub(super) enum PastEvent {
    /// A statement was committed.
    Statement(String),
    /// A restore point was made.
    Mark(String),
}

struct PastStatement<'a> {
    at: Span,
    text: &'a str,
    offset: usize,
}

/// A backup that is there when the world is made.
pub(super) struct PastBackup<'a> {
    /// When it was complete.
    pub(super) finished: Moment,
    pub(super) id: &'a str,
    /// What it is called.
    pub(super) label: Option<&'a str>,
    /// Whether it does not hold what its checksum says.
    pub(super) damaged: bool,
}

impl WorldSpec {
    /// Reads a world; `origin` names the text in messages.
    ///
    /// # Errors
    /// [`Code::Invalid`] with the file, the line and the hint.
    pub(super) fn parse_and_check(text: &str, origin: &str) -> Result<Self> {
        let fault = SourceText { text, origin };
        let world = Self::parse(text, origin)?;
        world.check_names(&fault)?;
        world.check_findings(&fault)?;
        let tables = world.check_history(&fault)?;
        world.check_policies(&fault, &tables)?;
        world.check_environment(&fault)?;
        Ok(world)
    }

    /// Reads a world that was checked before.
    ///
    /// # Errors
    /// [`Code::Invalid`] where it is no world at all.
    pub(super) fn parse(text: &str, origin: &str) -> Result<Self> {
        toml::from_str(text).map_err(|e| SourceText { text, origin }.toml_error(&e))
    }

    /// Returns how long backups are kept.
    pub(super) fn retention(&self) -> Span {
        self.retention.0
    }

    /// Returns how long a backup takes.
    pub(super) fn backup_duration(&self) -> Span {
        self.backup_duration.0
    }

    /// Returns how long a restore takes.
    pub(super) fn restore_duration(&self) -> Span {
        self.restore_duration.0
    }

    /// Returns how long a replica takes to come up.
    pub(super) fn replica_duration(&self) -> Span {
        self.replica_duration.0
    }

    /// Returns how long switching off takes.
    pub(super) fn pause_duration(&self) -> Span {
        self.pause_duration.0
    }

    /// Returns how long switching on takes.
    pub(super) fn resume_duration(&self) -> Span {
        self.resume_duration.0
    }

    /// Returns how long what is stored of the network takes to be applied.
    pub(super) fn apply_duration(&self) -> Span {
        self.apply_duration.0
    }

    /// Returns what had happened when the world is made at `anchor`, oldest first.
    pub(super) fn past_events(&self, anchor: Moment) -> Vec<(Moment, PastEvent)> {
        let marks = self
            .marks
            .iter()
            .map(|m| (anchor.saturating_add(m.at.0), PastEvent::Mark(m.name.get_ref().clone())));
        let statements = self
            .past_statements()
            .into_iter()
            .map(|sql| (anchor.saturating_add(sql.at), PastEvent::Statement(sql.text.to_owned())));
        let mut past: Vec<_> = statements.chain(marks).collect();
        past.sort_by_key(|(at, _)| *at);
        past
    }

    /// Returns the backups that are there when the world is made at `anchor`, oldest first.
    pub(super) fn past_backups(&self, anchor: Moment) -> Vec<PastBackup<'_>> {
        let mut backups: Vec<_> = self
            .backups
            .iter()
            .map(|b| PastBackup {
                finished: anchor.saturating_add(b.at.0),
                id: b.id.get_ref(),
                label: b.label.as_deref(),
                damaged: b.damaged,
            })
            .collect();
        backups.sort_by_key(|b| b.finished);
        backups
    }

    /// Returns the policies, by table and name, as they were when the world was made.
    pub(super) fn initial_policies(&self) -> Vec<Policy> {
        let mut policies: Vec<_> = self.policies.iter().map(PolicyToml::to_policy).collect();
        policies.sort_by(|a, b| (&a.table, &a.name).cmp(&(&b.table, &b.name)));
        policies
    }

    /// Returns the faults that the world says it has.
    pub(super) fn stated_findings(&self) -> Vec<Finding> {
        let check =
            |f: &FindingToml| self.checks.iter().find(|c| c.check.get_ref() == f.check.get_ref()).cloned();
        self.findings
            .iter()
            .filter_map(|f| {
                check(f).map(|c| Finding {
                    check: c.check.into_inner(),
                    level: c.level,
                    category: c.category,
                    object: f.object.clone(),
                    detail: f.detail.clone(),
                    fix: f.fix.clone(),
                })
            })
            .collect()
    }

    /// Returns every statement, oldest first, in the order of the file where times are equal.
    fn past_statements(&self) -> Vec<PastStatement<'_>> {
        let mut all = Vec::new();
        for written in &self.history {
            let (at, offset) = (written.at.0, written.sql.span().start);
            let texts = match written.sql.get_ref() {
                StatementsToml::One(sql) => std::slice::from_ref(sql),
                StatementsToml::Many(list) => list.as_slice(),
            };
            all.extend(texts.iter().map(|text| PastStatement { at, text, offset }));
        }
        all.sort_by_key(|statement| statement.at);
        all
    }

    fn check_names(&self, fault: &SourceText<'_>) -> Result<()> {
        fault.check_unique_names("backup", self.backups.iter().map(|b| &b.id))?;
        fault.check_unique_names("restore point", self.marks.iter().map(|m| &m.name))?;
        fault.check_unique_names("check", self.checks.iter().map(|c| &c.check))?;
        let mut seen = BTreeSet::new();
        for p in &self.policies {
            if !seen.insert((p.table.get_ref(), p.name.get_ref())) {
                let message = format!(
                    "the table `{}` has two policies called `{}`",
                    p.table.get_ref(),
                    p.name.get_ref()
                );
                return Err(fault.error_at(p.name.span().start, message, "call one of them something else"));
            }
        }
        Ok(())
    }

    fn check_findings(&self, fault: &SourceText<'_>) -> Result<()> {
        let known: Vec<&str> = self.checks.iter().map(|c| c.check.get_ref().as_str()).collect();
        for check in &self.checks {
            if super::security::is_derived_check(check.check.get_ref()) {
                let message =
                    format!("the check `{}` is worked out from the database", check.check.get_ref());
                return Err(fault.error_at(
                    check.check.span().start,
                    message,
                    "give the database the fault instead",
                ));
            }
        }
        match self.findings.iter().find(|f| !known.contains(&f.check.get_ref().as_str())) {
            None => Ok(()),
            Some(f) => {
                let message =
                    format!("a finding belongs to the check `{}`, which is not listed", f.check.get_ref());
                Err(fault.error_at(
                    f.check.span().start,
                    message,
                    suggest::suggest_name(f.check.get_ref(), known),
                ))
            }
        }
    }

    /// Runs the statements and returns every table that ever was.
    fn check_history(&self, fault: &SourceText<'_>) -> Result<BTreeSet<String>> {
        let mut content = Content::empty()?;
        let mut tables = BTreeSet::new();
        for (n, sql) in (1..).zip(self.past_statements()) {
            let entry = HistoryEntry { lsn: n, xid: n, at: 0, sql: sql.text.to_owned() };
            content.apply_entry(&entry, None).map_err(|e| {
                let hint = e.hint.unwrap_or_else(|| "statements run by their times, oldest first".into());
                fault.error_at(sql.offset, format!("`{}`: {}", shorten_sql(sql.text), e.message), hint)
            })?;
            tables.extend(content.table_names()?);
        }
        Ok(tables)
    }

    fn check_policies(&self, fault: &SourceText<'_>, tables: &BTreeSet<String>) -> Result<()> {
        match self.policies.iter().find(|p| !tables.contains(p.table.get_ref())) {
            None => Ok(()),
            Some(p) => {
                let message = format!(
                    "the policy `{}` is on `{}`, which never was a table",
                    p.name.get_ref(),
                    p.table.get_ref()
                );
                let hint = suggest::suggest_name(p.table.get_ref(), tables.iter().map(String::as_str));
                Err(fault.error_at(p.table.span().start, message, hint))
            }
        }
    }
}

/// Checks of what is around the database.
impl WorldSpec {
    fn check_environment(&self, fault: &SourceText<'_>) -> Result<()> {
        fault.check_unique_names("schedule", self.schedules.iter().map(|s| &s.id))?;
        fault.check_unique_names("replica", self.replicas.iter().map(|r| &r.id))?;
        fault.check_unique_names("range", self.restrictions.iter())?;
        for schedule in &self.schedules {
            let at = schedule.at.span().start;
            fault.locate_error(at, super::schedules::parse_time_of_day(schedule.at.get_ref()))?;
            if schedule.keep_days.is_some_and(|days| !(1..=365).contains(&days)) {
                return Err(fault.error_at(
                    at,
                    "a schedule keeps backups for 1 to 365 days",
                    "change `keep_days`",
                ));
            }
        }
        for (name, value) in &self.settings {
            let tried = super::furnish::setting_to_json(value)
                .and_then(|v| super::parameters::find_parameter(name.get_ref())?.format_value(&v));
            fault.locate_error(name.span().start, tried)?;
        }
        for range in &self.restrictions {
            fault.locate_error(range.span().start, super::furnish::parse_range(range.get_ref()))?;
        }
        Ok(())
    }
}

/// Where errors come from: the text and what it is called.
struct SourceText<'a> {
    text: &'a str,
    origin: &'a str,
}

impl SourceText<'_> {
    fn error_at(&self, offset: usize, message: impl std::fmt::Display, hint: impl Into<String>) -> Error {
        let line = self.text[..offset.min(self.text.len())].lines().count().max(1);
        // An offset at the start of a line is not counted by `lines`.
        let line = if offset > 0 && self.text[..offset].ends_with('\n') { line + 1 } else { line };
        Error::new(Code::Invalid, format!("{}, line {line}: {message}", self.origin)).with_hint(hint)
    }

    /// Turns what the TOML reader says into an error; our own readers put a hint behind a line end.
    fn toml_error(&self, e: &toml::de::Error) -> Error {
        let (message, ours) = e.message().split_once('\n').map_or((e.message(), None), |(m, h)| (m, Some(h)));
        let hint = suggest::hint_for_unknown_field(message).or(ours.map(Into::into));
        let hint = hint.unwrap_or_else(|| {
            "a world has a `title` and `[[history]]`; the built-in `sandbox` is an example".into()
        });
        self.error_at(e.span().map_or(0, |s| s.start), message.lines().next().unwrap_or_default(), hint)
    }

    /// Passes on what was said of a place in the text.
    fn locate_error<T>(&self, offset: usize, said: Result<T>) -> Result<T> {
        said.map_err(|e| self.error_at(offset, e.message, e.hint.unwrap_or_default()))
    }

    fn check_unique_names<'a>(
        &self,
        what: &str,
        names: impl Iterator<Item = &'a Spanned<String>>,
    ) -> Result<()> {
        let mut seen = BTreeSet::new();
        for name in names {
            if name.get_ref().is_empty() {
                return Err(self.error_at(name.span().start, format!("a {what} has no name"), "give it one"));
            }
            if !seen.insert(name.get_ref()) {
                let message = format!("two {what}s are called `{}`", name.get_ref());
                return Err(self.error_at(name.span().start, message, "call one of them something else"));
            }
        }
        Ok(())
    }
}

/// Returns the beginning of a statement on one line.
pub(super) fn shorten_sql(sql: &str) -> String {
    let line = sql.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
