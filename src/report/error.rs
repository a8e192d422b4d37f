//! The error of a command: the message, what to do next, and the exit code.
//!
//! The errors of all rooms are turned into it in this room and nowhere else: those of runs in `run_error`, all others in
//! `error_sources`.

use super::{exit_code::USAGE, fault_text::render_place};
use crate::{
    base::{
        painter::Painter,
        shell::{add_options_to_quoted_commands, with_location_options},
    },
    journal::SourceLocation,
};

/// Why a command did not end well.
#[derive(Debug, Clone, PartialEq)]
pub struct CliError {
    /// What happened, to what.
    pub message: String,
    /// Where in a script.
    pub place: Option<SourceLocation>,
    /// What to do now.
    pub hint: Option<String>,
    /// What else there is to know, a line each.
    pub facts: Vec<String>,
    pub exit: u8,
    /// The command to type next.
    pub next: Option<String>,
}

impl CliError {
    /// Returns an error of usage: nothing was done.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), place: None, hint: None, facts: vec![], exit: USAGE, next: None }
    }

    /// Adds what to do now.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Sets the exit code.
    #[must_use]
    pub fn with_exit(mut self, exit: u8) -> Self {
        self.exit = exit;
        self
    }

    /// Adds the command to type next.
    #[must_use]
    pub fn with_next_command(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// Returns what to do now, with commands that find the configuration and the state of this one.
    pub fn hint_with_location_options(&self) -> Option<String> {
        self.hint.as_deref().map(add_options_to_quoted_commands)
    }

    /// Returns the command to type next, so that it finds the configuration and the state of this one.
    pub fn next_command_with_location_options(&self) -> Option<String> {
        self.next.as_deref().map(with_location_options)
    }

    /// Returns the text without the command to type next.
    pub fn render_body(&self, ink: Painter) -> String {
        let mut lines = vec![format!("{} {}", ink.red("error:"), self.message)];
        lines.extend(self.place.as_ref().map(render_place));
        lines.extend(self.facts.iter().map(|fact| format!("  {fact}")));
        lines.extend(self.hint_with_location_options().map(|hint| format!("{} {hint}", ink.bold("hint:"))));
        lines.join("\n")
    }

    /// Returns the whole text; the command to type next is its last line.
    pub fn render_text(&self, ink: Painter) -> String {
        [Some(self.render_body(ink)), self.next_command_with_location_options()]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join("\n")
    }
}
