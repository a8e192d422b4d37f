//! The list of ranges that may connect.
//!
//! A list is enforced only once it is `applied`: `stored` is not yet, and a change under review waits for approval. A
//! project on which nothing was ever restricted lists nothing, or what lets everybody in.

use super::address_item::AddressItem;
use crate::provider::{
    Code, Error, Result,
    model::{AllowedRange, NetworkRestrictions},
    supabase::transport::unreadable_answer_error,
};
use ipnet::{IpNet, Ipv4Net};
use serde::Deserialize;
use serde_json::{Value, json};
use std::net::IpAddr;

/// What the platform says of the ranges that may connect.
#[derive(Deserialize)]
pub(super) struct RestrictionsAnswer {
    entitlement: String,
    status: String,
    config: RangeLists,
    old_config: Option<RangeLists>,
    pending_config: Option<RangeLists>,
    pending_requested_at: Option<String>,
    applied_at: Option<String>,
}

/// Ranges, a list for each family; a project on which nothing was ever restricted has neither.
#[derive(Deserialize)]
struct RangeLists {
    #[serde(rename = "dbAllowedCidrs")]
    four: Option<Vec<AddressItem>>,
    #[serde(rename = "dbAllowedCidrsV6")]
    six: Option<Vec<AddressItem>>,
}

/// The network restrictions of a project.
#[derive(Clone)]
pub(in crate::provider::supabase) struct RestrictionsResponse {
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
    add: Vec<IpNet>,
    remove: Vec<IpNet>,
}

/// Ranges split by address family, the form of the API's request bodies.
pub(super) struct RangesByFamily {
    four: Vec<IpNet>,
    six: Vec<IpNet>,
}

impl RestrictionsResponse {
    /// Reads the platform's answer.
    ///
    /// # Errors
    /// [`Code::Unavailable`] for a range that cannot be parsed, as skipping it would report it as absent; and for a list
    /// that is applied and missing, which would read as nobody.
    pub(super) fn from_answer(answer: &RestrictionsAnswer) -> Result<Self> {
        let is_applied = answer.status == "applied";
        let config = &answer.config;
        if is_applied && config.four.is_none() && config.six.is_none() {
            return Err(restrictions_error("`config.dbAllowedCidrs` is missing"));
        }
        let other = |lists: &Option<RangeLists>| lists.as_ref().map(RangeLists::parse_ranges).transpose();
        let old = other(&answer.old_config)?;
        let has_old = old.as_ref().is_some_and(|ranges| !ranges.is_empty());
        Ok(Self {
            is_entitled: answer.entitlement != "disallowed",
            is_applied,
            was_ever_applied: is_applied || answer.applied_at.is_some() || has_old,
            ranges: config.parse_ranges()?,
            old,
            pending: other(&answer.pending_config)?,
            pending_since: answer.pending_requested_at.clone(),
        })
    }

    /// Returns whether any address may connect once the list is enforced.
    pub(in crate::provider::supabase) fn admits_everybody(&self) -> bool {
        (self.ranges.is_empty() && !self.is_applied) || self.ranges.iter().any(|net| net.prefix_len() == 0)
    }

    /// Returns whether the list is enforced.
    pub(in crate::provider::supabase) fn is_applied(&self) -> bool {
        self.is_applied
    }

    /// Returns whether a change awaits its review.
    pub(in crate::provider::supabase) fn is_under_review(&self) -> bool {
        self.pending.is_some()
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
    pub(super) fn check_restrictions_changeable(&self) -> Result<()> {
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

    /// Returns the restrictions as they are stored with a change, which is not enforced yet as far as is known.
    pub(super) fn with_change(&self, change: &RestrictionChange) -> Self {
        let mut changed = self.clone();
        if change.is_empty() {
            return changed;
        }
        if self.is_applied {
            changed.old = Some(self.ranges.clone());
        }
        changed.is_applied = false;
        changed.ranges.retain(|net| !change.remove.contains(net) && !change.add.contains(net));
        changed.ranges.extend(&change.add);
        changed
    }

    fn collect_warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> = self.describe_if_not_enforced().into_iter().collect();
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

    /// Says what holds instead of a list that is not enforced.
    fn describe_if_not_enforced(&self) -> Option<String> {
        if self.is_applied {
            return None;
        }
        if !self.was_ever_applied {
            return Some(if self.ranges.is_empty() {
                "no restriction was ever applied: everybody may connect".into()
            } else {
                "the ranges are stored and not enforced yet: everybody may connect until they are".into()
            });
        }
        let going = self.old.iter().flatten().filter(|net| !self.ranges.contains(net));
        let going = going.map(|net| format!("`{net}`")).collect::<Vec<_>>();
        let meanwhile = if going.is_empty() {
            String::new()
        } else {
            format!(": until they are, {} may still connect", going.join(", "))
        };
        Some(format!("the ranges are stored and not enforced yet{meanwhile}"))
    }

    fn format_pending_since(&self) -> String {
        self.pending_since.as_ref().map(|at| format!(" since {at}")).unwrap_or_default()
    }
}

impl RestrictionChange {
    /// Returns the change after which `add` may connect and `remove` may not: these and no others, also what the list
    /// has already, since a look may lag behind.
    ///
    /// The ranges that let everybody in while nothing is listed are not added to it. The platform keeps them when others
    /// come, and a request that named them would open a project that somebody has closed by the time it lands.
    pub(super) fn new(add: &[IpNet], remove: &[IpNet]) -> Self {
        let add: Vec<IpNet> = add.iter().map(normalize_family).collect();
        let remove = remove.iter().map(normalize_family).filter(|net| !add.contains(net)).collect();
        Self { add, remove }
    }

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

impl RangeLists {
    fn parse_ranges(&self) -> Result<Vec<IpNet>> {
        let items = [&self.four, &self.six].into_iter().flatten().flatten();
        items.map(|item| parse_range(item.as_text())).collect()
    }
}

fn parse_range(text: &str) -> Result<IpNet> {
    let read = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    read.map(|net| normalize_family(&net))
        .ok_or_else(|| restrictions_error(&format!("`{text}` is no range of addresses")))
}

fn restrictions_error(why: &str) -> Error {
    unreadable_answer_error("`…/network-restrictions`", why)
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
