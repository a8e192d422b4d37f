//! The options of a native: `#{ attempts: 3, backoff: "5s" }`.

use super::script_error::{RhaiResult, codes, raise_at_call, to_rhai_error};
use crate::base::{moment::Span, suggest};
use crate::journal::ScriptError;
use rhai::{Dynamic, Map, NativeCallContext as NativeContext};

/// The options map of a native, checked as strictly as an operation's.
pub(super) struct NativeOptions<'a> {
    cx: &'a NativeContext<'a>,
    native: &'static str,
    given: &'a Map,
}

impl<'a> NativeOptions<'a> {
    /// Checks the options of a native, which takes those in `known` and no others.
    pub(super) fn from_map(
        cx: &'a NativeContext<'a>,
        native: &'static str,
        given: &'a Map,
        known: &'static [&'static str],
    ) -> RhaiResult<Self> {
        match given.keys().find(|key| !known.contains(&key.as_str())) {
            Some(unknown) => {
                let hint = suggest::suggest_name_or_list_known(unknown, known.iter().copied());
                let message = format!("`{native}` has no option `{unknown}`");
                let error = ScriptError { hint: Some(hint), ..ScriptError::new(codes::SCRIPT, &message) };
                Err(to_rhai_error(&error, cx.call_position()))
            }
            None => Ok(Self { cx, native, given }),
        }
    }

    /// Returns a duration.
    pub(super) fn read_span_option(&self, name: &str, preset: Span) -> RhaiResult<Span> {
        self.given
            .get(name)
            .map_or(Ok(preset), |given| read_span(self.cx, &format!("{name}` of `{}", self.native), given))
    }

    /// Returns one of a few words, of which the first is the preset.
    pub(super) fn read_word_option(&self, name: &str, words: &[&'static str]) -> RhaiResult<&'static str> {
        let Some(given) = self.given.get(name) else { return Ok(words[0]) };
        let text = given.to_string();
        if let Some(word) = words.iter().find(|word| **word == text) {
            return Ok(word);
        }
        let known = words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(" or ");
        let message = format!("`{name}` of `{}` is {known}, found {text}", self.native);
        raise_at_call(self.cx, codes::SCRIPT, &message)
    }

    /// Returns a number from 1.
    pub(super) fn read_count_option(&self, name: &str, preset: u32) -> RhaiResult<u32> {
        let Some(given) = self.given.get(name) else { return Ok(preset) };
        match given.as_int().ok().and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0) {
            Some(count) => Ok(count),
            None => raise_at_call(
                self.cx,
                codes::SCRIPT,
                &format!("`{name}` of `{}` is a number from 1, found {given}", self.native),
            ),
        }
    }
}

/// Reads a duration, given as one or as text; `what` names it in the error.
pub(super) fn read_span(cx: &NativeContext<'_>, what: &str, given: &Dynamic) -> RhaiResult<Span> {
    let parsed = match (given.clone().try_cast::<Span>(), given.as_immutable_string_ref()) {
        (Some(span), _) => Ok(span),
        (None, Ok(text)) => Span::parse(&text).map_err(|e| format!("`{what}`: {e}; {}", e.hint())),
        (None, Err(found)) => Err(format!("`{what}` is a duration such as \"5s\", found {found}")),
    };
    parsed.or_else(|why| raise_at_call(cx, codes::SCRIPT, &why))
}
