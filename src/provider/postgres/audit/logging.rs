//! Checks for what is missing from the server log.

use super::check::{CheckSpec, DEFAULT_CHECK, OWN_CONFIGURATION};
use crate::provider::model::FindingLevel::Info;

const LOGGING: CheckSpec =
    CheckSpec { category: "LOGGING", level: Info, on_branch: Some(OWN_CONFIGURATION), ..DEFAULT_CHECK };

pub(super) const CHECKS: &[CheckSpec] = &[
    CheckSpec {
        id: "log_connections",
        sql: "select name as object, 'who came is not in the log' as detail
              from pg_settings where name = 'log_connections' and setting in ('off', '')",
        fix: "set it to `on`",
        ..LOGGING
    },
    CheckSpec {
        id: "log_disconnections",
        sql: "select name as object, 'who left, and after how long, is not in the log' as detail
              from pg_settings where name = 'log_disconnections' and setting = 'off'",
        fix: "set it to `on`",
        ..LOGGING
    },
    CheckSpec {
        id: "log_checkpoints",
        sql: "select name as object, 'checkpoints are not in the log' as detail
              from pg_settings where name = 'log_checkpoints' and setting = 'off'",
        fix: "set it to `on`",
        ..LOGGING
    },
    CheckSpec {
        id: "log_replication_commands",
        sql: "select name as object, 'who copied the cluster is not in the log' as detail
              from pg_settings where name = 'log_replication_commands' and setting = 'off'",
        fix: "set it to `on`",
        ..LOGGING
    },
    CheckSpec {
        id: "log_statement_none",
        sql: "select name as object, 'who dropped what is not in the log' as detail
              from pg_settings where name = 'log_statement' and setting = 'none'",
        fix: "set it to `ddl`",
        ..LOGGING
    },
    CheckSpec {
        id: "pgaudit_absent",
        // `pg_settings` hides this row from roles without the right to it; `current_setting` fails instead.
        sql: "select 'shared_preload_libraries' as object, 'pgaudit is not loaded' as detail
              where current_setting('shared_preload_libraries') !~ 'pgaudit'",
        fix: "load pgaudit where changes must be accounted for",
        ..LOGGING
    },
];
