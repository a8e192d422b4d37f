//! `network::restrictions`: list, add, remove.
//!
//! The list of a target that nothing restricts shows `0.0.0.0/0` and `::/0`; it is never empty.

use super::{
    args::CallArgs,
    evidence::{ElementChange, ElementChanges, parse_element},
    protocol::{SetEffect, SetLook, take_set},
    spec::{
        CallContext, Effect, EffectResult, Field, Operation, Param, ParamKind, ParamSlot, Protocol,
        ReturnShape, TARGET, field,
    },
    thing::Thing,
};
use crate::{
    base::suggest,
    provider::{
        Code, Error, Network, Result,
        model::{AllowedRange, EffectKind, NetworkRestrictions},
    },
};
use async_trait::async_trait;
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
        protocol: Protocol::Read(|cx, args| Box::pin(list_ranges(cx, args))),
        examples: &[r#"network::restrictions::list("sandbox")"#],
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
        protocol: Protocol::Effect(|cx, args| Box::pin(add_ranges(cx, args))),
        examples: &[r#"network::restrictions::add("sandbox", "203.0.113.0/24", #{ exclusive: true })"#],
    },
    Operation {
        namespace: "network::restrictions",
        name: "remove",
        summary: "Let ranges of addresses connect no longer",
        params: &[TARGET, CIDRS],
        returns: ReturnShape::One(RANGE_FIELDS),
        effect: Effect::Change,
        needs: None,
        protocol: Protocol::Effect(|cx, args| Box::pin(remove_ranges(cx, args))),
        examples: &[
            r#"network::restrictions::add("sandbox", "198.51.100.0/24"); network::restrictions::remove("sandbox", "198.51.100.0/24")"#,
        ],
    },
];

async fn list_ranges(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    let target = cx.open_target(args.get("target")).await?;
    Ok(allowed_to_json(&normalize_allowed(target.network()?.allowed().await?)))
}

async fn add_ranges(cx: &CallContext<'_>, args: &CallArgs) -> EffectResult<Value> {
    let add: Vec<IpNet> = args.get_list("cidrs");
    let exclusive = args.get_flag("exclusive");
    if let Some(open) = add.iter().find(|net| exclusive && is_open_range(net)) {
        return Err(Error::new(
            Code::Invalid,
            format!("`{open}` lets everybody in, and `exclusive` lets nobody else"),
        )
        .with_hint("leave one of the two out")
        .into());
    }
    change_ranges(cx, args, RangeChange::Add { ranges: add, exclusive }).await
}

async fn remove_ranges(cx: &CallContext<'_>, args: &CallArgs) -> EffectResult<Value> {
    change_ranges(cx, args, RangeChange::Remove { ranges: args.get_list("cidrs") }).await
}

/// A change of the allowed ranges, as a call asks for it.
enum RangeChange {
    Add { ranges: Vec<IpNet>, exclusive: bool },
    Remove { ranges: Vec<IpNet> },
}

async fn change_ranges(cx: &CallContext<'_>, args: &CallArgs, change: RangeChange) -> EffectResult<Value> {
    let target = cx.open_target(args.get("target")).await?;
    let effect = RangeEffect { thing: Thing::named(args, "ranges")?, network: target.network()?, change };
    take_set(cx, args, &*target, &effect).await
}

/// Makes ranges present or absent: an element is a range, its value whether it may connect.
struct RangeEffect<'a> {
    thing: Thing,
    network: &'a dyn Network,
    change: RangeChange,
}

#[async_trait]
impl SetEffect for RangeEffect<'_> {
    fn subject(&self) -> &'static str {
        "the list of ranges"
    }

    fn kind(&self) -> EffectKind {
        EffectKind::Ranges
    }

    fn things(&self) -> Vec<Thing> {
        vec![self.thing.clone()]
    }

    async fn plan(&self) -> Result<ElementChanges> {
        let now = allowed_nets(&normalize_allowed(self.network.allowed().await?));
        let element = |net: &IpNet, wanted: bool| {
            let before = now.contains(net).into();
            (net.to_string(), ElementChange { before, wanted: wanted.into() })
        };
        match &self.change {
            RangeChange::Add { ranges, exclusive } => {
                let added = ranges.iter().map(|net| element(net, true));
                let open =
                    now.iter().filter(|net| *exclusive && is_open_range(net)).map(|net| element(net, false));
                Ok(added.chain(open).collect())
            }
            RangeChange::Remove { ranges } => {
                check_removable(&now, ranges)?;
                Ok(ranges.iter().map(|net| element(net, false)).collect())
            }
        }
    }

    async fn look(&self, changes: &ElementChanges) -> Result<SetLook> {
        let allowed = normalize_allowed(self.network.allowed().await?);
        let stored: Vec<String> = allowed_nets(&allowed).iter().map(ToString::to_string).collect();
        let is_under_review = allowed.ranges.iter().any(|range| range.status == "pending");
        let elements = changes.keys().map(|net| (net.clone(), stored.contains(net).into())).collect();
        let doing =
            if is_under_review { "a change is under review" } else { "they are stored and not enforced yet" };
        Ok(SetLook {
            elements,
            unapplied: (!allowed.applied).then(|| doing.to_owned()),
            shown: allowed_to_json(&allowed),
        })
    }

    async fn ask(&self, changes: &ElementChanges) -> Result<()> {
        let of = |wanted: bool| -> Result<Vec<IpNet>> {
            let names = changes.iter().filter(|(_, change)| change.wanted == wanted).map(|(name, _)| name);
            names.map(|name| parse_element(name)).collect()
        };
        self.network.allow(&of(true)?, &of(false)?).await.map(drop)
    }

    fn result(&self, _: &ElementChanges, look: SetLook) -> Value {
        look.shown
    }
}

/// Refuses to remove what is not there, and the last range.
fn check_removable(now: &[IpNet], remove: &[IpNet]) -> Result<()> {
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
    Ok(())
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
