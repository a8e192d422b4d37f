//! `network::bans`: list, remove.

use super::{
    TARGET,
    args::Args,
    known,
    spec::{Context, Effect, Kind, Op, Param, Probed, Recovery, Returns, Slot, field},
};
use crate::provider::{Provider, Result};
use serde_json::{Value, json};
use std::net::IpAddr;

/// The operations of `network::bans`.
pub const OPS: &[Op] = &[
    Op {
        namespace: "network::bans",
        name: "list",
        summary: "List the addresses that are shut out after failed attempts",
        params: &[TARGET],
        returns: Returns::List(&[field("address", "text", "the address")]),
        effect: Effect::Read,
        needs: None,
        recovery: Recovery::Read,
        examples: &[r#"network::bans::list("sandbox")"#],
        perform: |cx, args| Box::pin(list(cx, args)),
    },
    Op {
        namespace: "network::bans",
        name: "remove",
        summary: "Let addresses in again that were shut out",
        params: &[
            TARGET,
            Param {
                name: "addresses",
                kind: Kind::Addresses,
                slot: Slot::Positional,
                help: "the address, or a list of them",
            },
        ],
        returns: Returns::One(&[
            field("removed", "list", "the addresses that were shut out"),
            field("not_banned", "list", "the addresses that were not"),
        ]),
        effect: Effect::Change,
        needs: None,
        recovery: Recovery::Probe(|cx, args| Box::pin(is_done(cx, args))),
        examples: &[r#"network::bans::remove("sandbox", ["203.0.113.66", "2001:db8::66"])"#],
        perform: |cx, args| Box::pin(remove(cx, args)),
    },
];

async fn list(cx: &Context<'_>, args: &Args) -> Result<Value> {
    Ok(json!(cx.place(args.get("target")).await?.network()?.bans().await?))
}

async fn remove(cx: &Context<'_>, args: &Args) -> Result<Value> {
    let target = cx.place(args.get("target")).await?;
    let plan = known::about_to_remove(cx, plan(&*target, args.list("addresses"))).await?;
    let going = removed(&plan);
    if !going.is_empty() {
        target.network()?.unban(&going).await?;
    }
    Ok(plan)
}

/// Finds out which of the addresses are shut out.
async fn plan(target: &dyn Provider, asked: Vec<IpAddr>) -> Result<Value> {
    let bans = banned(target).await?;
    let (removed, not_banned): (Vec<_>, Vec<_>) = asked.into_iter().partition(|a| bans.contains(a));
    Ok(json!({ "removed": removed, "not_banned": not_banned }))
}

async fn is_done(cx: &Context<'_>, args: &Args) -> Result<Probed> {
    let Some(plan) = cx.accepted.clone() else { return Ok(Probed::NotDone) };
    let bans = banned(&*cx.place(args.get("target")).await?).await?;
    let is_there = removed(&plan).iter().any(|address| bans.contains(address));
    Ok(if is_there { Probed::NotDone } else { Probed::Done(plan) })
}

async fn banned(target: &dyn Provider) -> Result<Vec<IpAddr>> {
    Ok(target.network()?.bans().await?.into_iter().map(|ban| ban.address).collect())
}

fn removed(plan: &Value) -> Vec<IpAddr> {
    let texts = plan["removed"].as_array().into_iter().flatten();
    texts.filter_map(|text| text.as_str()?.parse().ok()).collect()
}
