//! `network::restrictions`: list, add, remove.
//!
//! The list of a target that nothing restricts shows `0.0.0.0/0` and `::/0`; it is never empty. To add a range to it asks
//! for that range only: who may connect still may, and a list that somebody closes meanwhile stays closed.

use super::{
    args::CallArgs,
    evidence::{ElementChange, ElementChanges, parse_element},
    protocol::{PlannedFrom, SetEffect, SetLook, begin_or_continue_set},
    spec::{
        CallContext, Effect, EffectResult, Field, Operation, Param, ParamKind, ParamSlot, Protocol,
        ReturnShape, TARGET, field,
    },
    thing::Thing,
};
use crate::{
    base::{lock::lock_unpoisoned, suggest},
    provider::{
        Code, Error, Network, Result,
        model::{AllowedRange, EffectKind, NetworkRestrictions},
    },
};
use async_trait::async_trait;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Mutex, OnceLock},
};

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
                    "false: where everybody may connect everybody still may, and the range is void until that ends",
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
    Ok(allowed_to_json(&fill_in_open_ranges(target.network()?.allowed_ranges().await?)))
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
    let effect = RangeEffect {
        thing: Thing::named(args, "ranges")?,
        network: target.network()?,
        change,
        open_before: OnceLock::new(),
        seen: Mutex::default(),
    };
    begin_or_continue_set(cx, args, &*target, &effect).await
}

/// Makes ranges present or absent: an element is a range, its value whether it may connect.
struct RangeEffect<'a> {
    thing: Thing,
    network: &'a dyn Network,
    change: RangeChange,
    /// The ranges that let everybody in before, and that the call leaves as they are.
    open_before: OnceLock<Vec<IpNet>>,
    /// The ranges that the last plan has seen.
    seen: Mutex<Vec<IpNet>>,
}

impl RangeEffect<'_> {
    /// Says that a range which let everybody in is gone, though this call did not ask for that.
    fn describe_lost_open_range(&self, now: &[String]) -> Option<String> {
        let gone = self.open_before.get()?.iter().map(ToString::to_string);
        let gone: Vec<String> = gone.filter(|net| !now.contains(net)).map(|net| format!("`{net}`")).collect();
        (!gone.is_empty()).then(|| {
            format!(
                "{} let everybody in before this change and is gone, by the platform or by somebody else: only the listed ranges may connect",
                gone.join(", ")
            )
        })
    }
}

#[async_trait]
impl SetEffect for RangeEffect<'_> {
    fn name_effect_for_messages(&self) -> &'static str {
        "the list of ranges"
    }

    fn kind(&self) -> EffectKind {
        EffectKind::Ranges
    }

    fn changed_things(&self) -> Vec<Thing> {
        vec![self.thing.clone()]
    }

    async fn plan(&self) -> Result<ElementChanges> {
        let now = allowed_nets(&fill_in_open_ranges(self.network.allowed_ranges().await?));
        lock_unpoisoned(&self.seen).clone_from(&now);
        let element = |net: &IpNet, wanted: bool| {
            let before = now.contains(net).into();
            (net.to_string(), ElementChange { before, wanted: wanted.into() })
        };
        match &self.change {
            RangeChange::Add { ranges, exclusive } => {
                let kept = now.iter().filter(|net| !exclusive && is_open_range(net));
                self.open_before.get_or_init(|| kept.copied().collect());
                let added = ranges.iter().map(|net| element(net, true));
                // Also what is not there now: somebody may add it before the change takes effect.
                let open =
                    ranges_open_to_all().into_iter().filter(|_| *exclusive).map(|net| element(&net, false));
                Ok(added.chain(open).collect())
            }
            RangeChange::Remove { ranges } => {
                check_ranges_removable(&now, ranges)?;
                Ok(ranges.iter().map(|net| element(net, false)).collect())
            }
        }
    }

    /// Whether a range would be left depends on all of them.
    fn planned_from(&self) -> Option<PlannedFrom> {
        let RangeChange::Remove { .. } = self.change else { return None };
        let seen = lock_unpoisoned(&self.seen);
        let shown = seen.iter().map(|net| (format!("ranges/{net}"), true.into())).collect();
        Some(PlannedFrom::elements(&self.thing, "ranges/", shown, false.into()))
    }

    async fn look(&self, changes: &ElementChanges) -> Result<SetLook> {
        let allowed = fill_in_open_ranges(self.network.allowed_ranges().await?);
        let stored: Vec<String> = allowed_nets(&allowed).iter().map(ToString::to_string).collect();
        let elements: BTreeMap<String, Value> =
            changes.keys().map(|net| (net.clone(), stored.contains(net).into())).collect();
        let mut shown = allowed_to_json(&allowed);
        if let Some(warning) = self.describe_lost_open_range(&stored)
            && let Some(warnings) = shown["warnings"].as_array_mut()
        {
            warnings.push(warning.into());
        }
        Ok(SetLook { unapplied: describe_unapplied_ranges(changes, &elements, &allowed), elements, shown })
    }

    async fn send_request(&self, changes: &ElementChanges) -> Result<()> {
        let of = |wanted: bool| -> Result<Vec<IpNet>> {
            let names = changes.iter().filter(|(_, change)| change.wanted == wanted).map(|(name, _)| name);
            names.map(|name| parse_element(name)).collect()
        };
        self.network.change_ranges(&of(true)?, &of(false)?).await.map(drop)
    }

    fn result(&self, _: &ElementChanges, look: SetLook) -> Value {
        look.shown
    }
}

/// Says what of a change is not so yet: the ranges that are not as wanted, else what keeps them from being enforced.
fn describe_unapplied_ranges(
    changes: &ElementChanges,
    elements: &BTreeMap<String, Value>,
    allowed: &NetworkRestrictions,
) -> Option<String> {
    let missing = changes.iter().filter(|(net, change)| elements.get(*net) != Some(&change.wanted));
    let missing: Vec<String> = missing
        .map(|(net, change)| match change.wanted.as_bool() {
            Some(true) => format!("`{net}` is not in the list of ranges yet"),
            _ => format!("`{net}` is still in the list of ranges"),
        })
        .collect();
    if !missing.is_empty() {
        return Some(missing.join(", "));
    }
    if allowed.ranges.iter().any(|range| range.status == "pending") {
        return Some("a change of the ranges is under review".into());
    }
    (!allowed.applied).then(|| "the ranges are stored and not enforced yet".into())
}

/// Refuses to remove what is not there, and the last range.
fn check_ranges_removable(now: &[IpNet], remove: &[IpNet]) -> Result<()> {
    if let Some(missing) = remove.iter().find(|net| !now.contains(net)) {
        let known: Vec<String> = now.iter().map(ToString::to_string).collect();
        return Err(Error::new(
            Code::NotFound,
            format!("the range `{missing}` is not among those that may connect"),
        )
        .with_hint(suggest::suggest_name_or_list_known(
            &missing.to_string(),
            known.iter().map(String::as_str),
        )));
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
fn fill_in_open_ranges(mut allowed: NetworkRestrictions) -> NetworkRestrictions {
    if !allowed.ranges.is_empty() {
        return allowed;
    }
    if allowed.applied {
        allowed.warnings.push("no range may connect".into());
        return allowed;
    }
    allowed.ranges = ranges_open_to_all().map(|cidr| AllowedRange { cidr, status: "stored".into() }).into();
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

/// Returns the ranges that let everybody in.
fn ranges_open_to_all() -> [IpNet; 2] {
    [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())]
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
        let shut = allowed_to_json(&fill_in_open_ranges(allowed(&[])));
        assert_eq!((&shut["open"], &shut["warnings"]), (&json!(false), &json!(["no range may connect"])));
        let shown =
            allowed_to_json(&fill_in_open_ranges(NetworkRestrictions { applied: false, ..allowed(&[]) }));
        assert_eq!(shown["open"], true);
        assert_eq!(
            shown["ranges"],
            json!([{"cidr": "0.0.0.0/0", "status": "stored"}, {"cidr": "::/0", "status": "stored"}])
        );
        assert_eq!(shown["warnings"], json!([]));
    }

    #[test]
    fn what_is_not_so_yet_is_said_by_its_range() {
        let change = |wanted: bool| ElementChange { before: (!wanted).into(), wanted: wanted.into() };
        let changes: ElementChanges =
            [("0.0.0.0/0".to_owned(), change(false)), ("203.0.113.0/24".to_owned(), change(true))].into();
        let said = |applied: bool, elements: [bool; 2]| {
            let found = changes.keys().cloned().zip(elements.map(Value::from)).collect();
            describe_unapplied_ranges(&changes, &found, &NetworkRestrictions { applied, ..allowed(&[]) })
        };
        let as_before =
            "`0.0.0.0/0` is still in the list of ranges, `203.0.113.0/24` is not in the list of ranges yet";
        assert_eq!(said(true, [true, false]).as_deref(), Some(as_before));
        let in_part = "`0.0.0.0/0` is still in the list of ranges";
        assert_eq!(said(false, [true, true]).as_deref(), Some(in_part));
        let stored = "the ranges are stored and not enforced yet";
        assert_eq!(said(false, [false, true]).as_deref(), Some(stored));
        assert_eq!(said(true, [false, true]), None);
    }

    #[test]
    fn an_open_range_makes_void_those_of_its_family() {
        let half_open =
            allowed_to_json(&fill_in_open_ranges(allowed(&["203.0.113.0/24", "2001:db8::/32", "::/0"])));
        assert_eq!(
            half_open["warnings"],
            json!(["`::/0` lets everybody in, so `2001:db8::/32` restricts nothing"])
        );
        let shut = allowed_to_json(&fill_in_open_ranges(allowed(&["203.0.113.0/24"])));
        assert_eq!((&shut["open"], &shut["warnings"]), (&json!(false), &json!([])));
    }
}
