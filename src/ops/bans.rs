//! `network::bans`: list, remove.

use super::{
    args::CallArgs,
    evidence::{ElementChange, ElementChanges, parse_element},
    protocol::{SetEffect, SetLook, begin_or_continue_set},
    spec::{
        CallContext, Effect, EffectResult, Operation, Param, ParamKind, ParamSlot, Protocol, ReturnShape,
        TARGET, field,
    },
    thing::Thing,
};
use crate::provider::{Provider, Result, model::EffectKind};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::net::IpAddr;

/// The operations of `network::bans`.
pub(super) const OPS: &[Operation] = &[
    Operation {
        namespace: "network::bans",
        name: "list",
        summary: "List the addresses that are shut out after failed attempts",
        params: &[TARGET],
        returns: ReturnShape::List(&[field("address", "text", "the address")]),
        effect: Effect::Read,
        needs: None,
        protocol: Protocol::Read(|cx, args| Box::pin(list_bans(cx, args))),
        examples: &[r#"network::bans::list("sandbox")"#],
    },
    Operation {
        namespace: "network::bans",
        name: "remove",
        summary: "Let addresses in again that were shut out",
        params: &[
            TARGET,
            Param {
                name: "addresses",
                kind: ParamKind::Addresses,
                slot: ParamSlot::Positional,
                help: "the address, or a list of them",
            },
        ],
        returns: ReturnShape::One(&[
            field("removed", "list", "the addresses that were shut out"),
            field("not_banned", "list", "the addresses that were not"),
        ]),
        effect: Effect::Change,
        needs: None,
        protocol: Protocol::Effect(|cx, args| Box::pin(remove_bans(cx, args))),
        examples: &[r#"network::bans::remove("sandbox", ["203.0.113.66", "2001:db8::66"])"#],
    },
];

async fn list_bans(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    Ok(json!(cx.open_target(args.get("target")).await?.network()?.bans().await?))
}

async fn remove_bans(cx: &CallContext<'_>, args: &CallArgs) -> EffectResult<Value> {
    let target = cx.open_target(args.get("target")).await?;
    let addresses: Vec<IpAddr> = args.get_list("addresses");
    let effect = BanEffect { thing: Thing::named(args, "bans")?, target: &*target, addresses };
    begin_or_continue_set(cx, args, &*target, &effect).await
}

/// Lets addresses in again: an element is an address, its value whether it is banned.
struct BanEffect<'a> {
    thing: Thing,
    target: &'a dyn Provider,
    addresses: Vec<IpAddr>,
}

#[async_trait]
impl SetEffect for BanEffect<'_> {
    fn name_effect_for_messages(&self) -> &'static str {
        "the removal of bans"
    }

    fn kind(&self) -> EffectKind {
        EffectKind::Bans
    }

    fn changed_things(&self) -> Vec<Thing> {
        vec![self.thing.clone()]
    }

    async fn plan(&self) -> Result<ElementChanges> {
        let bans = banned_addresses(self.target).await?;
        let change =
            |address: &IpAddr| ElementChange { before: bans.contains(address).into(), wanted: false.into() };
        Ok(self.addresses.iter().map(|address| (address.to_string(), change(address))).collect())
    }

    async fn look(&self, changes: &ElementChanges) -> Result<SetLook> {
        let bans: Vec<String> =
            banned_addresses(self.target).await?.iter().map(ToString::to_string).collect();
        let elements =
            changes.keys().map(|address| (address.clone(), bans.contains(address).into())).collect();
        Ok(SetLook { elements, unapplied: None, shown: Value::Null })
    }

    async fn send_request(&self, changes: &ElementChanges) -> Result<()> {
        let going: Vec<IpAddr> =
            changes.keys().map(|address| parse_element(address)).collect::<Result<_>>()?;
        self.target.network()?.unban(&going).await
    }

    fn result(&self, changes: &ElementChanges, _: SetLook) -> Value {
        let was_banned =
            |address: &IpAddr| changes.get(&address.to_string()).is_some_and(|change| change.before == true);
        let (removed, not_banned): (Vec<_>, Vec<_>) = self.addresses.iter().copied().partition(was_banned);
        json!({ "removed": removed, "not_banned": not_banned })
    }
}

async fn banned_addresses(target: &dyn Provider) -> Result<Vec<IpAddr>> {
    Ok(target.network()?.bans().await?.into_iter().map(|ban| ban.address).collect())
}
