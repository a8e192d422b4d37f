//! What a check reads from the syntax of a script.

use crate::runtime::values::to_json;
use rhai::{Expr, FnCallExpr, Position, Stmt};
use serde_json::Value;

/// Returns the namespace of a call, without the `::` that follows it.
pub(super) fn namespace_of(call: &FnCallExpr) -> String {
    call.namespace.to_string().trim_end_matches("::").to_owned()
}

/// Returns the name of a call as it is written.
pub(super) fn called_name(call: &FnCallExpr) -> String {
    match namespace_of(call) {
        namespace if namespace.is_empty() => call.name.to_string(),
        namespace => format!("{namespace}::{}", call.name),
    }
}

/// Returns the keys of the map literal that a statement gives, with their places.
pub(super) fn list_returned_keys(statement: &Stmt) -> Vec<(String, Position)> {
    let map = match statement {
        Stmt::Expr(expression) | Stmt::Return(Some(expression), ..) => &**expression,
        _ => return vec![],
    };
    match map {
        Expr::Map(map, _) => map.0.iter().map(|(key, _)| (key.name.to_string(), key.pos)).collect(),
        _ => vec![],
    }
}

/// Returns the value of a literal; `None` for what is only known at run time.
pub(super) fn literal_value(expr: &Expr) -> Option<Value> {
    expr.get_literal_value(None).and_then(|value| to_json(&value).ok())
}
