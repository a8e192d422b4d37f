//! Who may connect: restrictions, bans, TLS.
//!
//! Restrictions hold for PostgreSQL and the pooler; the data API, Auth and Storage stay open to everybody.

mod restrictions;

use super::Supabase;
use crate::provider::{
    Code, Error, Network, Result,
    model::{Allowed, Ban, Ssl},
};
use async_trait::async_trait;
use ipnet::IpNet;
use reqwest::Method;
use restrictions::{Lists, Restrictions};
use serde_json::{Value, json};
use std::net::IpAddr;

#[async_trait]
impl Network for Supabase {
    async fn allowed(&self) -> Result<Allowed> {
        Ok(self.restrictions().await?.allowed())
    }

    async fn allow(&self, add: &[IpNet], remove: &[IpNet]) -> Result<Allowed> {
        let now = self.restrictions().await?;
        now.demand_changeable()?;
        let change = now.change(add, remove);
        if change.is_nothing() {
            return Ok(now.allowed());
        }
        let path = format!("/v1/projects/{}/network-restrictions", self.reference);
        let said = match self.api.send(Method::PATCH, &path, Some(&change.patch())).await {
            // The endpoint is younger than the one that replaces everything.
            Err(e) if matches!(e.code, Code::NotFound | Code::Unsupported) && is_missing(&e) => {
                let all = Lists::of(&change.wanted).body();
                self.api.send(Method::POST, &format!("{path}/apply"), Some(&all)).await?
            }
            said => said?,
        };
        Ok(Restrictions::read(&said)?.allowed())
    }

    async fn bans(&self) -> Result<Vec<Ban>> {
        let path = format!("/v1/projects/{}/network-bans/retrieve", self.reference);
        let said = self.api.look(Method::POST, &path, None).await?;
        let banned = said["banned_ipv4_addresses"].as_array().cloned().unwrap_or_default();
        banned.iter().map(|one| Ok(Ban { address: address(one)? })).collect()
    }

    async fn unban(&self, addresses: &[IpAddr]) -> Result<()> {
        if addresses.is_empty() {
            return Ok(());
        }
        let path = format!("/v1/projects/{}/network-bans", self.reference);
        // A `DELETE` that means what is in its body; of either family, whatever its field is called.
        let body = json!({ "ipv4_addresses": addresses, "requester_ip": false });
        self.api.send(Method::DELETE, &path, Some(&body)).await.map(drop)
    }

    async fn ssl(&self) -> Result<Ssl> {
        Ok(ssl(&self.api.get(&self.ssl_path()).await?))
    }

    /// Says whether connections without TLS are refused. Changing it restarts the database.
    async fn enforce_ssl(&self, enforced: bool) -> Result<Ssl> {
        let body = json!({ "requestedConfig": { "database": enforced } });
        Ok(ssl(&self.api.send(Method::PUT, &self.ssl_path(), Some(&body)).await?))
    }
}

impl Supabase {
    async fn restrictions(&self) -> Result<Restrictions> {
        let path = format!("/v1/projects/{}/network-restrictions", self.reference);
        Restrictions::read(&self.api.get(&path).await?)
    }

    fn ssl_path(&self) -> String {
        format!("/v1/projects/{}/ssl-enforcement", self.reference)
    }
}

/// Returns whether an error says that there is no such endpoint, and not that there is no such project.
fn is_missing(error: &Error) -> bool {
    error.code == Code::Unsupported && !error.message.contains(" needs ")
        || error.message.contains("Cannot PATCH")
}

fn ssl(said: &Value) -> Ssl {
    Ssl { enforced: said["currentConfig"]["database"] == true, applied: said["appliedSuccessfully"] == true }
}

fn address(said: &Value) -> Result<IpAddr> {
    let text = said.as_str().or_else(|| said["banned_address"].as_str()).unwrap_or_default();
    let alone = text.split('/').next().unwrap_or_default();
    alone.parse().map_err(|_| Error::new(Code::Internal, format!("the API calls `{text}` a banned address")))
}

#[cfg(test)]
mod tests;
