//! `runs prune`: runs that have ended are removed for good, and a tombstone stays of each.

use super::{output, run::require_journal};
use crate::{
    base::{moment::Span, shell::own_command_line_with, terminal},
    journal::{self, Journal, RunSummary, describe_landing_end},
    report::{CliError, DataFormat, find_next_step, format_moment},
    runtime::Runtime,
};
use serde_json::{Value, json};

/// How long ago a run must have ended where nothing is said.
const AGE_PRESET: Span = Span::from_secs(30 * 24 * 3600);

const COLUMNS: &[&str] = &["id", "runbook", "status", "finished_at", "left_behind"];

/// `runs prune`.
#[derive(Debug, clap::Args)]
pub(super) struct PruneCommand {
    /// Runs to remove whatever their age is and whatever they left behind
    runs: Vec<String>,
    /// Remove runs that ended longer ago than this; `30d` where neither this nor `--keep` is given
    #[arg(long, value_name = "SPAN", value_parser = parse_age, conflicts_with = "runs")]
    older_than: Option<Span>,
    /// Keep the runs that ended last, so many of them
    #[arg(long, value_name = "N", conflicts_with = "runs")]
    keep: Option<usize>,
    /// Remove them without asking
    #[arg(long)]
    yes: bool,
}

impl PruneCommand {
    /// Shows what would be removed, and removes it where a person says so.
    pub(super) fn ask_and_prune_runs(&self, runtime: &Runtime) -> Result<u8, CliError> {
        let journal = require_journal(runtime)?;
        let chosen = self.choose_runs(runtime, &journal)?;
        if chosen.is_empty() {
            terminal::print_message("there is nothing to remove");
            return Ok(0);
        }
        print_runs(&chosen)?;
        warn_of_pending_requests(&journal, &chosen)?;
        warn_of_unended_runs(&chosen);
        let count =
            if chosen.len() == 1 { "this run".to_owned() } else { format!("these {} runs", chosen.len()) };
        if !self.yes && !ask_to_confirm_removal(&count)? {
            terminal::print_message("nothing was removed; to remove them");
            output::print_next_command(&own_command_line_with("--yes"));
            return Ok(0);
        }
        for run in &chosen {
            let tombstone = journal.prune_run(&run.id)?;
            terminal::print_message(&format!("removed {}, whose head was {}", run.id, tombstone.head));
        }
        Ok(0)
    }

    /// Returns the runs that were named; where none was, the ended ones that are old enough and left nothing behind.
    fn choose_runs(&self, runtime: &Runtime, journal: &Journal) -> Result<Vec<RunSummary>, CliError> {
        if !self.runs.is_empty() {
            return self.runs.iter().map(|given| find_removable_run(runtime, journal, given)).collect();
        }
        let age = self.older_than.or(self.keep.is_none().then_some(AGE_PRESET));
        let is_old = |run: &RunSummary| {
            let ended = run.finished_at.filter(|_| run.status.is_final());
            ended.is_some_and(|at| age.is_none_or(|age| runtime.clock().now().duration_since(at) > age))
        };
        let mut ended = journal.list_runs()?;
        ended.retain(|run| run.status.is_final());
        ended.sort_by_key(|run| std::cmp::Reverse(run.finished_at));
        let old: Vec<_> = ended.into_iter().skip(self.keep.unwrap_or(0)).filter(is_old).collect();
        let (kept, chosen): (Vec<_>, Vec<_>) = old.into_iter().partition(|run| !run.left_behind.is_empty());
        if !kept.is_empty() {
            let names: Vec<&str> = kept.iter().map(|run| run.id.as_str()).collect();
            terminal::print_message(&format!(
                "kept, because something of them is left behind, unless they are named: {}",
                names.join(", ")
            ));
        }
        Ok(chosen)
    }
}

/// Returns the run that was named: one that has ended, or whose records are not those that were written.
///
/// # Errors
/// It goes on, or can be ended.
fn find_removable_run(runtime: &Runtime, journal: &Journal, given: &str) -> Result<RunSummary, CliError> {
    let run = journal.summarize_run(&journal.resolve_run_id(given)?)?;
    let is_cut = matches!(
        journal.read_intact_records(&run.id)?.1,
        Some(journal::Error::Broken { is_linked: false, .. })
    );
    if run.status.is_final() || is_cut {
        return Ok(run);
    }
    let error = journal::Error::NotEnded { run: run.id.clone(), status: run.status };
    Err(CliError::from(error).with_next_command(find_next_step(runtime, &run.id).command))
}

fn print_runs(runs: &[RunSummary]) -> Result<(), CliError> {
    let to_row = |run: &RunSummary| {
        json!({
            "id": run.id, "runbook": run.runbook, "status": run.status,
            "finished_at": run.finished_at.map(format_moment), "left_behind": run.left_behind,
        })
    };
    let rows: Value = runs.iter().map(to_row).collect();
    output::print_value(
        &rows,
        &COLUMNS.iter().map(|&column| column.to_owned()).collect::<Vec<_>>(),
        DataFormat::Table,
    )
}

/// Says which requests of the runs may still take effect: whoever waits for them stops waiting once their run is
/// removed.
fn warn_of_pending_requests(journal: &Journal, runs: &[RunSummary]) -> Result<(), CliError> {
    for run in runs {
        for (call, until) in journal.list_landing_ends(&run.id)? {
            terminal::print_message(&format!(
                "a request of {call} in {} may still take effect, {}; once the run is removed nothing waits for it",
                run.id,
                describe_landing_end(until)
            ));
        }
    }
    Ok(())
}

/// Says of runs that have not ended that nobody knows what they left. Such a run is chosen only where its records are
/// not those that were written ([`find_removable_run`]).
fn warn_of_unended_runs(runs: &[RunSummary]) {
    for run in runs.iter().filter(|run| !run.status.is_final()) {
        terminal::print_message(&format!(
            "{} has not ended, and its records are not those that were written: nobody knows then what it left, and nothing looks \
             for that any more",
            run.id
        ));
    }
}

fn ask_to_confirm_removal(what: &str) -> Result<bool, CliError> {
    if !terminal::can_prompt() {
        return Ok(false);
    }
    let answer = terminal::prompt_line(&format!("Remove {what} for good? [y/N]"))?;
    Ok(["y", "yes"].contains(&answer.to_lowercase().as_str()))
}

fn parse_age(word: &str) -> Result<Span, String> {
    Span::parse(word).map_err(|e| e.to_string())
}
