//! Policies and the audit of a simulated target.
//!
//! What can be worked out from the database is worked out; what the world file says of the rest is taken as it is said.

use super::{Sim, content::Content, store::Present, written::WrittenCheck};
use crate::provider::{
    Result, Security,
    model::{AuditReport, Check, CheckStatus, Finding, Level, Policy},
};
use async_trait::async_trait;

/// A check that is worked out.
struct Derived {
    check: &'static str,
    level: Level,
    category: &'static str,
    /// Whether a branch decides it by itself.
    on_branch: bool,
    find: fn(&Subject<'_>) -> Result<Vec<Fault>>,
}

/// What is looked at.
struct Subject<'a> {
    present: &'a Present<'a>,
    content: &'a Content,
    policies: &'a [Policy],
}

struct Fault {
    object: String,
    detail: String,
    fix: String,
}

const DERIVED: &[Derived] = &[
    Derived {
        check: "policy_exists_rls_disabled",
        level: Level::Error,
        category: "RLS",
        on_branch: true,
        find: policies_without_effect,
    },
    Derived {
        check: "rls_policy_always_true",
        level: Level::Warn,
        category: "RLS",
        on_branch: true,
        find: policies_always_true,
    },
    Derived {
        check: "no_usable_backup",
        level: Level::Error,
        category: "RECOVERY",
        on_branch: false,
        find: no_usable_backup,
    },
    Derived {
        check: "no_primary_key",
        level: Level::Info,
        category: "RECOVERY",
        on_branch: true,
        find: tables_without_key,
    },
];

/// The category of what is decided by where a database is, not by what is in it.
const NETWORK: &str = "NETWORK";

/// Returns whether a check is worked out here, so that no world file may answer it.
pub(super) fn derives(check: &str) -> bool {
    DERIVED.iter().any(|d| d.check == check)
}

#[async_trait]
impl Security for Sim {
    async fn policies(&self) -> Result<Vec<Policy>> {
        let store = self.store()?;
        store.look(|p| {
            let line = self.answering_line(p)?;
            store.with_content(p, line, |content| policies(p, content))
        })
    }

    async fn audit(&self) -> Result<AuditReport> {
        let store = self.store()?;
        store.look(|p| {
            let line = self.answering_line(p)?;
            store.with_content(p, line, |content| audit(p, content, self.branch.is_some()))
        })
    }
}

/// Returns the policies of the tables that there are and always were, with row-level security as it is switched now.
pub(super) fn policies(present: &Present<'_>, content: &Content) -> Result<Vec<Policy>> {
    let tables = content.tables()?;
    let mut policies = present.world.policies();
    policies.retain(|p| tables.contains(&p.table) && !content.was_dropped(&p.table));
    for policy in &mut policies {
        policy.enabled = content.row_security(&policy.table).unwrap_or(policy.enabled);
    }
    Ok(policies)
}

fn audit(present: &Present<'_>, content: &Content, on_branch: bool) -> Result<AuditReport> {
    let policies = policies(present, content)?;
    let subject = Subject { present, content, policies: &policies };
    let mut report = AuditReport { findings: Vec::new(), checks: Vec::new() };
    for derived in DERIVED {
        if on_branch && !derived.on_branch {
            report.checks.push(not_applicable(
                derived.check,
                derived.level,
                "a branch has no backups of its own",
            ));
            continue;
        }
        let found: Vec<Finding> = (derived.find)(&subject)?.into_iter().map(|f| derived.finding(f)).collect();
        report.checks.push(ran(derived.check, derived.level, !found.is_empty()));
        report.findings.extend(found);
    }
    let said = present.world.findings();
    for check in &present.world.checks {
        answer(&mut report, check, &said, on_branch);
    }
    report.findings.sort_by(|a, b| (a.level, &a.check, &a.object).cmp(&(b.level, &b.check, &b.object)));
    Ok(report)
}

/// Adds what the world file says of one check.
fn answer(report: &mut AuditReport, check: &WrittenCheck, said: &[Finding], on_branch: bool) {
    let id = check.check.get_ref();
    if on_branch && check.category == NETWORK {
        report.checks.push(not_applicable(id, check.level, "a branch is cut off from the network by itself"));
        return;
    }
    let found = said.iter().filter(|f| f.check == *id);
    report.checks.push(ran(id, check.level, found.clone().next().is_some()));
    report.findings.extend(found.cloned());
}

fn ran(check: &str, level: Level, failed: bool) -> Check {
    let status = if failed { CheckStatus::Failed } else { CheckStatus::Passed };
    Check { check: check.into(), level, status, reason: None }
}

fn not_applicable(check: &str, level: Level, reason: &str) -> Check {
    Check { check: check.into(), level, status: CheckStatus::NotApplicable, reason: Some(reason.into()) }
}

impl Derived {
    fn finding(&self, fault: Fault) -> Finding {
        let Fault { object, detail, fix } = fault;
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

fn policies_without_effect(subject: &Subject<'_>) -> Result<Vec<Fault>> {
    let mut faults: Vec<Fault> = Vec::new();
    for table in subject.content.tables()? {
        let idle = subject.policies.iter().filter(|p| p.table == table && !p.enabled);
        let names: Vec<String> = idle.map(|p| format!("`{}`", p.name)).collect();
        if !names.is_empty() {
            faults.push(Fault {
                object: format!("public.{table}"),
                detail: format!("row-level security is off, so nothing comes of {}", names.join(", ")),
                fix: format!("alter table {table} enable row level security"),
            });
        }
    }
    Ok(faults)
}

#[expect(clippy::unnecessary_wraps, reason = "one shape for every check")]
fn policies_always_true(subject: &Subject<'_>) -> Result<Vec<Fault>> {
    let is_true =
        |e: &Option<String>| e.as_deref().is_some_and(|e| ["true", "(true)", "(1 = 1)"].contains(&e.trim()));
    let loose = subject.policies.iter().filter(|p| {
        let writes = p.command != "SELECT";
        p.permissive && p.enabled && writes && (is_true(&p.using_expression) || is_true(&p.check_expression))
    });
    Ok(loose
        .map(|p| Fault {
            object: format!("{}.{}/{}", p.schema, p.table, p.name),
            detail: format!("lets every row through for {}", p.command),
            fix: "write the condition that is meant".into(),
        })
        .collect())
}

fn no_usable_backup(subject: &Subject<'_>) -> Result<Vec<Fault>> {
    if subject.present.earliest(None)?.is_some() {
        return Ok(Vec::new());
    }
    Ok(vec![Fault {
        object: subject.present.target.into(),
        detail: "nothing can be restored".into(),
        fix: "make a backup with `backup create`".into(),
    }])
}

fn tables_without_key(subject: &Subject<'_>) -> Result<Vec<Fault>> {
    let tables = subject.content.tables_without_key()?;
    let fault = |table: String| Fault {
        object: format!("public.{table}"),
        detail: "has no primary key: its rows cannot be matched between source and branch".into(),
        fix: "add a primary key".into(),
    };
    Ok(tables.into_iter().map(fault).collect())
}
