//! Network access to the database: allowed ranges, bans, TLS enforcement.
//!
//! Restrictions hold for PostgreSQL and the pooler; the data API, Auth and Storage stay open to everybody.

mod restrictions;

use super::project::Supabase;
use crate::provider::{
    Code, Error, Network, Result,
    model::{Ban, NetworkRestrictions, SslEnforcement},
};
use async_trait::async_trait;
use ipnet::IpNet;
use reqwest::Method;
use restrictions::{RangesByFamily, RestrictionsResponse};
use serde_json::{Value, json};
use std::net::IpAddr;

#[async_trait]
impl Network for Supabase {
    async fn allowed(&self) -> Result<NetworkRestrictions> {
        Ok(self.fetch_restrictions().await?.to_network_restrictions())
    }

    async fn allow(&self, add: &[IpNet], remove: &[IpNet]) -> Result<NetworkRestrictions> {
        let now = self.fetch_restrictions().await?;
        now.check_changeable()?;
        let change = now.plan_change(add, remove);
        if change.is_empty() {
            return Ok(now.to_network_restrictions());
        }
        let path = format!("/v1/projects/{}/network-restrictions", self.reference);
        let answer = match self.api.send_write(Method::PATCH, &path, Some(&change.to_patch_body())).await {
            // The `PATCH` endpoint is newer; older platforms only replace the whole list.
            Err(e) if matches!(e.code, Code::NotFound | Code::Unsupported) && is_missing_endpoint(&e) => {
                let all = RangesByFamily::from_ranges(&change.wanted).to_json();
                self.api.send_write(Method::POST, &format!("{path}/apply"), Some(&all)).await?
            }
            answer => answer?,
        };
        Ok(RestrictionsResponse::from_json(&answer)?.to_network_restrictions())
    }

    async fn bans(&self) -> Result<Vec<Ban>> {
        let path = format!("/v1/projects/{}/network-bans/retrieve", self.reference);
        let answer = self.api.send_read(Method::POST, &path, None).await?;
        let banned = answer["banned_ipv4_addresses"].as_array().cloned().unwrap_or_default();
        banned.iter().map(|one| Ok(Ban { address: parse_banned_address(one)? })).collect()
    }

    async fn unban(&self, addresses: &[IpAddr]) -> Result<()> {
        if addresses.is_empty() {
            return Ok(());
        }
        let path = format!("/v1/projects/{}/network-bans", self.reference);
        // `DELETE` with a body. Despite its name, the field takes addresses of both families.
        let body = json!({ "ipv4_addresses": addresses, "requester_ip": false });
        self.api.send_write(Method::DELETE, &path, Some(&body)).await.map(drop)
    }

    async fn ssl(&self) -> Result<SslEnforcement> {
        Ok(decode_ssl(&self.api.get(&self.ssl_path()).await?))
    }

    /// Says whether connections without TLS are refused. Changing it restarts the database.
    async fn enforce_ssl(&self, enforced: bool) -> Result<SslEnforcement> {
        let body = json!({ "requestedConfig": { "database": enforced } });
        Ok(decode_ssl(&self.api.send_write(Method::PUT, &self.ssl_path(), Some(&body)).await?))
    }
}

impl Supabase {
    async fn fetch_restrictions(&self) -> Result<RestrictionsResponse> {
        let path = format!("/v1/projects/{}/network-restrictions", self.reference);
        RestrictionsResponse::from_json(&self.api.get(&path).await?)
    }

    fn ssl_path(&self) -> String {
        format!("/v1/projects/{}/ssl-enforcement", self.reference)
    }
}

/// Returns whether the error means that the endpoint is missing, as opposed to the project.
fn is_missing_endpoint(error: &Error) -> bool {
    error.code == Code::Unsupported && !error.message.contains(" needs ")
        || error.message.contains("Cannot PATCH")
}

fn decode_ssl(answer: &Value) -> SslEnforcement {
    SslEnforcement {
        enforced: answer["currentConfig"]["database"] == true,
        applied: answer["appliedSuccessfully"] == true,
    }
}

fn parse_banned_address(answer: &Value) -> Result<IpAddr> {
    let text = answer.as_str().or_else(|| answer["banned_address"].as_str()).unwrap_or_default();
    let alone = text.split('/').next().unwrap_or_default();
    alone.parse().map_err(|_| Error::new(Code::Internal, format!("the API calls `{text}` a banned address")))
}

#[cfg(test)]
mod tests;
