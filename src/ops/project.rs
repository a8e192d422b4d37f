//! `project`: list, get.

use super::{
    TARGET,
    args::Args,
    spec::{Context, Effect, Field, Op, Recovery, Returns, field},
};
use crate::provider::{Provider, Result, model::Project};
use serde_json::{Value, json};

const FIELDS: &[Field] = &[
    field("name", "text", "the target's name"),
    field("provider", "text", "the kind of provider"),
    field("status", "text", "`healthy`, or what is the matter"),
    field("version", "text", "the server's version, where it is known"),
    field("identity", "text", "who it really is"),
    field("protect", "bool", "whether it asks for its name before a change"),
];

/// The operations of `project`.
pub const OPS: &[Op] = &[
    Op {
        namespace: "project",
        name: "list",
        summary: "List every configured target and how it is",
        params: &[],
        returns: Returns::List(FIELDS),
        effect: Effect::Read,
        needs: None,
        recovery: Recovery::Read,
        examples: &["project::list()"],
        perform: |cx, args| Box::pin(list(cx, args)),
    },
    Op {
        namespace: "project",
        name: "get",
        summary: "Show one target and how it is",
        params: &[TARGET],
        returns: Returns::One(FIELDS),
        effect: Effect::Read,
        needs: None,
        recovery: Recovery::Read,
        examples: &[r#"project::get("sandbox")"#],
        perform: |cx, args| Box::pin(get(cx, args)),
    },
];

/// A target that cannot be opened is an item that says so: one broken entry does not hide the others.
async fn list(cx: &Context<'_>, _: &Args) -> Result<Value> {
    let mut projects = Vec::new();
    for target in cx.fleet.targets() {
        let project = match cx.fleet.target(&target.name) {
            Ok(provider) => described(&*provider).await,
            Err(e) => Err(e),
        };
        projects.push(project.unwrap_or_else(|e| Project {
            name: target.name.clone(),
            provider: target.provider.clone(),
            status: e.message,
            version: None,
            identity: String::new(),
            protect: target.protect,
        }));
    }
    Ok(json!(projects))
}

async fn get(cx: &Context<'_>, args: &Args) -> Result<Value> {
    Ok(json!(cx.place(args.get("target")).await?.project().await?))
}

async fn described(provider: &dyn Provider) -> Result<Project> {
    provider.project().await
}
