//! Output of the command line: errors to stderr, data to stdout, and the errors of configuration and targets.

use crate::{
    base::{shell, suggest, terminal},
    config,
    report::{self, CliError, DataFormat},
};
use clap::{ValueEnum, builder::PossibleValue};
use serde_json::Value;

/// Prints an error on stderr and returns its exit code; the command to type next is the last line.
pub(super) fn print_error(error: &CliError) -> u8 {
    terminal::clear_status();
    terminal::print_message(&error.render_text(terminal::stderr_painter()));
    error.exit
}

/// Prints a command to type next as a line of its own.
pub(super) fn print_next_command(command: &str) {
    terminal::print_message(&shell::with_location_options(command));
}

/// Writes data to stdout; says on stderr when there is none.
///
/// # Errors
/// The value cannot be written in this format.
pub(super) fn print_value(value: &Value, columns: &[String], format: DataFormat) -> Result<(), CliError> {
    match report::render_data(value, columns, format, terminal::stdout_width())? {
        Some(text) => terminal::print_data(&text),
        None => terminal::print_message("there are none"),
    }
    Ok(())
}

impl From<config::Error> for CliError {
    fn from(error: config::Error) -> Self {
        let hint = error.hint();
        Self { hint, ..Self::usage(error.to_string().trim_end()) }
    }
}

/// Returns the error for a target that was not given or is not configured.
pub(super) fn unknown_target_error(config: &config::Config, given: Option<&str>) -> CliError {
    let names: Vec<&str> = config.targets.keys().map(String::as_str).collect();
    let Some(given) = given else {
        let listed: Vec<String> = names.iter().map(|name| format!("`-t {name}`")).collect();
        return CliError::usage("no target was given").with_hint(format!("name one: {}", listed.join(", ")));
    };
    let error =
        CliError::usage(format!("there is no target `{given}`")).with_next_command("redrill targets list");
    if given == config::LAB {
        return error.with_hint("bring the lab up first").with_next_command("redrill lab up");
    }
    error.with_hint(suggest::suggest_name_or_list_known(given, names))
}

impl ValueEnum for DataFormat {
    fn value_variants<'a>() -> &'a [Self] {
        &[DataFormat::Table, DataFormat::Json, DataFormat::Yaml, DataFormat::Csv]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            DataFormat::Table => PossibleValue::new("table"),
            DataFormat::Json => PossibleValue::new("json"),
            DataFormat::Yaml => PossibleValue::new("yaml"),
            DataFormat::Csv => PossibleValue::new("csv"),
        })
    }
}
