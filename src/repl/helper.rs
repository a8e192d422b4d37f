//! Line editing at the prompt: whether the input is complete, and completion.

use super::help::PROMPT_COMMANDS;
use crate::{
    ops::{self, spec::Operation},
    runtime::{NATIVES, Session},
};
use rustyline::{
    Context, Helper, Result,
    completion::{Completer, Pair},
    highlight::Highlighter,
    hint::Hinter,
    validate::{ValidationContext, ValidationResult, Validator},
};
use std::{cell::RefCell, rc::Rc};

/// Validates and completes input. Borrows the session only while a line is typed, never during evaluation.
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
        let is_over = input.trim_start().starts_with(':') || ends_with_blank_line(input);
        Ok(if !is_over && self.session.borrow().is_incomplete(input) {
            ValidationResult::Incomplete
        } else {
            ValidationResult::Valid(None)
        })
    }
}

/// Returns whether a person has typed a blank line to submit what is not complete.
fn ends_with_blank_line(input: &str) -> bool {
    input.rsplit_once('\n').is_some_and(|(_, last)| last.trim().is_empty())
}

impl Completer for PromptHelper {
    type Candidate = Pair;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> Result<(usize, Vec<Pair>)> {
        Ok(complete_input(&line[..at], &self.session.borrow().variable_names()))
    }
}

/// Returns where the word begins that `typed` ends with, and what it could become.
fn complete_input(typed: &str, variables: &[String]) -> (usize, Vec<Pair>) {
    if typed.starts_with(':') && !typed.contains(' ') {
        return (0, matching_pairs(PROMPT_COMMANDS.iter().map(|(name, _)| (*name).to_owned()), typed, ""));
    }
    let of_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':');
    let start =
        typed.char_indices().rev().take_while(|(_, c)| of_word(*c)).last().map_or(typed.len(), |(i, _)| i);
    let (before, word) = typed.split_at(start);
    if before.trim_end() == ":help" {
        return (start, matching_pairs(ops::all_operations().map(Operation::path), word, ""));
    }
    if let Some(op) = find_enclosing_operation(before) {
        return (start, matching_pairs(op.option_params().map(|p| p.name.to_owned()), word, ": "));
    }
    let mut found = matching_pairs(ops::all_operations().map(Operation::path), word, "(");
    if !word.is_empty() {
        found.extend(matching_pairs(NATIVES.iter().map(|native| native.name.to_owned()), word, "("));
        found.extend(matching_pairs(variables.iter().cloned(), word, ""));
    }
    (start, found)
}

fn matching_pairs(names: impl Iterator<Item = String>, word: &str, after: &str) -> Vec<Pair> {
    names
        .filter(|name| name.starts_with(word))
        .map(|name| Pair { replacement: format!("{name}{after}"), display: name })
        .collect()
}

/// Returns the operation in whose options map `before` ends, where the name of an option would come next.
fn find_enclosing_operation(before: &str) -> Option<&'static Operation> {
    let (call, inside) = before.rsplit_once("#{")?;
    let at_name = inside.trim_end();
    if inside.contains('}') || !(at_name.is_empty() || at_name.ends_with(',')) {
        return None;
    }
    let of_path = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':');
    call.match_indices('(').rev().find_map(|(open, _)| {
        let start = call[..open].char_indices().rev().take_while(|(_, c)| of_path(*c)).last()?.0;
        ops::find_operation(&call[start..open])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completions_for(typed: &str) -> (usize, Vec<String>) {
        let (at, pairs) = complete_input(typed, &["taken".into()]);
        (at, pairs.into_iter().map(|p| p.replacement).collect())
    }

    #[test]
    fn operations_functions_and_variables_are_completed() {
        assert_eq!(completions_for("let x = backup::pitr::w"), (8, vec!["backup::pitr::window(".to_owned()]));
        assert_eq!(completions_for("ta").1, ["target(", "taken"]);
        assert_eq!(completions_for("measu").1, ["measure("]);
        assert_eq!(completions_for(":v").1, [":vars"]);
        assert_eq!(completions_for(":help db::h"), (6, vec!["db::health".to_owned()]));
    }

    #[test]
    fn options_are_completed_inside_their_map_only() {
        assert_eq!(completions_for("backup::create(db, #{ la").1, ["label: "]);
        assert_eq!(completions_for("backup::create(db, #{ label: \"x\", ti").1, ["timeout: "]);
        assert!(completions_for("backup::create(db, #{ label: ta").1.contains(&"taken".to_owned()));
    }

    #[test]
    fn a_blank_line_submits() {
        assert!(ends_with_blank_line("let x = [\n"));
        assert!(ends_with_blank_line("let x = [\n  "));
        assert!(!ends_with_blank_line("let x = ["));
    }
}
