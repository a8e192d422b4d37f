//! Network access to a simulated target. A change is stored at once, and applied some of the world's time later.

use super::{
    target::Sim,
    world::{
        WorldTx,
        switches::{RANGES, SSL, on_off},
    },
};
use crate::provider::{
    Network, Result,
    model::{AllowedRange, Ban, NetworkRestrictions, SslEnforcement},
};
use async_trait::async_trait;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde_json::json;
use std::net::IpAddr;

impl Sim {
    /// Lets ranges connect, and others no longer; `effect_kind` is what the log of effects calls it.
    pub(super) fn change_allowed_ranges(
        &self,
        effect_kind: &str,
        add: &[IpNet],
        remove: &[IpNet],
    ) -> Result<()> {
        let what = describe_changes(add, remove);
        let change = |tx: &WorldTx<'_>| {
            let before = tx.allowed_ranges()?;
            if before.is_empty() {
                // What lets everybody in is listed once anything is, and stays until it is removed.
                let since = tx.read_switch(RANGES)?.since;
                for net in &ranges_open_to_all() {
                    tx.add_range(net, since)?;
                }
            }
            for net in remove {
                tx.remove_range(net)?;
            }
            for net in add {
                tx.add_range(net, tx.now)?;
            }
            let before = if before.is_empty() {
                ranges_open_to_all().into()
            } else {
                before.into_iter().map(|r| r.0).collect::<Vec<_>>()
            };
            let is_changed = tx.allowed_ranges()?.into_iter().map(|r| r.0).ne(before);
            if is_changed {
                tx.set_switch(RANGES, "changed", tx.now)?;
            }
            Ok(is_changed.then(|| json!({ "add": add, "remove": remove })))
        };
        self.open_store()?.apply_effect_if_needed(None, effect_kind, &what, change).map(drop)
    }
}

#[async_trait]
impl Network for Sim {
    async fn allowed_ranges(&self) -> Result<NetworkRestrictions> {
        self.open_store()?.read_current_world(read_restrictions)
    }

    async fn change_ranges(&self, add: &[IpNet], remove: &[IpNet]) -> Result<NetworkRestrictions> {
        self.change_allowed_ranges("network.allow", add, remove)?;
        self.open_store()?.read_current_world(read_restrictions)
    }

    async fn bans(&self) -> Result<Vec<Ban>> {
        self.open_store()?.read_current_world(|tx| {
            Ok(tx.banned_addresses()?.into_iter().map(|address| Ban { address }).collect())
        })
    }

    async fn unban(&self, addresses: &[IpAddr]) -> Result<()> {
        let what = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let unban = |tx: &WorldTx<'_>| {
            let mut removed = Vec::new();
            for address in addresses {
                if tx.remove_ban(*address)? {
                    removed.push(address);
                }
            }
            Ok((!removed.is_empty()).then(|| json!(removed)))
        };
        self.open_store()?.apply_effect_if_needed(None, "network.unban", &what, unban).map(drop)
    }

    async fn ssl(&self) -> Result<SslEnforcement> {
        self.open_store()?.read_current_world(read_ssl_enforcement)
    }

    async fn set_ssl_enforcement(&self, enforced: bool) -> Result<SslEnforcement> {
        let store = self.open_store()?;
        let word = on_off(enforced);
        store.apply_effect_if_needed(None, "network.ssl", word, |tx| {
            let is_changed = tx.read_switch(SSL)?.value != word;
            if is_changed {
                tx.set_switch(SSL, word, tx.now)?;
            }
            Ok(is_changed.then(|| word.into()))
        })?;
        store.read_current_world(read_ssl_enforcement)
    }
}

fn read_restrictions(tx: &WorldTx<'_>) -> Result<NetworkRestrictions> {
    let changed = tx.read_switch(RANGES)?.since;
    let status = |since: i64| if tx.is_applied(since) { "applied" } else { "stored" };
    let range = |(cidr, since): (IpNet, i64)| AllowedRange { cidr, status: status(since).into() };
    let mut ranges: Vec<AllowedRange> = tx.allowed_ranges()?.into_iter().map(range).collect();
    if ranges.is_empty() {
        ranges.extend(ranges_open_to_all().map(|net| range((net, changed))));
    }
    Ok(NetworkRestrictions { ranges, applied: tx.is_applied(changed), warnings: Vec::new() })
}

/// Returns the ranges of a world that nothing restricts.
fn ranges_open_to_all() -> [IpNet; 2] {
    [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())]
}

fn read_ssl_enforcement(tx: &WorldTx<'_>) -> Result<SslEnforcement> {
    let switch = tx.read_switch(SSL)?;
    Ok(SslEnforcement { enforced: switch.value == "on", applied: tx.is_applied(switch.since) })
}

fn describe_changes(add: &[IpNet], remove: &[IpNet]) -> String {
    let add = add.iter().map(|net| format!("+{net}"));
    add.chain(remove.iter().map(|net| format!("-{net}"))).collect::<Vec<_>>().join(" ")
}
