//! `…/config/database/postgres`: what is overridden, and nothing of what holds.

use super::{
    call::{Answer, Call, Outcome},
    project::Project,
};
use crate::base::moment::Span;
use serde_json::{Map, Value};

/// How long a restart takes.
const RESTARTS: Span = Span::seconds(20);

/// How a setting is written in the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Duration,
    Number(i64, i64),
    Flag,
    Role,
}

/// Every setting that the API knows.
const SETTINGS: &[(&str, Kind)] = &[
    ("effective_cache_size", Kind::Text),
    ("logical_decoding_work_mem", Kind::Text),
    ("autovacuum_work_mem", Kind::Text),
    ("log_temp_files", Kind::Text),
    ("maintenance_work_mem", Kind::Text),
    ("track_activity_query_size", Kind::Text),
    ("max_slot_wal_keep_size", Kind::Text),
    ("max_standby_archive_delay", Kind::Text),
    ("max_standby_streaming_delay", Kind::Text),
    ("max_wal_size", Kind::Text),
    ("shared_buffers", Kind::Text),
    ("wal_keep_size", Kind::Text),
    ("work_mem", Kind::Text),
    ("statement_timeout", Kind::Duration),
    ("wal_sender_timeout", Kind::Duration),
    ("checkpoint_timeout", Kind::Duration),
    ("log_autovacuum_min_duration", Kind::Duration),
    ("log_startup_progress_interval", Kind::Duration),
    ("max_connections", Kind::Number(1, 262_143)),
    ("max_locks_per_transaction", Kind::Number(10, 2_147_483_640)),
    ("autovacuum_max_workers", Kind::Number(1, 262_143)),
    ("max_logical_replication_workers", Kind::Number(0, 262_143)),
    ("max_sync_workers_per_subscription", Kind::Number(0, 262_143)),
    ("max_parallel_maintenance_workers", Kind::Number(0, 1024)),
    ("max_parallel_workers", Kind::Number(0, 1024)),
    ("max_parallel_workers_per_gather", Kind::Number(0, 1024)),
    ("max_replication_slots", Kind::Number(0, 262_143)),
    ("max_wal_senders", Kind::Number(0, 262_143)),
    ("max_worker_processes", Kind::Number(0, 262_143)),
    ("pg_stat_statements.max", Kind::Number(100, 45_000)),
    ("pg_net.batch_size", Kind::Number(0, 32_767)),
    ("track_commit_timestamp", Kind::Flag),
    ("hot_standby_feedback", Kind::Flag),
    ("cron.log_statement", Kind::Flag),
    ("log_checkpoints", Kind::Flag),
    ("log_connections", Kind::Flag),
    ("log_disconnections", Kind::Flag),
    ("log_duration", Kind::Flag),
    ("log_lock_waits", Kind::Flag),
    ("log_recovery_conflict_waits", Kind::Flag),
    ("log_replication_commands", Kind::Flag),
    ("session_replication_role", Kind::Role),
];

/// Shows the overrides.
pub(super) async fn get(call: &Call) -> Outcome {
    let project = call.project()?;
    Ok(Answer::json(200, Value::Object(overrides(&project).await?)))
}

/// Replaces the overrides: what is not named loses its own.
pub(super) async fn put(call: &Call) -> Outcome {
    let project = call.project()?;
    let mut wanted = checked(call)?;
    for name in overrides(&project).await?.keys() {
        wanted.entry(name.clone()).or_insert(Value::Null);
    }
    set(call, &project, wanted).await
}

/// Overrides what is named and leaves the rest.
pub(super) async fn patch(call: &Call) -> Outcome {
    let project = call.project()?;
    let wanted = checked(call)?;
    set(call, &project, wanted).await
}

async fn set(call: &Call, project: &Project, wanted: Map<String, Value>) -> Outcome {
    // It restarts unless it is told not to.
    let restart = call.body.get("restart_database").and_then(Value::as_bool).unwrap_or(true);
    let database = project.database()?;
    database.settings()?.set(&wanted, restart).await?;
    if restart && !wanted.is_empty() {
        let until = call.platform.now().plus(call.platform.takes(RESTARTS));
        project.notes().restarts_until = Some(until);
    }
    Ok(Answer::json(200, Value::Object(overrides(project).await?)))
}

async fn overrides(project: &Project) -> Result<Map<String, Value>, Answer> {
    let database = project.database()?;
    let list = database.settings()?.get(&[]).await?;
    let known = |name: &str| SETTINGS.iter().find(|(n, _)| *n == name);
    Ok(list
        .into_iter()
        .filter(|s| !s.overridden.is_null())
        .filter_map(|s| known(&s.name).map(|(_, kind)| (s.name.clone(), kind.written(&s.overridden))))
        .collect())
}

fn checked(call: &Call) -> Result<Map<String, Value>, Answer> {
    let mut wanted = call.fields()?.clone();
    wanted.remove("restart_database");
    for (name, value) in &wanted {
        let Some((_, kind)) = SETTINGS.iter().find(|(n, _)| n == name) else {
            return Err(Answer::message(400, format!("Unrecognized key(s) in object: '{name}'")));
        };
        if !kind.fits(value) {
            return Err(Answer::message(400, format!("{name}: Invalid input")));
        }
    }
    Ok(wanted)
}

impl Kind {
    fn fits(self, value: &Value) -> bool {
        match self {
            Kind::Text => value.is_string(),
            Kind::Duration => value.as_str().is_some_and(is_duration),
            Kind::Number(least, most) => value.as_i64().is_some_and(|n| (least..=most).contains(&n)),
            Kind::Flag => value.is_boolean(),
            Kind::Role => value.as_str().is_some_and(|r| ["origin", "replica", "local"].contains(&r)),
        }
    }

    /// Returns an override as the API writes it, whatever it was set as.
    fn written(self, value: &Value) -> Value {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        match self {
            Kind::Text | Kind::Duration | Kind::Role => text.into(),
            Kind::Number(..) => text.parse::<i64>().map_or_else(|_| value.clone(), Value::from),
            Kind::Flag => ["true", "on", "yes", "1"].contains(&text.as_str()).into(),
        }
    }
}

fn is_duration(text: &str) -> bool {
    let number = text.trim_end_matches(|c: char| c.is_ascii_lowercase());
    let unit = &text[number.len()..];
    let digits = number.strip_prefix('-').unwrap_or(number);
    let is_number = digits.chars().all(|c| c.is_ascii_digit() || c == '.') && digits.parse::<f64>().is_ok();
    is_number && ["", "us", "ms", "s", "min", "h", "d"].contains(&unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_unit_or_none() {
        for (text, is_one) in
            [("5min", true), ("-1", true), ("2.5s", true), ("5 min", false), ("soon", false)]
        {
            assert_eq!(is_duration(text), is_one, "{text}");
        }
    }
}
