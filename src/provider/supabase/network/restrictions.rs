//! The list of ranges that may connect, in both of the shapes in which the API gives it.
//!
//! `GET` and `apply` return two lists of strings, `PATCH` one list of typed objects. A list is enforced
//! only once it is `applied`: `stored` is not yet, and a change under review waits for approval.

use crate::provider::{
    Code, Error, Result,
    model::{AllowedRange, NetworkRestrictions},
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde_json::{Value, json};
use std::net::IpAddr;

/// The network restrictions of a project.
pub(super) struct RestrictionsResponse {
    /// Whether the plan includes network restrictions.
    is_entitled: bool,
    /// Whether `ranges` are enforced.
    is_applied: bool,
    /// Whether any ranges were ever enforced.
    was_ever_applied: bool,
    ranges: Vec<IpNet>,
    /// The ranges that are enforced until `ranges` are.
    old: Option<Vec<IpNet>>,
    /// A requested list that awaits review.
    pending: Option<Vec<IpNet>>,
    /// When the pending list was requested.
    pending_since: Option<String>,
}

/// A change of the allowed ranges.
pub(super) struct RestrictionChange {
    /// The complete list after the change.
    pub wanted: Vec<IpNet>,
    add: Vec<IpNet>,
    remove: Vec<IpNet>,
}

/// Ranges split by address family, the form of the API's request bodies.
pub(super) struct RangesByFamily {
    four: Vec<IpNet>,
    six: Vec<IpNet>,
}

impl RestrictionsResponse {
    /// Reads the list in either shape.
    ///
    /// # Errors
    /// [`Code::Internal`] for a range that cannot be parsed; skipping it would report it as absent.
    pub(super) fn from_json(answer: &Value) -> Result<Self> {
        let status = answer["status"].as_str().unwrap_or_default();
        let other = |name: &str| answer.get(name).filter(|c| !c.is_null()).map(parse_ranges).transpose();
        let since = &answer["pending_requested_at"];
        Ok(Self {
            is_entitled: answer["entitlement"] != "disallowed",
            is_applied: status == "applied",
            was_ever_applied: status == "applied" || !answer["applied_at"].is_null(),
            ranges: parse_ranges(&answer["config"])?,
            old: other("old_config")?,
            pending: other("pending_config")?,
            pending_since: since.as_str().map(str::to_owned),
        })
    }

    /// Returns who may connect.
    pub(super) fn to_network_restrictions(&self) -> NetworkRestrictions {
        let enforced =
            |net: &IpNet| self.is_applied || self.old.as_ref().is_some_and(|old| old.contains(net));
        let shown =
            self.ranges.iter().map(|net| build_range(*net, if enforced(net) { "applied" } else { "stored" }));
        let pending = self.pending.iter().flatten().filter(|net| !self.ranges.contains(net));
        let ranges = shown.chain(pending.map(|net| build_range(*net, "pending"))).collect();
        NetworkRestrictions {
            ranges,
            applied: self.is_applied && self.pending.is_none(),
            warnings: self.collect_warnings(),
        }
    }

    /// Refuses a change that could not take effect.
    ///
    /// # Errors
    /// [`Code::Unsupported`] where the plan has no restrictions; [`Code::Refused`] while a change is under review.
    pub(super) fn check_changeable(&self) -> Result<()> {
        if !self.is_entitled {
            return Err(Error::unsupported(
                "this project needs the Pro plan or above for network restrictions",
                "see the firewall of whoever connects, and keep the password secret",
            ));
        }
        if self.pending.is_some() {
            return Err(Error::new(Code::Refused, format!("a change of the ranges is under review{}", self.format_pending_since()))
                .with_hint(format!(
                    "agree or refuse first: `supabase::api(target, \"POST\", \"/v1/projects/…/network-restrictions/review\", #{{ body: #{{ action: \"apply\", requested_at: \"{}\" }} }})`",
                    self.pending_since.as_deref().unwrap_or("…")
                )));
        }
        Ok(())
    }

    /// Returns the change after which `add` may connect and `remove` may not.
    ///
    /// An empty list lets everybody in. The change then starts from `0.0.0.0/0` and `::/0`, so that adding a
    /// range does not close one address family and leave the other open.
    pub(super) fn plan_change(&self, add: &[IpNet], remove: &[IpNet]) -> RestrictionChange {
        let everybody = [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())];
        let now = if self.ranges.is_empty() { everybody.to_vec() } else { self.ranges.clone() };
        let (add, remove): (Vec<_>, Vec<_>) =
            (add.iter().map(normalize_family).collect(), remove.iter().map(normalize_family).collect());
        let mut wanted: Vec<IpNet> = now.into_iter().filter(|net| !remove.contains(net)).collect();
        wanted.extend(add.iter().filter(|net| !wanted.contains(net)).copied().collect::<Vec<_>>());
        RestrictionChange {
            add: wanted.iter().filter(|net| !self.ranges.contains(net)).copied().collect(),
            // Also what is not listed: a list that was never applied may be open without saying so.
            remove: remove.iter().filter(|net| !wanted.contains(net)).copied().collect(),
            wanted,
        }
    }

    fn collect_warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.was_ever_applied {
            warnings.push("no restriction was ever applied: everybody may connect".into());
        } else if !self.is_applied {
            warnings.push("the ranges are stored and not enforced yet".into());
        }
        if self.pending.is_some() {
            warnings.push(format!(
                "a change is under review{}, and not enforced before somebody agrees",
                self.format_pending_since()
            ));
        }
        let lists = RangesByFamily::from_ranges(&self.ranges);
        if !lists.four.is_empty() && lists.six.is_empty() {
            warnings.push("no IPv6 range may connect, and the direct host has only an IPv6 address without the IPv4 add-on: connect through the pooler".into());
        }
        let private = self.ranges.iter().filter(|net| is_private_range(net)).map(|net| format!("`{net}`"));
        let private = private.collect::<Vec<_>>();
        if !private.is_empty() {
            warnings.push(format!(
                "{} is a private range, from which nobody comes over the internet",
                private.join(", ")
            ));
        }
        warnings
    }

    fn format_pending_since(&self) -> String {
        self.pending_since.as_ref().map(|at| format!(" since {at}")).unwrap_or_default()
    }
}

impl RestrictionChange {
    /// Returns whether there is nothing to do.
    pub(super) fn is_empty(&self) -> bool {
        self.add.is_empty() && self.remove.is_empty()
    }

    /// Returns the `PATCH` body, which adds and removes in one request.
    pub(super) fn to_patch_body(&self) -> Value {
        json!({ "add": RangesByFamily::from_ranges(&self.add).to_json(), "remove": RangesByFamily::from_ranges(&self.remove).to_json() })
    }
}

impl RangesByFamily {
    /// Sorts ranges by family.
    pub(super) fn from_ranges(nets: &[IpNet]) -> Self {
        let (four, six) = nets.iter().map(normalize_family).partition(|net| matches!(net, IpNet::V4(_)));
        Self { four, six }
    }

    /// Returns both lists: the API empties a list that the body leaves out.
    pub(super) fn to_json(&self) -> Value {
        json!({ "dbAllowedCidrs": self.four, "dbAllowedCidrsV6": self.six })
    }
}

fn build_range(cidr: IpNet, status: &str) -> AllowedRange {
    AllowedRange { cidr, status: status.into() }
}

fn parse_ranges(config: &Value) -> Result<Vec<IpNet>> {
    let lists = ["dbAllowedCidrs", "dbAllowedCidrsV6"]
        .map(|name| config[name].as_array().cloned().unwrap_or_default());
    let text = |item: &Value| item["address"].as_str().or(item.as_str()).unwrap_or_default().to_owned();
    lists.iter().flatten().map(text).map(|text| parse_range(&text)).collect()
}

fn parse_range(text: &str) -> Result<IpNet> {
    let read = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    read.map(|net| normalize_family(&net))
        .ok_or_else(|| Error::new(Code::Internal, format!("the API calls `{text}` a range of addresses")))
}

/// Converts IPv4-mapped IPv6 ranges to IPv4 (`::ffff:192.0.2.0/120`) and truncates host bits.
fn normalize_family(net: &IpNet) -> IpNet {
    match net {
        IpNet::V6(six) => six
            .addr()
            .to_ipv4_mapped()
            .and_then(|four| Ipv4Net::new(four, six.prefix_len().checked_sub(96)?).ok())
            .map_or(*net, IpNet::V4),
        IpNet::V4(_) => *net,
    }
    .trunc()
}

fn is_private_range(net: &IpNet) -> bool {
    match net {
        IpNet::V4(four) => {
            let shared = Ipv4Net::new([100, 64, 0, 0].into(), 10).is_ok_and(|shared| shared.contains(four));
            let first = four.network();
            net.prefix_len() > 0
                && (first.is_private() || first.is_loopback() || first.is_link_local() || shared)
        }
        IpNet::V6(six) => {
            let first = six.network().segments()[0];
            net.prefix_len() > 0
                && (six.network().is_loopback() || first & 0xfe00 == 0xfc00 || first & 0xffc0 == 0xfe80)
        }
    }
}
