//! `…/read-replicas`: the setup returns no name, and the list lags behind.

use super::{
    options::BillingPlan,
    profile::REGION,
    project::FakeProject,
    request::RoutedRequest,
    response::{ApiResponse, ApiResult},
    seeded_id,
};
use crate::{
    base::moment::Span,
    provider::model::{Replica, ReplicaRequest},
};
use serde_json::{Value, json};

/// How long a new replica is missing from the list.
const LIST_DELAY: Span = Span::from_secs(5);
/// The most replicas of a small instance.
const MAX_REPLICAS: usize = 2;
/// The regions that a replica may be in.
const REGIONS: &[&str] = &[
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
    "ap-east-1",
    "ap-southeast-1",
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-southeast-2",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "eu-north-1",
    "eu-central-1",
    "eu-central-2",
    "ca-central-1",
    "ap-south-1",
    "sa-east-1",
];

/// Requests a replica; the response is empty.
pub(super) async fn setup_replica(request: &RoutedRequest) -> ApiResult {
    let project = request.find_root_project()?;
    request.require_plan(BillingPlan::Pro)?;
    let region = request.required_text("read_replica_region")?;
    if !REGIONS.contains(&region) {
        return Err(ApiResponse::error(400, "read_replica_region: Invalid enum value"));
    }
    let database = project.as_provider()?;
    let replicas = database.replicas()?;
    if replicas.list().await?.len() >= MAX_REPLICAS {
        return Err(ApiResponse::error(400, "Maximum number of read replicas reached"));
    }
    let wanted = ReplicaRequest { region: Some(region.into()) };
    let before = replica_ids(&replicas.list().await?);
    replicas.create(&wanted, &request.fresh_key()).await?;
    let listed_at = request.now().saturating_add(request.scale_span(LIST_DELAY));
    let new = replica_ids(&replicas.list().await?).into_iter().filter(|id| !before.contains(id));
    project.lock_state().replica_listed_at.extend(new.map(|id| (id, listed_at)));
    Ok(ApiResponse::empty(201))
}

/// Removes a replica; the response is empty.
pub(super) async fn remove_replica(request: &RoutedRequest) -> ApiResult {
    let project = request.find_root_project()?;
    let identifier = request.required_text("database_identifier")?;
    let database = project.as_provider()?;
    let replicas = database.replicas()?;
    let found = replicas.list().await?.into_iter().find(|r| replica_identifier(&project, r) == identifier);
    let Some(replica) = found else { return Err(ApiResponse::error(404, "Read replica not found")) };
    replicas.delete(&replica.id).await?;
    Ok(ApiResponse::empty(201))
}

/// Renders the listed replicas of a project as entries of the organization's list.
pub(super) async fn render_listed_replicas(
    request: &RoutedRequest,
    project: &FakeProject,
) -> Result<Vec<Value>, ApiResponse> {
    let database = project.as_provider()?;
    // Branches have no replicas.
    let Ok(replicas) = database.replicas() else { return Ok(Vec::new()) };
    let list = replicas.list().await?;
    let now = request.now();
    let state = project.lock_state();
    let is_listed = |r: &&Replica| state.replica_listed_at.get(&r.id).is_none_or(|at| *at <= now);
    Ok(list.iter().filter(is_listed).map(|r| render_replica(project, r)).collect())
}

fn render_replica(project: &FakeProject, replica: &Replica) -> Value {
    let status = match replica.status.as_str() {
        "ready" => "ACTIVE_HEALTHY",
        "preparing" => "INIT_READ_REPLICA",
        "failed" => "INIT_READ_REPLICA_FAILED",
        _ => "UNKNOWN",
    };
    json!({
        "infra_compute_size": "small",
        "region": replica.region.as_deref().unwrap_or(REGION),
        "status": status,
        "cloud_provider": "AWS",
        "identifier": replica_identifier(project, replica),
        "type": "READ_REPLICA",
    })
}

/// Returns the platform's identifier of a replica: `abcdefghijklmnopqrst-rr-us-west-1-abcde`.
pub(super) fn replica_identifier(project: &FakeProject, replica: &Replica) -> String {
    let region = replica.region.as_deref().unwrap_or(REGION);
    format!("{}-rr-{region}-{}", project.reference, &seeded_id::derive_letters(&replica.id)[..5])
}

fn replica_ids(list: &[Replica]) -> Vec<String> {
    list.iter().map(|replica| replica.id.clone()).collect()
}
