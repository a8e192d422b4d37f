//! Values between the script and the rest: [`Dynamic`] ⇄ JSON with tags.
//!
//! A whitelist, because Rhai's own serialization is silently lossy: functions become strings, infinities become
//! nothing. What is not on the list is refused by name.

use crate::base::{
    moment::{Moment, Span},
    value,
};
use rhai::{Array, Dynamic, FLOAT, FnPtr, Map};
use serde_json::{Number, Value, json};
use std::fmt;

/// A target, branch, backup or secret in a script: its fields can be read, and nothing can be written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Handle {
    tag: &'static str,
    inner: Value,
}

impl Handle {
    /// Returns a field.
    ///
    /// # Errors
    /// Which fields there are instead.
    pub(super) fn get_field(&self, field: &str) -> Result<Dynamic, String> {
        let found = match &self.inner {
            Value::Object(fields) => fields.get(field).map(to_dynamic),
            name if field == "name" && self.tag == value::TARGET_TAG => Some(to_dynamic(name)),
            _ => None,
        };
        found.ok_or_else(|| format!("{self} has no field `{field}`{}", self.describe_fields()))
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

/// The levels to which lists and maps may be nested in a value that is kept: with what is recorded around it, it must read
/// back.
const DEPTH_LIMIT: usize = 96;

/// Returns the JSON of a script's value.
///
/// # Errors
/// What cannot be kept, in words: a type, or a value that is nested too deeply.
pub(super) fn to_json(dynamic: &Dynamic) -> Result<Value, String> {
    to_json_below(dynamic, DEPTH_LIMIT)
}

/// Returns the JSON of a value that may be nested to `depth` levels more.
fn to_json_below(dynamic: &Dynamic, depth: usize) -> Result<Value, String> {
    let inner = || {
        depth.checked_sub(1).ok_or_else(|| {
            format!("a value that is nested more than {DEPTH_LIMIT} levels deep cannot be kept")
        })
    };
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
        let depth = inner()?;
        return items.iter().map(|item| to_json_below(item, depth)).collect();
    }
    if let Ok(fields) = dynamic.as_map_ref() {
        return map_to_json(&fields, inner()?);
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

fn map_to_json(fields: &Map, depth: usize) -> Result<Value, String> {
    fields
        .iter()
        .map(|(key, field)| {
            if key.starts_with('$') {
                return Err(format!("the key `{key}` of a map may not start with `$`"));
            }
            Ok((key.to_string(), to_json_below(field, depth)?))
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

/// Copies a value so that it shares nothing with the script: Rhai shares what closures capture.
pub(super) fn deep_copy(value: &Dynamic) -> Dynamic {
    let flat = value.flatten_clone();
    if let Some(closure) = flat.clone().try_cast::<FnPtr>() {
        return copy_captures(closure).into();
    }
    if let Ok(items) = flat.as_array_ref() {
        return items.iter().map(deep_copy).collect::<Array>().into();
    }
    if let Ok(fields) = flat.as_map_ref() {
        return fields.iter().map(|(name, field)| (name.clone(), deep_copy(field))).collect::<Map>().into();
    }
    flat
}

/// Returns a closure with copies of the values that it captures, as they are now.
pub(super) fn copy_captures(mut closure: FnPtr) -> FnPtr {
    let captured: Vec<Dynamic> = closure.iter_curry().map(deep_copy).collect();
    closure.set_curry(captured);
    closure
}
