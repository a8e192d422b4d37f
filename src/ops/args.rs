//! Arguments of a call: decoded strictly, once, into one canonical form.

use super::{
    kinds,
    spec::{Operation, Param, ParamKind, ParamSlot, parse_target_ref},
};
use crate::{
    base::{
        moment::{Moment, Span},
        suggest, value,
    },
    provider::{
        Code, Error, Result,
        model::{RecoveryPoint, RecoveryTarget},
    },
};
use serde_json::{Map, Value, json};

/// The arguments of one call, checked and in canonical form: what was not given is not in it.
#[derive(Debug, Clone, PartialEq)]
pub struct CallArgs {
    given: Map<String, Value>,
    timeout: Span,
}

impl CallArgs {
    /// Checks positional arguments and options against an operation's parameters.
    ///
    /// # Errors
    /// [`Code::Invalid`] naming the parameter, with a hint.
    pub fn decode(op: &Operation, positional: Vec<Value>, mut options: Map<String, Value>) -> Result<Self> {
        let wanted = op.positional_params().count();
        if positional.len() != wanted {
            return Err(Error::new(
                Code::Invalid,
                format!(
                    "`{}` takes {wanted} arguments and an options map, and {} were given",
                    op.path(),
                    positional.len()
                ),
            )
            .with_hint(format!("write `{}`", op.script_signature())));
        }
        let mut given = Map::new();
        for (param, argument) in op.positional_params().zip(positional) {
            given.insert(param.name.into(), canonicalize_argument(op, param, argument)?);
        }
        for param in op.option_params() {
            match (options.remove(param.name), param.slot) {
                (Some(Value::Null), _) => {
                    return Err(Error::new(Code::Invalid, format!("`{}` of `{}` was given and is `()`", param.name, op.path()))
                        .with_hint("leave it out, or give it a value: an empty option could mean something else than you do"));
                }
                (None, ParamSlot::Named) => {
                    return Err(Error::new(Code::Invalid, format!("`{}` needs `{}`", op.path(), param.name))
                        .with_hint(format!("{}: {}", param.name, param.help)));
                }
                (None, _) => {}
                (Some(argument), _) => {
                    drop(given.insert(param.name.into(), canonicalize_argument(op, param, argument)?));
                }
            }
        }
        if let Some(unknown) = options.keys().next() {
            return Err(Error::new(Code::Invalid, format!("`{}` has no option `{unknown}`", op.path()))
                .with_hint(suggest::suggest_name(
                    unknown,
                    op.option_params().map(|p| p.name).collect::<Vec<_>>(),
                )));
        }
        let preset = op.default_timeout();
        let timeout = match given.get("timeout") {
            Some(text) => serde_json::from_value(text.clone()).unwrap_or(preset),
            None => preset,
        };
        Ok(Self { given, timeout })
    }

    /// Reads back what [`CallArgs::to_value`] gave and the journal kept.
    ///
    /// # Errors
    /// As [`CallArgs::decode`]: a later version may no longer take it.
    pub fn from_recorded(op: &Operation, recorded: &Value) -> Result<Self> {
        let mut options = recorded.as_object().cloned().unwrap_or_default();
        let positional = op.positional_params().filter_map(|p| options.remove(p.name)).collect();
        Self::decode(op, positional, options)
    }

    /// Returns arguments for asking an operation what it would need; they were not checked and are never performed.
    pub fn from_unchecked(options: Map<String, Value>) -> Self {
        Self { given: options, timeout: Span::ZERO }
    }

    /// Returns the canonical form: what identifies the call, and what is recorded.
    pub fn to_value(&self) -> Value {
        Value::Object(self.given.clone())
    }

    /// Returns an argument as it was given.
    pub fn get(&self, name: &str) -> &Value {
        self.given.get(name).unwrap_or(&Value::Null)
    }

    /// Returns a text; empty when it was left out.
    pub fn get_text(&self, name: &str) -> &str {
        self.get(name).as_str().unwrap_or_default()
    }

    /// Returns a text, if it was given.
    pub fn get_optional_text(&self, name: &str) -> Option<String> {
        self.get(name).as_str().map(str::to_owned)
    }

    /// Returns a flag; false when it was left out.
    pub fn get_flag(&self, name: &str) -> bool {
        self.get(name).as_bool().unwrap_or_default()
    }

    /// Returns a moment, if it was given.
    pub fn get_moment(&self, name: &str) -> Option<Moment> {
        serde_json::from_value(self.get(name).clone()).ok()
    }

    /// Returns a whole number, if it was given.
    pub fn get_int(&self, name: &str) -> Option<i64> {
        self.get(name).as_i64()
    }

    /// Returns a list of texts, each read; empty when it was left out.
    pub fn get_list<T: std::str::FromStr>(&self, name: &str) -> Vec<T> {
        let items = self.get(name).as_array().into_iter().flatten();
        items.filter_map(|item| item.as_str()?.parse().ok()).collect()
    }

    /// Returns a map; empty when it was left out.
    pub fn get_map(&self, name: &str) -> Map<String, Value> {
        self.get(name).as_object().cloned().unwrap_or_default()
    }

    /// Returns how long the call may take.
    pub fn timeout(&self) -> Span {
        self.timeout
    }

    /// Returns where to recover to, if it was given.
    pub fn get_point(&self, name: &str) -> Option<RecoveryPoint> {
        parse_recovery_point(self.get(name)).ok()
    }
}

fn canonicalize_argument(op: &Operation, param: &Param, argument: Value) -> Result<Value> {
    param.kind.canonicalize_value(argument).map_err(|e| {
        let mut error =
            Error::new(Code::Invalid, format!("`{}` of `{}`: {}", param.name, op.path(), e.message));
        error.hint = e.hint.or_else(|| Some(format!("{}: {}", param.name, param.help)));
        error
    })
}

impl ParamKind {
    /// Returns the word for it in help and messages.
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

    /// Returns the canonical form of a script's value.
    ///
    /// # Errors
    /// What it takes instead.
    pub fn canonicalize_value(self, given: Value) -> Result<Value> {
        let wrong = |given: &Value| {
            Error::new(
                Code::Invalid,
                format!("expected {}, found {}", self.type_name(), describe_value(given)),
            )
        };
        match self {
            ParamKind::Target => canonicalize_target_ref(&given).map_err(|_| wrong(&given)),
            ParamKind::Backup => {
                identifying_text(&given, value::BACKUP_TAG, "id").ok_or_else(|| wrong(&given))
            }
            ParamKind::Branch => match value::untag_as(&given, value::BRANCH_TAG) {
                Some(_) => canonicalize_target_ref(&given),
                None => given.as_str().map(Value::from).ok_or_else(|| wrong(&given)),
            },
            ParamKind::Text => given.as_str().map(Value::from).ok_or_else(|| wrong(&given)),
            ParamKind::Int => given.as_i64().map(Value::from).ok_or_else(|| wrong(&given)),
            ParamKind::Bool => given.as_bool().map(Value::from).ok_or_else(|| wrong(&given)),
            ParamKind::Duration => {
                let text = value::expect_text(&given, value::DURATION_TAG).map_err(|_| wrong(&given))?;
                let span = Span::parse(&text)
                    .map_err(|e| Error::new(Code::Invalid, e.to_string()).with_hint(e.hint()))?;
                Ok(json!(span))
            }
            ParamKind::Moment => {
                let text = value::expect_text(&given, value::MOMENT_TAG).map_err(|_| wrong(&given))?;
                let moment = Moment::parse(&text)
                    .map_err(|e| Error::new(Code::Invalid, e.to_string()).with_hint(e.hint()))?;
                Ok(json!(moment))
            }
            ParamKind::Choice(words) => match given.as_str() {
                Some(word) if words.contains(&word) => Ok(given),
                Some(word) => {
                    Err(wrong(&given).with_hint(suggest::suggest_name(word, words.iter().copied())))
                }
                None => Err(wrong(&given)),
            },
            ParamKind::Point => parse_recovery_point(&given).map(|p| recovery_point_to_json(&p)),
            ParamKind::Clock => kinds::parse_time_of_day(&given)
                .ok_or_else(|| wrong(&given).with_hint(kinds::TIME_OF_DAY_HINT)),
            ParamKind::Cidrs => {
                kinds::canonicalize_list(&given, kinds::parse_cidr).unwrap_or_else(|| Err(wrong(&given)))
            }
            ParamKind::Addresses => {
                kinds::canonicalize_list(&given, kinds::parse_address).unwrap_or_else(|| Err(wrong(&given)))
            }
            ParamKind::Words => {
                kinds::canonicalize_list(&given, |word| Ok(word.into())).unwrap_or_else(|| Err(wrong(&given)))
            }
            ParamKind::Settings => kinds::check_settings(&given).unwrap_or_else(|| Err(wrong(&given))),
            ParamKind::Json => Ok(given),
        }
    }

    /// Returns the canonical form of a word from the command line.
    ///
    /// # Errors
    /// What it takes instead.
    pub fn parse_word(self, text: &str) -> Result<Value> {
        let wrong = || Error::new(Code::Invalid, format!("expected {}, found `{text}`", self.type_name()));
        match self {
            ParamKind::Int => self.canonicalize_value(text.parse::<i64>().map_err(|_| wrong())?.into()),
            ParamKind::Bool => self.canonicalize_value(
                text.parse::<bool>().map_err(|_| wrong().with_hint("write `true` or `false`"))?.into(),
            ),
            ParamKind::Point => {
                let pairs = text.split(',').map(|pair| pair.split_once('='));
                let fields = pairs
                    .map(|p| p.map(|(k, v)| (k.trim().to_owned(), parse_point_field(k.trim(), v.trim()))));
                let map: Option<Map<String, Value>> = fields.collect();
                self.canonicalize_value(map.ok_or_else(|| wrong().with_hint("write `time=2026-11-20T03:00:00Z`, `xid=771`, `lsn=0/3000148` or `name=before-deploy`"))?.into())
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

    /// Returns the canonical form of the words that the command line has for one parameter.
    ///
    /// # Errors
    /// What it takes instead.
    pub fn parse_words(self, words: &[&str]) -> Result<Value> {
        match self {
            ParamKind::Settings => self.canonicalize_value(kinds::parse_assignments(words)?.into()),
            _ if self.is_many() => {
                let split = words.iter().flat_map(|word| word.split(',')).map(str::trim);
                self.canonicalize_value(split.filter(|word| !word.is_empty()).map(Value::from).collect())
            }
            _ => self.parse_word(words.first().copied().unwrap_or_default()),
        }
    }
}

/// Reads the word of a recovery point on the command line: two of its fields are not text.
fn parse_point_field(key: &str, word: &str) -> Value {
    match key {
        "inclusive" => word.parse::<bool>().map_or_else(|_| word.into(), Value::from),
        "timeline" => word.parse::<i64>().map_or_else(|_| word.into(), Value::from),
        _ => word.into(),
    }
}

/// Returns a target or branch by what identifies it, without the rest of a handle.
fn canonicalize_target_ref(given: &Value) -> Result<Value> {
    let at = parse_target_ref(given)?;
    let id = value::untag_as(given, value::BRANCH_TAG).map(|b| b["id"].clone());
    Ok(match (at.branch, id) {
        (Some(branch), Some(id)) => {
            value::tag_value(value::BRANCH_TAG, json!({"target": at.target, "name": branch, "id": id}))
        }
        (Some(branch), None) => format!("{}/{branch}", at.target).into(),
        (None, _) => value::tag_value(value::TARGET_TAG, at.target),
    })
}

fn identifying_text(given: &Value, tag: &str, field: &str) -> Option<Value> {
    let text = value::untag_as(given, tag).map_or(given.as_str(), |handle| handle[field].as_str());
    text.map(Value::from)
}

/// Returns a value in the words of a message, short.
pub(super) fn describe_value(given: &Value) -> String {
    match (value::untag_value(given), given) {
        (Some((tag, _)), _) => format!("a {}", tag.trim_start_matches('$')),
        (_, Value::Null) => "nothing".into(),
        (_, Value::Bool(b)) => format!("`{b}`"),
        (_, Value::Number(n)) => format!("`{n}`"),
        (_, Value::String(s)) => format!("text `{s}`"),
        (_, Value::Array(_)) => "an array".into(),
        (_, Value::Object(_)) => "a map".into(),
    }
}

const POINT_FIELDS: &[&str] = &["time", "xid", "lsn", "name", "inclusive", "timeline"];

fn parse_recovery_point(given: &Value) -> Result<RecoveryPoint> {
    let invalid = |message: String| Error::new(Code::Invalid, message);
    let fields = given.as_object().filter(|_| value::untag_value(given).is_none()).ok_or_else(|| {
        invalid(format!("expected a recovery point, found {}", describe_value(given)))
            .with_hint("write `#{time: …}`, `#{xid: …}`, `#{lsn: …}` or `#{name: …}`")
    })?;
    if let Some(unknown) = fields.keys().find(|k| !POINT_FIELDS.contains(&k.as_str())) {
        return Err(invalid(format!("a recovery point has no `{unknown}`"))
            .with_hint(suggest::suggest_name(unknown, POINT_FIELDS.iter().copied())));
    }
    let text = |name: &str| match fields.get(name) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Number(n)) => Ok(n.to_string()),
        other => Err(invalid(format!(
            "`{name}` of a recovery point is text, found {}",
            describe_value(other.unwrap_or(&Value::Null))
        ))),
    };
    let asked: Vec<&str> =
        POINT_FIELDS[..4].iter().copied().filter(|name| fields.contains_key(*name)).collect();
    let at = match asked[..] {
        ["time"] => {
            let moment = ParamKind::Moment.canonicalize_value(fields["time"].clone())?;
            RecoveryTarget::Time(serde_json::from_value(moment).map_err(|e| invalid(e.to_string()))?)
        }
        ["xid"] => RecoveryTarget::Xid(text("xid")?),
        ["lsn"] => RecoveryTarget::Lsn(text("lsn")?),
        ["name"] => RecoveryTarget::Name(text("name")?),
        _ => {
            let message = "a recovery point has exactly one of `time`, `xid`, `lsn`, `name`";
            return Err(invalid(format!("{message}, and {} were given", asked.len())));
        }
    };
    let inclusive = match fields.get("inclusive") {
        None => true,
        Some(Value::Bool(b)) => *b,
        Some(other) => {
            return Err(invalid(format!("`inclusive` is true or false, found {}", describe_value(other))));
        }
    };
    let timeline =
        match fields.get("timeline") {
            None => None,
            Some(n) => Some(n.as_u64().and_then(|n| u32::try_from(n).ok()).ok_or_else(|| {
                invalid(format!("`timeline` is a whole number, found {}", describe_value(n)))
            })?),
        };
    Ok(RecoveryPoint { at, inclusive, timeline })
}

fn recovery_point_to_json(point: &RecoveryPoint) -> Value {
    let mut fields = Map::new();
    match &point.at {
        RecoveryTarget::Time(moment) => drop(fields.insert("time".into(), json!(moment))),
        RecoveryTarget::Xid(xid) => drop(fields.insert("xid".into(), xid.as_str().into())),
        RecoveryTarget::Lsn(lsn) => drop(fields.insert("lsn".into(), lsn.as_str().into())),
        RecoveryTarget::Name(name) => drop(fields.insert("name".into(), name.as_str().into())),
        RecoveryTarget::BackupEnd | RecoveryTarget::Latest => {}
    }
    if !point.inclusive {
        fields.insert("inclusive".into(), false.into());
    }
    if let Some(timeline) = point.timeline {
        fields.insert("timeline".into(), timeline.into());
    }
    fields.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops;

    fn decode(path: &str, positional: &[Value], options: &Value) -> Result<CallArgs> {
        let op = ops::find_operation(path).expect("an operation");
        CallArgs::decode(op, positional.to_vec(), options.as_object().cloned().unwrap_or_default())
    }

    fn message(path: &str, positional: &[Value], options: &Value) -> String {
        let error = decode(path, positional, options).expect_err("it must be refused");
        assert_eq!(error.code, Code::Invalid);
        assert!(error.hint.is_some(), "{error:?} has no hint");
        error.message
    }

    #[test]
    fn what_is_given_wrong_is_refused_by_name() {
        let lab = json!("lab");
        let cases = [
            (message("backup::list", &[], &json!({})), "takes 1 arguments"),
            (
                message("backup::list", &[json!(5)], &json!({})),
                "`target` of `backup::list`: expected target, found `5`",
            ),
            (
                message("backup::create", std::slice::from_ref(&lab), &json!({"lable": "x"})),
                "has no option `lable`",
            ),
            (
                message("backup::create", std::slice::from_ref(&lab), &json!({"timeout": "soon"})),
                "`soon` is not a duration",
            ),
            (
                message("backup::restore", &[lab.clone(), json!("b")], &json!({"into": null})),
                "was given and is `()`",
            ),
            (message("backup::pitr::restore", std::slice::from_ref(&lab), &json!({})), "needs `to`"),
            (
                message(
                    "backup::pitr::restore",
                    std::slice::from_ref(&lab),
                    &json!({"to": {"time": "2026-11-20T03:00:00"}}),
                ),
                "no time zone",
            ),
            (
                message(
                    "backup::pitr::restore",
                    std::slice::from_ref(&lab),
                    &json!({"to": {"xid": "1", "lsn": "0/1"}}),
                ),
                "exactly one of",
            ),
            (
                message("backup::pitr::restore", std::slice::from_ref(&lab), &json!({"to": {"tme": "x"}})),
                "has no `tme`",
            ),
            (
                message("backup::pitr::find", std::slice::from_ref(&lab), &json!({"event": "dorp"})),
                "expected drop|truncate",
            ),
        ];
        for (message, wrong) in cases {
            assert!(message.contains(wrong), "{message}");
        }
    }

    #[test]
    fn handles_are_kept_by_what_identifies_them() {
        let branch = json!({"$branch": {"target": "lab", "name": "drill", "id": "x1", "port": 5}});
        let backup = json!({"$backup": {"id": "b1", "target": "lab", "bytes": 5}});
        let args = decode("backup::get", &[branch, backup], &json!({})).expect("they are right");
        assert_eq!(
            args.to_value(),
            json!({"backup": "b1", "target": {"$branch": {"target": "lab", "name": "drill", "id": "x1"}}})
        );
    }

    #[test]
    fn the_same_thing_said_differently_is_the_same_call() {
        let one =
            decode("backup::list", &[json!({"$target": "lab"})], &json!({"timeout": "90s"})).expect("right");
        let two = decode("backup::list", &[json!("lab")], &json!({"timeout": {"$duration": "1m 30s"}}))
            .expect("right");
        assert_eq!(one.get("timeout"), two.get("timeout"));
        assert_eq!(one.timeout(), Span::from_secs(90));
        let zoned = |text: &str| {
            decode("backup::pitr::restore", &[json!("lab")], &json!({"to": {"time": text}})).expect("right")
        };
        assert_eq!(zoned("2026-11-20T03:00:00Z"), zoned("2026-11-20T05:00:00+02:00"));
    }

    #[test]
    fn words_are_read_like_values() {
        let point =
            ParamKind::Point.parse_word("time=2026-11-20T03:00:00Z,inclusive=false").expect("a point");
        assert_eq!(point, json!({"time": {"$moment": "2026-11-20T03:00:00Z"}, "inclusive": false}));
        assert!(ParamKind::Point.parse_word("yesterday").is_err());
        assert!(ParamKind::Bool.parse_word("yes").is_err());
        assert_eq!(ParamKind::Int.parse_word("7").expect("a number"), json!(7));
    }
}
