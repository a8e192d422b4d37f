//! The floor plan of `src/lib.rs`, held against the code.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Which rooms a room may name, from the ground up.
const ARROWS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("config", &["base"]),
    ("provider", &["base", "config"]),
    ("fake", &["base", "config", "provider"]),
    ("journal", &["base"]),
    ("ops", &["base", "provider"]),
    ("runtime", &["base", "config", "provider", "journal", "ops"]),
    ("rehearsal", &["base", "config", "provider", "journal", "ops", "runtime"]),
    ("show", &["base", "provider", "journal", "ops", "runtime"]),
    ("repl", &["base", "config", "ops", "runtime", "show"]),
    (
        "cli",
        &["base", "config", "provider", "fake", "journal", "ops", "runtime", "rehearsal", "show", "repl"],
    ),
];

/// Crates that live in some places only.
const TENANTS: &[(&str, &[&str])] = &[
    ("rhai", &["runtime/"]),
    ("rusqlite", &["base/sqlite.rs", "journal/", "provider/sim/"]),
    ("tokio_postgres", &["provider/postgres/"]),
    ("clap", &["cli/"]),
    ("rustyline", &["repl/"]),
    ("hyper", &["fake/", "provider/supabase/stage.rs"]),
    ("similar", &["show/"]),
    ("comfy_table", &["show/"]),
    ("indicatif", &["base/terminal.rs"]),
];

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

/// Every file below `src`, by its path there.
fn files() -> BTreeMap<String, String> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = vec![];
    sources(&src, &mut paths);
    paths
        .into_iter()
        .map(|p| {
            (p.strip_prefix(&src).unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&p).unwrap())
        })
        .collect()
}

/// The rooms that a text names: `crate::room`, and the first words inside `use crate::{…}`.
fn named(text: &str) -> Vec<String> {
    let mut rooms = vec![];
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 1;
            let mut word = String::new();
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    _ if depth == 1 && (c.is_alphanumeric() || c == '_') => word.push(c),
                    _ => {}
                }
                if matches!(c, ',' | '}' | ':') && depth <= 1 && !word.is_empty() {
                    rooms.push(std::mem::take(&mut word));
                }
                if depth == 0 {
                    break;
                }
            }
        } else {
            rooms.push(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    rooms
}

#[test]
fn every_arrow_points_down() {
    let allowed: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    let mut wrong = vec![];
    for (place, text) in files() {
        let room = place.split_once('/').map_or(place.trim_end_matches(".rs"), |(room, _)| room).to_owned();
        let Some(may) = allowed.get(room.as_str()) else {
            assert!(["lib", "main"].contains(&room.as_str()), "the room of {place} is not on the floor plan");
            continue;
        };
        for other in named(&text).into_iter().filter(|r| allowed.contains_key(r.as_str()) && *r != room) {
            if !may.contains(&other.as_str()) {
                wrong.push(format!("{place}: {room} -> {other}"));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that point up:\n{}", wrong.join("\n"));
}

#[test]
fn tenants_stay_at_home() {
    let mut wrong = vec![];
    for (place, text) in files() {
        for (tenant, homes) in TENANTS {
            let uses = text.contains(&format!("{tenant}::")) || text.contains(&format!("use {tenant}"));
            if uses && !homes.iter().any(|home| place.starts_with(home)) {
                wrong.push(format!("{place} uses {tenant}, which lives in {}", homes.join(", ")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn groups_are_read_word_by_word() {
    assert_eq!(
        named("use crate::{base::{value, clock}, ops};\ncrate::journal::x"),
        ["base", "ops", "journal"]
    );
}
