//! A backup and a branch that the program made on PostgreSQL under its former name stay usable.

use crate::env::{CliEnv, CliLab, CommandOutput};
use redrill::base::former_name::FORMER_NAME;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Gives every file below a folder that carries today's name the former one, and returns how many there were.
fn rename_files(folder: &Path) -> usize {
    let mut renamed = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            renamed += rename_files(&path);
        } else if ["redrill.json", ".redrill-branch.json"].contains(&name.as_str()) {
            fs::rename(&path, path.with_file_name(name.replace("redrill", FORMER_NAME))).unwrap();
            renamed += 1;
        }
    }
    renamed
}

/// Returns the folder of a branch: the one above its socket that has the marker.
fn branch_folder(branch: &serde_json::Value) -> PathBuf {
    let socket = Path::new(branch["host"].as_str().unwrap());
    socket.ancestors().find(|folder| folder.join(".redrill-branch.json").exists()).unwrap().to_owned()
}

#[test]
fn a_backup_and_a_branch_of_the_former_program_are_listed_restored_and_deleted() {
    let env = CliEnv::new();
    let Some(lab) = CliLab::start(&env) else { return };
    let typed = |args: &[&str]| -> CommandOutput {
        let done = env.run_cli(args);
        assert_eq!(done.code, 0, "{args:?}: {done}");
        done
    };
    let made = typed(&["backup", "create", "-t", "lab", "-o", "json"]).parse_json();
    let id = made["id"].as_str().unwrap();
    typed(&["backup", "restore", "-t", "lab", id, "--into", "former"]);
    let branch = typed(&["branch", "get", "-t", "lab", "former", "-o", "json"]).parse_json();
    assert_eq!(rename_files(&branch_folder(&branch)), 1, "the marker of the branch");
    let status = typed(&["lab", "status", "-o", "json"]).parse_json();
    assert_eq!(rename_files(Path::new(status["folder"].as_str().unwrap())), 1, "the sidecar of the backup");

    let listed = |args: &[&str]| typed(args).parse_json()[0].clone();
    assert_eq!(listed(&["backup", "list", "-t", "lab", "-o", "json"])["id"], id);
    assert_eq!(listed(&["branch", "list", "-t", "lab", "-o", "json"])["name"], "former");
    typed(&["backup", "verify", "-t", "lab", id]);
    let count = |branch: &str| {
        listed(&["db", "query", "-t", branch, "select count(*) as n from orders", "-o", "json"])["n"].clone()
    };
    typed(&["backup", "restore", "-t", "lab", id, "--into", "new"]);
    assert_eq!(count("lab/former"), count("lab/new"));
    for name in ["former", "new"] {
        typed(&["branch", "delete", "-t", "lab", name]);
    }
    typed(&["backup", "delete", "-t", "lab", id]);
    assert_eq!(env.count_listed(&["branch", "list", "-t", "lab", "-o", "json"]), 0);
    assert_eq!(env.count_listed(&["backup", "list", "-t", "lab", "-o", "json"]), 0);
    lab.take_down();
}
