//! What is recorded is decoded with an error, never with a default: a run that goes on by something that nobody
//! recorded does it to somebody's database.
//!
//! A default in these rooms is refused wherever it stands, and the places that have nothing to do with what is recorded
//! are named here, each with its reason.

use crate::source;

/// The rooms that read what is recorded.
const ROOMS: [&str; 3] = ["journal/", "ops/", "runtime/"];
/// What puts a default in the place of something.
const DEFAULTS: [&str; 4] =
    ["unwrap_or_default()", "unwrap_or_else(|_|", "map_or_default(", "unwrap_or(Value::Null)"];
/// What reads something recorded; its error is not dropped.
const DECODERS: [&str; 4] = ["from_value", "from_str", "deserialize(", "decode("];
/// What providers read of what was recorded of their jobs.
const RECORDED_PARTS: [&str; 5] = ["detail[", "detail.get(", "intent[", "traces[", "token["];
/// Where a default is right: the file, the code, and why.
const ALLOWED: &[(&str, &str, &str)] = &[
    (
        "journal/conclusion.rs",
        "#[serde(default)]",
        "a run that ended with its clean-up done, or under a version that kept only the messages of what failed there",
    ),
    (
        "runtime/check/checker.rs",
        "namespace.split(",
        "the first part of a text is there, also of an empty one",
    ),
    ("runtime/call_text.rs", "unwrap_or_default()", "the inside of quotes that a text does not close"),
    ("runtime/check/mod.rs", "hint: hint.unwrap_or_default()", "a finding without a hint has none to show"),
    (
        "runtime/evaluate.rs",
        "to_json(&value).unwrap_or(Value::Null)",
        "a script may end with a function, of which nothing is kept",
    ),
    (
        "runtime/header.rs",
        "SecretRef::parse(text.unwrap_or_default())",
        "what is typed for a parameter; the empty text is refused",
    ),
    ("runtime/read.rs", ".unwrap_or_else(|_| Err(slow()))", "a read that took too long is an error"),
    (
        "runtime/deferred_cleanup.rs",
        "read_text_of_native_call(cx, scope).unwrap_or_default()",
        "what a session defers has no file",
    ),
    (
        "runtime/deferral_place.rs",
        "BTreeSet::deserialize(names).ok()",
        "what does not read stops the run where the clean-up is deferred again",
    ),
    ("runtime/script_error.rs", "unwrap_or_default()", "the line of a place whose text is not at hand"),
    (
        "runtime/session.rs",
        "to_json(&value).unwrap_or_else(|_|",
        "how a value that cannot be kept is shown at the prompt",
    ),
    (
        "journal/chain.rs",
        "from_str::<Record>(&body).ok()",
        "a record that does not read back is refused before it is written",
    ),
    ("runtime/values.rs", "unwrap_or_default()", "the name of a handle in a message"),
    (
        "ops/args.rs",
        "self.get(name)",
        "an argument that was left out; what is given was decoded, recorded or not",
    ),
    ("ops/context.rs", "target_ref.branch", "a target is no branch, and the branch of no name is not found"),
    ("ops/param.rs", "words.first()", "what is typed for a parameter; the empty text is refused"),
    ("ops/supabase.rs", "SecretRef::parse(", "what is typed for a secret; the empty text is refused"),
    (
        "runtime/values.rs",
        "serde_json::from_value::<Moment>",
        "a tagged value that is no moment stays the handle that it is",
    ),
    (
        "runtime/values.rs",
        "serde_json::from_value::<Span>",
        "a tagged value that is no span stays the handle that it is",
    ),
];

/// Returns the lines of a file that have a default in them and are not allowed.
fn list_defaults<'a>(path: &str, text: &'a str) -> Vec<&'a str> {
    let is_allowed = |line: &str| ALLOWED.iter().any(|(file, code, _)| *file == path && line.contains(*code));
    let has_any = |line: &str, words: &[&str]| words.iter().any(|word| line.contains(word));
    let has_default =
        |line: &&str| has_any(line, &DEFAULTS) || (has_any(line, &DECODERS) && line.contains(".ok()"));
    text.lines().map(str::trim).filter(has_default).filter(|line| !is_allowed(line)).collect()
}

#[test]
fn what_is_recorded_is_never_replaced_by_a_default() {
    let program = source::read_program();
    let mut wrong = vec![];
    for (path, text) in program.iter().filter(|(path, _)| ROOMS.iter().any(|room| path.starts_with(room))) {
        wrong.extend(list_defaults(path, text).into_iter().map(|line| format!("{path}: {line}")));
    }
    assert!(
        wrong.is_empty(),
        "a default may stand here for what is recorded; decode it with an error, or name the place with its reason:\n{}",
        wrong.join("\n")
    );
}

/// Returns the statements of a provider's file that have a default for a part of what was recorded.
fn list_part_defaults(text: &str) -> Vec<String> {
    // A chain of calls goes over several lines.
    let joined = text.lines().map(str::trim).fold(String::new(), |joined, line| {
        let gap = if line.starts_with('.') { "" } else { "\n" };
        joined + gap + line
    });
    let has_any = |line: &str, words: &[&str]| words.iter().any(|word| line.contains(word));
    let has_default = |line: &&str| line.contains("unwrap_or") || has_any(line, &DEFAULTS);
    let lines = joined.lines().filter(has_default).filter(|line| has_any(line, &RECORDED_PARTS));
    lines.map(str::to_owned).collect()
}

#[test]
fn what_a_provider_recorded_is_never_replaced_by_a_default() {
    let program = source::read_program();
    let mut wrong = vec![];
    for (path, text) in program.iter().filter(|(path, _)| path.starts_with("provider/")) {
        wrong.extend(list_part_defaults(text).into_iter().map(|line| format!("{path}: {line}")));
    }
    assert!(wrong.is_empty(), "decode it with an error:\n{}", wrong.join("\n"));
    let chain = "let a = job\n    .detail[\"b\"]\n    .as_str()\n    .unwrap_or_default();";
    assert_eq!(list_part_defaults(chain).len(), 1);
}

#[test]
fn every_allowed_default_is_still_there() {
    let program = source::read_program();
    let is_there =
        |file: &str, code: &str| program.get(file).is_some_and(|text| text.lines().any(|l| l.contains(code)));
    let gone: Vec<_> = ALLOWED.iter().filter(|(file, code, _)| !is_there(file, code)).collect();
    assert!(gone.is_empty(), "allowed and no longer needed: {gone:?}");
}

#[test]
fn a_default_is_seen() {
    let text = "let a = Moment::parse(&b).unwrap_or_else(|_| clock.now());\nlet c = d.unwrap_or(1);\n\
        let e = serde_json::from_value(f).ok();\nlet g = h.ok();";
    assert_eq!(list_defaults("journal/lease.rs", text).len(), 2);
}
