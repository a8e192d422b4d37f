//! Network access to the database: allowed ranges, bans, TLS enforcement.
//!
//! Restrictions hold for PostgreSQL and the pooler; the data API, Auth and Storage stay open to everybody.

mod address_item;
mod restrictions;

use super::{project::Supabase, requests, transport::unreadable_answer_error};
use crate::provider::{
    Network, Result,
    model::{Ban, NetworkRestrictions, SslEnforcement},
};
use address_item::AddressItem;
use async_trait::async_trait;
use ipnet::IpNet;
use reqwest::Method;
use restrictions::{RestrictionChange, RestrictionsResponse};
use serde::Deserialize;
use serde_json::json;
use std::net::IpAddr;

#[async_trait]
impl Network for Supabase {
    async fn allowed_ranges(&self) -> Result<NetworkRestrictions> {
        Ok(self.fetch_restrictions().await?.to_network_restrictions())
    }

    /// Sends the ranges to add and to take away, and nothing else: what a colleague changes meanwhile stays.
    async fn change_ranges(&self, add: &[IpNet], remove: &[IpNet]) -> Result<NetworkRestrictions> {
        let now = self.fetch_restrictions().await?;
        now.check_restrictions_changeable()?;
        let change = RestrictionChange::new(add, remove);
        if !change.is_empty() {
            let path = format!("/v1/projects/{}/network-restrictions", self.reference);
            self.api.send_write(Method::PATCH, &path, Some(&change.to_patch_body())).await?;
        }
        Ok(now.with_change(&change).to_network_restrictions())
    }

    async fn bans(&self) -> Result<Vec<Ban>> {
        let addresses = self.fetch_banned_addresses().await?;
        Ok(addresses.into_iter().map(|address| Ban { address }).collect())
    }

    async fn unban(&self, addresses: &[IpAddr]) -> Result<()> {
        if addresses.is_empty() {
            return Ok(());
        }
        let path = format!("/v1/projects/{}/network-bans", self.reference);
        // `DELETE` with a body. Despite its name, the field takes addresses of both families.
        let body = json!({ "ipv4_addresses": addresses, "requester_ip": false });
        self.api.send_write(Method::DELETE, &path, Some(&body)).await
    }

    async fn ssl(&self) -> Result<SslEnforcement> {
        let answer: SslAnswer = self.get_project_resource("/ssl-enforcement").await?;
        Ok(SslEnforcement { enforced: answer.current.database, applied: answer.applied })
    }

    /// Sets whether connections without TLS are refused. Changing it restarts the database.
    async fn set_ssl_enforcement(&self, enforced: bool) -> Result<SslEnforcement> {
        let body = json!({ "requestedConfig": { "database": enforced } });
        let path = format!("/v1/projects/{}/ssl-enforcement", self.reference);
        self.api.send_write(Method::PUT, &path, Some(&body)).await?;
        Ok(SslEnforcement { enforced, applied: false })
    }
}

/// What the platform says of the enforcement of TLS.
#[derive(Deserialize)]
struct SslAnswer {
    #[serde(rename = "currentConfig")]
    current: SslConfig,
    #[serde(rename = "appliedSuccessfully")]
    applied: bool,
}

#[derive(Deserialize)]
struct SslConfig {
    /// Whether the database refuses connections without TLS.
    database: bool,
}

/// The addresses that are shut out. The plain endpoint lists texts, the enriched one objects.
#[derive(Deserialize)]
struct BansAnswer {
    /// Despite its name, it has addresses of both families.
    banned_ipv4_addresses: Vec<AddressItem>,
}

impl Supabase {
    /// Fetches who may connect.
    ///
    /// # Errors
    /// As [`Supabase::get_project_resource`].
    pub(super) async fn fetch_restrictions(&self) -> Result<RestrictionsResponse> {
        RestrictionsResponse::from_answer(&self.get_project_resource("/network-restrictions").await?)
    }

    /// Fetches the addresses that are shut out.
    ///
    /// # Errors
    /// As [`Supabase::get_project_resource`].
    pub(super) async fn fetch_banned_addresses(&self) -> Result<Vec<IpAddr>> {
        let path = format!("/v1/projects/{}/network-bans/retrieve", self.reference);
        let answer = self.api.send_read(Method::POST, &path, None).await?;
        let answer: BansAnswer = requests::decode_answer(answer, &path)?;
        answer.banned_ipv4_addresses.iter().map(|item| parse_banned_address(item.as_text(), &path)).collect()
    }
}

fn parse_banned_address(text: &str, path: &str) -> Result<IpAddr> {
    let alone = text.split('/').next().unwrap_or_default();
    let why = || format!("`{text}` is no address");
    alone.parse().map_err(|_| unreadable_answer_error(&format!("`{path}`"), &why()))
}

#[cfg(test)]
mod tests;
