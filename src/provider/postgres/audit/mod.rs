//! The audit: reads the catalogs for what is unsafe and for what could not be recovered.
//!
//! - Every check is an entry in a list, with one statement that returns one row per finding.
//! - They share one read-only snapshot, and each has a savepoint of its own: a check that cannot run is skipped with
//!   the server's reason, is never taken for a pass, and stops no other.
//! - The search path is empty, so no object of a user can shadow a catalog.
//! - A check that reads a view which hides rows from some roles names the role whose rights it needs.

mod check;
mod durability;
mod logging;
mod network;
mod objects;
mod policies;
mod recovery;
mod roles;

use super::sql::{fetch_rows, statement_error};
use crate::provider::{
    Code, Error, Result,
    model::{AuditCheck, AuditReport, CheckStatus, Finding, FindingLevel, Policy},
};
use check::CheckSpec;
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

/// What is audited: it decides which checks apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AuditScope {
    /// The target itself.
    Source,
    /// A branch of it, whose network, archive and configuration are its isolation's.
    Branch,
}

/// The lists of checks, in the order in which they run.
const CHECK_GROUPS: &[&[CheckSpec]] = &[
    network::CHECKS,
    roles::CHECKS,
    objects::CHECKS,
    policies::CHECKS,
    logging::CHECKS,
    durability::CHECKS,
    recovery::CHECKS,
];

/// Common table expressions, each prepended only to the checks that name it: a check must not be skipped
/// because of rights that it does not need.
const SHARED_CTES: &[(&str, &str)] = &[
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

/// Runs every check.
///
/// # Errors
/// A failure that stops all checks, such as a lost connection. The report has the others.
pub(super) async fn run_audit(client: &Client, scope: AuditScope) -> Result<AuditReport> {
    const BEGIN: &str = "begin isolation level repeatable read, read only;
        set local search_path = ''; set local statement_timeout = '5s'; set local lock_timeout = '1s'";
    client.batch_execute(BEGIN).await.map_err(|e| statement_error(&e, BEGIN))?;
    let report = run_checks_in_transaction(client, scope).await;
    drop(client.batch_execute("rollback").await);
    report
}

async fn run_checks_in_transaction(client: &Client, scope: AuditScope) -> Result<AuditReport> {
    let session = AuditSession::query_session(client).await?;
    let mut report = AuditReport { findings: Vec::new(), checks: Vec::new() };
    let specs: Vec<&CheckSpec> = CHECK_GROUPS.iter().copied().flatten().collect();
    for spec in specs {
        let (status, reason) = match session.reason_not_to_run(spec, scope) {
            Some((status, reason)) => (status, Some(reason)),
            None => match run_check(client, spec).await? {
                Ok(found) => {
                    let status = if found.is_empty() { CheckStatus::Passed } else { CheckStatus::Failed };
                    report.findings.extend(found);
                    (status, None)
                }
                Err(reason) => (CheckStatus::Skipped, Some(reason)),
            },
        };
        report.checks.push(AuditCheck { check: spec.id.into(), level: spec.level, status, reason });
    }
    report.findings.sort_by(|a, b| {
        (a.level, &a.category, &a.check, &a.object).cmp(&(b.level, &b.category, &b.check, &b.object))
    });
    Ok(report)
}

/// Runs one check in a savepoint; the inner error is why it could not run.
async fn run_check(client: &Client, spec: &CheckSpec) -> Result<Result<Vec<Finding>, String>> {
    let sql = format!("savepoint one; {}; release one", prepend_shared_ctes(spec.sql));
    let messages = match client.simple_query(&sql).await {
        Ok(messages) => messages,
        Err(e) if e.as_db_error().is_none() => return Err(statement_error(&e, &sql)),
        Err(e) => {
            const BACK: &str = "rollback to one";
            client.batch_execute(BACK).await.map_err(|e| statement_error(&e, BACK))?;
            return Ok(Err(statement_error(&e, "").message));
        }
    };
    let rows =
        messages.iter().filter_map(|m| if let SimpleQueryMessage::Row(r) = m { Some(r) } else { None });
    Ok(rows.map(|row| finding_from_row(spec, row)).collect())
}

fn prepend_shared_ctes(sql: &str) -> String {
    let named = SHARED_CTES.iter().filter(|(name, _)| sql.contains(name));
    let parts: Vec<_> = named.map(|(name, body)| format!("{name} as ({body})")).collect();
    if parts.is_empty() { sql.into() } else { format!("with {} {sql}", parts.join(", ")) }
}

fn finding_from_row(spec: &CheckSpec, row: &SimpleQueryRow) -> Result<Finding, String> {
    let text = |column: &str| row.try_get(column).ok().flatten().map(str::to_owned);
    let level = match text("level").as_deref() {
        None => spec.level,
        Some("error") => FindingLevel::Error,
        Some("warn") => FindingLevel::Warn,
        Some("info") => FindingLevel::Info,
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

/// The version of the audited server and the rights of the session.
struct AuditSession {
    version: u32,
    /// The predefined roles whose rights we have.
    roles: Vec<String>,
}

impl AuditSession {
    async fn query_session(client: &Client) -> Result<Self> {
        const SQL: &str = "select current_setting('server_version_num')::int / 10000 as version,
            (select string_agg(rolname, ' ') from pg_roles
             where rolname ~ '^pg_' and pg_has_role(current_user, oid, 'usage')) as roles";
        let rows = fetch_rows(client, SQL).await?;
        let row = rows.first().ok_or_else(|| Error::new(Code::Internal, "the server gave no row"))?;
        Ok(Self {
            version: row.get("version").and_then(|v| v.parse().ok()).unwrap_or(0),
            roles: row.get("roles").unwrap_or_default().split(' ').map(str::to_owned).collect(),
        })
    }

    /// Returns the reason not to run a check, with its status.
    fn reason_not_to_run(&self, spec: &CheckSpec, scope: AuditScope) -> Option<(CheckStatus, String)> {
        if let (AuditScope::Branch, Some(reason)) = (scope, spec.on_branch) {
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
pub(super) async fn fetch_policies(client: &Client) -> Result<Vec<Policy>> {
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
    let rows = fetch_rows(client, SQL).await?;
    let read = |row: &SimpleQueryRow| serde_json::from_str(row.get(0).unwrap_or_default());
    rows.iter()
        .map(read)
        .collect::<Result<_, _>>()
        .map_err(|e| Error::new(Code::Internal, format!("a policy cannot be read: {e}")))
}

#[cfg(test)]
mod tests;
