//! The values that cross rooms: JSON, with handles as tagged objects `{"$moment": …}`.
//!
//! A tagged object has exactly one key, and that key starts with `$`. No other object may have a key that does;
//! [`check`] holds it at the borders. Keys are sorted, so the text of a value is its canonical form.

use serde_json::{Map, Value, json};

/// The tag of an instant; holds RFC 3339 text.
pub const MOMENT: &str = "$moment";
/// The tag of a length of time; holds text such as `1h 30m`.
pub const DURATION: &str = "$duration";
/// The tag of a target; holds its name.
pub const TARGET: &str = "$target";
/// The tag of a branch; holds an object with at least `target`, `name` and `id`.
pub const BRANCH: &str = "$branch";
/// The tag of a backup; holds an object with at least `target` and `id`.
pub const BACKUP: &str = "$backup";
/// The tag of a secret; holds its reference, never the secret.
pub const SECRET: &str = "$secret";

/// Every tag there is.
pub const TAGS: &[&str] = &[MOMENT, DURATION, TARGET, BRANCH, BACKUP, SECRET];

/// Returns `{tag: inner}`.
pub fn tagged(tag: &str, inner: impl Into<Value>) -> Value {
    json!({ tag: inner.into() })
}

/// Returns the tag and the inside of a tagged object.
pub fn untag(value: &Value) -> Option<(&'static str, &Value)> {
    let object = value.as_object().filter(|o| o.len() == 1)?;
    let (key, inner) = object.iter().next()?;
    TAGS.iter().find(|tag| *tag == key).map(|tag| (*tag, inner))
}

/// Returns the inside of a value tagged `tag`.
pub fn inside<'a>(value: &'a Value, tag: &str) -> Option<&'a Value> {
    untag(value).filter(|(t, _)| *t == tag).map(|(_, inner)| inner)
}

/// Returns the text of a value that is text, or text tagged `tag`.
///
/// # Errors
/// The value, said in words.
pub fn text(value: &Value, tag: &str) -> Result<String, String> {
    match inside(value, tag).unwrap_or(value) {
        Value::String(text) => Ok(text.clone()),
        other => Err(format!("expected text or `{tag}`, found {other}")),
    }
}

/// Returns the value for people and programs outside: tags taken off, all the way down.
pub fn plain(value: &Value) -> Value {
    if let Some((_, inner)) = untag(value) {
        return plain(inner);
    }
    match value {
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(k, v)| (k.clone(), plain(v))).collect::<Map<_, _>>())
        }
        other => other.clone(),
    }
}

/// Returns the first key that starts with `$` without being a tag on its own.
pub fn check(value: &Value) -> Option<&str> {
    if let Some((_, inner)) = untag(value) {
        return check(inner);
    }
    match value {
        Value::Array(items) => items.iter().find_map(check),
        Value::Object(fields) => {
            fields.iter().find_map(|(k, v)| if k.starts_with('$') { Some(k.as_str()) } else { check(v) })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_come_off_for_people() {
        let value = json!({"at": {"$moment": "2026-11-20T01:00:00Z"}, "of": [{"$branch": {"name": "drill", "target": {"$target": "lab"}}}]});
        assert_eq!(
            plain(&value),
            json!({"at": "2026-11-20T01:00:00Z", "of": [{"name": "drill", "target": "lab"}]})
        );
    }

    #[test]
    fn a_dollar_key_that_is_no_tag_is_found() {
        assert_eq!(check(&json!({"a": [{"$odd": 1}]})), Some("$odd"));
        assert_eq!(check(&json!({"$moment": "x", "b": 1})), Some("$moment"));
        assert_eq!(check(&json!({"a": {"$moment": "x"}})), None);
    }
}
