//! `approve` and `reject`: a person decides about an approval that a run waits for.

use super::{
    output,
    questions::current_user,
    resume::ResumeCommand,
    run::{RunOptions, check_not_ended, open_journal},
};
use crate::{
    base::{shell, terminal},
    journal::{self, Journal},
    report::{CliError, exit_code, find_next_step, list_targets_to_confirm},
    runtime::{OpenApproval, Runtime},
};

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
    #[command(flatten)]
    options: RunOptions,
}

impl ApproveCommand {
    /// Records the decision, and resumes the run with `--resume`.
    ///
    /// # Errors
    /// The run waits for no approval, or for several and none was named.
    pub(super) fn record_decision(self, runtime: &Runtime, approves: bool) -> Result<u8, CliError> {
        let journal = open_journal(runtime)?;
        let id = journal.resolve_run_id(&self.run)?;
        check_not_ended(&id, journal.summarize_run(&id)?.status)?;
        self.check_confirmations(runtime, &id)?;
        let by = current_user();
        let approval = decide_approval(&journal, &id, self.approval.as_deref(), approves, &by)?;
        drop(journal);
        let word = if approves { "approved" } else { "rejected" };
        terminal::print_message(&format!("{by} {word} {approval}"));
        if self.resume {
            return Ok(ResumeCommand::from_options(id, self.options).resume_run(runtime));
        }
        output::print_command(&find_next_step(runtime, &id).command);
        Ok(0)
    }
}

impl ApproveCommand {
    /// Refuses a decision after which the run could not go on here: it would be recorded, and nothing done.
    ///
    /// # Errors
    /// A protected target is not named, and nobody can be asked for its name.
    fn check_confirmations(&self, runtime: &Runtime, run: &str) -> Result<(), CliError> {
        if !self.resume || terminal::can_prompt() {
            return Ok(());
        }
        let missing = list_targets_to_confirm(runtime, run);
        let Some(name) = missing.iter().find(|name| !self.options.confirm.contains(name)) else {
            return Ok(());
        };
        Err(CliError::usage(format!(
            "the target `{name}` is protected, and the run may change it; nothing was decided"
        ))
        .with_hint(format!("name it: `--confirm {}`", shell::quote_shell_word(name)))
        .with_exit(exit_code::REFUSED)
        .with_next_command(find_next_step(runtime, run).command))
    }
}

fn decide_approval(
    journal: &Journal,
    id: &str,
    name_part: Option<&str>,
    approves: bool,
    by: &str,
) -> Result<String, CliError> {
    let run = journal.acquire_run(id)?;
    let mut approvals = OpenApproval::list_in_run(&run).map_err(journal::Error::from)?;
    let is_exact = approvals.iter().any(|open| name_part == Some(&open.name));
    approvals.retain(|open| {
        name_part.is_none_or(|part| open.name == part || !is_exact && open.name.contains(part))
    });
    let [approval] = &approvals[..] else {
        let error = CliError::usage(match approvals.len() {
            0 => format!("the run `{id}` waits for no approval"),
            n => format!("the run `{id}` waits for {n} approvals"),
        })
        .with_next_command(format!("redrill runs show {id}"));
        let names: Vec<String> = approvals.iter().map(|open| shell::quote_shell_word(&open.name)).collect();
        return Err(if names.is_empty() {
            error
        } else {
            error.with_hint(format!("name one: {}", names.join(", ")))
        });
    };
    approval.record_decision(&run, approves, by)?;
    Ok(approval.name.clone())
}
