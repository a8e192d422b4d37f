//! Errors of providers: a code that scripts compare, a hint, and whether the same request may succeed later.

use std::fmt;

/// The result of a request to a provider.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of an error. The text of a code is part of the interface: scripts compare it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// The arguments make no sense, whatever the world is like.
    Invalid,
    /// What was named does not exist.
    NotFound,
    /// Another process is working on it, or the name is taken.
    Conflict,
    /// The target is in a state that rules this out; the message says which.
    Refused,
    /// This provider cannot do it; the hint says what comes nearest.
    Unsupported,
    /// The caller lacks the permission.
    Denied,
    /// Too many requests.
    Throttled,
    /// Not reachable, or not answering yet.
    Unavailable,
    /// It took longer than it was given.
    Timeout,
    /// The recovery target lies before the earliest restorable moment.
    TargetBeforeWindow,
    /// The recovery target lies after the latest restorable moment.
    TargetAfterWindow,
    /// WAL that is needed is missing from the archive.
    WalGap,
    /// Two timelines hold the recovery target.
    AmbiguousTimeline,
    /// The disk is too small for what was asked.
    NoDiskSpace,
    /// The backup is damaged.
    CorruptBackup,
    /// The source is damaged.
    CorruptSource,
    /// Recovery ended before the target.
    TargetNotReached,
    /// It was asked for and answered, and the target does not show it.
    NotApplied,
    /// The database refused the statement.
    Sql,
    /// The request was sent and not answered: whether it took effect is unknown. Never reaches a script.
    Unknown,
    /// A tool failed in a way that nothing above names.
    Tool,
    /// A bug in redrill.
    Internal,
}

impl Code {
    /// Returns whether an error of this code says only that something could not be looked at.
    pub fn is_look_failure(self) -> bool {
        matches!(self, Code::Throttled | Code::Unavailable | Code::Timeout | Code::Unknown)
    }

    /// Returns whether a request may have been refused with this code because what it asks for is so already.
    pub fn may_mean_already_so(self) -> bool {
        matches!(self, Code::Refused | Code::Conflict)
    }

    /// Returns whether something may be refused with this code because of what a look has shown.
    pub fn may_come_from_look(self) -> bool {
        matches!(self, Code::NotFound | Code::Refused | Code::Conflict)
    }

    /// Every code, for the page that lists them.
    pub const ALL: &[Code] = &[
        Code::Invalid,
        Code::NotFound,
        Code::Conflict,
        Code::Refused,
        Code::Unsupported,
        Code::Denied,
        Code::Throttled,
        Code::Unavailable,
        Code::Timeout,
        Code::TargetBeforeWindow,
        Code::TargetAfterWindow,
        Code::WalGap,
        Code::AmbiguousTimeline,
        Code::NoDiskSpace,
        Code::CorruptBackup,
        Code::CorruptSource,
        Code::TargetNotReached,
        Code::NotApplied,
        Code::Sql,
        Code::Unknown,
        Code::Tool,
        Code::Internal,
    ];

    /// Returns the code as scripts see it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Code::Invalid => "INVALID",
            Code::NotFound => "NOT_FOUND",
            Code::Conflict => "CONFLICT",
            Code::Refused => "REFUSED",
            Code::Unsupported => "UNSUPPORTED",
            Code::Denied => "DENIED",
            Code::Throttled => "THROTTLED",
            Code::Unavailable => "UNAVAILABLE",
            Code::Timeout => "TIMEOUT",
            Code::TargetBeforeWindow => "TARGET_BEFORE_WINDOW",
            Code::TargetAfterWindow => "TARGET_AFTER_WINDOW",
            Code::WalGap => "WAL_GAP",
            Code::AmbiguousTimeline => "AMBIGUOUS_TIMELINE",
            Code::NoDiskSpace => "NO_DISK_SPACE",
            Code::CorruptBackup => "CORRUPT_BACKUP",
            Code::CorruptSource => "CORRUPT_SOURCE",
            Code::TargetNotReached => "TARGET_NOT_REACHED",
            Code::NotApplied => "NOT_APPLIED",
            Code::Sql => "SQL",
            Code::Unknown => "UNKNOWN",
            Code::Tool => "TOOL",
            Code::Internal => "INTERNAL",
        }
    }

    /// Returns whether the same request may succeed later without anybody changing it.
    const fn is_transient(self) -> bool {
        matches!(self, Code::Throttled | Code::Unavailable | Code::Timeout | Code::Conflict)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether anything changed in the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SideEffects {
    /// Nothing changed.
    #[default]
    None,
    /// Something changed, and the error says what.
    Some,
    /// Nothing is seen to have changed, and it still may.
    Unknown,
}

/// An error of a provider.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    pub code: Code,
    /// What happened, to what: one sentence without a full stop.
    pub message: String,
    /// What to do now.
    pub hint: Option<String>,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    pub side_effects: SideEffects,
    /// What was made and could not be removed again, by name.
    pub left_behind: Vec<String>,
}

impl Error {
    /// Returns an error of `code` that changed nothing.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: None,
            retryable: code.is_transient(),
            side_effects: SideEffects::None,
            left_behind: Vec::new(),
        }
    }

    /// Adds what to do now.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says that something changed before it went wrong.
    #[must_use]
    pub fn with_side_effects(mut self) -> Self {
        self.side_effects = SideEffects::Some;
        self
    }

    /// Names something that was made and is still there.
    #[must_use]
    pub fn with_left_behind(mut self, what: impl Into<String>) -> Self {
        self.left_behind.push(what.into());
        self.with_side_effects()
    }

    /// Returns the message with the hint behind it, for whoever keeps one text only.
    pub fn message_with_hint(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{}; {hint}", self.message),
            None => self.message.clone(),
        }
    }

    /// Returns the error of a capability that a provider does not have.
    pub fn unsupported(reason: impl Into<String>, nearest: impl Into<String>) -> Self {
        Self::new(Code::Unsupported, reason).with_hint(nearest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct() {
        let mut seen: Vec<_> = Code::ALL.iter().map(|c| c.as_str()).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), Code::ALL.len());
    }
}
