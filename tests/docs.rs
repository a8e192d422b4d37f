//! Every command that a document shows is run, in the order in which it is shown.

use crate::env::CliEnv;
use std::fs;

const DOCUMENTS: &[&str] = &[
    "README.md",
    "docs/ARCHITECTURE.md",
    "docs/BENCHMARKS.md",
    "docs/PROVIDERS.md",
    "docs/SUPABASE.md",
    "CHANGELOG.md",
];

/// The commands of the console blocks of a document, without their prompt.
fn console_commands(text: &str) -> Vec<String> {
    let mut inside = false;
    let mut found = vec![];
    for line in text.lines() {
        if line.starts_with("```") {
            inside = line.trim_start_matches('`') == "console";
        } else if let Some(command) = line.strip_prefix("$ ").filter(|_| inside) {
            found.push(command.to_owned());
        }
    }
    found
}

/// The variables before a command of redrill and the words after it, however it is started; `None` is a command of
/// another program.
fn command_words(command: &str) -> Option<(Vec<(&str, &str)>, Vec<&str>)> {
    let (variables, program) = split_variables(command);
    let rest = program.strip_prefix("redrill ").or_else(|| program.strip_prefix("cargo run -- "))?;
    Some((variables, rest.split_whitespace().collect()))
}

/// Splits `A=b C=d program words` before the program.
fn split_variables(command: &str) -> (Vec<(&str, &str)>, &str) {
    let mut variables = vec![];
    let mut rest = command;
    while let Some((word, after)) = rest.split_once(' ')
        && let Some(variable) = word.split_once('=')
    {
        variables.push(variable);
        rest = after;
    }
    (variables, rest)
}

/// Returns whether a command needs a lab, and with it PostgreSQL.
pub fn needs_lab(command: &str) -> bool {
    command.split_whitespace().any(|word| word.contains("lab"))
}

/// Returns the documents, each with its commands.
pub fn list_documents() -> Vec<(&'static str, Vec<String>)> {
    let root = env!("CARGO_MANIFEST_DIR");
    let commands = |path: &str| console_commands(&fs::read_to_string(format!("{root}/{path}")).unwrap());
    DOCUMENTS.iter().map(|document| (*document, commands(document))).collect()
}

/// Runs those commands of a document that are redrill's, one after the other in one folder.
pub fn run_commands<'a>(document: &str, commands: impl Iterator<Item = &'a String>) {
    let env = CliEnv::new();
    env.link_path(concat!(env!("CARGO_MANIFEST_DIR"), "/runbooks"), "runbooks");
    for command in commands {
        let Some((variables, words)) = command_words(command) else { continue };
        let done = env.run_cli_with_variables(&words, &variables);
        assert_eq!(done.code, 0, "{document}: `{command}`\n{done}");
    }
}

#[test]
fn every_command_in_the_documents_that_needs_no_lab_runs() {
    for (document, commands) in list_documents() {
        run_commands(document, commands.iter().filter(|command| !needs_lab(command)));
    }
}

#[test]
fn the_readme_has_exactly_two_set_up_commands() {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let set_up: Vec<_> = console_commands(&text).into_iter().filter(|c| c.starts_with("cargo ")).collect();
    assert_eq!(set_up, ["cargo run -- run runbooks/restore_to_branch.rhai", "cargo test"]);
    let ci = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/.ci/run")).unwrap();
    assert!(ci.lines().any(|line| line == "cargo test"), "CI runs another test command than the README's");
}

#[test]
fn commands_are_read_out_of_console_blocks_only() {
    let text = "```console\n$ a b\noutput\n```\n```toml\n$ no\n```\n$ no\n";
    assert_eq!(console_commands(text), ["a b"]);
}

/// The operations that redrill is for, as they are typed.
const WANTED_OPERATIONS: [&str; 17] = [
    "backup list",
    "backup get",
    "backup create",
    "backup delete",
    "backup restore",
    "backup schedule list",
    "backup schedule create",
    "backup pitr restore",
    "db replicas list",
    "db replicas create",
    "db replicas delete",
    "db config set",
    "network restrictions list",
    "network restrictions add",
    "network restrictions remove",
    "security policies list",
    "security audit",
];

#[test]
fn every_wanted_operation_is_there_and_is_said_of_every_provider() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/PROVIDERS.md")).unwrap();
    for wanted in WANTED_OPERATIONS {
        let path = wanted.replace(' ', "::");
        assert!(redrill::ops::find_operation(&path).is_some(), "there is no {path}");
        assert!(page.contains(&format!("\n| `{wanted}`")), "{wanted} is not in the table");
    }
}
