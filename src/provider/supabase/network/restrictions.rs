//! The list of ranges that may connect, in both of the shapes in which the API gives it.
//!
//! `GET` and `apply` give two lists of texts; `PATCH` gives one list of objects with a type. What is shown is enforced
//! only when it is `applied`: what is `stored` is not yet, and a change under review never will be by itself.

use crate::provider::{
    Code, Error, Result,
    model::{Allowed, Range},
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde_json::{Value, json};
use std::net::IpAddr;

/// What the API says of the restrictions.
pub(super) struct Restrictions {
    /// Whether the plan has them.
    is_entitled: bool,
    /// Whether `ranges` are enforced.
    is_applied: bool,
    /// Whether any were ever.
    was_ever_applied: bool,
    ranges: Vec<IpNet>,
    /// Those that are enforced until `ranges` are.
    old: Option<Vec<IpNet>>,
    /// Those that somebody asked for and somebody else has to agree to.
    pending: Option<Vec<IpNet>>,
    /// When that was asked for.
    pending_since: Option<String>,
}

/// What is to become of the ranges.
pub(super) struct Change {
    /// What is to be there in the end.
    pub wanted: Vec<IpNet>,
    add: Vec<IpNet>,
    remove: Vec<IpNet>,
}

/// Ranges by family, as the API wants them.
pub(super) struct Lists {
    four: Vec<IpNet>,
    six: Vec<IpNet>,
}

impl Restrictions {
    /// Reads either shape.
    ///
    /// # Errors
    /// [`Code::Internal`] for a range that is none: to leave it out would be to say that it is not there.
    pub(super) fn read(said: &Value) -> Result<Self> {
        let status = said["status"].as_str().unwrap_or_default();
        let other = |name: &str| said.get(name).filter(|c| !c.is_null()).map(ranges).transpose();
        let since = &said["pending_requested_at"];
        Ok(Self {
            is_entitled: said["entitlement"] != "disallowed",
            is_applied: status == "applied",
            was_ever_applied: status == "applied" || !said["applied_at"].is_null(),
            ranges: ranges(&said["config"])?,
            old: other("old_config")?,
            pending: other("pending_config")?,
            pending_since: since.as_str().map(str::to_owned),
        })
    }

    /// Returns who may connect.
    pub(super) fn allowed(&self) -> Allowed {
        let enforced =
            |net: &IpNet| self.is_applied || self.old.as_ref().is_some_and(|old| old.contains(net));
        let shown =
            self.ranges.iter().map(|net| range(*net, if enforced(net) { "applied" } else { "stored" }));
        let pending = self.pending.iter().flatten().filter(|net| !self.ranges.contains(net));
        let ranges = shown.chain(pending.map(|net| range(*net, "pending"))).collect();
        Allowed { ranges, applied: self.is_applied && self.pending.is_none(), warnings: self.warnings() }
    }

    /// Refuses where a change would come to nothing.
    ///
    /// # Errors
    /// [`Code::Unsupported`] where the plan has no restrictions; [`Code::Refused`] while a change is under review.
    pub(super) fn demand_changeable(&self) -> Result<()> {
        if !self.is_entitled {
            return Err(Error::unsupported(
                "this project needs the Pro plan or above for network restrictions",
                "see the firewall of whoever connects, and keep the password secret",
            ));
        }
        if self.pending.is_some() {
            return Err(Error::new(Code::Refused, format!("a change of the ranges is under review{}", self.since()))
                .hint(format!(
                    "agree or refuse first: `supabase::api(target, \"POST\", \"/v1/projects/…/network-restrictions/review\", #{{ body: #{{ action: \"apply\", requested_at: \"{}\" }} }})`",
                    self.pending_since.as_deref().unwrap_or("…")
                )));
        }
        Ok(())
    }

    /// Returns what to ask for so that `add` are in and `remove` are out.
    ///
    /// Nothing listed is everybody: what is open is then named, so that adding a range does not shut everybody else out
    /// in one family and leave the other open.
    pub(super) fn change(&self, add: &[IpNet], remove: &[IpNet]) -> Change {
        let everybody = [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())];
        let now = if self.ranges.is_empty() { everybody.to_vec() } else { self.ranges.clone() };
        let (add, remove): (Vec<_>, Vec<_>) =
            (add.iter().map(by_family).collect(), remove.iter().map(by_family).collect());
        let mut wanted: Vec<IpNet> = now.into_iter().filter(|net| !remove.contains(net)).collect();
        wanted.extend(add.iter().filter(|net| !wanted.contains(net)).copied().collect::<Vec<_>>());
        Change {
            add: wanted.iter().filter(|net| !self.ranges.contains(net)).copied().collect(),
            // Also what is not listed: a list that was never applied may be open without saying so.
            remove: remove.iter().filter(|net| !wanted.contains(net)).copied().collect(),
            wanted,
        }
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.was_ever_applied {
            warnings.push("no restriction was ever applied: everybody may connect".into());
        } else if !self.is_applied {
            warnings.push("the ranges are stored and not enforced yet".into());
        }
        if self.pending.is_some() {
            warnings.push(format!(
                "a change is under review{}, and not enforced before somebody agrees",
                self.since()
            ));
        }
        let lists = Lists::of(&self.ranges);
        if !lists.four.is_empty() && lists.six.is_empty() {
            warnings.push("no IPv6 range may connect, and the direct host has only an IPv6 address without the IPv4 add-on: connect through the pooler".into());
        }
        let private = self.ranges.iter().filter(|net| is_private(net)).map(|net| format!("`{net}`"));
        let private = private.collect::<Vec<_>>();
        if !private.is_empty() {
            warnings.push(format!(
                "{} is a private range, from which nobody comes over the internet",
                private.join(", ")
            ));
        }
        warnings
    }

    fn since(&self) -> String {
        self.pending_since.as_ref().map(|at| format!(" since {at}")).unwrap_or_default()
    }
}

impl Change {
    /// Returns whether there is nothing to do.
    pub(super) fn is_nothing(&self) -> bool {
        self.add.is_empty() && self.remove.is_empty()
    }

    /// Returns the body that changes both in one.
    pub(super) fn patch(&self) -> Value {
        json!({ "add": Lists::of(&self.add).body(), "remove": Lists::of(&self.remove).body() })
    }
}

impl Lists {
    /// Sorts ranges by family.
    pub(super) fn of(nets: &[IpNet]) -> Self {
        let (four, six) = nets.iter().map(by_family).partition(|net| matches!(net, IpNet::V4(_)));
        Self { four, six }
    }

    /// Returns both lists: one that is left out would be emptied.
    pub(super) fn body(&self) -> Value {
        json!({ "dbAllowedCidrs": self.four, "dbAllowedCidrsV6": self.six })
    }
}

fn range(cidr: IpNet, status: &str) -> Range {
    Range { cidr, status: status.into() }
}

fn ranges(config: &Value) -> Result<Vec<IpNet>> {
    let lists = ["dbAllowedCidrs", "dbAllowedCidrsV6"]
        .map(|name| config[name].as_array().cloned().unwrap_or_default());
    let text = |item: &Value| item["address"].as_str().or(item.as_str()).unwrap_or_default().to_owned();
    lists.iter().flatten().map(text).map(|text| net(&text)).collect()
}

fn net(text: &str) -> Result<IpNet> {
    let read = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    read.map(|net| by_family(&net))
        .ok_or_else(|| Error::new(Code::Internal, format!("the API calls `{text}` a range of addresses")))
}

/// Returns a range as one of the family that its addresses belong to: `::ffff:192.0.2.0/120` is IPv4.
fn by_family(net: &IpNet) -> IpNet {
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

fn is_private(net: &IpNet) -> bool {
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
