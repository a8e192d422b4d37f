//! Checks who may connect, and how: `pg_hba.conf`, the addresses listened on, TLS.

use super::check::{CheckSpec, DEFAULT_CHECK, OWN_CONFIGURATION};
use crate::provider::model::FindingLevel::{Error, Info, Warn};

const NETWORK: CheckSpec = CheckSpec { category: "NETWORK", on_branch: Some(OWN_HBA_RULES), ..DEFAULT_CHECK };
const OWN_HBA_RULES: &str = "a branch has connection rules of its own and no network";

pub(super) const CHECKS: &[CheckSpec] = &[
    CheckSpec {
        id: "hba_error",
        level: Error,
        sql: "select 'pg_hba.conf:' || line as object, error as detail from hba_rule where error is not null",
        fix: "correct the line: a reload keeps the old rules, and the server will not start again",
        ..NETWORK
    },
    CheckSpec {
        id: "hba_trust",
        level: Error,
        sql: "select case when type = 'local' then 'warn' else 'error' end as level,
                     'pg_hba.conf:' || line as object,
                     format('%s for %s from %s asks for no password (trust)', type,
                            array_to_string(user_name, ','), coalesce(address, 'the socket')) as detail
              from hba_rule where auth_method = 'trust'",
        fix: "use `scram-sha-256` for addresses, `peer` for the socket",
        ..NETWORK
    },
    CheckSpec {
        id: "hba_weak_method",
        level: Warn,
        sql: "select 'pg_hba.conf:' || line as object, format('the method is %s', auth_method) as detail
              from hba_rule where auth_method in ('md5', 'password', 'ident')",
        fix: "use `scram-sha-256`",
        ..NETWORK
    },
    CheckSpec {
        id: "hba_world_open",
        level: Error,
        sql: "select case when type = 'hostssl' then 'warn' else 'error' end as level,
                     'pg_hba.conf:' || line as object,
                     format('%s for %s on %s is open to every address', type, array_to_string(user_name, ','),
                            array_to_string(database, ',')) as detail
              from hba_rule where world and auth_method <> 'reject'",
        fix: "narrow the address to the networks that need it",
        ..NETWORK
    },
    CheckSpec {
        id: "hba_plaintext",
        level: Warn,
        sql: "select 'pg_hba.conf:' || line as object,
                     format('%s admits %s without TLS', type, address) as detail
              from hba_rule
              where type in ('host', 'hostnossl', 'hostnogssenc') and not near and auth_method <> 'reject'",
        fix: "use `hostssl`",
        ..NETWORK
    },
    CheckSpec {
        id: "hba_superuser_remote",
        level: Warn,
        // A superuser that an earlier line rejects from there is not let in by this one.
        sql: "select 'pg_hba.conf:' || h.line as object,
                     format('the superuser %s may log in from %s', string_agg(s.rolname, ', ' order by s.rolname), h.address) as detail
              from hba_rule as h
              join pg_roles as s on s.rolsuper and s.rolcanlogin
                   and (h.user_name && array['all', s.rolname::text]
                        or exists (select from pg_auth_members as m join pg_roles as g on g.oid = m.roleid
                                   where m.member = s.oid and '+' || g.rolname = any (h.user_name)))
              where not h.near and h.auth_method <> 'reject'
                and not exists (
                    select from hba_rule as r
                    where r.line < h.line and r.auth_method = 'reject'
                      and r.user_name && array['all', s.rolname::text]
                      and (r.database && array['all'] or r.database @> h.database)
                      and r.type in ('host', h.type)
                      and (r.address = 'all'
                           or (r.address, r.netmask) is not distinct from (h.address, h.netmask)))
              group by h.line, h.address",
        fix: "reject superusers from that address in a line above",
        ..NETWORK
    },
    CheckSpec {
        id: "hba_never_reached",
        level: Info,
        sql: "select 'pg_hba.conf:' || b.line as object,
                     format('never reached: line %s matches first', min(a.line)) as detail
              from hba_rule as a join hba_rule as b on a.line < b.line
              where (a.database @> b.database or 'all' = any (a.database) and b.database <> '{replication}')
                and (a.user_name @> b.user_name or 'all' = any (a.user_name))
                and (a.type = b.type or a.type = 'host' and b.type like 'host%')
                and (a.address is not distinct from b.address and a.netmask is not distinct from b.netmask
                     or a.address = 'all' and b.type <> 'local'
                     or a.world and a.address = '0.0.0.0' and b.address ~ '^[0-9.]+$'
                     or a.world and a.address = '::' and b.address ~ ':')
              group by b.line",
        fix: "remove or move the line: the first that matches decides",
        ..NETWORK
    },
    CheckSpec {
        id: "listen_all",
        level: Warn,
        sql: "select name as object, 'listens on every interface: ' || setting as detail
              from pg_settings
              where name = 'listen_addresses'
                and string_to_array(replace(setting, ' ', ''), ',') && array['*', '0.0.0.0', '::']",
        fix: "name the addresses that need it",
        ..NETWORK
    },
    CheckSpec {
        id: "ssl_off",
        level: Error,
        sql: "select case when replace(current_setting('listen_addresses'), ' ', '')
                               ~ '^((localhost|127\\.[0-9.]+|::1)(,|$))*$' then 'info' else 'error' end as level,
                     name as object, 'TLS is off' as detail
              from pg_settings where name = 'ssl' and setting = 'off'",
        fix: "set `ssl = on` and give the server a certificate",
        ..NETWORK
    },
    CheckSpec {
        id: "tls_old",
        level: Warn,
        sql: "select name as object, format('TLS as old as ''%s'' is accepted', setting) as detail
              from pg_settings
              where name = 'ssl_min_protocol_version' and setting in ('', 'TLSv1', 'TLSv1.1')
                and current_setting('ssl') = 'on'",
        fix: "set it to `TLSv1.2` or newer",
        ..NETWORK
    },
    CheckSpec {
        id: "password_hash_setting",
        level: Error,
        category: "AUTH",
        on_branch: Some(OWN_CONFIGURATION),
        sql: "select name as object, 'new passwords are stored as ' || setting as detail
              from pg_settings where name = 'password_encryption' and setting <> 'scram-sha-256'",
        fix: "set it to `scram-sha-256`",
        ..DEFAULT_CHECK
    },
];
