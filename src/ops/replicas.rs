//! `db::replicas`: list, create, delete.

use super::{
    TARGET,
    args::Args,
    backup::made_under_key,
    known,
    spec::{Context, Effect, Field, Kind, Op, Param, Probed, Recovery, Returns, Slot, field},
};
use crate::{
    base::suggest,
    provider::{
        Code, Error, Result,
        model::{Replica, ReplicaRequest},
    },
};
use serde_json::{Value, json};

const FIELDS: &[Field] = &[
    field("id", "text", "what names it in every call"),
    field("region", "text", "where it is, where places have names"),
    field("status", "text", "`ready`, `preparing`, `failed`, or the platform's own word"),
    field("host", "text", "how to connect"),
    field("port", "int", "the port"),
    field("lag", "duration", "how far it is behind, where that can be known"),
    field("target", "text", "the target it is of"),
    field("key", "text", "the key of the call that made it, where the platform keeps one"),
];

const REPLICA: Param =
    Param { name: "replica", kind: Kind::Text, slot: Slot::Positional, help: "the id of the replica" };

/// The operations of `db::replicas`.
pub const OPS: &[Op] = &[
    Op {
        namespace: "db::replicas",
        name: "list",
        summary: "List the read replicas, oldest first",
        params: &[TARGET],
        returns: Returns::List(FIELDS),
        effect: Effect::Read,
        needs: None,
        recovery: Recovery::Read,
        examples: &[r#"db::replicas::list("sandbox")"#],
        perform: |cx, args| Box::pin(list(cx, args)),
    },
    Op {
        namespace: "db::replicas",
        name: "create",
        summary: "Make a read replica and wait until it is ready",
        params: &[
            TARGET,
            Param {
                name: "region",
                kind: Kind::Text,
                slot: Slot::Optional("where the target is"),
                help: "where to put it, where places have names",
            },
        ],
        returns: Returns::One(FIELDS),
        effect: Effect::Create,
        needs: None,
        recovery: Recovery::Probe(|cx, args| Box::pin(made_under_key(cx, args))),
        examples: &[
            r#"let made = db::replicas::create("sandbox", #{ region: "eu-west-1" }); db::replicas::delete("sandbox", made.id)"#,
        ],
        perform: |cx, args| Box::pin(create(cx, args)),
    },
    Op {
        namespace: "db::replicas",
        name: "delete",
        summary: "Remove a read replica",
        params: &[TARGET, REPLICA],
        returns: Returns::One(FIELDS),
        effect: Effect::Destroy,
        needs: None,
        recovery: Recovery::Probe(|cx, args| Box::pin(is_gone(cx, args))),
        examples: &[
            r#"let made = db::replicas::create("sandbox"); db::replicas::delete("sandbox", made.id)"#,
        ],
        perform: |cx, args| Box::pin(delete(cx, args)),
    },
];

async fn list(cx: &Context<'_>, args: &Args) -> Result<Value> {
    Ok(json!(there(cx, args).await?))
}

async fn there(cx: &Context<'_>, args: &Args) -> Result<Vec<Replica>> {
    cx.place(args.get("target")).await?.replicas()?.list().await
}

async fn create(cx: &Context<'_>, args: &Args) -> Result<Value> {
    let target = cx.place(args.get("target")).await?;
    let request = ReplicaRequest { region: args.maybe_text("region") };
    let job = cx.job(target.replicas()?.create(&request, cx.key, &cx.intent())).await?;
    cx.follow(&*target, &job, args.timeout()).await
}

async fn delete(cx: &Context<'_>, args: &Args) -> Result<Value> {
    let gone = known::about_to_remove(cx, async { Ok(json!(existing(cx, args).await?)) }).await?;
    let target = cx.place(args.get("target")).await?;
    target.replicas()?.delete(gone["id"].as_str().unwrap_or_default()).await?;
    Ok(gone)
}

async fn existing(cx: &Context<'_>, args: &Args) -> Result<Replica> {
    let (id, all) = (args.text("replica"), there(cx, args).await?);
    all.iter().find(|r| r.id == id).cloned().ok_or_else(|| {
        Error::new(Code::NotFound, format!("there is no replica `{id}`"))
            .hint(suggest::hint(id, all.iter().map(|r| r.id.as_str())))
    })
}

async fn is_gone(cx: &Context<'_>, args: &Args) -> Result<Probed> {
    let Some(gone) = cx.accepted.clone() else { return Ok(Probed::NotDone) };
    let is_there = there(cx, args).await?.iter().any(|r| gone["id"] == r.id.as_str());
    Ok(if is_there { Probed::NotDone } else { Probed::Done(gone) })
}
