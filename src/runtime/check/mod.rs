//! Checks a runbook without running it: unknown operations, wrong options, missing and unused rights.

mod lost_changes;

use super::{
    engine,
    flow::NATIVES,
    refusal::Refusal,
    remainder::RemainderRule,
    runbook::{FIXTURE_FN, INVARIANT_FN, Runbook},
    runbook_error::RunbookError,
    script_error::locate_source,
    values::to_json,
    world_natives::{WORLD_NAMESPACE, WORLD_NATIVES},
};
use crate::{
    base::suggest,
    journal::SourceLocation,
    ops::{
        self,
        args::CallArgs,
        spec::{Operation, Param, ParamKind, Permission, parse_target_ref},
    },
};
use lost_changes::{LostChange, find_lost_changes};
use rhai::{AST, ASTNode, Engine, Expr, FnCallExpr, Position, Stmt};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// A problem that a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckFinding {
    /// How bad it is.
    pub severity: Severity,
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    pub place: Option<SourceLocation>,
}

/// How bad a finding of a check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The runbook would be refused, or would fail where this stands.
    Error,
    /// A right that the header does not give: the runbook would be refused.
    Policy,
    /// It would run; somebody should look.
    Warning,
}

/// Checks a runbook.
pub fn check_runbook(runbook: &Runbook) -> Vec<CheckFinding> {
    let engine = engine::language_engine();
    let mut checker = RunbookChecker {
        runbook,
        functions: collect_functions(engine),
        used: BTreeSet::new(),
        called: BTreeSet::new(),
        findings: vec![],
    };
    checker.check_file(&runbook.path, &runbook.ast);
    for (path, text) in &runbook.modules {
        if let Ok(ast) = engine.compile(text) {
            checker.check_file(path, &ast);
        }
    }
    checker.report_unused_needs();
    checker.report_idle_leaves();
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

struct RunbookChecker<'a> {
    runbook: &'a Runbook,
    functions: BTreeMap<String, BTreeSet<usize>>,
    used: BTreeSet<Permission>,
    /// The operations that are called somewhere.
    called: BTreeSet<String>,
    findings: Vec<CheckFinding>,
}

impl RunbookChecker<'_> {
    fn check_file(&mut self, file: &str, ast: &AST) {
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
                    self.check_param_property(file, &dot.lhs, &dot.rhs);
                }
                _ => {}
            }
            true
        });
    }

    /// Checks that a rehearsal would call a function of the runbook: with other parameters it never would be, and the
    /// rehearsal would pass without it.
    fn check_prelude_function(
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
    fn check_fixture(&mut self, ast: &AST) {
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
                let hint = suggest::suggest_name(&name, known);
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
    fn refuse_worlds_in_run(&mut self, file: &str, ast: &AST) {
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

    fn check_world_call(&mut self, file: &str, call: &FnCallExpr, at: Position) {
        let name = called_name(call);
        let known = WORLD_NATIVES.iter().find(|(known, _)| *known == call.name.as_str());
        let (message, hint) = match known {
            Some((_, takes)) if *takes == call.args.len() => return,
            Some((_, takes)) => {
                (format!("`{name}` takes {takes} arguments, and {} were given", call.args.len()), None)
            }
            None => {
                let known = WORLD_NATIVES.iter().map(|(name, _)| *name);
                (format!("there is no function `{name}`"), Some(suggest::suggest_name(&call.name, known)))
            }
        };
        self.add_finding(Severity::Error, file, at, message, hint);
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
                let hint = suggest::suggest_name(
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
                    let hint = suggest::suggest_name(
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
    fn check_param_property(&mut self, file: &str, lhs: &Expr, rhs: &Expr) {
        let (Expr::Variable(variable, ..), Expr::Property(property, at)) = (lhs, rhs) else { return };
        let name = property.2.as_str();
        if variable.1.as_str() == "params" && !self.runbook.header.params.contains_key(name) {
            let known: Vec<_> = self.runbook.header.params.keys().map(String::as_str).collect();
            let hint = suggest::suggest_name(name, known);
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

    fn report_unused_needs(&mut self) {
        let unused: Vec<_> = self
            .runbook
            .header
            .needs
            .iter()
            .filter(|right| !self.used.iter().any(|need| right.covers(need)))
            .cloned()
            .collect();
        for right in unused {
            let path = self.runbook.path.clone();
            self.add_finding(
                Severity::Warning,
                &path,
                Position::NONE,
                format!("`{right}` in `needs` is never used"),
                Some("take it out".into()),
            );
        }
    }

    /// Warns of what the header lets stay and no operation of the runbook can leave.
    fn report_idle_leaves(&mut self) {
        let can_be_left = |rule: &RemainderRule| self.called.iter().any(|name| rule.can_be_left_by(name));
        let idle: Vec<String> = self
            .runbook
            .header
            .leaves
            .iter()
            .filter(|rule| !can_be_left(rule))
            .map(RemainderRule::to_string)
            .collect();
        for entry in idle {
            let path = self.runbook.path.clone();
            let message =
                format!("`{entry}` in `leaves` is nothing that an operation of this runbook can leave");
            self.add_finding(Severity::Warning, &path, Position::NONE, message, Some("take it out".into()));
        }
    }

    fn add_finding(
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

/// Returns the namespace of a call, without the `::` that follows it.
fn namespace_of(call: &FnCallExpr) -> String {
    call.namespace.to_string().trim_end_matches("::").to_owned()
}

/// Returns the name of a call as it is written.
fn called_name(call: &FnCallExpr) -> String {
    match namespace_of(call) {
        namespace if namespace.is_empty() => call.name.to_string(),
        namespace => format!("{namespace}::{}", call.name),
    }
}

/// Returns the keys of the map literal that a statement gives, with their places.
fn list_returned_keys(statement: &Stmt) -> Vec<(String, Position)> {
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
fn literal_value(expr: &Expr) -> Option<Value> {
    expr.get_literal_value(None).and_then(|value| to_json(&value).ok())
}

/// Returns the worst right that a call with these options could need: what is no literal may be anything.
fn worst_need_for(op: &Operation, options: Vec<(&str, Option<Value>)>) -> Permission {
    let mut samples = vec![Map::new()];
    for (name, value) in options {
        let values = match value {
            Some(value) => vec![value],
            None => vec![Value::Bool(true), Value::Bool(false)],
        };
        samples = samples
            .into_iter()
            .flat_map(|sample| {
                values.iter().map(move |v| {
                    let mut next = sample.clone();
                    next.insert(name.to_owned(), v.clone());
                    next
                })
            })
            .collect();
        samples.truncate(64);
    }
    samples
        .iter()
        .map(|s| op.required_permission(&sample_args(op, s)))
        .max_by_key(|need| need.effect)
        .unwrap_or_else(|| op.worst_permission())
}

/// Returns arguments that have these options and nothing else, for asking an operation what it would need.
fn sample_args(op: &Operation, options: &Map<String, Value>) -> CallArgs {
    let text =
        op.option_params().filter(|o| o.kind == ParamKind::Text).map(|o| o.name).collect::<BTreeSet<_>>();
    let shaped = options.iter().map(|(name, value)| {
        let value = if text.contains(name.as_str()) && !value.is_string() {
            Value::String("…".into())
        } else {
            value.clone()
        };
        (name.clone(), value)
    });
    CallArgs::from_unchecked(shaped.collect())
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
