//! `runs`: what there is of runs, and what a person can decide about one.

use super::{
    asking::{Asking, person},
    ending::{Shown, conclude},
    exit,
    ops::seen,
    run::{find, journal},
};
use crate::{
    base::{terminal, value},
    journal::{Durability, Entry, Past, Record, Status, Summary},
    ops::{
        self,
        args::Args,
        spec::{Op, Returns},
    },
    runtime::{Resume, SESSION, World, gate::APPROVE},
    show::{self, Format, Trouble, timeline, trouble},
};
use clap::{Subcommand, ValueEnum};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// `runs`.
#[derive(Debug, Subcommand)]
pub(super) enum Runs {
    /// List every run, newest first
    List {
        /// How they are written
        #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
        output: Format,
    },
    /// Show what happened in a run
    Show {
        /// The run: its id, the beginning of it, or `last`
        run: String,
        /// As text, or every record as JSON
        #[arg(short, long, value_enum, default_value = "text", value_name = "FORMAT")]
        output: Shown,
    },
    /// Decide about a call of which nobody knows whether it took effect
    Decide {
        /// The run
        run: String,
        /// The call, or a part of its name that only one open call has
        call: String,
        /// What is so
        decision: Decision,
        /// What the call made, when it is done: read back by its id
        #[arg(long, value_name = "ID", conflicts_with = "result")]
        id: Option<String>,
        /// What the call gave back, when it is done
        #[arg(long, value_name = "JSON")]
        result: Option<String>,
    },
    /// Give a run up: settle what was begun, clean up, begin nothing
    Abandon {
        /// The run
        run: String,
        /// Leave everything as it is, where its targets are gone or are others now: only write down what is open
        #[arg(long)]
        leave: bool,
        /// How it is shown
        #[arg(short, long, value_enum, default_value = "text", value_name = "FORMAT")]
        output: Shown,
    },
    /// Check that a run is what was written down
    Verify {
        /// The run
        run: String,
        /// A head that was printed or noted, of which the run must be a continuation
        #[arg(long, value_name = "HASH")]
        head: Option<String>,
        /// How the answer is written
        #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
        output: Format,
    },
}

/// What a person decides about a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Decision {
    /// It did not take effect, and is made again
    Redo,
    /// It failed
    Fail,
    /// It took effect: it made `--id`, or gave back `--result`
    Done,
}

const COLUMNS: &[&str] = &["id", "runbook", "status", "started_at", "finished_at", "calls", "left_behind"];

impl Runs {
    /// Does it.
    pub(super) fn perform(&self, world: &World) -> Result<u8, Trouble> {
        match self {
            Runs::List { output } => list(world, *output),
            Runs::Show { run, output } => show(world, run, *output),
            Runs::Decide { run, call, decision, id, result } => {
                let outcome = decision.outcome(id.as_deref(), result.as_deref())?;
                decide(world, run, call, &outcome)
            }
            Runs::Abandon { run, leave: true, .. } => leave(world, run),
            Runs::Abandon { run, output, .. } => abandon(world, run, *output),
            Runs::Verify { run, head, output } => verify(world, run, head.as_deref(), *output),
        }
    }
}

fn list(world: &World, output: Format) -> Result<u8, Trouble> {
    let runs = world.peek()?.map(|journal| journal.runs()).transpose()?.unwrap_or_default();
    let columns: Vec<String> = COLUMNS.iter().map(|&c| c.to_owned()).collect();
    let mut rows: Vec<Value> = runs.iter().map(summary).collect();
    if output == Format::Table {
        for (row, run) in rows.iter_mut().zip(&runs) {
            drop(row.as_object_mut().and_then(|row| row.remove("reason")));
            row["started_at"] = show::to_the_second(run.started_at).into();
            row["finished_at"] = run.finished_at.map(show::to_the_second).into();
        }
    }
    exit::write(&rows.into(), &columns, output)?;
    if output == Format::Table {
        for (run, reason) in runs.iter().filter_map(|run| run.reason.as_ref().map(|reason| (run, reason))) {
            let line = reason.lines().next().unwrap_or_default();
            terminal::say(&format!("{} is {}: {line}", run.id, run.status));
        }
    }
    Ok(0)
}

fn summary(run: &Summary) -> Value {
    json!({
        "id": run.id, "runbook": run.runbook, "status": run.status, "started_at": run.started_at.to_string(),
        "finished_at": run.finished_at.map(|at| at.to_string()), "calls": run.calls, "left_behind": run.left_behind,
        "reason": run.reason,
    })
}

fn show(world: &World, given: &str, output: Shown) -> Result<u8, Trouble> {
    let summary_of = find(world, given)?;
    let entries = journal(world)?.records(&summary_of.id)?;
    match output {
        Shown::Text => terminal::out(&timeline::timeline(&summary_of, &entries)),
        Shown::Json => {
            let mut shown = summary(&summary_of);
            shown["title"] = summary_of.title.as_str().into();
            shown["error"] = json!(summary_of.error.as_ref().map(value::plain));
            shown["params"] = value::plain(&summary_of.params);
            shown["records"] = entries.iter().map(timeline::plain).collect();
            terminal::out(&shown.to_string());
        }
    }
    Ok(0)
}

/// A decision, and what a call that is done came to.
enum Outcome<'a> {
    Redo,
    Fail,
    Made(&'a str),
    GaveBack(&'a str),
}

impl Decision {
    fn outcome<'a>(self, id: Option<&'a str>, result: Option<&'a str>) -> Result<Outcome<'a>, Trouble> {
        match (self, id, result) {
            (Decision::Redo, None, None) => Ok(Outcome::Redo),
            (Decision::Fail, None, None) => Ok(Outcome::Fail),
            (Decision::Done, Some(id), _) => Ok(Outcome::Made(id)),
            (Decision::Done, None, Some(result)) => Ok(Outcome::GaveBack(result)),
            (Decision::Done, None, None) => Err(Trouble::usage("`done` does not say what the call came to")
                .hint("add `--id` with the id of what it made, or `--result` with what it gave back")),
            _ => Err(Trouble::usage("`--id` and `--result` belong to `done`")),
        }
    }
}

fn decide(world: &World, given: &str, call: &str, outcome: &Outcome<'_>) -> Result<u8, Trouble> {
    let journal = journal(world)?;
    let id = journal.resolve(given)?;
    let run = journal.take(&id)?;
    let entries = journal.records(&id)?;
    let mut open = timeline::decidable(&entries);
    open.retain(|call| call.op != APPROVE);
    let named: Vec<&timeline::Call> = match open.iter().find(|c| c.name == call) {
        Some(exact) => vec![exact],
        None => open.iter().filter(|c| c.name.contains(call)).collect(),
    };
    let [one] = named[..] else {
        return Err(undecidable(&id, call, &open, named.is_empty(), &entries));
    };
    let past = run.past(&one.name);
    let args = match &past {
        Past::Begun { args, .. } => args.clone(),
        _ => Value::Null,
    };
    let mut decision = decided(world, one, &args, outcome)?;
    let known = match past {
        Past::Begun { decision: Some(held), .. } => held["error"].clone(),
        _ => Value::Null,
    };
    // What a call was held or ended with stays its error, if it is to have failed.
    if decision["kind"] == "fail" {
        decision["error"] = known;
    }
    run.append(Record::Decided { call: one.name.clone(), decision, by: person() }, Durability::Now)?;
    terminal::say(&format!("decided about {} ({}); the run goes on with", one.op, one.name));
    terminal::say(&format!("redrill resume {id}"));
    Ok(0)
}

/// Says why nobody can decide about the call that was named.
fn undecidable(id: &str, call: &str, open: &[timeline::Call], is_none: bool, entries: &[Entry]) -> Trouble {
    // Of a call that was cut short the world can still be asked; only what it could not tell is for a person to say.
    if is_none
        && let Some(cut) = timeline::open(entries).iter().find(|c| c.op != APPROVE && c.name.contains(call))
    {
        let what = format!("the call `{}` was cut short, and nobody has asked what came of it", cut.name);
        return Trouble::usage(what).hint("a resume asks the world").next(format!("redrill resume {id}"));
    }
    let known: Vec<String> = open.iter().map(|c| exit::quoted(&c.name)).collect();
    let what = if is_none { "no open call" } else { "more than one open call" };
    let hint = if known.is_empty() {
        "nothing in it is open".into()
    } else {
        format!("open are {}", known.join(", "))
    };
    Trouble::usage(format!("the run `{id}` has {what} `{call}`")).hint(hint)
}

/// Returns the decision as it is recorded, its result checked against what the operation gives back.
fn decided(
    world: &World,
    call: &timeline::Call,
    args: &Value,
    outcome: &Outcome<'_>,
) -> Result<Value, Trouble> {
    let result = match outcome {
        Outcome::Redo => return Ok(json!({"kind": "redo"})),
        Outcome::Fail => return Ok(json!({"kind": "fail"})),
        Outcome::Made(id) => read_back(world, call, &args["target"], id)?,
        Outcome::GaveBack(result) => {
            serde_json::from_str(result).map_err(|e| Trouble::usage(format!("`--result` is no JSON: {e}")))?
        }
    };
    if let Some(op) = ops::find(&call.op) {
        check_result(op, &result)?;
    }
    Ok(json!({"kind": "done", "result": result}))
}

/// Reads back what a call made, as it is in the world now.
fn read_back(world: &World, call: &timeline::Call, target: &Value, id: &str) -> Result<Value, Trouble> {
    let lister = ops::find(&call.op).and_then(Op::lister).ok_or_else(|| {
        Trouble::usage(format!("`{}` makes nothing that has an id", call.op))
            .hint("give what it gave back with `--result`")
    })?;
    let args = Args::decode(lister, vec![target.clone()], Map::new()).map_err(Trouble::of_look)?;
    let (all, _) = seen(world, lister, &args)?;
    let is_it = |item: &&Value| value::untag(item).map_or(*item, |(_, inner)| inner)["id"] == id;
    let found = all.as_array().into_iter().flatten().find(is_it).cloned();
    found.ok_or_else(|| {
        let path = lister.path();
        Trouble::usage(format!("`{path}` shows nothing with the id `{id}`"))
            .hint(format!("see `redrill {}`", path.replace("::", " ")))
    })
}

fn check_result(op: &Op, result: &Value) -> Result<(), Trouble> {
    let wrong = |message: String| {
        let known: Vec<&str> = op.returns.fields().iter().map(|f| f.name).collect();
        Trouble::usage(message).hint(format!("`{}` gives back {}", op.path(), known.join(", ")))
    };
    if let Some(key) = value::check(result) {
        return Err(wrong(format!("`{key}` in `--result` is no tag")));
    }
    let items: Vec<&Value> = match (&op.returns, result) {
        (Returns::Any, _) => return Ok(()),
        (Returns::One(_), one) => vec![one],
        (Returns::List(_) | Returns::Rows, Value::Array(items)) => items.iter().collect(),
        _ => return Err(wrong("`--result` is not a list".into())),
    };
    let known = op.returns.fields();
    for item in items {
        let fields = value::untag(item).map_or(item, |(_, inner)| inner).as_object();
        let fields = fields.ok_or_else(|| wrong("`--result` is not an object".into()))?;
        let unknown = fields.keys().find(|key| !known.is_empty() && !known.iter().any(|f| f.name == *key));
        if let Some(unknown) = unknown {
            return Err(wrong(format!(
                "`--result` has `{unknown}`, which `{}` does not give back",
                op.path()
            )));
        }
        if let Some(missing) = known.iter().find(|field| !fields.contains_key(field.name)) {
            return Err(wrong(format!("`--result` lacks `{}`, and scripts read it", missing.name)));
        }
    }
    Ok(())
}

fn abandon(world: &World, given: &str, output: Shown) -> Result<u8, Trouble> {
    let summary = find(world, given)?;
    if summary.status.is_final() {
        return Err(Trouble::usage(format!("the run `{}` has ended as {}", summary.id, summary.status))
            .next(format!("redrill runs show {}", summary.id)));
    }
    Ok(conclude(world, output, Asking::only_to_approve(), &|_| Ok(()), |watch| {
        let journal = Arc::new(world.journal()?);
        // Nothing new is begun on any target: there is nothing to type a name for.
        let confirmed = world.fleet.targets().map(|target| target.name.clone()).collect();
        if summary.runbook == SESSION {
            return Ok(world.settle(journal, &summary.id, confirmed, watch)?);
        }
        let (run, runbook, params) = World::take(&journal, &summary.id)?;
        let resume = Resume { run, runbook, params, confirmed, abandon: true };
        Ok(world.resume(journal, resume, watch)?)
    }))
}

/// Gives up a run without asking the world: what it may have left is written down, by the names of its open calls.
fn leave(world: &World, given: &str) -> Result<u8, Trouble> {
    let summary = find(world, given)?;
    let journal = journal(world)?;
    let run = journal.take(&summary.id)?;
    let open = run.open_calls().into_iter().map(|call| format!("what {call} began"));
    let left_behind: Vec<String> = summary.left_behind.into_iter().chain(open).collect();
    terminal::say(&format!(
        "given up; left behind: {}",
        if left_behind.is_empty() { "nothing".to_owned() } else { left_behind.join(", ") }
    ));
    let finished = Record::Finished { status: Status::Abandoned, error: None, left_behind };
    run.append(finished, Durability::Now)?;
    journal.release(&summary.id)?;
    Ok(0)
}

fn verify(world: &World, given: &str, head: Option<&str>, output: Format) -> Result<u8, Trouble> {
    let journal = journal(world)?;
    let id = journal.resolve(given)?;
    let verified = journal.verify(&id, head).map_err(|e| Trouble::from(e).exit(trouble::FAILED))?;
    let value = json!({"run": id, "ok": true, "records": verified.records, "head": verified.head});
    exit::write(&value, &["run".into(), "ok".into(), "records".into(), "head".into()], output)?;
    Ok(0)
}
