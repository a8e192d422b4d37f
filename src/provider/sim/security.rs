//! Policies and the audit of a simulated target.
//!
//! What can be worked out from the database is worked out; what the world file says of the rest is taken as it is said.

use super::{Sim, content::Content, store::WorldTx, written::CheckToml};
use crate::provider::{
    Result, Security,
    model::{AuditCheck, AuditReport, CheckStatus, Finding, FindingLevel, Policy},
};
use async_trait::async_trait;

/// A check that is worked out.
struct DerivedCheck {
    check: &'static str,
    level: FindingLevel,
    category: &'static str,
    /// Whether a branch decides it by itself.
    on_branch: bool,
    find: fn(&AuditInput<'_>) -> Result<Vec<Defect>>,
}

/// What is looked at.
struct AuditInput<'a> {
    present: &'a WorldTx<'a>,
    content: &'a Content,
    policies: &'a [Policy],
}

struct Defect {
    object: String,
    detail: String,
    fix: String,
}

const DERIVED_CHECKS: &[DerivedCheck] = &[
    DerivedCheck {
        check: "policy_exists_rls_disabled",
        level: FindingLevel::Error,
        category: "RLS",
        on_branch: true,
        find: policies_without_effect,
    },
    DerivedCheck {
        check: "rls_policy_always_true",
        level: FindingLevel::Warn,
        category: "RLS",
        on_branch: true,
        find: policies_always_true,
    },
    DerivedCheck {
        check: "no_usable_backup",
        level: FindingLevel::Error,
        category: "RECOVERY",
        on_branch: false,
        find: no_usable_backup,
    },
    DerivedCheck {
        check: "no_primary_key",
        level: FindingLevel::Info,
        category: "RECOVERY",
        on_branch: true,
        find: tables_without_key,
    },
];

/// The category of what is decided by where a database is, not by what is in it.
const NETWORK_CATEGORY: &str = "NETWORK";

/// Returns whether a check is worked out here, so that no world file may answer it.
pub(super) fn is_derived_check(check: &str) -> bool {
    DERIVED_CHECKS.iter().any(|d| d.check == check)
}

#[async_trait]
impl Security for Sim {
    async fn policies(&self) -> Result<Vec<Policy>> {
        let store = self.open_store()?;
        store.read_world(|p| {
            let line = self.answering_timeline(p)?;
            store.with_content(p, line, |content| effective_policies(p, content))
        })
    }

    async fn audit(&self) -> Result<AuditReport> {
        let store = self.open_store()?;
        store.read_world(|p| {
            let line = self.answering_timeline(p)?;
            store.with_content(p, line, |content| audit_content(p, content, self.branch.is_some()))
        })
    }
}

/// Returns the policies of the tables that there are and always were, with row-level security as it is switched now.
pub(super) fn effective_policies(present: &WorldTx<'_>, content: &Content) -> Result<Vec<Policy>> {
    let tables = content.table_names()?;
    let mut policies = present.world.initial_policies();
    policies.retain(|p| tables.contains(&p.table) && !content.was_dropped(&p.table));
    for policy in &mut policies {
        policy.enabled = content.row_security(&policy.table).unwrap_or(policy.enabled);
    }
    Ok(policies)
}

fn audit_content(present: &WorldTx<'_>, content: &Content, on_branch: bool) -> Result<AuditReport> {
    let policies = effective_policies(present, content)?;
    let subject = AuditInput { present, content, policies: &policies };
    let mut report = AuditReport { findings: Vec::new(), checks: Vec::new() };
    for derived in DERIVED_CHECKS {
        if on_branch && !derived.on_branch {
            report.checks.push(not_applicable_check(
                derived.check,
                derived.level,
                "a branch has no backups of its own",
            ));
            continue;
        }
        let found: Vec<Finding> =
            (derived.find)(&subject)?.into_iter().map(|f| derived.to_finding(f)).collect();
        report.checks.push(completed_check(derived.check, derived.level, !found.is_empty()));
        report.findings.extend(found);
    }
    let said = present.world.stated_findings();
    for check in &present.world.checks {
        add_stated_check(&mut report, check, &said, on_branch);
    }
    report.findings.sort_by(|a, b| (a.level, &a.check, &a.object).cmp(&(b.level, &b.check, &b.object)));
    Ok(report)
}

/// Adds what the world file says of one check.
fn add_stated_check(report: &mut AuditReport, check: &CheckToml, said: &[Finding], on_branch: bool) {
    let id = check.check.get_ref();
    if on_branch && check.category == NETWORK_CATEGORY {
        report.checks.push(not_applicable_check(
            id,
            check.level,
            "a branch is cut off from the network by itself",
        ));
        return;
    }
    let found = said.iter().filter(|f| f.check == *id);
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

impl DerivedCheck {
    fn to_finding(&self, fault: Defect) -> Finding {
        let Defect { object, detail, fix } = fault;
        Finding {
            check: self.check.into(),
            level: self.level,
            category: self.category.into(),
            object,
            detail,
            fix,
        }
    }
}

fn policies_without_effect(subject: &AuditInput<'_>) -> Result<Vec<Defect>> {
    let mut faults: Vec<Defect> = Vec::new();
    for table in subject.content.table_names()? {
        let idle = subject.policies.iter().filter(|p| p.table == table && !p.enabled);
        let names: Vec<String> = idle.map(|p| format!("`{}`", p.name)).collect();
        if !names.is_empty() {
            faults.push(Defect {
                object: format!("public.{table}"),
                detail: format!("row-level security is off, so nothing comes of {}", names.join(", ")),
                fix: format!("alter table {table} enable row level security"),
            });
        }
    }
    Ok(faults)
}

#[expect(clippy::unnecessary_wraps, reason = "one shape for every check")]
fn policies_always_true(subject: &AuditInput<'_>) -> Result<Vec<Defect>> {
    let is_true =
        |e: &Option<String>| e.as_deref().is_some_and(|e| ["true", "(true)", "(1 = 1)"].contains(&e.trim()));
    let loose = subject.policies.iter().filter(|p| {
        let writes = p.command != "SELECT";
        p.permissive && p.enabled && writes && (is_true(&p.using_expression) || is_true(&p.check_expression))
    });
    Ok(loose
        .map(|p| Defect {
            object: format!("{}.{}/{}", p.schema, p.table, p.name),
            detail: format!("lets every row through for {}", p.command),
            fix: "write the condition that is meant".into(),
        })
        .collect())
}

fn no_usable_backup(subject: &AuditInput<'_>) -> Result<Vec<Defect>> {
    if subject.present.earliest_restorable(None)?.is_some() {
        return Ok(Vec::new());
    }
    Ok(vec![Defect {
        object: subject.present.target.into(),
        detail: "nothing can be restored".into(),
        fix: "make a backup with `backup create`".into(),
    }])
}

fn tables_without_key(subject: &AuditInput<'_>) -> Result<Vec<Defect>> {
    let tables = subject.content.tables_without_key()?;
    let fault = |table: String| Defect {
        object: format!("public.{table}"),
        detail: "has no primary key: its rows cannot be matched between source and branch".into(),
        fix: "add a primary key".into(),
    };
    Ok(tables.into_iter().map(fault).collect())
}
