//! A parameter: its name, its kind, how it is given.

use super::canonical;
use crate::{
    base::{
        moment::{self, GivenMoment, Moment, Span},
        suggest, value,
    },
    provider::{Code, Error, Result},
};
use serde_json::{Map, Value, json};

/// One parameter of an operation.
pub struct Param {
    /// Its name; never a reserved word of the script language.
    pub name: &'static str,
    pub kind: ParamKind,
    /// Whether it is given by its place, and must be.
    pub slot: ParamSlot,
    /// One line that describes it.
    pub help: &'static str,
}

/// How a parameter is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParamSlot {
    /// By its place in the call; must be given.
    Positional,
    /// In the options; must be given.
    Named,
    /// In the options; may be left out. The text says what then.
    Optional(&'static str),
}

/// What a parameter takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParamKind {
    /// A target or a branch, by handle or as `target` or `target/branch`.
    Target,
    /// A backup, by handle or id.
    Backup,
    /// A branch, by handle or name.
    Branch,
    /// Text.
    Text,
    /// A whole number.
    Int,
    /// True or false.
    Bool,
    /// A length of time: `"45m"`.
    Duration,
    /// An instant, RFC 3339 with a zone.
    Moment,
    /// One of a few words.
    Choice(&'static [&'static str]),
    /// Where to recover to: `#{time: …}`, `#{xid: …}`, `#{lsn: …}` or `#{name: …}`.
    Point,
    /// A time of day in UTC: `"03:00"`.
    Clock,
    /// A range of addresses, or a list of them: `"203.0.113.0/24"`.
    Cidrs,
    /// An address, or a list of them.
    Addresses,
    /// A name, or a list of them.
    Words,
    /// Settings by name: `#{work_mem: "8MB"}`; `()` takes an override away.
    Settings,
    /// Whatever JSON can say.
    Json,
}

impl ParamKind {
    /// Returns the name of the kind in help and messages.
    pub fn type_name(self) -> String {
        match self {
            ParamKind::Target => "target".into(),
            ParamKind::Backup => "backup".into(),
            ParamKind::Branch => "branch".into(),
            ParamKind::Text => "text".into(),
            ParamKind::Int => "int".into(),
            ParamKind::Bool => "bool".into(),
            ParamKind::Duration => "duration".into(),
            ParamKind::Moment => "moment".into(),
            ParamKind::Choice(words) => words.join("|"),
            ParamKind::Point => "recovery point".into(),
            ParamKind::Clock => "time of day".into(),
            ParamKind::Cidrs => "cidrs".into(),
            ParamKind::Addresses => "addresses".into(),
            ParamKind::Words => "names".into(),
            ParamKind::Settings => "settings".into(),
            ParamKind::Json => "json".into(),
        }
    }

    /// Returns whether a parameter of this kind takes several words on the command line.
    pub const fn takes_several_words(self) -> bool {
        matches!(self, ParamKind::Cidrs | ParamKind::Addresses | ParamKind::Words | ParamKind::Settings)
    }

    /// Returns the canonical form of a script's value.
    ///
    /// # Errors
    /// What it takes instead.
    pub fn canonicalize_value(self, given: Value) -> Result<Value> {
        let wrong = |given: &Value| canonical::wrong_type_error(&self.type_name(), given);
        match self {
            ParamKind::Target => canonical::canonicalize_target_ref(&given).map_err(|_| wrong(&given)),
            ParamKind::Backup => canonical::identify_by_text_or_field(&given, value::BACKUP_TAG, "id")
                .ok_or_else(|| wrong(&given)),
            ParamKind::Branch => match value::untag_as(&given, value::BRANCH_TAG) {
                Some(_) => canonical::canonicalize_target_ref(&given),
                None => given.as_str().map(Value::from).ok_or_else(|| wrong(&given)),
            },
            ParamKind::Text => given.as_str().map(Value::from).ok_or_else(|| wrong(&given)),
            ParamKind::Int => given.as_i64().map(Value::from).ok_or_else(|| wrong(&given)),
            ParamKind::Bool => given.as_bool().map(Value::from).ok_or_else(|| wrong(&given)),
            ParamKind::Duration => {
                let text =
                    value::expect_text_or_tagged(&given, value::DURATION_TAG).map_err(|_| wrong(&given))?;
                let span = Span::parse(&text)
                    .map_err(|e| Error::new(Code::Invalid, e.to_string()).with_hint(e.hint()))?;
                Ok(json!(span))
            }
            ParamKind::Moment => canonical::parse_moment(&given)
                .unwrap_or_else(|| Err(wrong(&given)))
                .map(|moment| json!(moment)),
            ParamKind::Choice(words) => {
                match given.as_str() {
                    Some(word) if words.contains(&word) => Ok(given),
                    Some(word) => Err(wrong(&given)
                        .with_hint(suggest::suggest_name_or_list_known(word, words.iter().copied()))),
                    None => Err(wrong(&given)),
                }
            }
            ParamKind::Point => {
                canonical::parse_recovery_point(&given).map(|p| canonical::recovery_point_to_json(&p))
            }
            ParamKind::Clock => canonical::parse_time_of_day(&given)
                .ok_or_else(|| wrong(&given).with_hint(canonical::TIME_OF_DAY_HINT)),
            ParamKind::Cidrs => canonical::canonicalize_list(&given, canonical::parse_cidr)
                .unwrap_or_else(|| Err(wrong(&given))),
            ParamKind::Addresses => canonical::canonicalize_list(&given, canonical::parse_address)
                .unwrap_or_else(|| Err(wrong(&given))),
            ParamKind::Words => canonical::canonicalize_list(&given, |word| Ok(word.into()))
                .unwrap_or_else(|| Err(wrong(&given))),
            ParamKind::Settings => {
                canonical::canonicalize_settings(&given).unwrap_or_else(|| Err(wrong(&given)))
            }
            ParamKind::Json => Ok(given),
        }
    }

    /// Returns the canonical form of a word from the command line.
    ///
    /// # Errors
    /// What it takes instead.
    pub fn parse_word(self, text: &str) -> Result<Value> {
        let wrong = || Error::new(Code::Invalid, format!("expected {}, found `{text}`", self.type_name()));
        if self.may_be_moment() {
            require_plausible_moments(text)?;
        }
        match self {
            ParamKind::Int => self.canonicalize_value(text.parse::<i64>().map_err(|_| wrong())?.into()),
            ParamKind::Bool => self.canonicalize_value(
                text.parse::<bool>().map_err(|_| wrong().with_hint("write `true` or `false`"))?.into(),
            ),
            // What a command printed with `-o json` is passed on as it is.
            ParamKind::Point if text.starts_with('{') => {
                let json = serde_json::from_str(text).map_err(|e| {
                    Error::new(Code::Invalid, format!("expected a recovery point as JSON: {e}"))
                })?;
                self.canonicalize_value(json)
            }
            ParamKind::Point if Moment::parse(text).is_ok() => {
                self.canonicalize_value(json!({ "time": text }))
            }
            ParamKind::Point => {
                let pairs = text.split(',').map(|pair| pair.split_once('='));
                let fields = pairs.map(|p| {
                    p.map(|(k, v)| {
                        (k.trim().to_owned(), canonical::parse_recovery_point_word(k.trim(), v.trim()))
                    })
                });
                let map: Option<Map<String, Value>> = fields.collect();
                self.canonicalize_value(map.ok_or_else(|| wrong().with_hint("write `time=2026-11-20T03:00:00Z`, `-30m`, `xid=771`, `lsn=0/3000148` or `name=before-deploy`, or pass on what `backup pitr mark -o json` printed"))?.into())
            }
            ParamKind::Json => {
                let json = serde_json::from_str(text).map_err(|e| {
                    Error::new(Code::Invalid, format!("expected JSON: {e}"))
                        .with_hint("write it in quotes: `'{\"name\": \"drill\"}'`")
                })?;
                self.canonicalize_value(json)
            }
            _ => self.canonicalize_value(text.into()),
        }
    }

    /// Fixes a moment in a word from the command line that is counted back from now: returns the word with it, and the
    /// moment; `None` where there is no such moment. `now` is asked only for one.
    ///
    /// # Errors
    /// What `now` says.
    pub fn resolve_relative_moment<E>(
        self,
        word: &str,
        now: impl FnOnce() -> std::result::Result<Moment, E>,
    ) -> std::result::Result<Option<(String, Moment)>, E> {
        let is_bare = self == ParamKind::Moment || GivenMoment::is_relative_text(word);
        let (fields, name) = match self {
            ParamKind::Moment | ParamKind::Point if is_bare => (vec![word], ""),
            ParamKind::Point if !word.starts_with('{') => (word.split(',').map(str::trim).collect(), "time="),
            _ => return Ok(None),
        };
        let read =
            |field: &&str| GivenMoment::parse(field.strip_prefix(name)?).ok().filter(|g| g.is_counted_back());
        let Some((at, given)) = fields.iter().enumerate().find_map(|(n, field)| Some((n, read(field)?)))
        else {
            return Ok(None);
        };
        // One that is too long ago is refused when the word is read.
        let moment = given.resolve_unchecked(now()?);
        let put = |(n, field): (usize, &&str)| {
            if n == at { format!("{name}{moment}") } else { (*field).to_owned() }
        };
        Ok(Some((fields.iter().enumerate().map(put).collect::<Vec<_>>().join(","), moment)))
    }

    /// Returns whether a word of this kind may be a moment, which may begin with a hyphen.
    pub const fn may_be_moment(self) -> bool {
        matches!(self, ParamKind::Moment | ParamKind::Point)
    }

    /// Returns the canonical form of the words that the command line gives for one parameter.
    ///
    /// # Errors
    /// What it takes instead.
    pub fn parse_words(self, words: &[&str]) -> Result<Value> {
        match self {
            ParamKind::Settings => self.canonicalize_value(canonical::parse_assignments(words)?.into()),
            _ if self.takes_several_words() => {
                let split = words.iter().flat_map(|word| word.split(',')).map(str::trim);
                self.canonicalize_value(split.filter(|word| !word.is_empty()).map(Value::from).collect())
            }
            _ => self.parse_word(words.first().copied().unwrap_or_default()),
        }
    }
}

/// Refuses a word from the command line with a moment in it that nobody can have meant.
fn require_plausible_moments(word: &str) -> Result<()> {
    for field in word.split(',').map(str::trim) {
        if let Ok(moment) = Moment::parse(field.strip_prefix("time=").unwrap_or(field)) {
            let refused = |e: moment::Error| Error::new(Code::Invalid, e.to_string()).with_hint(e.hint());
            moment.require_plausible().map_err(refused)?;
        }
    }
    Ok(())
}

/// The option that every operation takes.
pub static TIMEOUT_PARAM: Param = Param {
    name: "timeout",
    kind: ParamKind::Duration,
    slot: ParamSlot::Optional("1h, and 30s for what only looks"),
    help: "how long it may take",
};

/// The parameter of nearly every operation: what it is about.
pub(super) const TARGET: Param = Param {
    name: "target",
    kind: ParamKind::Target,
    slot: ParamSlot::Positional,
    help: "the target, or a branch of one",
};
