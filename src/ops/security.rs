//! `security`: audit.

use super::{
    args::CallArgs,
    spec::{
        CallContext, Effect, Operation, Param, ParamKind, ParamSlot, Protocol, ReturnShape, TARGET, field,
    },
};
use crate::provider::{
    Result,
    model::{AuditReport, CheckStatus, Finding, FindingLevel},
};
use serde_json::{Value, json};

/// The operations of `security`.
pub(super) const OPS: &[Operation] = &[Operation {
    namespace: "security",
    name: "audit",
    summary: "Run every security and recoverability check, and say of each whether it ran",
    params: &[
        TARGET,
        Param {
            name: "baseline",
            kind: ParamKind::Target,
            slot: ParamSlot::Optional("none"),
            help: "another target to compare with: what is added and what is gone",
        },
    ],
    returns: ReturnShape::One(&[
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
    protocol: Protocol::Read(|cx, args| Box::pin(audit_target(cx, args))),
    examples: &[r#"security::audit("sandbox")"#],
}];

async fn audit_target(cx: &CallContext<'_>, args: &CallArgs) -> Result<Value> {
    let report = cx.open_target(args.get("target")).await?.security()?.audit().await?;
    let mut result = json!({
        "verdict": audit_verdict(&report),
        "summary": summarize_report(&report),
        "findings": report.findings,
        "checks": report.checks,
    });
    if !args.get("baseline").is_null() {
        let baseline = cx.open_target(args.get("baseline")).await?.security()?.audit().await?;
        result["added"] = findings_to_json(report.findings.iter().filter(|f| !has_finding(&baseline, f)));
        result["gone"] = findings_to_json(
            baseline.findings.iter().filter(|f| could_have_found(&report, f) && !has_finding(&report, f)),
        );
    }
    Ok(result)
}

/// Returns the verdict of a report: an error found fails it, and without one a check that did not run is no pass.
fn audit_verdict(report: &AuditReport) -> &'static str {
    let is_incomplete =
        report.checks.iter().any(|c| c.level == FindingLevel::Error && c.status == CheckStatus::Skipped);
    match (is_incomplete, report.findings.iter().any(|f| f.level == FindingLevel::Error)) {
        (_, true) => "fail",
        (true, false) => "incomplete",
        (false, false) => "pass",
    }
}

fn summarize_report(report: &AuditReport) -> Value {
    let checks = |status| report.checks.iter().filter(|c| c.status == status).count();
    let mut summary = count_by_level(&report.findings.iter().collect::<Vec<_>>());
    summary["passed"] = checks(CheckStatus::Passed).into();
    summary["skipped"] = checks(CheckStatus::Skipped).into();
    summary["not_applicable"] = checks(CheckStatus::NotApplicable).into();
    summary
}

fn has_finding(report: &AuditReport, finding: &Finding) -> bool {
    report.findings.iter().any(|f| f.fingerprint() == finding.fingerprint())
}

/// Returns whether the check that makes this finding ran for the report: what was not checked is not gone.
fn could_have_found(report: &AuditReport, finding: &Finding) -> bool {
    let looked = [CheckStatus::Passed, CheckStatus::Failed];
    report.checks.iter().any(|c| c.check == finding.check && looked.contains(&c.status))
}

fn findings_to_json<'a>(findings: impl Iterator<Item = &'a Finding>) -> Value {
    let findings: Vec<_> = findings.collect();
    let mut counts = count_by_level(&findings);
    counts["findings"] = json!(findings);
    counts
}

fn count_by_level(findings: &[&Finding]) -> Value {
    let count = |level| findings.iter().filter(|f| f.level == level).count();
    json!({ "error": count(FindingLevel::Error), "warn": count(FindingLevel::Warn), "info": count(FindingLevel::Info) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::model::AuditCheck;

    fn report(level: FindingLevel, status: CheckStatus, found: bool) -> AuditReport {
        let check = AuditCheck { check: "c".into(), level, status, reason: None };
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
        assert_eq!(audit_verdict(&report(FindingLevel::Error, CheckStatus::Skipped, false)), "incomplete");
        assert_eq!(audit_verdict(&report(FindingLevel::Warn, CheckStatus::Skipped, false)), "pass");
        assert_eq!(audit_verdict(&report(FindingLevel::Error, CheckStatus::Failed, true)), "fail");
    }

    #[test]
    fn what_was_not_looked_at_is_not_gone() {
        let baseline = report(FindingLevel::Error, CheckStatus::Failed, true);
        let finding = &baseline.findings[0];
        assert!(could_have_found(&report(FindingLevel::Error, CheckStatus::Passed, false), finding));
        assert!(!could_have_found(&report(FindingLevel::Error, CheckStatus::NotApplicable, false), finding));
        assert!(!could_have_found(&report(FindingLevel::Error, CheckStatus::Skipped, false), finding));
    }
}
