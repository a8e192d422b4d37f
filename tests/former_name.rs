//! What the program left behind under its former name is used, and what it left open is refused.

use crate::env::{CliEnv, CommandOutput};
use redrill::{
    base::former_name::FORMER_NAME,
    journal::{Record, RunStatus},
};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// A version that was released under the former name.
const FORMER_VERSION: &str = "0.1.0";

fn target_names(env: &CliEnv) -> Vec<String> {
    let targets = env.run_cli(&["targets", "list", "-o", "json"]).parse_json();
    targets.as_array().unwrap().iter().map(|target| target["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_configuration_under_the_former_name_is_used_until_there_is_a_new_one() {
    let env = CliEnv::new();
    env.write_file(&format!("{FORMER_NAME}.toml"), "[targets.former]\nprovider = \"sim\"\n");
    assert_eq!(target_names(&env), ["former", "sandbox"]);
    env.write_file("redrill.toml", "[targets.new]\nprovider = \"sim\"\n");
    assert_eq!(target_names(&env), ["new", "sandbox"]);
}

#[test]
fn a_state_folder_under_the_former_name_is_used_until_there_is_a_new_one() {
    let env = CliEnv::new();
    let back_up = || assert_eq!(env.run_cli(&["backup", "create", "-t", "sandbox"]).code, 0);
    back_up();
    let (former, new) = (env.path(&format!(".{FORMER_NAME}")), env.path(".redrill"));
    fs::rename(&new, &former).unwrap();
    back_up();
    assert_eq!(env.list_runs().as_array().unwrap().len(), 2);
    assert!(!new.exists(), "there are two state folders");
    fs::create_dir(&new).unwrap();
    assert_eq!(env.list_runs(), serde_json::json!([]));
    assert!(former.exists());
}

#[test]
fn an_open_run_of_the_former_program_is_refused_by_whatever_moves_it() {
    let env = CliEnv::new();
    env.leave_run(FORMER_VERSION, vec![]);
    let before = env.list_runs();
    let reason =
        format!("it was begun by {FORMER_NAME} {FORMER_VERSION}: finish it with the program that began it");
    for args in [
        &["resume", "last"][..],
        &["resume", "last", "--edited", "--yes"],
        &["resume", "last", "--take-over"],
        &["approve", "last"],
        &["reject", "last"],
        &["runs", "decide", "last", "a", "redo"],
        &["runs", "abandon", "last"],
        &["runs", "abandon", "last", "--leave"],
    ] {
        let refused = env.run_cli(args);
        assert_eq!(refused.code, 2, "{args:?}: {refused}");
        assert!(refused.stderr.contains(&reason), "{args:?}: {refused}");
    }
    assert_eq!(env.list_runs(), before, "a refusal changed it");
    assert_eq!(before[0]["reason"], reason);
    assert_eq!(env.run_cli(&["runs", "verify", "last"]).code, 0);
}

#[test]
fn an_ended_run_of_the_former_program_is_listed_shown_and_verified() {
    let env = CliEnv::new();
    let finished = Record::Finished { status: RunStatus::Succeeded, error: None, left_behind: vec![] };
    env.leave_run(FORMER_VERSION, vec![finished]);
    assert_eq!(env.list_runs()[0]["status"], "succeeded");
    let typed = |args: &[&str]| -> CommandOutput {
        let done = env.run_cli(args);
        assert_eq!(done.code, 0, "{done}");
        done
    };
    assert!(typed(&["runs", "show", "last"]).stdout.contains("succeeded"));
    typed(&["runs", "verify", "last"]);
    assert!(typed(&["resume", "last"]).stderr.contains("there is nothing to resume"));
}

/// Returns every file of the repository, but what is built and what git keeps.
fn list_files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        match path.is_dir() {
            true if ["target", ".git", ".redrill", "proptest-regressions"].contains(&name.as_str()) => {}
            true => list_files(&path, into),
            false => into.push(path),
        }
    }
}

#[test]
fn the_former_name_is_written_in_two_files_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = vec![];
    list_files(root, &mut files);
    let is_named = |text: &str| text.to_lowercase().contains(FORMER_NAME);
    let mut named: Vec<String> = files
        .iter()
        .filter(|path| path.is_file())
        .filter(|path| {
            is_named(&String::from_utf8_lossy(&fs::read(path).unwrap()))
                || is_named(&path.strip_prefix(root).unwrap().to_string_lossy())
        })
        .map(|path| path.strip_prefix(root).unwrap().display().to_string())
        .collect();
    named.sort();
    assert_eq!(named, ["CHANGELOG.md", "src/base/former_name.rs"]);
}
