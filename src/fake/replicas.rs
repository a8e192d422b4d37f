//! Read replicas: asked for without being told their name, and found in a list that lags behind.

use super::{
    call::{Answer, Call, Outcome},
    options::Plan,
    platform::REGION,
    project::Project,
    reference,
};
use crate::{
    base::moment::Span,
    provider::model::{Replica, ReplicaRequest},
};
use serde_json::{Value, json};

/// How long a new replica is not yet in the list.
const LAG: Span = Span::seconds(5);
/// How many there may be on a small instance.
const MOST: usize = 2;
/// Where a replica can be.
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

/// Asks for a replica; the answer is empty.
pub(super) async fn setup(call: &Call) -> Outcome {
    let project = call.root()?;
    call.demand_plan(Plan::Pro)?;
    let region = call.text("read_replica_region")?;
    if !REGIONS.contains(&region) {
        return Err(Answer::message(400, "read_replica_region: Invalid enum value"));
    }
    let database = project.database()?;
    let replicas = database.replicas()?;
    if replicas.list().await?.len() >= MOST {
        return Err(Answer::message(400, "Maximum number of read replicas reached"));
    }
    let request = ReplicaRequest { region: Some(region.into()) };
    let before = ids(&replicas.list().await?);
    replicas.create(&request, &call.fresh_key(), &super::backups::Nowhere).await?;
    let shown_at = call.platform.now().plus(call.platform.takes(LAG));
    let new = ids(&replicas.list().await?).into_iter().filter(|id| !before.contains(id));
    project.notes().shown_at.extend(new.map(|id| (id, shown_at)));
    Ok(Answer::empty(201))
}

/// Removes a replica; the answer is empty.
pub(super) async fn remove(call: &Call) -> Outcome {
    let project = call.root()?;
    let asked = call.text("database_identifier")?;
    let database = project.database()?;
    let replicas = database.replicas()?;
    let found = replicas.list().await?.into_iter().find(|r| identifier(&project, r) == asked);
    let Some(replica) = found else { return Err(Answer::message(404, "Read replica not found")) };
    replicas.delete(&replica.id).await?;
    Ok(Answer::empty(201))
}

/// Returns the replicas of a project as the list of the organization has them.
pub(super) async fn shown(call: &Call, project: &Project) -> Result<Vec<Value>, Answer> {
    let database = project.database()?;
    // A branch has none.
    let Ok(replicas) = database.replicas() else { return Ok(Vec::new()) };
    let list = replicas.list().await?;
    let now = call.platform.now();
    let notes = project.notes();
    let is_shown = |r: &&Replica| notes.shown_at.get(&r.id).is_none_or(|at| *at <= now);
    Ok(list.iter().filter(is_shown).map(|r| one(project, r)).collect())
}

fn one(project: &Project, replica: &Replica) -> Value {
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
        "identifier": identifier(project, replica),
        "type": "READ_REPLICA",
    })
}

/// Returns the name that the platform gives a replica: `abcdefghijklmnopqrst-rr-us-west-1-abcde`.
pub(super) fn identifier(project: &Project, replica: &Replica) -> String {
    let region = replica.region.as_deref().unwrap_or(REGION);
    format!("{}-rr-{region}-{}", project.reference, &reference::letters(&replica.id)[..5])
}

fn ids(list: &[Replica]) -> Vec<String> {
    list.iter().map(|replica| replica.id.clone()).collect()
}
