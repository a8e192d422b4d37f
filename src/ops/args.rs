//! Arguments of a call: decoded strictly, once, into one canonical form.

use super::{
    kinds,
    spec::{Kind, Op, Param, Slot, place_of},
};
use crate::{
    base::{
        moment::{Moment, Span},
        suggest, value,
    },
    provider::{
        Code, Error, Result,
        model::{At, RecoveryPoint},
    },
};
use serde_json::{Map, Value, json};

/// The arguments of one call, checked and in canonical form: what was not given is not in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Args {
    given: Map<String, Value>,
    timeout: Span,
}

impl Args {
    /// Checks positional arguments and options against an operation's parameters.
    ///
    /// # Errors
    /// [`Code::Invalid`] naming the parameter, with a hint.
    pub fn decode(op: &Op, positional: Vec<Value>, mut options: Map<String, Value>) -> Result<Self> {
        let wanted = op.positional().count();
        if positional.len() != wanted {
            return Err(Error::new(
                Code::Invalid,
                format!(
                    "`{}` takes {wanted} arguments and an options map, and {} were given",
                    op.path(),
                    positional.len()
                ),
            )
            .hint(format!("write `{}`", op.signature())));
        }
        let mut given = Map::new();
        for (param, argument) in op.positional().zip(positional) {
            given.insert(param.name.into(), accept(op, param, argument)?);
        }
        for param in op.options() {
            match (options.remove(param.name), param.slot) {
                (Some(Value::Null), _) => {
                    return Err(Error::new(Code::Invalid, format!("`{}` of `{}` was given and is `()`", param.name, op.path()))
                        .hint("leave it out, or give it a value: an empty option could mean something else than you do"));
                }
                (None, Slot::Named) => {
                    return Err(Error::new(Code::Invalid, format!("`{}` needs `{}`", op.path(), param.name))
                        .hint(format!("{}: {}", param.name, param.help)));
                }
                (None, _) => {}
                (Some(argument), _) => drop(given.insert(param.name.into(), accept(op, param, argument)?)),
            }
        }
        if let Some(unknown) = options.keys().next() {
            return Err(Error::new(Code::Invalid, format!("`{}` has no option `{unknown}`", op.path()))
                .hint(suggest::hint(unknown, op.options().map(|p| p.name).collect::<Vec<_>>())));
        }
        let preset = op.patience();
        let timeout = match given.get("timeout") {
            Some(text) => serde_json::from_value(text.clone()).unwrap_or(preset),
            None => preset,
        };
        Ok(Self { given, timeout })
    }

    /// Reads back what [`Args::to_value`] gave and the journal kept.
    ///
    /// # Errors
    /// As [`Args::decode`]: a later version may no longer take it.
    pub fn from_recorded(op: &Op, recorded: &Value) -> Result<Self> {
        let mut options = recorded.as_object().cloned().unwrap_or_default();
        let positional = op.positional().filter_map(|p| options.remove(p.name)).collect();
        Self::decode(op, positional, options)
    }

    /// Returns arguments for asking an operation what it would need; they were not checked and are never performed.
    pub fn sample(options: Map<String, Value>) -> Self {
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
    pub fn text(&self, name: &str) -> &str {
        self.get(name).as_str().unwrap_or_default()
    }

    /// Returns a text, if it was given.
    pub fn maybe_text(&self, name: &str) -> Option<String> {
        self.get(name).as_str().map(str::to_owned)
    }

    /// Returns a flag; false when it was left out.
    pub fn flag(&self, name: &str) -> bool {
        self.get(name).as_bool().unwrap_or_default()
    }

    /// Returns a moment, if it was given.
    pub fn moment(&self, name: &str) -> Option<Moment> {
        serde_json::from_value(self.get(name).clone()).ok()
    }

    /// Returns a whole number, if it was given.
    pub fn int(&self, name: &str) -> Option<i64> {
        self.get(name).as_i64()
    }

    /// Returns a list of texts, each read; empty when it was left out.
    pub fn list<T: std::str::FromStr>(&self, name: &str) -> Vec<T> {
        let items = self.get(name).as_array().into_iter().flatten();
        items.filter_map(|item| item.as_str()?.parse().ok()).collect()
    }

    /// Returns a map; empty when it was left out.
    pub fn map(&self, name: &str) -> Map<String, Value> {
        self.get(name).as_object().cloned().unwrap_or_default()
    }

    /// Returns how long the call may take.
    pub fn timeout(&self) -> Span {
        self.timeout
    }

    /// Returns where to recover to, if it was given.
    pub fn point(&self, name: &str) -> Option<RecoveryPoint> {
        point(self.get(name)).ok()
    }
}

fn accept(op: &Op, param: &Param, argument: Value) -> Result<Value> {
    param.kind.accept(argument).map_err(|e| {
        let mut error =
            Error::new(Code::Invalid, format!("`{}` of `{}`: {}", param.name, op.path(), e.message));
        error.hint = e.hint.or_else(|| Some(format!("{}: {}", param.name, param.help)));
        error
    })
}

impl Kind {
    /// Returns the word for it in help and messages.
    pub fn name(self) -> String {
        match self {
            Kind::Target => "target".into(),
            Kind::Backup => "backup".into(),
            Kind::Branch => "branch".into(),
            Kind::Text => "text".into(),
            Kind::Int => "int".into(),
            Kind::Bool => "bool".into(),
            Kind::Duration => "duration".into(),
            Kind::Moment => "moment".into(),
            Kind::Choice(words) => words.join("|"),
            Kind::Point => "recovery point".into(),
            Kind::Clock => "time of day".into(),
            Kind::Cidrs => "cidrs".into(),
            Kind::Addresses => "addresses".into(),
            Kind::Words => "names".into(),
            Kind::Settings => "settings".into(),
            Kind::Json => "json".into(),
        }
    }

    /// Returns the canonical form of a script's value.
    ///
    /// # Errors
    /// What it takes instead.
    pub fn accept(self, given: Value) -> Result<Value> {
        let wrong = |given: &Value| {
            Error::new(Code::Invalid, format!("expected {}, found {}", self.name(), describe(given)))
        };
        match self {
            Kind::Target => place(&given).map_err(|_| wrong(&given)),
            Kind::Backup => named(&given, value::BACKUP, "id").ok_or_else(|| wrong(&given)),
            Kind::Branch => match value::inside(&given, value::BRANCH) {
                Some(_) => place(&given),
                None => given.as_str().map(Value::from).ok_or_else(|| wrong(&given)),
            },
            Kind::Text => given.as_str().map(Value::from).ok_or_else(|| wrong(&given)),
            Kind::Int => given.as_i64().map(Value::from).ok_or_else(|| wrong(&given)),
            Kind::Bool => given.as_bool().map(Value::from).ok_or_else(|| wrong(&given)),
            Kind::Duration => {
                let text = value::text(&given, value::DURATION).map_err(|_| wrong(&given))?;
                let span = Span::parse(&text)
                    .map_err(|e| Error::new(Code::Invalid, e.to_string()).hint(e.hint()))?;
                Ok(json!(span))
            }
            Kind::Moment => {
                let text = value::text(&given, value::MOMENT).map_err(|_| wrong(&given))?;
                let moment = Moment::parse(&text)
                    .map_err(|e| Error::new(Code::Invalid, e.to_string()).hint(e.hint()))?;
                Ok(json!(moment))
            }
            Kind::Choice(words) => match given.as_str() {
                Some(word) if words.contains(&word) => Ok(given),
                Some(word) => Err(wrong(&given).hint(suggest::hint(word, words.iter().copied()))),
                None => Err(wrong(&given)),
            },
            Kind::Point => point(&given).map(|p| canonical(&p)),
            Kind::Clock => kinds::clock(&given).ok_or_else(|| wrong(&given).hint(kinds::CLOCK_HINT)),
            Kind::Cidrs => kinds::each(&given, kinds::cidr).unwrap_or_else(|| Err(wrong(&given))),
            Kind::Addresses => kinds::each(&given, kinds::address).unwrap_or_else(|| Err(wrong(&given))),
            Kind::Words => kinds::each(&given, |word| Ok(word.into())).unwrap_or_else(|| Err(wrong(&given))),
            Kind::Settings => kinds::settings(&given).unwrap_or_else(|| Err(wrong(&given))),
            Kind::Json => Ok(given),
        }
    }

    /// Returns the canonical form of a word from the command line.
    ///
    /// # Errors
    /// What it takes instead.
    pub fn read(self, text: &str) -> Result<Value> {
        let wrong = || Error::new(Code::Invalid, format!("expected {}, found `{text}`", self.name()));
        match self {
            Kind::Int => self.accept(text.parse::<i64>().map_err(|_| wrong())?.into()),
            Kind::Bool => {
                self.accept(text.parse::<bool>().map_err(|_| wrong().hint("write `true` or `false`"))?.into())
            }
            Kind::Point => {
                let pairs = text.split(',').map(|pair| pair.split_once('='));
                let fields =
                    pairs.map(|p| p.map(|(k, v)| (k.trim().to_owned(), from_word(k.trim(), v.trim()))));
                let map: Option<Map<String, Value>> = fields.collect();
                self.accept(map.ok_or_else(|| wrong().hint("write `time=2026-11-20T03:00:00Z`, `xid=771`, `lsn=0/3000148` or `name=before-deploy`"))?.into())
            }
            Kind::Json => {
                let json = serde_json::from_str(text).map_err(|e| {
                    Error::new(Code::Invalid, format!("expected JSON: {e}"))
                        .hint("write it in quotes: `'{\"name\": \"drill\"}'`")
                })?;
                self.accept(json)
            }
            _ => self.accept(text.into()),
        }
    }

    /// Returns the canonical form of the words that the command line has for one parameter.
    ///
    /// # Errors
    /// What it takes instead.
    pub fn read_all(self, words: &[&str]) -> Result<Value> {
        match self {
            Kind::Settings => self.accept(kinds::pairs(words)?.into()),
            _ if self.is_many() => {
                let split = words.iter().flat_map(|word| word.split(',')).map(str::trim);
                self.accept(split.filter(|word| !word.is_empty()).map(Value::from).collect())
            }
            _ => self.read(words.first().copied().unwrap_or_default()),
        }
    }
}

/// Reads the word of a recovery point on the command line: two of its fields are not text.
fn from_word(key: &str, word: &str) -> Value {
    match key {
        "inclusive" => word.parse::<bool>().map_or_else(|_| word.into(), Value::from),
        "timeline" => word.parse::<i64>().map_or_else(|_| word.into(), Value::from),
        _ => word.into(),
    }
}

/// Returns a target or branch by what identifies it, without the rest of a handle.
fn place(given: &Value) -> Result<Value> {
    let at = place_of(given)?;
    let id = value::inside(given, value::BRANCH).map(|b| b["id"].clone());
    Ok(match (at.branch, id) {
        (Some(branch), Some(id)) => {
            value::tagged(value::BRANCH, json!({"target": at.target, "name": branch, "id": id}))
        }
        (Some(branch), None) => format!("{}/{branch}", at.target).into(),
        (None, _) => value::tagged(value::TARGET, at.target),
    })
}

fn named(given: &Value, tag: &str, field: &str) -> Option<Value> {
    let text = value::inside(given, tag).map_or(given.as_str(), |handle| handle[field].as_str());
    text.map(Value::from)
}

/// Returns a value in the words of a message, short.
pub(super) fn describe(given: &Value) -> String {
    match (value::untag(given), given) {
        (Some((tag, _)), _) => format!("a {}", tag.trim_start_matches('$')),
        (_, Value::Null) => "nothing".into(),
        (_, Value::Bool(b)) => format!("`{b}`"),
        (_, Value::Number(n)) => format!("`{n}`"),
        (_, Value::String(s)) => format!("text `{s}`"),
        (_, Value::Array(_)) => "an array".into(),
        (_, Value::Object(_)) => "a map".into(),
    }
}

const POINTS: &[&str] = &["time", "xid", "lsn", "name", "inclusive", "timeline"];

fn point(given: &Value) -> Result<RecoveryPoint> {
    let invalid = |message: String| Error::new(Code::Invalid, message);
    let fields = given.as_object().filter(|_| value::untag(given).is_none()).ok_or_else(|| {
        invalid(format!("expected a recovery point, found {}", describe(given)))
            .hint("write `#{time: …}`, `#{xid: …}`, `#{lsn: …}` or `#{name: …}`")
    })?;
    if let Some(unknown) = fields.keys().find(|k| !POINTS.contains(&k.as_str())) {
        return Err(invalid(format!("a recovery point has no `{unknown}`"))
            .hint(suggest::hint(unknown, POINTS.iter().copied())));
    }
    let text = |name: &str| match fields.get(name) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Number(n)) => Ok(n.to_string()),
        other => Err(invalid(format!(
            "`{name}` of a recovery point is text, found {}",
            describe(other.unwrap_or(&Value::Null))
        ))),
    };
    let asked: Vec<&str> = POINTS[..4].iter().copied().filter(|name| fields.contains_key(*name)).collect();
    let at = match asked[..] {
        ["time"] => {
            let moment = Kind::Moment.accept(fields["time"].clone())?;
            At::Time(serde_json::from_value(moment).map_err(|e| invalid(e.to_string()))?)
        }
        ["xid"] => At::Xid(text("xid")?),
        ["lsn"] => At::Lsn(text("lsn")?),
        ["name"] => At::Name(text("name")?),
        _ => {
            let message = "a recovery point has exactly one of `time`, `xid`, `lsn`, `name`";
            return Err(invalid(format!("{message}, and {} were given", asked.len())));
        }
    };
    let inclusive = match fields.get("inclusive") {
        None => true,
        Some(Value::Bool(b)) => *b,
        Some(other) => {
            return Err(invalid(format!("`inclusive` is true or false, found {}", describe(other))));
        }
    };
    let timeline = match fields.get("timeline") {
        None => None,
        Some(n) => Some(
            n.as_u64()
                .and_then(|n| u32::try_from(n).ok())
                .ok_or_else(|| invalid(format!("`timeline` is a whole number, found {}", describe(n))))?,
        ),
    };
    Ok(RecoveryPoint { at, inclusive, timeline })
}

fn canonical(point: &RecoveryPoint) -> Value {
    let mut fields = Map::new();
    match &point.at {
        At::Time(moment) => drop(fields.insert("time".into(), json!(moment))),
        At::Xid(xid) => drop(fields.insert("xid".into(), xid.as_str().into())),
        At::Lsn(lsn) => drop(fields.insert("lsn".into(), lsn.as_str().into())),
        At::Name(name) => drop(fields.insert("name".into(), name.as_str().into())),
        At::BackupEnd | At::Latest => {}
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

    fn decode(path: &str, positional: &[Value], options: &Value) -> Result<Args> {
        let op = ops::find(path).expect("an operation");
        Args::decode(op, positional.to_vec(), options.as_object().cloned().unwrap_or_default())
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
        assert_eq!(one.timeout(), Span::seconds(90));
        let zoned = |text: &str| {
            decode("backup::pitr::restore", &[json!("lab")], &json!({"to": {"time": text}})).expect("right")
        };
        assert_eq!(zoned("2026-11-20T03:00:00Z"), zoned("2026-11-20T05:00:00+02:00"));
    }

    #[test]
    fn words_are_read_like_values() {
        let point = Kind::Point.read("time=2026-11-20T03:00:00Z,inclusive=false").expect("a point");
        assert_eq!(point, json!({"time": {"$moment": "2026-11-20T03:00:00Z"}, "inclusive": false}));
        assert!(Kind::Point.read("yesterday").is_err());
        assert!(Kind::Bool.read("yes").is_err());
        assert_eq!(Kind::Int.read("7").expect("a number"), json!(7));
    }
}
