//! The catalogue: every operation, as one list of plain values.
//!
//! From this list come the script binding, the commands, completion, the reference, the check of permissions and what
//! happens at resume. A namespace is a file; an operation is one value and one function in it.

pub mod args;
mod backup;
mod bans;
pub mod branch;
mod canonical;
mod config;
mod context;
mod db;
mod decode;
mod evidence;
mod job_wait;
mod job_watch;
mod param;
mod pitr;
mod policies;
mod project;
mod protocol;
pub mod reference;
mod replicas;
mod restore;
mod restrictions;
mod schedule;
mod security;
mod server_restart;
pub mod spec;
mod ssl;
pub mod supabase;
mod thing;

pub use restore::restores_in_place;

use serde_json::Value;
use spec::{Field, Operation, ReturnShape};

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
    policies::OPS,
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

/// Returns the fields of what a recorded call gives back, in the order in which people read them.
pub fn list_returned_fields(op: &Operation, args: &Value) -> &'static [Field] {
    if restores_in_place(op, args) { restore::RESTORED_IN_PLACE_FIELDS } else { op.returns.fields() }
}

/// Returns the operation that lists what `op` makes.
pub fn find_list_operation(op: &Operation) -> Option<&'static Operation> {
    let ReturnShape::One(made) = op.returns else { return None };
    let names = |fields: &[Field]| fields.iter().map(|field| field.name).collect::<Vec<_>>();
    let lists = |op: &&Operation| matches!(op.returns, ReturnShape::List(all) if names(all) == names(made));
    all_operations().filter(|op| op.name == "list").find(lists)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::spec::{Effect, ParamSlot, Protocol};
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
            let reads = !matches!(op.protocol, Protocol::Effect(_));
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
