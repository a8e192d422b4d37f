//! The catalogue: every operation, as one list of plain values.
//!
//! From this list come the script binding, the commands, completion, the reference, the check of rights and what
//! happens at resume. A namespace is a file; an operation is one value and one function in it.

pub mod args;
pub mod backup;
pub mod bans;
pub mod branch;
pub mod config;
pub mod db;
mod kinds;
mod known;
pub mod pitr;
pub mod project;
pub mod reference;
pub mod replicas;
pub mod restrictions;
pub mod schedule;
pub mod security;
pub mod spec;
pub mod ssl;
pub mod supabase;

use spec::{Field, Operation, Param, ParamKind, ParamSlot, field};

/// Every operation, by namespace, in the order of the reference.
pub const CATALOGUE: &[&[Operation]] = &[
    backup::OPS,
    schedule::OPS,
    pitr::OPS,
    branch::OPS,
    db::OPS,
    replicas::OPS,
    config::OPS,
    restrictions::OPS,
    bans::OPS,
    ssl::OPS,
    security::OPS,
    security::policies::OPS,
    project::OPS,
    supabase::OPS,
];

/// Returns every operation.
pub fn all_operations() -> impl Iterator<Item = &'static Operation> + Clone {
    CATALOGUE.iter().flat_map(|namespace| namespace.iter())
}

/// Returns the operation that scripts call `path`.
pub fn find_operation(path: &str) -> Option<&'static Operation> {
    all_operations().find(|op| op.path() == path)
}

const TARGET: Param = Param {
    name: "target",
    kind: ParamKind::Target,
    slot: ParamSlot::Positional,
    help: "the target, or a branch of one",
};

const BACKUP: Param = Param {
    name: "backup",
    kind: ParamKind::Backup,
    slot: ParamSlot::Positional,
    help: "the backup, or its id",
};

const INTO: Param = Param {
    name: "into",
    kind: ParamKind::Text,
    slot: ParamSlot::Optional("in place: the target itself is overwritten"),
    help: "the name of a new, isolated branch to restore into",
};

const TEMPORARY: Param = Param {
    name: "temporary",
    kind: ParamKind::Bool,
    slot: ParamSlot::Optional("false"),
    help: "the run owns the branch and removes it at its end",
};

const BACKUP_FIELDS: &[Field] = &[
    field("id", "text", "what names it in every call"),
    field("label", "text", "what its maker called it"),
    field("status", "text", "`completed`, `running`, `damaged` or `failed`"),
    field("started_at", "moment", "when it was begun"),
    field("finished_at", "moment", "when it was complete: the earliest moment it restores to"),
    field("bytes", "int", "its size in bytes"),
    field("method", "text", "how it was made"),
    field("restorable", "list", "what it restores to: `branch`, `in_place`"),
    field("target", "text", "the target it is of"),
    field("key", "text", "the key of the call that made it"),
];

const BRANCH_FIELDS: &[Field] = &[
    field("name", "text", "what names it under its target"),
    field("status", "text", "`ready`, `preparing`, `failed` or `stopped`"),
    field("target", "text", "the target it is of"),
    field("created_at", "moment", "when it was asked for"),
    field("reached", "moment", "the last transaction that is in it, where that is known"),
    field("backup", "text", "the backup it was made from"),
    field("timeline", "int", "its timeline"),
    field("host", "text", "how to connect: a socket folder or an address"),
    field("port", "int", "the port"),
    field("temporary", "bool", "whether the run that made it removes it"),
    field("run", "text", "the run that made it"),
    field("id", "text", "unique for ever, unlike the name"),
    field("key", "text", "the key of the call that made it"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::spec::{Effect, Recovery};
    use std::collections::BTreeSet;

    /// The words that Rhai keeps for itself: a field of that name does not parse.
    const RESERVED: &[&str] = &[
        "spawn",
        "with",
        "match",
        "sync",
        "go",
        "async",
        "await",
        "goto",
        "use",
        "is",
        "new",
        "var",
        "static",
        "shared",
        "case",
        "default",
        "public",
        "protected",
        "package",
        "module",
        "super",
        "thread",
        "yield",
        "void",
        "null",
        "nil",
        "let",
        "const",
        "if",
        "else",
        "for",
        "while",
        "loop",
        "do",
        "until",
        "in",
        "fn",
        "private",
        "import",
        "export",
        "as",
        "return",
        "throw",
        "try",
        "catch",
        "break",
        "continue",
        "switch",
        "global",
        "this",
        "true",
        "false",
        "eval",
        "print",
        "debug",
        "type_of",
        "call",
        "curry",
        "is_shared",
        "is_def_fn",
        "is_def_var",
        "Fn",
    ];

    #[test]
    fn names_are_unique() {
        let paths: BTreeSet<_> = all_operations().map(Operation::path).collect();
        assert_eq!(paths.len(), all_operations().count());
    }

    #[test]
    fn no_name_is_reserved_in_the_script_language() {
        for op in all_operations() {
            let params = op.params.iter().map(|p| p.name);
            let names = op.command_words().chain(params).chain(op.returns.fields().iter().map(|f| f.name));
            for name in names {
                assert!(!RESERVED.contains(&name), "{}: `{name}` is reserved", op.path());
            }
        }
    }

    #[test]
    fn only_what_reads_may_be_done_again_unasked() {
        for op in all_operations() {
            let reads = matches!(op.recovery, Recovery::Read | Recovery::Wait);
            assert_eq!(reads, op.effect == Effect::Read, "{}", op.path());
        }
    }

    #[test]
    fn a_call_of_which_nothing_is_known_needs_the_worst() {
        for op in all_operations() {
            assert_eq!(op.worst_permission().effect, op.effect, "{}", op.path());
        }
    }

    #[test]
    fn every_operation_is_described() {
        for op in all_operations() {
            assert!(!op.summary.is_empty() && !op.summary.ends_with('.'), "{}", op.path());
            assert!(!op.examples.is_empty(), "{} has no example", op.path());
            assert!(op.params.iter().all(|p| !p.help.is_empty() && !p.help.ends_with('.')), "{}", op.path());
            let first_option =
                op.params.iter().position(|p| p.slot != ParamSlot::Positional).unwrap_or(op.params.len());
            assert!(
                op.params[first_option..].iter().all(|p| p.slot != ParamSlot::Positional),
                "{}",
                op.path()
            );
        }
    }
}
