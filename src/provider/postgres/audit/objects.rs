//! Checks what PUBLIC may do to schemas, tables and functions, and what extensions allow.

use super::check::{CheckSpec, DEFAULT_CHECK};
use crate::provider::model::FindingLevel::{Error, Info, Warn};

const OBJECTS: CheckSpec = CheckSpec { category: "OBJECTS", ..DEFAULT_CHECK };

pub(super) const CHECKS: &[CheckSpec] = &[
    CheckSpec {
        id: "public_schema_create",
        level: Error,
        sql: "select 'schema ' || n.nspname as object,
                     'everybody may create objects here and put them in front of others'' (CVE-2018-1058)' as detail,
                     format('revoke create on schema %I from public', n.nspname) as fix
              from pg_namespace as n, aclexplode(n.nspacl) as x
              where x.grantee = 0 and x.privilege_type = 'CREATE'",
        ..OBJECTS
    },
    CheckSpec {
        id: "public_connect",
        level: Info,
        // Without an access list of its own a database has the built-in one, which lets everybody in.
        sql: "select 'database ' || d.datname as object, 'every role may connect' as detail,
                     format('revoke connect on database %I from public', d.datname) as fix
              from pg_database as d
              where d.datallowconn and not d.datistemplate
                and (d.datacl is null
                     or exists (select from aclexplode(d.datacl) as x
                                where x.grantee = 0 and x.privilege_type = 'CONNECT'))",
        ..OBJECTS
    },
    CheckSpec {
        id: "public_table_grant",
        level: Error,
        sql: "select case when array_agg(x.privilege_type) && array['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']
                          then 'error' else 'warn' end as level,
                     n.nspname || '.' || c.relname as object,
                     format('everybody has %s%s', string_agg(x.privilege_type, ', ' order by x.privilege_type),
                            case when c.relrowsecurity then ', under row-level security' end) as detail,
                     format('revoke all on %I.%I from public', n.nspname, c.relname) as fix
              from pg_class as c join own_schema as n on n.oid = c.relnamespace, aclexplode(c.relacl) as x
              where x.grantee = 0 and c.relkind in ('r', 'p', 'v', 'm', 'f')
                and not exists (select from of_extension where classid = 'pg_class'::regclass and objid = c.oid)
              group by n.nspname, c.relname, c.relrowsecurity",
        ..OBJECTS
    },
    CheckSpec {
        id: "secdef_public",
        level: Error,
        sql: "select case when exists (select from unnest(p.proconfig) as s where s like 'search_path=%')
                          then 'warn' else 'error' end as level,
                     format('%s.%s(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) as object,
                     format('everybody may run it with the rights of %s%s', r.rolname,
                            case when r.rolsuper then ', a superuser' end) as detail
              from pg_proc as p
              join own_schema as n on n.oid = p.pronamespace
              join pg_roles as r on r.oid = p.proowner
              where p.prosecdef and has_function_privilege('public', p.oid, 'execute')
                and not exists (select from of_extension where classid = 'pg_proc'::regclass and objid = p.oid)",
        fix: "revoke execute from public, and `set search_path = ''` on it",
        ..OBJECTS
    },
    CheckSpec {
        id: "function_search_path_mutable",
        level: Warn,
        sql: "select format('%s.%s(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) as object,
                     'runs with its owner''s rights and its caller''s search_path' as detail
              from pg_proc as p join own_schema as n on n.oid = p.pronamespace
              where p.prosecdef
                and not exists (select from unnest(p.proconfig) as s where s like 'search_path=%')
                and not exists (select from of_extension where classid = 'pg_proc'::regclass and objid = p.oid)",
        fix: "`alter function … set search_path = ''`",
        ..OBJECTS
    },
    CheckSpec {
        id: "sensitive_column_public",
        level: Error,
        sql: "select format('%s.%s.%s', n.nspname, c.relname, a.attname) as object,
                     'looks like a secret, and everybody may read the table' as detail
              from pg_attribute as a
              join pg_class as c on c.oid = a.attrelid
              join own_schema as n on n.oid = c.relnamespace
              where a.attnum > 0 and not a.attisdropped and c.relkind in ('r', 'p', 'v', 'm', 'f')
                and not c.relrowsecurity and has_table_privilege('public', c.oid, 'select')
                and a.attname ~* '^(password|passwd|pwd|secret|api_?key|token|ssn|credit_?card|cvv|iban|private_?key)'",
        fix: "revoke select from public, or turn row-level security on",
        ..OBJECTS
    },
    CheckSpec {
        id: "risky_extension",
        level: Warn,
        sql: "select extname as object, 'gives access to files, the network or an untrusted language' as detail
              from pg_extension
              where extname in ('adminpack', 'dblink', 'file_fdw', 'plperlu', 'plpython2u', 'plpython3u', 'plpythonu',
                                'plsh', 'pltclu')",
        fix: "drop it if nothing uses it",
        ..OBJECTS
    },
    CheckSpec {
        id: "extension_outdated",
        level: Warn,
        sql: "select name as object, installed_version || ' is installed, ' || default_version || ' is there' as detail
              from pg_available_extensions where installed_version <> default_version",
        fix: "`alter extension … update`",
        ..OBJECTS
    },
    CheckSpec {
        id: "extension_in_public",
        level: Info,
        sql: "select extname as object, 'is installed in the schema public' as detail
              from pg_extension where extnamespace = to_regnamespace('public')",
        fix: "`alter extension … set schema …`",
        ..OBJECTS
    },
    CheckSpec {
        id: "reg_type_column",
        level: Warn,
        category: "UPGRADE",
        sql: "select format('%s.%s.%s', n.nspname, c.relname, a.attname) as object,
                     format('pg_upgrade refuses columns of type %s', t.typname) as detail
              from pg_attribute as a
              join pg_class as c on c.oid = a.attrelid
              join own_schema as n on n.oid = c.relnamespace
              join pg_type as t on t.oid = a.atttypid
              where a.attnum > 0 and not a.attisdropped and c.relkind in ('r', 'm')
                and t.typnamespace = 'pg_catalog'::regnamespace
                and t.typname in ('regcollation', 'regconfig', 'regdictionary', 'regnamespace', 'regoper',
                                  'regoperator', 'regproc', 'regprocedure')",
        fix: "store the name as text or the number as oid",
        ..DEFAULT_CHECK
    },
];
