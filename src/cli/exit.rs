//! The edges of errors and data that are the command line's own: configuration, targets, and where text goes.

use crate::{
    base::{suggest, terminal},
    config,
    show::{self, Format, Trouble},
};
use clap::{ValueEnum, builder::PossibleValue};
use serde_json::Value;

/// Says what went wrong on stderr; the command to type next is the last line.
pub(super) fn say(trouble: &Trouble) -> u8 {
    terminal::clear();
    terminal::say(&trouble.text(terminal::ink()));
    trouble.exit
}

/// Writes data to stdout. That there is nothing to write is said on stderr.
///
/// # Errors
/// What a format cannot hold.
pub(super) fn write(value: &Value, columns: &[String], format: Format) -> Result<(), Trouble> {
    match show::data::text(value, columns, format, terminal::width())? {
        Some(text) => terminal::out(&text),
        None => terminal::say("there are none"),
    }
    Ok(())
}

impl From<config::Error> for Trouble {
    fn from(error: config::Error) -> Self {
        let hint = error.hint();
        Self { hint, ..Self::usage(error.to_string().trim_end()) }
    }
}

/// Returns the error of a target that was not given, or is not configured.
pub(super) fn no_target(config: &config::Config, given: Option<&str>) -> Trouble {
    let names: Vec<&str> = config.targets.keys().map(String::as_str).collect();
    let Some(given) = given else {
        let listed: Vec<String> = names.iter().map(|name| format!("`-t {name}`")).collect();
        return Trouble::usage("no target was given").hint(format!("name one: {}", listed.join(", ")));
    };
    let trouble = Trouble::usage(format!("there is no target `{given}`")).next("redrill targets list");
    if given == config::LAB {
        return trouble.hint("bring the lab up first").next("redrill lab up");
    }
    trouble.hint(suggest::hint(given, names))
}

/// Returns a word in the form in which a shell takes it as one.
pub(super) fn quoted(word: &str) -> String {
    show::trouble::quoted(word)
}

impl ValueEnum for Format {
    fn value_variants<'a>() -> &'a [Self] {
        &[Format::Table, Format::Json, Format::Yaml, Format::Csv]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Format::Table => PossibleValue::new("table"),
            Format::Json => PossibleValue::new("json"),
            Format::Yaml => PossibleValue::new("yaml"),
            Format::Csv => PossibleValue::new("csv"),
        })
    }
}
