//! `…/database/backups/schedule`: one time of day for each project, of the enterprise plan only.

use super::{
    options::BillingPlan,
    project::FakeProject,
    request::RoutedRequest,
    response::{ApiResponse, ApiResult},
};
use crate::{
    base::moment::Span,
    provider::model::{Frequency, ScheduleRequest},
};
use serde_json::{Value, json};

/// The default time of day.
const DEFAULT_TIME: &str = "00:00";
/// How often a schedule may be changed in 24 hours.
const MAX_DAILY_CHANGES: usize = 3;

/// Shows the time of the daily backup.
pub(super) async fn get_backup_schedule(request: &RoutedRequest) -> ApiResult {
    let project = request.find_root_project()?;
    request.require_plan(BillingPlan::Enterprise)?;
    let at = read_backup_time(&project).await?.unwrap_or_else(|| DEFAULT_TIME.into());
    Ok(ApiResponse::json(200, render_schedule(&project, &at)))
}

/// Sets the time of the daily backup.
pub(super) async fn update_backup_schedule(request: &RoutedRequest) -> ApiResult {
    let project = request.find_root_project()?;
    request.require_plan(BillingPlan::Enterprise)?;
    let time = request.required_text("schedule_for")?;
    let Some(at) = parse_time_of_day(time) else {
        return Err(ApiResponse::error(400, "Invalid schedule_for format"));
    };
    let now = request.now();
    {
        let mut state = project.lock_state();
        let since = now.saturating_add(Span::from_secs(-86_400));
        state.schedule_changes.retain(|change| *change > since);
        if state.schedule_changes.len() >= MAX_DAILY_CHANGES {
            return Err(ApiResponse::error(400, "The schedule can only be updated 3 times per 24 hours"));
        }
    }
    let database = project.as_provider()?;
    let schedules = database.schedules()?;
    for old in schedules.list().await? {
        schedules.delete(&old.id).await?;
    }
    let wanted = ScheduleRequest { every: Frequency::Day, at, keep_days: None };
    let made = schedules.create(&wanted, &request.fresh_key()).await?;
    project.lock_state().schedule_changes.push(now);
    Ok(ApiResponse::json(200, render_schedule(&project, &made.at)))
}

async fn read_backup_time(project: &FakeProject) -> Result<Option<String>, ApiResponse> {
    let database = project.as_provider()?;
    let list = database.schedules()?.list().await?;
    Ok(list.into_iter().find(|s| s.every == Frequency::Day).map(|s| s.at))
}

fn render_schedule(project: &FakeProject, at: &str) -> Value {
    let changed = project.lock_state().schedule_changes.last().copied().unwrap_or(project.created_at);
    json!({ "schedule_for": format!("{at}:00"), "updated_at": changed.to_string() })
}

/// Returns the hours and minutes of `HH:MM` or `HH:MM:SS`.
fn parse_time_of_day(text: &str) -> Option<String> {
    let mut parts = text.splitn(3, ':');
    let mut two = |limit: u32| {
        let part = parts.next()?;
        let fits = part.len() == 2 && part.parse::<u32>().is_ok_and(|n| n < limit);
        fits.then(|| part.to_owned())
    };
    let (hour, minute) = (two(24)?, two(60)?);
    let seconds = parts.next().is_none_or(|s| s.parse::<f64>().is_ok_and(|n| (0.0..60.0).contains(&n)));
    seconds.then(|| format!("{hour}:{minute}"))
}
