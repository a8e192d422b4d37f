//! The audit: what is unsafe, and what could not be recovered, as the catalogs show it.
//!
//! - Every check is an entry of a list, with one statement that gives one row a finding.
//! - They share one read-only snapshot, and each has a savepoint of its own: a check that cannot run is skipped with
//!   the server's reason, is never taken for a pass, and stops no other.
//! - Nothing is found by a name that somebody else could have put first: the search path is empty.
//! - What a role may not see is not simply missing: a check that reads a filtered view says whose rights it needs.

mod durability;
mod logging;
mod network;
mod objects;
mod policies;
mod recovery;
mod roles;

use super::sql::{records, refused};
use crate::provider::{
    Code, Error, Result,
    model::{AuditReport, Check, CheckStatus, Finding, Level, Policy},
};
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

/// Where the audited database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The target itself.
    Source,
    /// A branch of it, whose network, archive and configuration are its isolation's.
    Branch,
}

/// One check.
struct CheckSpec {
    id: &'static str,
    /// The worst it can find; a row's own `level` may be milder.
    level: Level,
    category: &'static str,
    /// Why it says nothing about a branch: isolation decides what it looks at.
    on_branch: Option<&'static str>,
    /// The first major version that has what it reads.
    since_version: u32,
    /// The predefined role without whose rights the server leaves rows out.
    needs: Option<&'static str>,
    /// One row a finding: `object`, `detail`, and where they differ from the entry's `level` and `fix`.
    sql: &'static str,
    fix: &'static str,
}

/// What an entry has unless it says otherwise. 13 is the oldest version that knows `wal_status` of a slot.
const CHECK: CheckSpec = CheckSpec {
    id: "",
    level: Level::Warn,
    category: "",
    on_branch: None,
    since_version: 13,
    needs: None,
    sql: "",
    fix: "",
};

const ROOMS: &[&[CheckSpec]] = &[
    network::CHECKS,
    roles::CHECKS,
    objects::CHECKS,
    policies::CHECKS,
    logging::CHECKS,
    durability::CHECKS,
    recovery::CHECKS,
];

const OWN_CONFIGURATION: &str = "a branch has a configuration of its own";

/// What several checks read. Each is there for the checks that name it, and for no other: a check must not be skipped
/// for rights that it does not need.
const SHARED: &[(&str, &str)] = &[
    (
        "hba_rule",
        "select line_number as line, type, database, user_name, auth_method, error,
                address, netmask,
                coalesce(address in ('0.0.0.0', '::', 'all')
                         and coalesce(netmask, '0.0.0.0') in ('0.0.0.0', '::'), false) as world,
                type = 'local'
                or coalesce(address like '127.%' or address in ('::1', 'samehost', 'localhost'), false) as near
         from pg_hba_file_rules",
    ),
    (
        "own_schema",
        "select oid, nspname from pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema'",
    ),
    ("of_extension", "select classid, objid from pg_depend where deptype = 'e'"),
];

/// Runs every check there is.
///
/// # Errors
/// What keeps all of them from running, such as a connection that is lost. The rest is in the report.
pub(super) async fn audit(client: &Client, place: Place) -> Result<AuditReport> {
    const BEGIN: &str = "begin isolation level repeatable read, read only;
        set local search_path = ''; set local statement_timeout = '5s'; set local lock_timeout = '1s'";
    client.batch_execute(BEGIN).await.map_err(|e| refused(&e, BEGIN))?;
    let report = checks(client, place).await;
    drop(client.batch_execute("rollback").await);
    report
}

async fn checks(client: &Client, place: Place) -> Result<AuditReport> {
    let viewer = Viewer::of(client).await?;
    let mut report = AuditReport { findings: Vec::new(), checks: Vec::new() };
    let specs: Vec<&CheckSpec> = ROOMS.iter().copied().flatten().collect();
    for spec in specs {
        let (status, reason) = match viewer.objection(spec, place) {
            Some((status, reason)) => (status, Some(reason)),
            None => match look(client, spec).await? {
                Ok(found) => {
                    let status = if found.is_empty() { CheckStatus::Passed } else { CheckStatus::Failed };
                    report.findings.extend(found);
                    (status, None)
                }
                Err(reason) => (CheckStatus::Skipped, Some(reason)),
            },
        };
        report.checks.push(Check { check: spec.id.into(), level: spec.level, status, reason });
    }
    report.findings.sort_by(|a, b| {
        (a.level, &a.category, &a.check, &a.object).cmp(&(b.level, &b.category, &b.check, &b.object))
    });
    Ok(report)
}

/// Runs one check in a savepoint; the inner error is why it could not run.
async fn look(client: &Client, spec: &CheckSpec) -> Result<Result<Vec<Finding>, String>> {
    let sql = format!("savepoint one; {}; release one", with_shared(spec.sql));
    let messages = match client.simple_query(&sql).await {
        Ok(messages) => messages,
        Err(e) if e.as_db_error().is_none() => return Err(refused(&e, &sql)),
        Err(e) => {
            const BACK: &str = "rollback to one";
            client.batch_execute(BACK).await.map_err(|e| refused(&e, BACK))?;
            return Ok(Err(refused(&e, "").message));
        }
    };
    let rows =
        messages.iter().filter_map(|m| if let SimpleQueryMessage::Row(r) = m { Some(r) } else { None });
    Ok(rows.map(|row| finding(spec, row)).collect())
}

fn with_shared(sql: &str) -> String {
    let named = SHARED.iter().filter(|(name, _)| sql.contains(name));
    let parts: Vec<_> = named.map(|(name, body)| format!("{name} as ({body})")).collect();
    if parts.is_empty() { sql.into() } else { format!("with {} {sql}", parts.join(", ")) }
}

fn finding(spec: &CheckSpec, row: &SimpleQueryRow) -> Result<Finding, String> {
    let text = |column: &str| row.try_get(column).ok().flatten().map(str::to_owned);
    let level = match text("level").as_deref() {
        None => spec.level,
        Some("error") => Level::Error,
        Some("warn") => Level::Warn,
        Some("info") => Level::Info,
        Some(other) => return Err(format!("the check gave the level `{other}`")),
    };
    Ok(Finding {
        check: spec.id.into(),
        level,
        category: spec.category.into(),
        object: text("object").ok_or("the check named no object")?,
        detail: text("detail").ok_or("the check gave no detail")?,
        fix: text("fix").unwrap_or_else(|| spec.fix.into()),
    })
}

/// Who looks, and at what.
struct Viewer {
    version: u32,
    /// The predefined roles whose rights we have.
    roles: Vec<String>,
}

impl Viewer {
    async fn of(client: &Client) -> Result<Self> {
        const SQL: &str = "select current_setting('server_version_num')::int / 10000 as version,
            (select string_agg(rolname, ' ') from pg_roles
             where rolname ~ '^pg_' and pg_has_role(current_user, oid, 'usage')) as roles";
        let rows = records(client, SQL).await?;
        let row = rows.first().ok_or_else(|| Error::new(Code::Internal, "the server gave no row"))?;
        Ok(Self {
            version: row.get("version").and_then(|v| v.parse().ok()).unwrap_or(0),
            roles: row.get("roles").unwrap_or_default().split(' ').map(str::to_owned).collect(),
        })
    }

    /// Returns why a check is not to be run here.
    fn objection(&self, spec: &CheckSpec, place: Place) -> Option<(CheckStatus, String)> {
        if let (Place::Branch, Some(reason)) = (place, spec.on_branch) {
            return Some((CheckStatus::NotApplicable, reason.into()));
        }
        if self.version < spec.since_version {
            let reason = format!("needs PostgreSQL {}; this is {}", spec.since_version, self.version);
            return Some((CheckStatus::Skipped, reason));
        }
        let missing = spec.needs.filter(|role| !self.roles.iter().any(|r| r == role))?;
        Some((CheckStatus::Skipped, format!("needs the rights of the role `{missing}`")))
    }
}

/// Returns every row-level security policy, by table.
///
/// # Errors
/// What the server says.
pub(super) async fn policies(client: &Client) -> Result<Vec<Policy>> {
    const SQL: &str = "
        select json_build_object(
            'schema', n.nspname, 'table', c.relname, 'name', p.polname,
            'command', case p.polcmd when 'r' then 'SELECT' when 'a' then 'INSERT' when 'w' then 'UPDATE'
                                     when 'd' then 'DELETE' else 'ALL' end,
            'permissive', p.polpermissive,
            'roles', (select json_agg(coalesce(r.rolname, 'public') order by r.rolname)
                      from unnest(p.polroles) as role left join pg_catalog.pg_roles as r on r.oid = role),
            'using_expression', pg_catalog.pg_get_expr(p.polqual, p.polrelid),
            'check_expression', pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid),
            'enabled', c.relrowsecurity)
        from pg_catalog.pg_policy as p
        join pg_catalog.pg_class as c on c.oid = p.polrelid
        join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
        order by n.nspname, c.relname, p.polname";
    let rows = records(client, SQL).await?;
    let read = |row: &SimpleQueryRow| serde_json::from_str(row.get(0).unwrap_or_default());
    rows.iter()
        .map(read)
        .collect::<Result<_, _>>()
        .map_err(|e| Error::new(Code::Internal, format!("a policy cannot be read: {e}")))
}

#[cfg(test)]
mod tests;
