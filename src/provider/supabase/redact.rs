//! Secrets, masked in what the API says.

use serde_json::Value;

/// What stands for a secret.
const MASK: &str = "•••";

/// Names of fields that hold secrets somewhere in the API; `GET /v1/branches/{ref}` gives the first two.
const SECRET_FIELDS: &[&str] =
    &["db_pass", "jwt_secret", "api_key", "root_key", "password", "secret", "token"];

/// Returns `text` without the token that was sent, and without whatever looks like a token of theirs or a JWT.
pub(super) fn mask_tokens(text: &str, token: &str) -> String {
    let text = if token.is_empty() { text.to_owned() } else { text.replace(token, MASK) };
    let mut shown = String::with_capacity(text.len());
    for word in text.split_inclusive(|c: char| !(c.is_alphanumeric() || "_-.".contains(c))) {
        let end = word.find(|c: char| !(c.is_alphanumeric() || "_-.".contains(c))).unwrap_or(word.len());
        let (name, rest) = word.split_at(end);
        let is_key = ["sbp_", "sb_secret_"].iter().any(|p| name.starts_with(p)) && name.len() > 12;
        let is_jwt = name.starts_with("eyJ") && name.matches('.').count() >= 2;
        shown.push_str(if is_key || is_jwt { MASK } else { name });
        shown.push_str(rest);
    }
    shown
}

/// Returns `value` with every field that holds a secret masked, however deep.
pub(super) fn mask_secret_fields(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(mask_secret_fields).collect(),
        Value::Object(object) => {
            let masked = object.into_iter().map(|(name, value)| match value {
                Value::String(text) if is_secret_field(&name) && !text.is_empty() => (name, MASK.into()),
                other => (name, mask_secret_fields(other)),
            });
            Value::Object(masked.collect())
        }
        other => other,
    }
}

fn is_secret_field(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_FIELDS.iter().any(|n| name == *n || name.ends_with(&format!("_{n}"))) || name.ends_with("_pass")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn supabase_t17_secret_fields_are_masked_however_deep() {
        let answer =
            json!([{"db_pass": "p1", "db_user": "postgres", "in": {"jwt_secret": "p2", "SMTP_PASS": "p3"}}]);
        let shown = mask_secret_fields(answer);
        assert_eq!(
            shown,
            json!([{"db_pass": MASK, "db_user": "postgres", "in": {"jwt_secret": MASK, "SMTP_PASS": MASK}}])
        );
    }

    #[test]
    fn supabase_tokens_are_masked_in_text() {
        let said = "token `hunter2` and sbp_v0_0123456789abcdef, (eyJa.eyJb.c) are bad. sbp_x is no token";
        let shown = mask_tokens(said, "hunter2");
        assert_eq!(shown, "token `•••` and •••, (•••) are bad. sbp_x is no token");
    }
}
