//! How a run is seen to its end: who watches it, what is said then, its value, and the exit code.

use super::{
    asking::Asking,
    exit,
    watch::{Lines, Tree},
};
use crate::{
    base::{terminal, value},
    runtime::{Ended, Stop, Watch, World, gate::APPROVE},
    show::{Trouble, timeline, trouble},
};
use clap::ValueEnum;
use serde_json::{Value, json};
use std::sync::Arc;

/// How a run is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Shown {
    /// For people, on stderr
    Text,
    /// One JSON object a line, on stdout
    Json,
}

/// Runs something that is watched, says how it ended, writes its value, and returns the exit code.
pub(super) fn conclude(
    world: &World,
    shown: Shown,
    asking: Asking,
    write: &dyn Fn(&Value) -> Result<(), Trouble>,
    go: impl FnOnce(Arc<dyn Watch>) -> Result<Ended, Trouble>,
) -> u8 {
    let watch: Arc<dyn Watch> = match shown {
        Shown::Text => Arc::new(Tree::new(asking)),
        Shown::Json => Arc::new(Lines { asking }),
    };
    let result = go(Arc::clone(&watch));
    drop(watch);
    let ended = match result {
        Ok(ended) => ended,
        Err(trouble) => return refused(shown, &trouble),
    };
    let ink = terminal::ink();
    let trouble = Trouble::of_ended(&ended);
    match shown {
        Shown::Text => {
            if let Some(trouble) = &trouble {
                terminal::say(&trouble.body(ink));
            }
            say_end(world, &ended);
            if trouble.is_none()
                && !ended.value.is_null()
                && let Err(wrong) = write(&ended.value)
            {
                return exit::say(&wrong);
            }
        }
        Shown::Json => terminal::out(&last_line(&ended, trouble.as_ref()).to_string()),
    }
    if let Some(next) = trouble.as_ref().and_then(|t| t.next.as_ref()) {
        if shown == Shown::Json
            && let Some(trouble) = &trouble
        {
            terminal::say(&trouble.body(ink));
        }
        terminal::say(next);
    }
    trouble::of_ended(&ended)
}

/// Says why there is no run, or why it does not go on.
pub(super) fn refused(shown: Shown, trouble: &Trouble) -> u8 {
    if shown == Shown::Json {
        let place =
            trouble.place.as_ref().map(|p| json!({"file": p.file, "line": p.line, "column": p.column}));
        let error = json!({"message": trouble.message, "hint": trouble.hint, "place": place});
        terminal::out(&json!({"event": "run.refused", "error": error, "exit": trouble.exit}).to_string());
    }
    let mut trouble = trouble.clone();
    if trouble.exit != trouble::BUG {
        trouble.facts.push("nothing was done".into());
    }
    exit::say(&trouble)
}

/// Says on stderr where a run stands: status, id, head, what goes on and what is left behind.
fn say_end(world: &World, ended: &Ended) {
    let ink = terminal::ink();
    let head: String = ended.head.chars().take(16).collect();
    // What the run stopped at has been said; another branch may have been in a call when it did.
    let said = match &ended.stop {
        Some(Stop::Waiting { call, .. } | Stop::Undecided { call, .. }) => Some(call),
        _ => None,
    };
    if ended.stop.is_some() {
        for open in open_calls(world, &ended.run, said) {
            terminal::say(&format!("  goes on in the world: {open}"));
        }
    }
    if !ended.left_behind.is_empty() {
        terminal::say(&format!(
            "{} {}",
            terminal::ink().yellow("left behind:"),
            ended.left_behind.join(", ")
        ));
    }
    let status = ended.status.as_str();
    let status = if trouble::of_ended(ended) == 0 { ink.green(status) } else { ink.red(status) };
    terminal::say(&format!("{status}  run {}  head {head}", ended.run));
}

/// Returns what was begun and is not over, in words.
fn open_calls(world: &World, run: &str, said: Option<&String>) -> Vec<String> {
    let entries =
        world.peek().ok().flatten().and_then(|journal| journal.records(run).ok()).unwrap_or_default();
    // A gate is open too, and nothing goes on behind it.
    let open =
        timeline::open(&entries).into_iter().filter(|call| call.op != APPROVE && Some(&call.name) != said);
    open.map(|call| format!("{} ({})", call.op, call.name)).collect()
}

/// Returns the last line of `-o json`.
fn last_line(ended: &Ended, trouble: Option<&Trouble>) -> Value {
    let Ended { run, status, head, left_behind, .. } = ended;
    match &ended.stop {
        None => json!({
            "event": "run.finished", "run": run, "status": status, "head": head, "value": value::plain(&ended.value),
            "error": ended.failure.as_ref().map(|failure| {
                let mut error = value::plain(&failure.fault);
                error["place"] = json!(failure.place);
                error
            }),
            "cleanup": ended.cleanup, "left_behind": left_behind,
        }),
        Some(stop) => json!({
            "event": "run.stopped", "run": run, "status": status, "head": head, "reason": reason(stop),
            "message": trouble.map(|t| &t.message), "hint": trouble.and_then(|t| t.hint.as_ref()),
            "call": match stop { Stop::Undecided { call, .. } | Stop::Waiting { call, .. } => Some(call), _ => None },
            "next": trouble.and_then(|t| t.next.as_ref()), "resume": format!("redrill resume {run}"), "left_behind": left_behind,
        }),
    }
}

/// Returns the word for why a run stopped.
fn reason(stop: &Stop) -> &'static str {
    match stop {
        Stop::Interrupted => "interrupted",
        Stop::Waiting { .. } => "waiting",
        Stop::TakenOver { .. } => "taken_over",
        Stop::Undecided { .. } => "undecided",
        Stop::Mismatch { .. } => "mismatch",
        Stop::Refused { .. } => "refused",
        Stop::Leased(_) => "leased",
        Stop::Journal(_) => "journal",
        Stop::Abandoned => "abandoned",
    }
}
