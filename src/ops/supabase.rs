//! `supabase`: api, the way past the catalogue.
//!
//! What a request does nobody here knows, so a write that was sent and not answered, or whose process died, is never
//! sent again: the run stops, and a person decides.

use super::{
    TARGET,
    args::Args,
    spec::{Context, Effect, Kind, Need, Op, Param, Probed, Recovery, Returns, Slot},
};
use crate::{
    base::value,
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
    let (method, path, body) = (args.text("method"), args.text("path"), value::plain(args.get("body")));
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
    let answer = raw.ask(method, path, Some(&body).filter(|body| !body.is_null())).await?;
    Ok(kept(answer))
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
fn kept(answer: Value) -> Value {
    let masked = mask(answer);
    if value::check(&masked).is_some() || tagged(&masked) { masked.to_string().into() } else { masked }
}

fn mask(answer: Value) -> Value {
    match answer {
        Value::Array(items) => items.into_iter().map(mask).collect(),
        Value::Object(fields) => {
            let masked = fields.into_iter().map(|(name, field)| {
                let hidden = SECRETS.contains(&name.as_str()) && !field.is_null();
                let field = if hidden { "•••".into() } else { mask(field) };
                (name, field)
            });
            Value::Object(masked.collect())
        }
        other => other,
    }
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
        assert_eq!(kept(answer), wanted);
        assert!(kept(json!({"$moment": "2026-11-20T03:00:00Z"})).is_string());
        assert!(kept(json!({"$ref": "x"})).is_string());
    }
}
