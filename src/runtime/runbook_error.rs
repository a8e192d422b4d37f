//! What is wrong with a runbook, with a hint and a place.

use super::script_error::locate_source;
use crate::journal::SourceLocation;
use crate::{
    base::suggest,
    ops::{self, spec::Operation},
};
use rhai::{ParseError, ParseErrorType};

/// What is wrong with a runbook or with what it was given. Nothing has been done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RunbookError {
    /// What is wrong: one sentence without a full stop.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    pub place: Option<SourceLocation>,
}

impl RunbookError {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, place: None }
    }

    pub(super) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Returns the error of a text that does not parse. `texts` finds the source of a file.
pub(super) fn from_parse_error(
    file: &str,
    error: &ParseError,
    texts: &dyn Fn(&str) -> Option<String>,
) -> RunbookError {
    let message = error.err_type().to_string();
    let message = message.strip_suffix('.').unwrap_or(&message).to_owned();
    let hint = match error.err_type() {
        ParseErrorType::VariableUndefined(name) if name == "params" => {
            Some("functions see no variables: hand `params` over as an argument".into())
        }
        ParseErrorType::VariableUndefined(name) => Some(format!(
            "declare it with `let {name} = …`; functions see only their arguments and constants"
        )),
        ParseErrorType::Reserved(word) if word == "print" || word == "debug" => {
            Some("say it with `note(text)`, which is kept".into())
        }
        ParseErrorType::Reserved(word) if word == "default" => Some("the word for it is `preset`".into()),
        ParseErrorType::ModuleUndefined(name) => {
            let areas: Vec<_> = ops::all_operations().map(Operation::area).collect();
            Some(suggest::suggest_name_or_list_known(name, areas))
        }
        _ => None,
    };
    RunbookError { message, hint, place: locate_source(file, error.position(), texts) }
}
