//! `…/config/database/postgres`: the overridden settings, not the effective ones.

use super::{
    project::FakeProject,
    request::RoutedRequest,
    response::{ApiResponse, ApiResult},
};
use crate::base::moment::Span;
use serde_json::{Map, Value};

/// How long a restart takes.
const RESTART_DURATION: Span = Span::from_secs(20);

/// The type of a setting in the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ApiSettingType {
    Text,
    Duration,
    Number(i64, i64),
    Flag,
    Role,
}

/// Every setting that the API knows.
const SETTINGS: &[(&str, ApiSettingType)] = &[
    ("effective_cache_size", ApiSettingType::Text),
    ("logical_decoding_work_mem", ApiSettingType::Text),
    ("autovacuum_work_mem", ApiSettingType::Text),
    ("log_temp_files", ApiSettingType::Text),
    ("maintenance_work_mem", ApiSettingType::Text),
    ("track_activity_query_size", ApiSettingType::Text),
    ("max_slot_wal_keep_size", ApiSettingType::Text),
    ("max_standby_archive_delay", ApiSettingType::Text),
    ("max_standby_streaming_delay", ApiSettingType::Text),
    ("max_wal_size", ApiSettingType::Text),
    ("shared_buffers", ApiSettingType::Text),
    ("wal_keep_size", ApiSettingType::Text),
    ("work_mem", ApiSettingType::Text),
    ("statement_timeout", ApiSettingType::Duration),
    ("wal_sender_timeout", ApiSettingType::Duration),
    ("checkpoint_timeout", ApiSettingType::Duration),
    ("log_autovacuum_min_duration", ApiSettingType::Duration),
    ("log_startup_progress_interval", ApiSettingType::Duration),
    ("max_connections", ApiSettingType::Number(1, 262_143)),
    ("max_locks_per_transaction", ApiSettingType::Number(10, 2_147_483_640)),
    ("autovacuum_max_workers", ApiSettingType::Number(1, 262_143)),
    ("max_logical_replication_workers", ApiSettingType::Number(0, 262_143)),
    ("max_sync_workers_per_subscription", ApiSettingType::Number(0, 262_143)),
    ("max_parallel_maintenance_workers", ApiSettingType::Number(0, 1024)),
    ("max_parallel_workers", ApiSettingType::Number(0, 1024)),
    ("max_parallel_workers_per_gather", ApiSettingType::Number(0, 1024)),
    ("max_replication_slots", ApiSettingType::Number(0, 262_143)),
    ("max_wal_senders", ApiSettingType::Number(0, 262_143)),
    ("max_worker_processes", ApiSettingType::Number(0, 262_143)),
    ("pg_stat_statements.max", ApiSettingType::Number(100, 45_000)),
    ("pg_net.batch_size", ApiSettingType::Number(0, 32_767)),
    ("track_commit_timestamp", ApiSettingType::Flag),
    ("hot_standby_feedback", ApiSettingType::Flag),
    ("cron.log_statement", ApiSettingType::Flag),
    ("log_checkpoints", ApiSettingType::Flag),
    ("log_connections", ApiSettingType::Flag),
    ("log_disconnections", ApiSettingType::Flag),
    ("log_duration", ApiSettingType::Flag),
    ("log_lock_waits", ApiSettingType::Flag),
    ("log_recovery_conflict_waits", ApiSettingType::Flag),
    ("log_replication_commands", ApiSettingType::Flag),
    ("session_replication_role", ApiSettingType::Role),
];

/// Shows the overrides.
pub(super) async fn get_postgres_config(request: &RoutedRequest) -> ApiResult {
    let project = request.find_project()?;
    Ok(ApiResponse::json(200, Value::Object(read_overrides(&project).await?)))
}

/// Replaces all overrides: a setting that is not named loses its override.
pub(super) async fn replace_postgres_config(request: &RoutedRequest) -> ApiResult {
    let project = request.find_project()?;
    let mut wanted = parse_wanted_settings(request)?;
    for name in read_overrides(&project).await?.keys() {
        wanted.entry(name.clone()).or_insert(Value::Null);
    }
    apply_settings(request, &project, wanted).await
}

/// Overrides the named settings and leaves the others.
pub(super) async fn patch_postgres_config(request: &RoutedRequest) -> ApiResult {
    let project = request.find_project()?;
    let wanted = parse_wanted_settings(request)?;
    apply_settings(request, &project, wanted).await
}

async fn apply_settings(
    request: &RoutedRequest,
    project: &FakeProject,
    wanted: Map<String, Value>,
) -> ApiResult {
    // The database restarts unless the request says otherwise.
    let restart = request.body.get("restart_database").and_then(Value::as_bool).unwrap_or(true);
    let database = project.as_provider()?;
    database.settings()?.set(&wanted).await?;
    if restart && !wanted.is_empty() {
        project.restart_server(request.scale_span(RESTART_DURATION)).await?;
    }
    Ok(ApiResponse::json(200, Value::Object(read_overrides(project).await?)))
}

async fn read_overrides(project: &FakeProject) -> Result<Map<String, Value>, ApiResponse> {
    let database = project.as_provider()?;
    let list = database.settings()?.get(&[]).await?;
    let known = |name: &str| SETTINGS.iter().find(|(n, _)| *n == name);
    Ok(list
        .into_iter()
        .filter(|s| !s.overridden.is_null())
        .filter_map(|s| known(&s.name).map(|(_, kind)| (s.name.clone(), kind.to_api_value(&s.overridden))))
        .collect())
}

fn parse_wanted_settings(request: &RoutedRequest) -> Result<Map<String, Value>, ApiResponse> {
    let mut wanted = request.body_fields()?.clone();
    wanted.remove("restart_database");
    for (name, value) in &wanted {
        let Some((_, kind)) = SETTINGS.iter().find(|(n, _)| n == name) else {
            return Err(ApiResponse::error(400, format!("Unrecognized key(s) in object: '{name}'")));
        };
        if !kind.accepts_value(value) {
            return Err(ApiResponse::error(400, format!("{name}: Invalid input")));
        }
    }
    Ok(wanted)
}

impl ApiSettingType {
    fn accepts_value(self, value: &Value) -> bool {
        match self {
            ApiSettingType::Text => value.is_string(),
            ApiSettingType::Duration => value.as_str().is_some_and(is_duration),
            ApiSettingType::Number(least, most) => {
                value.as_i64().is_some_and(|n| (least..=most).contains(&n))
            }
            ApiSettingType::Flag => value.is_boolean(),
            ApiSettingType::Role => {
                value.as_str().is_some_and(|r| ["origin", "replica", "local"].contains(&r))
            }
        }
    }

    /// Converts an override to the JSON type that the API gives the setting.
    fn to_api_value(self, value: &Value) -> Value {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        match self {
            ApiSettingType::Text | ApiSettingType::Duration | ApiSettingType::Role => text.into(),
            ApiSettingType::Number(..) => text.parse::<i64>().map_or_else(|_| value.clone(), Value::from),
            ApiSettingType::Flag => ["true", "on", "yes", "1"].contains(&text.as_str()).into(),
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
