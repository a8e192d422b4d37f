//! The library's own text, as the tests of the architecture read it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Returns every file below `src`, by its path there.
pub fn read_sources() -> BTreeMap<String, String> {
    read_files("src")
}

/// Returns every file of Rust below a folder of the repository, by its path there.
pub fn read_files(folder: &str) -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut paths = vec![];
    collect_files(&root, &mut paths);
    let relative = |path: &Path| path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
    paths.iter().map(|path| (relative(path), fs::read_to_string(path).unwrap())).collect()
}

/// Returns what is built into the program: no file of tests, no item under `#[cfg(test)]`, no comment, no string.
pub fn read_program() -> BTreeMap<String, String> {
    let mut sources = read_sources();
    let test_modules: Vec<String> =
        sources.iter().flat_map(|(path, text)| list_test_modules(path, text)).collect();
    sources.retain(|path, _| {
        !path.split('/').any(|part| part == "tests" || part == "tests.rs")
            && !test_modules.iter().any(|module| path.strip_suffix(".rs").unwrap().starts_with(module))
    });
    for text in sources.values_mut() {
        *text = strip_text(&strip_tests(text));
    }
    sources
}

fn collect_files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect_files(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

/// Returns the folder in which the modules that `path` declares lie.
pub fn module_folder(path: &str) -> String {
    let stem = path.strip_suffix(".rs").unwrap();
    match stem.rsplit_once('/').map_or(("", stem), |(folder, name)| (folder, name)) {
        ("", "lib" | "main") => String::new(),
        (folder, "mod") => format!("{folder}/"),
        _ => format!("{stem}/"),
    }
}

/// Returns the paths, without their endings, of the modules that `text` declares for tests only.
fn list_test_modules(path: &str, text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let declared = lines.windows(2).filter(|pair| pair[0] == "#[cfg(test)]");
    let names =
        declared.filter_map(|pair| pair[1].strip_suffix(';')?.rsplit_once("mod ").map(|(_, name)| name));
    names.map(|name| format!("{}{name}", module_folder(path))).collect()
}

/// Takes away every item under `#[cfg(test)]`. Rustfmt ends an item with a line of the same indentation.
fn strip_tests(text: &str) -> String {
    let mut kept = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            kept.push_str(line);
            kept.push('\n');
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        let is_end = |line: &str| {
            let here = line.len() - line.trim_start().len() == indent && !line.trim_start().starts_with("#[");
            here && line.ends_with(['}', ';'])
        };
        lines.by_ref().find(|line| is_end(line));
    }
    kept
}

/// Takes away comments and what stands in strings, so that only code is left.
fn strip_text(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(length) = measure_raw_string(rest) {
            length
        } else if c == '"' {
            measure_string(rest)
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\\"'") {
            rest[1..].find('\'').unwrap() + 2
        } else {
            code.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        rest = &rest[skipped..];
    }
    code
}

fn measure_string(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '"' if !is_escaped => return at + 1,
            _ => is_escaped = c == '\\' && !is_escaped,
        }
    }
    text.len()
}

fn measure_raw_string(text: &str) -> Option<usize> {
    let hashes = text.strip_prefix('r')?.chars().take_while(|c| *c == '#').count();
    let inside = text[1 + hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(2 + hashes + inside.find(&end)? + end.len())
}

#[test]
fn only_code_is_read() {
    let text = "let a = \"x // \\\" y\"; // b\nlet c = r#\"d \" e\"#; f('\"', \"g\");\n";
    assert_eq!(strip_text(text), "let a = ; \nlet c = ; f(, );\n");
    let text = "a\n#[cfg(test)]\nmod tests {\n    b\n}\n#[cfg(test)]\nuse c;\nd\n";
    assert_eq!(strip_tests(text), "a\nd\n");
}
