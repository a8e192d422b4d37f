//! Checks for row-level security that seems to be in force and is not.

use super::check::{CheckSpec, DEFAULT_CHECK};
use crate::provider::model::FindingLevel::{Error, Info, Warn};

const RLS: CheckSpec = CheckSpec { category: "RLS", ..DEFAULT_CHECK };

pub(super) const CHECKS: &[CheckSpec] = &[
    CheckSpec {
        id: "policy_exists_rls_disabled",
        level: Error,
        sql: "select n.nspname || '.' || c.relname as object,
                     'has policies, and row-level security is off: '
                     || string_agg(p.polname, ', ' order by p.polname) as detail
              from pg_policy as p
              join pg_class as c on c.oid = p.polrelid
              join own_schema as n on n.oid = c.relnamespace
              where not c.relrowsecurity
              group by n.nspname, c.relname",
        fix: "`alter table … enable row level security`",
        ..RLS
    },
    CheckSpec {
        id: "rls_enabled_no_policy",
        level: Info,
        sql: "select n.nspname || '.' || c.relname as object,
                     'row-level security is on without a policy: nobody but the owner sees a row' as detail
              from pg_class as c join own_schema as n on n.oid = c.relnamespace
              where c.relrowsecurity and not exists (select from pg_policy as p where p.polrelid = c.oid)",
        fix: "add a policy",
        ..RLS
    },
    CheckSpec {
        id: "rls_policy_always_true",
        level: Warn,
        // USING decides which rows can be changed or deleted, WITH CHECK what may be written; without WITH CHECK,
        // USING decides both. Either one being true opens half of the door.
        sql: "select format('%s.%s/%s', n.nspname, c.relname, p.polname) as object,
                     format('lets every row pass for %s',
                            case p.polcmd when 'a' then 'INSERT' when 'w' then 'UPDATE' when 'd' then 'DELETE'
                                          else 'ALL' end) as detail
              from pg_policy as p
              join pg_class as c on c.oid = p.polrelid
              join own_schema as n on n.oid = c.relnamespace,
              lateral (select pg_get_expr(p.polqual, p.polrelid) as pass,
                              pg_get_expr(p.polwithcheck, p.polrelid) as put) as e
              where p.polpermissive and c.relrowsecurity and p.polcmd <> 'r'
                and (p.polcmd <> 'a' and coalesce(e.pass, 'true') in ('true', '(1 = 1)')
                     or p.polcmd <> 'd' and coalesce(e.put, e.pass, 'true') in ('true', '(1 = 1)'))",
        fix: "write the real condition",
        ..RLS
    },
    CheckSpec {
        id: "rls_owner_bypass",
        level: Warn,
        sql: "select n.nspname || '.' || c.relname as object,
                     format('its owner %s can log in, and row-level security does not bind owners', r.rolname) as detail
              from pg_class as c
              join own_schema as n on n.oid = c.relnamespace
              join pg_roles as r on r.oid = c.relowner
              where c.relrowsecurity and not c.relforcerowsecurity and r.rolcanlogin and not r.rolsuper",
        fix: "`alter table … force row level security`, or let a NOLOGIN role own tables",
        ..RLS
    },
    CheckSpec {
        id: "view_over_rls_as_owner",
        level: Warn,
        sql: "select n.nspname || '.' || v.relname as object,
                     format('reads %s, which has row-level security, with its owner''s rights',
                            string_agg(distinct t.relname, ', ')) as detail
              from pg_rewrite as w
              join pg_class as v on v.oid = w.ev_class and v.relkind = 'v'
              join own_schema as n on n.oid = v.relnamespace
              join pg_depend as d on d.classid = 'pg_rewrite'::regclass and d.objid = w.oid
                                 and d.refclassid = 'pg_class'::regclass
              join pg_class as t on t.oid = d.refobjid and t.relrowsecurity
              where v.reloptions is null or v.reloptions::text !~* 'security_invoker=(1|true|yes|on)'
              group by n.nspname, v.relname",
        fix: "`alter view … set (security_invoker = true)`, from PostgreSQL 15 on",
        ..RLS
    },
];
