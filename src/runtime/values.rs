//! Values between the script and the rest: [`Dynamic`] ⇄ JSON with tags.
//!
//! A whitelist, because Rhai's own serialization is silently lossy: functions become strings, infinities become
//! nothing. What is not on the list is refused by name.

use super::fault;
use crate::base::{
    moment::{Moment, Span},
    value,
};
use rhai::{Array, Dynamic, Engine, EvalAltResult, FLOAT, INT, ImmutableString, Map};
use serde_json::{Number, Value, json};
use std::fmt;

/// A target, branch, backup or secret in a script: its fields can be read, and nothing can be written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Handle {
    tag: &'static str,
    inner: Value,
}

impl Handle {
    fn get_field(&mut self, field: &str) -> Result<Dynamic, Box<EvalAltResult>> {
        let found = match &self.inner {
            Value::Object(fields) => fields.get(field).map(to_dynamic),
            name if field == "name" && self.tag == value::TARGET_TAG => Some(to_dynamic(name)),
            _ => None,
        };
        found.ok_or_else(|| {
            fault::misuse_error(&format!("{self} has no field `{field}`{}", self.describe_fields()))
        })
    }

    /// Lists the fields that the handle has, for an error message.
    fn describe_fields(&self) -> String {
        match &self.inner {
            Value::Object(fields) => {
                format!("; it has {}", fields.keys().cloned().collect::<Vec<_>>().join(", "))
            }
            _ if self.tag == value::TARGET_TAG => "; it has name".into(),
            _ => String::new(),
        }
    }

    fn kind_name(&self) -> &'static str {
        self.tag.trim_start_matches('$')
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match &self.inner {
            _ if self.tag == value::SECRET_TAG => "•••",
            Value::Object(fields) => {
                ["name", "id"].iter().find_map(|k| fields.get(*k)?.as_str()).unwrap_or_default()
            }
            inner => inner.as_str().unwrap_or_default(),
        };
        write!(f, "{} {name}", self.kind_name())
    }
}

/// Returns the JSON of a script's value.
///
/// # Errors
/// The type that cannot be kept, in words.
pub(super) fn to_json(dynamic: &Dynamic) -> Result<Value, String> {
    let dynamic = &dynamic.flatten_clone();
    if dynamic.is_unit() {
        return Ok(Value::Null);
    }
    if let Ok(b) = dynamic.as_bool() {
        return Ok(b.into());
    }
    if let Ok(n) = dynamic.as_int() {
        return Ok(n.into());
    }
    if let Ok(x) = dynamic.as_float() {
        return Number::from_f64(x).map(Value::Number).ok_or_else(|| format!("{x} is not a finite number"));
    }
    if let Ok(text) = dynamic.as_immutable_string_ref() {
        return Ok(text.as_str().into());
    }
    if let Ok(c) = dynamic.as_char() {
        return Ok(c.to_string().into());
    }
    if let Ok(items) = dynamic.as_array_ref() {
        return items.iter().map(to_json).collect();
    }
    if let Ok(fields) = dynamic.as_map_ref() {
        return map_to_json(&fields);
    }
    if let Some(moment) = dynamic.clone().try_cast::<Moment>() {
        return Ok(json!(moment));
    }
    if let Some(span) = dynamic.clone().try_cast::<Span>() {
        return Ok(json!(span));
    }
    match dynamic.clone().try_cast::<Handle>() {
        Some(handle) => Ok(value::tag_value(handle.tag, handle.inner)),
        None if dynamic.is_fnptr() => Err("a function cannot be kept".into()),
        None => Err(format!("a value of type {} cannot be kept", dynamic.type_name())),
    }
}

fn map_to_json(fields: &Map) -> Result<Value, String> {
    fields
        .iter()
        .map(|(key, field)| {
            if key.starts_with('$') {
                return Err(format!("the key `{key}` of a map may not start with `$`"));
            }
            Ok((key.to_string(), to_json(field)?))
        })
        .collect::<Result<serde_json::Map<_, _>, _>>()
        .map(Value::Object)
}

/// Returns the script's value of JSON.
pub(super) fn to_dynamic(json: &Value) -> Dynamic {
    if let Some((tag, inner)) = value::untag_value(json) {
        return tagged_to_dynamic(tag, inner, json);
    }
    match json {
        Value::Null => Dynamic::UNIT,
        Value::Bool(b) => (*b).into(),
        Value::Number(n) => n.as_i64().map_or_else(|| n.as_f64().unwrap_or(FLOAT::NAN).into(), Into::into),
        Value::String(text) => text.into(),
        Value::Array(items) => items.iter().map(to_dynamic).collect::<Array>().into(),
        Value::Object(fields) => {
            fields.iter().map(|(k, v)| (k.as_str().into(), to_dynamic(v))).collect::<Map>().into()
        }
    }
}

fn tagged_to_dynamic(tag: &'static str, inner: &Value, whole: &Value) -> Dynamic {
    let moment = || serde_json::from_value::<Moment>(whole.clone()).ok().map(Dynamic::from);
    let span = || serde_json::from_value::<Span>(whole.clone()).ok().map(Dynamic::from);
    let known = match tag {
        value::MOMENT_TAG => moment(),
        value::DURATION_TAG => span(),
        _ => None,
    };
    known.unwrap_or_else(|| Dynamic::from(Handle { tag, inner: inner.clone() }))
}

type RhaiResult<T> = Result<T, Box<EvalAltResult>>;

fn parse_moment(text: &str) -> RhaiResult<Moment> {
    Moment::parse(text).map_err(|e| fault::misuse_error(&format!("{e}: {}", e.hint())))
}

fn parse_span(text: &str) -> RhaiResult<Span> {
    Span::parse(text).map_err(|e| fault::misuse_error(&format!("{e}: {}", e.hint())))
}

/// Registers moments, durations and handles with an engine.
pub(super) fn register_values(engine: &mut Engine) {
    register_moments(engine);
    register_spans(engine);
    engine
        .register_type_with_name::<Handle>("handle")
        .register_indexer_get(|handle: &mut Handle, field: ImmutableString| handle.get_field(&field))
        .register_fn("to_string", |handle: &mut Handle| handle.to_string())
        .register_fn("to_debug", |handle: &mut Handle| handle.to_string())
        .register_fn("==", |a: Handle, b: Handle| a == b)
        .register_fn("!=", |a: Handle, b: Handle| a != b);
}

fn register_moments(engine: &mut Engine) {
    engine
        .register_type_with_name::<Moment>("moment")
        .register_fn("moment", |text: &str| parse_moment(text))
        .register_fn("to_string", |m: &mut Moment| m.to_string())
        .register_fn("to_debug", |m: &mut Moment| m.to_string())
        .register_fn("-", Moment::duration_since)
        .register_fn("+", Moment::saturating_add)
        .register_fn("-", |m: Moment, s: Span| m.saturating_add(Span(-s.0)))
        .register_fn("+", |m: Moment, text: &str| {
            Ok::<_, Box<EvalAltResult>>(m.saturating_add(parse_span(text)?))
        })
        .register_fn("-", |m: Moment, text: &str| {
            Ok::<_, Box<EvalAltResult>>(m.saturating_add(Span(-parse_span(text)?.0)))
        })
        .register_fn("==", |a: Moment, b: Moment| a == b)
        .register_fn("!=", |a: Moment, b: Moment| a != b)
        .register_fn("<", |a: Moment, b: Moment| a < b)
        .register_fn("<=", |a: Moment, b: Moment| a <= b)
        .register_fn(">", |a: Moment, b: Moment| a > b)
        .register_fn(">=", |a: Moment, b: Moment| a >= b);
}

fn register_spans(engine: &mut Engine) {
    engine
        .register_type_with_name::<Span>("duration")
        .register_fn("duration", |text: &str| parse_span(text))
        .register_fn("to_string", |s: &mut Span| s.to_string())
        .register_fn("to_debug", |s: &mut Span| s.to_string())
        .register_get("seconds", |s: &mut Span| s.as_secs_f64())
        .register_fn("+", |a: Span, b: Span| Span(a.0.saturating_add(b.0)))
        .register_fn("-", |a: Span, b: Span| Span(a.0.saturating_sub(b.0)))
        .register_fn("*", |a: Span, n: INT| Span(a.0.saturating_mul(n.try_into().unwrap_or(i32::MAX))))
        .register_fn("==", |a: Span, b: Span| a == b)
        .register_fn("!=", |a: Span, b: Span| a != b)
        .register_fn("<", |a: Span, b: Span| a < b)
        .register_fn("<=", |a: Span, b: Span| a <= b)
        .register_fn(">", |a: Span, b: Span| a > b)
        .register_fn(">=", |a: Span, b: Span| a >= b);
}
