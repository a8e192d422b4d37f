//! The header of a runbook, `const RUNBOOK = #{ … }`: read off the script without running anything of it.

use super::{remainder::RemainderRule, runbook_error::RunbookError, values::to_json};
use crate::{
    base::{
        moment::{self, GivenMoment, Span},
        secret::SecretRef,
        suggest, value,
    },
    config::{Config, LAB},
    ops::{
        self,
        spec::{Operation, Permission},
    },
    provider::fleet::TargetRef,
};
use rhai::{AST, Position, Stmt};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The name of the header constant.
const HEADER_CONSTANT: &str = "RUNBOOK";

/// What a runbook says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// What it is called.
    pub title: String,
    /// Its parameters, by name.
    pub params: BTreeMap<String, HeaderParam>,
    /// The rights that it needs.
    pub needs: Vec<Permission>,
    /// What it may leave behind or changed.
    pub leaves: Vec<RemainderRule>,
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

/// A header as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHeader {
    title: String,
    #[serde(default)]
    params: BTreeMap<String, RawParam>,
    #[serde(default)]
    needs: Vec<String>,
    #[serde(default)]
    leaves: Vec<String>,
    #[serde(default)]
    schedule: Option<RawSchedule>,
}

/// A parameter as it is written.
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

/// A schedule as it is written: it is for a scheduler, and redrill itself does nothing with it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSchedule {
    #[serde(rename = "cron")]
    _cron: String,
    #[serde(rename = "zone")]
    _zone: String,
}

/// The words for the types of parameters.
const PARAM_TYPES: &[&str] =
    &["string", "int", "float", "bool", "duration", "time", "cidr", "target", "choice", "secret"];

/// Reads the header of a compiled script.
pub(super) fn read_header(ast: &AST) -> Result<Header, RunbookError> {
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
    let raw: RawHeader = serde_json::from_value(value).map_err(|e| {
        let message = e.to_string();
        let hint = if message.contains("unknown field `default`") {
            Some("the word for it is `preset`".to_owned())
        } else {
            suggest::hint_for_unknown_field(&message)
        };
        RunbookError { message: format!("the header: {message}"), hint, place: None }
    })?;
    drop(raw.schedule);
    let params = raw.params.into_iter().map(|(name, p)| Ok((name.clone(), build_param(&name, p)?)));
    let needs = raw.needs.iter().map(|text| parse_need(text));
    let leaves = raw.leaves.iter().map(|text| RemainderRule::parse_entry(text));
    Ok(Header {
        title: raw.title,
        params: params.collect::<Result<_, RunbookError>>()?,
        needs: needs.collect::<Result<_, _>>()?,
        leaves: leaves.collect::<Result<_, _>>()?,
    })
}

/// Returns where the header stands, or no position.
pub(super) fn header_position(ast: &AST) -> Position {
    ast.statements()
        .iter()
        .find_map(|stmt| match stmt {
            Stmt::Var(var, _, at) if var.0.name == HEADER_CONSTANT => Some(*at),
            _ => None,
        })
        .unwrap_or(Position::NONE)
}

fn parse_need(text: &str) -> Result<Permission, RunbookError> {
    let areas: Vec<&str> =
        ops::all_operations().map(Operation::area).chain(["network", "http", "notify"]).collect();
    let wrong = || {
        RunbookError::new(format!("`{text}` in `needs` is no right"))
            .with_hint("a right is `<area>.<effect>`, such as \"backup.create\"")
    };
    let need = Permission::parse(text).ok_or_else(wrong)?;
    if areas.contains(&need.area.as_str()) {
        Ok(need)
    } else {
        Err(RunbookError::new(format!("`{text}` in `needs` is no right"))
            .with_hint(suggest::suggest_name_or_list_known(&need.area, areas)))
    }
}

fn build_param(name: &str, raw: RawParam) -> Result<HeaderParam, RunbookError> {
    let RawParam { r#type, preset, help, choices } = raw;
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
                .with_hint(suggest::suggest_name_or_list_known(other, PARAM_TYPES.iter().copied())));
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

    /// Returns the error of a value that is none of this type.
    pub(super) fn misfit_error(&self, given: &Value) -> RunbookError {
        let shown = value::strip_tags(given);
        let shown = shown.as_str().map_or_else(|| shown.to_string(), str::to_owned);
        RunbookError::new(format!("expected {}, found `{shown}`", self.name()))
    }

    /// Returns the value of a parameter that was given as a word or as a preset. A moment that is counted back from now
    /// is text still.
    pub(super) fn parse_value(&self, given: &Value, config: &Config) -> Result<Value, RunbookError> {
        let wrong = || self.misfit_error(given);
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
            ParamType::Time => match GivenMoment::parse(text.ok_or_else(wrong)?) {
                Ok(GivenMoment::Fixed(moment)) => {
                    let moment = moment.require_plausible();
                    moment
                        .map(|at| json!(at))
                        .map_err(|e| RunbookError::new(e.to_string()).with_hint(e.hint()))
                }
                // It stays text until the targets are known by whose clock it counts.
                Ok(GivenMoment::Back(_)) => Ok(given.clone()),
                Err(e @ moment::Error::MissingZone(_)) => {
                    Err(RunbookError::new(e.to_string()).with_hint(e.hint()))
                }
                Err(e) => Err(RunbookError::new(e.to_string())
                    .with_hint(format!("{}; or `-30m` for so long ago", e.hint()))),
            },
            ParamType::Cidr => {
                let net: ipnet::IpNet = text
                    .ok_or_else(wrong)?
                    .parse()
                    .map_err(|_| wrong().with_hint("write a network such as `10.0.0.0/8`"))?;
                Ok(net.trunc().to_string().into())
            }
            ParamType::Target => parse_target_handle(text.ok_or_else(wrong)?, config),
            ParamType::Choice(words) => {
                let word = text.ok_or_else(wrong)?;
                if words.iter().any(|known| known == word) {
                    return Ok(given.clone());
                }
                Err(wrong()
                    .with_hint(suggest::suggest_name_or_list_known(word, words.iter().map(String::as_str))))
            }
            ParamType::Secret => {
                let reference = SecretRef::parse(text.unwrap_or_default()).map_err(|e| {
                    RunbookError::new(e.to_string()).with_hint("write `env:NAME` or `file:PATH`")
                })?;
                Ok(value::tag_value(value::SECRET_TAG, reference.to_string()))
            }
        }
    }
}

fn parse_target_handle(text: &str, config: &Config) -> Result<Value, RunbookError> {
    let place = TargetRef::parse(text);
    if !config.targets.contains_key(&place.target) {
        let mut error = RunbookError::new(format!("there is no target `{}`", place.target)).with_hint(
            suggest::suggest_name_or_list_known(&place.target, config.targets.keys().map(String::as_str)),
        );
        if place.target == LAB {
            error = error.with_hint("bring the lab up with `redrill lab up`");
        }
        return Err(error);
    }
    Ok(match place.branch {
        None => value::tag_value(value::TARGET_TAG, place.target),
        Some(_) => text.into(),
    })
}
