//! `…/database/backups`: the list of backups, and restores in place.

use super::{
    options::BillingPlan,
    profile::REGION,
    project::FakeProject,
    request::RoutedRequest,
    response::{ApiResponse, ApiResult},
};
use crate::{
    base::moment::Moment,
    provider::{
        Provider,
        model::{Backup, RecoveryPoint, RecoveryTarget, RestoreRequest},
    },
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Lists the daily backups; with point-in-time recovery the list is empty, and there is a window instead.
pub(super) async fn list_backups(request: &RoutedRequest) -> ApiResult {
    let project = request.find_root_project()?;
    let options = request.options();
    let has_moments = options.pitr && options.plan > BillingPlan::Free;
    let (mut backups, mut window) = (Vec::new(), json!({}));
    if has_moments {
        if let (Some(earliest), Some(latest)) = recovery_window_seconds(&project).await? {
            window = json!({
                "earliest_physical_backup_date_unix": earliest,
                "latest_physical_backup_date_unix": latest,
            });
        }
    } else if options.plan > BillingPlan::Free {
        backups = list_numbered_backups(&project)
            .await?
            .iter()
            .map(|(id, backup)| render_backup(*id, backup))
            .collect();
    }
    Ok(ApiResponse::json(
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

fn render_backup(id: i64, backup: &Backup) -> Value {
    let status = match backup.status.as_str() {
        "completed" => "COMPLETED",
        "running" => "PENDING",
        _ => "FAILED",
    };
    let at = backup.finished_at.unwrap_or(backup.started_at);
    json!({ "id": id, "is_physical_backup": true, "status": status, "inserted_at": at.to_string() })
}

/// Returns the backups that the world keeps, oldest first, with their numbers.
async fn list_numbered_backups(project: &FakeProject) -> Result<Vec<(i64, Backup)>, ApiResponse> {
    let database = project.as_provider()?;
    let list = database.backups()?.list().await?;
    Ok(list.into_iter().map(|backup| (backup_number(&backup.id), backup)).collect())
}

/// Returns the numeric id of a backup in the API.
fn backup_number(id: &str) -> i64 {
    let digest = Sha256::digest(id);
    i64::from(u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]))
}

/// Returns the recovery window in whole seconds since 1970, rounded inwards.
async fn recovery_window_seconds(project: &FakeProject) -> Result<(Option<i64>, Option<i64>), ApiResponse> {
    let database = project.as_provider()?;
    let window = database.backups()?.recovery_window().await?;
    let earliest = window.earliest.map(|m| {
        let second = m.0.as_second();
        if m.0.subsec_nanosecond() > 0 { second + 1 } else { second }
    });
    Ok((earliest, window.latest.map(|m| m.0.as_second())))
}

/// Restores a backup in place.
pub(super) async fn restore_backup(request: &RoutedRequest) -> ApiResult {
    let project = request.find_root_project()?;
    request.require_plan(BillingPlan::Pro)?;
    let id = request.required_number("id")?;
    let found = list_numbered_backups(&project).await?.into_iter().find(|(number, _)| *number == id);
    let Some((_, backup)) = found.filter(|_| !request.options().pitr) else {
        return Err(ApiResponse::error(404, "Backup not found"));
    };
    restore_in_place(request, &project, Some(backup.id), RecoveryTarget::BackupEnd).await
}

/// Restores a moment in place.
pub(super) async fn restore_pitr(request: &RoutedRequest) -> ApiResult {
    let project = request.find_root_project()?;
    request.require_plan(BillingPlan::Pro)?;
    let target = request.required_number("recovery_time_target_unix")?;
    if !request.options().pitr {
        return Err(ApiResponse::error(400, "PITR is not enabled for this project"));
    }
    let now = request.now().0.as_second();
    // The API takes 0 to mean now.
    if target == 0 {
        return restore_in_place(request, &project, None, RecoveryTarget::Latest).await;
    }
    let (earliest, latest) = recovery_window_seconds(&project).await?;
    let is_inside =
        earliest.is_some_and(|e| target >= e) && latest.is_some_and(|l| target <= l) && target <= now;
    if !is_inside {
        return Err(ApiResponse::error(422, "recovery time target is out of range"));
    }
    let moment = Moment(jiff::Timestamp::from_second(target).unwrap_or(jiff::Timestamp::MAX));
    restore_in_place(request, &project, None, RecoveryTarget::Time(moment)).await
}

/// Restores in place; refused while the project has replicas.
pub(super) async fn restore_in_place(
    request: &RoutedRequest,
    project: &FakeProject,
    backup: Option<String>,
    at: RecoveryTarget,
) -> ApiResult {
    let database = project.as_provider()?;
    if let Ok(replicas) = database.replicas()
        && !replicas.list().await?.is_empty()
    {
        let message = "Cannot restore while the project has read replicas, remove them first";
        return Err(ApiResponse::error(400, message));
    }
    let restore = RestoreRequest {
        backup,
        to: RecoveryPoint { at, inclusive: true, timeline: None },
        into: None,
        temporary: false,
        run: None,
    };
    database.backups()?.restore(&restore, &request.fresh_key()).await?;
    // A write that only the real database has seen is lost with it.
    project.discard_real_database().await;
    Ok(ApiResponse::empty(201))
}

/// Returns the newest finished backup, which a branch with data starts from.
pub(super) async fn newest_backup(database: &dyn Provider) -> Result<Option<Backup>, ApiResponse> {
    let list = database.backups()?.list().await?;
    Ok(list.into_iter().filter(|b| b.finished_at.is_some()).max_by_key(|b| b.finished_at))
}
