//! Who may connect to a simulated target. What is changed is stored at once, and applied some of the world's time later.

use super::{
    Sim,
    store::{WorldTx, store_error},
    switches::{RANGES, SSL},
};
use crate::provider::{
    Network, Result,
    model::{AllowedRange, Ban, NetworkRestrictions, SslEnforcement},
};
use async_trait::async_trait;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rusqlite::params;
use serde_json::json;
use std::net::IpAddr;

#[async_trait]
impl Network for Sim {
    async fn allowed(&self) -> Result<NetworkRestrictions> {
        self.open_store()?.read_world(read_restrictions)
    }

    async fn allow(&self, add: &[IpNet], remove: &[IpNet]) -> Result<NetworkRestrictions> {
        let store = self.open_store()?;
        let what = describe_changes(add, remove);
        store.apply_effect_if_needed(None, "network.allow", &what, |p| {
            let before = p.allowed_ranges()?;
            for net in remove {
                p.conn
                    .execute("delete from ranges where cidr = ?1", [net.to_string()])
                    .map_err(|e| store_error(&e))?;
            }
            for net in add {
                p.add_range(net, p.now)?;
            }
            let is_changed = p.allowed_ranges()?.iter().map(|r| r.0).ne(before.iter().map(|r| r.0));
            if is_changed {
                p.set_switch(RANGES, "changed", p.now)?;
            }
            Ok(is_changed.then(|| json!({ "add": add, "remove": remove })))
        })?;
        store.read_world(read_restrictions)
    }

    async fn bans(&self) -> Result<Vec<Ban>> {
        self.open_store()?
            .read_world(|p| Ok(p.banned_addresses()?.into_iter().map(|address| Ban { address }).collect()))
    }

    async fn unban(&self, addresses: &[IpAddr]) -> Result<()> {
        let what = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let unban = |p: &WorldTx<'_>| {
            let mut removed = Vec::new();
            for address in addresses {
                let gone = p.conn.execute("delete from bans where address = ?1", [address.to_string()]);
                if gone.map_err(|e| store_error(&e))? > 0 {
                    removed.push(address);
                }
            }
            Ok((!removed.is_empty()).then(|| json!(removed)))
        };
        self.open_store()?.apply_effect_if_needed(None, "network.unban", &what, unban).map(drop)
    }

    async fn ssl(&self) -> Result<SslEnforcement> {
        self.open_store()?.read_world(read_ssl_enforcement)
    }

    async fn enforce_ssl(&self, enforced: bool) -> Result<SslEnforcement> {
        let store = self.open_store()?;
        let word = on_off(enforced);
        store.apply_effect_if_needed(None, "network.ssl", word, |p| {
            let is_changed = p.read_switch(SSL)?.value != word;
            if is_changed {
                p.set_switch(SSL, word, p.now)?;
            }
            Ok(is_changed.then(|| word.into()))
        })?;
        store.read_world(read_ssl_enforcement)
    }
}

/// Returns the word for whether something is on.
pub(super) fn on_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

fn read_restrictions(present: &WorldTx<'_>) -> Result<NetworkRestrictions> {
    let changed = present.read_switch(RANGES)?.since;
    let status = |since: i64| if present.is_applied(since) { "applied" } else { "stored" };
    let range = |(cidr, since): (IpNet, i64)| AllowedRange { cidr, status: status(since).into() };
    let mut ranges: Vec<AllowedRange> = present.allowed_ranges()?.into_iter().map(range).collect();
    if ranges.is_empty() {
        let everybody = [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())];
        ranges.extend(everybody.map(|net| range((net, changed))));
    }
    Ok(NetworkRestrictions { ranges, applied: present.is_applied(changed), warnings: Vec::new() })
}

fn read_ssl_enforcement(present: &WorldTx<'_>) -> Result<SslEnforcement> {
    let switch = present.read_switch(SSL)?;
    Ok(SslEnforcement { enforced: switch.value == "on", applied: present.is_applied(switch.since) })
}

fn describe_changes(add: &[IpNet], remove: &[IpNet]) -> String {
    let add = add.iter().map(|net| format!("+{net}"));
    add.chain(remove.iter().map(|net| format!("-{net}"))).collect::<Vec<_>>().join(" ")
}

impl WorldTx<'_> {
    /// Adds a range as of `at`, unless it is there.
    pub(super) fn add_range(&self, net: &IpNet, at: i64) -> Result<()> {
        let sql = "insert or ignore into ranges values (?1, ?2)";
        self.conn.execute(sql, params![net.to_string(), at]).map(drop).map_err(|e| store_error(&e))
    }

    /// Shuts an address out.
    pub(super) fn add_ban(&self, address: IpAddr) -> Result<()> {
        let sql = "insert or ignore into bans values (?1)";
        self.conn.execute(sql, [address.to_string()]).map(drop).map_err(|e| store_error(&e))
    }

    /// Returns the ranges in their order, each with the moment it was added.
    pub(super) fn allowed_ranges(&self) -> Result<Vec<(IpNet, i64)>> {
        let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get(1)?));
        let rows: Vec<(String, i64)> = self.query_rows("select cidr, since from ranges", [], read)?;
        let mut ranges: Vec<(IpNet, i64)> =
            rows.into_iter().filter_map(|(cidr, since)| Some((cidr.parse().ok()?, since))).collect();
        ranges.sort_unstable();
        Ok(ranges)
    }

    /// Returns the addresses that are shut out, in their order.
    pub(super) fn banned_addresses(&self) -> Result<Vec<IpAddr>> {
        let rows: Vec<String> = self.query_rows("select address from bans", [], |row| row.get(0))?;
        let mut addresses: Vec<IpAddr> = rows.iter().filter_map(|text| text.parse().ok()).collect();
        addresses.sort_unstable();
        Ok(addresses)
    }
}
