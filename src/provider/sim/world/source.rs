//! The text of a world file, and errors that say where in it something is wrong.

use crate::{
    base::suggest,
    provider::{Code, Error, Result},
};
use std::{collections::BTreeSet, fmt};
use toml::Spanned;

/// The text of a world file.
pub(super) struct SourceText<'a> {
    pub(in crate::provider::sim) text: &'a str,
    /// What messages call it.
    pub(super) origin: &'a str,
}

impl SourceText<'_> {
    /// Returns the error of a place in the text.
    pub(super) fn error_at(
        &self,
        offset: usize,
        message: impl fmt::Display,
        hint: impl Into<String>,
    ) -> Error {
        let line = self.text[..offset.min(self.text.len())].lines().count().max(1);
        // An offset at the start of a line is not counted by `lines`.
        let line = if offset > 0 && self.text[..offset].ends_with('\n') { line + 1 } else { line };
        Error::new(Code::Invalid, format!("{}, line {line}: {message}", self.origin)).with_hint(hint)
    }

    /// Turns an error of the TOML reader into one of the world file. The readers of `file` put a hint after a line end.
    pub(super) fn toml_error(&self, e: &toml::de::Error) -> Error {
        let (message, ours) = e.message().split_once('\n').map_or((e.message(), None), |(m, h)| (m, Some(h)));
        let hint = suggest::hint_for_unknown_field(message).or(ours.map(Into::into));
        let hint = hint.unwrap_or_else(|| {
            "a world has a `title` and `[[history]]`; the built-in `sandbox` is an example".into()
        });
        self.error_at(e.span().map_or(0, |s| s.start), message.lines().next().unwrap_or_default(), hint)
    }

    /// Adds a place in the text to an error.
    pub(super) fn add_location_to_error<T>(&self, offset: usize, result: Result<T>) -> Result<T> {
        result.map_err(|e| self.error_at(offset, e.message, e.hint.unwrap_or_default()))
    }

    /// Refuses names that are empty or taken twice; `what` is what they name.
    pub(super) fn check_unique_names<'a>(
        &self,
        what: &str,
        names: impl Iterator<Item = &'a Spanned<String>>,
    ) -> Result<()> {
        let mut seen = BTreeSet::new();
        for name in names {
            if name.get_ref().is_empty() {
                return Err(self.error_at(name.span().start, format!("a {what} has no name"), "give it one"));
            }
            if !seen.insert(name.get_ref()) {
                let message = format!("two {what}s are called `{}`", name.get_ref());
                return Err(self.error_at(name.span().start, message, "call one of them something else"));
            }
        }
        Ok(())
    }
}
