//! What to type next about a run: made here and nowhere else, from what is recorded of it.

use super::{record_age::RecordAge, standing::list_decided_gates};
use crate::{
    base::shell::{
        CommandOption, add_given_options_to_quoted_commands, add_missing_options, quote_shell_word,
    },
    journal::{self, EDIT_GATE, FoldedCall, Holder, Journal, RunFold, RunStatus, RunSummary},
    ops::{
        self,
        spec::{Evidence, parse_target_ref},
    },
    runtime::{
        NeverMadeAgain, Refusal, Runbook, Runtime, SESSION, is_gate, is_gone_past, list_awaited_gates,
    },
};

/// The jobs that a platform without keys lists, and of which its list does not say which is whose.
const UNTRACED: [&str; 2] = ["branch::reset", "branch::promote"];

/// The beginning of the command that shows a run, and does nothing.
const SHOW: &str = "redrill runs show ";

/// The command that brings a run on, and what else can be typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextStep {
    pub command: String,
    pub hint: Option<String>,
    /// Whether it approves: the run waits at a gate, and nobody has said no to another one.
    pub is_approval: bool,
}

impl NextStep {
    fn with_command(command: String) -> Self {
        Self { command, hint: None, is_approval: false }
    }

    /// Adds the options without which a command that acts is refused in this state folder: it is a copy, say.
    fn with_state_folder_consent(mut self, journal: &Journal) -> Result<Self, journal::Error> {
        let Some(refusal) = journal.find_refusal_to_act()? else { return Ok(self) };
        let options: Vec<_> =
            refusal.consent_options().iter().map(|&name| CommandOption { name, word: None }).collect();
        if !self.command.starts_with(SHOW) {
            self.command = add_missing_options(&self.command, &options);
        }
        self.hint = self.hint.map(|hint| add_given_options_to_quoted_commands(&hint, &options));
        Ok(self)
    }
}

/// Returns what to type next about a run, with everything that the command needs. Where its records do not say, it is the
/// command that shows them.
pub fn find_next_step(runtime: &Runtime, run: &str) -> NextStep {
    let read = || -> Result<Option<NextStep>, Refusal> {
        let Some(journal) = runtime.open_existing_journal()? else { return Ok(None) };
        Ok(Some(step_from_journal(runtime, &journal, run)?.with_state_folder_consent(&journal)?))
    };
    read().ok().flatten().unwrap_or_else(|| NextStep::with_command(format!("{SHOW}{run}")))
}

fn step_from_journal(runtime: &Runtime, journal: &Journal, run: &str) -> Result<NextStep, journal::Error> {
    let summary = journal.summarize_run(run)?;
    let (entries, wrong) = journal.read_intact_records(run)?;
    if let Some(step) = wrong.as_ref().filter(|_| !summary.status.is_final()).and_then(step_from_broken) {
        return Ok(step);
    }
    let (fold, _) = RunFold::fold_until_illegal(&entries);
    let consent = write_consent_options(runtime, run);
    Ok(match step_beyond_looking(journal, &summary, &fold, &consent)? {
        Some(step) => step,
        None => step_from_records(&summary, is_under_way(journal, &summary), &fold, &consent),
    })
}

/// Returns whether another process goes on with a run: nobody else brings it on meanwhile.
fn is_under_way(journal: &Journal, summary: &RunSummary) -> bool {
    let is_other = |holder: &Holder| *holder != Holder::this_process();
    summary.status == RunStatus::Running && journal.find_holder(&summary.id).as_ref().is_none_or(is_other)
}

fn step_from_records(summary: &RunSummary, is_under_way: bool, fold: &RunFold, consent: &str) -> NextStep {
    let run = &summary.id;
    if summary.status.is_final() || is_under_way {
        return NextStep::with_command(format!("{SHOW}{run}"));
    }
    if fold.is_stopped_at_mismatch() {
        return step_at_mismatch(summary, fold, consent);
    }
    // Nobody asks a session, or a run that is given up and not at its clean-up yet, about anything that it would go on with.
    if summary.runbook == SESSION || is_given_up_before_its_end(fold) {
        return NextStep::with_command(render_going_on(summary, fold, consent));
    }
    // Whoever has said no is given no other approval to type: the run goes by the no first.
    let is_rejected = list_decided_gates(fold).iter().any(|gate| gate.find_rejecter().is_some());
    let gate = || step_at_gate(run, fold, consent).filter(|_| summary.status == RunStatus::Waiting);
    // A held call stays one where the run stopped for another reason since, and would be stopped at again. Where it is not
    // known what came of another one, the run looks for that first; and with a gate that was approved it goes on behind that.
    let goes_on_first = summary.status == RunStatus::Undecided || !list_decided_gates(fold).is_empty();
    let held = || step_at_held_call(run, fold, consent).filter(|_| !goes_on_first);
    let step = if is_rejected { None } else { gate().or_else(held) };
    step.unwrap_or_else(|| NextStep::with_command(render_going_on(summary, fold, consent)))
}

/// Returns the command that goes on with a run as it was gone on with last, with what that needs: nobody is given a line that
/// carries forward what somebody has given up.
pub fn write_command_to_go_on(runtime: &Runtime, run: &str) -> String {
    let consent = write_consent_options(runtime, run);
    let read = || -> Result<Option<String>, Refusal> {
        let Some(journal) = runtime.open_existing_journal()? else { return Ok(None) };
        let (fold, _) = RunFold::fold_until_illegal(&journal.read_intact_records(run)?.0);
        Ok(Some(render_going_on(&journal.summarize_run(run)?, &fold, &consent)))
    };
    read().ok().flatten().unwrap_or_else(|| render_resume(run, &consent))
}

fn render_going_on(summary: &RunSummary, fold: &RunFold, consent: &str) -> String {
    let run = &summary.id;
    if summary.runbook == SESSION || fold.is_given_up() {
        format!("redrill runs abandon {run}")
    } else {
        render_resume(run, consent)
    }
}

/// Returns whether a run was last taken up to be given up, and could still be carried forward.
pub fn is_given_up_before_its_end(fold: &RunFold) -> bool {
    fold.is_given_up() && !fold.is_ending()
}

pub(super) fn render_resume(run: &str, consent: &str) -> String {
    format!("redrill resume {run}{consent}")
}

pub(super) fn render_edited_resume(run: &str, consent: &str) -> String {
    format!("redrill resume {run} --edited{consent}")
}

/// Returns what to type about a run that can neither go on nor clean up.
fn step_from_broken(wrong: &journal::Error) -> Option<NextStep> {
    match wrong {
        journal::Error::Broken { run, is_linked: true, .. } => {
            Some(NextStep::with_command(format!("redrill runs abandon {run} --leave")))
        }
        journal::Error::Broken { run, is_linked: false, .. } => {
            Some(NextStep::with_command(format!("redrill runs prune {run}")))
        }
        _ => None,
    }
}

/// Returns what to type about a run that met what is not as it was recorded, and would meet it again. One that is ending,
/// or has no text, or was taken up to be given up, has met it where it is given up.
fn step_at_mismatch(summary: &RunSummary, fold: &RunFold, consent: &str) -> NextStep {
    let run = &summary.id;
    if fold.is_ending() || fold.is_given_up() || summary.runbook == SESSION {
        return NextStep {
            command: format!("redrill runs abandon {run} --leave"),
            hint: Some(hint_at_lost_cleanup(run)),
            is_approval: false,
        };
    }
    // A gate of an edition is open where it was rejected, until that edition is another one's.
    let is_rejected = fold.open_calls().any(|(_, call)| call.op == EDIT_GATE && call.decision.is_some());
    if is_rejected {
        return NextStep {
            command: format!("redrill runs abandon {run}"),
            hint: Some(hint_at_rejected_edit(run, consent, false)),
            is_approval: false,
        };
    }
    let (resume, edited) = (render_resume(run, consent), render_edited_resume(run, consent));
    NextStep {
        command: format!("redrill runs abandon {run}"),
        hint: Some(format!(
            "give it up\n      or, where its text differs, give it one that asks for all that was done: `{edited}`\n      \
             or, where a target does, bring back the one that it began with: `{resume}`"
        )),
        is_approval: false,
    }
}

/// Returns what can be typed about a run that met what is not as it was recorded.
pub(super) fn hint_at_mismatch(run: &str, consent: &str) -> String {
    let (resume, edited) = (render_resume(run, consent), render_edited_resume(run, consent));
    format!(
        "go on with the recorded source: `{resume}`\n      with the file, once it asks for what was recorded: `{edited}`\n      \
         or give it up and clean up: `redrill runs abandon {run}`"
    )
}

/// Returns what becomes of an edited text that was rejected, and what can be typed.
pub(super) fn hint_at_rejected_edit(run: &str, consent: &str, is_dropped: bool) -> String {
    let edit = format!("`{}` asks about the file as it is then", render_edited_resume(run, consent));
    if is_dropped {
        let resume = render_resume(run, consent);
        return format!(
            "the edited text is dropped, and nothing of it was done: `{resume}` goes on with the text before\n      \
             or edit it again: {edit}\n      or give the run up and clean up: `redrill runs abandon {run}`"
        );
    }
    format!(
        "something of the edited text was done before, so that it stays the text of the run, and goes no further: give the \
         run up and clean up\n      or edit it again: {edit}"
    )
}

/// Returns what to do about a run that is given up and met, in its clean-up, what is not as it was recorded.
pub(super) fn hint_at_lost_cleanup(run: &str) -> String {
    format!(
        "its clean-up cannot be done on what is another by now: end the run as it is, and read what is left behind\n      \
         or bring back what it began with, and then `redrill runs abandon {run}`"
    )
}

/// Returns what to type about a call of which nobody knows whether it was made, where looking again shows no more: the
/// journal was rolled back, or the target keeps no trace by which it could be told. While a request of it may still land
/// until a moment, only a resume waits for that. Of the decisions, `fail` makes nothing again and takes nothing for made.
fn step_beyond_looking(
    journal: &Journal,
    summary: &RunSummary,
    fold: &RunFold,
    consent: &str,
) -> Result<Option<NextStep>, journal::Error> {
    let run = &summary.id;
    let go_on = render_going_on(summary, fold, consent);
    let landings = journal.list_landing_ends(run)?;
    let untraced =
        list_untraced(summary, fold).find(|(name, _)| !matches!(landings.get(*name), Some(Some(_))));
    let (found, again) = match untraced {
        Some(found) => (
            Some(found),
            format!("the target keeps no trace of it: without that, `{go_on}` finds out nothing"),
        ),
        None => (
            fold.doubtful_undecided_calls().find(|(name, _)| !landings.contains_key(*name)),
            format!("where the target did not answer, `{go_on}` asks it again"),
        ),
    };
    let Some((name, call)) = found else { return Ok(None) };
    let decide = format!("redrill runs decide {run} {}", quote_shell_word(name));
    // Nobody knows until when it may land, and only this says that nobody waits for it.
    let anyway = if landings.contains_key(name) { " --anyway" } else { "" };
    let look = find_list_command(call)
        .map_or_else(|| "look at the target".to_owned(), |look| format!("look with `{look}`"));
    let leave = if fold.is_given_up() {
        format!("\n      or end the run as it is, without clean-up: `redrill runs abandon {run} --leave`")
    } else {
        String::new()
    };
    let redo = match NeverMadeAgain::find(fold, &summary.runbook, name) {
        None => format!("`{decide} redo{anyway}` makes it (again), "),
        Some(_) => String::new(),
    };
    Ok(Some(NextStep {
        command: format!("{decide} fail{anyway}"),
        hint: Some(format!(
            "{look}, and say what is so: {redo}`fail` fails the call as it is, and `done --id ID` or `done --result JSON` in \
             its place say that it was made; then `{go_on}`\n      {again}{leave}"
        )),
        is_approval: false,
    }))
}

/// Returns the undecided calls of which the target keeps no trace: an opaque request, and a reset or a promotion where the
/// platform has no key for it.
fn list_untraced<'a>(
    summary: &RunSummary,
    fold: &'a RunFold,
) -> impl Iterator<Item = (&'a str, &'a FoldedCall)> {
    let is_undecided = summary.status == RunStatus::Undecided;
    fold.decidable_calls()
        .filter(move |(_, call)| is_undecided && call.decision.is_none() && is_untraced(call))
}

fn is_untraced(call: &FoldedCall) -> bool {
    match call.last_accepted().map(Evidence::decode) {
        Some(Ok(Evidence::Opaque { .. })) => true,
        Some(Ok(Evidence::Job { traces, .. })) => !traces.is_null() && UNTRACED.contains(&call.op.as_str()),
        _ => false,
    }
}

/// Returns the command that lists what a call makes, if there is one.
fn find_list_command(call: &FoldedCall) -> Option<String> {
    let lister = ops::find_list_operation(ops::find_operation(&call.op)?)?;
    let place = parse_target_ref(&call.args["target"]).ok()?;
    let words = lister.path().replace("::", " ");
    Some(format!("redrill {words} -t {}", quote_shell_word(&place.to_string())))
}

/// Returns what to type about a gate that nobody has decided about: the one at which the run stopped, and of which it
/// printed the question.
fn step_at_gate(run: &str, fold: &RunFold, consent: &str) -> Option<NextStep> {
    let gates = list_awaited_gates(fold);
    let stopped_at = gates.iter().find(|gate| fold.stopped_at() == Some(gate));
    let first = stopped_at.or(gates.first())?;
    // With one gate, there is nothing to choose.
    let which = if gates.len() > 1 { format!(" {}", quote_shell_word(first)) } else { String::new() };
    Some(NextStep {
        command: format!("redrill approve {run}{which} --resume{consent}"),
        hint: Some(format!("or `redrill reject {run}{which} --resume{consent}`")),
        is_approval: true,
    })
}

/// Returns what to type about a call that is held.
fn step_at_held_call(run: &str, fold: &RunFold, consent: &str) -> Option<NextStep> {
    let is_stopped_at =
        |name: &str, call: &FoldedCall| !is_gate(&call.op) && call.is_held() && !is_gone_past(fold, name);
    let (name, _) = fold.decidable_calls().find(|(name, call)| is_stopped_at(name, call))?;
    Some(NextStep {
        command: format!("redrill runs decide {run} {} redo", quote_shell_word(name)),
        hint: Some(format!(
            "or, in place of `redo`, `fail`, `done --id ID` or `done --result JSON`; and then `{}`",
            render_resume(run, consent)
        )),
        is_approval: false,
    })
}

/// Returns the options without which a run does not go on, with a space before each: those that name the protected targets
/// which it may change, and `--yes` where its last record is so old that a person is asked.
pub fn write_consent_options(runtime: &Runtime, run: &str) -> String {
    let Some(recorded) = RecordedRunbook::read_for_run(runtime, run) else { return String::new() };
    let mut options: Vec<String> = recorded
        .list_targets_to_confirm(runtime)
        .iter()
        .map(|name| format!(" --confirm {}", quote_shell_word(name)))
        .collect();
    let age = RecordAge::of_run(runtime, recorded.summary.last_at);
    if age.right_to_ask_about(&recorded.runbook.header.needs).is_some() {
        options.push(" --yes".into());
    }
    options.concat()
}

/// Returns the protected targets that a run may change, each of which must be named to resume it. Where its text does not
/// read there are none: that keeps it from being resumed, and is said then.
pub fn list_targets_to_confirm(runtime: &Runtime, run: &str) -> Vec<String> {
    RecordedRunbook::read_for_run(runtime, run)
        .map_or_else(Vec::new, |recorded| recorded.list_targets_to_confirm(runtime))
}

/// A run with the text that it goes by.
struct RecordedRunbook {
    summary: RunSummary,
    fold: RunFold,
    runbook: Runbook,
}

impl RecordedRunbook {
    /// Reads the runbook of a run; nothing where something of it does not read.
    fn read_for_run(runtime: &Runtime, run: &str) -> Option<Self> {
        let read = || -> Result<Option<Self>, Refusal> {
            let Some(journal) = runtime.open_existing_journal()? else { return Ok(None) };
            let summary = journal.summarize_run(run)?;
            let (fold, _) = RunFold::fold_until_illegal(&journal.read_records(run)?);
            let sources = journal.read_sources(run, fold.source_edition())?;
            let runbook = Runbook::from_recorded(&summary.runbook, sources)?;
            Ok(Some(Self { summary, fold, runbook }))
        };
        read().ok().flatten()
    }

    fn list_targets_to_confirm(&self, runtime: &Runtime) -> Vec<String> {
        let come_to = self.fold.targets_come_to().map(str::to_owned);
        let params = self.fold.complete_params(&self.summary.params);
        runtime.targets_to_confirm(&self.runbook, &params, come_to)
    }
}
