//! `db::replicas`: list, create, delete.

use super::{
    args::CallArgs,
    known::{self, probe_by_key},
    spec::{
        CallContext, Effect, Field, Operation, Param, ParamKind, ParamSlot, ProbeResult, Recovery,
        ReturnShape, TARGET, field,
    },
};
use crate::{
    base::suggest,
    provider::{
        Code, Error, Result,
        model::{Replica, ReplicaRequest},
    },
};
use serde_json::{Value, json};

const REPLICA_FIELDS: &[Field] = &[
    field("id", "text", "what names it in every call"),
    field("region", "text", "where it is, where places have names"),
    field("status", "text", "`ready`, `preparing`, `failed`, or the platform's own word"),
    field("host", "text", "how to connect"),
    field("port", "int", "the port"),
    field("lag", "duration", "how far it is behind, where that can be known"),
    field("target", "text", "the target it is of"),
    field("key", "text", "the key of the call that made it, where the platform keeps one"),
];

const REPLICA: Param = Param {
    name: "replica",
    kind: ParamKind::Text,
    slot: ParamSlot::Positional,
    help: "the id of the replica",
};

/// The operations of `db::replicas`.
pub(super) const OPS: &[Operation] = &[
    Operation {
        namespace: "db::replicas",
        name: "list",
        summary: "List the read replicas, oldest first",
        params: &[TARGET],
        returns: ReturnShape::List(REPLICA_FIELDS),
        effect: Effect::Read,
        needs: None,
        recovery: Recovery::Read,
        examples: &[r#"db::replicas::list("sandbox")"#],
        perform: |cx, args| Box::pin(list_replicas(cx, args)),
    },
    Operation {
        namespace: "db::replicas",
        name: "create",
        summary: "Make a read replica and wait until it is ready",
        params: &[
            TARGET,
            Param {
                name: "region",
                kind: ParamKind::Text,
                slot: ParamSlot::Optional("where the target is"),
                help: "where to put it, where places have names",
            },
        ],
        returns: ReturnShape::One(REPLICA_FIELDS),
        effect: Effect::Create,
        needs: None,
        recovery: Recovery::Probe(|cx, args| Box::pin(probe_by_key(cx, args))),
        examples: &[
            r#"let made = db::replicas::create("sandbox", #{ region: "eu-west-1" }); db::replicas::delete("sandbox", made.id)"#,
        ],
        perform: |cx, args| Box::pin(create_replica(cx, args)),
    },
    Operation {
        namespace: "db::replicas",
        name: "delete",
        summary: "Remove a read replica",
        params: &[TARGET, REPLICA],
        returns: ReturnShape::One(REPLICA_FIELDS),
        effect: Effect::Destroy,
        needs: None,
        recovery: Recovery::Probe(|cx, args| Box::pin(probe_replica_deletion(cx, args))),
        examples: &[
            r#"let made = db::replicas::create("sandbox"); db::replicas::delete("sandbox", made.id)"#,
        ],
        perform: |cx, args| Box::pin(delete_replica(cx, args)),
    },
];

async fn list_replicas(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    Ok(json!(fetch_replicas(cx, args).await?))
}

async fn fetch_replicas(cx: &CallContext<'_>, args: &CallArgs) -> Result<Vec<Replica>> {
    cx.open_target(args.get("target")).await?.replicas()?.list().await
}

async fn create_replica(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    let target = cx.open_target(args.get("target")).await?;
    let request = ReplicaRequest { region: args.get_optional_text("region") };
    let job = cx.adopt_or_start_job(target.replicas()?.create(&request, cx.key, &cx.intent())).await?;
    cx.wait_for_job(&*target, &job, args.timeout()).await
}

async fn delete_replica(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    let gone = known::about_to_remove(cx, async { Ok(json!(find_replica(cx, args).await?)) }).await?;
    let target = cx.open_target(args.get("target")).await?;
    target.replicas()?.delete(gone["id"].as_str().unwrap_or_default()).await?;
    Ok(gone)
}

async fn find_replica(cx: &CallContext<'_>, args: &CallArgs) -> Result<Replica> {
    let (id, all) = (args.get_text("replica"), fetch_replicas(cx, args).await?);
    all.iter().find(|r| r.id == id).cloned().ok_or_else(|| {
        Error::new(Code::NotFound, format!("there is no replica `{id}`"))
            .with_hint(suggest::suggest_name(id, all.iter().map(|r| r.id.as_str())))
    })
}

async fn probe_replica_deletion(cx: &CallContext<'_>, args: &CallArgs) -> Result<ProbeResult> {
    let Some(gone) = cx.accepted.clone() else { return Ok(ProbeResult::NotDone) };
    let is_there = fetch_replicas(cx, args).await?.iter().any(|r| gone["id"] == r.id.as_str());
    Ok(if is_there { ProbeResult::NotDone } else { ProbeResult::Done(gone) })
}
