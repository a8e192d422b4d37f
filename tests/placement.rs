//! Where tests live: what starts PostgreSQL is in a module named `postgres`, and so can be chosen and left out by name.

use crate::source::{read_files, read_sources};
use std::{collections::BTreeMap, fs};

/// What a test calls to start PostgreSQL, or to ask whether it may.
const STARTERS: [&str; 7] = [
    "TestCluster::start",
    "TestLab::start",
    "CliLab::start",
    "FakePlatform::start()",
    "FakePlatform::start_with_faults",
    "start_server()",
    "postgres_or_skip",
];
/// The filter of nextest that catches these modules.
const FILTER: &str = "filter = 'test(/(^|::tests::)postgres::/)'";

/// Returns the lines that start PostgreSQL outside of a module for it. What provides a starter is not asked.
fn find_misplaced(files: &BTreeMap<String, String>) -> Vec<String> {
    let mut misplaced = vec![];
    for (path, text) in
        files.iter().filter(|(path, text)| !is_postgres_module(path) && !is_provider(path, text))
    {
        let mut is_inside = false;
        for (at, line) in text.lines().enumerate() {
            is_inside |= line.trim() == "mod postgres {";
            let starts = STARTERS.iter().any(|starter| line.contains(starter));
            if starts && !is_inside && !line.trim_start().starts_with("//") {
                misplaced.push(format!("{path}:{}: {}", at + 1, line.trim()));
            }
        }
    }
    misplaced
}

fn is_postgres_module(path: &str) -> bool {
    path.ends_with("/tests/postgres.rs")
        || path.contains("/tests/postgres/")
        || path.starts_with("tests/postgres/")
}

fn is_provider(path: &str, text: &str) -> bool {
    let defines = ["TestCluster", "TestLab"].iter().any(|name| text.contains(&format!("struct {name} ")));
    defines
        || ["src/testing/", "tests/env/", "tests/placement.rs"].iter().any(|place| path.starts_with(place))
}

#[test]
fn tests_that_start_postgresql_are_in_modules_named_postgres() {
    let in_src = read_sources().into_iter().map(|(path, text)| (format!("src/{path}"), text));
    let in_tests = read_files("tests").into_iter().filter(|(path, _)| !path.starts_with("bench/"));
    let files = in_src.chain(in_tests.map(|(path, text)| (format!("tests/{path}"), text))).collect();
    let misplaced = find_misplaced(&files);
    assert!(misplaced.is_empty(), "outside of a module `postgres`:\n{}", misplaced.join("\n"));
    let modules = files.keys().filter(|path| is_postgres_module(path)).count();
    assert!(modules > 10, "only {modules} modules `postgres` were found");
}

#[test]
fn nextest_runs_few_of_them_at_a_time() {
    let config = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/.config/nextest.toml")).unwrap();
    assert_eq!(config.matches("filter = ").count(), 2);
    assert_eq!(config.matches(FILTER).count(), 2);
}

#[test]
fn a_starter_outside_of_its_module_is_found() {
    let start = "    let Some(cluster) = TestCluster::start(&[]).await else { return };\n";
    let find = |path: &str, text: &str| find_misplaced(&[(path.to_owned(), text.to_owned())].into()).len();
    assert_eq!(find("src/a/tests.rs", start), 1);
    assert_eq!(find("src/a/postgres/b.rs", start), 1);
    assert_eq!(find("src/a/tests/postgres.rs", start), 0);
    assert_eq!(find("src/a.rs", &format!("mod tests {{\n    mod postgres {{\n{start}")), 0);
    assert_eq!(find("src/testing/lab.rs", start), 0);
}
