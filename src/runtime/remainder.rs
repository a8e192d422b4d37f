//! What a run may leave behind or changed, as the header's `leaves` says it. Backups, restore points and the data are
//! never in it: a run leaves them by what it is for.

use super::runbook_error::RunbookError;
use crate::base::suggest;
use std::fmt;

/// The operation that can do whatever the platform can.
const ANYTHING: &str = "supabase::api";

/// A kind of thing that a run can leave behind, or change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RemainderKind {
    /// A branch that was made or removed.
    Branch,
    /// A replica that was made or removed.
    Replica,
    /// A schedule that was made or removed.
    Schedule,
    /// A setting of the server.
    Setting,
    /// The ranges that may connect.
    Ranges,
    /// The addresses that are shut out.
    Bans,
    /// Whether connections without TLS are refused.
    Tls,
    /// Whether the target is on or paused.
    Power,
}

/// Something that a run left behind or changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remainder {
    pub kind: RemainderKind,
    /// Which one: the name of a branch or a setting, the region of a replica, the time of a schedule; empty where there is
    /// only one or it has none.
    pub name: String,
}

/// One entry of `leaves`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemainderRule {
    kind: RemainderKind,
    /// The only one that may be left; any where there is none.
    name: Option<String>,
}

impl RemainderKind {
    const ALL: [Self; 8] = [
        Self::Branch,
        Self::Replica,
        Self::Schedule,
        Self::Setting,
        Self::Ranges,
        Self::Bans,
        Self::Tls,
        Self::Power,
    ];

    /// Returns the word for it in `leaves`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Branch => "branch",
            Self::Replica => "replica",
            Self::Schedule => "schedule",
            Self::Setting => "setting",
            Self::Ranges => "ranges",
            Self::Bans => "bans",
            Self::Tls => "tls",
            Self::Power => "power",
        }
    }

    /// Returns what stands for the name behind the word; nothing where there is only one.
    const fn name_placeholder(self) -> Option<&'static str> {
        match self {
            Self::Branch | Self::Setting => Some("NAME"),
            Self::Replica => Some("REGION"),
            Self::Schedule => Some("HH:MM"),
            Self::Ranges | Self::Bans | Self::Tls | Self::Power => None,
        }
    }

    /// Returns the operations that can leave something of this kind, beside the calls of an API that can do anything.
    const fn leaving_operations(self) -> &'static [&'static str] {
        match self {
            Self::Branch => &[
                "branch::create",
                "branch::delete",
                "branch::promote",
                "backup::restore",
                "backup::pitr::restore",
            ],
            Self::Replica => &["db::replicas::create", "db::replicas::delete"],
            Self::Schedule => &["backup::schedule::create", "backup::schedule::delete"],
            // A statement can change them as well: `alter system`.
            Self::Setting => &["db::config::set", "db::execute"],
            Self::Ranges => &["network::restrictions::add", "network::restrictions::remove"],
            Self::Bans => &["network::bans::remove"],
            Self::Tls => &["network::ssl::set"],
            Self::Power => &["project::pause", "project::resume"],
        }
    }

    /// Returns whether a name can be one of this kind.
    fn admits_name(self, name: &str) -> bool {
        match self {
            Self::Schedule => name.len() == 5 && jiff::civil::Time::strptime("%H:%M", name).is_ok(),
            Self::Setting => {
                name.chars().all(|c| c.is_ascii_alphanumeric() || "_.".contains(c)) && !name.is_empty()
            }
            Self::Branch | Self::Replica => {
                !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == '/')
            }
            Self::Ranges | Self::Bans | Self::Tls | Self::Power => false,
        }
    }
}

impl fmt::Display for Remainder {
    /// Writes it as an entry of `leaves` that names it and nothing else.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.as_str() {
            "" => f.write_str(self.kind.word()),
            name => write!(f, "{}:{name}", self.kind.word()),
        }
    }
}

impl RemainderRule {
    /// Reads an entry of `leaves`.
    ///
    /// # Errors
    /// That it is none, with every form that there is.
    pub(super) fn parse_entry(text: &str) -> Result<Self, RunbookError> {
        let (word, name) = match text.split_once(':') {
            Some((word, name)) => (word, Some(name)),
            None => (text, None),
        };
        let words = RemainderKind::ALL.map(RemainderKind::word);
        let Some(kind) = RemainderKind::ALL.into_iter().find(|kind| kind.word() == word) else {
            let wrong = RunbookError::new(format!("`{text}` in `leaves` is nothing that a run may leave"));
            return Err(wrong.with_hint(match suggest::nearest_name(word, words) {
                Some(near) => format!("did you mean `{near}`? {}", describe_entry_forms()),
                None => describe_entry_forms(),
            }));
        };
        let wrong = match (name, kind.name_placeholder()) {
            (None, _) => return Ok(Self { kind, name: None }),
            (Some(_), None) => format!("`{text}` in `leaves` has a name, and there is only one `{word}`"),
            (Some(name), _) if kind.admits_name(name) => {
                return Ok(Self { kind, name: Some(name.to_owned()) });
            }
            (Some(name), Some(form)) => {
                format!(
                    "`{text}` in `leaves`: `{name}` is no name of a {word}, which is written `{word}:{form}`"
                )
            }
        };
        Err(RunbookError::new(wrong).with_hint(describe_entry_forms()))
    }

    /// Returns whether an operation can leave what it allows.
    pub(super) fn can_be_left_by(&self, operation: &str) -> bool {
        operation == ANYTHING || self.kind.leaving_operations().contains(&operation)
    }

    /// Returns whether it allows something to be left.
    pub fn covers(&self, left: &Remainder) -> bool {
        let is_named = |name: &String| match self.kind {
            RemainderKind::Setting => name.eq_ignore_ascii_case(&left.name),
            _ => *name == left.name,
        };
        self.kind == left.kind && self.name.as_ref().is_none_or(is_named)
    }
}

impl fmt::Display for RemainderRule {
    /// Writes the entry.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            None => f.write_str(self.kind.word()),
            Some(name) => write!(f, "{}:{name}", self.kind.word()),
        }
    }
}

/// Returns every form of an entry, in one sentence.
fn describe_entry_forms() -> String {
    let forms = RemainderKind::ALL.iter().map(|kind| match kind.name_placeholder() {
        Some(name) => format!("\"{0}\", \"{0}:{name}\"", kind.word()),
        None => format!("\"{}\"", kind.word()),
    });
    let forms = forms.collect::<Vec<_>>().join(", ");
    format!("an entry is one of {forms}; backups, restore points and data need none")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops;

    fn left(kind: RemainderKind, name: &str) -> Remainder {
        Remainder { kind, name: name.into() }
    }

    #[test]
    fn an_entry_covers_what_it_names_and_without_a_name_all_of_a_kind() {
        for (entry, kind, name, covers) in [
            ("branch", RemainderKind::Branch, "copy", true),
            ("branch:copy", RemainderKind::Branch, "copy", true),
            ("branch:copy", RemainderKind::Branch, "copy-2", false),
            ("setting:work_mem", RemainderKind::Setting, "work_mem", true),
            ("setting:timezone", RemainderKind::Setting, "TimeZone", true),
            ("setting:work_mem", RemainderKind::Setting, "maintenance_work_mem", false),
            ("setting", RemainderKind::Branch, "setting", false),
            ("schedule:04:00", RemainderKind::Schedule, "04:00", true),
            ("replica:eu-west-1", RemainderKind::Replica, "", false),
            ("replica", RemainderKind::Replica, "", true),
            ("tls", RemainderKind::Tls, "", true),
            ("ranges", RemainderKind::Bans, "", false),
        ] {
            let rule = RemainderRule::parse_entry(entry).expect("it is an entry");
            assert_eq!(rule.covers(&left(kind, name)), covers, "{entry} of {kind:?} {name}");
        }
    }

    #[test]
    fn every_kind_is_left_by_operations_that_there_are() {
        for kind in RemainderKind::ALL {
            let names = kind.leaving_operations();
            assert!(
                !names.is_empty() && names.iter().all(|name| ops::find_operation(name).is_some()),
                "{kind:?}"
            );
        }
        assert!(ops::find_operation(ANYTHING).is_some());
    }

    #[test]
    fn what_is_left_is_written_as_the_entry_that_names_it() {
        for entry in ["branch:copy", "replica", "schedule:04:00", "setting:work_mem", "ranges", "power"] {
            let rule = RemainderRule::parse_entry(entry).expect("it is an entry");
            let left = left(rule.kind, rule.name.as_deref().unwrap_or_default());
            assert_eq!(left.to_string(), entry);
        }
    }

    #[test]
    fn a_wrong_entry_says_which_there_are() {
        for (entry, says) in [
            ("brench", "`brench` in `leaves` is nothing that a run may leave"),
            ("backup", "`backup` in `leaves` is nothing that a run may leave"),
            ("", "`` in `leaves` is nothing that a run may leave"),
            ("Branch", "`Branch` in `leaves` is nothing that a run may leave"),
            ("branch:", "`` is no name of a branch, which is written `branch:NAME`"),
            ("branch:sandbox/copy", "`sandbox/copy` is no name of a branch"),
            ("setting:work mem", "`work mem` is no name of a setting"),
            ("schedule:4:00", "`4:00` is no name of a schedule, which is written `schedule:HH:MM`"),
            ("schedule:25:00", "`25:00` is no name of a schedule"),
            ("tls:on", "there is only one `tls`"),
            ("ranges:10.0.0.0/8", "there is only one `ranges`"),
        ] {
            let wrong = RemainderRule::parse_entry(entry).expect_err("it is no entry");
            assert!(wrong.message.contains(says), "{entry}: {}", wrong.message);
            let hint = wrong.hint.expect("it has a hint");
            for form in ["\"branch:NAME\"", "\"schedule:HH:MM\"", "\"setting\"", "\"bans\"", "\"power\""] {
                assert!(hint.contains(form), "{entry}: {hint}");
            }
        }
        let wrong = RemainderRule::parse_entry("brench").expect_err("it is no entry");
        assert!(wrong.hint.expect("it has a hint").starts_with("did you mean `branch`? "));
    }
}
