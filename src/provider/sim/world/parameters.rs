//! The settings that a simulated server knows: PostgreSQL's names, presets, units and limits.
//!
//! Presets and limits are those of PostgreSQL 17's `pg_settings`. A value is shown as `SHOW` would: in the largest unit
//! that it is a whole number of.

use crate::{
    base::suggest,
    provider::{Code, Error, Result},
};
use serde_json::Value;

/// A setting that the simulator knows.
pub(in crate::provider::sim) struct Parameter {
    pub(in crate::provider::sim) name: &'static str,
    /// The default.
    pub(in crate::provider::sim) preset: &'static str,
    /// Whether a change of it waits for a restart.
    pub(super) needs_restart: bool,
    form: ParameterType,
}

/// What a setting takes.
enum ParameterType {
    Bool,
    /// A whole number between two.
    Int(i64, i64),
    /// A number between two.
    Real(f64, f64),
    /// A size between two, in units of so many bytes.
    Size(i64, i64, i64),
    /// A length of time between two, in units of so many milliseconds.
    Time(i64, i64, i64),
    /// One of a few words.
    Choice(&'static [&'static str]),
    Text,
}

use ParameterType::{Bool, Choice, Int, Real, Size, Text, Time};

const KB: i64 = 1024;
const MB: i64 = 1024 * KB;
const SECOND: i64 = 1000;
const MAX_INT: i64 = 2_147_483_647;

const fn runtime_parameter(name: &'static str, preset: &'static str, form: ParameterType) -> Parameter {
    Parameter { name, preset, needs_restart: false, form }
}

const fn restart_parameter(name: &'static str, preset: &'static str, form: ParameterType) -> Parameter {
    Parameter { name, preset, needs_restart: true, form }
}

/// Every setting that the simulator knows, by name.
const PARAMETERS: &[Parameter] = &[
    restart_parameter("archive_mode", "off", Choice(&["on", "off", "always"])),
    runtime_parameter("archive_timeout", "0", Time(SECOND, 0, 1_073_741_823)),
    runtime_parameter("autovacuum", "on", Bool),
    runtime_parameter("autovacuum_analyze_scale_factor", "0.1", Real(0.0, 100.0)),
    restart_parameter("autovacuum_max_workers", "3", Int(1, 262_143)),
    runtime_parameter("autovacuum_naptime", "1min", Time(SECOND, 1, 2_147_483)),
    runtime_parameter("autovacuum_vacuum_cost_limit", "-1", Int(-1, 10_000)),
    runtime_parameter("autovacuum_vacuum_scale_factor", "0.2", Real(0.0, 100.0)),
    runtime_parameter("checkpoint_completion_target", "0.9", Real(0.0, 1.0)),
    runtime_parameter("checkpoint_timeout", "5min", Time(SECOND, 30, 86_400)),
    runtime_parameter("deadlock_timeout", "1s", Time(1, 1, MAX_INT)),
    runtime_parameter("default_statistics_target", "100", Int(1, 10_000)),
    runtime_parameter("effective_cache_size", "4GB", Size(8 * KB, 1, MAX_INT)),
    runtime_parameter("effective_io_concurrency", "1", Int(0, 1000)),
    restart_parameter("hot_standby", "on", Bool),
    runtime_parameter("hot_standby_feedback", "off", Bool),
    restart_parameter("huge_pages", "try", Choice(&["off", "on", "try"])),
    runtime_parameter("idle_in_transaction_session_timeout", "0", Time(1, 0, MAX_INT)),
    runtime_parameter("idle_session_timeout", "0", Time(1, 0, MAX_INT)),
    runtime_parameter("jit", "on", Bool),
    runtime_parameter("lock_timeout", "0", Time(1, 0, MAX_INT)),
    runtime_parameter("log_connections", "off", Bool),
    runtime_parameter("log_disconnections", "off", Bool),
    runtime_parameter("log_lock_waits", "off", Bool),
    runtime_parameter("log_min_duration_statement", "-1", Time(1, -1, MAX_INT)),
    runtime_parameter("log_statement", "none", Choice(&["none", "ddl", "mod", "all"])),
    runtime_parameter("logical_decoding_work_mem", "64MB", Size(KB, 64, MAX_INT)),
    runtime_parameter("maintenance_work_mem", "64MB", Size(KB, 64, MAX_INT)),
    restart_parameter("max_connections", "100", Int(1, 262_143)),
    restart_parameter("max_locks_per_transaction", "64", Int(10, MAX_INT)),
    runtime_parameter("max_parallel_maintenance_workers", "2", Int(0, 1024)),
    runtime_parameter("max_parallel_workers", "8", Int(0, 1024)),
    runtime_parameter("max_parallel_workers_per_gather", "2", Int(0, 1024)),
    restart_parameter("max_prepared_transactions", "0", Int(0, 262_143)),
    restart_parameter("max_replication_slots", "10", Int(0, 262_143)),
    runtime_parameter("max_slot_wal_keep_size", "-1", Size(MB, -1, MAX_INT)),
    runtime_parameter("max_standby_archive_delay", "30s", Time(1, -1, MAX_INT)),
    runtime_parameter("max_standby_streaming_delay", "30s", Time(1, -1, MAX_INT)),
    restart_parameter("max_wal_senders", "10", Int(0, 262_143)),
    runtime_parameter("max_wal_size", "1GB", Size(MB, 2, MAX_INT)),
    restart_parameter("max_worker_processes", "8", Int(0, 262_143)),
    runtime_parameter("min_wal_size", "80MB", Size(MB, 2, MAX_INT)),
    runtime_parameter("password_encryption", "scram-sha-256", Choice(&["md5", "scram-sha-256"])),
    runtime_parameter("random_page_cost", "4", Real(0.0, 1e308)),
    runtime_parameter("row_security", "on", Bool),
    runtime_parameter("search_path", "\"$user\", public", Text),
    runtime_parameter("seq_page_cost", "1", Real(0.0, 1e308)),
    runtime_parameter("session_replication_role", "origin", Choice(&["origin", "replica", "local"])),
    restart_parameter("shared_buffers", "128MB", Size(8 * KB, 16, 1_073_741_823)),
    restart_parameter("shared_preload_libraries", "", Text),
    runtime_parameter("statement_timeout", "0", Time(1, 0, MAX_INT)),
    runtime_parameter(
        "synchronous_commit",
        "on",
        Choice(&["local", "remote_write", "remote_apply", "on", "off"]),
    ),
    runtime_parameter("tcp_keepalives_idle", "0", Time(SECOND, 0, MAX_INT)),
    runtime_parameter("temp_file_limit", "-1", Size(KB, -1, MAX_INT)),
    runtime_parameter("timezone", "UTC", Text),
    restart_parameter("track_activity_query_size", "1kB", Size(1, 100, 1_048_576)),
    restart_parameter("track_commit_timestamp", "off", Bool),
    runtime_parameter("track_io_timing", "off", Bool),
    restart_parameter("wal_buffers", "-1", Size(8 * KB, -1, 262_143)),
    runtime_parameter("wal_compression", "off", Choice(&["off", "on", "pglz", "lz4", "zstd"])),
    runtime_parameter("wal_keep_size", "0", Size(MB, 0, MAX_INT)),
    restart_parameter("wal_level", "replica", Choice(&["minimal", "replica", "logical"])),
    runtime_parameter("work_mem", "4MB", Size(KB, 64, MAX_INT)),
];

/// Sizes by name, largest first, in bytes.
const SIZE_UNITS: &[(&str, i64)] =
    &[("TB", MB * 1024 * 1024), ("GB", MB * 1024), ("MB", MB), ("kB", KB), ("B", 1)];
/// Lengths of time by name, longest first, in milliseconds.
const TIME_UNITS: &[(&str, i64)] =
    &[("d", 86_400 * SECOND), ("h", 3600 * SECOND), ("min", 60 * SECOND), ("s", SECOND), ("ms", 1)];

/// Returns a setting by its name.
///
/// # Errors
/// [`Code::NotFound`] with the nearest.
pub(in crate::provider::sim) fn find_parameter(name: &str) -> Result<&'static Parameter> {
    PARAMETERS.iter().find(|p| p.name == name).ok_or_else(|| {
        let error = Error::new(Code::NotFound, format!("there is no setting `{name}`"));
        match suggest::nearest_name(name, PARAMETERS.iter().map(|p| p.name)) {
            Some(near) => error.with_hint(format!("did you mean `{near}`?")),
            None => error.with_hint("the simulator knows the settings of PostgreSQL that are changed most"),
        }
    })
}

impl Parameter {
    /// Returns a value as the server shows it.
    ///
    /// # Errors
    /// [`Code::Invalid`] with what it takes.
    pub(in crate::provider::sim) fn format_value(&self, value: &Value) -> Result<String> {
        let text = match value {
            Value::String(text) => text.trim().to_owned(),
            other => other.to_string(),
        };
        let wrong = |hint: String| {
            Error::new(Code::Invalid, format!("the setting `{}` cannot be `{text}`", self.name))
                .with_hint(hint)
        };
        let between = |low: String, high: String| format!("it takes {low} to {high}");
        match self.form {
            Bool => parse_bool_word(&text).map(Into::into).ok_or_else(|| wrong("it takes on or off".into())),
            Int(low, high) => match text.parse::<i64>() {
                Ok(n) if (low..=high).contains(&n) => Ok(n.to_string()),
                _ => Err(wrong(between(low.to_string(), high.to_string()))),
            },
            Real(low, high) => match text.parse::<f64>() {
                Ok(n) if (low..=high).contains(&n) => Ok(n.to_string()),
                _ => Err(wrong(between(low.to_string(), high.to_string()))),
            },
            Size(unit, low, high) => {
                normalize_quantity(&text, unit, (low, high), SIZE_UNITS).ok_or_else(|| {
                    wrong(between(
                        format_in_units(low, unit, SIZE_UNITS),
                        format_in_units(high, unit, SIZE_UNITS),
                    ))
                })
            }
            Time(unit, low, high) => {
                normalize_quantity(&text, unit, (low, high), TIME_UNITS).ok_or_else(|| {
                    wrong(between(
                        format_in_units(low, unit, TIME_UNITS),
                        format_in_units(high, unit, TIME_UNITS),
                    ))
                })
            }
            Choice(words) => match words.iter().find(|word| word.eq_ignore_ascii_case(&text)) {
                Some(word) => Ok((*word).into()),
                // PostgreSQL takes `true` for `on` and so forth, where those are among the words.
                None => match parse_bool_word(&text).filter(|word| words.contains(word)) {
                    Some(word) => Ok(word.into()),
                    None => Err(wrong(format!("it takes {}", words.join(", ")))),
                },
            },
            Text => Ok(text),
        }
    }
}

fn parse_bool_word(text: &str) -> Option<&'static str> {
    match text.to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Some("on"),
        "off" | "false" | "no" | "0" => Some("off"),
        _ => None,
    }
}

/// Reads a number with or without a unit, and returns it as the server shows it; `None` outside the limits, which count
/// in `unit`.
fn normalize_quantity(
    text: &str,
    unit: i64,
    (low, high): (i64, i64),
    names: &[(&str, i64)],
) -> Option<String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '-').unwrap_or(text.len());
    let (number, name) = text.split_at(digits);
    let number: i64 = number.parse().ok()?;
    let each = match name.trim() {
        "" => unit,
        name => names.iter().find(|(known, _)| *known == name)?.1,
    };
    // The server keeps whole units: what lies between two is rounded to the nearer.
    let whole = i64::try_from(
        (i128::from(number) * i128::from(each) * 2 + i128::from(unit)).div_euclid(i128::from(unit) * 2),
    )
    .ok()?;
    (low..=high).contains(&whole).then(|| format_in_units(whole, unit, names))
}

fn format_in_units(whole: i64, unit: i64, names: &[(&str, i64)]) -> String {
    if whole <= 0 {
        return whole.to_string();
    }
    let amount = i128::from(whole) * i128::from(unit);
    let largest = names.iter().find(|(_, each)| amount % i128::from(*each) == 0);
    largest.map_or_else(|| amount.to_string(), |(name, each)| format!("{}{name}", amount / i128::from(*each)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_preset_is_shown_as_it_is_written() {
        for parameter in PARAMETERS {
            let shown = parameter.format_value(&parameter.preset.into()).expect(parameter.name);
            assert_eq!(shown, parameter.preset, "{}", parameter.name);
        }
        assert!(PARAMETERS.is_sorted_by_key(|p| p.name));
    }

    #[test]
    fn values_are_read_with_their_units() {
        let cases = [
            ("work_mem", json!("8MB"), "8MB"),
            ("work_mem", json!(8192), "8MB"),
            ("work_mem", json!("65kB"), "65kB"),
            ("shared_buffers", json!("1GB"), "1GB"),
            ("shared_buffers", json!(16384), "128MB"),
            ("checkpoint_timeout", json!("900"), "15min"),
            ("statement_timeout", json!("90s"), "90s"),
            ("max_slot_wal_keep_size", json!(-1), "-1"),
            ("jit", json!(false), "off"),
            ("archive_mode", json!(true), "on"),
            ("random_page_cost", json!(1.1), "1.1"),
        ];
        for (name, value, shown) in cases {
            assert_eq!(
                find_parameter(name).expect("is known").format_value(&value).expect("is taken"),
                shown,
                "{name} {value}"
            );
        }
    }

    #[test]
    fn what_is_wrong_is_refused_with_what_it_takes() {
        let cases = [
            ("work_mem", json!("8XB"), "it takes 64kB to"),
            ("work_mem", json!("1kB"), "it takes 64kB to"),
            ("max_connections", json!("many"), "it takes 1 to 262143"),
            ("jit", json!("maybe"), "on or off"),
            ("wal_level", json!("archive"), "minimal, replica, logical"),
        ];
        for (name, value, hint) in cases {
            let error = find_parameter(name).expect("is known").format_value(&value).expect_err("is refused");
            assert!(
                error.code == Code::Invalid && error.hint.as_deref().is_some_and(|h| h.contains(hint)),
                "{error:?}"
            );
        }
        let unknown = find_parameter("work_men").err().expect("is unknown");
        assert_eq!(
            (unknown.code, unknown.hint.as_deref()),
            (Code::NotFound, Some("did you mean `work_mem`?"))
        );
    }
}
