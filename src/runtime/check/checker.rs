//! The check of a runbook's calls.

use super::{
    finding::{CheckFinding, Severity},
    lost_changes::{LostChange, find_lost_changes},
    rights::worst_need_for,
    syntax::{literal_value, namespace_of},
};
use crate::{
    base::suggest,
    ops::{
        self,
        spec::{Operation, Param, Permission},
    },
    runtime::{
        flow::NATIVES,
        runbook::{FIXTURE_FN, INVARIANT_FN, Runbook},
        script_error::locate_source,
        world_natives::WORLD_NAMESPACE,
    },
};
use rhai::{AST, ASTNode, Engine, Expr, FnCallExpr, Position, Stmt};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A runbook that is being checked, and what was found so far.
pub(super) struct RunbookChecker<'a> {
    pub(super) runbook: &'a Runbook,
    /// What can be called without a namespace, with the numbers of arguments that it takes.
    functions: BTreeMap<String, BTreeSet<usize>>,
    /// The rights that its calls need.
    pub(super) used: BTreeSet<Permission>,
    /// The operations that are called somewhere.
    pub(super) called: BTreeSet<String>,
    pub(super) findings: Vec<CheckFinding>,
}

impl<'a> RunbookChecker<'a> {
    pub(super) fn new(runbook: &'a Runbook, engine: &Engine) -> Self {
        Self {
            runbook,
            functions: collect_functions(engine),
            used: BTreeSet::new(),
            called: BTreeSet::new(),
            findings: vec![],
        }
    }

    pub(super) fn check_file(&mut self, file: &str, ast: &AST) {
        let own: Vec<_> = ast.iter_functions().map(|f| (f.name.to_owned(), f.params.len())).collect();
        for (name, params) in &own {
            if NATIVES.iter().any(|native| native.name == name) {
                let message = format!("the function `{name}` hides redrill's own");
                self.add_finding(
                    Severity::Error,
                    file,
                    Position::NONE,
                    message,
                    Some("give it another name".into()),
                );
            }
            self.functions.entry(name.clone()).or_default().insert(*params);
        }
        if file == self.runbook.path {
            self.check_prelude_function(&own, (INVARIANT_FN, 1), "the world", "fn invariant(world)");
            self.check_prelude_function(&own, (FIXTURE_FN, 0), "nothing", "fn fixture()");
            self.check_fixture(ast);
        }
        self.refuse_worlds_in_run(file, ast);
        self.report_lost_changes(file, ast);
        ast.walk(&mut |path: &[ASTNode<'_>]| {
            match path.last() {
                Some(ASTNode::Expr(Expr::FnCall(call, at)) | ASTNode::Stmt(Stmt::FnCall(call, at))) => {
                    self.check_call(file, call, *at);
                }
                Some(ASTNode::Expr(Expr::Dot(dot, ..))) => {
                    self.check_param_is_declared(file, &dot.lhs, &dot.rhs);
                }
                _ => {}
            }
            true
        });
    }

    fn check_call(&mut self, file: &str, call: &FnCallExpr, at: Position) {
        let namespace = namespace_of(call);
        let namespace = namespace.as_str();
        if namespace == WORLD_NAMESPACE {
            return self.check_world_call(file, call, at);
        }
        if namespace.is_empty() {
            return self.check_plain_call(file, call, at);
        }
        let name = format!("{namespace}::{}", call.name);
        match ops::find_operation(&name) {
            Some(op) => self.check_operation_call(file, op, call, at),
            None if ops::all_operations()
                .any(|op| op.area() == namespace.split("::").next().unwrap_or_default()) =>
            {
                let known: Vec<String> = ops::all_operations().map(Operation::path).collect();
                let hint = suggest::suggest_name_or_list_known(
                    &name,
                    known.iter().map(String::as_str).filter(|k| k.starts_with(namespace)).collect::<Vec<_>>(),
                );
                self.add_finding(
                    Severity::Error,
                    file,
                    at,
                    format!("there is no operation `{name}`"),
                    Some(hint),
                );
            }
            None => {}
        }
    }

    fn check_plain_call(&mut self, file: &str, call: &FnCallExpr, at: Position) {
        if call.op_token.is_some()
            || self.functions.contains_key(call.name.as_str())
            || call.name.starts_with("anon$")
        {
            return;
        }
        let hint = suggest::nearest_name(&call.name, self.functions.keys().map(String::as_str))
            .map(|n| format!("did you mean `{n}`?"));
        self.add_finding(Severity::Error, file, at, format!("there is no function `{}`", call.name), hint);
    }

    /// Checks what is literal, and notes the worst right that the call could need.
    fn check_operation_call(&mut self, file: &str, op: &'static Operation, call: &FnCallExpr, at: Position) {
        self.called.insert(op.path());
        let positional = op.positional_params().count();
        let given = call.args.len();
        if given < positional || given > positional + 1 {
            let message = format!(
                "`{}` takes {positional} arguments and an options map, and {given} were given",
                op.path()
            );
            return self.add_finding(
                Severity::Error,
                file,
                at,
                message,
                Some(format!("write `{}`", op.script_signature())),
            );
        }
        for (param, arg) in op.positional_params().zip(&call.args) {
            self.check_literal(file, op, param, arg, at);
        }
        if let Some(Expr::Map(map, _)) = call.args.get(positional) {
            for (key, value) in &map.0 {
                if let Some(param) = op.option_params().find(|o| o.name == key.name.as_str()) {
                    self.check_literal(file, op, param, value, at);
                }
            }
        }
        // What a call needs may depend on positional arguments as well.
        let placed: Vec<(&str, Option<Value>)> = op
            .positional_params()
            .zip(&call.args)
            .filter_map(|(p, arg)| Some((p.name, Some(literal_value(arg)?))))
            .collect();
        let need = match call.args.get(positional) {
            None => worst_need_for(op, placed),
            Some(Expr::Map(map, _)) => {
                let keys: Vec<&str> = map.0.iter().map(|(key, _)| key.name.as_str()).collect();
                if let Some(unknown) = keys.iter().find(|k| !op.option_params().any(|o| o.name == **k)) {
                    let hint = suggest::suggest_name_or_list_known(
                        unknown,
                        op.option_params().map(|o| o.name).collect::<Vec<_>>(),
                    );
                    return self.add_finding(
                        Severity::Error,
                        file,
                        at,
                        format!("`{}` has no option `{unknown}`", op.path()),
                        Some(hint),
                    );
                }
                let given = map.0.iter().map(|(key, value)| (key.name.as_str(), literal_value(value)));
                worst_need_for(op, placed.into_iter().chain(given).collect())
            }
            Some(_) => op.worst_permission(),
        };
        if !self.runbook.header.needs.iter().any(|right| right.covers(&need)) {
            let message = format!("`{}` needs `{need}`, and `needs` does not have it", op.path());
            self.add_finding(
                Severity::Policy,
                file,
                at,
                message,
                Some(format!("add \"{need}\" to `needs` in the header")),
            );
        }
        self.used.insert(need);
    }

    /// Decodes a literal as strictly as the call itself will.
    fn check_literal(&mut self, file: &str, op: &Operation, param: &Param, arg: &Expr, at: Position) {
        let Some(Err(wrong)) = literal_value(arg).map(|value| param.kind.canonicalize_value(value)) else {
            return;
        };
        let message = format!("`{}` of `{}`: {}", param.name, op.path(), wrong.message);
        self.add_finding(
            Severity::Error,
            file,
            at,
            message,
            wrong.hint.or_else(|| Some(format!("{}: {}", param.name, param.help))),
        );
    }

    /// Checks that `params.name` is a declared parameter.
    fn check_param_is_declared(&mut self, file: &str, lhs: &Expr, rhs: &Expr) {
        let (Expr::Variable(variable, ..), Expr::Property(property, at)) = (lhs, rhs) else { return };
        let name = property.2.as_str();
        if variable.1.as_str() == "params" && !self.runbook.header.params.contains_key(name) {
            let known: Vec<_> = self.runbook.header.params.keys().map(String::as_str).collect();
            let hint = suggest::suggest_name_or_list_known(name, known);
            self.add_finding(
                Severity::Error,
                file,
                *at,
                format!("the header has no parameter `{name}`"),
                Some(hint),
            );
        }
    }

    /// Warns of what is changed in a copy.
    fn report_lost_changes(&mut self, file: &str, ast: &AST) {
        for LostChange { native, variable, at } in find_lost_changes(ast) {
            let message = format!(
                "`{variable}` is changed in a closure of `{native}`, which has a copy of it: the change is lost"
            );
            let hint = "give it back as the value of the closure".to_owned();
            self.add_finding(Severity::Warning, file, at, message, Some(hint));
        }
    }

    pub(super) fn add_finding(
        &mut self,
        severity: Severity,
        file: &str,
        at: Position,
        message: String,
        hint: Option<String>,
    ) {
        let place = locate_source(file, at, &|f| self.runbook.source_text(f));
        self.findings.push(CheckFinding { severity, message, hint, place });
    }
}

/// Returns every function that a script can call without a namespace, with the numbers of arguments it takes.
fn collect_functions(engine: &Engine) -> BTreeMap<String, BTreeSet<usize>> {
    let mut known: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    let all = engine.collect_fn_metadata(
        None,
        |f| Some((f.metadata.name.to_string(), f.metadata.num_params)),
        true,
    );
    for (name, params) in all {
        known.entry(name).or_default().insert(params);
    }
    for keyword in ["Fn", "call", "curry", "type_of", "is_shared", "is_def_var", "is_def_fn"] {
        known.entry(keyword.into()).or_default().extend(0..8);
    }
    known
}
