//! Every command that a document shows is run, in the order in which it is shown.

use crate::{env::CliEnv, source::read_files};
use std::{collections::BTreeMap, fs, path::Path};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// The commands of cargo that documents show, or aliases stand for.
const CARGO_COMMANDS: &[&str] = &["bench", "clippy", "fmt", "nextest", "run", "test"];

const DOCUMENTS: &[&str] = &[
    "README.md",
    "CONTRIBUTING.md",
    "docs/ARCHITECTURE.md",
    "docs/BENCHMARKS.md",
    "docs/PROVIDERS.md",
    "docs/RUNBOOKS.md",
    "docs/SUPABASE.md",
    "CHANGELOG.md",
];

/// Variables that are set for a command.
type Variables<'a> = Vec<(&'a str, &'a str)>;

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
fn command_words(command: &str) -> Option<(Variables<'_>, Vec<&str>)> {
    let (variables, program) = split_variables(command);
    let rest = program.strip_prefix("redrill ").or_else(|| program.strip_prefix("cargo run -- "))?;
    Some((variables, rest.split_whitespace().collect()))
}

/// Splits `A=b C=d program words` before the program.
fn split_variables(command: &str) -> (Variables<'_>, &str) {
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
    let commands = |path: &str| console_commands(&fs::read_to_string(format!("{ROOT}/{path}")).unwrap());
    DOCUMENTS.iter().map(|document| (*document, commands(document))).collect()
}

/// Runs those commands of a document that are redrill's, one after the other in one folder.
pub fn run_commands<'a>(document: &str, commands: impl Iterator<Item = &'a String>) {
    let env = CliEnv::new();
    env.link_path(&format!("{ROOT}/runbooks"), "runbooks");
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

fn read_aliases() -> BTreeMap<String, String> {
    let config = fs::read_to_string(format!("{ROOT}/.cargo/config.toml")).unwrap();
    let config: toml::Table = toml::from_str(&config).unwrap();
    let aliases = config["alias"].as_table().unwrap();
    aliases.iter().map(|(name, words)| (name.clone(), words.as_str().unwrap().to_owned())).collect()
}

#[test]
fn every_alias_stands_for_a_command_of_cargo() {
    for (alias, words) in read_aliases() {
        let command = words.split(' ').next().unwrap();
        assert!(CARGO_COMMANDS.contains(&command), "{alias} = {words}");
    }
}

/// What passes the tests is running this one, and what measures takes minutes: other programs are not run.
#[test]
fn every_command_of_another_program_exists() {
    let aliases = read_aliases();
    let sources = [read_files("src"), read_files("tests")];
    let is_in_sources =
        |text: &str| sources.iter().flat_map(BTreeMap::values).any(|file| file.contains(text));
    for (document, commands) in list_documents() {
        for command in commands.iter().filter(|command| command_words(command).is_none()) {
            let (variables, program) = split_variables(command);
            let words: Vec<&str> = program.split_whitespace().collect();
            let is_known = match words[..] {
                ["cargo", name, ..] => CARGO_COMMANDS.contains(&name) || aliases.contains_key(name),
                [script, ..] => Path::new(ROOT).join(script).is_file(),
                [] => false,
            };
            assert!(is_known, "{document}: `{command}`");
            for (name, _) in variables {
                assert!(is_in_sources(name), "{document}: nothing reads `{name}`");
            }
            let filters = words.iter().skip(2).filter(|_| words[1].starts_with("t-"));
            for part in filters.flat_map(|filter| filter.split("::")).filter(|part| !part.is_empty()) {
                assert!(is_in_sources(part), "{document}: no test is called `{part}`");
            }
        }
    }
}

#[test]
fn the_readme_has_exactly_two_set_up_commands() {
    let text = fs::read_to_string(format!("{ROOT}/README.md")).unwrap();
    let set_up: Vec<_> = console_commands(&text).into_iter().filter(|c| c.starts_with("cargo ")).collect();
    assert_eq!(set_up, ["cargo run -- run runbooks/restore_to_branch.rhai", "cargo test"]);
    let ci = fs::read_to_string(format!("{ROOT}/.ci/run")).unwrap();
    let at = |wanted: &str| ci.lines().position(|line| line == wanted);
    assert!(at("cargo test").is_some(), "CI runs another test command than the README's");
    assert!(at("cargo clippy --all-targets -- -D warnings") < at("cargo test"), "CI lints before it tests");
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
    let page = fs::read_to_string(format!("{ROOT}/docs/PROVIDERS.md")).unwrap();
    for wanted in WANTED_OPERATIONS {
        let path = wanted.replace(' ', "::");
        assert!(redrill::ops::find_operation(&path).is_some(), "there is no {path}");
        assert!(page.contains(&format!("\n| `{wanted}`")), "{wanted} is not in the table");
    }
}
