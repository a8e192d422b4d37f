//! `supabase`: api, the way past the catalogue.
//!
//! What a request does nobody here knows, so a write that was sent and not answered, or whose process died, is never
//! sent again: the run stops, and a person decides.
//!
//! A secret in a body is kept as its reference, and sent as what it refers to.

use super::{
    args::CallArgs,
    protocol::send_opaque_or_report_undecided,
    spec::{
        CallContext, Effect, EffectResult, Operation, Param, ParamKind, ParamSlot, Permission, Protocol,
        ReturnShape, TARGET,
    },
    thing::Thing,
};
use crate::{
    base::{mask, secret::SecretRef, value},
    provider::{Code, Error, Result},
};
use serde_json::Value;

/// What scripts call the way past the catalogue.
pub const API_PATH: &str = "supabase::api";

/// The operations of `supabase`.
pub(super) const OPS: &[Operation] = &[Operation {
    namespace: "supabase",
    name: "api",
    summary: "Ask the platform's own interface for what no operation covers",
    params: &[
        TARGET,
        Param {
            name: "method",
            kind: ParamKind::Choice(&["GET", "POST", "PUT", "PATCH", "DELETE"]),
            slot: ParamSlot::Positional,
            help: "what is asked; only `GET` looks",
        },
        Param {
            name: "path",
            kind: ParamKind::Text,
            slot: ParamSlot::Positional,
            help: "the path below the platform's address, beginning with `/`",
        },
        Param {
            name: "body",
            kind: ParamKind::Json,
            slot: ParamSlot::Optional("none"),
            help: "what is sent along",
        },
    ],
    returns: ReturnShape::Any,
    effect: Effect::Destroy,
    needs: Some(|args| {
        Permission::new("supabase", if is_read_request(args) { Effect::Read } else { Effect::Destroy })
    }),
    protocol: Protocol::Effect(|cx, args| Box::pin(send_request(cx, args))),
    examples: &[
        r#"supabase::api("sandbox", "GET", "/world")"#,
        r#"supabase::api("sandbox", "POST", "/clock", #{ body: #{ pass: "1h" } })"#,
    ],
}];

fn is_read_request(args: &CallArgs) -> bool {
    args.get_text("method") == "GET"
}

async fn send_request(cx: &CallContext<'_>, args: &CallArgs) -> EffectResult<Value> {
    let (method, path) = (args.get_text("method"), args.get_text("path"));
    let mut revealed = Vec::new();
    let body = resolve_secrets(args.get("body"), &mut revealed)?;
    check_request(args, &body)?;
    let target = cx.open_target(args.get("target")).await?;
    let raw = target.raw()?;
    let send = async {
        let body = Some(&body).filter(|body| !body.is_null());
        let answer = raw.send_request(method, path, body).await.map_err(|e| Error {
            message: mask::mask_text(e.message, &revealed),
            hint: e.hint.map(|hint| mask::mask_text(hint, &revealed)),
            ..e
        })?;
        Ok(redact_answer(answer, &revealed))
    };
    if is_read_request(args) {
        return Ok(send.await?);
    }
    send_opaque_or_report_undecided(
        cx,
        Thing::unknown_part(args)?,
        args.timeout(),
        format!("`{method} {path}`").into(),
        send,
    )
    .await
}

/// Refuses a path that is none, and a read with a body.
fn check_request(args: &CallArgs, body: &Value) -> Result<()> {
    let path = args.get_text("path");
    if !path.starts_with('/') {
        return Err(Error::new(Code::Invalid, format!("`{path}` is no path")).with_hint("it begins with `/`"));
    }
    if is_read_request(args) && !body.is_null() {
        return Err(
            Error::new(Code::Invalid, "a `GET` takes no body").with_hint("put it into the path, behind `?`")
        );
    }
    Ok(())
}

/// Returns a body as it is sent, and notes the secrets in it.
fn resolve_secrets(body: &Value, revealed: &mut Vec<String>) -> Result<Value> {
    if let Some(reference) = value::untag_as(body, value::SECRET_TAG) {
        let resolved = SecretRef::parse(reference.as_str().unwrap_or_default()).and_then(|r| r.read_secret());
        let secret = resolved.map_err(|e| Error::new(Code::Invalid, e.to_string()))?;
        revealed.push(secret.expose_secret().to_owned());
        return Ok(secret.expose_secret().into());
    }
    Ok(match body {
        Value::Array(items) => {
            items.iter().map(|item| resolve_secrets(item, revealed)).collect::<Result<_>>()?
        }
        Value::Object(fields) if value::untag_value(body).is_none() => {
            let fields =
                fields.iter().map(|(name, field)| Ok((name.clone(), resolve_secrets(field, revealed)?)));
            Value::Object(fields.collect::<Result<_>>()?)
        }
        other => value::strip_tags(other),
    })
}

/// Returns an answer as it may be kept: without secrets, and without names that only this program's own values have.
fn redact_answer(answer: Value, revealed: &[String]) -> Value {
    let masked = mask::mask_secrets(answer, revealed);
    if value::find_stray_tag(&masked).is_some() || contains_tag(&masked) {
        masked.to_string().into()
    } else {
        masked
    }
}

/// Returns whether something in an answer looks like a value of this program.
fn contains_tag(answer: &Value) -> bool {
    value::untag_value(answer).is_some()
        || match answer {
            Value::Array(items) => items.iter().any(contains_tag),
            Value::Object(fields) => fields.values().any(contains_tag),
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_answer_is_kept_without_secrets_and_without_tags() {
        let answer = json!({"db_pass": "s", "is": "hunter2"});
        let kept = json!({"db_pass": "•••", "is": "•••"});
        assert_eq!(redact_answer(answer, &["hunter2".into()]), kept);
        assert!(redact_answer(json!({"$moment": "2026-11-20T03:00:00Z"}), &[]).is_string());
        assert!(redact_answer(json!({"$ref": "x"}), &[]).is_string());
    }

    #[test]
    fn a_secret_is_sent_as_what_it_refers_to() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "hunter2\n").expect("written");
        let body = json!({"password": {"$secret": format!("file:{}", file.path().display())}, "after": [{"$duration": "1h"}]});
        let mut revealed = Vec::new();
        let sent = resolve_secrets(&body, &mut revealed).expect("it is read");
        assert_eq!(sent, json!({"password": "hunter2", "after": ["1h"]}));
        assert_eq!(revealed, ["hunter2"]);
        let nowhere = super::resolve_secrets(&json!({"$secret": "file:/nowhere"}), &mut revealed);
        assert_eq!(nowhere.expect_err("there is none").code, Code::Invalid);
    }
}
