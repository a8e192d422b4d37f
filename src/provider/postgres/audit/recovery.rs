//! Checks for what would prevent or hamper the recovery of this database.

use super::check::{CheckSpec, DEFAULT_CHECK};
use crate::provider::model::FindingLevel::{Error, Info, Warn};

const RECOVERY: CheckSpec = CheckSpec { category: "RECOVERY", ..DEFAULT_CHECK };
const ARCHIVE: CheckSpec = CheckSpec { on_branch: Some("a branch archives nothing"), ..RECOVERY };
const SLOTS: CheckSpec = CheckSpec { on_branch: Some("a branch has no replicas"), ..RECOVERY };

pub(super) const CHECKS: &[CheckSpec] = &[
    CheckSpec {
        id: "archive_off",
        level: Error,
        sql: "select name as object, 'is off: no moment of this cluster can be restored' as detail
              from pg_settings where name = 'archive_mode' and setting = 'off'",
        fix: "set `archive_mode = on` (restart) and an archive_command or archive_library",
        ..ARCHIVE
    },
    CheckSpec {
        id: "archive_command_empty",
        level: Error,
        sql: "select 'archive_command' as object,
                     'archiving is on and goes nowhere: pg_wal grows until the disk is full' as detail
              where current_setting('archive_mode') <> 'off'
                and current_setting('archive_command') in ('', '(disabled)')
                and coalesce(current_setting('archive_library', true), '') = ''",
        fix: "set archive_command or archive_library",
        ..ARCHIVE
    },
    CheckSpec {
        id: "archive_failing",
        level: Error,
        sql: "select coalesce(last_failed_wal, 'pg_stat_archiver') as object,
                     format('archiving fails since %s, %s times so far: pg_wal grows until the disk is full',
                            coalesce(last_archived_time, stats_reset), failed_count) as detail
              from pg_stat_archiver
              where last_failed_time > coalesce(last_archived_time, '-infinity')
                and current_setting('archive_mode') <> 'off'",
        fix: "see the server's log, and mend archive_command or archive_library",
        ..ARCHIVE
    },
    CheckSpec {
        id: "archive_stale",
        level: Warn,
        sql: "select 'pg_stat_archiver' as object,
                     coalesce('the last segment was archived ' || last_archived_time,
                              'nothing was archived since the server started') as detail
              from pg_stat_archiver
              where coalesce(last_archived_time, pg_postmaster_start_time()) < now() - interval '1 hour'
                and current_setting('archive_mode') <> 'off'",
        fix: "set archive_timeout: it bounds the loss on a quiet database",
        ..ARCHIVE
    },
    CheckSpec {
        id: "archive_timeout_zero",
        level: Info,
        sql: "select name as object, 'is 0: on a quiet database the newest changes may stay unarchived for hours' as detail
              from pg_settings
              where name = 'archive_timeout' and setting = '0' and current_setting('archive_mode') <> 'off'",
        fix: "set it to between 60 s and 300 s",
        ..ARCHIVE
    },
    CheckSpec {
        id: "slot_inactive",
        level: Warn,
        sql: "select slot_name as object,
                     format('nobody reads it, and it holds back %s MB of WAL (%s)',
                            round(pg_wal_lsn_diff(case when pg_is_in_recovery() then pg_last_wal_replay_lsn()
                                                       else pg_current_wal_lsn() end, restart_lsn) / 1e6),
                            wal_status) as detail
              from pg_replication_slots where not active",
        fix: "bring its reader back, or `pg_drop_replication_slot`",
        ..SLOTS
    },
    CheckSpec {
        id: "slot_unbounded",
        level: Warn,
        sql: "select name as object, 'is -1, and there are slots: a reader that dies can fill the disk' as detail
              from pg_settings
              where name = 'max_slot_wal_keep_size' and setting = '-1'
                and exists (select from pg_replication_slots)",
        fix: "set a bound",
        ..SLOTS
    },
    CheckSpec {
        id: "unlogged_table",
        level: Warn,
        sql: "select n.nspname || '.' || c.relname as object,
                     'is UNLOGGED: it is empty after every restore and every crash' as detail
              from pg_class as c join own_schema as n on n.oid = c.relnamespace
              where c.relpersistence = 'u' and c.relkind in ('r', 'p')",
        fix: "`alter table … set logged`",
        ..RECOVERY
    },
    CheckSpec {
        id: "tablespace_outside",
        level: Info,
        on_branch: Some("a branch has tablespaces of its own"),
        sql: "select spcname as object,
                     format('its files are at %s: a restored copy must have them elsewhere',
                            pg_tablespace_location(oid)) as detail
              from pg_tablespace where pg_tablespace_location(oid) <> ''",
        fix: "map the tablespace in every restore",
        ..RECOVERY
    },
    CheckSpec {
        id: "subscription_in_copy",
        level: Warn,
        on_branch: Some("a branch runs no logical replication"),
        sql: "select 'subscription ' || subname as object,
                     'a restored copy would connect to the publisher and eat what is meant for this cluster' as detail
              from pg_subscription where subenabled",
        fix: "start copies with max_logical_replication_workers = 0",
        ..RECOVERY
    },
    CheckSpec {
        id: "collation_changed",
        level: Info,
        since_version: 15,
        sql: "select 'database ' || datname as object,
                     format('was made with collation version %s, and the OS has %s: indexes on text may be wrong',
                            datcollversion, pg_database_collation_actual_version(oid)) as detail
              from pg_database
              where datallowconn and datcollversion <> pg_database_collation_actual_version(oid)",
        fix: "`reindex` and `alter database … refresh collation version`",
        ..RECOVERY
    },
    CheckSpec {
        id: "wraparound",
        level: Error,
        sql: "select case when age(datfrozenxid) > 1500000000 then 'error' else 'warn' end as level,
                     'database ' || datname as object,
                     age(datfrozenxid) || ' transactions since it was frozen' as detail
              from pg_database where age(datfrozenxid) > 500000000",
        fix: "`vacuum freeze`",
        ..RECOVERY
    },
    CheckSpec {
        id: "no_primary_key",
        level: Info,
        sql: "select n.nspname || '.' || c.relname as object,
                     'has no primary key: rows of source and branch cannot be matched' as detail
              from pg_class as c join own_schema as n on n.oid = c.relnamespace
              where c.relkind in ('r', 'p') and not c.relispartition and c.relpersistence <> 't'
                and not exists (select from pg_index as i where i.indrelid = c.oid and i.indisprimary)
                and not exists (select from of_extension where classid = 'pg_class'::regclass and objid = c.oid)",
        fix: "add one",
        ..RECOVERY
    },
];
