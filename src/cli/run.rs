//! `run` and `resume`: a runbook from the command line to the end of its run, or to where it stops.

use super::{
    asking::Asking,
    ending::{Shown, conclude, refused},
    exit, takeover,
};
use crate::{
    base::{moment::Span, terminal, value},
    journal::{Journal, Source, Status, Summary},
    ops::spec::{Effect, Need},
    runtime::{Ended, Refusal, Resume, Runbook, SESSION, Start, Stop, Watch, World, check},
    show::{Format, Trouble, difference::difference, took, trouble},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

/// How many other runs `--take-over` asks to stop, one after the other.
const RIVALS: u32 = 8;
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
    /// Go on with the runbook as it is on disk now
    #[arg(long)]
    edited: bool,
    /// Go on although the last record is old and the run may destroy something
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    how: How,
}

/// What `run` and `resume` have in common.
#[derive(Debug, clap::Args)]
pub(super) struct How {
    /// Stop and wait where a call fails, instead of cleaning up
    #[arg(long)]
    hold: bool,
    /// Ask whoever has the run or its targets to stop, and go on when they have
    #[arg(long)]
    take_over: bool,
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
        let asking = Asking::in_run(how.hold);
        conclude(world, how.output, asking, &|value| exit::write(value, &[], Format::Table), |watch| {
            let params = pairs(&self.params)?;
            let load = || Runbook::load(&self.runbook).map_err(Trouble::from);
            let begun = begin(world, load, &params, &how.confirm, how.take_over, &watch);
            begun.map_err(|trouble| match &trouble.place {
                Some(_) if trouble.next.is_none() => {
                    let file = exit::quoted(&self.runbook.display().to_string());
                    trouble.next(format!("redrill check {file}"))
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

/// Starts a runbook (and reads it again, where another run has to stop first), after a person has typed the names of the protected targets that it may change.
pub(super) fn begin(
    world: &World,
    load: impl Fn() -> Result<Runbook, Trouble>,
    params: &BTreeMap<String, String>,
    confirm: &[String],
    take_over: bool,
    watch: &Arc<dyn Watch>,
) -> Result<Ended, Trouble> {
    let runbook = load()?;
    let values = runbook.params(params, &world.config)?;
    // What the runtime would refuse anyway is not asked about first.
    let confirmed = match check::refuses(&check::check(&runbook)) {
        Some(_) => BTreeSet::new(),
        None => confirmed(world, &runbook, &values, confirm, &again)?,
    };
    let start = |runbook| {
        let (params, confirmed) = (params.clone(), confirmed.clone());
        world.start(Start { runbook, params, confirmed }, Arc::clone(watch))
    };
    let mut started = start(runbook);
    for _ in 0..if take_over { RIVALS } else { 0 } {
        let Err(Refusal::Journal(error)) = &started else { break };
        let Some(rival) = takeover::rival(error) else { break };
        takeover::ask_to_stop(&world.journal()?, rival)?;
        started = start(load()?);
    }
    started.map_err(Trouble::from)
}

/// Returns the protected targets whose names were given, or are typed now.
fn confirmed(
    world: &World,
    runbook: &Runbook,
    params: &Value,
    given: &[String],
    again: &dyn Fn(&str) -> String,
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
    let words: Vec<_> = ["redrill".to_owned()].into_iter().chain(words).chain([more.to_owned()]).collect();
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
        let asking = Asking::in_run(self.how.hold);
        conclude(world, shown, asking, &|value| exit::write(value, &[], Format::Table), |watch| {
            let mut ended = self.go_on(world, &summary, Arc::clone(&watch))?;
            for _ in 0..if self.how.take_over { RIVALS } else { 0 } {
                let (Err(Refusal::Journal(error)) | Ok(Ended { stop: Some(Stop::Leased(error)), .. })) =
                    &ended
                else {
                    break;
                };
                let Some(rival) = takeover::rival(error) else { break };
                takeover::ask_to_stop(&world.journal()?, rival)?;
                ended = self.go_on(world, &summary, Arc::clone(&watch))?;
            }
            Ok(ended?)
        })
    }

    /// Returns what `resume` with a run's id and these options is.
    pub(super) fn of(run: String, how: How) -> Self {
        Self { run, edited: false, yes: false, how }
    }

    /// Takes the run up once; the inner error is what the runtime has against it.
    fn go_on(
        &self,
        world: &World,
        summary: &Summary,
        watch: Arc<dyn Watch>,
    ) -> Result<Result<Ended, Refusal>, Trouble> {
        if summary.runbook == SESSION {
            return Err(Trouble::usage(format!("`{}` is a session, and its process is gone", summary.id))
                .hint("it cannot go on; what it began can be settled, and its temporary branches removed")
                .next(format!("redrill runs abandon {}", summary.id)));
        }
        let journal = Arc::new(world.journal()?);
        let (run, recorded, params) = takeover::take(&journal, &summary.id, self.how.take_over)?;
        // It may have ended while this process was on its way.
        if run.status().is_final() {
            return Err(Trouble::usage(format!("the run `{}` has ended as {}", run.id(), run.status()))
                .next(format!("redrill runs show {}", run.id())));
        }
        let runbook = if self.edited { edited(&summary.runbook, &recorded.sources())? } else { recorded };
        let again = |more: &str| self.again(&summary.id, more);
        let age = world.clock().now().since(run.last_at());
        self.ask_when_stale(age, &runbook.header.needs, &again)?;
        let confirmed = confirmed(world, &runbook, &params, &self.how.confirm, &again)?;
        Ok(world.resume(journal, Resume { run, runbook, params, confirmed, abandon: false }, watch))
    }

    /// Asks before a run goes on that may destroy something and knows the world as it was long ago.
    fn ask_when_stale(
        &self,
        age: Span,
        needs: &[Need],
        again: &dyn Fn(&str) -> String,
    ) -> Result<(), Trouble> {
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
            .next(again("--yes")))
    }

    /// Returns the command that resumes the run in the same way with a word more, whatever command this one is: what
    /// an `approve --resume` has approved is not approved again.
    fn again(&self, run: &str, more: &str) -> String {
        let How { hold, take_over, confirm, output } = &self.how;
        let words = [
            ("--edited", self.edited),
            ("--yes", self.yes),
            ("--hold", *hold),
            ("--take-over", *take_over),
            ("-o json", *output == Shown::Json),
        ];
        let mut line = vec![format!("redrill resume {run}")];
        line.extend(words.iter().filter(|(_, is_given)| *is_given).map(|(word, _)| (*word).to_owned()));
        line.extend(confirm.iter().map(|target| format!("--confirm {}", exit::quoted(target))));
        line.push(more.to_owned());
        line.join(" ")
    }
}

/// Reads a runbook as it is now, and shows in what it differs from the recorded one.
fn edited(path: &str, recorded: &[Source]) -> Result<Runbook, Trouble> {
    let runbook = Runbook::load(Path::new(path))?;
    match difference(recorded, &runbook.sources()) {
        Some(difference) => terminal::say(&difference),
        None => terminal::say("the runbook is the one that was recorded"),
    }
    Ok(runbook)
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
                terminal::say(&format!("redrill runs show {id}"));
            }
        }
        Shown::Json => terminal::out(
            &json!({
                "event": "run.finished", "run": id, "status": status, "error": summary.error.as_ref().map(error_of),
                "left_behind": summary.left_behind,
            })
            .to_string(),
        ),
    }
    if *status == Status::Succeeded { 0 } else { trouble::FAILED }
}

/// Returns a recorded error as the run's own last line had it: where it happened is a field of it.
fn error_of(recorded: &Value) -> Value {
    let plain = value::plain(recorded);
    let mut error = plain["fault"].clone();
    if !error.is_object() {
        return plain;
    }
    error["place"] = plain["place"].clone();
    error
}
