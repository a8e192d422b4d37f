//! Whether a server has read its files since they were last changed.

/// Returns the SQL expression that tells whether the server has read a file since it was last changed; `stat` is the file's
/// `pg_stat_file`. A file that was put back with its old time was changed when it was put there. A file's times have whole
/// seconds, and the file is read a moment before the load time: what was loaded only just after counts as not loaded.
pub(super) fn is_loaded_sql(stat: &str) -> String {
    format!("greatest({stat}.modification, {stat}.change) + interval '2 seconds' <= pg_conf_load_time()")
}
