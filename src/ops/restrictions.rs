//! `network::restrictions`: list, add, remove.
//!
//! The list of a target that nothing restricts shows `0.0.0.0/0` and `::/0`; it is never empty.

use super::{
    args::CallArgs,
    known,
    spec::{
        CallContext, Effect, Field, Operation, Param, ParamKind, ParamSlot, ProbeResult, Recovery,
        ReturnShape, TARGET, field,
    },
};
use crate::{
    base::{moment::Span, suggest},
    provider::{
        Code, Error, Network, Provider, Result,
        model::{AllowedRange, JobStatus, NetworkRestrictions, Progress},
    },
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde_json::{Value, json};

const RANGE_FIELDS: &[Field] = &[
    field("open", "bool", "whether a range lets everybody in"),
    field("applied", "bool", "whether the ranges are enforced, or only stored"),
    field(
        "ranges",
        "list",
        "the ranges that may connect: `cidr`, and `status` `applied`, `stored` or `pending`",
    ),
    field("warnings", "list", "what is not as it looks, one sentence each"),
];

const CIDRS: Param = Param {
    name: "cidrs",
    kind: ParamKind::Cidrs,
    slot: ParamSlot::Positional,
    help: "the range of addresses, or a list of them",
};

/// The operations of `network::restrictions`.
pub(super) const OPS: &[Operation] = &[
    Operation {
        namespace: "network::restrictions",
        name: "list",
        summary: "Show which addresses may connect",
        params: &[TARGET],
        returns: ReturnShape::One(RANGE_FIELDS),
        effect: Effect::Read,
        needs: None,
        recovery: Recovery::Read,
        examples: &[r#"network::restrictions::list("sandbox")"#],
        perform: |cx, args| Box::pin(list_ranges(cx, args)),
    },
    Operation {
        namespace: "network::restrictions",
        name: "add",
        summary: "Let ranges of addresses connect",
        params: &[
            TARGET,
            CIDRS,
            Param {
                name: "exclusive",
                kind: ParamKind::Bool,
                slot: ParamSlot::Optional(
                    "false: a range that lets everybody in stays, and makes the others void",
                ),
                help: "take away, in the same change, the ranges that let everybody in",
            },
        ],
        returns: ReturnShape::One(RANGE_FIELDS),
        effect: Effect::Change,
        needs: None,
        recovery: Recovery::Probe(|cx, args| Box::pin(probe_ranges(cx, args))),
        examples: &[r#"network::restrictions::add("sandbox", "203.0.113.0/24", #{ exclusive: true })"#],
        perform: |cx, args| Box::pin(add_ranges(cx, args)),
    },
    Operation {
        namespace: "network::restrictions",
        name: "remove",
        summary: "Let ranges of addresses connect no longer",
        params: &[TARGET, CIDRS],
        returns: ReturnShape::One(RANGE_FIELDS),
        effect: Effect::Change,
        needs: None,
        recovery: Recovery::Probe(|cx, args| Box::pin(probe_ranges(cx, args))),
        examples: &[
            r#"network::restrictions::add("sandbox", "198.51.100.0/24"); network::restrictions::remove("sandbox", "198.51.100.0/24")"#,
        ],
        perform: |cx, args| Box::pin(remove_ranges(cx, args)),
    },
];

async fn list_ranges(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    let target = cx.open_target(args.get("target")).await?;
    Ok(allowed_to_json(&normalize_allowed(target.network()?.allowed().await?)))
}

async fn add_ranges(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    let add: Vec<IpNet> = args.get_list("cidrs");
    let exclusive = args.get_flag("exclusive");
    if let Some(open) = add.iter().find(|net| exclusive && is_open_range(net)) {
        return Err(Error::new(
            Code::Invalid,
            format!("`{open}` lets everybody in, and `exclusive` lets nobody else"),
        )
        .with_hint("leave one of the two out"));
    }
    let target = cx.open_target(args.get("target")).await?;
    let now = allowed_nets(&normalize_allowed(target.network()?.allowed().await?));
    let add: Vec<IpNet> = add.into_iter().filter(|net| !now.contains(net)).collect();
    let remove = now.iter().copied().filter(|net| exclusive && is_open_range(net)).collect();
    change_ranges(cx, args, &*target, RangeChange { now, add, remove }).await
}

async fn remove_ranges(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    let remove: Vec<IpNet> = args.get_list("cidrs");
    let target = cx.open_target(args.get("target")).await?;
    let now = allowed_nets(&normalize_allowed(target.network()?.allowed().await?));
    if let Some(missing) = remove.iter().find(|net| !now.contains(net)) {
        let known: Vec<String> = now.iter().map(ToString::to_string).collect();
        return Err(Error::new(
            Code::NotFound,
            format!("the range `{missing}` is not among those that may connect"),
        )
        .with_hint(suggest::suggest_name(&missing.to_string(), known.iter().map(String::as_str))));
    }
    if now.iter().all(|net| remove.contains(net)) {
        return Err(Error::new(
            Code::Refused,
            "no range would be left, and platforms do not agree whether that shuts everybody out or lets everybody in",
        )
        .with_hint("add the range that is to be left first; `0.0.0.0/0` and `::/0` let everybody in"));
    }
    change_ranges(cx, args, &*target, RangeChange { now, add: Vec::new(), remove }).await
}

/// A change of the allowed ranges.
struct RangeChange {
    now: Vec<IpNet>,
    add: Vec<IpNet>,
    remove: Vec<IpNet>,
}

/// Records how the ranges are and are to be, changes them in one request, and waits until the change is applied.
async fn change_ranges(
    cx: &CallContext<'_>,
    args: &CallArgs,
    target: &dyn Provider,
    change: RangeChange,
) -> Result<Value> {
    let RangeChange { now, add, remove } = change;
    let left = now.iter().filter(|net| !remove.contains(net)).chain(&add);
    let wanted: Vec<IpNet> = left.copied().collect();
    if add.is_empty() && remove.is_empty() {
        return Ok(allowed_to_json(&normalize_allowed(target.network()?.allowed().await?)));
    }
    known::about_to(cx, &nets_to_json(&now), &nets_to_json(&wanted)).await?;
    target.network()?.allow(&add, &remove).await?;
    wait_until_applied(cx, args, target).await
}

async fn probe_ranges(cx: &CallContext<'_>, args: &CallArgs) -> Result<ProbeResult> {
    if cx.intended().is_none() {
        return Ok(ProbeResult::NotDone);
    }
    let target = cx.open_target(args.get("target")).await?;
    let now = normalize_allowed(target.network()?.allowed().await?);
    if !known::is_done(cx, "the list of ranges", &nets_to_json(&allowed_nets(&now)))? {
        return Ok(ProbeResult::NotDone);
    }
    Ok(ProbeResult::Done(wait_until_applied(cx, args, &*target).await?))
}

/// Waits until the stored ranges are applied or under review, and returns what holds then.
async fn wait_until_applied(cx: &CallContext<'_>, args: &CallArgs, target: &dyn Provider) -> Result<Value> {
    let network = target.network()?;
    if let Some(shown) = known::applied(cx, args, target, || poll_ranges(network)).await? {
        return Ok(shown);
    }
    let mut late =
        allowed_to_json(&normalize_allowed(network.allowed().await.map_err(Error::with_side_effects)?));
    if late["applied"] == false
        && let Some(warnings) = late["warnings"].as_array_mut()
    {
        warnings.push("the ranges are stored, and were not applied while they were waited for".into());
    }
    Ok(late)
}

async fn poll_ranges(network: &dyn Network) -> Result<JobStatus> {
    let allowed = normalize_allowed(network.allowed().await?);
    let is_under_review = allowed.ranges.iter().any(|range| range.status == "pending");
    if allowed.applied || is_under_review {
        return Ok(JobStatus::Done(allowed_to_json(&allowed)));
    }
    Ok(JobStatus::Running(Progress {
        again_in: Some(Span::from_secs(2)),
        ..Progress::with_phase("applying the ranges")
    }))
}

/// Returns the ranges that hold: where none is stored and none is applied, everybody may connect.
fn normalize_allowed(mut allowed: NetworkRestrictions) -> NetworkRestrictions {
    if !allowed.ranges.is_empty() {
        return allowed;
    }
    if allowed.applied {
        allowed.warnings.push("no range may connect".into());
        return allowed;
    }
    let everybody = [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())];
    allowed.ranges = everybody.map(|cidr| AllowedRange { cidr, status: "stored".into() }).into();
    allowed
}

/// Returns the result, with a warning for every open range that makes others void.
fn allowed_to_json(allowed: &NetworkRestrictions) -> Value {
    let mut warnings = allowed.warnings.clone();
    for open in allowed.ranges.iter().map(|range| range.cidr).filter(is_open_range) {
        let same_family = |net: &&IpNet| open.contains(*net) && **net != open;
        let void: Vec<String> =
            allowed_nets(allowed).iter().filter(same_family).map(|net| format!("`{net}`")).collect();
        if !void.is_empty() {
            warnings.push(format!("`{open}` lets everybody in, so {} restricts nothing", void.join(", ")));
        }
    }
    json!({
        "open": allowed.ranges.iter().any(|range| is_open_range(&range.cidr)),
        "applied": allowed.applied,
        "ranges": allowed.ranges,
        "warnings": warnings,
    })
}

fn is_open_range(net: &IpNet) -> bool {
    net.prefix_len() == 0
}

fn allowed_nets(allowed: &NetworkRestrictions) -> Vec<IpNet> {
    allowed.ranges.iter().map(|range| range.cidr).collect()
}

/// Returns the ranges sorted and without duplicates, so that two lists compare equal.
fn nets_to_json(nets: &[IpNet]) -> Value {
    let mut nets = nets.to_vec();
    nets.sort_unstable();
    nets.dedup();
    json!(nets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(ranges: &[&str]) -> NetworkRestrictions {
        let range =
            |text: &&str| AllowedRange { cidr: text.parse().expect("a range"), status: "applied".into() };
        NetworkRestrictions { ranges: ranges.iter().map(range).collect(), applied: true, warnings: vec![] }
    }

    #[test]
    fn nothing_that_restricts_is_everybody() {
        let shut = allowed_to_json(&normalize_allowed(allowed(&[])));
        assert_eq!((&shut["open"], &shut["warnings"]), (&json!(false), &json!(["no range may connect"])));
        let shown =
            allowed_to_json(&normalize_allowed(NetworkRestrictions { applied: false, ..allowed(&[]) }));
        assert_eq!(shown["open"], true);
        assert_eq!(
            shown["ranges"],
            json!([{"cidr": "0.0.0.0/0", "status": "stored"}, {"cidr": "::/0", "status": "stored"}])
        );
        assert_eq!(shown["warnings"], json!([]));
    }

    #[test]
    fn an_open_range_makes_void_those_of_its_family() {
        let half_open =
            allowed_to_json(&normalize_allowed(allowed(&["203.0.113.0/24", "2001:db8::/32", "::/0"])));
        assert_eq!(
            half_open["warnings"],
            json!(["`::/0` lets everybody in, so `2001:db8::/32` restricts nothing"])
        );
        let shut = allowed_to_json(&normalize_allowed(allowed(&["203.0.113.0/24"])));
        assert_eq!((&shut["open"], &shut["warnings"]), (&json!(false), &json!([])));
    }
}
