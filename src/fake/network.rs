//! Network restrictions and bans. A change is stored first and applied some seconds later.

use super::{
    options::BillingPlan,
    project::Project,
    request::ApiRequest,
    response::{ApiResponse, ApiResult},
};
use crate::base::moment::Moment;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde_json::{Map, Value, json};
use std::net::IpAddr;

/// The network restrictions of a project, and whether they are applied.
struct NetworkRestrictions {
    ranges: Vec<IpNet>,
    before: Option<Vec<IpNet>>,
    asked: Option<Moment>,
    applied: Option<Moment>,
    /// Whether nothing was ever restricted, so that every address may connect.
    is_virgin: bool,
}

/// Shows the restrictions in one list an address family.
pub(super) async fn get_network_restrictions(call: &ApiRequest) -> ApiResult {
    let project = call.find_project()?;
    Ok(ApiResponse::json(200, render_by_family(call, &read_restrictions(&project).await?)))
}

/// Replaces all restrictions.
pub(super) async fn apply_network_restrictions(call: &ApiRequest) -> ApiResult {
    let project = call.find_project()?;
    require_entitlement(call)?;
    call.body_fields()?;
    let wanted = parse_ranges(&call.body)?;
    let state = change_restrictions(call, &project, |_| wanted).await?;
    Ok(ApiResponse::json(201, render_by_family(call, &state)))
}

/// Adds and removes ranges. The answer has one list for both families, of objects.
pub(super) async fn patch_network_restrictions(call: &ApiRequest) -> ApiResult {
    let project = call.find_project()?;
    require_entitlement(call)?;
    call.body_fields()?;
    let part = |name: &str| call.body.get(name).map_or(Ok(Vec::new()), parse_ranges);
    let (add, remove) = (part("add")?, part("remove")?);
    let state = change_restrictions(call, &project, |mut ranges| {
        // An unrestricted project allows every address until those two ranges are removed.
        ranges.retain(|range| !remove.contains(range));
        ranges.extend(add.iter().filter(|range| !ranges.contains(range)).copied().collect::<Vec<_>>());
        ranges
    })
    .await?;
    Ok(ApiResponse::json(200, render_with_types(call, &state)))
}

/// Applies or rejects a change that waits for review; here none ever does.
pub(super) async fn review_network_restrictions(call: &ApiRequest) -> ApiResult {
    call.find_project()?;
    let action = call.required_text("action")?;
    call.required_text("requested_at")?;
    if !["apply", "reject"].contains(&action) {
        return Err(ApiResponse::error(400, "action: Invalid enum value"));
    }
    Err(ApiResponse::error(409, "The change has been replaced by another"))
}

async fn read_restrictions(project: &Project) -> Result<NetworkRestrictions, ApiResponse> {
    let database = project.as_provider()?;
    let allowed = database.network()?.allowed().await?;
    let ranges: Vec<IpNet> = allowed.ranges.iter().map(|range| range.cidr).collect();
    let notes = project.lock_state();
    let is_virgin = notes.ranges_asked.is_none() && ranges == unrestricted_ranges();
    let is_applied = allowed.applied && !is_virgin;
    let asked = if is_virgin { None } else { notes.ranges_asked.or(Some(project.created_at)) };
    Ok(NetworkRestrictions {
        ranges: if is_virgin { Vec::new() } else { ranges },
        before: notes.ranges_before.clone().filter(|_| !is_applied),
        asked,
        applied: asked.filter(|_| is_applied),
        is_virgin,
    })
}

async fn change_restrictions(
    call: &ApiRequest,
    project: &Project,
    to: impl FnOnce(Vec<IpNet>) -> Vec<IpNet>,
) -> Result<NetworkRestrictions, ApiResponse> {
    let before = read_restrictions(project).await?;
    let wanted = to(if before.is_virgin { unrestricted_ranges() } else { before.ranges.clone() });
    let gone: Vec<IpNet> = before.ranges.iter().filter(|r| !wanted.contains(r)).copied().collect();
    let database = project.as_provider()?;
    // Every wanted range, not only new ones: an open world stores no ranges for everybody.
    database.network()?.allow(&wanted, &gone).await?;
    {
        let mut notes = project.lock_state();
        notes.ranges_before = Some(before.ranges);
        notes.ranges_asked = Some(call.now());
    }
    read_restrictions(project).await
}

fn require_entitlement(call: &ApiRequest) -> Result<(), ApiResponse> {
    if call.options().plan > BillingPlan::Free {
        return Ok(());
    }
    Err(ApiResponse::error(400, "Network restrictions are not available for this project"))
}

fn parse_ranges(from: &Value) -> Result<Vec<IpNet>, ApiResponse> {
    let mut ranges = Vec::new();
    for name in ["dbAllowedCidrs", "dbAllowedCidrsV6"] {
        for text in ApiRequest::parse_text_list(from, name)? {
            let range: IpNet =
                text.parse().map_err(|_| ApiResponse::error(400, format!("Invalid CIDR: {text}")))?;
            ranges.push(range.trunc());
        }
    }
    Ok(ranges)
}

fn render_by_family(call: &ApiRequest, state: &NetworkRestrictions) -> Value {
    let lists = |ranges: &[IpNet]| {
        let of = |v4: bool| -> Vec<String> {
            let family = ranges.iter().filter(|r| matches!(r, IpNet::V4(_)) == v4);
            family.map(ToString::to_string).collect()
        };
        json!({ "dbAllowedCidrs": of(true), "dbAllowedCidrsV6": of(false) })
    };
    render_restrictions(call, state, lists)
}

fn render_with_types(call: &ApiRequest, state: &NetworkRestrictions) -> Value {
    let list = |ranges: &[IpNet]| {
        let one = |r: &IpNet| {
            let family = if matches!(r, IpNet::V4(_)) { "v4" } else { "v6" };
            json!({ "address": r.to_string(), "type": family })
        };
        json!({ "dbAllowedCidrs": ranges.iter().map(one).collect::<Vec<_>>() })
    };
    render_restrictions(call, state, list)
}

fn render_restrictions(
    call: &ApiRequest,
    state: &NetworkRestrictions,
    config: impl Fn(&[IpNet]) -> Value,
) -> Value {
    let entitled = call.options().plan > BillingPlan::Free;
    let mut shown = Map::new();
    shown.insert("entitlement".into(), if entitled { "allowed" } else { "disallowed" }.into());
    shown.insert("config".into(), config(&state.ranges));
    // A change that is not applied yet has the status `stored`.
    let status = if state.applied.is_some() { "applied" } else { "stored" };
    shown.insert("status".into(), status.into());
    if let Some(before) = &state.before {
        shown.insert("old_config".into(), config(before));
    }
    if let Some(asked) = state.asked {
        shown.insert("updated_at".into(), asked.to_string().into());
    }
    if let Some(applied) = state.applied {
        shown.insert("applied_at".into(), applied.to_string().into());
    }
    Value::Object(shown)
}

/// Returns the ranges of an unrestricted project: every address of both families.
fn unrestricted_ranges() -> Vec<IpNet> {
    vec![IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())]
}

/// Lists the addresses that are banned.
pub(super) async fn list_network_bans(call: &ApiRequest) -> ApiResult {
    let addresses: Vec<String> = banned_addresses(call).await?.iter().map(ToString::to_string).collect();
    Ok(ApiResponse::json(201, json!({ "banned_ipv4_addresses": addresses })).without_effect())
}

/// Lists the banned addresses with details.
pub(super) async fn list_enriched_bans(call: &ApiRequest) -> ApiResult {
    let project = call.find_project()?;
    let one = |address: &IpAddr| json!({ "banned_address": address.to_string(), "identifier": project.reference, "type": "supavisor" });
    let list: Vec<Value> = banned_addresses(call).await?.iter().map(one).collect();
    Ok(ApiResponse::json(201, json!({ "banned_ipv4_addresses": list })).without_effect())
}

async fn banned_addresses(call: &ApiRequest) -> Result<Vec<IpAddr>, ApiResponse> {
    let database = call.find_project()?.as_provider()?;
    Ok(database.network()?.bans().await?.into_iter().map(|ban| ban.address).collect())
}

/// Lifts bans; the addresses are in the body of the `DELETE`.
pub(super) async fn delete_network_bans(call: &ApiRequest) -> ApiResult {
    let project = call.find_project()?;
    call.body_fields()?;
    if call.body.get("ipv4_addresses").is_none() {
        return Err(ApiResponse::error(400, "ipv4_addresses: Required"));
    }
    let mut addresses = Vec::new();
    for text in ApiRequest::parse_text_list(&call.body, "ipv4_addresses")? {
        let wrong = |_| ApiResponse::error(400, format!("ipv4_addresses: Invalid ip {text}"));
        addresses.push(text.parse::<IpAddr>().map_err(wrong)?);
    }
    project.as_provider()?.network()?.unban(&addresses).await?;
    Ok(ApiResponse::empty(200))
}
