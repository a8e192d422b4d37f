//! `network::bans`: list, remove.

use super::{
    args::CallArgs,
    known,
    spec::{
        CallContext, Effect, Operation, Param, ParamKind, ParamSlot, ProbeResult, Recovery, ReturnShape,
        TARGET, field,
    },
};
use crate::provider::{Provider, Result};
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
        recovery: Recovery::Read,
        examples: &[r#"network::bans::list("sandbox")"#],
        perform: |cx, args| Box::pin(list_bans(cx, args)),
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
        recovery: Recovery::Probe(|cx, args| Box::pin(probe_ban_removal(cx, args))),
        examples: &[r#"network::bans::remove("sandbox", ["203.0.113.66", "2001:db8::66"])"#],
        perform: |cx, args| Box::pin(remove_bans(cx, args)),
    },
];

async fn list_bans(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    Ok(json!(cx.open_target(args.get("target")).await?.network()?.bans().await?))
}

async fn remove_bans(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    let target = cx.open_target(args.get("target")).await?;
    let plan = known::about_to_remove(cx, plan_removal(&*target, args.get_list("addresses"))).await?;
    let going = addresses_to_unban(&plan);
    if !going.is_empty() {
        target.network()?.unban(&going).await?;
    }
    Ok(plan)
}

/// Finds out which of the addresses are shut out.
async fn plan_removal(target: &dyn Provider, addresses: Vec<IpAddr>) -> Result<Value> {
    let bans = banned_addresses(target).await?;
    let (removed, not_banned): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|a| bans.contains(a));
    Ok(json!({ "removed": removed, "not_banned": not_banned }))
}

async fn probe_ban_removal(cx: &CallContext<'_>, args: &CallArgs) -> Result<ProbeResult> {
    let Some(plan) = cx.accepted.clone() else { return Ok(ProbeResult::NotDone) };
    let bans = banned_addresses(&*cx.open_target(args.get("target")).await?).await?;
    let is_there = addresses_to_unban(&plan).iter().any(|address| bans.contains(address));
    Ok(if is_there { ProbeResult::NotDone } else { ProbeResult::Done(plan) })
}

async fn banned_addresses(target: &dyn Provider) -> Result<Vec<IpAddr>> {
    Ok(target.network()?.bans().await?.into_iter().map(|ban| ban.address).collect())
}

fn addresses_to_unban(plan: &Value) -> Vec<IpAddr> {
    let texts = plan["removed"].as_array().into_iter().flatten();
    texts.filter_map(|text| text.as_str()?.parse().ok()).collect()
}
