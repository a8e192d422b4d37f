//! `supabase`: api, the way past the catalogue.
//!
//! What a request does nobody here knows, so a write that was sent and not answered, or whose process died, is never
//! sent again: the run stops, and a person decides.
//!
//! A secret in a body is kept as its reference, and sent as what it refers to.

use super::{
    TARGET,
    args::Args,
    spec::{Context, Effect, Kind, Need, Op, Param, Probed, Recovery, Returns, Slot},
};
use crate::{
    base::{secret::Reference, value},
    provider::{Accept as _, Code, Error, Result},
};
use serde_json::{Value, json};
use std::future::ready;

/// What scripts call the way past the catalogue.
pub const API: &str = "supabase::api";

/// The operations of `supabase`.
pub const OPS: &[Op] = &[Op {
    namespace: "supabase",
    name: "api",
    summary: "Ask the platform's own interface for what no operation covers",
    params: &[
        TARGET,
        Param {
            name: "method",
            kind: Kind::Choice(&["GET", "POST", "PUT", "PATCH", "DELETE"]),
            slot: Slot::Positional,
            help: "what is asked; only `GET` looks",
        },
        Param {
            name: "path",
            kind: Kind::Text,
            slot: Slot::Positional,
            help: "the path below the platform's address, beginning with `/`",
        },
        Param { name: "body", kind: Kind::Json, slot: Slot::Optional("none"), help: "what is sent along" },
    ],
    returns: Returns::Any,
    effect: Effect::Destroy,
    needs: Some(|args| Need::new("supabase", if looks(args) { Effect::Read } else { Effect::Destroy })),
    recovery: Recovery::Probe(|cx, args| Box::pin(ready(is_known(cx, args)))),
    examples: &[
        r#"supabase::api("sandbox", "GET", "/world")"#,
        r#"supabase::api("sandbox", "POST", "/clock", #{ body: #{ pass: "1h" } })"#,
    ],
    perform: |cx, args| Box::pin(api(cx, args)),
}];

fn looks(args: &Args) -> bool {
    args.text("method") == "GET"
}

/// That a write is about to be sent is written down first: a resume that finds nothing written knows that none was.
async fn api(cx: &Context<'_>, args: &Args) -> Result<Value> {
    let (method, path) = (args.text("method"), args.text("path"));
    let mut revealed = Vec::new();
    let body = sent(args.get("body"), &mut revealed)?;
    if !path.starts_with('/') {
        return Err(Error::new(Code::Invalid, format!("`{path}` is no path")).hint("it begins with `/`"));
    }
    if looks(args) && !body.is_null() {
        return Err(
            Error::new(Code::Invalid, "a `GET` takes no body").hint("put it into the path, behind `?`")
        );
    }
    let target = cx.place(args.get("target")).await?;
    let raw = target.raw()?;
    if !looks(args) {
        cx.intent().accepted(json!({ "method": method, "path": path })).await?;
    }
    let body = Some(&body).filter(|body| !body.is_null());
    let answer = raw.ask(method, path, body).await.map_err(|e| Error {
        message: hide(e.message, &revealed),
        hint: e.hint.map(|hint| hide(hint, &revealed)),
        ..e
    })?;
    Ok(kept(answer, &revealed))
}

/// Returns a body as it is sent, and notes the secrets in it.
fn sent(body: &Value, revealed: &mut Vec<String>) -> Result<Value> {
    if let Some(reference) = value::inside(body, value::SECRET) {
        let resolved = Reference::parse(reference.as_str().unwrap_or_default()).and_then(|r| r.resolve());
        let secret = resolved.map_err(|e| Error::new(Code::Invalid, e.to_string()))?;
        revealed.push(secret.reveal().to_owned());
        return Ok(secret.reveal().into());
    }
    Ok(match body {
        Value::Array(items) => items.iter().map(|item| sent(item, revealed)).collect::<Result<_>>()?,
        Value::Object(fields) if value::untag(body).is_none() => {
            let fields = fields.iter().map(|(name, field)| Ok((name.clone(), sent(field, revealed)?)));
            Value::Object(fields.collect::<Result<_>>()?)
        }
        other => value::plain(other),
    })
}

fn is_known(cx: &Context<'_>, args: &Args) -> Result<Probed> {
    if looks(args) || cx.intended().is_none() {
        return Ok(Probed::NotDone);
    }
    let (method, path) = (args.text("method"), args.text("path"));
    let message =
        format!("`{method} {path}` may have been sent, and only whoever knows what it does can tell");
    Err(Error::new(Code::Unknown, message))
}

/// What stands for what may not be read.
const HIDDEN: &str = "•••";

/// Fields of an answer that hold what nobody may read in a journal.
const SECRETS: &[&str] = &[
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

/// Returns an answer as it may be kept: without secrets, and without names that only this program's own values have.
fn kept(answer: Value, revealed: &[String]) -> Value {
    let masked = mask(answer, revealed);
    if value::check(&masked).is_some() || tagged(&masked) { masked.to_string().into() } else { masked }
}

fn mask(answer: Value, revealed: &[String]) -> Value {
    match answer {
        Value::String(text) => hide(text, revealed).into(),
        Value::Array(items) => items.into_iter().map(|item| mask(item, revealed)).collect(),
        Value::Object(fields) => {
            let masked = fields.into_iter().map(|(name, field)| {
                let hidden = SECRETS.contains(&name.as_str()) && !field.is_null();
                let field = if hidden { HIDDEN.into() } else { mask(field, revealed) };
                (name, field)
            });
            Value::Object(masked.collect())
        }
        other => other,
    }
}

/// Returns a text in which nothing that was revealed stands any more.
fn hide(text: String, revealed: &[String]) -> String {
    let echoed = revealed.iter().filter(|secret| !secret.is_empty());
    echoed.fold(text, |text, secret| text.replace(secret, HIDDEN))
}

/// Returns whether something in an answer looks like a value of this program.
fn tagged(answer: &Value) -> bool {
    value::untag(answer).is_some()
        || match answer {
            Value::Array(items) => items.iter().any(tagged),
            Value::Object(fields) => fields.values().any(tagged),
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_kept_without_its_secrets() {
        let answer = json!([{"ref": "x", "db_pass": "hunter2", "of": {"jwt_secret": "s"}, "secret": null}]);
        let wanted = json!([{"ref": "x", "db_pass": "•••", "of": {"jwt_secret": "•••"}, "secret": null}]);
        assert_eq!(kept(answer, &[]), wanted);
        assert_eq!(kept(json!(["is hunter2", 5]), &["hunter2".into()]), json!(["is •••", 5]));
        assert!(kept(json!({"$moment": "2026-11-20T03:00:00Z"}), &[]).is_string());
        assert!(kept(json!({"$ref": "x"}), &[]).is_string());
    }

    #[test]
    fn a_secret_is_sent_as_what_it_refers_to() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "hunter2\n").expect("written");
        let body = json!({"password": {"$secret": format!("file:{}", file.path().display())}, "after": [{"$duration": "1h"}]});
        let mut revealed = Vec::new();
        let sent = sent(&body, &mut revealed).expect("it is read");
        assert_eq!(sent, json!({"password": "hunter2", "after": ["1h"]}));
        assert_eq!(revealed, ["hunter2"]);
        let nowhere = super::sent(&json!({"$secret": "file:/nowhere"}), &mut revealed);
        assert_eq!(nowhere.expect_err("there is none").code, Code::Invalid);
    }
}
