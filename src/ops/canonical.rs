//! Arguments that are lists, maps and addresses: parsed strictly into one canonical form.
//!
//! What identifies a call is the canonical form, so `"203.0.113.0/24"` and `["203.0.113.0/24"]` are the same argument.
//! An address range whose host bits are set, or that is IPv4 in the clothes of IPv6, is refused: which of two things was
//! meant is not guessed where somebody may be let in.

use super::args::describe_value;
use crate::provider::{Code, Error, Result};
use ipnet::{IpNet, Ipv4Net};
use serde_json::{Map, Value};
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

/// Reads a text or a list of texts, at least one, each by `read`; `None` is something else.
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

/// Reads settings by name; `None` is something else than a map of them.
pub(super) fn check_settings(given: &Value) -> Option<Result<Value>> {
    let fields = given.as_object().filter(|fields| !fields.is_empty())?;
    if crate::base::value::untag_value(given).is_some() {
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

/// Reads the words `name=value` of the command line; nothing behind `=` takes an override away.
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

/// Returns the value that a word says: a number, true or false, nothing, or text.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::spec::ParamKind;
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
    fn a_time_of_day_is_two_numbers() {
        assert_eq!(parse_time_of_day(&json!("3:05")), Some(json!("03:05")));
        for wrong in ["24:00", "03:60", "3", "03:5", "+3:00", "03:00:00", ""] {
            assert_eq!(parse_time_of_day(&json!(wrong)), None, "{wrong}");
        }
    }
}
