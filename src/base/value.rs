//! The values that cross rooms: JSON, with handles as tagged objects `{"$moment": …}`.
//!
//! A tagged object has exactly one key, and that key starts with `$`. No other object may have a key that does;
//! [`find_stray_tag`] holds it at the borders. Keys are sorted, so the text of a value is its canonical form.

use serde_json::{Map, Value, json};

/// The tag of an instant; holds RFC 3339 text.
pub const MOMENT_TAG: &str = "$moment";
/// The tag of a length of time; holds text such as `1h 30m`.
pub const DURATION_TAG: &str = "$duration";
/// The tag of a target; holds its name.
pub const TARGET_TAG: &str = "$target";
/// The tag of a branch; holds an object with at least `target`, `name` and `id`.
pub const BRANCH_TAG: &str = "$branch";
/// The tag of a backup; holds an object with at least `target` and `id`.
pub const BACKUP_TAG: &str = "$backup";
/// The tag of a secret; holds its reference, never the secret.
pub const SECRET_TAG: &str = "$secret";

/// Every tag there is.
pub const ALL_TAGS: &[&str] = &[MOMENT_TAG, DURATION_TAG, TARGET_TAG, BRANCH_TAG, BACKUP_TAG, SECRET_TAG];

/// Returns `{tag: inner}`.
pub fn tag_value(tag: &str, inner: impl Into<Value>) -> Value {
    json!({ tag: inner.into() })
}

/// Returns the tag and the inside of a tagged object.
pub fn untag_value(value: &Value) -> Option<(&'static str, &Value)> {
    let object = value.as_object().filter(|o| o.len() == 1)?;
    let (key, inner) = object.iter().next()?;
    ALL_TAGS.iter().find(|tag| *tag == key).map(|tag| (*tag, inner))
}

/// Returns the inner value of an object tagged `tag`.
pub fn untag_as<'a>(value: &'a Value, tag: &str) -> Option<&'a Value> {
    untag_value(value).filter(|(t, _)| *t == tag).map(|(_, inner)| inner)
}

/// Returns the text of a value that is text, or text tagged `tag`.
///
/// # Errors
/// A message that says what was found instead.
pub fn expect_text_or_tagged(value: &Value, tag: &str) -> Result<String, String> {
    match untag_as(value, tag).unwrap_or(value) {
        Value::String(text) => Ok(text.clone()),
        other => Err(format!("expected text or `{tag}`, found {other}")),
    }
}

/// Returns the value without tags at any depth, for people and for other programs.
pub fn strip_tags(value: &Value) -> Value {
    if let Some((_, inner)) = untag_value(value) {
        return strip_tags(inner);
    }
    match value {
        Value::Array(items) => items.iter().map(strip_tags).collect(),
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(k, v)| (k.clone(), strip_tags(v))).collect::<Map<_, _>>())
        }
        other => other.clone(),
    }
}

/// Returns the first key that starts with `$` and is not the tag of a tagged object.
pub fn find_stray_tag(value: &Value) -> Option<&str> {
    if let Some((_, inner)) = untag_value(value) {
        return find_stray_tag(inner);
    }
    match value {
        Value::Array(items) => items.iter().find_map(find_stray_tag),
        Value::Object(fields) => fields
            .iter()
            .find_map(|(k, v)| if k.starts_with('$') { Some(k.as_str()) } else { find_stray_tag(v) }),
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
            strip_tags(&value),
            json!({"at": "2026-11-20T01:00:00Z", "of": [{"name": "drill", "target": "lab"}]})
        );
    }

    #[test]
    fn a_dollar_key_that_is_no_tag_is_found() {
        assert_eq!(find_stray_tag(&json!({"a": [{"$odd": 1}]})), Some("$odd"));
        assert_eq!(find_stray_tag(&json!({"$moment": "x", "b": 1})), Some("$moment"));
        assert_eq!(find_stray_tag(&json!({"a": {"$moment": "x"}})), None);
    }
}
