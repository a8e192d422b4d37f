//! Network restrictions and bans. A change is stored first and applied some seconds later.

use super::{
    call::{Answer, Call, Outcome},
    options::Plan,
    project::Project,
};
use crate::base::moment::Moment;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde_json::{Map, Value, json};
use std::net::IpAddr;

/// What is allowed, and since when.
struct State {
    ranges: Vec<IpNet>,
    before: Option<Vec<IpNet>>,
    asked: Option<Moment>,
    applied: Option<Moment>,
    /// Nothing was ever restricted: everybody may connect.
    is_virgin: bool,
}

/// Shows the restrictions: a list for each family.
pub(super) async fn get(call: &Call) -> Outcome {
    let project = call.project()?;
    Ok(Answer::json(200, by_family(call, &state(&project).await?)))
}

/// Replaces all restrictions.
pub(super) async fn apply(call: &Call) -> Outcome {
    let project = call.project()?;
    demand_entitled(call)?;
    call.fields()?;
    let wanted = ranges_of(&call.body)?;
    let state = change(call, &project, |_| wanted).await?;
    Ok(Answer::json(201, by_family(call, &state)))
}

/// Adds and removes ranges. The answer has one list for both families, of objects.
pub(super) async fn patch(call: &Call) -> Outcome {
    let project = call.project()?;
    demand_entitled(call)?;
    call.fields()?;
    let part = |name: &str| call.body.get(name).map_or(Ok(Vec::new()), ranges_of);
    let (add, remove) = (part("add")?, part("remove")?);
    let state = change(call, &project, |mut ranges| {
        // What was never restricted is open, and stays so until that is taken away.
        ranges.retain(|range| !remove.contains(range));
        ranges.extend(add.iter().filter(|range| !ranges.contains(range)).copied().collect::<Vec<_>>());
        ranges
    })
    .await?;
    Ok(Answer::json(200, with_types(call, &state)))
}

/// Applies or rejects a change that waits for review; here none ever does.
pub(super) async fn review(call: &Call) -> Outcome {
    call.project()?;
    let action = call.text("action")?;
    call.text("requested_at")?;
    if !["apply", "reject"].contains(&action) {
        return Err(Answer::message(400, "action: Invalid enum value"));
    }
    Err(Answer::message(409, "The change has been replaced by another"))
}

async fn state(project: &Project) -> Result<State, Answer> {
    let database = project.database()?;
    let allowed = database.network()?.allowed().await?;
    let ranges: Vec<IpNet> = allowed.ranges.iter().map(|range| range.cidr).collect();
    let notes = project.notes();
    let is_virgin = notes.ranges_asked.is_none() && ranges == everything();
    let is_applied = allowed.applied && !is_virgin;
    let asked = if is_virgin { None } else { notes.ranges_asked.or(Some(project.created_at)) };
    Ok(State {
        ranges: if is_virgin { Vec::new() } else { ranges },
        before: notes.ranges_before.clone().filter(|_| !is_applied),
        asked,
        applied: asked.filter(|_| is_applied),
        is_virgin,
    })
}

async fn change(
    call: &Call,
    project: &Project,
    to: impl FnOnce(Vec<IpNet>) -> Vec<IpNet>,
) -> Result<State, Answer> {
    let before = state(project).await?;
    let wanted = to(if before.is_virgin { everything() } else { before.ranges.clone() });
    let gone: Vec<IpNet> = before.ranges.iter().filter(|r| !wanted.contains(r)).copied().collect();
    let database = project.database()?;
    // All that is wanted, not only what is new: that everybody may connect is nowhere in a world that was left open.
    database.network()?.allow(&wanted, &gone).await?;
    {
        let mut notes = project.notes();
        notes.ranges_before = Some(before.ranges);
        notes.ranges_asked = Some(call.platform.now());
    }
    state(project).await
}

fn demand_entitled(call: &Call) -> Result<(), Answer> {
    if call.platform.options.plan > Plan::Free {
        return Ok(());
    }
    Err(Answer::message(400, "Network restrictions are not available for this project"))
}

fn ranges_of(from: &Value) -> Result<Vec<IpNet>, Answer> {
    let mut ranges = Vec::new();
    for name in ["dbAllowedCidrs", "dbAllowedCidrsV6"] {
        for text in Call::texts(from, name)? {
            let range: IpNet =
                text.parse().map_err(|_| Answer::message(400, format!("Invalid CIDR: {text}")))?;
            ranges.push(range.trunc());
        }
    }
    Ok(ranges)
}

fn by_family(call: &Call, state: &State) -> Value {
    let lists = |ranges: &[IpNet]| {
        let of = |v4: bool| -> Vec<String> {
            let family = ranges.iter().filter(|r| matches!(r, IpNet::V4(_)) == v4);
            family.map(ToString::to_string).collect()
        };
        json!({ "dbAllowedCidrs": of(true), "dbAllowedCidrsV6": of(false) })
    };
    shown(call, state, lists)
}

fn with_types(call: &Call, state: &State) -> Value {
    let list = |ranges: &[IpNet]| {
        let one = |r: &IpNet| {
            let family = if matches!(r, IpNet::V4(_)) { "v4" } else { "v6" };
            json!({ "address": r.to_string(), "type": family })
        };
        json!({ "dbAllowedCidrs": ranges.iter().map(one).collect::<Vec<_>>() })
    };
    shown(call, state, list)
}

fn shown(call: &Call, state: &State, config: impl Fn(&[IpNet]) -> Value) -> Value {
    let entitled = call.platform.options.plan > Plan::Free;
    let mut shown = Map::new();
    shown.insert("entitlement".into(), if entitled { "allowed" } else { "disallowed" }.into());
    shown.insert("config".into(), config(&state.ranges));
    // What was never applied restricts nobody, and says `stored`.
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

/// Returns the ranges of a project of which nobody has asked anything: everybody.
fn everything() -> Vec<IpNet> {
    vec![IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())]
}

/// Lists the addresses that are banned.
pub(super) async fn bans(call: &Call) -> Outcome {
    let addresses: Vec<String> = banned(call).await?.iter().map(ToString::to_string).collect();
    Ok(Answer::json(201, json!({ "banned_ipv4_addresses": addresses })).looked())
}

/// The same with more about each.
pub(super) async fn enriched_bans(call: &Call) -> Outcome {
    let project = call.project()?;
    let one = |address: &IpAddr| json!({ "banned_address": address.to_string(), "identifier": project.reference, "type": "supavisor" });
    let list: Vec<Value> = banned(call).await?.iter().map(one).collect();
    Ok(Answer::json(201, json!({ "banned_ipv4_addresses": list })).looked())
}

async fn banned(call: &Call) -> Result<Vec<IpAddr>, Answer> {
    let database = call.project()?.database()?;
    Ok(database.network()?.bans().await?.into_iter().map(|ban| ban.address).collect())
}

/// Lifts bans; the addresses are in the body of the `DELETE`.
pub(super) async fn unban(call: &Call) -> Outcome {
    let project = call.project()?;
    call.fields()?;
    if call.body.get("ipv4_addresses").is_none() {
        return Err(Answer::message(400, "ipv4_addresses: Required"));
    }
    let mut addresses = Vec::new();
    for text in Call::texts(&call.body, "ipv4_addresses")? {
        let wrong = |_| Answer::message(400, format!("ipv4_addresses: Invalid ip {text}"));
        addresses.push(text.parse::<IpAddr>().map_err(wrong)?);
    }
    project.database()?.network()?.unban(&addresses).await?;
    Ok(Answer::empty(200))
}
