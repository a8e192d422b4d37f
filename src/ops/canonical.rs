//! One canonical form for every kind of argument, and strict ways to read it.
//!
//! What identifies a call is the canonical form, so `"203.0.113.0/24"` and `["203.0.113.0/24"]` are the same argument.
//! An address range whose host bits are set, or an IPv4 range written as IPv6, is refused: where an address may be let
//! in, nobody guesses which of two ranges was meant.

use crate::{
    base::{
        moment::{self, GivenMoment, Moment},
        suggest, value,
    },
    provider::{
        Code, Error, Result,
        fleet::TargetRef,
        model::{RecoveryPoint, RecoveryTarget, RestorePoint},
    },
};
use ipnet::{IpNet, Ipv4Net};
use serde_json::{Map, Value, json};
use std::net::IpAddr;

/// What to write where a time of day is expected.
pub(super) const TIME_OF_DAY_HINT: &str = "write a time of day in UTC, such as `03:00`";

/// Returns a time of day as `HH:MM`.
pub(super) fn parse_time_of_day(given: &Value) -> Option<Value> {
    let (hour, minute) = given.as_str()?.split_once(':')?;
    let part = |text: &str, below: u8| {
        let digits = (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u8>().ok().filter(|n| digits && *n < below)
    };
    let (hour, minute) = (part(hour, 24)?, part(minute, 60).filter(|_| minute.len() == 2)?);
    Some(format!("{hour:02}:{minute:02}").into())
}

/// Returns a text or a list of texts as a list without duplicates, each read by `read`; `None` is something else.
pub(super) fn canonicalize_list(
    given: &Value,
    read: impl Fn(&str) -> Result<String>,
) -> Option<Result<Value>> {
    let items = match given {
        Value::String(_) => std::slice::from_ref(given),
        Value::Array(items) if !items.is_empty() => items.as_slice(),
        _ => return None,
    };
    let texts: Vec<&str> = items.iter().map(Value::as_str).collect::<Option<_>>()?;
    let mut read_ones: Vec<Value> = Vec::new();
    for text in texts {
        match read(text) {
            Ok(one) if read_ones.iter().any(|known| *known == one.as_str()) => {}
            Ok(one) => read_ones.push(one.into()),
            Err(e) => return Some(Err(e)),
        }
    }
    Some(Ok(read_ones.into()))
}

/// Parses a CIDR range into its canonical text.
pub(super) fn parse_cidr(text: &str) -> Result<String> {
    let invalid = |why: String| Error::new(Code::Invalid, why);
    let net: IpNet = text.trim().parse().map_err(|_| {
        let error = invalid(format!("`{text}` is no range of addresses"));
        match text.trim().parse::<IpAddr>() {
            Ok(alone) => error.with_hint(format!("write `{}` for this one address", IpNet::from(alone))),
            Err(_) => error.with_hint("write it as `203.0.113.0/24` or `2001:db8::/32`"),
        }
    })?;
    if let IpNet::V6(v6) = net
        && let Some(v4) = v6.addr().to_ipv4_mapped()
    {
        let error = invalid(format!("`{text}` is a range of IPv4 written as IPv6"));
        let plain = v6.prefix_len().checked_sub(96).and_then(|len| Ipv4Net::new(v4, len).ok());
        return Err(match plain {
            Some(plain) => error.with_hint(format!("write `{}`", plain.trunc())),
            None => error.with_hint("write the range as IPv4"),
        });
    }
    if net.trunc() != net {
        let error = invalid(format!("`{text}` has host bits set: it is an address within `{}`", net.trunc()));
        let one = IpNet::from(net.addr());
        return Err(error
            .with_hint(format!("write `{}` for the whole range, or `{one}` for the address", net.trunc())));
    }
    Ok(net.to_string())
}

/// Parses an IP address into its canonical text.
pub(super) fn parse_address(text: &str) -> Result<String> {
    let wrong = || Error::new(Code::Invalid, format!("`{text}` is no address"));
    let address: IpAddr =
        text.trim().parse().map_err(|_| wrong().with_hint("write it as `203.0.113.9` or `2001:db8::9`"))?;
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(Ok(v6.to_string()), |v4| {
            Err(Error::new(Code::Invalid, format!("`{text}` is an IPv4 address written as IPv6"))
                .with_hint(format!("write `{v4}`")))
        }),
        IpAddr::V4(v4) => Ok(v4.to_string()),
    }
}

/// Returns settings by name, checked; `None` is something other than a map of them.
pub(super) fn canonicalize_settings(given: &Value) -> Option<Result<Value>> {
    let fields = given.as_object().filter(|fields| !fields.is_empty())?;
    if value::untag_value(given).is_some() {
        return None;
    }
    for (name, value) in fields {
        let named = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
        if !named {
            return Some(Err(Error::new(Code::Invalid, format!("`{name}` cannot name a setting"))
                .with_hint("a name has letters, digits, `_`, and a dot where an extension has it")));
        }
        if value.is_array() || value.is_object() {
            let what = describe_value(value);
            return Some(Err(Error::new(Code::Invalid, format!("the setting `{name}` cannot be {what}"))
                .with_hint("a setting is text, a number, or true or false; `()` takes an override away")));
        }
    }
    Some(Ok(given.clone()))
}

/// Parses the words `name=value` of the command line; nothing after `=` takes an override away.
pub(super) fn parse_assignments(words: &[&str]) -> Result<Map<String, Value>> {
    let mut map = Map::new();
    for word in words {
        let (name, text) = word.split_once('=').ok_or_else(|| {
            Error::new(Code::Invalid, format!("`{word}` is no setting"))
                .with_hint("write `work_mem=8MB`; `work_mem=` takes an override away")
        })?;
        if map.insert(name.trim().to_owned(), parse_scalar(text.trim())).is_some() {
            return Err(
                Error::new(Code::Invalid, format!("`{name}` is given twice")).with_hint("give it once")
            );
        }
    }
    Ok(map)
}

/// Returns the value of a word: a number, true or false, nothing, or text.
fn parse_scalar(text: &str) -> Value {
    let int = || text.parse::<i64>().ok().map(Value::from);
    let float = || text.parse::<f64>().ok().and_then(serde_json::Number::from_f64).map(Value::Number);
    match text {
        "" => Value::Null,
        "true" => true.into(),
        "false" => false.into(),
        _ => int().or_else(float).unwrap_or_else(|| text.into()),
    }
}

/// Returns the target or branch that a value names: a handle of either, or text.
///
/// # Errors
/// [`Code::Invalid`].
pub fn parse_target_ref(given: &Value) -> Result<TargetRef> {
    match (value::untag_value(given), given) {
        (Some((value::TARGET_TAG, Value::String(name))), _) => {
            Ok(TargetRef { target: name.clone(), branch: None })
        }
        (Some((value::BRANCH_TAG, branch)), _) => {
            match (branch["target"].as_str(), branch["name"].as_str()) {
                (Some(target), Some(name)) => {
                    Ok(TargetRef { target: target.into(), branch: Some(name.into()) })
                }
                _ => Err(Error::new(Code::Invalid, "a branch handle without its target or name")),
            }
        }
        (None, Value::String(text)) => Ok(TargetRef::parse(text)),
        _ => Err(Error::new(Code::Invalid, "neither a target nor a branch")),
    }
}

/// Returns a target or branch reduced to what identifies it.
pub(super) fn canonicalize_target_ref(given: &Value) -> Result<Value> {
    let TargetRef { target, branch } = parse_target_ref(given)?;
    let id = value::untag_as(given, value::BRANCH_TAG).map(|b| b["id"].clone());
    Ok(match (branch, id) {
        (Some(branch), Some(id)) => {
            value::tag_value(value::BRANCH_TAG, json!({"target": target, "name": branch, "id": id}))
        }
        (Some(branch), None) => format!("{target}/{branch}").into(),
        (None, _) => value::tag_value(value::TARGET_TAG, target),
    })
}

/// Returns the text that identifies a value: itself, or one field of a handle.
pub(super) fn identify_by_text_or_field(given: &Value, tag: &str, field: &str) -> Option<Value> {
    let text = value::untag_as(given, tag).map_or(given.as_str(), |handle| handle[field].as_str());
    text.map(Value::from)
}

/// Returns the moment that text or a handle says; `None` is neither of the two.
pub(super) fn parse_moment(given: &Value) -> Option<Result<Moment>> {
    let text = value::expect_text_or_tagged(given, value::MOMENT_TAG).ok()?;
    Some(Moment::parse(&text).map_err(|e| Error::new(Code::Invalid, e.to_string()).with_hint(e.hint())))
}

/// Returns the error for a value that is not of the wanted type.
pub(super) fn wrong_type_error(type_name: &str, found: &Value) -> Error {
    Error::new(Code::Invalid, format!("expected {type_name}, found {}", describe_value(found)))
}

/// The fields of a recovery point: the four that say where, and the two that qualify them.
const POINT_FIELDS: &[&str] = &["time", "xid", "lsn", "name", "inclusive", "timeline"];

/// The fields that a restore point has in every version, and a recovery point that is written by hand never has together.
const MARK_FIELDS: [&str; 3] = ["name", "lsn", "time"];

/// Returns the recovery point that a map describes. What `backup::pitr::mark` returned is one, too.
///
/// # Errors
/// [`Code::Invalid`].
pub(super) fn parse_recovery_point(given: &Value) -> Result<RecoveryPoint> {
    let invalid = |message: String| Error::new(Code::Invalid, message);
    if let Some(text) = given.as_str().filter(|text| GivenMoment::is_relative_text(text)) {
        let unfixed = moment::Error::Unfixed(text.to_owned());
        return Err(invalid(unfixed.to_string()).with_hint(unfixed.hint()));
    }
    let fields = given.as_object().filter(|_| value::untag_value(given).is_none()).ok_or_else(|| {
        invalid(format!("expected a recovery point, found {}", describe_value(given)))
            .with_hint("write `#{time: …}`, `#{xid: …}`, `#{lsn: …}` or `#{name: …}`")
    })?;
    if let Some(unknown) = fields.keys().find(|k| !POINT_FIELDS.contains(&k.as_str())) {
        return Err(invalid(format!("a recovery point has no `{unknown}`"))
            .with_hint(suggest::suggest_name_or_list_known(unknown, POINT_FIELDS.iter().copied())));
    }
    let inclusive = match fields.get("inclusive") {
        None => true,
        Some(Value::Bool(b)) => *b,
        Some(other) => {
            return Err(invalid(format!("`inclusive` is true or false, found {}", describe_value(other))));
        }
    };
    if MARK_FIELDS.iter().all(|name| fields.contains_key(*name)) && !fields.contains_key("xid") {
        return Ok(RecoveryPoint {
            at: RecoveryTarget::Point(parse_restore_point(fields)?),
            inclusive,
            timeline: None,
        });
    }
    let text = |name: &str| match fields.get(name) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Number(n)) => Ok(n.to_string()),
        other => Err(invalid(format!(
            "`{name}` of a recovery point is text, found {}",
            describe_value(other.unwrap_or(&Value::Null))
        ))),
    };
    let places: Vec<&str> =
        POINT_FIELDS[..4].iter().copied().filter(|name| fields.contains_key(*name)).collect();
    let at = match places[..] {
        ["time"] => RecoveryTarget::Time(
            parse_moment(&fields["time"])
                .unwrap_or_else(|| Err(wrong_type_error("moment", &fields["time"])))?,
        ),
        ["xid"] => RecoveryTarget::Xid(text("xid")?),
        ["lsn"] => RecoveryTarget::Lsn(text("lsn")?),
        ["name"] => RecoveryTarget::Name(text("name")?),
        _ => {
            let message = "a recovery point has exactly one of `time`, `xid`, `lsn`, `name`";
            return Err(invalid(format!("{message}, and {} were given", places.len()))
                .with_hint("or pass what `backup::pitr::mark` returned, as it is"));
        }
    };
    let timeline = fields.get("timeline").map(parse_timeline).transpose()?;
    Ok(RecoveryPoint { at, inclusive, timeline })
}

/// Returns the restore point that `backup::pitr::mark` returned as this map.
fn parse_restore_point(fields: &Map<String, Value>) -> Result<RestorePoint> {
    let invalid = |message: String| Error::new(Code::Invalid, message);
    let wrong = |name: &str| {
        invalid(format!("`{name}` of a restore point is not what `backup::pitr::mark` returns"))
            .with_hint("pass on what it returned, as it is")
    };
    let name = fields["name"].as_str().ok_or_else(|| wrong("name"))?;
    // Earlier versions did not say it, and their place was that of the record after the restore point.
    let timeline = fields.get("timeline").ok_or_else(|| {
        invalid(format!(
            "the restore point `{name}` was recorded by another version of redrill, and says no timeline"
        ))
        .with_hint(format!("give its name alone, which is then looked for: `to: #{{ name: \"{name}\" }}`"))
    })?;
    Ok(RestorePoint {
        name: name.to_owned(),
        lsn: match &fields["lsn"] {
            Value::Null => None,
            lsn => Some(lsn.as_str().ok_or_else(|| wrong("lsn"))?.to_owned()),
        },
        timeline: if timeline.is_null() { None } else { Some(parse_timeline(timeline)?) },
        time: parse_moment(&fields["time"]).unwrap_or_else(|| Err(wrong("time")))?,
    })
}

fn parse_timeline(given: &Value) -> Result<u32> {
    given.as_u64().and_then(|n| u32::try_from(n).ok()).ok_or_else(|| {
        Error::new(Code::Invalid, format!("`timeline` is a whole number, found {}", describe_value(given)))
    })
}

/// Returns a recovery point as the map that describes it.
pub(super) fn recovery_point_to_json(point: &RecoveryPoint) -> Value {
    let mut fields = Map::new();
    match &point.at {
        RecoveryTarget::Time(moment) => drop(fields.insert("time".into(), json!(moment))),
        RecoveryTarget::Xid(xid) => drop(fields.insert("xid".into(), xid.as_str().into())),
        RecoveryTarget::Lsn(lsn) => drop(fields.insert("lsn".into(), lsn.as_str().into())),
        RecoveryTarget::Name(name) => drop(fields.insert("name".into(), name.as_str().into())),
        RecoveryTarget::Point(mark) => {
            fields.insert("name".into(), mark.name.as_str().into());
            fields.insert("lsn".into(), json!(mark.lsn));
            fields.insert("timeline".into(), json!(mark.timeline));
            fields.insert("time".into(), json!(mark.time));
        }
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

/// Returns the value of one field of a recovery point on the command line: two of the fields are not text.
pub(super) fn parse_recovery_point_word(key: &str, word: &str) -> Value {
    match key {
        "inclusive" => word.parse::<bool>().map_or_else(|_| word.into(), Value::from),
        "timeline" => word.parse::<i64>().map_or_else(|_| word.into(), Value::from),
        _ => word.into(),
    }
}

/// Returns a short description of a value, for messages.
fn describe_value(given: &Value) -> String {
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

/// Returns the value of a setting as text: platforms give back `120` for `"120"`, and the other way round.
pub(super) fn setting_to_text(value: &Value) -> Value {
    match value {
        Value::Null | Value::String(_) => value.clone(),
        other => other.to_string().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::param::ParamKind;
    use serde_json::json;

    #[test]
    fn a_range_is_read_or_refused_with_what_was_meant() {
        let cases = [
            ("203.0.113.0/24", Ok("203.0.113.0/24")),
            ("2001:DB8:0::/32", Ok("2001:db8::/32")),
            ("0.0.0.0/0", Ok("0.0.0.0/0")),
            ("203.0.113.7/24", Err("host bits")),
            ("203.0.113.7", Err("no range")),
            ("::ffff:203.0.113.0/120", Err("IPv4 written as IPv6")),
            ("::ffff:0:0/96", Err("IPv4 written as IPv6")),
            ("203.0.113.0/33", Err("no range")),
            ("fe80::1%eth0/64", Err("no range")),
            ("", Err("no range")),
        ];
        for (text, wanted) in cases {
            match (parse_cidr(text), wanted) {
                (Ok(read), Ok(wanted)) => assert_eq!(read, wanted),
                (Err(e), Err(part)) => {
                    assert!(e.message.contains(part) && e.hint.is_some() && e.code == Code::Invalid, "{e:?}");
                }
                (read, _) => panic!("{text}: {read:?}"),
            }
        }
        assert_eq!(
            parse_cidr("203.0.113.7").expect_err("no range").hint.as_deref(),
            Some("write `203.0.113.7/32` for this one address")
        );
        let mapped = parse_cidr("::ffff:203.0.113.9/120").expect_err("is IPv4");
        assert_eq!(mapped.hint.as_deref(), Some("write `203.0.113.0/24`"));
    }

    #[test]
    fn one_and_a_list_of_one_are_the_same_argument() {
        let one = ParamKind::Cidrs.canonicalize_value(json!("203.0.113.0/24")).expect("a range");
        assert_eq!(
            one,
            ParamKind::Cidrs.canonicalize_value(json!(["203.0.113.0/24", "203.0.113.0/24"])).expect("ranges")
        );
        assert_eq!(
            ParamKind::Addresses.parse_words(&["203.0.113.9,2001:db8::9"]).expect("two"),
            json!(["203.0.113.9", "2001:db8::9"])
        );
        for wrong in [json!([]), json!(5), json!([5]), json!(null)] {
            assert!(ParamKind::Cidrs.canonicalize_value(wrong).is_err());
        }
        assert!(ParamKind::Addresses.canonicalize_value(json!("::ffff:203.0.113.9")).is_err());
    }

    #[test]
    fn settings_are_read_off_the_command_line() {
        let read = ParamKind::Settings.parse_words(&[
            "work_mem=8MB",
            "max_connections=120",
            "jit=false",
            "tcp_keepalives_idle=",
        ]);
        let wanted =
            json!({"work_mem": "8MB", "max_connections": 120, "jit": false, "tcp_keepalives_idle": null});
        assert_eq!(read.expect("settings"), wanted);
        for wrong in [&["work_mem"][..], &["a=1", "a=2"], &["=1"], &["a b=1"], &[]] {
            assert!(ParamKind::Settings.parse_words(wrong).is_err(), "{wrong:?}");
        }
        assert!(ParamKind::Settings.canonicalize_value(json!({"a": [1]})).is_err());
    }

    #[test]
    fn what_a_mark_returned_is_a_recovery_point() {
        let time = json!({"$moment": "2026-11-20T03:00:00Z"});
        let mark = json!({"name": "weekly", "lsn": "0/3000148", "timeline": 2, "time": time});
        let placeless = json!({"name": "weekly", "lsn": null, "timeline": null, "time": time});
        for given in [&mark, &placeless] {
            let point = parse_recovery_point(given).expect("a recovery point");
            assert!(matches!(&point.at, RecoveryTarget::Point(point) if point.name == "weekly"), "{point:?}");
            assert_eq!(&recovery_point_to_json(&point), given, "the canonical form reads back as it is");
        }
        let refusal = |field: &str, value: Value| {
            let mut wrong = mark.clone();
            wrong[field] = value;
            parse_recovery_point(&wrong).expect_err("it is refused")
        };
        for (field, value) in [
            ("name", json!(5)),
            ("lsn", json!(5)),
            ("timeline", json!("two")),
            ("time", json!("then")),
            ("xid", json!([])),
        ] {
            let error = refusal(field, value);
            assert_eq!(error.code, Code::Invalid, "{field}: {error:?}");
        }
        let mut former = mark.clone();
        former.as_object_mut().expect("a map").remove("timeline");
        let error = parse_recovery_point(&former).expect_err("it says no timeline");
        assert!(error.message.contains("another version"), "{error:?}");
        assert!(error.hint.expect("a hint").contains("#{ name: \"weekly\" }"));
        let both = parse_recovery_point(&json!({"name": "weekly", "lsn": "0/1"})).expect_err("two places");
        assert!(both.message.contains("exactly one of") && both.hint.is_some(), "{both:?}");
    }

    #[test]
    fn a_time_of_day_is_two_numbers() {
        assert_eq!(parse_time_of_day(&json!("3:05")), Some(json!("03:05")));
        for wrong in ["24:00", "03:60", "3", "03:5", "+3:00", "03:00:00", ""] {
            assert_eq!(parse_time_of_day(&json!(wrong)), None, "{wrong}");
        }
    }
}
