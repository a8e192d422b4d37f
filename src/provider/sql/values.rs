//! Values in PostgreSQL's text form, parsed by their type into the JSON that every provider returns.
//!
//! int2, int4, int8, oid → integer · float → number, `NaN` and infinities → text · numeric → integer when it is one
//! that fits, else text · bool · timestamptz → RFC 3339 in UTC · json → itself · arrays → arrays · all else → text.

use crate::base::moment::Moment;
use serde_json::{Number, Value};
use std::{iter::Peekable, str::Chars};

/// How a type's text is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::provider) enum ScalarType {
    /// An integer, or a `numeric` that may be one.
    Integer,
    /// A binary floating-point number.
    Float,
    /// A boolean.
    Bool,
    /// A `timestamptz`.
    Moment,
    /// JSON.
    Json,
    /// An array of elements, and the character between them.
    Array(Box<ScalarType>, char),
    /// Elements without braces: `int2vector`, `oidvector`.
    Vector(Box<ScalarType>),
    /// Anything else.
    Text,
}

/// Returns a column's value.
pub(in crate::provider) fn parse_value(text: Option<&str>, scalar_type: &ScalarType) -> Value {
    match (text, scalar_type) {
        (None, _) => Value::Null,
        (Some(text), ScalarType::Vector(element)) => {
            text.split_whitespace().map(|item| parse_scalar(item, element)).collect()
        }
        (Some(text), ScalarType::Array(element, between)) => {
            parse_array(text, element, *between).unwrap_or_else(|| Value::String(text.into()))
        }
        (Some(text), _) => parse_scalar(text, scalar_type),
    }
}

fn parse_scalar(text: &str, scalar_type: &ScalarType) -> Value {
    let read = match scalar_type {
        ScalarType::Integer => text.parse::<i64>().ok().map(Value::from),
        ScalarType::Float => text.parse().ok().and_then(Number::from_f64).map(Value::Number),
        ScalarType::Bool => Some(Value::Bool(text == "t")),
        ScalarType::Moment => to_rfc3339(text).map(Value::String),
        ScalarType::Json => serde_json::from_str(text).ok(),
        ScalarType::Array(..) | ScalarType::Vector(_) | ScalarType::Text => None,
    };
    read.unwrap_or_else(|| Value::String(text.into()))
}

/// Returns a moment as RFC 3339 in UTC; nothing for `infinity` and for years that RFC 3339 has not.
fn to_rfc3339(text: &str) -> Option<String> {
    // `+00`, `+05:30`, `-03:30:52`: the sign is behind the time of day.
    let (date, time) = text.split_once(' ')?;
    let sign = time.find(['+', '-'])?;
    let (time, zone) = time.split_at(sign);
    let zone = if zone.contains(':') { zone.to_owned() } else { format!("{zone}:00") };
    if zone == "+00:00" {
        let written = format!("{date}T{time}Z");
        return Moment::parse(&written).is_ok().then_some(written);
    }
    Moment::parse(&format!("{date}T{time}{zone}")).ok().map(|moment| moment.to_string())
}

/// Reads `{1,NULL,"a \"b\"",{…}}`, where the array has bounds of its own after `[0:2]=`.
fn parse_array(text: &str, element: &ScalarType, delimiter: char) -> Option<Value> {
    let braces = if text.starts_with('[') { text.split_once('=')?.1 } else { text };
    let mut rest = braces.chars().peekable();
    let read = parse_array_items(&mut rest, element, delimiter)?;
    rest.next().is_none().then_some(read)
}

fn parse_array_items(rest: &mut Peekable<Chars<'_>>, element: &ScalarType, delimiter: char) -> Option<Value> {
    rest.next_if_eq(&'{')?;
    let mut items = Vec::new();
    if rest.next_if_eq(&'}').is_some() {
        return Some(Value::Array(items));
    }
    loop {
        items.push(match rest.peek()? {
            '{' => parse_array_items(rest, element, delimiter)?,
            '"' => parse_value(Some(&parse_quoted_item(rest)?), element),
            _ => parse_value(parse_bare_item(rest, delimiter).as_deref(), element),
        });
        match rest.next()? {
            '}' => return Some(Value::Array(items)),
            c if c == delimiter => {}
            _ => return None,
        }
    }
}

fn parse_quoted_item(rest: &mut Peekable<Chars<'_>>) -> Option<String> {
    rest.next_if_eq(&'"')?;
    let mut text = String::new();
    loop {
        match rest.next()? {
            '"' => return Some(text),
            '\\' => text.push(rest.next()?),
            c => text.push(c),
        }
    }
}

/// Returns an element without quotes; `NULL` is null.
fn parse_bare_item(rest: &mut Peekable<Chars<'_>>, delimiter: char) -> Option<String> {
    let mut text = String::new();
    while let Some(c) = rest.next_if(|c| *c != delimiter && *c != '}') {
        text.push(c);
    }
    (!text.eq_ignore_ascii_case("null")).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_said_in_utc_whatever_zone_the_session_has() {
        for (text, expected) in [
            ("2026-11-20 03:00:00.5+00", "2026-11-20T03:00:00.5Z"),
            ("2026-11-20 04:00:00.5+01", "2026-11-20T03:00:00.5Z"),
            ("2026-11-20 08:30:00+05:30", "2026-11-20T03:00:00Z"),
            ("2026-11-19 22:00:00.25-05", "2026-11-20T03:00:00.25Z"),
            ("infinity", "infinity"),
            ("0044-03-15 00:00:00+00 BC", "0044-03-15 00:00:00+00 BC"),
        ] {
            assert_eq!(parse_value(Some(text), &ScalarType::Moment), Value::from(expected), "{text}");
        }
    }
}
