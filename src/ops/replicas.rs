//! `db::replicas`: list, create, delete.

use super::{
    args::CallArgs,
    protocol::{JobEffect, PlannedFrom, RemoveEffect, begin_or_continue_job, begin_or_continue_removal},
    spec::{
        CallContext, Effect, EffectResult, Field, Operation, Param, ParamKind, ParamSlot, Protocol,
        ReturnShape, TARGET, field,
    },
    thing::Thing,
};
use crate::{
    base::suggest,
    provider::{
        Code, Error, PlannedJob, Replicas, Result,
        model::{CallKey, EffectKind, Replica, ReplicaRequest},
    },
};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};

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
        protocol: Protocol::Read(|cx, args| Box::pin(list_replicas(cx, args))),
        examples: &[r#"db::replicas::list("sandbox")"#],
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
        protocol: Protocol::Effect(|cx, args| Box::pin(create_replica(cx, args))),
        examples: &[
            r#"let made = db::replicas::create("sandbox", #{ region: "eu-west-1" }); db::replicas::delete("sandbox", made.id)"#,
        ],
    },
    Operation {
        namespace: "db::replicas",
        name: "delete",
        summary: "Remove a read replica",
        params: &[TARGET, REPLICA],
        returns: ReturnShape::One(REPLICA_FIELDS),
        effect: Effect::Destroy,
        needs: None,
        protocol: Protocol::Effect(|cx, args| Box::pin(delete_replica(cx, args))),
        examples: &[
            r#"let made = db::replicas::create("sandbox"); db::replicas::delete("sandbox", made.id)"#,
        ],
    },
];

async fn list_replicas(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    Ok(json!(fetch_replicas(cx, args).await?))
}

async fn fetch_replicas(cx: &CallContext<'_>, args: &CallArgs) -> Result<Vec<Replica>> {
    cx.open_target(args.get("target")).await?.replicas()?.list().await
}

async fn create_replica(cx: &CallContext<'_>, args: &CallArgs) -> EffectResult<Value> {
    let target = cx.open_target(args.get("target")).await?;
    let effect = ReplicaMaking {
        // Where the platform keeps no key, two replicas at once could not be told apart.
        thing: Thing::named(args, "replicas")?,
        replicas: target.replicas()?,
        request: ReplicaRequest { region: args.get_optional_text("region") },
        key: cx.key,
    };
    begin_or_continue_job(cx, args, &*target, &effect).await
}

/// Makes a read replica.
struct ReplicaMaking<'a> {
    thing: Thing,
    replicas: &'a dyn Replicas,
    request: ReplicaRequest,
    key: &'a CallKey,
}

#[async_trait]
impl JobEffect for ReplicaMaking<'_> {
    fn name_effect_for_messages(&self) -> String {
        "the replica".into()
    }

    fn kind(&self) -> EffectKind {
        EffectKind::Replica
    }

    fn changed_things(&self) -> Vec<Thing> {
        vec![self.thing.clone()]
    }

    fn is_found_by_difference(&self) -> bool {
        true
    }

    fn does_job_name_its_own(&self) -> bool {
        false
    }

    async fn plan(&self) -> Result<PlannedJob<'_>> {
        self.replicas.plan_create(&self.request, self.key).await
    }
}

async fn delete_replica(cx: &CallContext<'_>, args: &CallArgs) -> EffectResult<Value> {
    let target = cx.open_target(args.get("target")).await?;
    let id = args.get_text("replica");
    let thing = Thing::named(args, format!("replica:{id}"))?;
    begin_or_continue_removal(
        cx,
        args,
        &*target,
        &ReplicaRemoval { thing, replicas: target.replicas()?, id, is_seen: AtomicBool::new(false) },
    )
    .await
}

/// Removes a read replica.
struct ReplicaRemoval<'a> {
    thing: Thing,
    replicas: &'a dyn Replicas,
    id: &'a str,
    /// Whether the last plan has seen it.
    is_seen: AtomicBool,
}

#[async_trait]
impl RemoveEffect for ReplicaRemoval<'_> {
    type Gone = Replica;

    fn name_effect_for_messages(&self) -> String {
        format!("the replica `{}`", self.id)
    }

    fn kind(&self) -> EffectKind {
        EffectKind::ReplicaDeletion
    }

    fn changed_things(&self) -> Vec<Thing> {
        vec![self.thing.clone()]
    }

    fn gone_id<'g>(&self, gone: &'g Replica) -> &'g str {
        &gone.id
    }

    async fn plan(&self) -> Result<Replica> {
        let all = self.replicas.list().await?;
        let found = all.iter().find(|r| r.id == self.id).cloned();
        self.is_seen.store(found.is_some(), Ordering::Relaxed);
        found.ok_or_else(|| {
            Error::new(Code::NotFound, format!("there is no replica `{}`", self.id))
                .with_hint(suggest::suggest_name_or_list_known(self.id, all.iter().map(|r| r.id.as_str())))
        })
    }

    fn planned_from(&self) -> Option<PlannedFrom> {
        Some(PlannedFrom::id(&self.thing, self.id, self.is_seen.load(Ordering::Relaxed)))
    }

    async fn is_any_left(&self, gone: &Replica) -> Result<bool> {
        Ok(self.replicas.list().await?.iter().any(|r| r.id == gone.id))
    }

    async fn send_request(&self, gone: &Replica) -> Result<()> {
        self.replicas.delete(&gone.id).await
    }
}
