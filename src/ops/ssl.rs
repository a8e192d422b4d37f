//! `network::ssl`: get, set.

use super::{
    args::CallArgs,
    evidence::{ElementChange, ElementChanges, unreadable_element_error},
    protocol::{SetEffect, SetLook, begin_or_continue_set},
    spec::{
        CallContext, Effect, EffectResult, Operation, Param, ParamKind, ParamSlot, Protocol, ReturnShape,
        TARGET, field,
    },
    thing::Thing,
};
use crate::provider::{Network, Result, model::EffectKind};
use async_trait::async_trait;
use serde_json::{Value, json};

/// The operations of `network::ssl`.
pub(super) const OPS: &[Operation] = &[
    Operation {
        namespace: "network::ssl",
        name: "get",
        summary: "Show whether connections without TLS are refused",
        params: &[TARGET],
        returns: ReturnShape::One(&[
            field("enforced", "bool", "whether they are to be"),
            field("applied", "bool", "whether that is so already"),
        ]),
        effect: Effect::Read,
        needs: None,
        protocol: Protocol::Read(|cx, args| Box::pin(get_ssl(cx, args))),
        examples: &[r#"network::ssl::get("sandbox")"#],
    },
    Operation {
        namespace: "network::ssl",
        name: "set",
        summary: "Say whether connections without TLS are refused, and wait until that is so",
        params: &[
            TARGET,
            Param {
                name: "enforced",
                kind: ParamKind::Bool,
                slot: ParamSlot::Positional,
                help: "whether connections without TLS are refused",
            },
        ],
        returns: ReturnShape::One(&[
            field("before", "bool", "whether they were to be before"),
            field("enforced", "bool", "whether they are to be"),
            field("applied", "bool", "whether that is so already"),
        ]),
        effect: Effect::Change,
        needs: None,
        protocol: Protocol::Effect(|cx, args| Box::pin(set_ssl(cx, args))),
        examples: &[r#"network::ssl::set("sandbox", true)"#],
    },
];

async fn get_ssl(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    Ok(json!(cx.open_target(args.get("target")).await?.network()?.ssl().await?))
}

async fn set_ssl(cx: &CallContext<'_>, args: &CallArgs) -> EffectResult<Value> {
    let target = cx.open_target(args.get("target")).await?;
    let change = TlsChange {
        thing: Thing::named(args, TLS)?,
        network: target.network()?,
        wanted: args.get_flag("enforced"),
    };
    begin_or_continue_set(cx, args, &*target, &change).await
}

/// The part of a target that this changes, which is also the name of its one element.
const TLS: &str = "tls";

/// A change of whether connections without TLS are refused.
struct TlsChange<'a> {
    thing: Thing,
    network: &'a dyn Network,
    wanted: bool,
}

#[async_trait]
impl SetEffect for TlsChange<'_> {
    fn name_effect_for_messages(&self) -> &'static str {
        "the enforcement of TLS"
    }

    fn kind(&self) -> EffectKind {
        EffectKind::Tls
    }

    fn changed_things(&self) -> Vec<Thing> {
        vec![self.thing.clone()]
    }

    async fn plan(&self) -> Result<ElementChanges> {
        let now = self.network.ssl().await?;
        let change = ElementChange { before: now.enforced.into(), wanted: self.wanted.into() };
        Ok([(TLS.to_owned(), change)].into())
    }

    async fn look(&self, _: &ElementChanges) -> Result<SetLook> {
        let now = self.network.ssl().await?;
        let unapplied = (!now.applied).then(|| "the platform is applying it".to_owned());
        let elements = [(TLS.to_owned(), now.enforced.into())].into();
        Ok(SetLook { elements, unapplied, shown: json!(now) })
    }

    async fn send_request(&self, changes: &ElementChanges) -> Result<()> {
        let wanted = changes.get(TLS).and_then(|change| change.wanted.as_bool());
        let wanted = wanted.ok_or_else(|| unreadable_element_error(TLS))?;
        self.network.set_ssl_enforcement(wanted).await.map(drop)
    }

    fn result(&self, changes: &ElementChanges, look: SetLook) -> Value {
        let mut result = look.shown;
        result["before"] =
            changes.get(TLS).map_or_else(|| result["enforced"].clone(), |change| change.before.clone());
        result
    }
}
