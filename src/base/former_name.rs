//! The name that this program had before, and what was made under it.
//!
//! Backups, dumps, branches and ended runs from before the change stay usable where they are. The former name is written
//! here and in the changelog, and nowhere else; a test holds that.

use std::path::{Path, PathBuf};

/// The former name.
pub const FORMER_NAME: &str = "firedrill";
/// The name that took its place.
const CURRENT_NAME: &str = "redrill";
/// The prefix of every version released under the former name.
const FORMER_VERSION_PREFIX: &str = "0.1.";

/// Returns `path`, or, if only a file with the former name in its last part exists, the path of that file.
///
/// A file that is read and written through this keeps the one name that it has.
pub fn fall_back_to_former_path(path: PathBuf) -> PathBuf {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return path };
    let former = path.with_file_name(name.replace(CURRENT_NAME, FORMER_NAME));
    if !path.exists() && former.exists() { former } else { path }
}

/// Returns a sentence for each thing under a former name that is there and not used: variables, and files in `folder`
/// beside one of the new name.
pub fn describe_ignored_former_names(folder: &Path, names: &[&str]) -> Vec<String> {
    let set = ["CONFIG", "STATE", "LOG"].map(|word| (former_variable(word), word));
    let set = set.into_iter().filter(|(former, _)| std::env::var_os(former).is_some());
    let variables = set.map(|(former, word)| format!("{former} is not read: set REDRILL_{word}"));
    let both =
        names.iter().map(|name| (folder.join(name), folder.join(name.replace(CURRENT_NAME, FORMER_NAME))));
    let both = both.filter(|(new, former)| new.exists() && former.exists());
    variables
        .chain(
            both.map(|(new, former)| {
                format!("`{}` is not used: there is `{}`", former.display(), new.display())
            }),
        )
        .collect()
}

fn former_variable(word: &str) -> String {
    format!("{}_{word}", FORMER_NAME.to_uppercase())
}

/// Returns whether a run with this version was begun by the program under its former name.
pub fn is_former_version(version: &str) -> bool {
    version.starts_with(FORMER_VERSION_PREFIX)
}

/// Returns why an open run that was begun under the former name is not resumed.
pub fn explain_former_run_refusal(version: &str) -> String {
    format!("it was begun by {FORMER_NAME} {version}: finish it with the program that began it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_that_time_is_found_until_there_is_one_of_today() {
        let folder = tempfile::tempdir().expect("a folder");
        let today = folder.path().join("redrill.json");
        assert_eq!(fall_back_to_former_path(today.clone()), today);
        let former = folder.path().join(format!("{FORMER_NAME}.json"));
        std::fs::write(&former, "").expect("a file");
        assert_eq!(fall_back_to_former_path(today.clone()), former);
        std::fs::write(&today, "").expect("a file");
        assert_eq!(fall_back_to_former_path(today.clone()), today);
    }
}
