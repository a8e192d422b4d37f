//! `approve` and `reject`: what a person says to a run that waits for it.

use super::{
    asking::person,
    exit,
    run::{How, ResumeRun, journal},
};
use crate::{
    base::terminal,
    journal::{Durability, Journal, Past, Record},
    runtime::{World, gate::APPROVE},
    show::{Trouble, timeline},
};
use serde_json::json;

/// `approve` and `reject`.
#[derive(Debug, clap::Args)]
pub(super) struct Approve {
    /// The run: its id, the beginning of it, or `last`
    run: String,
    /// The gate, or a part of its name; needed where the run waits at several
    gate: Option<String>,
    /// Go on with the run at once
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    how: How,
}

impl Approve {
    /// Records what was decided, and goes on with the run where that is wanted.
    ///
    /// # Errors
    /// The run waits for no approval, or at several gates.
    pub(super) fn perform(self, world: &World, approves: bool) -> Result<u8, Trouble> {
        let journal = journal(world)?;
        let id = journal.resolve(&self.run)?;
        let by = person();
        let gate = decide(&journal, &id, self.gate.as_deref(), approves, &by)?;
        drop(journal);
        let said = if approves { "approved" } else { "rejected" };
        terminal::say(&format!("{by} {said} {gate}"));
        if self.resume {
            return Ok(ResumeRun::of(id, self.how).perform(world));
        }
        terminal::say(&format!("redrill resume {id}"));
        Ok(0)
    }
}

fn decide(
    journal: &Journal,
    id: &str,
    given: Option<&str>,
    approves: bool,
    by: &str,
) -> Result<String, Trouble> {
    let run = journal.take(id)?;
    let open = timeline::open(&journal.records(id)?).into_iter().filter(|call| call.op == APPROVE);
    let waits = |past: Past| match past {
        Past::Begun { accepted: Some(covers), decision: None, .. } => {
            covers["hash"].as_str().map(str::to_owned)
        }
        _ => None,
    };
    let mut gates: Vec<(String, String)> =
        open.filter_map(|call| waits(run.past(&call.name)).map(|hash| (call.name, hash))).collect();
    let is_exact = gates.iter().any(|(name, _)| given == Some(name));
    gates.retain(|(name, _)| given.is_none_or(|part| name == part || !is_exact && name.contains(part)));
    let [(gate, hash)] = &gates[..] else {
        let trouble = Trouble::usage(match gates.len() {
            0 => format!("the run `{id}` waits for no approval"),
            n => format!("the run `{id}` waits for {n} approvals"),
        })
        .next(format!("redrill runs show {id}"));
        let names: Vec<String> = gates.iter().map(|(name, _)| exit::quoted(name)).collect();
        return Err(if names.is_empty() {
            trouble
        } else {
            trouble.hint(format!("name one: {}", names.join(", ")))
        });
    };
    let kind = if approves { "approve" } else { "reject" };
    let decision = json!({"kind": kind, "hash": hash, "by": by});
    run.append(Record::Decided { call: gate.clone(), decision, by: by.to_owned() }, Durability::Now)?;
    Ok(gate.clone())
}
