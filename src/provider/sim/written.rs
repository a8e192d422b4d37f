//! The parts of a world file as TOML has them: relative times, lists, what may be left out.

use crate::{
    base::moment::Span,
    provider::model::{Every, Level, Policy},
};
use serde::{Deserialize, Deserializer, de::Error as _};
use toml::Spanned;

/// A span that is not in the future: zero or negative.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ago(pub(super) Span);

/// A span that is not negative.
#[derive(Debug, Clone, Copy)]
pub(super) struct Length(pub(super) Span);

/// One entry of the history.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenHistory {
    /// When it was committed.
    pub(super) at: Ago,
    /// What was said. Spans do not reach inside an untagged value, so a list has one for all of it.
    pub(super) sql: Spanned<Statements>,
}

/// Statements, each a transaction of its own.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Statements {
    /// A text.
    One(String),
    /// A list of texts.
    Many(Vec<String>),
}

/// A restore point.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenMark {
    /// When it was made.
    pub(super) at: Ago,
    /// Its name.
    pub(super) name: Spanned<String>,
}

/// A backup.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenBackup {
    /// When it was complete.
    pub(super) at: Ago,
    /// Its id.
    pub(super) id: Spanned<String>,
    /// What it is called.
    pub(super) label: Option<String>,
    /// Whether it does not hold what its checksum says.
    #[serde(default)]
    pub(super) damaged: bool,
}

/// A row-level policy. It goes for ever when its table is dropped.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenPolicy {
    /// Its table.
    pub(super) table: Spanned<String>,
    /// Its name.
    pub(super) name: Spanned<String>,
    command: Command,
    #[serde(default = "yes")]
    permissive: bool,
    #[serde(default = "everybody")]
    roles: Vec<String>,
    #[serde(rename = "using")]
    using_expression: Option<String>,
    #[serde(rename = "check")]
    check_expression: Option<String>,
    /// Whether row-level security of the table is on, where no statement of the history says it.
    #[serde(default = "yes")]
    enabled: bool,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Command {
    All,
    Select,
    Insert,
    Update,
    Delete,
}

/// A check that the world itself answers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenCheck {
    /// Its id.
    pub(super) check: Spanned<String>,
    /// The level of what it finds.
    pub(super) level: Level,
    /// What it is about.
    pub(super) category: String,
}

/// What a check of the world's own finds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenFinding {
    /// The check.
    pub(super) check: Spanned<String>,
    /// The thing it is about.
    pub(super) object: String,
    /// What is the matter.
    pub(super) detail: String,
    /// How to mend it.
    pub(super) fix: String,
}

/// What takes backups by the clock.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenSchedule {
    /// Its id.
    pub(super) id: Spanned<String>,
    /// How often.
    #[serde(default = "every_day")]
    pub(super) every: Every,
    /// The time of day in UTC.
    pub(super) at: Spanned<String>,
    /// How many days its backups are kept.
    pub(super) keep_days: Option<u32>,
}

/// A read replica.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenReplica {
    /// Its id.
    pub(super) id: Spanned<String>,
    /// Where it is.
    pub(super) region: Option<String>,
}

impl WrittenPolicy {
    /// Returns the policy as others see it.
    pub(super) fn policy(&self) -> Policy {
        let command = match self.command {
            Command::All => "ALL",
            Command::Select => "SELECT",
            Command::Insert => "INSERT",
            Command::Update => "UPDATE",
            Command::Delete => "DELETE",
        };
        Policy {
            schema: "public".into(),
            table: self.table.get_ref().clone(),
            name: self.name.get_ref().clone(),
            command: command.into(),
            permissive: self.permissive,
            roles: self.roles.clone(),
            using_expression: self.using_expression.clone(),
            check_expression: self.check_expression.clone(),
            enabled: self.enabled,
        }
    }
}

// A second line of a message is a hint: TOML's errors have no place for one.
impl<'de> Deserialize<'de> for Ago {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let hint = "write how long before the world is made, such as `-15m`, `-2d 3h`, or `0s`";
        let span = Span::parse(&text).map_err(|e| D::Error::custom(format!("{e}\n{hint}")))?;
        if span > Span::ZERO {
            return Err(D::Error::custom(format!("`{text}` lies in the future\n{hint}")));
        }
        Ok(Ago(span))
    }
}

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let span = Span::parse(&text).map_err(|e| D::Error::custom(format!("{e}\n{}", e.hint())))?;
        if span < Span::ZERO {
            return Err(D::Error::custom(format!(
                "`{text}` is negative\nwrite how long it takes, such as `4m`"
            )));
        }
        Ok(Length(span))
    }
}

/// Returns how long backups are kept when nothing is said.
pub(super) fn week() -> Length {
    Length(Span::seconds(7 * 86_400))
}

/// Returns how long a backup or a restore takes when nothing is said.
pub(super) fn two_minutes() -> Length {
    Length(Span::seconds(120))
}

/// Returns how long a replica takes, or what was switched off to come back, when nothing is said.
pub(super) fn five_minutes() -> Length {
    Length(Span::seconds(300))
}

/// Returns how long a target takes to be switched off when nothing is said.
pub(super) fn one_minute() -> Length {
    Length(Span::seconds(60))
}

/// Returns how long what is stored of the network takes to be applied when nothing is said.
pub(super) fn ten_seconds() -> Length {
    Length(Span::seconds(10))
}

/// Returns the ranges of a world that says none: everybody.
pub(super) fn everywhere() -> Vec<Spanned<String>> {
    ["0.0.0.0/0", "::/0"].map(|cidr| Spanned::new(0..0, cidr.to_owned())).into()
}

fn every_day() -> Every {
    Every::Day
}

fn yes() -> bool {
    true
}

fn everybody() -> Vec<String> {
    vec!["public".into()]
}
