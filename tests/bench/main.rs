//! What redrill costs, against floors measured in the same run: `cargo bench --bench costs`.
//!
//! Words after `--` choose parts; `REDRILL_BENCH_ROUNDS` says how often each is measured, and
//! `REDRILL_BENCH_FOLDER` on which disk. Nothing here fails because something was slow.

mod bare;
mod bench_env;
mod durable;
mod measure;
mod process;
mod projects;
mod rehearse;
mod replay;
mod restore;

use redrill::base::terminal;
use std::env;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Measures one part, so many rounds.
type Part = fn(usize) -> Result<()>;

const PARTS: &[(&str, Part)] = &[
    ("process", process::measure_process),
    ("durable", durable::measure_durability),
    ("replay", replay::measure_replay),
    ("restore", restore::measure_restore),
    ("rehearse", rehearse::measure_rehearsal),
    ("projects", projects::measure_projects),
];
const DEFAULT_ROUNDS: usize = 7;

fn main() -> Result<()> {
    let rounds = env::var("REDRILL_BENCH_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(DEFAULT_ROUNDS);
    let chosen: Vec<String> = env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    terminal::print_message(&format!("{rounds} rounds; load {}", read_load()));
    measure::print_header();
    for (name, part) in PARTS {
        if chosen.is_empty() || chosen.iter().any(|word| word == name) {
            part(rounds)?;
        }
    }
    terminal::print_message(&format!("load {}", read_load()));
    Ok(())
}

/// Returns how busy the machine was in the last minutes.
fn read_load() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().into()
}
