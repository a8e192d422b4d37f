//! The parts of a world file in TOML: relative times, lists, defaults.

use crate::{
    base::moment::Span,
    provider::{
        Code, Error, Result,
        model::{FindingLevel, Frequency, Policy},
    },
};
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;
use toml::Spanned;

/// A span that is not in the future: zero or negative.
#[derive(Debug, Clone, Copy)]
pub(super) struct PastOffset(pub(super) Span);

/// A span that is not negative.
#[derive(Debug, Clone, Copy)]
pub(super) struct NonNegativeSpan(pub(super) Span);

/// Statements of the history, at one time.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryToml {
    /// When it was committed.
    pub(super) at: PastOffset,
    /// The statements. Spans do not reach inside an untagged value, so a list has one for all of it.
    pub(super) sql: Spanned<StatementsToml>,
}

/// Statements, each a transaction of its own.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum StatementsToml {
    /// One.
    One(String),
    /// A list.
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
    #[serde(default = "enabled_by_default")]
    permissive: bool,
    #[serde(default = "public_role")]
    roles: Vec<String>,
    #[serde(rename = "using")]
    using_expression: Option<String>,
    #[serde(rename = "check")]
    check_expression: Option<String>,
    /// Whether row-level security of the table is on, where no statement of the history says it.
    #[serde(default = "enabled_by_default")]
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

/// A check whose outcome the world file says.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CheckToml {
    pub(super) check: Spanned<String>,
    /// The level of what it finds.
    pub(super) level: FindingLevel,
    /// What it is about.
    pub(super) category: String,
}

/// A finding of such a check.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FindingToml {
    pub(super) check: Spanned<String>,
    /// The object it is about.
    pub(super) object: String,
    /// What is the matter.
    pub(super) detail: String,
    /// How to mend it.
    pub(super) fix: String,
}

/// A backup schedule.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ScheduleToml {
    pub(super) id: Spanned<String>,
    #[serde(default = "default_frequency")]
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
    /// Returns the policy as providers do.
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

/// How long ago something in a world may have happened: what is longer ago would lie before 1970 in a rehearsal.
const PAST_LIMIT: Span = Span::from_secs(-18_250 * 86_400);

// A second line of a message is a hint: TOML's errors have no place for one.
impl<'de> Deserialize<'de> for PastOffset {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let hint = "write how long before the world is made, such as `-15m`, `-2d 3h`, or `0s`";
        let span = Span::parse(&text).map_err(|e| D::Error::custom(format!("{e}\n{hint}")))?;
        if span > Span::ZERO {
            return Err(D::Error::custom(format!("`{text}` lies in the future\n{hint}")));
        }
        if span < PAST_LIMIT {
            return Err(D::Error::custom(format!("`{text}` is longer ago than `-18250d`\n{hint}")));
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
pub(super) fn default_retention() -> NonNegativeSpan {
    NonNegativeSpan(Span::from_secs(7 * 86_400))
}

/// Returns how long a backup or a restore takes when nothing is said.
pub(super) fn default_copy_duration() -> NonNegativeSpan {
    NonNegativeSpan(Span::from_secs(120))
}

/// Returns how long a replica, or resuming a paused target, takes when nothing is said.
pub(super) fn default_startup_duration() -> NonNegativeSpan {
    NonNegativeSpan(Span::from_secs(300))
}

/// Returns how long pausing a target takes when nothing is said.
pub(super) fn default_pause_duration() -> NonNegativeSpan {
    NonNegativeSpan(Span::from_secs(60))
}

/// Returns how long until a change of the network is applied when nothing is said.
pub(super) fn default_apply_duration() -> NonNegativeSpan {
    NonNegativeSpan(Span::from_secs(10))
}

/// Returns the ranges that may connect when nothing is said: all.
pub(super) fn default_restrictions() -> Vec<Spanned<String>> {
    ["0.0.0.0/0", "::/0"].map(|cidr| Spanned::new(0..0, cidr.to_owned())).into()
}

fn default_frequency() -> Frequency {
    Frequency::Day
}

fn enabled_by_default() -> bool {
    true
}

fn public_role() -> Vec<String> {
    vec!["public".into()]
}

/// Reads a range of addresses.
///
/// # Errors
/// [`Code::Invalid`] when it is none, or has host bits set.
pub(super) fn parse_range(text: &str) -> Result<IpNet> {
    let wrong = |why: &str| Error::new(Code::Invalid, format!("`{text}` {why}"));
    let net: IpNet = text
        .parse()
        .map_err(|_| wrong("is no range of addresses").with_hint("write it as `203.0.113.0/24`"))?;
    if net.trunc() != net {
        return Err(wrong("has host bits set").with_hint(format!("write `{}`", net.trunc())));
    }
    Ok(net)
}

/// Returns the value of a setting.
///
/// # Errors
/// [`Code::Invalid`] when it is a list or a table.
pub(super) fn setting_to_json(value: &toml::Value) -> Result<Value> {
    match value {
        toml::Value::String(text) => Ok(text.as_str().into()),
        toml::Value::Integer(n) => Ok((*n).into()),
        toml::Value::Float(n) => Ok((*n).into()),
        toml::Value::Boolean(b) => Ok((*b).into()),
        _ => Err(Error::new(Code::Invalid, "a setting is text, a number, or true or false")
            .with_hint("write it as `work_mem = \"8MB\"`")),
    }
}
