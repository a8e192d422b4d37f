//! Values as PostgreSQL writes them, read by their type into what every provider gives.
//!
//! int2, int4, int8, oid → integer · float → number, `NaN` and infinities → text · numeric → integer when it is one
//! that fits, else text · bool · timestamptz → RFC 3339 in UTC · json → itself · arrays → arrays · all else → text.

use crate::base::moment::Moment;
use serde_json::{Number, Value};
use std::{iter::Peekable, str::Chars};

/// How a type's text is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Of {
    /// A whole number, or a decimal one that is kept whole where it is.
    Integer,
    /// A binary floating-point number.
    Float,
    /// A truth value.
    Bool,
    /// An instant.
    Moment,
    /// JSON.
    Json,
    /// An array of elements, and the character between them.
    Array(Box<Of>, char),
    /// Elements without braces: `int2vector`, `oidvector`.
    Vector(Box<Of>),
    /// Anything else.
    Text,
}

/// Returns a column's value.
pub(super) fn value(text: Option<&str>, of: &Of) -> Value {
    match (text, of) {
        (None, _) => Value::Null,
        (Some(text), Of::Vector(element)) => {
            text.split_whitespace().map(|item| scalar(item, element)).collect()
        }
        (Some(text), Of::Array(element, between)) => {
            array(text, element, *between).unwrap_or_else(|| Value::String(text.into()))
        }
        (Some(text), _) => scalar(text, of),
    }
}

fn scalar(text: &str, of: &Of) -> Value {
    let read = match of {
        Of::Integer => text.parse::<i64>().ok().map(Value::from),
        Of::Float => text.parse().ok().and_then(Number::from_f64).map(Value::Number),
        Of::Bool => Some(Value::Bool(text == "t")),
        Of::Moment => rfc3339(text).map(Value::String),
        Of::Json => serde_json::from_str(text).ok(),
        Of::Array(..) | Of::Vector(_) | Of::Text => None,
    };
    read.unwrap_or_else(|| Value::String(text.into()))
}

/// Returns RFC 3339 in UTC, for the moments it can say: not `infinity`, no year before Christ or after 9999.
fn rfc3339(text: &str) -> Option<String> {
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

/// Reads `{1,NULL,"a \"b\"",{…}}`, after bounds such as `[0:2]=` where the array has its own.
fn array(text: &str, element: &Of, between: char) -> Option<Value> {
    let braces = if text.starts_with('[') { text.split_once('=')?.1 } else { text };
    let mut rest = braces.chars().peekable();
    let read = items(&mut rest, element, between)?;
    rest.next().is_none().then_some(read)
}

fn items(rest: &mut Peekable<Chars<'_>>, element: &Of, between: char) -> Option<Value> {
    rest.next_if_eq(&'{')?;
    let mut read = Vec::new();
    if rest.next_if_eq(&'}').is_some() {
        return Some(Value::Array(read));
    }
    loop {
        read.push(match rest.peek()? {
            '{' => items(rest, element, between)?,
            '"' => value(Some(&quoted(rest)?), element),
            _ => value(bare(rest, between).as_deref(), element),
        });
        match rest.next()? {
            '}' => return Some(Value::Array(read)),
            c if c == between => {}
            _ => return None,
        }
    }
}

fn quoted(rest: &mut Peekable<Chars<'_>>) -> Option<String> {
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
fn bare(rest: &mut Peekable<Chars<'_>>, between: char) -> Option<String> {
    let mut text = String::new();
    while let Some(c) = rest.next_if(|c| *c != between && *c != '}') {
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
            assert_eq!(value(Some(text), &Of::Moment), Value::from(expected), "{text}");
        }
    }
}
