//! Network access, as rows of the world's file: ranges and bans.

use super::tx::{WorldTx, store_error};
use crate::provider::Result;
use ipnet::IpNet;
use rusqlite::params;
use std::net::IpAddr;

impl WorldTx<'_> {
    /// Adds a range as of `at`, unless it is there.
    pub(in crate::provider::sim) fn add_range(&self, net: &IpNet, at: i64) -> Result<()> {
        let sql = "insert or ignore into ranges values (?1, ?2)";
        self.conn.execute(sql, params![net.to_string(), at]).map(drop).map_err(|e| store_error(&e))
    }

    /// Removes a range, if it is there.
    pub(in crate::provider::sim) fn remove_range(&self, net: &IpNet) -> Result<()> {
        let sql = "delete from ranges where cidr = ?1";
        self.conn.execute(sql, [net.to_string()]).map(drop).map_err(|e| store_error(&e))
    }

    /// Shuts an address out.
    pub(super) fn add_ban(&self, address: IpAddr) -> Result<()> {
        let sql = "insert or ignore into bans values (?1)";
        self.conn.execute(sql, [address.to_string()]).map(drop).map_err(|e| store_error(&e))
    }

    /// Lets an address in again, and returns whether it was shut out.
    pub(in crate::provider::sim) fn remove_ban(&self, address: IpAddr) -> Result<bool> {
        let gone = self.conn.execute("delete from bans where address = ?1", [address.to_string()]);
        Ok(gone.map_err(|e| store_error(&e))? > 0)
    }

    /// Returns the ranges in their order, each with the moment it was added.
    pub(in crate::provider::sim) fn allowed_ranges(&self) -> Result<Vec<(IpNet, i64)>> {
        let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get(1)?));
        let rows: Vec<(String, i64)> = self.query_rows("select cidr, since from ranges", [], read)?;
        let mut ranges: Vec<(IpNet, i64)> =
            rows.into_iter().filter_map(|(cidr, since)| Some((cidr.parse().ok()?, since))).collect();
        ranges.sort_unstable();
        Ok(ranges)
    }

    /// Returns the addresses that are shut out, in their order.
    pub(in crate::provider::sim) fn banned_addresses(&self) -> Result<Vec<IpAddr>> {
        let rows: Vec<String> = self.query_rows("select address from bans", [], |row| row.get(0))?;
        let mut addresses: Vec<IpAddr> = rows.iter().filter_map(|text| text.parse().ok()).collect();
        addresses.sort_unstable();
        Ok(addresses)
    }
}
