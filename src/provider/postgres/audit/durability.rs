//! Checks for settings that lose data or hide damage, and for configurations that would not survive restart.

use super::check::{CheckSpec, DEFAULT_CHECK, OWN_CONFIGURATION};
use crate::provider::model::FindingLevel::{Error, Warn};

const DURABILITY: CheckSpec = CheckSpec { category: "DURABILITY", ..DEFAULT_CHECK };

pub(super) const CHECKS: &[CheckSpec] = &[
    CheckSpec {
        id: "unsafe_setting",
        level: Error,
        on_branch: Some(OWN_CONFIGURATION),
        sql: "select name as object, 'is ' || setting || ': data can be lost or damaged' as detail,
                     'alter system reset ' || name as fix
              from pg_settings
              where name in ('fsync', 'full_page_writes') and setting = 'off'
                 or name in ('zero_damaged_pages', 'ignore_checksum_failure', 'allow_system_table_mods')
                    and setting = 'on'",
        ..DURABILITY
    },
    CheckSpec {
        id: "data_checksums_off",
        level: Warn,
        sql: "select name as object, 'is off: neither reads nor backups notice a damaged page' as detail
              from pg_settings where name = 'data_checksums' and setting = 'off'",
        fix: "`pg_checksums --enable` while the server is stopped",
        ..DURABILITY
    },
    CheckSpec {
        id: "pending_restart",
        level: Warn,
        on_branch: Some(OWN_CONFIGURATION),
        needs: Some("pg_read_all_settings"),
        sql: "select name as object, 'was changed and is not in force before a restart' as detail
              from pg_settings where pending_restart",
        fix: "restart the server at a time of your own choosing",
        ..DURABILITY
    },
    CheckSpec {
        id: "config_file_error",
        level: Error,
        on_branch: Some(OWN_CONFIGURATION),
        needs: Some("pg_read_all_settings"),
        // This view reports a valid value that awaits a restart as an error, like a bad one. Reading it marks
        // the valid ones as pending, so that mark is looked up row by row, after the view.
        sql: "select format('%s:%s', f.sourcefile, f.sourceline) as object,
                     concat_ws(': ', f.name, f.error) as detail
              from pg_file_settings as f
              where f.error is not null
                and (select s.pending_restart from pg_settings as s where s.name = f.name) is not true",
        fix: "correct it: the server will not start again",
        ..DURABILITY
    },
];
