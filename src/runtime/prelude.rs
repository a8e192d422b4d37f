//! The prelude of a runbook: what stands ready before anything of it runs, its imports, constants and functions.
//!
//! `invariant` and `fixture` are called on it. They are no part of a run: without a run no operation and no flow native
//! finds one to work in, and each of them says so.

use super::{
    evaluate,
    limits::MemoryAllowance,
    modules::PreloadedModules,
    runbook::Runbook,
    script_error::{self, codes},
};
use crate::journal::Failure;
use rhai::{AST, ASTFlags, ASTNode, CallFnOptions, Dynamic, Engine, Expr, FuncArgs, Scope, Stmt};
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// How much a function of the prelude may compute: far more than one that looks at a world needs, and a moment's work.
const MAX_OPERATIONS: u64 = 5_000_000;

/// Why a function of the prelude gave no value.
#[derive(Debug)]
pub(super) enum PreludeError {
    /// It threw.
    Failed(Box<Failure>),
    /// It was stopped: it computed more than any should.
    Endless,
}

/// Calls a function of a runbook over its prelude, within the limits of what a function may compute and keep.
pub(super) fn call_runbook_function_within_limits(
    engine: &mut Engine,
    runbook: &Runbook,
    name: &str,
    args: impl FuncArgs,
) -> Result<Dynamic, PreludeError> {
    engine.set_module_resolver(PreloadedModules::new(runbook.modules.clone()));
    // What terminates a script can be dropped by `sort` and others, so that it is remembered here.
    let is_endless = Arc::new(AtomicBool::new(false));
    let endless = Arc::clone(&is_endless);
    let memory = MemoryAllowance::from_now();
    engine.on_progress(move |count| {
        (count > MAX_OPERATIONS || memory.find_excess().is_some()).then(|| {
            endless.store(true, Ordering::Relaxed);
            Dynamic::UNIT
        })
    });
    let options = CallFnOptions::new().eval_ast(true).rewind_scope(true);
    let prelude = build_prelude(&runbook.ast, &runbook.path);
    let answer = engine.call_fn_with_options::<Dynamic>(options, &mut Scope::new(), &prelude, name, args);
    engine.on_progress(|_| None);
    if is_endless.load(Ordering::Relaxed) {
        return Err(PreludeError::Endless);
    }
    answer.map_err(|e| {
        let mut failure = evaluate::to_failure(runbook, &e);
        if failure.fault.message == script_error::OUTSIDE_RUN {
            failure.fault.message =
                format!("`{name}` sees no operations, and nothing that works in a run only");
            codes::SCRIPT.clone_into(&mut failure.fault.code);
        }
        PreludeError::Failed(Box::new(failure))
    })
}

/// Returns a script without what a run of it would do: its imports, functions, and those constants that call nothing
/// and refer to no variable.
fn build_prelude(ast: &AST, path: &str) -> AST {
    let mut known: BTreeSet<String> = BTreeSet::new();
    let is_ready = |statement: &&Stmt| match statement {
        Stmt::Import(..) => true,
        Stmt::Var(var, flags, _) if flags.contains(ASTFlags::CONSTANT) && is_constant(&var.1, &known) => {
            known.insert(var.0.name.to_string());
            true
        }
        _ => false,
    };
    let statements: Vec<Stmt> = ast.statements().iter().filter(is_ready).cloned().collect();
    AST::new_with_source(statements, ast.shared_lib().clone(), path)
}

/// Returns whether an expression computes from literals and known constants alone.
fn is_constant(expression: &Expr, known: &BTreeSet<String>) -> bool {
    expression.walk(&mut Vec::new(), &mut |path: &[ASTNode<'_>]| match path.last() {
        Some(ASTNode::Expr(Expr::FnCall(call, _))) => call.op_token.is_some(),
        Some(ASTNode::Expr(Expr::Variable(variable, ..))) => known.contains(variable.1.as_str()),
        Some(ASTNode::Stmt(_) | ASTNode::Expr(Expr::MethodCall(..))) => false,
        _ => true,
    })
}
