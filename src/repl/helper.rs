//! What helps while a line is typed: whether it is complete, and what could come next.

use super::help::COMMANDS;
use crate::{
    ops::{self, spec::Op},
    runtime::{Session, flow::NATIVES},
};
use rustyline::{
    Context, Helper, Result,
    completion::{Completer, Pair},
    highlight::Highlighter,
    hint::Hinter,
    validate::{ValidationContext, ValidationResult, Validator},
};
use std::{cell::RefCell, rc::Rc};

/// Helps with a session. It looks at the session only while a line is typed, never while one is evaluated.
pub(super) struct PromptHelper {
    session: Rc<RefCell<Session>>,
}

impl PromptHelper {
    pub(super) fn new(session: Rc<RefCell<Session>>) -> Self {
        Self { session }
    }
}

impl Helper for PromptHelper {}
impl Highlighter for PromptHelper {}

impl Hinter for PromptHelper {
    type Hint = String;
}

impl Validator for PromptHelper {
    fn validate(&self, line: &mut ValidationContext<'_>) -> Result<ValidationResult> {
        let input = line.input();
        let is_over = input.trim_start().starts_with(':') || ends_blank(input);
        Ok(if !is_over && self.session.borrow().is_incomplete(input) {
            ValidationResult::Incomplete
        } else {
            ValidationResult::Valid(None)
        })
    }
}

/// Returns whether a person has typed a blank line to submit what is not complete.
fn ends_blank(input: &str) -> bool {
    input.rsplit_once('\n').is_some_and(|(_, last)| last.trim().is_empty())
}

impl Completer for PromptHelper {
    type Candidate = Pair;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> Result<(usize, Vec<Pair>)> {
        Ok(complete(&line[..at], &self.session.borrow().variables()))
    }
}

/// Returns where the word begins that `typed` ends with, and what it could become.
fn complete(typed: &str, variables: &[String]) -> (usize, Vec<Pair>) {
    if typed.starts_with(':') && !typed.contains(' ') {
        return (0, pairs(COMMANDS.iter().map(|(name, _)| (*name).to_owned()), typed, ""));
    }
    let of_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':');
    let start =
        typed.char_indices().rev().take_while(|(_, c)| of_word(*c)).last().map_or(typed.len(), |(i, _)| i);
    let (before, word) = typed.split_at(start);
    if before.trim_end() == ":help" {
        return (start, pairs(ops::all().map(Op::path), word, ""));
    }
    if let Some(op) = options_of(before) {
        return (start, pairs(op.options().map(|p| p.name.to_owned()), word, ": "));
    }
    let mut found = pairs(ops::all().map(Op::path), word, "(");
    if !word.is_empty() {
        found.extend(pairs(NATIVES.iter().map(|&n| n.to_owned()), word, "("));
        found.extend(pairs(variables.iter().cloned(), word, ""));
    }
    (start, found)
}

fn pairs(names: impl Iterator<Item = String>, word: &str, after: &str) -> Vec<Pair> {
    names
        .filter(|name| name.starts_with(word))
        .map(|name| Pair { replacement: format!("{name}{after}"), display: name })
        .collect()
}

/// Returns the operation in whose options map `before` ends, where the name of an option would come next.
fn options_of(before: &str) -> Option<&'static Op> {
    let (call, inside) = before.rsplit_once("#{")?;
    let at_name = inside.trim_end();
    if inside.contains('}') || !(at_name.is_empty() || at_name.ends_with(',')) {
        return None;
    }
    let of_path = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':');
    call.match_indices('(').rev().find_map(|(open, _)| {
        let start = call[..open].char_indices().rev().take_while(|(_, c)| of_path(*c)).last()?.0;
        ops::find(&call[start..open])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(typed: &str) -> (usize, Vec<String>) {
        let (at, pairs) = complete(typed, &["taken".into()]);
        (at, pairs.into_iter().map(|p| p.replacement).collect())
    }

    #[test]
    fn operations_functions_and_variables_are_completed() {
        assert_eq!(shown("let x = backup::pitr::w"), (8, vec!["backup::pitr::window(".to_owned()]));
        assert_eq!(shown("ta").1, ["target(", "taken"]);
        assert_eq!(shown("measu").1, ["measure("]);
        assert_eq!(shown(":v").1, [":vars"]);
        assert_eq!(shown(":help db::h"), (6, vec!["db::health".to_owned()]));
    }

    #[test]
    fn options_are_completed_inside_their_map_only() {
        assert_eq!(shown("backup::create(db, #{ la").1, ["label: "]);
        assert_eq!(shown("backup::create(db, #{ label: \"x\", ti").1, ["timeout: "]);
        assert!(shown("backup::create(db, #{ label: ta").1.contains(&"taken".to_owned()));
    }

    #[test]
    fn a_blank_line_submits() {
        assert!(ends_blank("let x = [\n"));
        assert!(ends_blank("let x = [\n  "));
        assert!(!ends_blank("let x = ["));
    }
}
