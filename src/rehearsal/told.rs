//! What a run tells of what it leaves: in its `left_behind`, and in the error that ended it.

use super::scenario_result::ScenarioResult;
use crate::journal::{RunError, SideEffects};
use std::collections::BTreeSet;

/// What a run tells of what it leaves.
pub(super) struct ToldRemainders<'a> {
    result: &'a ScenarioResult,
    /// The keys of the open calls that it names.
    keys: BTreeSet<&'a str>,
    /// The call whose error ended the run, and says that something is changed.
    failed_call: Option<String>,
}

impl<'a> ToldRemainders<'a> {
    pub(super) fn from_result(result: &'a ScenarioResult) -> Self {
        let open_and_named = result.fold.open_calls().filter(|(name, _)| names_call(result, name));
        let keys = open_and_named
            .flat_map(|(_, call)| &call.attempts)
            .filter_map(|attempt| attempt.key.as_deref())
            .collect();
        Self { result, keys, failed_call: find_failed_call(result) }
    }

    /// Returns whether a branch of a target is named.
    pub(super) fn names_branch(&self, target: &str, name: &str) -> bool {
        names_branch(self.result, target, name)
    }

    /// Returns whether something is named by its id, or by a call that its id has the key of.
    pub(super) fn names_id(&self, id: &str) -> bool {
        self.result.fold.left_behind().iter().any(|left| has_word(left, id, &['/']))
            || self.keys.iter().any(|key| has_key(id, key))
    }

    /// Returns whether something is named by the key of the call that made it: in its id, or by the call.
    pub(super) fn names_key(&self, key: &str) -> bool {
        self.keys.contains(key) || self.result.fold.left_behind().iter().any(|left| has_key(left, key))
    }

    /// Returns whether what a call changed is named: as what that call began or asked for, or by the error that ended the
    /// run.
    pub(super) fn names_change_of(&self, call: &str) -> bool {
        self.failed_call.as_deref() == Some(call) || names_call(self.result, call)
    }
}

/// Returns whether a run says that it leaves a branch behind: with its target as the run itself does, or alone as an error
/// of the script may.
pub(super) fn names_branch(result: &ScenarioResult, target: &str, name: &str) -> bool {
    let (whole, quoted) = (format!("{target}/{name}"), format!("`{name}`"));
    let is_named = |left: &String| {
        left.strip_prefix("branch ").unwrap_or(left) == name
            || left.contains(&quoted)
            || has_word(left, &whole, &[])
    };
    result.fold.left_behind().iter().any(is_named)
}

/// Returns whether a run says that it leaves behind what a call began, or what it asked for and may still come.
pub(super) fn names_call(result: &ScenarioResult, name: &str) -> bool {
    let named = [format!("what {name} began"), format!("what {name} asked for,")];
    result.fold.left_behind().iter().any(|left| named.iter().any(|named| left.starts_with(named)))
}

/// Returns whether a text has the key of a call, alone or as the end of an id.
fn has_key(text: &str, key: &str) -> bool {
    has_word(text, key, &['-', '/'])
}

/// Returns whether a text has a word, with nothing before and behind it that names have as well, but for what may join it to
/// what is before it.
fn has_word(text: &str, word: &str, joins: &[char]) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || "-_./".contains(c);
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let mut behind = text[at + word.len()..].chars();
        // A full stop ends a sentence, unless a name goes on behind it.
        let next = behind.next().filter(|c| *c != '.').or_else(|| behind.next());
        !before.is_some_and(|c| is_part(c) && !joins.contains(&c)) && !next.is_some_and(is_part)
    })
}

/// Returns the call whose error ended the run, where it says that something is or may be changed.
fn find_failed_call(result: &ScenarioResult) -> Option<String> {
    let fault = RunError::decode(result.fold.error()?).ok()?.fault?;
    fault.call_name.filter(|_| fault.side_effects != SideEffects::None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_names_are_told() {
        for (text, word, is_told) in [
            ("branch shop/abc", "shop/a", false),
            ("branch shop/a.b", "shop/a", false),
            ("branch shop/a-1", "shop/a", false),
            ("branch my-shop/a", "shop/a", false),
            ("branch shop/a", "shop/a", true),
            ("what /branch::create#0 began (branch shop/a)", "shop/a", true),
            ("branch shop/a, which may still appear", "shop/a", true),
            ("the branch shop/a.", "shop/a", true),
            ("backup backup-12, which may still appear", "backup-1", false),
            ("backup backup-1, which may still appear", "backup-1", true),
        ] {
            assert_eq!(has_word(text, word, &[]), is_told, "{word} in {text}");
        }
        assert!(has_key("branch-k3y, which may still appear", "k3y") && !has_key("branch-ak3y", "k3y"));
    }
}
