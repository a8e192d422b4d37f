//! `approve` and `reject`: a person decides about an approval that a run waits for.

use super::{
    output,
    questions::current_user,
    resume::{ResumeCommand, confirm_if_stale_and_destructive, missing_target_error},
    run::{RunOptions, check_not_ended, require_journal},
    run_output::{ReportFormat, print_refusal_event},
    session::check_is_no_session,
    takeover,
};
use crate::{
    base::{shell, terminal},
    journal::{self, FoldedCall, Holder, Journal, Run, RunFold},
    report::{
        CliError, RecordAge, exit_code, find_next_step, list_targets_to_confirm, write_command_to_go_on,
    },
    runtime::{AskForTargets, LostTarget, OpenApproval, Runtime, is_gate, list_awaited_gates},
};
use serde_json::json;

/// `approve` and `reject`.
#[derive(Debug, clap::Args)]
pub(super) struct ApproveCommand {
    /// The run: its id, the beginning of it, or `last`
    run: String,
    /// The approval, or a part of its name; needed where the run waits for several
    approval: Option<String>,
    /// Resume the run at once
    #[arg(long)]
    resume: bool,
    /// With `--resume`: go on although the last record is old and the run may destroy something
    #[arg(long, requires = "resume")]
    yes: bool,
    #[command(flatten)]
    options: RunOptions,
}

impl ApproveCommand {
    /// Records the decision, and resumes the run with `--resume`; a refusal is an event, too, where JSON was asked for.
    ///
    /// # Errors
    /// The run waits for no approval, or for several and none was named; or it could not go on here afterwards.
    pub(super) fn record_decision_and_maybe_resume(
        self,
        runtime: &Runtime,
        approves: bool,
    ) -> Result<u8, CliError> {
        let is_json = self.options.output == ReportFormat::Json;
        let decided = self.record_decision(runtime, approves).inspect_err(|error| {
            if is_json {
                print_refusal_event(error);
            }
        })?;
        let next = (!self.resume).then(|| decided.find_next_command(runtime));
        if is_json {
            decided.print_event(next.as_deref());
        }
        match next {
            Some(next) => {
                output::print_next_command(&next);
                Ok(0)
            }
            None => {
                Ok(ResumeCommand::after_decision(decided.run, self.yes, self.options).resume_run(runtime))
            }
        }
    }

    /// Records the decision.
    fn record_decision(&self, runtime: &Runtime, approves: bool) -> Result<RecordedDecision, CliError> {
        let journal = require_journal(runtime)?;
        let id = journal.resolve_run_id(&self.run)?;
        let summary = journal.summarize_run(&id)?;
        check_not_ended(&id, summary.status)?;
        check_is_no_session(&journal, &summary).map_err(add_that_nothing_was_decided)?;
        let word = if approves { "approve" } else { "reject" };
        let retyped = RetypedCommand { given: self, word, journal: &journal, run: &id };
        let by = current_user();
        let (approval, waits_elsewhere) = {
            if retyped.given.options.take_over && journal.is_run_held(&id) {
                // What is refused is refused before the process that has the run is asked to stop.
                retyped.choose_approval_to_decide(runtime, &retyped.read_fold()?)?;
            }
            let run = retyped.acquire_run(runtime)?;
            let approval = retyped.choose_approval_to_decide(runtime, &run.copy_fold())?;
            retyped.check_record_is_new_enough(runtime, &run)?;
            approval.record_decision(&run, approves, &by)?;
            (approval, !list_awaited_gates(&run.copy_fold()).is_empty())
        };
        drop(journal);
        let word = if approves { "approved" } else { "rejected" };
        let before = approval.find_approver().map(|who| format!(", which {who} had approved"));
        terminal::print_message(&format!("{by} {word} {}{}", approval.name, before.unwrap_or_default()));
        // Whoever has said no is not given another approval to type: the run ends by the no, whatever else it waits for.
        let goes_by_no = !approves && waits_elsewhere;
        Ok(RecordedDecision { run: id, approval: approval.name, word, by, goes_by_no })
    }
}

/// A decision about an approval, on disk.
struct RecordedDecision {
    /// The whole id of the run.
    run: String,
    approval: String,
    /// What was decided, as the last word of a sentence.
    word: &'static str,
    by: String,
    /// Whether the run ends by a no, whatever else it waits for.
    goes_by_no: bool,
}

impl RecordedDecision {
    fn find_next_command(&self, runtime: &Runtime) -> String {
        if self.goes_by_no {
            write_command_to_go_on(runtime, &self.run)
        } else {
            find_next_step(runtime, &self.run).command
        }
    }

    /// Prints the decision as an event.
    fn print_event(&self, next: Option<&str>) {
        let Self { run, approval, word, by, .. } = self;
        let next = next.map(shell::with_location_options);
        let event = json!({
            "event": "approval.decided",
            "run": run, "approval": approval, "decision": word, "by": by, "next": next,
        });
        terminal::print_data(&event.to_string());
    }
}

/// A command that was typed about a run, and may be typed again with more.
struct RetypedCommand<'a> {
    given: &'a ApproveCommand,
    /// What it does.
    word: &'static str,
    journal: &'a Journal,
    /// The whole id of the run.
    run: &'a str,
}

impl RetypedCommand<'_> {
    /// Returns the command for an approval, with its options and `more`.
    fn render_for_approval(&self, approval: Option<&str>, more: &str) -> String {
        let ApproveCommand { resume, yes, options, .. } = self.given;
        let RunOptions { hold, take_over, confirm, output } = options;
        let words = [
            ("--resume", *resume),
            ("--yes", *yes),
            ("--hold", *hold),
            ("--take-over", *take_over),
            ("-o json", *output == ReportFormat::Json),
        ];
        let mut line = vec![format!("redrill {} {}", self.word, self.run)];
        line.extend(approval.map(shell::quote_shell_word));
        line.extend(words.iter().filter(|(_, is_given)| *is_given).map(|(word, _)| (*word).to_owned()));
        line.extend(confirm.iter().map(|target| format!("--confirm {}", shell::quote_shell_word(target))));
        line.extend(Some(more.to_owned()).filter(|more| !more.is_empty()));
        line.join(" ")
    }

    /// Returns the command as it was typed, with `more`.
    fn render_as_typed_with(&self, more: &str) -> String {
        self.render_for_approval(self.given.approval.as_deref(), more)
    }

    /// Acquires the run; with `--take-over`, from the process that has it.
    fn acquire_run(&self, runtime: &Runtime) -> Result<Run, CliError> {
        if self.given.options.take_over {
            return Ok(takeover::acquire_or_take_over_run(self.journal, self.run, true)?.0);
        }
        self.journal.acquire_run(self.run).map_err(|error| match error {
            journal::Error::Held { .. } | journal::Error::HeldByUnknown { .. } => {
                self.held_run_error(runtime, error)
            }
            error => error.into(),
        })
    }

    /// Returns the error of a run that another process has. Where that does not wait for this decision, taking the run over
    /// would be refused for want of something to decide about.
    fn held_run_error(&self, runtime: &Runtime, held: journal::Error) -> CliError {
        let error = add_that_nothing_was_decided(held.into());
        match self.read_fold().map(|fold| self.choose_approval(runtime, &fold)) {
            Ok(Ok(_)) => error.with_hint(format!(
                "decide where it waits; or have that process stop, and decide here: `{}`",
                self.render_as_typed_with("--take-over")
            )),
            _ => error,
        }
    }

    fn read_fold(&self) -> Result<RunFold, journal::Error> {
        Ok(RunFold::fold_until_illegal(&self.journal.read_records(self.run)?).0)
    }

    fn is_held_by_another(&self) -> bool {
        self.journal.is_run_held(self.run)
            && self.journal.find_holder(self.run) != Some(Holder::this_process())
    }

    /// Returns the approval to decide about, after which the run could go on here.
    ///
    /// # Errors
    /// There is no such one, or the run could not go on: see [`RetypedCommand::check_run_could_resume`].
    fn choose_approval_to_decide(&self, runtime: &Runtime, fold: &RunFold) -> Result<OpenApproval, CliError> {
        let approval = self.choose_approval(runtime, fold)?;
        self.check_run_could_resume(runtime, fold)?;
        Ok(approval)
    }

    /// Returns the approval that was named; where none was, the only one that can be decided about. What was approved, and not
    /// gone on from, can be rejected, so that a `reject` has to name one while another is waited for; what was rejected stays so.
    fn choose_approval(&self, runtime: &Runtime, fold: &RunFold) -> Result<OpenApproval, CliError> {
        let part = self.given.approval.as_deref();
        let mut asked = OpenApproval::list_asked_approvals(fold).map_err(journal::Error::from)?;
        asked.retain(|open| part.is_none_or(|part| fold.is_named(part, &open.name)));
        let (mut approvals, others): (Vec<_>, Vec<_>) =
            asked.into_iter().partition(|open| self.can_decide_about(open));
        // What a text has asked for that is not the run's any more is decided about by name, or where there is nothing else.
        let is_current = |open: &OpenApproval| open.is_awaited() || open.find_approver().is_some();
        if part.is_none() && approvals.iter().any(is_current) {
            approvals.retain(is_current);
        }
        let rejected = others.iter().find(|open| open.is_in_force && open.find_rejecter().is_some());
        if let Some(rejected) = rejected.filter(|_| !approvals.is_empty()) {
            return Err(self.rejection_beside_error(runtime, rejected, &approvals));
        }
        if approvals.len() > 1 {
            return Err(self.several_approvals_error(&approvals));
        }
        match (approvals.pop(), others.first()) {
            (Some(approval), _) => Ok(approval),
            (None, Some(other)) => Err(self.decided_approval_error(runtime, other)),
            (None, None) => Err(self.unknown_approval_error(runtime, fold)),
        }
    }

    fn rejects(&self) -> bool {
        self.word == "reject"
    }

    fn can_decide_about(&self, approval: &OpenApproval) -> bool {
        if self.rejects() { approval.find_rejecter().is_none() } else { approval.is_awaited() }
    }

    /// Returns the error of a command about an approval that was asked for, and that waits for no such decision any more. What
    /// brings the run on is a resume: it goes by what was decided, or asks anew.
    fn decided_approval_error(&self, runtime: &Runtime, approval: &OpenApproval) -> CliError {
        let OpenApproval { name, .. } = approval;
        let (what, hint) = match (approval.find_rejecter(), approval.find_approver()) {
            (Some(who), _) => (
                format!("{who} has rejected the approval `{name}`"),
                "a rejection stays one: the run goes by it once it is resumed",
            ),
            (None, Some(who)) => (
                format!("{who} has approved `{name}` already"),
                "the run goes by it once it is resumed; until then `reject` takes it back",
            ),
            (None, None) => (
                format!("the approval `{name}` was asked for by a text that is not the run's any more"),
                "it has to be asked for anew first: a resume does that",
            ),
        };
        CliError::usage(format!("{what}; nothing was decided"))
            .with_hint(hint)
            .with_next_command(write_command_to_go_on(runtime, self.run))
    }

    /// Returns the error of an approval that names none of those which stand beside a gate that was rejected: whoever types it may
    /// not know of the no, by which the run may end.
    fn rejection_beside_error(
        &self,
        runtime: &Runtime,
        rejected: &OpenApproval,
        approvals: &[OpenApproval],
    ) -> CliError {
        let who = rejected.find_rejecter().unwrap_or_default();
        CliError::usage(format!("{who} has rejected the approval `{}`; nothing was decided", rejected.name))
            .with_hint(format!(
                "the run goes by that once it is resumed; to {} one beside it all the same, name it: {}",
                self.word,
                quote_approvals(approvals)
            ))
            .with_next_command(write_command_to_go_on(runtime, self.run))
    }

    /// Returns the error of a command that says of several approvals not which one is meant.
    fn several_approvals_error(&self, approvals: &[OpenApproval]) -> CliError {
        let first = approvals.first().map(|open| open.name.as_str());
        CliError::usage(format!(
            "the run `{}` has {} approvals about which `{}` can decide; nothing was decided",
            self.run,
            approvals.len(),
            self.word
        ))
        .with_hint(format!("name one: {}", quote_approvals(approvals)))
        .with_next_command(self.render_for_approval(first, ""))
    }

    /// Returns the error of a command that names no approval which the run waits for, and says what it names instead.
    fn unknown_approval_error(&self, runtime: &Runtime, fold: &RunFold) -> CliError {
        let (id, awaited) = (self.run, list_awaited_gates(fold));
        // Whoever wanted to reject is given neither an approval to type nor what goes on with one.
        let next = match &awaited[..] {
            [first, others @ ..] if self.rejects() => {
                self.render_for_approval(Some(first.as_str()).filter(|_| !others.is_empty()), "")
            }
            [] if self.rejects() => format!("redrill runs show {id}"),
            _ => find_next_step(runtime, id).command,
        };
        let give_up = format!("to give the run up, with a clean-up: `redrill runs abandon {id}`");
        // Nobody gives up a run that a process has.
        let can_give_up = self.rejects() && awaited.is_empty() && !self.is_held_by_another();
        let hint = Some(give_up).filter(|_| can_give_up);
        let refused = |what: &str| CliError {
            hint,
            ..CliError::usage(format!("{what}; nothing was decided")).with_next_command(next)
        };
        let Some(part) = self.given.approval.as_deref().filter(|part| !part.is_empty()) else {
            return refused(&format!("the run `{id}` waits for no approval"));
        };
        let mut named: Vec<_> = fold.calls().filter(|(name, _)| fold.is_named(part, name)).collect();
        named.sort_by_key(|(_, call)| !call.is_open());
        let error = refused(&match named.first() {
            None => format!("the run `{id}` has no approval `{part}`"),
            Some((name, call)) => describe_other_call(name, call),
        });
        let is_decidable =
            |(name, call): &(&str, &FoldedCall)| !is_gate(&call.op) && fold.is_named(part, name);
        let decidable = fold.decidable_calls().find(is_decidable);
        if let Some((name, _)) = decidable {
            let decide = format!("redrill runs decide {id} {}", shell::quote_shell_word(name));
            return error.with_hint(format!("`{decide} redo`, or `fail` or `done`, decides about it"));
        }
        let waits: Vec<String> = awaited.iter().map(|name| shell::quote_shell_word(name)).collect();
        if waits.is_empty() { error } else { error.with_hint(format!("it waits for {}", waits.join(", "))) }
    }

    /// Refuses a decision after which the run could not go on here: it would be recorded, and nothing done.
    ///
    /// # Errors
    /// A target is lost, or protected and not named.
    fn check_run_could_resume(&self, runtime: &Runtime, fold: &RunFold) -> Result<(), CliError> {
        let asked = if self.given.resume { AskForTargets::Targets } else { AskForTargets::Configuration };
        let lost = runtime
            .find_lost_target(fold, asked)
            .map_err(|unread| add_that_nothing_was_decided(journal::Error::from(unread).into()))?;
        if let Some(lost) = lost {
            return Err(self.lost_target_error(lost));
        }
        if self.given.resume { self.check_protected_targets_confirmed(runtime) } else { Ok(()) }
    }

    /// Asks before a run is resumed whose last record is old; a process that was asked to stop has written a new one.
    ///
    /// # Errors
    /// Nobody says yes.
    fn check_record_is_new_enough(&self, runtime: &Runtime, run: &Run) -> Result<(), CliError> {
        if !self.given.resume {
            return Ok(());
        }
        let recorded = Runtime::read_recorded_runbook(self.journal, self.run, run.source_edition())
            .map_err(|unread| add_that_nothing_was_decided(unread.into()))?;
        let age = RecordAge::of_run(runtime, run.last_record_before_acquisition());
        confirm_if_stale_and_destructive(age, &recorded.header.needs, self.given.yes, &|more| {
            self.render_as_typed_with(more)
        })
        .map_err(add_that_nothing_was_decided)
    }

    fn lost_target_error(&self, lost: LostTarget) -> CliError {
        let (again, abandon) = (self.render_as_typed_with(""), format!("redrill runs abandon {}", self.run));
        let error = match lost {
            LostTarget::NotConfigured(error) => missing_target_error(error, self.run, &again),
            LostTarget::Silent(error) => CliError::from(error).with_next_command(again),
            LostTarget::Replaced(what) => CliError::usage(what)
                .with_hint(format!("bring that one back, and then `{again}`; or give the run up"))
                .with_exit(exit_code::MISMATCH)
                .with_next_command(abandon),
        };
        add_that_nothing_was_decided(error)
    }

    /// Checks that every protected target is named, or that somebody can be asked for its name.
    fn check_protected_targets_confirmed(&self, runtime: &Runtime) -> Result<(), CliError> {
        if terminal::can_prompt() {
            return Ok(());
        }
        let mut missing = list_targets_to_confirm(runtime, self.run);
        missing.retain(|name| !self.given.options.confirm.contains(name));
        let Some(name) = missing.first() else { return Ok(()) };
        let words: Vec<String> =
            missing.iter().map(|name| format!("--confirm {}", shell::quote_shell_word(name))).collect();
        Err(CliError::usage(format!(
            "the target `{name}` is protected, and the run may change it; nothing was decided"
        ))
        .with_hint(format!("name it: `--confirm {}`", shell::quote_shell_word(name)))
        .with_exit(exit_code::REFUSED)
        .with_next_command(self.render_as_typed_with(&words.join(" "))))
    }
}

/// Returns the names of approvals as words of a shell, with commas between them.
fn quote_approvals(approvals: &[OpenApproval]) -> String {
    let names: Vec<String> = approvals.iter().map(|open| shell::quote_shell_word(&open.name)).collect();
    names.join(", ")
}

/// Says of a call that is no approval which the run waits for what it is.
fn describe_other_call(name: &str, call: &FoldedCall) -> String {
    match (is_gate(&call.op), call.is_open()) {
        (false, _) => format!("`{name}` is a call of `{}`, and no approval", call.op),
        (true, false) => format!("the approval `{name}` is over"),
        (true, true) if !call.is_accepted() => {
            format!(
                "the run was ended before it had asked for the approval `{name}`, and asks when it is resumed"
            )
        }
        (true, true) => {
            format!("the run is ending, and does not come to the approval `{name}` any more")
        }
    }
}

fn add_that_nothing_was_decided(mut error: CliError) -> CliError {
    error.facts.push("nothing was decided".to_owned());
    error
}
