//! What clean-up goes by: the functions, constants and modules that its text names, and those that they name.

use super::call_text::{is_part_of_word, list_definitions, read_code, read_script_text};
use crate::journal::Source;
use std::collections::BTreeMap;

/// The words by which a text calls what it does not name, or names what it does not hold.
const UNREADABLE_WORDS: [&str; 4] = ["Fn", "call", "curry", IMPORT];

const IMPORT: &str = "import";

/// Returns the texts that a clean-up in `file` goes by, each with what it is: the functions and constants that its text and
/// the values that it captures name, and those that they name; every module, where one of them calls into a module. Nothing
/// where that cannot be told from the texts: it may be any of them.
pub(super) fn list_texts_clean_up_depends_on(
    sources: &[Source],
    file: &str,
    text: &str,
    captured: &str,
) -> Option<BTreeMap<String, String>> {
    let scripts = sources.iter().map(ReadScript::from_source).collect::<Option<Vec<_>>>()?;
    let mut reached = BTreeMap::new();
    require_named_calls(text)?;
    let mut open = vec![captured.to_owned(), text.to_owned()];
    while let Some(text) = open.pop() {
        for word in text.split(|c| !is_part_of_word(c)).filter(|word| !word.is_empty()) {
            if reached.contains_key(word) {
                continue;
            }
            // A function may be called from another file than its own.
            let definitions = scripts.iter().filter_map(|script| script.definitions.get(word));
            let defined = definitions.cloned().collect::<Option<String>>()?;
            if !defined.is_empty() {
                require_named_calls(&defined)?;
                open.push(defined.clone());
                reached.insert(word.to_owned(), defined);
            }
        }
        let modules = scripts.iter().flat_map(|script| &script.modules);
        if modules.into_iter().any(|name| text.contains(&format!("{name}::"))) {
            open.extend(reach_modules(&scripts, file, &mut reached)?);
        }
    }
    Some(reached)
}

/// Adds the imports and the modules to what is reached, and returns the texts of those that were not reached before;
/// `None` where one of them makes up a name.
fn reach_modules(
    scripts: &[ReadScript],
    file: &str,
    reached: &mut BTreeMap<String, String>,
) -> Option<Vec<String>> {
    let mut new = Vec::new();
    for script in scripts {
        reached.insert(format!("imports of {}", script.path), script.imports.clone());
        if script.path != file
            && reached.insert(format!("module {}", script.path), script.text.clone()).is_none()
        {
            // Closures that a module calls are in what calls into it; a name that it makes up may be anything.
            let code = read_code(&script.text)?;
            list_unreadable_words(&code).all(|word| word != "Fn").then_some(())?;
            new.push(script.text.clone());
        }
    }
    Some(new)
}

/// Returns `Some` where a text names all that it calls, else `None`.
fn require_named_calls(text: &str) -> Option<()> {
    list_unreadable_words(&read_code(text)?).next().is_none().then_some(())
}

/// Returns the words of code by which it calls what it does not name; `Fn("name")` and `Fn("name").call` name it.
fn list_unreadable_words(code: &str) -> impl Iterator<Item = &'static str> {
    UNREADABLE_WORDS.into_iter().filter(|word| {
        code.match_indices(word).any(|(at, _)| {
            let (before, behind) = (&code[..at], &code[at + word.len()..]);
            let is_word =
                !before.ends_with(|c| is_part_of_word(c) || c == '"') && !behind.starts_with(is_part_of_word);
            is_word && !names_function(before, word, behind)
        })
    })
}

/// Returns whether a word of code calls a function by a name that stands there.
fn names_function(before: &str, word: &str, behind: &str) -> bool {
    let is_name = |name: &str| !name.is_empty() && name.chars().all(is_part_of_word);
    match word {
        "Fn" => behind
            .strip_prefix("(\"")
            .and_then(|rest| rest.split_once("\")"))
            .is_some_and(|(name, _)| is_name(name)),
        "call" => {
            let named = before.strip_suffix("\").").and_then(|before| before.rsplit_once("Fn(\""));
            named.is_some_and(|(_, name)| is_name(name))
        }
        _ => false,
    }
}

/// A script of a runbook, without comments and layout.
struct ReadScript {
    path: String,
    text: String,
    definitions: BTreeMap<String, Option<String>>,
    /// Its imports.
    imports: String,
    /// The names that it gives to what it imports.
    modules: Vec<String>,
}

impl ReadScript {
    /// Returns nothing where the text cannot be read.
    fn from_source(source: &Source) -> Option<Self> {
        let text = read_script_text(&source.text)?;
        let modules = list_imports(&read_code(&text)?).map(read_module_name).collect::<Option<Vec<_>>>()?;
        let (definitions, imports) = (list_definitions(&text), list_imports(&text).collect());
        Some(Self { path: source.path.clone(), text, definitions, imports, modules })
    }
}

/// Returns the imports of a script that was read.
fn list_imports(script: &str) -> impl Iterator<Item = &str> {
    let is_word = |at: usize| !script[..at].ends_with(|c| is_part_of_word(c) || c == '"');
    let imports = script.match_indices(IMPORT).filter(move |(at, _)| is_word(*at));
    imports.filter_map(|(at, _)| script[at..].split_inclusive([';', '}']).next())
}

/// Returns the name that an import gives to its module; nothing where it does not read.
fn read_module_name(import: &str) -> Option<String> {
    let (_, name) = import.trim_end_matches([';', '}']).rsplit_once("as ")?;
    (!name.is_empty() && name.chars().all(is_part_of_word)).then(|| name.to_owned())
}
