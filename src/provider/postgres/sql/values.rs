//! Values as the server writes them, read by their type into what every provider gives.
//!
//! int2, int4, int8, oid → integer · float → number, `NaN` and infinities → text · numeric → integer when it is one
//! that fits, else text · bool · timestamptz → RFC 3339 in UTC · json → itself · arrays → arrays · all else → text.

use crate::base::moment::Moment;
use serde_json::{Number, Value};
use std::{iter::Peekable, str::Chars};
use tokio_postgres::types::{Kind, Type};

/// Returns a column's value.
pub(super) fn value(text: Option<&str>, of: &Type) -> Value {
    match (text, of.kind()) {
        (None, _) => Value::Null,
        // These two write their elements without braces.
        (Some(text), Kind::Array(element)) if matches!(*of, Type::INT2_VECTOR | Type::OID_VECTOR) => {
            text.split_whitespace().map(|item| scalar(item, element)).collect()
        }
        (Some(text), Kind::Array(element)) => {
            array(text, element).unwrap_or_else(|| Value::String(text.into()))
        }
        (text, Kind::Domain(base)) => value(text, base),
        (Some(text), _) => scalar(text, of),
    }
}

fn scalar(text: &str, of: &Type) -> Value {
    let read = match *of {
        Type::INT2 | Type::INT4 | Type::INT8 | Type::OID | Type::NUMERIC => {
            text.parse::<i64>().ok().map(Value::from)
        }
        Type::FLOAT4 | Type::FLOAT8 => text.parse().ok().and_then(Number::from_f64).map(Value::Number),
        Type::BOOL => Some(Value::Bool(text == "t")),
        Type::TIMESTAMPTZ => rfc3339(text).map(Value::String),
        Type::JSON | Type::JSONB => serde_json::from_str(text).ok(),
        _ => None,
    };
    read.unwrap_or_else(|| Value::String(text.into()))
}

/// Returns RFC 3339, for the moments it can say: not `infinity`, no year before Christ or after 9999.
fn rfc3339(text: &str) -> Option<String> {
    let written = format!("{}Z", text.strip_suffix("+00")?.replacen(' ', "T", 1));
    Moment::parse(&written).is_ok().then_some(written)
}

/// Reads `{1,NULL,"a \"b\"",{…}}`, after bounds such as `[0:2]=` where the array has its own.
fn array(text: &str, element: &Type) -> Option<Value> {
    let braces = if text.starts_with('[') { text.split_once('=')?.1 } else { text };
    let mut rest = braces.chars().peekable();
    let read = items(&mut rest, element)?;
    rest.next().is_none().then_some(read)
}

fn items(rest: &mut Peekable<Chars<'_>>, element: &Type) -> Option<Value> {
    // Boxes are the one type whose text has commas of its own.
    let between = if *element == Type::BOX { ';' } else { ',' };
    rest.next_if_eq(&'{')?;
    let mut read = Vec::new();
    if rest.next_if_eq(&'}').is_some() {
        return Some(Value::Array(read));
    }
    loop {
        read.push(match rest.peek()? {
            '{' => items(rest, element)?,
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
    use serde_json::json;

    #[test]
    fn scalars_are_read_by_their_type() {
        for (text, of, expected) in [
            ("-7", Type::INT8, json!(-7)),
            ("4294967295", Type::OID, json!(4_294_967_295_u32)),
            ("12", Type::NUMERIC, json!(12)),
            ("12.50", Type::NUMERIC, json!("12.50")),
            ("99999999999999999999", Type::NUMERIC, json!("99999999999999999999")),
            ("NaN", Type::FLOAT8, json!("NaN")),
            ("-Infinity", Type::FLOAT4, json!("-Infinity")),
            ("1.5", Type::FLOAT8, json!(1.5)),
            ("f", Type::BOOL, json!(false)),
            ("2026-11-20 03:00:00.5+00", Type::TIMESTAMPTZ, json!("2026-11-20T03:00:00.5Z")),
            ("infinity", Type::TIMESTAMPTZ, json!("infinity")),
            ("0044-03-15 00:00:00+00 BC", Type::TIMESTAMPTZ, json!("0044-03-15 00:00:00+00 BC")),
            ("2026-11-20 03:00:00", Type::TIMESTAMP, json!("2026-11-20 03:00:00")),
            ("{\"a\": [1, null]}", Type::JSONB, json!({"a": [1, null]})),
            ("\\x00ff", Type::BYTEA, json!("\\x00ff")),
        ] {
            assert_eq!(value(Some(text), &of), expected, "{text}");
        }
        assert_eq!(value(None, &Type::INT4), Value::Null);
    }

    #[test]
    fn arrays_nest_and_quote() {
        for (text, of, expected) in [
            ("{}", Type::INT4_ARRAY, json!([])),
            ("{1,NULL,3}", Type::INT4_ARRAY, json!([1, null, 3])),
            ("{{1,2},{3,4}}", Type::INT8_ARRAY, json!([[1, 2], [3, 4]])),
            ("[0:1]={7,8}", Type::INT4_ARRAY, json!([7, 8])),
            (
                r#"{"a,b","NULL","say \"x\\y\"",plain}"#,
                Type::TEXT_ARRAY,
                json!(["a,b", "NULL", "say \"x\\y\"", "plain"]),
            ),
            (r#"{"{\"a\": 1}",NULL}"#, Type::JSONB_ARRAY, json!([{"a": 1}, null])),
            ("{(1,1),(0,0);(2,2),(0,0)}", Type::BOX_ARRAY, json!(["(1,1),(0,0)", "(2,2),(0,0)"])),
            ("1 2", Type::INT2_VECTOR, json!([1, 2])),
            ("{broken", Type::INT4_ARRAY, json!("{broken")),
        ] {
            assert_eq!(value(Some(text), &of), expected, "{text}");
        }
    }
}
