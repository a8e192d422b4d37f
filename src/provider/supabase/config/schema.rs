//! The settings that the platform takes, with their types: its published schema (`PATCH
//! /v1/projects/{ref}/config/database/postgres`), and which of them PostgreSQL takes only at a start.

use crate::{
    base::moment::Span,
    provider::{Code, Error, Result},
};
use serde_json::Value;

/// One setting.
pub(super) struct Field {
    /// Its name.
    name: &'static str,
    kind: Kind,
    /// Whether it waits for a restart.
    pub restarts: bool,
}

enum Kind {
    /// A size or a time as text with its unit, or a number such as -1.
    Sized,
    /// A length of time as text; without a unit in milliseconds, for `checkpoint_timeout` in seconds.
    Time,
    /// A whole number between two others.
    Int(i64, i64),
    /// True or false.
    Bool,
    /// One of a few words.
    Word(&'static [&'static str]),
}

use Kind::{Bool, Int, Sized, Time, Word};

const fn live(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, restarts: false }
}

const fn fixed(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, restarts: true }
}

const FIELDS: &[Field] = &[
    fixed("autovacuum_max_workers", Int(1, 262_143)),
    live("autovacuum_work_mem", Sized),
    live("checkpoint_timeout", Time),
    live("cron.log_statement", Bool),
    live("effective_cache_size", Sized),
    live("hot_standby_feedback", Bool),
    live("log_autovacuum_min_duration", Time),
    live("log_checkpoints", Bool),
    live("log_connections", Bool),
    live("log_disconnections", Bool),
    live("log_duration", Bool),
    live("log_lock_waits", Bool),
    live("log_recovery_conflict_waits", Bool),
    live("log_replication_commands", Bool),
    live("log_startup_progress_interval", Time),
    live("log_temp_files", Sized),
    live("logical_decoding_work_mem", Sized),
    live("maintenance_work_mem", Sized),
    fixed("max_connections", Int(1, 262_143)),
    fixed("max_locks_per_transaction", Int(10, 2_147_483_640)),
    fixed("max_logical_replication_workers", Int(0, 262_143)),
    live("max_parallel_maintenance_workers", Int(0, 1024)),
    live("max_parallel_workers", Int(0, 1024)),
    live("max_parallel_workers_per_gather", Int(0, 1024)),
    fixed("max_replication_slots", Int(0, 262_143)),
    live("max_slot_wal_keep_size", Sized),
    live("max_standby_archive_delay", Sized),
    live("max_standby_streaming_delay", Sized),
    live("max_sync_workers_per_subscription", Int(0, 262_143)),
    fixed("max_wal_senders", Int(0, 262_143)),
    live("max_wal_size", Sized),
    fixed("max_worker_processes", Int(0, 262_143)),
    live("pg_net.batch_size", Int(0, 32_767)),
    fixed("pg_stat_statements.max", Int(100, 45_000)),
    live("session_replication_role", Word(&["origin", "replica", "local"])),
    fixed("shared_buffers", Sized),
    live("statement_timeout", Time),
    fixed("track_activity_query_size", Sized),
    fixed("track_commit_timestamp", Bool),
    live("wal_keep_size", Sized),
    live("wal_sender_timeout", Time),
    live("work_mem", Sized),
];

/// Returns every name.
pub(super) fn names() -> impl Iterator<Item = &'static str> + Clone {
    FIELDS.iter().map(|field| field.name)
}

/// Returns a setting that the platform takes.
pub(super) fn find(name: &str) -> Option<&'static Field> {
    FIELDS.iter().find(|field| field.name == name)
}

/// Returns what `current_setting` says of a setting, in the type in which it is set.
pub(super) fn read(name: &str, said: &Value) -> Value {
    let text = said.as_str().unwrap_or_default();
    let typed = match find(name).map(|field| &field.kind) {
        Some(Int(..)) => text.parse::<i64>().ok().map(Value::from),
        Some(Bool) => ["on", "off"].contains(&text).then(|| (text == "on").into()),
        _ => None,
    };
    typed.unwrap_or_else(|| said.clone())
}

impl Field {
    /// Returns a value in the type that the platform takes. Its text stays the same: what is set is compared with what
    /// was asked for.
    ///
    /// # Errors
    /// [`Code::Invalid`] with what to write.
    pub(super) fn accept(&self, value: &Value) -> Result<Value> {
        let text = match value {
            Value::String(text) => text.trim().to_owned(),
            other => other.to_string(),
        };
        let accepted = match &self.kind {
            Sized => is_sized(&text).then(|| Value::from(text.as_str())),
            Time => is_time(&text).then(|| Value::from(text.as_str())),
            Int(min, max) => text.parse::<i64>().ok().filter(|n| (*min..=*max).contains(n)).map(Value::from),
            Bool => text.parse::<bool>().ok().map(Value::from),
            Word(words) => words.contains(&text.as_str()).then(|| Value::from(text.as_str())),
        };
        accepted.ok_or_else(|| {
            Error::new(Code::Invalid, format!("`{}` cannot be `{text}`", self.name)).hint(self.form(&text))
        })
    }

    fn form(&self, given: &str) -> String {
        match &self.kind {
            Sized => "write it with its unit, such as `\"64MB\"`; 0 and -1 need none".into(),
            // `45m` is 45 minutes everywhere else here, and nothing there.
            Time => match Span::parse(given) {
                Ok(span) => format!("write `{}`: the units are us, ms, s, min, h and d", spelled(span)),
                Err(_) => "write a number and a unit: us, ms, s, min, h or d".into(),
            },
            Int(min, max) => format!("it is a whole number between {min} and {max}"),
            Bool => "it is true or false".into(),
            Word(words) => format!("it is one of `{}`", words.join("`, `")),
        }
    }
}

/// Returns a length of time in the largest unit of PostgreSQL in which it is whole.
fn spelled(span: Span) -> String {
    let millis = span.0.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s")];
    let whole = units.iter().find(|(length, _)| millis != 0 && millis % length == 0);
    whole.map_or_else(|| format!("{millis}ms"), |(length, unit)| format!("{}{unit}", millis / length))
}

fn is_sized(text: &str) -> bool {
    if ["0", "-1"].contains(&text) {
        return true;
    }
    let digits = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    digits.len() < text.len()
        && ["B", "kB", "MB", "GB", "TB", "us", "ms", "s", "min", "h", "d"].contains(&digits.trim_start())
}

/// Returns whether a text is as the platform's pattern has it.
fn is_time(text: &str) -> bool {
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
        assert!(FIELDS.windows(2).all(|two| two[0].name < two[1].name));
    }

    #[test]
    fn supabase_times_are_those_of_the_platforms_pattern() {
        for text in ["0", "-1", "30000", "5s", "1.5h", "10min"] {
            assert!(is_time(text), "{text}");
        }
        for text in ["", "45m", "ten", "5 s", "1e3", "--1", "1h 30min", "inf", "nan"] {
            assert!(!is_time(text), "{text}");
        }
        assert_eq!(spelled(Span::seconds(2700)), "45min");
        assert_eq!(spelled(Span::millis(1500)), "1500ms");
    }
}
