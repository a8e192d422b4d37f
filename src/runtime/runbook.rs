//! A runbook as data: its texts, and its header, read off the script without running anything of it.

use super::{
    engine,
    fault::SourceLocation,
    modules::{self, ModuleSources},
    values::to_json,
};
use crate::{
    base::{
        moment::{Moment, Span},
        secret, suggest, value,
    },
    config::Config,
    journal::Source,
    ops::spec::{Permission, parse_target_ref},
    provider::fleet,
};
use rhai::{AST, Engine, Position};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// The name of the header constant.
const HEADER_CONSTANT: &str = "RUNBOOK";

/// A runbook: its texts, its header and its compiled script.
pub struct Runbook {
    /// Its path or name, as it was given.
    pub path: String,
    pub text: String,
    pub header: Header,
    pub(super) modules: ModuleSources,
    pub(super) ast: AST,
}

/// What a runbook says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// What it is called.
    pub title: String,
    /// Its parameters, by name.
    pub params: BTreeMap<String, HeaderParam>,
    /// The rights that it needs.
    pub needs: Vec<Permission>,
}

/// A parameter of a runbook.
#[derive(Debug, Clone, PartialEq)]
pub struct HeaderParam {
    pub kind: ParamType,
    /// What it is when it is not given.
    pub preset: Option<Value>,
    /// One line for people.
    pub help: String,
}

/// What a parameter of a runbook takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParamType {
    /// Text.
    String,
    /// A whole number.
    Int,
    /// A number.
    Float,
    /// True or false.
    Bool,
    /// A length of time.
    Duration,
    /// An instant with a zone.
    Time,
    /// A network, `10.0.0.0/8`.
    Cidr,
    /// A target, or a branch of one.
    Target,
    /// One of a few words.
    Choice(Vec<String>),
    /// A reference to a secret: `env:NAME`, `file:PATH`.
    Secret,
}

/// What is wrong with a runbook or with what it was given. Nothing has been done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RunbookError {
    /// What is wrong: one sentence without a full stop.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    pub place: Option<SourceLocation>,
}

impl RunbookError {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, place: None }
    }

    pub(super) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHeader {
    title: String,
    #[serde(default)]
    params: BTreeMap<String, RawParam>,
    #[serde(default)]
    needs: Vec<String>,
    #[serde(default)]
    schedule: Option<RawSchedule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawParam {
    r#type: String,
    #[serde(default)]
    preset: Option<Value>,
    #[serde(default)]
    help: String,
    #[serde(default)]
    choices: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSchedule {
    #[serde(rename = "cron")]
    _cron: String,
    #[serde(rename = "zone")]
    _zone: String,
}

const PARAM_TYPES: &[&str] =
    &["string", "int", "float", "bool", "duration", "time", "cidr", "target", "choice", "secret"];

impl Runbook {
    /// Reads a runbook and every module that it imports.
    ///
    /// # Errors
    /// What keeps it from being run: it cannot be read, it does not parse, its header is missing or wrong.
    pub fn load_file(path: &Path) -> Result<Self, RunbookError> {
        let text = fs::read_to_string(path).map_err(|e| {
            RunbookError::new(format!("the runbook {} cannot be read: {e}", path.display()))
                .with_hint("name a `.rhai` file; those that come with redrill are in `runbooks/`")
        })?;
        let root = path
            .parent()
            .filter(|p| !p.as_os_str().is_empty())
            .map_or_else(|| PathBuf::from("."), Path::to_path_buf);
        let engine = engine::language_engine();
        let name = path.display().to_string();
        let modules = modules::read_modules(engine, &root, &name, &text).map_err(|bad| {
            let texts = BTreeMap::from([(name.clone(), text.clone())]);
            let place = super::fault::locate_source(&bad.file, bad.at, &|file| texts.get(file).cloned());
            RunbookError { message: bad.message, hint: bad.hint, place }
        })?;
        Self::compile_sources(engine, name, text, modules)
    }

    /// Returns a runbook of one text, which has no file.
    ///
    /// # Errors
    /// As [`Runbook::load_file`].
    pub fn from_text(name: &str, text: String) -> Result<Self, RunbookError> {
        Self::compile_sources(engine::language_engine(), name.to_owned(), text, ModuleSources::new())
    }

    /// Returns the runbook that a run recorded.
    ///
    /// # Errors
    /// As [`Runbook::load_file`]: a later version of redrill may no longer take it.
    pub fn from_recorded(path: &str, sources: Vec<Source>) -> Result<Self, RunbookError> {
        let mut texts: ModuleSources = sources.into_iter().map(|s| (s.path, s.text)).collect();
        let text = texts
            .remove(path)
            .ok_or_else(|| RunbookError::new(format!("the journal has no text of {path}")))?;
        Self::compile_sources(engine::language_engine(), path.to_owned(), text, texts)
    }

    fn compile_sources(
        engine: &Engine,
        path: String,
        text: String,
        modules: ModuleSources,
    ) -> Result<Self, RunbookError> {
        let texts = |file: &str| if file == path { Some(text.clone()) } else { modules.get(file).cloned() };
        for (name, module) in &modules {
            engine.compile(module).map_err(|e| from_parse_error(name, &e, &texts))?;
        }
        let mut ast = compile_main(engine, &text).map_err(|e| from_parse_error(&path, &e, &texts))?;
        ast.set_source(path.as_str());
        let header = read_header(&ast).map_err(|mut e| {
            e.place = super::fault::locate_source(&path, header_position(&ast), &texts);
            e
        })?;
        Ok(Self { path, text, header, modules, ast })
    }

    /// Returns every text of the runbook, for the journal.
    pub fn sources(&self) -> Vec<Source> {
        let main = Source { path: self.path.clone(), text: self.text.clone() };
        let modules =
            self.modules.iter().map(|(path, text)| Source { path: path.clone(), text: text.clone() });
        [main].into_iter().chain(modules).collect()
    }

    /// Returns the text of one of its files.
    pub fn source_text(&self, file: &str) -> Option<String> {
        if file == self.path { Some(self.text.clone()) } else { self.modules.get(file).cloned() }
    }

    /// Returns the targets that parameters name, also those whose branches they name.
    pub fn targets_in_params(&self, params: &Value) -> Vec<String> {
        let of_kind = self.header.params.iter().filter(|(_, param)| param.kind == ParamType::Target);
        of_kind
            .filter_map(|(name, _)| parse_target_ref(&params[name]).ok())
            .map(|place| place.target)
            .collect()
    }

    /// Checks what was given against the header, and returns the value of every parameter.
    ///
    /// # Errors
    /// The first unknown, missing or mistyped one.
    pub fn resolve_params(
        &self,
        given: &BTreeMap<String, String>,
        config: &Config,
    ) -> Result<Value, RunbookError> {
        if let Some(unknown) = given.keys().find(|k| !self.header.params.contains_key(*k)) {
            let known: Vec<_> = self.header.params.keys().map(String::as_str).collect();
            return Err(RunbookError::new(format!("{} has no parameter `{unknown}`", self.path))
                .with_hint(suggest::suggest_name(unknown, known)));
        }
        let mut values = Map::new();
        for (name, param) in &self.header.params {
            let word = given.get(name).map(|text| Value::String(text.clone()));
            let chosen = word.or_else(|| param.preset.clone()).ok_or_else(|| {
                RunbookError::new(format!("the parameter `{name}` is missing"))
                    .with_hint(format!("give it with `-p {name}=…`: {}", param.help))
            })?;
            let value = param.kind.parse_value(&chosen, config).map_err(|e| RunbookError {
                message: format!("the parameter `{name}`: {}", e.message),
                hint: e.hint.or_else(|| Some(format!("`{name}` is {}: {}", param.kind.name(), param.help))),
                place: e.place,
            })?;
            values.insert(name.clone(), value);
        }
        Ok(Value::Object(values))
    }
}

impl Runbook {
    /// Adds the presets of parameters that a run was not given because its runbook did not have them.
    ///
    /// # Errors
    /// One of them has no preset.
    pub fn add_missing_presets(&self, mut params: Value, config: &Config) -> Result<Value, RunbookError> {
        let missing: Vec<_> =
            self.header.params.iter().filter(|(name, _)| params.get(name.as_str()).is_none()).collect();
        for (name, param) in missing {
            let preset = param.preset.as_ref().ok_or_else(|| {
                RunbookError::new(format!("the run was begun without the parameter `{name}`"))
                    .with_hint("give it a preset: a run keeps the parameters that it was begun with")
            })?;
            params[name] = param.kind.parse_value(preset, config)?;
        }
        Ok(params)
    }
}

/// Compiles with `params` in scope: it is the one variable that a runbook has without declaring it.
pub(super) fn compile_main(engine: &Engine, text: &str) -> Result<AST, rhai::ParseError> {
    let mut scope = rhai::Scope::new();
    scope.push_constant("params", rhai::Map::new());
    engine.compile_with_scope(&scope, text)
}

pub(super) fn from_parse_error(
    file: &str,
    error: &rhai::ParseError,
    texts: &dyn Fn(&str) -> Option<String>,
) -> RunbookError {
    let message = error.err_type().to_string();
    let message = message.strip_suffix('.').unwrap_or(&message).to_owned();
    let hint = match error.err_type() {
        rhai::ParseErrorType::VariableUndefined(name) if name == "params" => {
            Some("functions see no variables: hand `params` over as an argument".into())
        }
        rhai::ParseErrorType::VariableUndefined(name) => Some(format!(
            "declare it with `let {name} = …`; functions see only their arguments and constants"
        )),
        rhai::ParseErrorType::Reserved(word) if word == "print" || word == "debug" => {
            Some("say it with `note(text)`, which is kept".into())
        }
        rhai::ParseErrorType::Reserved(word) if word == "default" => {
            Some("the word for it is `preset`".into())
        }
        rhai::ParseErrorType::ModuleUndefined(name) => {
            let areas: Vec<_> = crate::ops::all_operations().map(crate::ops::spec::Operation::area).collect();
            Some(suggest::suggest_name(name, areas))
        }
        _ => None,
    };
    RunbookError { message, hint, place: super::fault::locate_source(file, error.position(), texts) }
}

fn header_position(ast: &AST) -> Position {
    ast.statements()
        .iter()
        .find_map(|stmt| match stmt {
            rhai::Stmt::Var(var, _, at) if var.0.name == HEADER_CONSTANT => Some(*at),
            _ => None,
        })
        .unwrap_or(Position::NONE)
}

fn read_header(ast: &AST) -> Result<Header, RunbookError> {
    let literal = ast
        .iter_literal_variables(true, false)
        .find(|(name, ..)| *name == HEADER_CONSTANT)
        .map(|(_, _, value)| value);
    let literal = literal.ok_or_else(|| match header_position(ast) {
        Position::NONE => RunbookError::new("the runbook has no header")
            .with_hint("begin it with `const RUNBOOK = #{ title: \"…\", params: #{}, needs: [] };`"),
        _ => RunbookError::new("the header is not a literal constant").with_hint(
            "declare it with `const`, and compute nothing in it: it is read without running the script",
        ),
    })?;
    let value = to_json(&literal).map_err(|why| RunbookError::new(format!("the header: {why}")))?;
    let written: RawHeader = serde_json::from_value(value).map_err(|e| {
        let message = e.to_string();
        let hint = if message.contains("unknown field `default`") {
            Some("the word for it is `preset`".to_owned())
        } else {
            suggest::hint_for_unknown_field(&message)
        };
        RunbookError { message: format!("the header: {message}"), hint, place: None }
    })?;
    drop(written.schedule);
    let params = written.params.into_iter().map(|(name, p)| Ok((name.clone(), build_param(&name, p)?)));
    let needs = written.needs.iter().map(|text| parse_need(text));
    Ok(Header {
        title: written.title,
        params: params.collect::<Result<_, RunbookError>>()?,
        needs: needs.collect::<Result<_, _>>()?,
    })
}

fn parse_need(text: &str) -> Result<Permission, RunbookError> {
    let areas: Vec<&str> = crate::ops::all_operations()
        .map(crate::ops::spec::Operation::area)
        .chain(["network", "http", "notify"])
        .collect();
    let wrong = || {
        RunbookError::new(format!("`{text}` in `needs` is no right"))
            .with_hint("a right is `<area>.<effect>`, such as \"backup.create\"")
    };
    let need = Permission::parse(text).ok_or_else(wrong)?;
    if areas.contains(&need.area.as_str()) {
        Ok(need)
    } else {
        Err(RunbookError::new(format!("`{text}` in `needs` is no right"))
            .with_hint(suggest::suggest_name(&need.area, areas)))
    }
}

fn build_param(name: &str, written: RawParam) -> Result<HeaderParam, RunbookError> {
    let RawParam { r#type, preset, help, choices } = written;
    let kind = match (r#type.as_str(), choices) {
        ("choice", Some(choices)) if !choices.is_empty() => ParamType::Choice(choices),
        ("choice", _) => {
            return Err(RunbookError::new(format!("the parameter `{name}` is a choice without `choices`")));
        }
        (other, Some(_)) => {
            return Err(RunbookError::new(format!(
                "the parameter `{name}` is of type `{other}` and has `choices`"
            ))
            .with_hint("only `choice` has"));
        }
        ("string", None) => ParamType::String,
        ("int", None) => ParamType::Int,
        ("float", None) => ParamType::Float,
        ("bool", None) => ParamType::Bool,
        ("duration", None) => ParamType::Duration,
        ("time", None) => ParamType::Time,
        ("cidr", None) => ParamType::Cidr,
        ("target", None) => ParamType::Target,
        ("secret", None) => ParamType::Secret,
        (other, None) => {
            return Err(RunbookError::new(format!("the parameter `{name}` has the unknown type `{other}`"))
                .with_hint(suggest::suggest_name(other, PARAM_TYPES.iter().copied())));
        }
    };
    if let Some(preset) = &preset
        && kind != ParamType::Target
    {
        kind.parse_value(preset, &Config::empty())
            .map_err(|e| RunbookError { message: format!("the preset of `{name}`: {}", e.message), ..e })?;
    }
    Ok(HeaderParam { kind, preset, help })
}

impl ParamType {
    /// Returns the word for it.
    pub fn name(&self) -> &'static str {
        match self {
            ParamType::String => "string",
            ParamType::Int => "int",
            ParamType::Float => "float",
            ParamType::Bool => "bool",
            ParamType::Duration => "duration",
            ParamType::Time => "time",
            ParamType::Cidr => "cidr",
            ParamType::Target => "target",
            ParamType::Choice(_) => "choice",
            ParamType::Secret => "secret",
        }
    }

    /// Returns the parameter's value of a word from the command line or of a preset.
    fn parse_value(&self, given: &Value, config: &Config) -> Result<Value, RunbookError> {
        let shown = given.as_str().map_or_else(|| given.to_string(), str::to_owned);
        let wrong = || RunbookError::new(format!("expected {}, found `{shown}`", self.name()));
        let text = given.as_str();
        match self {
            ParamType::String => text.map(Value::from).ok_or_else(wrong),
            ParamType::Int => {
                given.as_i64().or_else(|| text?.parse().ok()).map(Value::from).ok_or_else(wrong)
            }
            ParamType::Float => given
                .as_f64()
                .or_else(|| text?.parse().ok())
                .filter(|x: &f64| x.is_finite())
                .map(Value::from)
                .ok_or_else(wrong),
            ParamType::Bool => given
                .as_bool()
                .or_else(|| text?.parse().ok())
                .map(Value::from)
                .ok_or_else(|| wrong().with_hint("write `true` or `false`")),
            ParamType::Duration => Span::parse(text.ok_or_else(wrong)?)
                .map(|s| json!(s))
                .map_err(|e| wrong().with_hint(e.hint())),
            ParamType::Time => Moment::parse(text.ok_or_else(wrong)?)
                .map(|m| json!(m))
                .map_err(|e| RunbookError::new(e.to_string()).with_hint(e.hint())),
            ParamType::Cidr => {
                let net: ipnet::IpNet = text
                    .ok_or_else(wrong)?
                    .parse()
                    .map_err(|_| wrong().with_hint("write a network such as `10.0.0.0/8`"))?;
                Ok(net.trunc().to_string().into())
            }
            ParamType::Target => resolve_target(text.ok_or_else(wrong)?, config),
            ParamType::Choice(words) => match text {
                Some(word) if words.iter().any(|w| w == word) => Ok(given.clone()),
                _ => Err(wrong().with_hint(suggest::suggest_name(&shown, words.iter().map(String::as_str)))),
            },
            ParamType::Secret => {
                let reference = secret::SecretRef::parse(text.unwrap_or_default()).map_err(|e| {
                    RunbookError::new(e.to_string()).with_hint("write `env:NAME` or `file:PATH`")
                })?;
                Ok(value::tag_value(value::SECRET_TAG, reference.to_string()))
            }
        }
    }
}

fn resolve_target(text: &str, config: &Config) -> Result<Value, RunbookError> {
    let place = fleet::TargetRef::parse(text);
    if !config.targets.contains_key(&place.target) {
        let mut error = RunbookError::new(format!("there is no target `{}`", place.target))
            .with_hint(suggest::suggest_name(&place.target, config.targets.keys().map(String::as_str)));
        if place.target == crate::config::LAB {
            error = error.with_hint("bring the lab up with `redrill lab up`");
        }
        return Err(error);
    }
    Ok(match place.branch {
        None => value::tag_value(value::TARGET_TAG, place.target),
        Some(_) => text.into(),
    })
}
