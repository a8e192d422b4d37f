//! The parts of a world file as they are in TOML: relative times, lists, defaults.

use crate::{
    base::moment::Span,
    provider::model::{FindingLevel, Frequency, Policy},
};
use serde::{Deserialize, Deserializer, de::Error as _};
use toml::Spanned;

/// A span that is not in the future: zero or negative.
#[derive(Debug, Clone, Copy)]
pub(super) struct PastOffset(pub(super) Span);

/// A span that is not negative.
#[derive(Debug, Clone, Copy)]
pub(super) struct NonNegativeSpan(pub(super) Span);

/// One entry of the history.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryToml {
    /// When it was committed.
    pub(super) at: PastOffset,
    /// What was said. Spans do not reach inside an untagged value, so a list has one for all of it.
    pub(super) sql: Spanned<StatementsToml>,
}

/// Statements, each a transaction of its own.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum StatementsToml {
    /// A text.
    One(String),
    /// A list of texts.
    Many(Vec<String>),
}

/// A restore point.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MarkToml {
    /// When it was made.
    pub(super) at: PastOffset,
    pub(super) name: Spanned<String>,
}

/// A backup.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BackupToml {
    /// When it was complete.
    pub(super) at: PastOffset,
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
pub(super) struct PolicyToml {
    pub(super) table: Spanned<String>,
    pub(super) name: Spanned<String>,
    command: PolicyCommand,
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
enum PolicyCommand {
    All,
    Select,
    Insert,
    Update,
    Delete,
}

/// A check that the world itself answers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CheckToml {
    pub(super) check: Spanned<String>,
    /// The level of what it finds.
    pub(super) level: FindingLevel,
    /// What it is about.
    pub(super) category: String,
}

/// What a check of the world's own finds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FindingToml {
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
pub(super) struct ScheduleToml {
    pub(super) id: Spanned<String>,
    #[serde(default = "every_day")]
    pub(super) every: Frequency,
    /// The time of day in UTC.
    pub(super) at: Spanned<String>,
    /// How many days its backups are kept.
    pub(super) keep_days: Option<u32>,
}

/// A read replica.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplicaToml {
    pub(super) id: Spanned<String>,
    pub(super) region: Option<String>,
}

impl PolicyToml {
    /// Returns the policy as others see it.
    pub(super) fn to_policy(&self) -> Policy {
        let command = match self.command {
            PolicyCommand::All => "ALL",
            PolicyCommand::Select => "SELECT",
            PolicyCommand::Insert => "INSERT",
            PolicyCommand::Update => "UPDATE",
            PolicyCommand::Delete => "DELETE",
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
impl<'de> Deserialize<'de> for PastOffset {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let hint = "write how long before the world is made, such as `-15m`, `-2d 3h`, or `0s`";
        let span = Span::parse(&text).map_err(|e| D::Error::custom(format!("{e}\n{hint}")))?;
        if span > Span::ZERO {
            return Err(D::Error::custom(format!("`{text}` lies in the future\n{hint}")));
        }
        Ok(PastOffset(span))
    }
}

impl<'de> Deserialize<'de> for NonNegativeSpan {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let span = Span::parse(&text).map_err(|e| D::Error::custom(format!("{e}\n{}", e.hint())))?;
        if span < Span::ZERO {
            return Err(D::Error::custom(format!(
                "`{text}` is negative\nwrite how long it takes, such as `4m`"
            )));
        }
        Ok(NonNegativeSpan(span))
    }
}

/// Returns how long backups are kept when nothing is said.
pub(super) fn week() -> NonNegativeSpan {
    NonNegativeSpan(Span::from_secs(7 * 86_400))
}

/// Returns how long a backup or a restore takes when nothing is said.
pub(super) fn two_minutes() -> NonNegativeSpan {
    NonNegativeSpan(Span::from_secs(120))
}

/// Returns how long a replica takes, or what was switched off to come back, when nothing is said.
pub(super) fn five_minutes() -> NonNegativeSpan {
    NonNegativeSpan(Span::from_secs(300))
}

/// Returns how long a target takes to be switched off when nothing is said.
pub(super) fn one_minute() -> NonNegativeSpan {
    NonNegativeSpan(Span::from_secs(60))
}

/// Returns how long what is stored of the network takes to be applied when nothing is said.
pub(super) fn ten_seconds() -> NonNegativeSpan {
    NonNegativeSpan(Span::from_secs(10))
}

/// Returns the ranges of a world that says none: everybody.
pub(super) fn everywhere() -> Vec<Spanned<String>> {
    ["0.0.0.0/0", "::/0"].map(|cidr| Spanned::new(0..0, cidr.to_owned())).into()
}

fn every_day() -> Frequency {
    Frequency::Day
}

fn yes() -> bool {
    true
}

fn everybody() -> Vec<String> {
    vec!["public".into()]
}
