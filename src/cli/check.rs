//! `check`: what can be said of runbooks without running them.

use super::ending::Shown;
use crate::{
    base::terminal,
    runtime::{Runbook, check},
    show::{Trouble, trouble},
};
use serde_json::{Value, json};
use std::path::Path;

/// `check`.
#[derive(Debug, clap::Args)]
pub(super) struct Check {
    /// The runbooks
    #[arg(required = true)]
    runbooks: Vec<std::path::PathBuf>,
    /// How findings are shown
    #[arg(short, long, value_enum, default_value = "text", value_name = "FORMAT")]
    output: Shown,
}

impl Check {
    /// Checks runbooks without running anything of them.
    pub(super) fn perform(&self) -> u8 {
        let mut all = Vec::new();
        let mut exit = 0;
        for path in &self.runbooks {
            let (findings, wrong) = check_one(path);
            if wrong {
                exit = trouble::USAGE;
            }
            all.extend(findings);
        }
        if self.output == Shown::Json {
            let all: Vec<Value> = all.iter().map(|(severity, _, t)| finding(severity, t)).collect();
            terminal::out(&json!(all).to_string());
            return exit;
        }
        for (severity, file, trouble) in &all {
            say_finding(severity, file, trouble);
        }
        let count = |word| all.iter().filter(|(severity, ..)| *severity == word).count();
        let (errors, warnings) = (count("error"), count("warning"));
        terminal::say(&format!(
            "{} checked: {}, {}",
            plural(self.runbooks.len(), "runbook"),
            plural(errors, "error"),
            plural(warnings, "warning")
        ));
        exit
    }
}

fn check_one(path: &Path) -> (Vec<(&'static str, String, Trouble)>, bool) {
    let file = path.display().to_string();
    let runbook = match Runbook::load(path) {
        Ok(runbook) => runbook,
        Err(error) => return (vec![("error", file, error.into())], true),
    };
    let findings = check::check(&runbook);
    let wrong = check::refuses(&findings).is_some();
    let word = |f: &check::Finding| if f.severity == check::Severity::Warning { "warning" } else { "error" };
    (findings.iter().map(|f| (word(f), file.clone(), Trouble::from(f))).collect(), wrong)
}

fn finding(severity: &str, trouble: &Trouble) -> Value {
    json!({"severity": severity, "message": trouble.message, "hint": trouble.hint, "place": trouble.place})
}

fn say_finding(severity: &str, file: &str, trouble: &Trouble) {
    let ink = terminal::ink();
    let word = format!("{severity}:");
    let word = if severity == "error" { ink.red(&word) } else { ink.yellow(&word) };
    terminal::say(&format!("{word} {}", trouble.message));
    let place = trouble.place.as_ref().map_or_else(|| format!(" --> {file}"), trouble::pointed);
    terminal::say(&place);
    if let Some(hint) = &trouble.hint {
        terminal::say(&format!("{} {hint}", terminal::ink().bold("hint:")));
    }
    terminal::say("");
}

fn plural(count: usize, word: &str) -> String {
    if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") }
}
