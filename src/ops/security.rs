//! `security`: audit, and `security::policies`: list.

use super::{
    TARGET,
    args::Args,
    spec::{Context, Effect, Kind, Op, Param, Recovery, Returns, Slot, field},
};
use crate::provider::{
    Result,
    model::{AuditReport, CheckStatus, Finding, Level},
};
use serde_json::{Value, json};

/// The operations of `security`.
pub const OPS: &[Op] = &[Op {
    namespace: "security",
    name: "audit",
    summary: "Run every security and recoverability check, and say of each whether it ran",
    params: &[
        TARGET,
        Param {
            name: "baseline",
            kind: Kind::Target,
            slot: Slot::Optional("none"),
            help: "another target to compare with: what is added and what is gone",
        },
    ],
    returns: Returns::One(&[
        field(
            "verdict",
            "text",
            "`pass`, `fail`, or `incomplete` when a check that finds errors could not run",
        ),
        field(
            "summary",
            "map",
            "how many findings by level, and how many checks passed, were skipped or do not apply",
        ),
        field("findings", "list", "what was found: check, level, category, object, detail, fix"),
        field(
            "added",
            "map",
            "with a baseline: how many by level, and the findings that the baseline does not have",
        ),
        field(
            "gone",
            "map",
            "with a baseline: how many by level, and the findings that only the baseline has",
        ),
        field(
            "checks",
            "list",
            "every check: its status, and the reason when it did not run or does not apply",
        ),
    ]),
    effect: Effect::Read,
    needs: None,
    recovery: Recovery::Read,
    examples: &[r#"security::audit("sandbox")"#],
    perform: |cx, args| Box::pin(audit(cx, args)),
}];

/// `security::policies`: list.
pub mod policies {
    use super::{Context, Effect, Op, Recovery, Result, Returns, TARGET, Value, field, json};
    use crate::ops::args::Args;

    /// The operations of `security::policies`.
    pub const OPS: &[Op] = &[Op {
        namespace: "security::policies",
        name: "list",
        summary: "List the row-level security policies of a target",
        params: &[TARGET],
        returns: Returns::List(&[
            field("schema", "text", "the schema of its table"),
            field("table", "text", "its table"),
            field("name", "text", "its name"),
            field("command", "text", "`ALL`, `SELECT`, `INSERT`, `UPDATE` or `DELETE`"),
            field("permissive", "bool", "whether it grants, or narrows"),
            field("roles", "list", "whom it is for"),
            field("using_expression", "text", "which rows are seen"),
            field("check_expression", "text", "which rows may be written"),
            field(
                "enabled",
                "bool",
                "whether row-level security is on for the table; without it the policy does nothing",
            ),
        ]),
        effect: Effect::Read,
        needs: None,
        recovery: Recovery::Read,
        examples: &[r#"security::policies::list("sandbox")"#],
        perform: |cx, args| Box::pin(list(cx, args)),
    }];

    async fn list(cx: &Context<'_>, args: &Args) -> Result<Value> {
        let place = cx.place(args.get("target")).await?;
        Ok(json!(place.security()?.policies().await?))
    }
}

async fn audit(cx: &Context<'_>, args: &Args) -> Result<Value> {
    let report = cx.place(args.get("target")).await?.security()?.audit().await?;
    let mut result = json!({
        "verdict": verdict(&report),
        "summary": summary(&report),
        "findings": report.findings,
        "checks": report.checks,
    });
    if !args.get("baseline").is_null() {
        let baseline = cx.place(args.get("baseline")).await?.security()?.audit().await?;
        result["added"] = counted(report.findings.iter().filter(|f| !has(&baseline, f)));
        result["gone"] = counted(baseline.findings.iter().filter(|f| ran(&report, f) && !has(&report, f)));
    }
    Ok(result)
}

/// Returns `incomplete` before anything else: a check that did not run is never a pass.
fn verdict(report: &AuditReport) -> &'static str {
    let blind = report.checks.iter().any(|c| c.level == Level::Error && c.status == CheckStatus::Skipped);
    match (blind, report.findings.iter().any(|f| f.level == Level::Error)) {
        (_, true) => "fail",
        (true, false) => "incomplete",
        (false, false) => "pass",
    }
}

fn summary(report: &AuditReport) -> Value {
    let checks = |status| report.checks.iter().filter(|c| c.status == status).count();
    let mut summary = by_level(&report.findings.iter().collect::<Vec<_>>());
    summary["passed"] = checks(CheckStatus::Passed).into();
    summary["skipped"] = checks(CheckStatus::Skipped).into();
    summary["not_applicable"] = checks(CheckStatus::NotApplicable).into();
    summary
}

fn has(report: &AuditReport, finding: &Finding) -> bool {
    report.findings.iter().any(|f| f.fingerprint() == finding.fingerprint())
}

/// Returns whether a report could have found this: what was not looked at is not gone.
fn ran(report: &AuditReport, finding: &Finding) -> bool {
    let looked = [CheckStatus::Passed, CheckStatus::Failed];
    report.checks.iter().any(|c| c.check == finding.check && looked.contains(&c.status))
}

fn counted<'a>(findings: impl Iterator<Item = &'a Finding>) -> Value {
    let findings: Vec<_> = findings.collect();
    let mut counts = by_level(&findings);
    counts["findings"] = json!(findings);
    counts
}

fn by_level(findings: &[&Finding]) -> Value {
    let count = |level| findings.iter().filter(|f| f.level == level).count();
    json!({ "error": count(Level::Error), "warn": count(Level::Warn), "info": count(Level::Info) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::model::Check;

    fn report(level: Level, status: CheckStatus, found: bool) -> AuditReport {
        let check = Check { check: "c".into(), level, status, reason: None };
        let finding = Finding {
            check: "c".into(),
            level,
            category: "RLS".into(),
            object: "orders".into(),
            detail: String::new(),
            fix: String::new(),
        };
        AuditReport { findings: found.then_some(finding).into_iter().collect(), checks: vec![check] }
    }

    #[test]
    fn a_check_that_did_not_run_is_never_a_pass() {
        assert_eq!(verdict(&report(Level::Error, CheckStatus::Skipped, false)), "incomplete");
        assert_eq!(verdict(&report(Level::Warn, CheckStatus::Skipped, false)), "pass");
        assert_eq!(verdict(&report(Level::Error, CheckStatus::Failed, true)), "fail");
    }

    #[test]
    fn what_was_not_looked_at_is_not_gone() {
        let baseline = report(Level::Error, CheckStatus::Failed, true);
        let finding = &baseline.findings[0];
        assert!(ran(&report(Level::Error, CheckStatus::Passed, false), finding));
        assert!(!ran(&report(Level::Error, CheckStatus::NotApplicable, false), finding));
        assert!(!ran(&report(Level::Error, CheckStatus::Skipped, false), finding));
    }
}
