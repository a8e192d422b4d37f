//! The git state of a runbook's folder.

use crate::{base::program::run_program, journal::GitState};
use std::{path::Path, process::Command};

/// Returns the git state of the repository that contains a file, if there is one.
pub(super) fn read_git_state(file: &Path) -> Option<GitState> {
    let folder = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Search by hand first: most folders are in no repository, and starting git costs more than a small run.
    folder.canonicalize().ok()?.ancestors().find(|f| f.join(".git").exists())?;
    // One process answers both questions and leaves the index untouched.
    let args =
        ["--no-optional-locks", "status", "--porcelain=v2", "--branch", "--no-ahead-behind", "--", "."];
    let mut git = Command::new("git");
    git.arg("-C").arg(folder).args(args);
    let output = run_program(git).ok()?;
    parse_git_status(&String::from_utf8_lossy(&output.stdout)).filter(|_| output.status.success())
}

/// Parses `git status --porcelain=v2`: lines about the branch begin with `#`, all others are
/// changes.
fn parse_git_status(text: &str) -> Option<GitState> {
    let commit = text.lines().find_map(|line| line.strip_prefix("# branch.oid "))?;
    let dirty = text.lines().any(|line| !line.starts_with('#'));
    // A repository without a commit says `(initial)`.
    commit.bytes().all(|b| b.is_ascii_hexdigit()).then(|| GitState { commit: commit.into(), dirty })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_a_repository_is_read_off_one_answer() {
        let head = "# branch.oid 6acc247fae695daf6fe720ca33a803600dc6215e\n# branch.head main\n";
        let state = |text: &str| parse_git_status(text).map(|git| (git.commit.len(), git.dirty));
        assert_eq!(state(head), Some((40, false)));
        assert_eq!(state(&format!("{head}? new.rhai\n")), Some((40, true)));
        assert_eq!(state("# branch.oid (initial)\n# branch.head main\n"), None);
        assert_eq!(state(""), None);
    }
}
