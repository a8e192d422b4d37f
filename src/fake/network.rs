//! `…/network-restrictions`: the ranges that may connect.
//!
//! A change is stored first and applied some seconds later.

use super::{
    options::BillingPlan,
    project::FakeProject,
    request::RoutedRequest,
    response::{ApiResponse, ApiResult},
};
use crate::base::moment::Moment;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde_json::{Map, Value, json};

/// The network restrictions of a project, and whether they are applied.
struct ProjectRestrictions {
    ranges: Vec<IpNet>,
    before: Option<Vec<IpNet>>,
    requested_at: Option<Moment>,
    applied_at: Option<Moment>,
    /// Whether nothing was ever restricted, so that every address may connect.
    never_changed: bool,
}

/// Shows the restrictions, one list for each address family.
pub(super) async fn get_network_restrictions(request: &RoutedRequest) -> ApiResult {
    let project = request.find_project()?;
    Ok(ApiResponse::json(200, render_restrictions_by_family(request, &read_restrictions(&project).await?)))
}

/// Replaces all restrictions.
pub(super) async fn apply_network_restrictions(request: &RoutedRequest) -> ApiResult {
    let project = request.find_project()?;
    require_restrictions_entitlement(request)?;
    request.body_fields()?;
    let wanted = parse_ranges(&request.body)?;
    let state = change_restrictions(request, &project, |_| wanted).await?;
    Ok(ApiResponse::json(201, render_restrictions_by_family(request, &state)))
}

/// Adds and removes ranges. The response has one list for both families, of objects.
pub(super) async fn patch_network_restrictions(request: &RoutedRequest) -> ApiResult {
    let project = request.find_project()?;
    require_restrictions_entitlement(request)?;
    request.body_fields()?;
    let part = |name: &str| request.body.get(name).map_or(Ok(Vec::new()), parse_ranges);
    let (add, remove) = (part("add")?, part("remove")?);
    let state = change_restrictions(request, &project, |mut ranges| {
        // An unrestricted project allows every address until those two ranges are removed.
        ranges.retain(|range| !remove.contains(range));
        ranges.extend(add.iter().filter(|range| !ranges.contains(range)).copied().collect::<Vec<_>>());
        ranges
    })
    .await?;
    Ok(ApiResponse::json(200, render_restrictions_with_types(request, &state)))
}

/// Applies or rejects a change that waits for review; here none ever does.
pub(super) async fn review_network_restrictions(request: &RoutedRequest) -> ApiResult {
    request.find_project()?;
    let action = request.required_text("action")?;
    request.required_text("requested_at")?;
    if !["apply", "reject"].contains(&action) {
        return Err(ApiResponse::error(400, "action: Invalid enum value"));
    }
    Err(ApiResponse::error(409, "The change has been replaced by another"))
}

async fn read_restrictions(project: &FakeProject) -> Result<ProjectRestrictions, ApiResponse> {
    let database = project.as_provider()?;
    let allowed = database.network()?.allowed_ranges().await?;
    let ranges: Vec<IpNet> = allowed.ranges.iter().map(|range| range.cidr).collect();
    let state = project.lock_state();
    let never_changed = state.ranges_requested_at.is_none() && ranges == unrestricted_ranges();
    let is_applied = allowed.applied && !never_changed;
    let requested_at =
        if never_changed { None } else { state.ranges_requested_at.or(Some(project.created_at)) };
    Ok(ProjectRestrictions {
        ranges: if never_changed { Vec::new() } else { ranges },
        before: state.ranges_before.clone().filter(|_| !is_applied),
        requested_at,
        applied_at: requested_at.filter(|_| is_applied),
        never_changed,
    })
}

async fn change_restrictions(
    request: &RoutedRequest,
    project: &FakeProject,
    to: impl FnOnce(Vec<IpNet>) -> Vec<IpNet>,
) -> Result<ProjectRestrictions, ApiResponse> {
    let before = read_restrictions(project).await?;
    // An unrestricted project lists nothing, and has the ranges that let everybody in.
    let ranges = if before.never_changed { unrestricted_ranges() } else { before.ranges.clone() };
    let wanted = to(ranges.clone());
    let removed: Vec<IpNet> = ranges.into_iter().filter(|range| !wanted.contains(range)).collect();
    let database = project.as_provider()?;
    // Every wanted range is sent, not only new ones: a world without restrictions stores no ranges.
    database.network()?.change_ranges(&wanted, &removed).await?;
    {
        let mut state = project.lock_state();
        state.ranges_before = Some(before.ranges);
        state.ranges_requested_at = Some(request.now());
    }
    read_restrictions(project).await
}

fn require_restrictions_entitlement(request: &RoutedRequest) -> Result<(), ApiResponse> {
    if request.options().plan > BillingPlan::Free {
        return Ok(());
    }
    Err(ApiResponse::error(400, "Network restrictions are not available for this project"))
}

fn parse_ranges(from: &Value) -> Result<Vec<IpNet>, ApiResponse> {
    let mut ranges = Vec::new();
    for name in ["dbAllowedCidrs", "dbAllowedCidrsV6"] {
        for text in RoutedRequest::parse_text_list(from, name)? {
            let range: IpNet =
                text.parse().map_err(|_| ApiResponse::error(400, format!("Invalid CIDR: {text}")))?;
            ranges.push(range.trunc());
        }
    }
    Ok(ranges)
}

fn render_restrictions_by_family(request: &RoutedRequest, state: &ProjectRestrictions) -> Value {
    let lists = |ranges: &[IpNet]| {
        let of = |v4: bool| -> Vec<String> {
            let family = ranges.iter().filter(|r| matches!(r, IpNet::V4(_)) == v4);
            family.map(ToString::to_string).collect()
        };
        json!({ "dbAllowedCidrs": of(true), "dbAllowedCidrsV6": of(false) })
    };
    render_restrictions(request, state, lists)
}

fn render_restrictions_with_types(request: &RoutedRequest, state: &ProjectRestrictions) -> Value {
    let list = |ranges: &[IpNet]| {
        let one = |r: &IpNet| {
            let family = if matches!(r, IpNet::V4(_)) { "v4" } else { "v6" };
            json!({ "address": r.to_string(), "type": family })
        };
        json!({ "dbAllowedCidrs": ranges.iter().map(one).collect::<Vec<_>>() })
    };
    render_restrictions(request, state, list)
}

fn render_restrictions(
    request: &RoutedRequest,
    state: &ProjectRestrictions,
    config: impl Fn(&[IpNet]) -> Value,
) -> Value {
    let entitled = request.options().plan > BillingPlan::Free;
    let mut rendered = Map::new();
    rendered.insert("entitlement".into(), if entitled { "allowed" } else { "disallowed" }.into());
    rendered.insert("config".into(), config(&state.ranges));
    // A change that is not applied yet has the status `stored`.
    let status = if state.applied_at.is_some() { "applied" } else { "stored" };
    rendered.insert("status".into(), status.into());
    if let Some(before) = &state.before {
        rendered.insert("old_config".into(), config(before));
    }
    if let Some(requested_at) = state.requested_at {
        rendered.insert("updated_at".into(), requested_at.to_string().into());
    }
    if let Some(applied_at) = state.applied_at {
        rendered.insert("applied_at".into(), applied_at.to_string().into());
    }
    Value::Object(rendered)
}

/// Returns the ranges of an unrestricted project: every address of both families.
fn unrestricted_ranges() -> Vec<IpNet> {
    vec![IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())]
}
