//! Which file uses which: read from paths, as the compiler follows them.
//!
//! A file's `mod x;` is no arrow, and neither is a `pub use`, which hands a name on: whoever takes the name from there
//! uses the file that defines it.

use crate::source::module_folder;
use std::collections::{BTreeMap, BTreeSet};

/// The modules of the program, by their paths: `provider::sim::world`.
pub struct Modules<'a> {
    /// The file of each module.
    files: BTreeMap<Vec<&'a str>, &'a str>,
    /// What each module hands on: the name, and the path that it stands for.
    exports: BTreeMap<Vec<&'a str>, BTreeMap<&'a str, Vec<&'a str>>>,
    program: &'a BTreeMap<String, String>,
}

impl<'a> Modules<'a> {
    /// Reads the modules out of a program's text.
    pub fn read(program: &'a BTreeMap<String, String>) -> Self {
        let files = program.keys().map(|path| (module_path(path), path.as_str())).collect();
        let mut modules = Modules { files, exports: BTreeMap::new(), program };
        for (path, text) in program {
            let module = module_path(path);
            let handed_on = list_uses(text).into_iter().filter(|item| item.is_public);
            let names = handed_on
                .filter_map(|item| Some((item.name, modules.make_absolute(&module, &item.path)?)))
                .collect();
            modules.exports.insert(module, names);
        }
        modules
    }

    /// Returns every arrow: a file, and the files that it uses.
    pub fn list_arrows(&self) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
        self.program.iter().map(|(path, text)| (path.as_str(), self.find_used(path, text))).collect()
    }

    fn find_used(&self, file: &'a str, text: &'a str) -> BTreeSet<&'a str> {
        let module = module_path(file);
        let uses = list_uses(text);
        let imported: BTreeMap<_, _> = uses.iter().map(|item| (item.name, &item.path)).collect();
        let code = strip_uses(text);
        let written = list_paths(&code).into_iter().map(|path| match imported.get(path[0]) {
            Some(whole) => whole.iter().copied().chain(path[1..].iter().copied()).collect(),
            None => path,
        });
        let own = uses.iter().filter(|item| !item.is_public).map(|item| item.path.clone());
        let all: Vec<Vec<&str>> = own.chain(written).collect();
        let targets = all.iter().filter_map(|path| self.resolve(&self.make_absolute(&module, path)?, 0));
        targets.filter(|target| *target != file).collect()
    }

    /// Returns a path from the crate's root; nothing for a path into another crate.
    fn make_absolute<'p>(&self, module: &[&'p str], path: &[&'p str]) -> Option<Vec<&'p str>> {
        let ups = path.iter().take_while(|part| **part == "super").count();
        match path[0] {
            "crate" => Some(path[1..].to_vec()),
            "self" => Some([module, &path[1..]].concat()),
            "super" => Some([module.get(..module.len().checked_sub(ups)?)?, &path[ups..]].concat()),
            child if self.files.contains_key([module, &[child]].concat().as_slice()) => {
                Some([module, path].concat())
            }
            _ => None,
        }
    }

    /// Returns the file that defines what a path names.
    fn resolve(&self, path: &[&str], depth: u32) -> Option<&'a str> {
        let length = (0..=path.len()).rev().find(|length| self.files.contains_key(&path[..*length]))?;
        let (module, rest) = path.split_at(length);
        let handed_on = rest.first().and_then(|name| self.exports.get(module)?.get(name));
        match handed_on {
            Some(target) if depth < 8 => self.resolve(&[target, &rest[1..]].concat(), depth + 1),
            _ => self.files.get(module).copied(),
        }
    }
}

/// Returns the circles of a graph: every set of files in which each leads to each.
pub fn find_circles<'a>(arrows: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> Vec<BTreeSet<&'a str>> {
    let reached: BTreeMap<_, _> = arrows.keys().map(|file| (*file, list_reachable(arrows, file))).collect();
    let circle_of = |file: &&'a str| -> BTreeSet<&'a str> {
        reached[file].iter().filter(|other| reached[*other].contains(file)).copied().collect()
    };
    let circles: BTreeSet<_> = arrows.keys().map(circle_of).filter(|circle| circle.len() > 1).collect();
    circles.into_iter().collect()
}

fn list_reachable<'a>(arrows: &BTreeMap<&'a str, BTreeSet<&'a str>>, from: &'a str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut ahead: Vec<&str> = vec![from];
    while let Some(file) = ahead.pop() {
        ahead.extend(arrows[file].iter().filter(|next| reached.insert(**next)));
    }
    reached
}

/// Returns the path of the module that a file is.
fn module_path(file: &str) -> Vec<&str> {
    let stem = file.strip_suffix(".rs").unwrap();
    let stem = stem.strip_suffix("/mod").unwrap_or(stem);
    if ["lib", "main"].contains(&stem) { vec![] } else { stem.split('/').collect() }
}

/// One name that a `use` brings in.
#[derive(Debug, PartialEq)]
struct Use<'a> {
    path: Vec<&'a str>,
    /// The name it has here.
    name: &'a str,
    is_public: bool,
}

/// Returns where each `use` begins, where its tree begins and where it ends.
fn find_uses(text: &str) -> Vec<(usize, usize, usize)> {
    let words = text.match_indices("use ").filter(|(at, _)| {
        let line = text[..*at].rsplit('\n').next().unwrap().trim_start();
        line.is_empty() || (line.starts_with("pub") && line.ends_with(' '))
    });
    words.map(|(at, word)| (at, at + word.len(), at + text[at..].find(';').unwrap_or(0))).collect()
}

fn list_uses(text: &str) -> Vec<Use<'_>> {
    let mut all = vec![];
    for (at, tree, end) in find_uses(text) {
        let is_public = text[..at].rsplit('\n').next().unwrap().trim_start().starts_with("pub");
        expand_tree(&text[tree..end], &[], is_public, &mut all);
    }
    all
}

/// Takes away each `use`, and who may see an item: `pub(in a::b)` uses nothing of `b`.
fn strip_uses(text: &str) -> String {
    let mut code = String::new();
    let mut from = 0;
    for (at, _, end) in find_uses(text) {
        code.push_str(&text[from..at]);
        from = end;
    }
    code.push_str(&text[from..]);
    let mut parts = code.split("pub(in ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |code, part| code + part.split_once(')').map_or(part, |(_, rest)| rest))
}

/// Writes `a::{b, c::d as e}` as one [`Use`] a name.
fn expand_tree<'a>(tree: &'a str, before: &[&'a str], is_public: bool, into: &mut Vec<Use<'a>>) {
    let tree = tree.trim();
    if let Some(group) = tree.strip_prefix('{').and_then(|group| group.strip_suffix('}')) {
        for part in split_group(group) {
            expand_tree(part, before, is_public, into);
        }
    } else if let Some((head, tail)) = tree.split_once("::") {
        expand_tree(tail, &[before, &[head.trim()]].concat(), is_public, into);
    } else if !tree.is_empty() {
        let (own, name) =
            tree.split_once(" as ").map_or((tree, tree), |(own, name)| (own.trim(), name.trim()));
        let path = if own == "self" { before.to_vec() } else { [before, &[own]].concat() };
        let name = if name == "self" { path[path.len() - 1] } else { name };
        into.push(Use { path, name, is_public });
    }
}

/// Splits at the commas that stand in no braces.
fn split_group(group: &str) -> Vec<&str> {
    let mut depth = 0;
    group
        .split(|c| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            c == ',' && depth == 0
        })
        .collect()
}

/// Returns every `a::b::c` of a text.
fn list_paths(text: &str) -> Vec<Vec<&str>> {
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let words = text.split(|c| !is_path(c)).filter(|word| word.contains("::") && !word.starts_with("::"));
    words
        .map(|word| word.split("::").filter(|part| !part.is_empty()).collect::<Vec<_>>())
        .filter(|path| !path.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let program = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        let modules = Modules::read(&program);
        let circles = find_circles(&modules.list_arrows());
        circles.into_iter().map(|circle| circle.into_iter().map(str::to_owned).collect()).collect()
    }

    #[test]
    fn a_circle_is_found_through_whatever_leads_round() {
        let round = [vec!["a/b.rs".to_owned(), "a/c.rs".to_owned()]];
        assert_eq!(
            find(&[("a/b.rs", "use super::c::{D, E};"), ("a/c.rs", "fn f() { crate::a::b::g() }")]),
            round
        );
        assert_eq!(find(&[("a/b.rs", "use super::c; "), ("a/c.rs", "use super::b as x;")]), round);
        let handed_on = ("a/mod.rs", "mod b;\npub use b::T;\npub(super) use c::U;");
        assert_eq!(find(&[handed_on, ("a/b.rs", "use super::U;"), ("a/c.rs", "use crate::a::T;")]), round);
        let imported = ("a/b.rs", "use super::x;\nfn f() { x::g() }");
        assert_eq!(
            find(&[("a/mod.rs", "pub use c as x;"), imported, ("a/c.rs", "use super::b::{self, h};")]),
            round
        );
    }

    #[test]
    fn a_parent_that_uses_its_child_is_one_when_the_child_uses_the_parent() {
        let parent = ("a.rs", "mod b;\nfn f() { b::g() }");
        assert_eq!(find(&[parent, ("a/b.rs", "use super::f;")]).len(), 1);
        assert_eq!(find(&[parent, ("a/b.rs", "use std::fs;")]).len(), 0);
        assert_eq!(find(&[("a.rs", "mod b;\npub use b::g;"), ("a/b.rs", "use super::f;")]).len(), 0);
    }

    #[test]
    fn folders_of_modules() {
        assert_eq!(module_folder("a/mod.rs"), "a/");
        assert_eq!(module_folder("a/b.rs"), "a/b/");
        assert_eq!(module_folder("lib.rs"), "");
    }
}
