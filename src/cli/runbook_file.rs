//! The file of a runbook: the name under which a run records it, and where `resume --edited` finds it again.

use crate::{
    base::shell::quote_shell_word,
    report::CliError,
    runtime::{Runbook, Runtime},
};
use std::{
    env,
    path::{Component, Path, PathBuf, absolute},
};

/// Returns the name under which a run records its runbook: the path below the project folder, the one with a configuration
/// file, which is the same from every folder; of a file that is elsewhere, or where there is no project, the whole path.
pub(super) fn name_runbook(project: Option<&Path>, file: &Path) -> String {
    let below = |project: &Path| {
        path_below(project, file)
            .or_else(|| path_below(&project.canonicalize().ok()?, &resolve_folder(file)?))
    };
    let name = project.and_then(below).or_else(|| resolve_folder(file)).unwrap_or_else(|| file.to_path_buf());
    name.display().to_string()
}

/// Returns the path of a file below a folder, as both are written.
fn path_below(folder: &Path, file: &Path) -> Option<PathBuf> {
    let (folder, file) = (absolute(folder).ok()?, absolute(file).ok()?);
    let below = file.strip_prefix(folder).ok()?;
    let is_plain = below.components().all(|part| matches!(part, Component::Normal(_)));
    is_plain.then(|| below.to_path_buf())
}

/// Returns the whole path of a file, without links to folders and steps upward; the file itself may be a link.
fn resolve_folder(file: &Path) -> Option<PathBuf> {
    let file = absolute(file).ok()?;
    Some(file.parent()?.canonicalize().ok()?.join(file.file_name()?))
}

/// Returns the file of the runbook of a run: below the project folder, else below the current one, because runs of before
/// have recorded it as it was typed there. `again` is the command for when it is back.
///
/// # Errors
/// It is in neither of them.
pub(super) fn find_runbook_file(runtime: &Runtime, recorded: &str, again: &str) -> Result<PathBuf, CliError> {
    let in_project = runtime.config.base.join(recorded);
    let here = env::current_dir()?.join(recorded);
    if in_project.is_file() {
        return Ok(in_project);
    }
    if here.is_file() {
        return Ok(here);
    }
    let both = if here == in_project { String::new() } else { format!(", and {} neither", here.display()) };
    Err(CliError::usage(format!("the runbook {} is not there{both}", in_project.display()))
        .with_hint(
            "bring it back to go on with `--edited`; without it, the run goes on with the text that it has",
        )
        .with_next_command(again))
}

/// Returns the command that says all that is wrong with a runbook.
pub(super) fn write_check_command(file: &Path) -> String {
    format!("redrill check {}", quote_shell_word(&file.display().to_string()))
}

/// Loads the runbook of a run as it is on disk now, under its recorded name, and returns it with its file. `again` is the
/// command for when the file is back.
///
/// # Errors
/// It is not there, or cannot be run as it is.
pub(super) fn load_edited_runbook(
    runtime: &Runtime,
    recorded: &str,
    again: &str,
) -> Result<(Runbook, PathBuf), CliError> {
    let file = find_runbook_file(runtime, recorded, again)?;
    let runbook = Runbook::load_file_as(&file, recorded.to_owned()).map_err(|wrong| {
        let check = write_check_command(&file);
        let mut error = CliError::from(wrong).with_next_command(check.clone());
        error.facts.push(format!("the file is {}; all that is wrong with it: `{check}`", file.display()));
        error
    })?;
    Ok((runbook, file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    #[test]
    fn a_runbook_below_the_project_has_one_name_from_everywhere() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().canonicalize().expect("is there");
        let project = root.join("project");
        fs::create_dir_all(project.join("books")).expect("made");
        fs::create_dir_all(root.join("elsewhere")).expect("made");
        symlink(root.join("elsewhere"), project.join("shared")).expect("linked");
        symlink(&project, root.join("link")).expect("linked");
        let name = |file: PathBuf| name_runbook(Some(&project), &file);
        assert_eq!(name(project.join("books/r.rhai")), "books/r.rhai");
        assert_eq!(name(project.join("books/../books/./r.rhai")), "books/r.rhai");
        assert_eq!(name(root.join("link/books/r.rhai")), "books/r.rhai");
        assert_eq!(name(project.join("shared/r.rhai")), "shared/r.rhai");
        let outside = root.join("elsewhere/r.rhai");
        assert_eq!(name(project.join("books/../../elsewhere/r.rhai")), outside.display().to_string());
        assert_eq!(name(outside.clone()), outside.display().to_string());
        let inside = project.join("books/r.rhai");
        assert_eq!(name_runbook(None, &inside), inside.display().to_string());
    }
}
