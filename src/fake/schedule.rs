//! The time of day at which the platform backs up: one for each project, of the largest plan only.

use super::{
    call::{Answer, Call, Outcome},
    options::Plan,
    project::Project,
};
use crate::{
    base::moment::Span,
    provider::model::{Every, ScheduleRequest},
};
use serde_json::{Value, json};

/// The time of day of a project that nobody has chosen one for.
const PRESET: &str = "00:00";
/// How often it may be changed in 24 hours.
const CHANGES: usize = 3;

/// Says when backups are taken.
pub(super) async fn get(call: &Call) -> Outcome {
    let project = call.root()?;
    call.demand_plan(Plan::Enterprise)?;
    let at = at(&project).await?.unwrap_or_else(|| PRESET.into());
    Ok(Answer::json(200, shown(&project, &at)))
}

/// Says when backups shall be taken.
pub(super) async fn set(call: &Call) -> Outcome {
    let project = call.root()?;
    call.demand_plan(Plan::Enterprise)?;
    let asked = call.text("schedule_for")?;
    let Some(at) = time_of_day(asked) else {
        return Err(Answer::message(400, "Invalid schedule_for format"));
    };
    let now = call.platform.now();
    {
        let mut notes = project.notes();
        let since = now.plus(Span::seconds(-86_400));
        notes.schedule_changes.retain(|change| *change > since);
        if notes.schedule_changes.len() >= CHANGES {
            return Err(Answer::message(400, "The schedule can only be updated 3 times per 24 hours"));
        }
    }
    let database = project.database()?;
    let schedules = database.schedules()?;
    for old in schedules.list().await? {
        schedules.delete(&old.id).await?;
    }
    let request = ScheduleRequest { every: Every::Day, at, keep_days: None };
    let made = schedules.create(&request, &call.fresh_key()).await?;
    project.notes().schedule_changes.push(now);
    Ok(Answer::json(200, shown(&project, &made.at)))
}

async fn at(project: &Project) -> Result<Option<String>, Answer> {
    let database = project.database()?;
    let list = database.schedules()?.list().await?;
    Ok(list.into_iter().find(|s| s.every == Every::Day).map(|s| s.at))
}

fn shown(project: &Project, at: &str) -> Value {
    let changed = project.notes().schedule_changes.last().copied().unwrap_or(project.created_at);
    json!({ "schedule_for": format!("{at}:00"), "updated_at": changed.to_string() })
}

/// Returns the hours and minutes of `HH:MM` or `HH:MM:SS`.
fn time_of_day(text: &str) -> Option<String> {
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
