//! `project`: list, get, `wait_ready`, pause, resume, addons.

use super::{
    TARGET,
    args::Args,
    backup::made_under_key,
    spec::{Context, Effect, Field, Op, Recovery, Returns, field},
};
use crate::provider::{Code, Error, Provider, Result, model::Project};
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
    Op {
        namespace: "project",
        name: "wait_ready",
        summary: "Wait until a target says that it is ready and answers a query",
        params: &[TARGET],
        returns: Returns::One(FIELDS),
        effect: Effect::Read,
        needs: None,
        recovery: Recovery::Wait,
        examples: &[r#"project::wait_ready("sandbox", #{ timeout: "10m" })"#],
        perform: |cx, args| Box::pin(wait_ready(cx, args)),
    },
    Op {
        namespace: "project",
        name: "pause",
        summary: "Switch a target off; its data stays",
        params: &[TARGET],
        returns: Returns::One(FIELDS),
        effect: Effect::Change,
        needs: None,
        recovery: Recovery::Probe(|cx, args| Box::pin(made_under_key(cx, args))),
        examples: &[r#"project::pause("sandbox"); project::resume("sandbox")"#],
        perform: |cx, args| Box::pin(pause(cx, args)),
    },
    Op {
        namespace: "project",
        name: "resume",
        summary: "Switch a target on again and wait until it is ready",
        params: &[TARGET],
        returns: Returns::One(FIELDS),
        effect: Effect::Change,
        needs: None,
        recovery: Recovery::Probe(|cx, args| Box::pin(made_under_key(cx, args))),
        examples: &[r#"project::pause("sandbox"); project::resume("sandbox")"#],
        perform: |cx, args| Box::pin(resume(cx, args)),
    },
    Op {
        namespace: "project",
        name: "addons",
        summary: "List what was booked besides the plan",
        params: &[TARGET],
        returns: Returns::List(&[
            field("kind", "text", "what kind of thing: `pitr`, `compute_instance`"),
            field("variant", "text", "which of its variants"),
            field("name", "text", "the same for people"),
        ]),
        effect: Effect::Read,
        needs: None,
        recovery: Recovery::Read,
        examples: &[r#"project::addons("sandbox")"#],
        perform: |cx, args| Box::pin(addons(cx, args)),
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

async fn wait_ready(cx: &Context<'_>, args: &Args) -> Result<Value> {
    let target = cx.place(args.get("target")).await?;
    let lifecycle = target.lifecycle()?;
    let timeout = args.timeout();
    cx.until(&*target, timeout, || lifecycle.ready()).await?.ok_or_else(|| {
        Error::new(Code::Timeout, format!("it was not ready within {timeout}"))
            .hint("give it more with `timeout:`")
    })
}

async fn pause(cx: &Context<'_>, args: &Args) -> Result<Value> {
    let target = cx.place(args.get("target")).await?;
    let job = cx.job(async { target.lifecycle()?.pause(cx.key, &cx.intent()).await }).await?;
    cx.follow(&*target, &job, args.timeout()).await
}

async fn resume(cx: &Context<'_>, args: &Args) -> Result<Value> {
    let target = cx.place(args.get("target")).await?;
    let job = cx.job(async { target.lifecycle()?.resume(cx.key, &cx.intent()).await }).await?;
    cx.follow(&*target, &job, args.timeout()).await
}

async fn addons(cx: &Context<'_>, args: &Args) -> Result<Value> {
    Ok(json!(cx.place(args.get("target")).await?.lifecycle()?.addons().await?))
}
