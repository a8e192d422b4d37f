//! `run` and `resume`: a runbook from the command line to the end of its run, or to where it stops.

use super::{
    ending::{Shown, conclude, refused},
    exit,
};
use crate::{
    base::{moment::Span, terminal, value},
    journal::{Journal, Status, Summary},
    ops::spec::{Effect, Need},
    runtime::{Ended, Resume, Runbook, SESSION, Start, Watch, World, check},
    show::{Format, Trouble, took, trouble},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// How long after its last record a run that may destroy asks before it goes on.
const STALE: Span = Span::seconds(30 * 60);

/// `run`.
#[derive(Debug, clap::Args)]
pub(super) struct Run {
    /// The runbook, a `.rhai` file
    runbook: std::path::PathBuf,
    /// A parameter of the runbook
    #[arg(short, long = "param", value_name = "KEY=VALUE")]
    params: Vec<String>,
    /// Answer yes where a run asks whether to go on; never to `--confirm`
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    how: How,
}

/// `resume`.
#[derive(Debug, clap::Args)]
pub(super) struct ResumeRun {
    /// The run: its id, the beginning of it, or `last`
    run: String,
    /// Go on although the last record is old and the run may destroy something
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    how: How,
}

/// What `run` and `resume` have in common.
#[derive(Debug, clap::Args)]
struct How {
    /// Name a protected target that may be changed
    #[arg(long, value_name = "TARGET")]
    confirm: Vec<String>,
    /// How the run is shown
    #[arg(short, long, value_enum, default_value = "text", value_name = "FORMAT")]
    output: Shown,
}

impl Run {
    /// Runs a runbook.
    pub(super) fn perform(&self, world: &World) -> u8 {
        let how = &self.how;
        conclude(world, how.output, &|value| exit::write(value, &[], Format::Table), |watch| {
            let params = pairs(&self.params)?;
            let runbook = Runbook::load(&self.runbook).map_err(Trouble::from);
            let begun = runbook.and_then(|runbook| begin(world, runbook, params, &how.confirm, watch));
            begun.map_err(|trouble| match &trouble.place {
                Some(_) if trouble.next.is_none() => {
                    let file = exit::quoted(&self.runbook.display().to_string());
                    trouble.next(format!("firedrill check {file}"))
                }
                _ => trouble,
            })
        })
    }
}

/// Reads `key=value` words.
pub(super) fn pairs(words: &[String]) -> Result<BTreeMap<String, String>, Trouble> {
    let mut pairs = BTreeMap::new();
    for word in words {
        let (key, text) = word.split_once('=').ok_or_else(|| {
            Trouble::usage(format!("`{word}` is no parameter")).hint("write `-p key=value`")
        })?;
        if pairs.insert(key.to_owned(), text.to_owned()).is_some() {
            return Err(Trouble::usage(format!("the parameter `{key}` was given twice")));
        }
    }
    Ok(pairs)
}

/// Starts a runbook, after a person has typed the names of the protected targets that it may change.
pub(super) fn begin(
    world: &World,
    runbook: Runbook,
    params: BTreeMap<String, String>,
    confirm: &[String],
    watch: Arc<dyn Watch>,
) -> Result<Ended, Trouble> {
    let values = runbook.params(&params, &world.config)?;
    // What the runtime would refuse anyway is not asked about first.
    let confirmed = match check::refuses(&check::check(&runbook)) {
        Some(_) => BTreeSet::new(),
        None => confirmed(world, &runbook, &values, confirm)?,
    };
    world.start(Start { runbook, params, confirmed }, watch).map_err(Trouble::from)
}

/// Returns the protected targets whose names were given, or are typed now.
fn confirmed(
    world: &World,
    runbook: &Runbook,
    params: &Value,
    given: &[String],
) -> Result<BTreeSet<String>, Trouble> {
    let mut confirmed: BTreeSet<String> = given.iter().cloned().collect();
    for name in world.to_confirm(runbook, params) {
        if confirmed.contains(&name) {
            continue;
        }
        let refused = || {
            Trouble::usage(format!("the target `{name}` is protected, and this may change it"))
                .hint(format!("name it: `--confirm {name}`"))
                .exit(trouble::REFUSED)
                .next(again(&format!("--confirm {name}")))
        };
        if !terminal::can_ask() {
            return Err(refused());
        }
        let question = format!("`{name}` is protected, and this may change it. Type its name to go on:");
        if terminal::ask(&question)? != name {
            return Err(refused());
        }
        confirmed.insert(name);
    }
    Ok(confirmed)
}

/// Returns the command line of this process with a word more.
fn again(more: &str) -> String {
    let words = std::env::args().skip(1).map(|word| exit::quoted(&word));
    let words: Vec<_> = ["firedrill".to_owned()].into_iter().chain(words).chain([more.to_owned()]).collect();
    words.join(" ")
}

impl ResumeRun {
    /// Takes a run up again.
    pub(super) fn perform(&self, world: &World) -> u8 {
        let shown = self.how.output;
        let summary = match find(world, &self.run) {
            Ok(summary) => summary,
            Err(trouble) => return refused(shown, &trouble),
        };
        if summary.status.is_final() {
            return ended_before(&summary, shown);
        }
        conclude(world, shown, &|value| exit::write(value, &[], Format::Table), |watch| {
            if summary.runbook == SESSION {
                return Err(Trouble::usage(format!(
                    "`{}` is a session, and its process is gone",
                    summary.id
                ))
                .hint("it cannot go on; what it began can be settled, and its temporary branches removed")
                .next(format!("firedrill runs abandon {}", summary.id)));
            }
            let journal = Arc::new(world.journal()?);
            let (run, runbook, params) = World::take(&journal, &summary.id)?;
            self.ask_when_stale(
                world.clock().now().since(run.last_at()),
                &runbook.header.needs,
                &summary.id,
            )?;
            let confirmed = confirmed(world, &runbook, &params, &self.how.confirm)?;
            Ok(world.resume(journal, Resume { run, runbook, params, confirmed, abandon: false }, watch)?)
        })
    }

    /// Asks before a run goes on that may destroy something and knows the world as it was long ago.
    fn ask_when_stale(&self, age: Span, needs: &[Need], run: &str) -> Result<(), Trouble> {
        let destroys = needs.iter().find(|need| need.effect == Effect::Destroy);
        let Some(right) = destroys.filter(|_| age > STALE && !self.yes) else { return Ok(()) };
        let since = took(age.as_seconds().floor());
        let message = format!("the last record of the run is {since} old, and the run may `{right}`");
        let yes = terminal::can_ask()
            && ["y", "yes"]
                .contains(&terminal::ask(&format!("{message}. Go on? [y/N]"))?.to_lowercase().as_str());
        if yes {
            return Ok(());
        }
        Err(Trouble::usage(message)
            .hint("look at the world first; then go on with `--yes`")
            .exit(trouble::REFUSED)
            .next(format!("firedrill resume {run} --yes")))
    }
}

/// Returns the run that a person means.
pub(super) fn find(world: &World, given: &str) -> Result<Summary, Trouble> {
    let journal = journal(world)?;
    Ok(journal.summary(&journal.resolve(given)?)?)
}

/// Returns the journal, which must be there.
pub(super) fn journal(world: &World) -> Result<Journal, Trouble> {
    world.peek()?.ok_or_else(|| {
        Trouble::usage(format!("there are no runs in {}", world.config.state.display()))
            .hint("choose another state folder with `--state`")
    })
}

/// Says how a run ended that has nothing left to do; its exit code is that run's.
fn ended_before(summary: &Summary, shown: Shown) -> u8 {
    let Summary { id, status, .. } = summary;
    match shown {
        Shown::Text => {
            let when = summary.finished_at.map(|at| format!(" at {at}")).unwrap_or_default();
            let ended = if *status == Status::Abandoned { "was abandoned" } else { status.as_str() };
            terminal::say(&format!("the run {id} {ended}{when}: there is nothing to resume"));
            if *status != Status::Succeeded {
                terminal::say(&format!("firedrill runs show {id}"));
            }
        }
        Shown::Json => terminal::out(
            &json!({
                "event": "run.finished", "run": id, "status": status, "error": summary.error.as_ref().map(value::plain),
                "left_behind": summary.left_behind,
            })
            .to_string(),
        ),
    }
    if *status == Status::Succeeded { 0 } else { trouble::FAILED }
}
