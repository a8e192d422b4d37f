//! Checks a runbook without running it: unknown operations, wrong options, missing and unused rights.

mod checker;
mod finding;
mod header_use;
mod lost_changes;
mod rights;
mod syntax;
mod worlds;

use super::{engine, refusal::Refusal, runbook::Runbook, runbook_error::RunbookError};
use crate::ops::{
    self,
    spec::{Operation, ParamKind, parse_target_ref},
};
use checker::RunbookChecker;
pub use finding::{CheckFinding, Severity};
use rhai::{ASTNode, Expr, Stmt};
use serde_json::Value;
use syntax::literal_value;

/// Checks a runbook.
pub fn check_runbook(runbook: &Runbook) -> Vec<CheckFinding> {
    let engine = engine::language_engine();
    let mut checker = RunbookChecker::new(runbook, engine);
    checker.check_file(&runbook.path, &runbook.ast);
    for (path, text) in &runbook.modules {
        if let Ok(ast) = engine.compile(text) {
            checker.check_file(path, &ast);
        }
    }
    checker.report_unused_needs();
    checker.report_unneeded_leaves();
    checker.findings
}

/// Returns the targets that a runbook names as literals.
fn find_literal_targets(runbook: &Runbook) -> Vec<String> {
    let mut targets = Vec::new();
    runbook.ast.walk(&mut |path: &[ASTNode<'_>]| {
        if let Some(ASTNode::Expr(Expr::FnCall(call, _)) | ASTNode::Stmt(Stmt::FnCall(call, _))) = path.last()
        {
            let namespace = call.namespace.to_string();
            let name = format!("{}::{}", namespace.trim_end_matches("::"), call.name);
            let op = ops::find_operation(&name);
            let params = op.into_iter().flat_map(Operation::positional_params).zip(&call.args);
            let given = params
                .filter(|(param, _)| param.kind == ParamKind::Target)
                .filter_map(|(_, arg)| literal_value(arg));
            targets.extend(given.filter_map(|value| parse_target_ref(&value).ok()).map(|place| place.target));
        }
        true
    });
    targets
}

/// Returns every target that a runbook names in its parameters or as a literal.
pub(super) fn list_named_targets(runbook: &Runbook, params: &Value) -> Vec<String> {
    let mut targets = runbook.targets_in_params(params);
    targets.extend(find_literal_targets(runbook));
    targets.sort();
    targets.dedup();
    targets
}

/// Returns the most severe finding that keeps a runbook from being run, if there is one.
pub fn find_blocking(findings: &[CheckFinding]) -> Option<&CheckFinding> {
    findings.iter().filter(|f| f.severity != Severity::Warning).min_by_key(|f| f.severity)
}

/// Refuses a runbook with a finding that keeps it from being run.
pub(super) fn require_runnable(runbook: &Runbook) -> Result<(), Refusal> {
    find_blocking(&check_runbook(runbook)).map_or(Ok(()), |finding| Err(to_refusal(finding)))
}

fn to_refusal(finding: &CheckFinding) -> Refusal {
    let (message, hint, place) = (finding.message.clone(), finding.hint.clone(), finding.place.clone());
    match finding.severity {
        Severity::Policy => Refusal::Policy { message, hint: hint.unwrap_or_default(), place },
        _ => Refusal::Runbook(RunbookError { message, hint, place }),
    }
}
