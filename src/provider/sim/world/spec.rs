//! A world as its file describes it, read and checked.
//!
//! Times are relative (`-15m`) and become moments when a world is made. What is read here has been tried: its statements
//! run in order, its names are unique, its findings belong to checks.

use super::{
    calendar::parse_time_of_day,
    checks::is_derived_check,
    content::Content,
    entry::HistoryEntry,
    file::{
        BackupToml, CheckToml, FindingToml, HistoryToml, MarkToml, NonNegativeSpan, PolicyToml, ReplicaToml,
        ScheduleToml, StatementsToml, default_apply_duration, default_copy_duration, default_pause_duration,
        default_restrictions, default_retention, default_startup_duration, parse_range, setting_to_json,
    },
    parameters::find_parameter,
    source::SourceText,
    statement::shorten_sql,
};
use crate::{
    base::{
        moment::{Moment, Span},
        suggest,
    },
    provider::{
        Result,
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

/// What a world file says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::provider::sim) struct WorldSpec {
    /// What it is, for people.
    pub(super) title: String,
    #[serde(default = "default_retention")]
    retention: NonNegativeSpan,
    #[serde(default = "default_copy_duration")]
    backup_duration: NonNegativeSpan,
    #[serde(default = "default_copy_duration")]
    restore_duration: NonNegativeSpan,
    #[serde(default)]
    history: Vec<HistoryToml>,
    #[serde(default)]
    marks: Vec<MarkToml>,
    #[serde(default)]
    backups: Vec<BackupToml>,
    #[serde(default)]
    policies: Vec<PolicyToml>,
    /// Checks whose outcome the file says.
    #[serde(default)]
    pub(super) checks: Vec<CheckToml>,
    #[serde(default)]
    findings: Vec<FindingToml>,
    #[serde(default = "default_startup_duration")]
    replica_duration: NonNegativeSpan,
    #[serde(default = "default_pause_duration")]
    pause_duration: NonNegativeSpan,
    #[serde(default = "default_startup_duration")]
    resume_duration: NonNegativeSpan,
    #[serde(default = "default_apply_duration")]
    apply_duration: NonNegativeSpan,
    /// Backup schedules, which begin when the world is made.
    #[serde(default)]
    pub(super) schedules: Vec<ScheduleToml>,
    /// Read replicas.
    #[serde(default)]
    pub(super) replicas: Vec<ReplicaToml>,
    /// Overrides of the server's settings.
    #[serde(default)]
    pub(super) settings: BTreeMap<Spanned<String>, toml::Value>,
    /// The ranges that may connect.
    #[serde(default = "default_restrictions")]
    pub(super) restrictions: Vec<Spanned<String>>,
    /// The banned addresses.
    #[serde(default)]
    pub(super) bans: Vec<Spanned<IpAddr>>,
    /// Whether connections without TLS are refused.
    #[serde(default)]
    pub(super) ssl: bool,
    /// Paid add-ons.
    #[serde(default)]
    pub(in crate::provider::sim) addons: Vec<Addon>,
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
    pub(in crate::provider::sim) fn parse_and_check(text: &str, origin: &str) -> Result<Self> {
        let source = SourceText { text, origin };
        let world = Self::parse(text, origin)?;
        world.check_names_are_unique(&source)?;
        world.check_findings(&source)?;
        let tables = world.run_history_and_list_tables(&source)?;
        world.check_policies(&source, &tables)?;
        world.check_environment(&source)?;
        Ok(world)
    }

    /// Reads a world that was checked before.
    ///
    /// # Errors
    /// [`Code::Invalid`] where it is no world at all.
    pub(in crate::provider::sim) fn parse(text: &str, origin: &str) -> Result<Self> {
        toml::from_str(text).map_err(|e| SourceText { text, origin }.toml_error(&e))
    }

    /// Returns how long backups are kept.
    pub(super) fn retention(&self) -> Span {
        self.retention.0
    }

    /// Returns how long a backup takes.
    pub(in crate::provider::sim) fn backup_duration(&self) -> Span {
        self.backup_duration.0
    }

    /// Returns how long a restore takes.
    pub(in crate::provider::sim) fn restore_duration(&self) -> Span {
        self.restore_duration.0
    }

    /// Returns how long making a replica takes.
    pub(in crate::provider::sim) fn replica_duration(&self) -> Span {
        self.replica_duration.0
    }

    /// Returns how long pausing takes.
    pub(in crate::provider::sim) fn pause_duration(&self) -> Span {
        self.pause_duration.0
    }

    /// Returns how long resuming takes.
    pub(in crate::provider::sim) fn resume_duration(&self) -> Span {
        self.resume_duration.0
    }

    /// Returns how long until a change of the network is applied.
    pub(super) fn apply_duration(&self) -> Span {
        self.apply_duration.0
    }

    /// Returns the events from before `anchor`, when the world is made, oldest first.
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

    /// Returns the backups from before `anchor`, when the world is made, oldest first.
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

    /// Returns the findings that the world file says.
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
        for entry in &self.history {
            let (at, offset) = (entry.at.0, entry.sql.span().start);
            let texts = match entry.sql.get_ref() {
                StatementsToml::One(sql) => std::slice::from_ref(sql),
                StatementsToml::Many(list) => list.as_slice(),
            };
            all.extend(texts.iter().map(|text| PastStatement { at, text, offset }));
        }
        all.sort_by_key(|statement| statement.at);
        all
    }

    fn check_names_are_unique(&self, source: &SourceText<'_>) -> Result<()> {
        source.check_unique_names("backup", self.backups.iter().map(|b| &b.id))?;
        source.check_unique_names("restore point", self.marks.iter().map(|m| &m.name))?;
        source.check_unique_names("check", self.checks.iter().map(|c| &c.check))?;
        let mut seen = BTreeSet::new();
        for p in &self.policies {
            if !seen.insert((p.table.get_ref(), p.name.get_ref())) {
                let message = format!(
                    "the table `{}` has two policies called `{}`",
                    p.table.get_ref(),
                    p.name.get_ref()
                );
                return Err(source.error_at(p.name.span().start, message, "call one of them something else"));
            }
        }
        Ok(())
    }

    fn check_findings(&self, source: &SourceText<'_>) -> Result<()> {
        let known: Vec<&str> = self.checks.iter().map(|c| c.check.get_ref().as_str()).collect();
        for check in &self.checks {
            if is_derived_check(check.check.get_ref()) {
                let message =
                    format!("the check `{}` is worked out from the database", check.check.get_ref());
                return Err(source.error_at(
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
                Err(source.error_at(
                    f.check.span().start,
                    message,
                    suggest::suggest_name_or_list_known(f.check.get_ref(), known),
                ))
            }
        }
    }

    /// Runs the statements and returns every table that ever was.
    fn run_history_and_list_tables(&self, source: &SourceText<'_>) -> Result<BTreeSet<String>> {
        let mut content = Content::empty()?;
        let mut tables = BTreeSet::new();
        for (n, sql) in (1..).zip(self.past_statements()) {
            let entry = HistoryEntry { lsn: n, xid: n, at: 0, sql: sql.text.to_owned() };
            content.apply_entry(&entry, None).map_err(|e| {
                let hint = e.hint.unwrap_or_else(|| "statements run by their times, oldest first".into());
                source.error_at(sql.offset, format!("`{}`: {}", shorten_sql(sql.text), e.message), hint)
            })?;
            tables.extend(content.table_names()?);
        }
        Ok(tables)
    }

    fn check_policies(&self, source: &SourceText<'_>, tables: &BTreeSet<String>) -> Result<()> {
        match self.policies.iter().find(|p| !tables.contains(p.table.get_ref())) {
            None => Ok(()),
            Some(p) => {
                let message = format!(
                    "the policy `{}` is on `{}`, which never was a table",
                    p.name.get_ref(),
                    p.table.get_ref()
                );
                let hint =
                    suggest::suggest_name_or_list_known(p.table.get_ref(), tables.iter().map(String::as_str));
                Err(source.error_at(p.table.span().start, message, hint))
            }
        }
    }
}

/// Checks of the environment of the database.
impl WorldSpec {
    fn check_environment(&self, source: &SourceText<'_>) -> Result<()> {
        source.check_unique_names("schedule", self.schedules.iter().map(|s| &s.id))?;
        source.check_unique_names("replica", self.replicas.iter().map(|r| &r.id))?;
        source.check_unique_names("range", self.restrictions.iter())?;
        for schedule in &self.schedules {
            let at = schedule.at.span().start;
            source.add_location_to_error(at, parse_time_of_day(schedule.at.get_ref()))?;
            if schedule.keep_days.is_some_and(|days| !(1..=365).contains(&days)) {
                return Err(source.error_at(
                    at,
                    "a schedule keeps backups for 1 to 365 days",
                    "change `keep_days`",
                ));
            }
        }
        for (name, value) in &self.settings {
            let tried = setting_to_json(value).and_then(|v| find_parameter(name.get_ref())?.format_value(&v));
            source.add_location_to_error(name.span().start, tried)?;
        }
        for range in &self.restrictions {
            source.add_location_to_error(range.span().start, parse_range(range.get_ref()))?;
        }
        Ok(())
    }
}
