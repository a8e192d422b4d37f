//! The functions of a runbook that only a rehearsal calls, and what prepares simulated worlds.

use super::{
    checker::RunbookChecker,
    finding::Severity,
    syntax::{called_name, list_returned_keys, namespace_of},
};
use crate::{
    base::suggest,
    ops,
    runtime::{
        flow::NATIVES,
        runbook::FIXTURE_FN,
        world_natives::{WORLD_NAMESPACE, WORLD_NATIVES},
    },
};
use rhai::{AST, ASTNode, Expr, FnCallExpr, Position, Stmt};

impl RunbookChecker<'_> {
    /// Checks that a rehearsal would call a function of the runbook: with other parameters it never would be, and the
    /// rehearsal would pass without it.
    pub(super) fn check_prelude_function(
        &mut self,
        own: &[(String, usize)],
        (name, wanted): (&str, usize),
        given: &str,
        signature: &str,
    ) {
        let takes: Vec<usize> = own.iter().filter(|(own, _)| own == name).map(|(_, n)| *n).collect();
        if takes.is_empty() || takes.contains(&wanted) {
            return;
        }
        let message = format!("`{name}` takes {}, and a rehearsal gives it {given}", takes[0]);
        let hint = format!("write `{signature}`, or give it another name");
        let path = self.runbook.path.clone();
        self.add_finding(Severity::Error, &path, Position::NONE, message, Some(hint));
    }

    /// Checks what a fixture calls and returns: it is no part of a run.
    pub(super) fn check_fixture(&mut self, ast: &AST) {
        let path = self.runbook.path.clone();
        let mut body = ast.clone_functions_only();
        body.retain_functions(|_, _, name, params| name == FIXTURE_FN && params == 0);
        let mut returned = Vec::new();
        body.walk(&mut |nodes: &[ASTNode<'_>]| {
            if let [ASTNode::Stmt(statement)] = nodes {
                returned = list_returned_keys(statement);
            }
            if let Some(ASTNode::Expr(Expr::FnCall(call, at)) | ASTNode::Stmt(Stmt::FnCall(call, at))) =
                nodes.last()
            {
                self.refuse_operation_in_fixture(&path, call, *at);
            }
            true
        });
        for (name, at) in returned {
            if !self.runbook.header.params.contains_key(&name) {
                let known: Vec<_> = self.runbook.header.params.keys().map(String::as_str).collect();
                let hint = suggest::suggest_name_or_list_known(&name, known);
                let message = format!("the fixture returns `{name}`, and the header has no such parameter");
                self.add_finding(Severity::Error, &path, at, message, Some(hint));
            }
        }
    }

    fn refuse_operation_in_fixture(&mut self, file: &str, call: &FnCallExpr, at: Position) {
        let name = called_name(call);
        let needs_run = NATIVES.iter().any(|native| native.needs_run && native.name == name);
        if ops::find_operation(&name).is_none() && !needs_run {
            return;
        }
        let message = format!("`{name}` works in a run, and `{FIXTURE_FN}` is called before there is one");
        let known: Vec<String> =
            WORLD_NATIVES.iter().map(|(name, _)| format!("`{WORLD_NAMESPACE}::{name}`")).collect();
        let hint = format!("prepare the simulated world with {}", known.join(", "));
        self.add_finding(Severity::Error, file, at, message, Some(hint));
    }

    /// Refuses what prepares worlds among the statements that a run evaluates.
    pub(super) fn refuse_worlds_in_run(&mut self, file: &str, ast: &AST) {
        for statement in ast.statements() {
            statement.walk(&mut Vec::new(), &mut |nodes: &[ASTNode<'_>]| {
                if let Some(ASTNode::Expr(Expr::FnCall(call, at)) | ASTNode::Stmt(Stmt::FnCall(call, at))) =
                    nodes.last()
                    && namespace_of(call) == WORLD_NAMESPACE
                {
                    let message =
                        format!("`{}` prepares a world, and a run takes it as it is", called_name(call));
                    let hint = format!("put it into `fn {FIXTURE_FN}()`");
                    self.add_finding(Severity::Error, file, *at, message, Some(hint));
                }
                true
            });
        }
    }

    pub(super) fn check_world_call(&mut self, file: &str, call: &FnCallExpr, at: Position) {
        let name = called_name(call);
        let known = WORLD_NATIVES.iter().find(|(known, _)| *known == call.name.as_str());
        let (message, hint) = match known {
            Some((_, takes)) if *takes == call.args.len() => return,
            Some((_, takes)) => {
                (format!("`{name}` takes {takes} arguments, and {} were given", call.args.len()), None)
            }
            None => {
                let known = WORLD_NATIVES.iter().map(|(name, _)| *name);
                (
                    format!("there is no function `{name}`"),
                    Some(suggest::suggest_name_or_list_known(&call.name, known)),
                )
            }
        };
        self.add_finding(Severity::Error, file, at, message, hint);
    }
}
