//! Policies and the audit of a database: derived from what it holds, or taken from what the world file says.

use super::{checks::DerivedCheck, content::Content, file::CheckToml, tx::WorldTx};
use crate::provider::{
    Result,
    model::{AuditCheck, AuditReport, CheckStatus, Finding, FindingLevel, Policy},
};

/// What a check looks at.
struct AuditInput<'a> {
    tx: &'a WorldTx<'a>,
    content: &'a Content,
    policies: &'a [Policy],
}

/// What a check found, without the check.
struct Defect {
    object: String,
    detail: String,
    fix: String,
}

/// The category of checks whose outcome depends on where a database is, not on what is in it.
const NETWORK_CATEGORY: &str = "NETWORK";

/// Returns the policies of the tables that were never dropped, with row-level security as it is now.
pub(in crate::provider::sim) fn effective_policies(
    tx: &WorldTx<'_>,
    content: &Content,
) -> Result<Vec<Policy>> {
    let tables = content.table_names()?;
    let mut policies = tx.spec.initial_policies();
    policies.retain(|p| tables.contains(&p.table) && !content.was_dropped(&p.table));
    for policy in &mut policies {
        policy.enabled = content.switched_row_security(&policy.table).unwrap_or(policy.enabled);
    }
    Ok(policies)
}

/// Audits a database.
pub(in crate::provider::sim) fn audit_content(
    tx: &WorldTx<'_>,
    content: &Content,
    on_branch: bool,
) -> Result<AuditReport> {
    let policies = effective_policies(tx, content)?;
    let input = AuditInput { tx, content, policies: &policies };
    let mut report = AuditReport { findings: Vec::new(), checks: Vec::new() };
    for check in DerivedCheck::ALL.iter().copied() {
        if on_branch && !check.applies_to_branch() {
            let reason = "a branch has no backups of its own";
            report.checks.push(not_applicable_check(check.id(), check.level(), reason));
            continue;
        }
        let defects = find_defects(check, &input)?;
        report.checks.push(completed_check(check.id(), check.level(), !defects.is_empty()));
        report.findings.extend(defects.into_iter().map(|defect| to_finding(check, defect)));
    }
    let stated = tx.spec.stated_findings();
    for check in &tx.spec.checks {
        add_stated_check(&mut report, check, &stated, on_branch);
    }
    report.findings.sort_by(|a, b| (a.level, &a.check, &a.object).cmp(&(b.level, &b.check, &b.object)));
    Ok(report)
}

/// Adds what the world file says of one check.
fn add_stated_check(report: &mut AuditReport, check: &CheckToml, stated: &[Finding], on_branch: bool) {
    let id = check.check.get_ref();
    if on_branch && check.category == NETWORK_CATEGORY {
        report.checks.push(not_applicable_check(
            id,
            check.level,
            "a branch is cut off from the network by itself",
        ));
        return;
    }
    let found = stated.iter().filter(|f| f.check == *id);
    report.checks.push(completed_check(id, check.level, found.clone().next().is_some()));
    report.findings.extend(found.cloned());
}

fn completed_check(check: &str, level: FindingLevel, failed: bool) -> AuditCheck {
    let status = if failed { CheckStatus::Failed } else { CheckStatus::Passed };
    AuditCheck { check: check.into(), level, status, reason: None }
}

fn not_applicable_check(check: &str, level: FindingLevel, reason: &str) -> AuditCheck {
    AuditCheck { check: check.into(), level, status: CheckStatus::NotApplicable, reason: Some(reason.into()) }
}

fn to_finding(check: DerivedCheck, defect: Defect) -> Finding {
    let Defect { object, detail, fix } = defect;
    Finding {
        check: check.id().into(),
        level: check.level(),
        category: check.category().into(),
        object,
        detail,
        fix,
    }
}

fn find_defects(check: DerivedCheck, input: &AuditInput<'_>) -> Result<Vec<Defect>> {
    match check {
        DerivedCheck::PolicyWithoutRls => policies_without_effect(input),
        DerivedCheck::PolicyAlwaysTrue => Ok(policies_always_true(input)),
        DerivedCheck::NoUsableBackup => no_usable_backup(input),
        DerivedCheck::NoPrimaryKey => tables_without_key(input),
    }
}

fn policies_without_effect(input: &AuditInput<'_>) -> Result<Vec<Defect>> {
    let mut defects: Vec<Defect> = Vec::new();
    for table in input.content.table_names()? {
        let idle = input.policies.iter().filter(|p| p.table == table && !p.enabled);
        let names: Vec<String> = idle.map(|p| format!("`{}`", p.name)).collect();
        if !names.is_empty() {
            defects.push(Defect {
                object: format!("public.{table}"),
                detail: format!("row-level security is off, so nothing comes of {}", names.join(", ")),
                fix: format!("alter table {table} enable row level security"),
            });
        }
    }
    Ok(defects)
}

fn policies_always_true(input: &AuditInput<'_>) -> Vec<Defect> {
    let is_true =
        |e: &Option<String>| e.as_deref().is_some_and(|e| ["true", "(true)", "(1 = 1)"].contains(&e.trim()));
    let loose = input.policies.iter().filter(|p| {
        let writes = p.command != "SELECT";
        p.permissive && p.enabled && writes && (is_true(&p.using_expression) || is_true(&p.check_expression))
    });
    loose
        .map(|p| Defect {
            object: format!("{}.{}/{}", p.schema, p.table, p.name),
            detail: format!("lets every row through for {}", p.command),
            fix: "write the condition that is meant".into(),
        })
        .collect()
}

fn no_usable_backup(input: &AuditInput<'_>) -> Result<Vec<Defect>> {
    if input.tx.earliest_restorable(None)?.is_some() {
        return Ok(Vec::new());
    }
    Ok(vec![Defect {
        object: input.tx.target.into(),
        detail: "nothing can be restored".into(),
        fix: "make a backup with `backup create`".into(),
    }])
}

fn tables_without_key(input: &AuditInput<'_>) -> Result<Vec<Defect>> {
    let tables = input.content.tables_without_key()?;
    let defect = |table: String| Defect {
        object: format!("public.{table}"),
        detail: "has no primary key: its rows cannot be matched between source and branch".into(),
        fix: "add a primary key".into(),
    };
    Ok(tables.into_iter().map(defect).collect())
}
