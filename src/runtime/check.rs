//! What can be said of a runbook without running it: unknown operations, wrong options, rights missing or never used.

use super::{
    engine,
    fault::{Place, place},
    flow::NATIVES,
    runbook::Runbook,
    stage::INVARIANT,
    values::to_value,
};
use crate::{
    base::suggest,
    ops::{
        self,
        args::Args,
        spec::{Kind, Need, Op, Param, place_of},
    },
};
use rhai::{AST, ASTNode, Engine, Expr, FnCallExpr, Position, Stmt};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Something that a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What is the matter.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Where.
    pub place: Option<Place>,
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
pub fn check(runbook: &Runbook) -> Vec<Finding> {
    let engine = engine::language();
    let mut walk =
        Walk { runbook, functions: known_functions(engine), used: BTreeSet::new(), findings: vec![] };
    walk.file(&runbook.path, &runbook.ast);
    for (path, text) in &runbook.modules {
        if let Ok(ast) = engine.compile(text) {
            walk.file(path, &ast);
        }
    }
    walk.unused_needs();
    walk.findings
}

/// Returns the targets that a runbook names by literals.
pub fn targets_named(runbook: &Runbook) -> Vec<String> {
    let mut targets = Vec::new();
    runbook.ast.walk(&mut |path: &[ASTNode<'_>]| {
        if let Some(ASTNode::Expr(Expr::FnCall(call, _)) | ASTNode::Stmt(Stmt::FnCall(call, _))) = path.last()
        {
            let namespace = call.namespace.to_string();
            let name = format!("{}::{}", namespace.trim_end_matches("::"), call.name);
            let op = ops::find(&name);
            let params = op.into_iter().flat_map(Op::positional).zip(&call.args);
            let given =
                params.filter(|(param, _)| param.kind == Kind::Target).filter_map(|(_, arg)| literal(arg));
            targets.extend(given.filter_map(|value| place_of(&value).ok()).map(|place| place.target));
        }
        true
    });
    targets
}

/// Every function that a script can call without a namespace, with the numbers of arguments it takes.
fn known_functions(engine: &Engine) -> BTreeMap<String, BTreeSet<usize>> {
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

struct Walk<'a> {
    runbook: &'a Runbook,
    functions: BTreeMap<String, BTreeSet<usize>>,
    used: BTreeSet<Need>,
    findings: Vec<Finding>,
}

impl Walk<'_> {
    fn file(&mut self, file: &str, ast: &AST) {
        let own: Vec<_> = ast.iter_functions().map(|f| (f.name.to_owned(), f.params.len())).collect();
        for (name, params) in &own {
            if NATIVES.contains(&name.as_str()) {
                let message = format!("the function `{name}` hides redrill's own");
                self.find(
                    Severity::Error,
                    file,
                    Position::NONE,
                    message,
                    Some("give it another name".into()),
                );
            }
            self.functions.entry(name.clone()).or_default().insert(*params);
        }
        // One that takes something else would be asked nothing, and a rehearsal without it looks well.
        let takes: Vec<usize> = own.iter().filter(|(name, _)| name == INVARIANT).map(|(_, n)| *n).collect();
        if file == self.runbook.path && !takes.is_empty() && !takes.contains(&1) {
            let message = format!("`{INVARIANT}` takes {}, and a rehearsal gives it the world", takes[0]);
            let hint = "write `fn invariant(world)`, or give it another name".to_owned();
            self.find(Severity::Error, file, Position::NONE, message, Some(hint));
        }
        ast.walk(&mut |path: &[ASTNode<'_>]| {
            match path.last() {
                Some(ASTNode::Expr(Expr::FnCall(call, at)) | ASTNode::Stmt(Stmt::FnCall(call, at))) => {
                    self.call(file, call, *at);
                }
                Some(ASTNode::Expr(Expr::Dot(dot, ..))) => self.property(file, &dot.lhs, &dot.rhs),
                _ => {}
            }
            true
        });
    }

    fn call(&mut self, file: &str, call: &FnCallExpr, at: Position) {
        let namespace = call.namespace.to_string();
        let namespace = namespace.trim_end_matches("::");
        if namespace.is_empty() {
            return self.plain_call(file, call, at);
        }
        let name = format!("{namespace}::{}", call.name);
        match ops::find(&name) {
            Some(op) => self.operation(file, op, call, at),
            None if ops::all().any(|op| op.area() == namespace.split("::").next().unwrap_or_default()) => {
                let known: Vec<String> = ops::all().map(Op::path).collect();
                let hint = suggest::hint(
                    &name,
                    known.iter().map(String::as_str).filter(|k| k.starts_with(namespace)).collect::<Vec<_>>(),
                );
                self.find(Severity::Error, file, at, format!("there is no operation `{name}`"), Some(hint));
            }
            None => {}
        }
    }

    fn plain_call(&mut self, file: &str, call: &FnCallExpr, at: Position) {
        if call.op_token.is_some()
            || self.functions.contains_key(call.name.as_str())
            || call.name.starts_with("anon$")
        {
            return;
        }
        let hint = suggest::nearest(&call.name, self.functions.keys().map(String::as_str))
            .map(|n| format!("did you mean `{n}`?"));
        self.find(Severity::Error, file, at, format!("there is no function `{}`", call.name), hint);
    }

    /// Checks what is literal, and notes the worst right that the call could need.
    fn operation(&mut self, file: &str, op: &'static Op, call: &FnCallExpr, at: Position) {
        let positional = op.positional().count();
        let given = call.args.len();
        if given < positional || given > positional + 1 {
            let message = format!(
                "`{}` takes {positional} arguments and an options map, and {given} were given",
                op.path()
            );
            return self.find(
                Severity::Error,
                file,
                at,
                message,
                Some(format!("write `{}`", op.signature())),
            );
        }
        for (param, arg) in op.positional().zip(&call.args) {
            self.literal(file, op, param, arg, at);
        }
        if let Some(Expr::Map(map, _)) = call.args.get(positional) {
            for (key, value) in &map.0 {
                if let Some(param) = op.options().find(|o| o.name == key.name.as_str()) {
                    self.literal(file, op, param, value, at);
                }
            }
        }
        // What a call needs may depend on what is given by its place as well.
        let placed: Vec<(&str, Option<Value>)> = op
            .positional()
            .zip(&call.args)
            .filter_map(|(p, arg)| Some((p.name, Some(literal(arg)?))))
            .collect();
        let need = match call.args.get(positional) {
            None => worst_of(op, placed),
            Some(Expr::Map(map, _)) => {
                let keys: Vec<&str> = map.0.iter().map(|(key, _)| key.name.as_str()).collect();
                if let Some(unknown) = keys.iter().find(|k| !op.options().any(|o| o.name == **k)) {
                    let hint = suggest::hint(unknown, op.options().map(|o| o.name).collect::<Vec<_>>());
                    return self.find(
                        Severity::Error,
                        file,
                        at,
                        format!("`{}` has no option `{unknown}`", op.path()),
                        Some(hint),
                    );
                }
                let given = map.0.iter().map(|(key, value)| (key.name.as_str(), literal(value)));
                worst_of(op, placed.into_iter().chain(given).collect())
            }
            Some(_) => op.worst_need(),
        };
        if !self.runbook.header.needs.iter().any(|right| right.covers(&need)) {
            let message = format!("`{}` needs `{need}`, and `needs` does not have it", op.path());
            self.find(
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
    fn literal(&mut self, file: &str, op: &Op, param: &Param, arg: &Expr, at: Position) {
        let Some(Err(wrong)) = literal(arg).map(|value| param.kind.accept(value)) else { return };
        let message = format!("`{}` of `{}`: {}", param.name, op.path(), wrong.message);
        self.find(
            Severity::Error,
            file,
            at,
            message,
            wrong.hint.or_else(|| Some(format!("{}: {}", param.name, param.help))),
        );
    }

    /// Looks at `params.name`.
    fn property(&mut self, file: &str, lhs: &Expr, rhs: &Expr) {
        let (Expr::Variable(variable, ..), Expr::Property(property, at)) = (lhs, rhs) else { return };
        let name = property.2.as_str();
        if variable.1.as_str() == "params" && !self.runbook.header.params.contains_key(name) {
            let known: Vec<_> = self.runbook.header.params.keys().map(String::as_str).collect();
            let hint = suggest::hint(name, known);
            self.find(
                Severity::Error,
                file,
                *at,
                format!("the header has no parameter `{name}`"),
                Some(hint),
            );
        }
    }

    fn unused_needs(&mut self) {
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
            self.find(
                Severity::Warning,
                &path,
                Position::NONE,
                format!("`{right}` in `needs` is never used"),
                Some("take it out".into()),
            );
        }
    }

    fn find(&mut self, severity: Severity, file: &str, at: Position, message: String, hint: Option<String>) {
        let place = place(file, at, &|f| self.runbook.text_of(f));
        self.findings.push(Finding { severity, message, hint, place });
    }
}

/// A literal; `None` is anything that is only known when it runs.
fn literal(expr: &Expr) -> Option<Value> {
    expr.get_literal_value(None).and_then(|value| to_value(&value).ok())
}

/// Returns the worst right that a call with these options could need: what is no literal is taken to be anything.
fn worst_of(op: &Op, options: Vec<(&str, Option<Value>)>) -> Need {
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
        .map(|s| op.need(&sample(op, s)))
        .max_by_key(|need| need.effect)
        .unwrap_or_else(|| op.worst_need())
}

/// Returns arguments that have these options and nothing else, for asking an operation what it would need.
fn sample(op: &Op, options: &Map<String, Value>) -> Args {
    let text = op.options().filter(|o| o.kind == Kind::Text).map(|o| o.name).collect::<BTreeSet<_>>();
    let shaped = options.iter().map(|(name, value)| {
        let value = if text.contains(name.as_str()) && !value.is_string() {
            Value::String("…".into())
        } else {
            value.clone()
        };
        (name.clone(), value)
    });
    Args::sample(shaped.collect())
}

/// Returns whether a finding keeps a runbook from being run, and whether that is a matter of rights.
pub fn refuses(findings: &[Finding]) -> Option<&Finding> {
    findings.iter().filter(|f| f.severity != Severity::Warning).min_by_key(|f| f.severity)
}
