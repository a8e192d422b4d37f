//! Changes that are lost: what `parallel`, `each`, `defer` and `on_failure` are given has copies of the values that it
//! captures, so that a counter in it counts for nobody else.

use rhai::{AST, ASTNode, Expr, FnPtr, Position, Stmt};
use std::collections::BTreeSet;

/// The natives whose closures have copies.
const COPYING_NATIVES: [&str; 4] = ["parallel", "each", "defer", "on_failure"];
/// The methods that change what they are called on.
const CHANGING_METHODS: [&str; 16] = [
    "push", "append", "insert", "pop", "shift", "remove", "clear", "truncate", "chop", "retain", "drain",
    "splice", "sort", "reverse", "set", "pad",
];

/// A change of a variable of which the closure has a copy.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LostChange {
    pub(super) native: String,
    pub(super) variable: String,
    pub(super) at: Position,
}

/// Finds the changes that a script loses.
pub(super) fn find_lost_changes(ast: &AST) -> Vec<LostChange> {
    let mut found = Vec::new();
    ast.walk(&mut |path: &[ASTNode<'_>]| {
        if let Some(ASTNode::Expr(Expr::FnCall(call, _)) | ASTNode::Stmt(Stmt::FnCall(call, _))) = path.last()
            && COPYING_NATIVES.contains(&call.name.as_str())
            && call.namespace.is_empty()
        {
            for (closure, captured) in call.args.iter().flat_map(list_closures) {
                let changes = find_changes(ast, &closure, &captured, &mut BTreeSet::new());
                found.extend(changes.into_iter().map(|(variable, at)| LostChange {
                    native: call.name.to_string(),
                    variable,
                    at,
                }));
            }
        }
        true
    });
    found.sort_by_key(|change| change.at);
    found.dedup();
    found
}

/// Returns the closures in an expression that capture something: the name of each, and of what it captures.
fn list_closures(expr: &Expr) -> Vec<(String, BTreeSet<String>)> {
    let mut closures = Vec::new();
    expr.walk(&mut Vec::new(), &mut |path: &[ASTNode<'_>]| {
        closures.extend(path.last().and_then(read_capturing_closure));
        true
    });
    closures
}

/// Reads a closure that captures something, which the parser writes as the currying of a function.
fn read_capturing_closure(node: &ASTNode<'_>) -> Option<(String, BTreeSet<String>)> {
    let (ASTNode::Expr(Expr::FnCall(curry, _)) | ASTNode::Stmt(Stmt::FnCall(curry, _))) = node else {
        return None;
    };
    let (Expr::DynamicConstant(function, _), captured) = curry.args.split_first()? else { return None };
    let name = function.read_lock::<FnPtr>()?.fn_name().to_owned();
    let variable = |arg: &Expr| match arg {
        Expr::Variable(variable, ..) => Some(variable.1.to_string()),
        _ => None,
    };
    (curry.name == "curry").then(|| (name, captured.iter().filter_map(variable).collect()))
}

/// Finds where a closure, or one inside it, changes one of these variables.
fn find_changes(
    ast: &AST,
    closure: &str,
    captured: &BTreeSet<String>,
    seen: &mut BTreeSet<String>,
) -> Vec<(String, Position)> {
    if !seen.insert(closure.to_owned()) {
        return Vec::new();
    }
    let mut changes = Vec::new();
    visit_closure_nodes(ast, closure, &mut |node| {
        let target = match node {
            ASTNode::Stmt(Stmt::Assignment(assignment)) => Some(&assignment.1.lhs),
            ASTNode::Expr(Expr::Dot(dot, ..)) => match &dot.rhs {
                Expr::MethodCall(method, _) if CHANGING_METHODS.contains(&method.name.as_str()) => {
                    Some(&dot.lhs)
                }
                _ => None,
            },
            _ => None,
        };
        changes.extend(target.and_then(root_variable).filter(|(name, _)| captured.contains(name)));
        if let Some((inner, its_own)) = read_capturing_closure(node) {
            let shared = its_own.intersection(captured).cloned().collect::<BTreeSet<_>>();
            if !shared.is_empty() {
                changes.extend(find_changes(ast, &inner, &shared, seen));
            }
        }
    });
    let own = list_own_variables(ast, closure);
    changes.retain(|(name, _)| !own.contains(name));
    changes
}

/// Returns the variable that is changed when something in it is.
fn root_variable(changed: &Expr) -> Option<(String, Position)> {
    match changed {
        Expr::Variable(variable, _, at) => Some((variable.1.to_string(), *at)),
        Expr::Dot(path, ..) | Expr::Index(path, ..) => root_variable(&path.lhs),
        _ => None,
    }
}

/// Returns the variables that a closure declares itself: they hide what it captures.
fn list_own_variables(ast: &AST, closure: &str) -> BTreeSet<String> {
    let mut own = BTreeSet::new();
    visit_closure_nodes(ast, closure, &mut |node| {
        if let ASTNode::Stmt(Stmt::Var(declared, ..)) = node {
            own.insert(declared.0.name.to_string());
        }
    });
    own
}

/// Visits what stands in a closure.
fn visit_closure_nodes(ast: &AST, closure: &str, on_node: &mut dyn FnMut(&ASTNode<'_>)) {
    let alone = ast.clone_functions_only_filtered(|_, _, _, name, _| name == closure);
    alone.walk(&mut |path: &[ASTNode<'_>]| {
        if let Some(node) = path.last() {
            on_node(node);
        }
        true
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::engine;

    fn find(script: &str) -> Vec<(String, String)> {
        let ast = engine::build_engine().compile(script).expect("it parses");
        find_lost_changes(&ast).into_iter().map(|lost| (lost.native, lost.variable)).collect()
    }

    #[test]
    fn a_counter_in_a_branch_is_found() {
        for (native, script) in [
            ("parallel", "let n = 0; parallel([|| { n += 1 }, || 2]);"),
            ("parallel", "let n = #{ a: 1 }; parallel([|| { n.a = 2 }]);"),
            ("each", "let n = []; each([1], |i| n.push(i));"),
            ("each", "let n = []; each([1], #{ limit: 1 }, |i| { n[0] = i });"),
            ("defer", "let n = 0; defer(|| { n = 1 });"),
            ("parallel", "let n = 0; step(\"s\", || { parallel([|| { n += 1 }]); });"),
            (
                "each",
                "let n = []; step(\"s\", || { step(\"t\", || { let m = 1; each([1], |i| n.push(i)) }) });",
            ),
            ("defer", "let n = 0; step(\"s\", || { defer(|| { n = 1 }); n });"),
            ("on_failure", "let n = 0; on_failure(|| { step(\"s\", || { n += 1 }) });"),
        ] {
            assert_eq!(find(script), [(native.to_owned(), "n".to_owned())], "{script}");
        }
    }

    #[test]
    fn what_is_a_branches_own_is_not() {
        for script in [
            "let n = 0; parallel([|| { let n = 1; n += 1; n }]);",
            "let n = 0; parallel([|| n + 1]);",
            "let n = 0; step(\"s\", || { n += 1 });",
            "let n = 0; [1].for_each(|i| { n += i });",
            "each([1], |i| { i += 1; i });",
            "let n = []; each([1], |i| n.len() + i);",
        ] {
            assert_eq!(find(script), [], "{script}");
        }
    }
}
