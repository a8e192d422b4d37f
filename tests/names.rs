//! How much the names of functions say: most are a verb and an object, and understood from the signature alone.
//!
//! Counted are all functions but tests, `new`, what a foreign trait prescribes, and the capability traits of the
//! providers, whose verbs are the catalogue's.

use crate::source;
use std::collections::{BTreeMap, BTreeSet};

/// The largest share of names that may be one word.
const ONE_WORD_SHARE_MAX: f64 = 0.45;
/// The capability traits, whose verbs are the catalogue's.
const CAPABILITIES: [&str; 10] = [
    "Backups",
    "Branches",
    "Lifecycle",
    "Network",
    "Raw",
    "Replicas",
    "Schedules",
    "Security",
    "Settings",
    "Sql",
];
/// The fewest words that names have on average.
const WORDS_MIN: f64 = 1.7;
/// What several modules call their error, and others name with the module: `journal::Error`.
/// `SideEffects` is one thing, said by a provider and recorded by the journal, which does not know providers.
const NAMED_WITH_MODULE: &[&str] = &["Error", "SideEffects"];

#[test]
fn names_of_functions_say_what_they_do() {
    let program = source::read_program();
    let mut names: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let excused = list_excused_traits(&program);
    for (path, text) in &program {
        names.entry(path).or_default().extend(list_functions(text, &excused));
    }
    let all: Vec<&str> = names.values().flatten().copied().collect();
    let one_word = all.iter().filter(|name| count_words(name) == 1).count();
    let share = ratio(one_word, all.len());
    let words = ratio(all.iter().map(|name| count_words(name)).sum(), all.len());
    eprintln!("{} functions, {:.1} % of one word, {words:.2} words a name", all.len(), share * 100.0);
    let mut worst: Vec<(usize, &str, Vec<&str>)> = names
        .into_iter()
        .map(|(path, names)| {
            (path, names.into_iter().filter(|name| count_words(name) == 1).collect::<Vec<_>>())
        })
        .map(|(path, short)| (short.len(), path, short))
        .collect();
    worst.sort_by_key(|(count, ..)| std::cmp::Reverse(*count));
    for (count, path, short) in worst.into_iter().take(10) {
        eprintln!("{count:3} in {path}: {}", short.join(" "));
    }
    assert!(share < ONE_WORD_SHARE_MAX && words > WORDS_MIN, "names of functions say too little");
}

#[test]
fn every_public_type_and_function_is_documented() {
    let mut bare = vec![];
    for (path, text) in source::read_sources() {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| is_public_item(line)) {
            if !has_doc(&lines[..at]) {
                bare.push(format!("{path}:{}: {line}", at + 1));
            }
        }
    }
    assert!(bare.is_empty(), "public, and without a word on what it is:\n{}", bare.join("\n"));
}

#[test]
fn no_two_types_have_one_name() {
    let doubled = list_doubled_types(&source::read_program());
    assert!(doubled.is_empty(), "one name and two meanings:\n{}", doubled.join("\n"));
}

#[test]
fn a_name_of_two_types_is_found() {
    let find = |text: &str| {
        let program =
            [("a.rs".to_owned(), "pub(super) struct Row {".to_owned()), ("b.rs".to_owned(), text.to_owned())];
        list_doubled_types(&program.into())
    };
    assert_eq!(find("    enum Row {"), ["Row in a.rs, b.rs"]);
    assert_eq!(find("pub type Row<T> = Vec<T>;"), ["Row in a.rs, b.rs"]);
    assert!(find("struct RowCount(u8);\nimpl Iterator for RowCount {\n    type Row = u8;").is_empty());
}

/// Returns the names that more than one type has, each with its files. A type that belongs to a trait is none.
fn list_doubled_types(program: &BTreeMap<String, String>) -> Vec<String> {
    let mut homes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (path, text) in program {
        for name in
            text.lines().filter_map(read_declared_type).filter(|name| !NAMED_WITH_MODULE.contains(name))
        {
            homes.entry(name).or_default().push(path);
        }
    }
    homes.retain(|_, paths| paths.len() > 1);
    homes.into_iter().map(|(name, paths)| format!("{name} in {}", paths.join(", "))).collect()
}

/// Returns the name of the type that a line declares.
fn read_declared_type(line: &str) -> Option<&str> {
    let item = line.trim_start();
    // `pub(in crate::provider)` has a space in it.
    let item = match item.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(") ")?.1,
        Some(rest) => rest,
        None => item,
    };
    let words: Vec<&str> = item.split_whitespace().collect();
    let is_inner = line.starts_with(' ');
    match words[..] {
        ["struct" | "enum" | "trait" | "union", name, ..] => Some(read_word(name)),
        ["type", name, ..] if !is_inner => Some(read_word(name)),
        _ => None,
    }
}

/// Returns whether a doc comment ends the lines, or is followed by attributes only.
fn has_doc(above: &[&str]) -> bool {
    let is_attribute = |lines: &[&str]| {
        let first = lines.iter().rposition(|line| line.starts_with("#["));
        first.filter(|at| lines[lines.len() - 1].ends_with(']') && !lines[*at..].contains(&"}"))
    };
    match above.last() {
        Some(line) if line.starts_with("///") => true,
        Some(_) => is_attribute(above).is_some_and(|at| has_doc(&above[..at])),
        None => false,
    }
}

fn is_public_item(line: &str) -> bool {
    let kinds = ["fn ", "async fn ", "const fn ", "struct ", "enum ", "trait ", "type ", "const ", "static "];
    line.strip_prefix("pub ").is_some_and(|item| kinds.iter().any(|kind| item.starts_with(kind)))
}

/// Returns the traits whose methods are not ours to name: the capabilities, and all that are not declared here.
fn list_excused_traits(program: &BTreeMap<String, String>) -> impl Fn(&str) -> bool + use<> {
    let declared = |text: &str| -> Vec<String> {
        text.split("trait ").skip(1).map(|rest| read_word(rest).to_owned()).collect()
    };
    let capabilities = BTreeSet::from(CAPABILITIES.map(str::to_owned));
    let waist = declared(&program["provider/mod.rs"]);
    assert!(capabilities.iter().all(|name| waist.contains(name)), "the capabilities are {waist:?}");
    let ours: BTreeSet<String> = program.values().flat_map(|text| declared(text)).collect();
    move |name| capabilities.contains(name) || !ours.contains(name)
}

fn list_functions<'a>(text: &'a str, is_excused: &impl Fn(&str) -> bool) -> Vec<&'a str> {
    let mut names = vec![];
    let mut is_counted = true;
    for line in text.lines() {
        if line.starts_with("impl") || line.starts_with("pub trait ") || line.starts_with("trait ") {
            is_counted = name_trait(line).is_none_or(|name| !is_excused(name));
        } else if line.starts_with('}') {
            is_counted = true;
        }
        let declared = line.trim_start().split_once("fn ").filter(|(before, _)| is_declaration(before));
        let name = declared.map(|(_, rest)| read_word(rest));
        names.extend(name.filter(|name| is_counted && *name != "new" && !name.is_empty()));
    }
    names
}

fn is_declaration(before: &str) -> bool {
    let words = ["pub", "const", "async"];
    before
        .split_whitespace()
        .all(|word| words.contains(&word) || word.starts_with("pub(") || word.ends_with(')'))
}

/// Returns the trait of `impl Trait for Type {` or `trait Trait {`.
fn name_trait(line: &str) -> Option<&str> {
    let path = match line.split_once("trait ") {
        Some((_, rest)) => rest,
        None => line.split_once(" for ")?.0.rsplit(' ').next()?,
    };
    let path =
        path.split(['<', ':']).filter(|part| !part.is_empty()).take_while(|part| !part.starts_with(' '));
    path.last().map(read_word)
}

fn read_word(text: &str) -> &str {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()
}

fn count_words(name: &str) -> usize {
    name.split('_').filter(|word| !word.is_empty()).count()
}

#[expect(clippy::cast_precision_loss, reason = "a few thousand functions")]
fn ratio(part: usize, whole: usize) -> f64 {
    part as f64 / whole as f64
}
