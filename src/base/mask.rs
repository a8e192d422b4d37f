//! Secrets taken out of what is shown or recorded.

use serde_json::Value;

/// The text shown in place of a secret.
pub const MASK: &str = "•••";

/// The names of fields that hold secrets.
const SECRET_FIELDS: &[&str] = &[
    "access_token",
    "api_key",
    "client_secret",
    "db_pass",
    "db_password",
    "jwt_secret",
    "password",
    "private_key",
    "refresh_token",
    "secret",
    "secret_key",
    "service_role_key",
];

/// Returns a value with every secret masked: the fields named like one, and the known secrets in every text.
pub fn mask_secrets(value: Value, known: &[String]) -> Value {
    match value {
        Value::String(text) => mask_text(text, known).into(),
        Value::Array(items) => items.into_iter().map(|item| mask_secrets(item, known)).collect(),
        Value::Object(fields) => {
            let masked = fields.into_iter().map(|(name, field)| {
                let hidden = SECRET_FIELDS.contains(&name.as_str()) && !field.is_null();
                let field = if hidden { MASK.into() } else { mask_secrets(field, known) };
                (name, field)
            });
            Value::Object(masked.collect())
        }
        other => other,
    }
}

/// Returns a text with every known secret masked.
pub fn mask_text(text: String, known: &[String]) -> String {
    let echoed = known.iter().filter(|secret| !secret.is_empty());
    echoed.fold(text, |text, secret| text.replace(secret, MASK))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_are_masked_by_their_field_or_by_being_known() {
        let value = json!([{"ref": "x", "db_pass": "hunter2", "of": {"jwt_secret": "s"}, "secret": null}]);
        let masked = json!([{"ref": "x", "db_pass": "•••", "of": {"jwt_secret": "•••"}, "secret": null}]);
        assert_eq!(mask_secrets(value, &[]), masked);
        assert_eq!(mask_secrets(json!(["is hunter2", 5]), &["hunter2".into()]), json!(["is •••", 5]));
    }
}
