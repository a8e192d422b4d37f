//! `check`: what can be said of runbooks without running them.

use super::run_output::ReportFormat;
use crate::{
    base::terminal,
    report::{CliError, exit_code, render_place},
    runtime::{Runbook, check},
};
use serde_json::{Value, json};
use std::path::Path;

/// `check`.
#[derive(Debug, clap::Args)]
pub(super) struct CheckCommand {
    /// The runbooks
    #[arg(required = true)]
    runbooks: Vec<std::path::PathBuf>,
    /// How findings are shown
    #[arg(short, long, value_enum, default_value = "text", value_name = "FORMAT")]
    output: ReportFormat,
}

impl CheckCommand {
    /// Checks runbooks without running anything of them.
    pub(super) fn check_runbooks(&self) -> u8 {
        let mut all = Vec::new();
        let mut exit = 0;
        for path in &self.runbooks {
            let (findings, wrong) = check_runbook(path);
            if wrong {
                exit = exit_code::USAGE;
            }
            all.extend(findings);
        }
        if self.output == ReportFormat::Json {
            let all: Vec<Value> = all.iter().map(|(severity, _, t)| finding_to_json(severity, t)).collect();
            terminal::print_data(&json!(all).to_string());
            return exit;
        }
        for (severity, file, error) in &all {
            print_finding(severity, file, error);
        }
        let count = |word| all.iter().filter(|(severity, ..)| *severity == word).count();
        let (errors, warnings) = (count("error"), count("warning"));
        terminal::print_message(&format!(
            "{} checked: {}, {}",
            format_count(self.runbooks.len(), "runbook"),
            format_count(errors, "error"),
            format_count(warnings, "warning")
        ));
        exit
    }
}

fn check_runbook(path: &Path) -> (Vec<(&'static str, String, CliError)>, bool) {
    let file = path.display().to_string();
    let runbook = match Runbook::load_file(path) {
        Ok(runbook) => runbook,
        Err(error) => return (vec![("error", file, error.into())], true),
    };
    let findings = check::check_runbook(&runbook);
    let wrong = check::find_blocking(&findings).is_some();
    let word =
        |f: &check::CheckFinding| if f.severity == check::Severity::Warning { "warning" } else { "error" };
    (findings.iter().map(|f| (word(f), file.clone(), CliError::from(f))).collect(), wrong)
}

fn finding_to_json(severity: &str, error: &CliError) -> Value {
    json!({"severity": severity, "message": error.message, "hint": error.hint_with_location_options(), "place": error.place})
}

fn print_finding(severity: &str, file: &str, error: &CliError) {
    let ink = terminal::stderr_painter();
    let word = format!("{severity}:");
    let word = if severity == "error" { ink.red(&word) } else { ink.yellow(&word) };
    terminal::print_message(&format!("{word} {}", error.message));
    let place = error.place.as_ref().map_or_else(|| format!(" --> {file}"), render_place);
    terminal::print_message(&place);
    if let Some(hint) = error.hint_with_location_options() {
        terminal::print_message(&format!("{} {hint}", terminal::stderr_painter().bold("hint:")));
    }
    terminal::print_message("");
}

fn format_count(count: usize, word: &str) -> String {
    if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") }
}
