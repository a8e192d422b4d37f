//! The floor plan of `src/lib.rs`, held against the code.

use crate::{
    imports::{Modules, find_circles},
    source::{read_program, read_sources},
};
use std::collections::BTreeMap;

/// Which rooms a room may name, from the ground up. Any may name `testing`, which is built for tests only.
const ALLOWED_ARROWS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("config", &["base"]),
    ("provider", &["base", "config"]),
    ("testing", &["base", "config", "provider"]),
    ("fake", &["base", "config", "provider"]),
    ("journal", &["base"]),
    ("ops", &["base", "provider"]),
    ("runtime", &["base", "config", "provider", "journal", "ops"]),
    ("rehearsal", &["base", "config", "provider", "journal", "ops", "runtime"]),
    ("report", &["base", "provider", "journal", "ops", "runtime", "rehearsal"]),
    ("repl", &["base", "config", "ops", "runtime", "report"]),
    (
        "cli",
        &["base", "config", "provider", "fake", "journal", "ops", "runtime", "rehearsal", "report", "repl"],
    ),
];

/// Crates that only some files may use.
const CRATE_HOMES: &[(&str, &[&str])] = &[
    ("rhai", &["runtime/"]),
    ("rusqlite", &["base/sqlite.rs", "journal/", "provider/sim/"]),
    ("tokio_postgres", &["provider/postgres/"]),
    ("clap", &["cli/"]),
    ("rustyline", &["repl/"]),
    ("hyper", &["fake/", "provider/supabase/mock_api.rs"]),
    ("similar", &["report/"]),
    ("comfy_table", &["report/"]),
    ("indicatif", &["base/terminal.rs"]),
];

/// The rooms that a text names: `crate::room`, and the first words inside `use crate::{…}`.
fn named_rooms(text: &str) -> Vec<String> {
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
    let allowed: BTreeMap<_, _> = ALLOWED_ARROWS.iter().copied().collect();
    let mut wrong = vec![];
    for (place, text) in read_sources() {
        let room = place.split_once('/').map_or(place.trim_end_matches(".rs"), |(room, _)| room).to_owned();
        let Some(may) = allowed.get(room.as_str()) else {
            assert!(["lib", "main"].contains(&room.as_str()), "the room of {place} is not on the floor plan");
            continue;
        };
        for other in named_rooms(&text).into_iter().filter(|r| allowed.contains_key(r.as_str()) && *r != room)
        {
            if !may.contains(&other.as_str()) && other != "testing" {
                wrong.push(format!("{place}: {room} -> {other}"));
            }
        }
    }
    let program = read_program();
    for (from, used) in Modules::read(&program).list_arrows() {
        wrong.extend(used.iter().filter(|to| !is_room_arrow(from, to)).map(|to| format!("{from} -> {to}")));
    }
    assert!(wrong.is_empty(), "arrows that point up:\n{}", wrong.join("\n"));
}

#[test]
fn tenants_stay_at_home() {
    let mut wrong = vec![];
    for (place, text) in read_sources() {
        for (tenant, homes) in CRATE_HOMES {
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
        named_rooms("use crate::{base::{value, clock}, ops};\ncrate::journal::x"),
        ["base", "ops", "journal"]
    );
}

fn is_room_arrow(from: &str, to: &str) -> bool {
    let room_of = |path: &str| path.split(['/', '.']).next().unwrap().to_owned();
    let (from, to) = (room_of(from), room_of(to));
    let allowed = ALLOWED_ARROWS.iter().find(|(room, _)| *room == from);
    from == to || allowed.is_none_or(|(_, may)| may.contains(&to.as_str()))
}

#[test]
fn an_arrow_up_is_seen() {
    assert!(is_room_arrow("ops/backup.rs", "provider/mod.rs") && is_room_arrow("main.rs", "cli/mod.rs"));
    assert!(!is_room_arrow("config.rs", "cli/mod.rs") && !is_room_arrow("journal/run.rs", "runtime/mod.rs"));
    assert!(is_provider_arrow("provider/postgres/sql/mod.rs", "provider/sql/values.rs"));
    assert!(!is_provider_arrow("provider/supabase/dump/mod.rs", "provider/postgres/lab/mod.rs"));
    assert!(!is_provider_arrow("provider/mod.rs", "provider/fleet.rs"));
}

#[test]
fn no_files_go_in_a_circle() {
    let program = read_program();
    let circles = find_circles(&Modules::read(&program).list_arrows());
    let shown: Vec<String> =
        circles.iter().map(|circle| circle.iter().copied().collect::<Vec<_>>().join("\n  ")).collect();
    assert!(circles.is_empty(), "circles of files:\n  {}", shown.join("\n\n  "));
}

/// What a part of the room `provider` may name of its neighbours: the waist stands below all, the fleet above.
const PROVIDER_ARROWS: &[(&str, &[&str])] = &[
    ("host", &[]),
    ("sql", &[]),
    ("sim", &["sql"]),
    ("postgres", &["host", "sql"]),
    ("supabase", &["host", "sql"]),
    ("fleet", &["sim", "postgres", "supabase"]),
];

#[test]
fn no_provider_names_another() {
    let program = read_program();
    let mut wrong = vec![];
    for (from, used) in Modules::read(&program).list_arrows() {
        wrong.extend(
            used.iter().filter(|to| !is_provider_arrow(from, to)).map(|to| format!("{from} -> {to}")),
        );
    }
    assert!(wrong.is_empty(), "arrows that the table does not have:\n{}", wrong.join("\n"));
}

fn is_provider_arrow(from: &str, to: &str) -> bool {
    let part_of = |path: &str| {
        let name = path.strip_prefix("provider/")?.split(['/', '.']).next()?;
        PROVIDER_ARROWS.iter().find(|(part, _)| *part == name)
    };
    match (part_of(from), part_of(to)) {
        (_, None) => true,
        (None, Some(_)) => !from.starts_with("provider/"),
        (Some((part, may)), Some((other, _))) => part == other || may.contains(other),
    }
}
