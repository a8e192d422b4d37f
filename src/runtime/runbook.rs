//! A runbook as data: its texts, its header, and the values of its parameters.

use super::{
    engine,
    header::{Header, ParamType, header_position, read_header},
    modules::{self, ModuleSources, compile_runbook_text},
    refusal::Refusal,
    runbook_error::{RunbookError, from_parse_error},
    script_error::locate_source,
};
use crate::{
    base::{
        moment::{GivenMoment, Moment},
        suggest, value,
    },
    config::Config,
    journal::Source,
    ops::spec::parse_target_ref,
};
use rhai::{AST, Engine};
use serde_json::{Map, Value, json};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// The function of a runbook that says what must hold after every run of it, whatever went wrong.
pub(super) const INVARIANT_FN: &str = "invariant";

/// The function of a runbook that says what a rehearsal begins with.
pub(super) const FIXTURE_FN: &str = "fixture";

/// The parameters of a run, checked.
pub struct ResolvedParams {
    /// The value of every parameter.
    pub values: Value,
    /// Those that were given, or preset, as so long before now.
    pub relative: Vec<RelativeParam>,
}

/// A parameter that was given as so long before now.
pub struct RelativeParam {
    pub name: String,
    /// As it was given: `-30m`.
    pub given: String,
    pub moment: Moment,
}

/// A runbook: its texts, its header and its compiled script.
pub struct Runbook {
    /// Its path or name, as it was given.
    pub path: String,
    pub text: String,
    pub header: Header,
    pub(super) modules: ModuleSources,
    pub(super) ast: AST,
}

impl Runbook {
    /// Reads a runbook and every module that it imports.
    ///
    /// # Errors
    /// What keeps it from being run: it cannot be read, it does not parse, its header is missing or wrong.
    pub fn load_file(path: &Path) -> Result<Self, RunbookError> {
        Self::load_file_as(path, path.display().to_string())
    }

    /// Reads a runbook as [`Runbook::load_file`] does; it is recorded and shown under another name than its path.
    ///
    /// # Errors
    /// As [`Runbook::load_file`].
    pub fn load_file_as(path: &Path, name: String) -> Result<Self, RunbookError> {
        let text = fs::read_to_string(path).map_err(|e| {
            RunbookError::new(format!("the runbook {} cannot be read: {e}", path.display()))
                .with_hint("name a `.rhai` file; those that come with redrill are in `runbooks/`")
        })?;
        let root = path
            .parent()
            .filter(|p| !p.as_os_str().is_empty())
            .map_or_else(|| PathBuf::from("."), Path::to_path_buf);
        let engine = engine::language_engine();
        let modules = modules::read_modules(engine, &root, &name, &text).map_err(|bad| {
            let texts = BTreeMap::from([(name.clone(), text.clone())]);
            let place = locate_source(&bad.file, bad.at, &|file| texts.get(file).cloned());
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

    /// Returns the runbook with another text, over the same modules.
    ///
    /// # Errors
    /// As [`Runbook::load_file`].
    pub fn with_text(&self, text: String) -> Result<Self, RunbookError> {
        Self::compile_sources(engine::language_engine(), self.path.clone(), text, self.modules.clone())
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
        let mut ast = compile_runbook_text(engine, &text).map_err(|e| from_parse_error(&path, &e, &texts))?;
        ast.set_source(path.as_str());
        let header = read_header(&ast).map_err(|mut e| {
            e.place = locate_source(&path, header_position(&ast), &texts);
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

    /// Checks what was given against the header, and returns the value of every parameter. A moment that is counted back
    /// from now is fixed; `now` is asked for the time of the targets that the parameters name.
    ///
    /// # Errors
    /// The first unknown, missing or mistyped one.
    pub fn resolve_params(
        &self,
        given: &BTreeMap<String, String>,
        config: &Config,
        now: &dyn Fn(&[String]) -> Result<Moment, Refusal>,
    ) -> Result<ResolvedParams, Refusal> {
        let mut values = self.parse_params(given, config)?;
        let relative = self.freeze_relative_moments(&mut values, now)?;
        Ok(ResolvedParams { values, relative })
    }

    /// Returns whether the runbook says what a rehearsal begins with.
    pub fn has_fixture(&self) -> bool {
        self.ast.iter_functions().any(|f| f.name == FIXTURE_FN && f.params.is_empty())
    }

    /// Returns whether a parameter is a moment.
    pub fn has_time_param(&self) -> bool {
        self.header.params.values().any(|param| param.kind == ParamType::Time)
    }

    /// Fixes the moments that are counted back from now, which are text still, and returns them.
    fn freeze_relative_moments(
        &self,
        values: &mut Value,
        now: &dyn Fn(&[String]) -> Result<Moment, Refusal>,
    ) -> Result<Vec<RelativeParam>, Refusal> {
        let times = self.header.params.iter().filter(|(_, param)| param.kind == ParamType::Time);
        let back: Vec<(&String, String, GivenMoment)> = times
            .filter_map(|(name, _)| {
                let text = values[name].as_str()?;
                Some((name, text.to_owned(), GivenMoment::parse(text).ok()?))
            })
            .collect();
        if back.is_empty() {
            return Ok(vec![]);
        }
        let now = now(&self.targets_in_params(values))?;
        let mut fixed = Vec::new();
        for (name, given, moment) in back {
            let moment = moment.resolve(now).map_err(|e| {
                RunbookError::new(format!("the parameter `{name}`, `{given}`: {e}")).with_hint(e.hint())
            })?;
            values[name] = json!(moment);
            fixed.push(RelativeParam { name: name.clone(), given, moment });
        }
        Ok(fixed)
    }

    fn parse_params(&self, given: &BTreeMap<String, String>, config: &Config) -> Result<Value, RunbookError> {
        if let Some(unknown) = given.keys().find(|k| !self.header.params.contains_key(*k)) {
            let known: Vec<_> = self.header.params.keys().map(String::as_str).collect();
            return Err(RunbookError::new(format!("{} has no parameter `{unknown}`", self.path))
                .with_hint(suggest::suggest_name_or_list_known(unknown, known)));
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

    /// Checks that parameters which a run keeps are of the type that this runbook wants, where it is another one than that of
    /// the runbook that was `recorded`.
    ///
    /// # Errors
    /// One of them is of another.
    pub fn check_kept_params(
        &self,
        recorded: &Runbook,
        kept: &Value,
        config: &Config,
    ) -> Result<(), RunbookError> {
        for (name, param) in &self.header.params {
            let Some(value) = kept.get(name.as_str()) else { continue };
            let before = recorded.header.params.get(name).map(|before| &before.kind);
            // A moment that is counted back from now would be another one by now.
            let is_moment = param.kind == ParamType::Time && value.is_string();
            let fits = before == Some(&param.kind)
                || !is_moment && param.kind.parse_value(value, config).is_ok_and(|parsed| parsed == *value);
            if !fits {
                return Err(RunbookError::new(format!(
                    "the parameter `{name}` is {} now, and the run was given it as something else",
                    param.kind.name()
                ))
                .with_hint("a run keeps its parameters: give the new one another name, and a preset"));
            }
        }
        Ok(())
    }

    /// Says of every parameter whose preset is another one than that of the runbook that was `recorded` that the value which a
    /// run keeps stays, where that is not the new preset anyway. Of a secret neither is shown.
    pub fn describe_kept_params(&self, recorded: &Runbook, kept: &Value, config: &Config) -> Vec<String> {
        let mut lines = Vec::new();
        for (name, param) in &self.header.params {
            let before = recorded.header.params.get(name).and_then(|before| before.preset.as_ref());
            let Some(preset) = param.preset.as_ref().filter(|preset| Some(*preset) != before) else {
                continue;
            };
            let Some(value) = kept.get(name.as_str()) else { continue };
            if param.kind.parse_value(preset, config).is_ok_and(|parsed| parsed == *value) {
                continue;
            }
            let (value, preset) = match param.kind {
                ParamType::Secret => (String::new(), String::new()),
                _ => (format!(" `{}`", render_param(value)), format!(" `{}`", render_param(preset))),
            };
            lines.push(format!(
                "the parameter `{name}` stays{value} as the run has recorded it: the new preset{preset} is for new runs"
            ));
        }
        lines
    }

    /// Adds the presets of parameters that a run was not given because its runbook did not have them; `now` is asked as
    /// when the parameters are given.
    ///
    /// # Errors
    /// One of them has no preset.
    pub fn add_presets_of_new_params(
        &self,
        mut params: Value,
        config: &Config,
        now: &dyn Fn(&[String]) -> Result<Moment, Refusal>,
    ) -> Result<ResolvedParams, Refusal> {
        let missing: Vec<_> =
            self.header.params.iter().filter(|(name, _)| params.get(name.as_str()).is_none()).collect();
        for (name, param) in missing {
            let preset = param.preset.as_ref().ok_or_else(|| {
                RunbookError::new(format!("the run was begun without the parameter `{name}`"))
                    .with_hint("give it a preset: a run keeps the parameters that it was begun with")
            })?;
            params[name] = param.kind.parse_value(preset, config)?;
        }
        let relative = self.freeze_relative_moments(&mut params, now)?;
        Ok(ResolvedParams { values: params, relative })
    }
}

/// Returns the value of a parameter as a person writes it.
fn render_param(value: &Value) -> String {
    match value::strip_tags(value) {
        Value::String(text) => text,
        other => other.to_string(),
    }
}
