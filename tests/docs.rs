//! Every command that a document shows is run, in the order in which it is shown.

use crate::stage::{CliEnv, postgres_or_skip};
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

/// The words after `redrill`, however it is started; `None` is a command of another program.
fn command_words(command: &str) -> Option<Vec<String>> {
    let rest = command.strip_prefix("redrill ").or_else(|| command.strip_prefix("cargo run -- "))?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

#[test]
fn every_command_in_the_documents_runs_lab_and_all() {
    let root = env!("CARGO_MANIFEST_DIR");
    for document in DOCUMENTS {
        let text = fs::read_to_string(format!("{root}/{document}")).unwrap();
        let stage = CliEnv::new();
        stage.link_path(&format!("{root}/runbooks"), "runbooks");
        let mut skipped = false;
        for command in console_commands(&text) {
            match command_words(&command) {
                // What passes the tests is running this one; what measures takes minutes.
                None => assert!(
                    command == "cargo test" || command.contains("cargo bench"),
                    "{document}: `{command}`"
                ),
                Some(words) => {
                    skipped |= words.iter().any(|w| w.contains("lab")) && !postgres_or_skip();
                    if !skipped {
                        let done = stage.run_cli(&words.iter().map(String::as_str).collect::<Vec<_>>());
                        assert_eq!(done.code, 0, "{document}: `{command}`\n{done}");
                    }
                }
            }
        }
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
