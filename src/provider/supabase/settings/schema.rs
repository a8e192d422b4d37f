//! The settings that the platform takes, with their types: its published schema (`PATCH
//! /v1/projects/{ref}/config/database/postgres`), and which of them PostgreSQL takes only at a start.

use crate::{
    base::moment::Span,
    provider::{Code, Error, Result},
};
use serde_json::Value;

/// A setting that the platform accepts.
pub(super) struct SettingSpec {
    name: &'static str,
    kind: SettingKind,
    /// Whether it waits for a restart.
    pub restarts: bool,
}

enum SettingKind {
    /// A size or a time as text with its unit, or a number such as -1.
    Quantity,
    /// A length of time as text; without a unit in milliseconds, for `checkpoint_timeout` in seconds.
    Duration,
    /// An integer within inclusive bounds.
    Int(i64, i64),
    /// True or false.
    Bool,
    /// One of a few words.
    Choice(&'static [&'static str]),
}

use SettingKind::{Bool, Choice, Duration, Int, Quantity};

const fn reloadable_setting(name: &'static str, kind: SettingKind) -> SettingSpec {
    SettingSpec { name, kind, restarts: false }
}

const fn restart_setting(name: &'static str, kind: SettingKind) -> SettingSpec {
    SettingSpec { name, kind, restarts: true }
}

const SETTINGS: &[SettingSpec] = &[
    restart_setting("autovacuum_max_workers", Int(1, 262_143)),
    reloadable_setting("autovacuum_work_mem", Quantity),
    reloadable_setting("checkpoint_timeout", Duration),
    reloadable_setting("cron.log_statement", Bool),
    reloadable_setting("effective_cache_size", Quantity),
    reloadable_setting("hot_standby_feedback", Bool),
    reloadable_setting("log_autovacuum_min_duration", Duration),
    reloadable_setting("log_checkpoints", Bool),
    reloadable_setting("log_connections", Bool),
    reloadable_setting("log_disconnections", Bool),
    reloadable_setting("log_duration", Bool),
    reloadable_setting("log_lock_waits", Bool),
    reloadable_setting("log_recovery_conflict_waits", Bool),
    reloadable_setting("log_replication_commands", Bool),
    reloadable_setting("log_startup_progress_interval", Duration),
    reloadable_setting("log_temp_files", Quantity),
    reloadable_setting("logical_decoding_work_mem", Quantity),
    reloadable_setting("maintenance_work_mem", Quantity),
    restart_setting("max_connections", Int(1, 262_143)),
    restart_setting("max_locks_per_transaction", Int(10, 2_147_483_640)),
    restart_setting("max_logical_replication_workers", Int(0, 262_143)),
    reloadable_setting("max_parallel_maintenance_workers", Int(0, 1024)),
    reloadable_setting("max_parallel_workers", Int(0, 1024)),
    reloadable_setting("max_parallel_workers_per_gather", Int(0, 1024)),
    restart_setting("max_replication_slots", Int(0, 262_143)),
    reloadable_setting("max_slot_wal_keep_size", Quantity),
    reloadable_setting("max_standby_archive_delay", Quantity),
    reloadable_setting("max_standby_streaming_delay", Quantity),
    reloadable_setting("max_sync_workers_per_subscription", Int(0, 262_143)),
    restart_setting("max_wal_senders", Int(0, 262_143)),
    reloadable_setting("max_wal_size", Quantity),
    restart_setting("max_worker_processes", Int(0, 262_143)),
    reloadable_setting("pg_net.batch_size", Int(0, 32_767)),
    restart_setting("pg_stat_statements.max", Int(100, 45_000)),
    reloadable_setting("session_replication_role", Choice(&["origin", "replica", "local"])),
    restart_setting("shared_buffers", Quantity),
    reloadable_setting("statement_timeout", Duration),
    restart_setting("track_activity_query_size", Quantity),
    restart_setting("track_commit_timestamp", Bool),
    reloadable_setting("wal_keep_size", Quantity),
    reloadable_setting("wal_sender_timeout", Duration),
    reloadable_setting("work_mem", Quantity),
];

/// Returns the names of all settings that the platform accepts.
pub(super) fn setting_names() -> impl Iterator<Item = &'static str> + Clone {
    SETTINGS.iter().map(|field| field.name)
}

/// Returns a setting that the platform takes.
pub(super) fn find_setting(name: &str) -> Option<&'static SettingSpec> {
    SETTINGS.iter().find(|field| field.name == name)
}

/// Converts the text of `current_setting` to the JSON type in which the setting is written.
pub(super) fn decode_setting(name: &str, answer: &Value) -> Value {
    let text = answer.as_str().unwrap_or_default();
    let typed = match find_setting(name).map(|field| &field.kind) {
        Some(Int(..)) => text.parse::<i64>().ok().map(Value::from),
        Some(Bool) => ["on", "off"].contains(&text).then(|| (text == "on").into()),
        _ => None,
    };
    typed.unwrap_or_else(|| answer.clone())
}

impl SettingSpec {
    /// Converts a value to the JSON type that the platform accepts. Its text stays the same: the effective
    /// value is later compared with the requested one.
    ///
    /// # Errors
    /// [`Code::Invalid`] with what to write.
    pub(super) fn encode_value(&self, value: &Value) -> Result<Value> {
        let text = match value {
            Value::String(text) => text.trim().to_owned(),
            other => other.to_string(),
        };
        let accepted = match &self.kind {
            Quantity => is_quantity(&text).then(|| Value::from(text.as_str())),
            Duration => is_duration(&text).then(|| Value::from(text.as_str())),
            Int(min, max) => text.parse::<i64>().ok().filter(|n| (*min..=*max).contains(n)).map(Value::from),
            Bool => text.parse::<bool>().ok().map(Value::from),
            Choice(words) => words.contains(&text.as_str()).then(|| Value::from(text.as_str())),
        };
        accepted.ok_or_else(|| {
            Error::new(Code::Invalid, format!("`{}` cannot be `{text}`", self.name))
                .with_hint(self.describe_expected_form(&text))
        })
    }

    fn describe_expected_form(&self, given: &str) -> String {
        match &self.kind {
            Quantity => "write it with its unit, such as `\"64MB\"`; 0 and -1 need none".into(),
            // Elsewhere in runbooks `45m` is 45 minutes; PostgreSQL does not accept it.
            Duration => match Span::parse(given) {
                Ok(span) => {
                    format!("write `{}`: the units are us, ms, s, min, h and d", format_duration(span))
                }
                Err(_) => "write a number and a unit: us, ms, s, min, h or d".into(),
            },
            Int(min, max) => format!("it is a whole number between {min} and {max}"),
            Bool => "it is true or false".into(),
            Choice(words) => format!("it is one of `{}`", words.join("`, `")),
        }
    }
}

/// Formats a duration in the largest PostgreSQL unit that divides it evenly.
fn format_duration(span: Span) -> String {
    let millis = span.0.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s")];
    let whole = units.iter().find(|(length, _)| millis != 0 && millis % length == 0);
    whole.map_or_else(|| format!("{millis}ms"), |(length, unit)| format!("{}{unit}", millis / length))
}

fn is_quantity(text: &str) -> bool {
    if ["0", "-1"].contains(&text) {
        return true;
    }
    let digits = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    digits.len() < text.len()
        && ["B", "kB", "MB", "GB", "TB", "us", "ms", "s", "min", "h", "d"].contains(&digits.trim_start())
}

/// Returns whether a text matches the platform's pattern for durations.
fn is_duration(text: &str) -> bool {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = &text[number.len()..];
    ["", "us", "ms", "s", "min", "h", "d"].contains(&unit)
        && number.trim_start_matches('-').starts_with(|c: char| c.is_ascii_digit())
        && !number.contains(['e', 'E'])
        && number.parse::<f64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn supabase_names_of_settings_are_sorted_and_there_once() {
        assert!(SETTINGS.windows(2).all(|two| two[0].name < two[1].name));
    }

    #[test]
    fn supabase_times_are_those_of_the_platforms_pattern() {
        for text in ["0", "-1", "30000", "5s", "1.5h", "10min"] {
            assert!(is_duration(text), "{text}");
        }
        for text in ["", "45m", "ten", "5 s", "1e3", "--1", "1h 30min", "inf", "nan"] {
            assert!(!is_duration(text), "{text}");
        }
        assert_eq!(format_duration(Span::from_secs(2700)), "45min");
        assert_eq!(format_duration(Span::from_millis(1500)), "1500ms");
    }
}
