//! `…/database/backups`: what the platform keeps, and going back to it in place.

use super::{
    call::{Answer, Call, Outcome},
    options::Plan,
    platform::REGION,
    project::Project,
};
use crate::{
    base::moment::Moment,
    provider::{
        Accept, Provider, Result,
        model::{At, Backup, RecoveryPoint, RestoreRequest},
    },
};
use async_trait::async_trait;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// A platform writes nothing down for its caller.
pub(super) struct Nowhere;

#[async_trait]
impl Accept for Nowhere {
    async fn accepted(&self, _: Value) -> Result<()> {
        Ok(())
    }
}

/// Lists the daily backups; with the add-on for moments there are none, and a window instead.
pub(super) async fn list(call: &Call) -> Outcome {
    let project = call.root()?;
    let options = &call.platform.options;
    let has_moments = options.pitr && options.plan > Plan::Free;
    let (mut backups, mut window) = (Vec::new(), json!({}));
    if has_moments {
        if let (Some(earliest), Some(latest)) = window_of(&project).await? {
            window = json!({
                "earliest_physical_backup_date_unix": earliest,
                "latest_physical_backup_date_unix": latest,
            });
        }
    } else if options.plan > Plan::Free {
        backups = kept(&project).await?.iter().map(|(id, backup)| shown(*id, backup)).collect();
    }
    Ok(Answer::json(
        200,
        json!({
            "region": REGION,
            "walg_enabled": true,
            "pitr_enabled": has_moments,
            "backups": backups,
            "physical_backup_data": window,
        }),
    ))
}

fn shown(id: i64, backup: &Backup) -> Value {
    let status = match backup.status.as_str() {
        "completed" => "COMPLETED",
        "running" => "PENDING",
        _ => "FAILED",
    };
    let at = backup.finished_at.unwrap_or(backup.started_at);
    json!({ "id": id, "is_physical_backup": true, "status": status, "inserted_at": at.to_string() })
}

/// Returns the backups that the world keeps, oldest first, with their numbers.
async fn kept(project: &Project) -> Result<Vec<(i64, Backup)>, Answer> {
    let database = project.database()?;
    let list = database.backups()?.list().await?;
    Ok(list.into_iter().map(|backup| (number(&backup.id), backup)).collect())
}

/// Returns the number that the platform gives a backup.
fn number(id: &str) -> i64 {
    let digest = Sha256::digest(id);
    i64::from(u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]))
}

/// Returns the window in seconds since 1970: whole ones inside of it.
async fn window_of(project: &Project) -> Result<(Option<i64>, Option<i64>), Answer> {
    let database = project.database()?;
    let window = database.backups()?.window().await?;
    let earliest = window.earliest.map(|m| {
        let second = m.0.as_second();
        if m.0.subsec_nanosecond() > 0 { second + 1 } else { second }
    });
    Ok((earliest, window.latest.map(|m| m.0.as_second())))
}

/// Goes back to a backup, in place.
pub(super) async fn restore(call: &Call) -> Outcome {
    let project = call.root()?;
    call.demand_plan(Plan::Pro)?;
    let id = call.number("id")?;
    let found = kept(&project).await?.into_iter().find(|(number, _)| *number == id);
    let Some((_, backup)) = found.filter(|_| !call.platform.options.pitr) else {
        return Err(Answer::message(404, "Backup not found"));
    };
    back_to(call, &project, Some(backup.id), At::BackupEnd).await
}

/// Goes back to a moment, in place.
pub(super) async fn restore_pitr(call: &Call) -> Outcome {
    let project = call.root()?;
    call.demand_plan(Plan::Pro)?;
    let asked = call.number("recovery_time_target_unix")?;
    if !call.platform.options.pitr {
        return Err(Answer::message(400, "PITR is not enabled for this project"));
    }
    let now = call.platform.now().0.as_second();
    // The API takes 0 for now.
    if asked == 0 {
        return back_to(call, &project, None, At::Latest).await;
    }
    let (earliest, latest) = window_of(&project).await?;
    let is_inside =
        earliest.is_some_and(|e| asked >= e) && latest.is_some_and(|l| asked <= l) && asked <= now;
    if !is_inside {
        return Err(Answer::message(422, "recovery time target is out of range"));
    }
    let moment = Moment(jiff::Timestamp::from_second(asked).unwrap_or(jiff::Timestamp::MAX));
    back_to(call, &project, None, At::Time(moment)).await
}

/// Goes back in place. Replicas are in the way.
pub(super) async fn back_to(call: &Call, project: &Project, backup: Option<String>, at: At) -> Outcome {
    let database = project.database()?;
    if let Ok(replicas) = database.replicas()
        && !replicas.list().await?.is_empty()
    {
        let message = "Cannot restore while the project has read replicas, remove them first";
        return Err(Answer::message(400, message));
    }
    let request = RestoreRequest {
        backup,
        to: RecoveryPoint { at, inclusive: true, timeline: None },
        into: None,
        temporary: false,
        run: None,
    };
    database.backups()?.restore(&request, &call.fresh_key(), &Nowhere).await?;
    // Nothing of a database that was filled through its own door stays.
    project.return_to_world().await;
    Ok(Answer::empty(201))
}

/// Returns the backup that a branch with data begins as: the newest that is complete.
pub(super) async fn newest(database: &dyn Provider) -> Result<Option<Backup>, Answer> {
    let list = database.backups()?.list().await?;
    Ok(list.into_iter().filter(|b| b.finished_at.is_some()).max_by_key(|b| b.finished_at))
}
