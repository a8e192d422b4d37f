//! `project`: list, get, `wait_ready`, pause, resume, addons.

use super::{
    args::CallArgs,
    context::ElementValue,
    protocol::{JobEffect, POWER, PlannedFrom, StateSwitch, begin_or_continue_job},
    spec::{CallContext, Effect, EffectResult, Field, Operation, Protocol, ReturnShape, TARGET, field},
    thing::Thing,
};
use crate::provider::{
    Code, Error, Lifecycle, PlannedJob, Provider, Result,
    model::{CallKey, EffectKind, Project},
};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const PROJECT_FIELDS: &[Field] = &[
    field("name", "text", "the target's name"),
    field("provider", "text", "the kind of provider"),
    field("status", "text", "`healthy`, or what is the matter"),
    field("version", "text", "the server's version, where it is known"),
    field("identity", "text", "who it really is"),
    field("protect", "bool", "whether it asks for its name before a change"),
];

/// The operations of `project`.
pub(super) const OPS: &[Operation] = &[
    Operation {
        namespace: "project",
        name: "list",
        summary: "List every configured target and how it is",
        params: &[],
        returns: ReturnShape::List(PROJECT_FIELDS),
        effect: Effect::Read,
        needs: None,
        protocol: Protocol::Read(|cx, args| Box::pin(list_projects(cx, args))),
        examples: &["project::list()"],
    },
    Operation {
        namespace: "project",
        name: "get",
        summary: "Show one target and how it is",
        params: &[TARGET],
        returns: ReturnShape::One(PROJECT_FIELDS),
        effect: Effect::Read,
        needs: None,
        protocol: Protocol::Read(|cx, args| Box::pin(get_project(cx, args))),
        examples: &[r#"project::get("sandbox")"#],
    },
    Operation {
        namespace: "project",
        name: "wait_ready",
        summary: "Wait until a target says that it is ready and answers a query",
        params: &[TARGET],
        returns: ReturnShape::One(PROJECT_FIELDS),
        effect: Effect::Read,
        needs: None,
        protocol: Protocol::Wait(|cx, args| Box::pin(wait_until_ready(cx, args))),
        examples: &[r#"project::wait_ready("sandbox", #{ timeout: "10m" })"#],
    },
    Operation {
        namespace: "project",
        name: "pause",
        summary: "Switch a target off; its data stays",
        params: &[TARGET],
        returns: ReturnShape::One(PROJECT_FIELDS),
        effect: Effect::Change,
        needs: None,
        protocol: Protocol::Effect(|cx, args| Box::pin(pause_project(cx, args))),
        examples: &[r#"project::pause("sandbox"); project::resume("sandbox")"#],
    },
    Operation {
        namespace: "project",
        name: "resume",
        summary: "Switch a target on again and wait until it is ready",
        params: &[TARGET],
        returns: ReturnShape::One(PROJECT_FIELDS),
        effect: Effect::Change,
        needs: None,
        protocol: Protocol::Effect(|cx, args| Box::pin(resume_project(cx, args))),
        examples: &[r#"project::pause("sandbox"); project::resume("sandbox")"#],
    },
    Operation {
        namespace: "project",
        name: "addons",
        summary: "List what was booked besides the plan",
        params: &[TARGET],
        returns: ReturnShape::List(&[
            field("kind", "text", "what kind of thing: `pitr`, `compute_instance`"),
            field("variant", "text", "which of its variants"),
            field("name", "text", "the same for people"),
        ]),
        effect: Effect::Read,
        needs: None,
        protocol: Protocol::Read(|cx, args| Box::pin(list_addons(cx, args))),
        examples: &[r#"project::addons("sandbox")"#],
    },
];

/// Lists the targets. One that cannot be opened is listed with the reason, so that it does not hide the others.
async fn list_projects(cx: &CallContext<'_>, _: &CallArgs) -> Result<Value> {
    let mut projects = Vec::new();
    for target in cx.fleet.target_configs() {
        let project = match cx.fleet.open_target(&target.name) {
            Ok(provider) => read_project(&*provider).await,
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

async fn get_project(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    Ok(json!(cx.open_target(args.get("target")).await?.project().await?))
}

async fn read_project(provider: &dyn Provider) -> Result<Project> {
    provider.project().await
}

async fn wait_until_ready(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    let target = cx.open_target(args.get("target")).await?;
    let lifecycle = target.lifecycle()?;
    let timeout = args.timeout();
    cx.poll_until_done(&*target, timeout, || lifecycle.check_ready()).await?.ok_or_else(|| {
        Error::new(Code::Timeout, format!("it was not ready within {timeout}"))
            .with_hint("give it more with `timeout:`")
    })
}

async fn pause_project(cx: &CallContext<'_>, args: &CallArgs) -> EffectResult<Value> {
    pause_or_resume(cx, args, false).await
}

async fn resume_project(cx: &CallContext<'_>, args: &CallArgs) -> EffectResult<Value> {
    pause_or_resume(cx, args, true).await
}

async fn pause_or_resume(cx: &CallContext<'_>, args: &CallArgs, on: bool) -> EffectResult<Value> {
    let target = cx.open_target(args.get("target")).await?;
    let thing = Thing::whole_target(args)?;
    begin_or_continue_job(
        cx,
        args,
        &*target,
        &PowerSwitch { thing, lifecycle: target.lifecycle()?, on, key: cx.key },
    )
    .await
}

/// Pauses or resumes a target.
struct PowerSwitch<'a> {
    thing: Thing,
    lifecycle: &'a dyn Lifecycle,
    on: bool,
    key: &'a CallKey,
}

#[async_trait]
impl JobEffect for PowerSwitch<'_> {
    fn name_effect_for_messages(&self) -> String {
        (if self.on { "the resume" } else { "the pause" }).into()
    }

    fn kind(&self) -> EffectKind {
        EffectKind::Power
    }

    fn changed_things(&self) -> Vec<Thing> {
        vec![self.thing.clone()]
    }

    fn switched_state(&self) -> Option<StateSwitch> {
        let power = |on: bool| ElementValue {
            place: self.thing.place.clone(),
            element: POWER.into(),
            value: Some(json!(on)),
        };
        Some(StateSwitch { before: power(!self.on), wanted: power(self.on) })
    }

    async fn plan(&self) -> Result<PlannedJob<'_>> {
        if self.on {
            self.lifecycle.plan_resume(self.key).await
        } else {
            self.lifecycle.plan_pause(self.key).await
        }
    }

    /// It is so already.
    fn refused_from(&self, _: &Error) -> Vec<PlannedFrom> {
        vec![PlannedFrom::elements(&self.thing, POWER, BTreeMap::new(), self.on.into())]
    }
}

async fn list_addons(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    Ok(json!(cx.open_target(args.get("target")).await?.lifecycle()?.addons().await?))
}
