//! `…/network-bans`: the banned addresses.

use super::{
    request::RoutedRequest,
    response::{ApiResponse, ApiResult},
};
use serde_json::{Value, json};
use std::net::IpAddr;

/// Lists the banned addresses.
pub(super) async fn list_network_bans(request: &RoutedRequest) -> ApiResult {
    let addresses: Vec<String> = banned_addresses(request).await?.iter().map(ToString::to_string).collect();
    Ok(ApiResponse::json(201, json!({ "banned_ipv4_addresses": addresses })).without_effect())
}

/// Lists the banned addresses with details.
pub(super) async fn list_enriched_bans(request: &RoutedRequest) -> ApiResult {
    let project = request.find_project()?;
    let one = |address: &IpAddr| json!({ "banned_address": address.to_string(), "identifier": project.reference, "type": "supavisor" });
    let list: Vec<Value> = banned_addresses(request).await?.iter().map(one).collect();
    Ok(ApiResponse::json(201, json!({ "banned_ipv4_addresses": list })).without_effect())
}

async fn banned_addresses(request: &RoutedRequest) -> Result<Vec<IpAddr>, ApiResponse> {
    let database = request.find_project()?.as_provider()?;
    Ok(database.network()?.bans().await?.into_iter().map(|ban| ban.address).collect())
}

/// Lifts bans; the addresses are in the body of the `DELETE`.
pub(super) async fn delete_network_bans(request: &RoutedRequest) -> ApiResult {
    let project = request.find_project()?;
    request.body_fields()?;
    if request.body.get("ipv4_addresses").is_none() {
        return Err(ApiResponse::error(400, "ipv4_addresses: Required"));
    }
    let mut addresses = Vec::new();
    for text in RoutedRequest::parse_text_list(&request.body, "ipv4_addresses")? {
        let wrong = |_| ApiResponse::error(400, format!("ipv4_addresses: Invalid ip {text}"));
        addresses.push(text.parse::<IpAddr>().map_err(wrong)?);
    }
    project.as_provider()?.network()?.unban(&addresses).await?;
    Ok(ApiResponse::empty(200))
}
