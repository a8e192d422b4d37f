//! Checks for roles with more rights than they need, and for weak authentication.

use super::check::{CheckSpec, DEFAULT_CHECK};
use crate::provider::model::FindingLevel::{Error, Info, Warn};

const ROLES: CheckSpec = CheckSpec { category: "ROLES", ..DEFAULT_CHECK };

pub(super) const CHECKS: &[CheckSpec] = &[
    CheckSpec {
        id: "extra_superuser",
        level: Warn,
        // The first superuser always has the OID 10.
        sql: "select rolname as object, 'a superuser besides the first one' as detail
              from pg_roles where rolsuper and oid <> 10",
        fix: "grant predefined roles instead",
        ..ROLES
    },
    CheckSpec {
        id: "role_md5_password",
        level: Warn,
        sql: "select rolname as object, 'the password is stored as md5' as detail
              from pg_authid where rolpassword like 'md5%'",
        fix: "set the password again under scram-sha-256",
        ..ROLES
    },
    CheckSpec {
        id: "role_no_password",
        level: Info,
        sql: "select rolname as object, 'can log in and has no password: right for peer and certificates only' as detail
              from pg_authid where rolcanlogin and rolpassword is null and not rolsuper",
        fix: "look at the connection rules that match it",
        ..ROLES
    },
    CheckSpec {
        id: "role_password_never_expires",
        level: Info,
        sql: "select rolname as object, 'its password never expires' as detail
              from pg_roles where rolcanlogin and rolvaliduntil is null and not rolsuper",
        fix: "`alter role … valid until …`",
        ..ROLES
    },
    CheckSpec {
        id: "role_bypassrls",
        level: Warn,
        sql: "select rolname as object, 'row-level security does not bind it' as detail
              from pg_roles where rolbypassrls and not rolsuper",
        fix: "take BYPASSRLS away unless it is a role for backups",
        ..ROLES
    },
    CheckSpec {
        id: "role_createrole",
        level: Warn,
        sql: "select rolname as object,
                     'may create roles'
                     || case when current_setting('server_version_num')::int < 160000
                             then ', and before PostgreSQL 16 grant itself almost any' else '' end as detail
              from pg_roles where rolcreaterole and not rolsuper",
        fix: "take CREATEROLE away",
        ..ROLES
    },
    CheckSpec {
        id: "role_replication",
        level: Info,
        sql: "select rolname as object, 'may copy the whole cluster (REPLICATION)' as detail
              from pg_roles where rolreplication and not rolsuper",
        fix: "leave it to the roles of replicas and backups",
        ..ROLES
    },
    CheckSpec {
        id: "role_server_files",
        level: Error,
        sql: "select m.rolname as object,
                     format('has %s: files or commands as the server''s OS user',
                            string_agg(g.rolname, ', ' order by g.rolname)) as detail
              from pg_auth_members as a
              join pg_roles as g on g.oid = a.roleid
              join pg_roles as m on m.oid = a.member
              where g.rolname in ('pg_execute_server_program', 'pg_write_server_files', 'pg_read_server_files')
                and not m.rolsuper
              group by m.rolname",
        fix: "revoke it",
        ..ROLES
    },
];
