//! `world`: what is in the world of a simulated target, what happened there, and a new beginning.

use super::{output, run::parse_params};
use crate::{
    base::{
        moment::{self, GivenMoment, Moment},
        shell, terminal,
    },
    config::TargetConfig,
    journal::{Journal, Record, RunSummary},
    provider::{
        OpenContext, Provider as _,
        sim::{self, Sim},
    },
    rehearsal::Stage,
    report::{CliError, DataFormat, exit_code, format_moment},
    runtime::{Runbook, Runtime},
};
use clap::Subcommand;
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// `world`.
#[derive(Debug, Subcommand)]
pub(super) enum WorldCommand {
    /// Show what is in a world: tables, backups, branches, settings, and what time it is there
    Show {
        /// The simulated target
        #[arg(short, long, default_value = "sandbox")]
        target: String,
        /// Show the world that the fixture of this runbook makes; nothing is kept of it
        #[arg(long, value_name = "RUNBOOK")]
        fixture: Option<PathBuf>,
        /// A parameter of that runbook
        #[arg(short, long = "param", value_name = "KEY=VALUE", requires = "fixture")]
        params: Vec<String>,
        /// How it is written
        #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
        output: DataFormat,
    },
    /// Show what happened in a world, newest last
    Log {
        /// The simulated target
        #[arg(short, long, default_value = "sandbox")]
        target: String,
        /// Nothing before this: a moment, or how long ago it was: `-2h`
        #[arg(long, value_name = "MOMENT", allow_hyphen_values = true)]
        since: Option<String>,
        /// How it is written
        #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
        output: DataFormat,
    },
    /// Remove a world: the next use of its target begins a new one
    Reset {
        /// The simulated target
        #[arg(short, long)]
        target: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// Name the target, where it is protected
        #[arg(long, value_name = "TARGET")]
        confirm: Option<String>,
        /// How the answer is written
        #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
        output: DataFormat,
    },
}

impl WorldCommand {
    /// Runs the subcommand.
    pub(super) fn dispatch_subcommand(&self, runtime: &Runtime) -> Result<u8, CliError> {
        match self {
            WorldCommand::Show { target, fixture, params, output } => {
                let world = match fixture {
                    None => {
                        open_world(runtime, require_simulated_target(runtime, target)?)?.overview_for_people()
                    }
                    Some(runbook) => return show_fixture(runtime, target, runbook, params, *output),
                };
                print_world(world.map_err(CliError::from_provider_error)?, *output)
            }
            WorldCommand::Log { target, since, output } => {
                show_log(runtime, require_simulated_target(runtime, target)?, since.as_deref(), *output)
            }
            WorldCommand::Reset { target, yes, confirm, output } => {
                let target = require_simulated_target(runtime, target)?;
                let reset = ResetRequest { target, is_confirmed: *yes, named: confirm.as_deref() };
                reset.reset_world(runtime, *output)
            }
        }
    }
}

/// Returns the configuration of a simulated target; the world of a real one is real.
fn require_simulated_target<'a>(runtime: &'a Runtime, name: &str) -> Result<&'a TargetConfig, CliError> {
    let Some(target) = runtime.config.targets.get(name) else {
        return Err(output::unknown_target_error(&runtime.config, Some(name)));
    };
    if target.provider == "sim" {
        return Ok(target);
    }
    Err(CliError::usage(format!(
        "the target `{name}` is no simulated one: its provider is `{}`",
        target.provider
    ))
    .with_hint("only a target whose provider is `sim` has a world")
    .with_next_command("redrill targets list"))
}

fn open_world(runtime: &Runtime, target: &TargetConfig) -> Result<Sim, CliError> {
    Sim::open(&open_context(runtime, target)).map_err(CliError::from_provider_error)
}

fn open_context<'a>(runtime: &'a Runtime, target: &'a TargetConfig) -> OpenContext<'a> {
    let config = &runtime.config;
    OpenContext {
        target,
        base: &config.base,
        file: config.file.as_deref(),
        state: &config.state,
        clock: runtime.clock(),
    }
}

/// Shows what the fixture of a runbook makes of a world, without a run, and the parameters that come of it.
fn show_fixture(
    runtime: &Runtime,
    target: &str,
    runbook: &std::path::Path,
    params: &[String],
    output: DataFormat,
) -> Result<u8, CliError> {
    require_simulated_target(runtime, target)?;
    let runbook = Runbook::load_file(runbook)?;
    let stage = Stage::prepare(&runbook, &parse_params(params)?, &runtime.config)?;
    let draft = stage
        .drafts
        .get(target)
        .ok_or_else(|| output::unknown_target_error(&runtime.config, Some(target)))?;
    let mut world = draft
        .open_world(stage.now)
        .and_then(|sim| sim.overview_for_people())
        .map_err(CliError::from_provider_error)?;
    world["params"] = stage.params.clone();
    print_world(world, output)
}

/// The order in which the parts of a world are shown.
const WORLD_FIELDS: &[&str] = &[
    "title",
    "id",
    "now",
    "ahead",
    "params",
    "window",
    "tables",
    "backups",
    "restore_points",
    "branches",
    "schedules",
    "replicas",
    "settings",
    "ranges",
    "bans",
    "switches",
];

fn print_world(mut world: Value, output: DataFormat) -> Result<u8, CliError> {
    if output != DataFormat::Json {
        // A map of tables is a column each: for people it is a list.
        let tables = world["tables"].as_object().cloned().unwrap_or_else(Map::new);
        world["tables"] =
            tables.iter().map(|(name, t)| json!({ "table": name, "rows": t["rows"] })).collect();
    }
    let columns: Vec<String> = WORLD_FIELDS.iter().map(|&field| field.to_owned()).collect();
    output::print_value(&world, &columns, output)?;
    Ok(0)
}

fn show_log(
    runtime: &Runtime,
    target: &TargetConfig,
    since: Option<&str>,
    output: DataFormat,
) -> Result<u8, CliError> {
    let world = open_world(runtime, target)?;
    let since = since.map(|text| parse_since(runtime, target, text)).transpose()?;
    let lines = world.read_log(since).map_err(CliError::from_provider_error)?;
    let mut rows: Vec<Value> = lines.iter().map(|line| json!(line)).collect();
    if output == DataFormat::Table {
        for (row, line) in rows.iter_mut().zip(&lines) {
            row["at"] = format_moment(line.at).into();
            row["what"] = line.what.split_whitespace().collect::<Vec<_>>().join(" ").into();
        }
    }
    let columns = ["at", "kind", "branch", "what"].map(String::from);
    output::print_value(&rows.into(), &columns, output)?;
    Ok(0)
}

/// Parses a moment, which may be counted back from the world's own now.
fn parse_since(runtime: &Runtime, target: &TargetConfig, text: &str) -> Result<Moment, CliError> {
    let wrong = |e: moment::Error| {
        CliError::usage(format!("`--since`: {e}"))
            .with_hint(format!("{}; or `-2h` for so long ago", e.hint()))
    };
    let given = GivenMoment::parse(text).map_err(wrong)?;
    given.resolve(runtime.read_target_time(std::slice::from_ref(&target.name))?).map_err(wrong)
}

/// The request to remove a world.
struct ResetRequest<'a> {
    target: &'a TargetConfig,
    /// Whether nobody needs to be asked.
    is_confirmed: bool,
    /// The protected target that was named.
    named: Option<&'a str>,
}

impl ResetRequest<'_> {
    fn reset_world(&self, runtime: &Runtime, output: DataFormat) -> Result<u8, CliError> {
        let opening = open_context(runtime, self.target);
        let is_there = sim::has_world(&opening);
        let mut stranded = Vec::new();
        if is_there {
            stranded = self.find_open_runs(runtime)?;
            self.ask_to_confirm_reset(&stranded)?;
            // Somebody may have begun a run while the question stood there.
            self.find_open_runs(runtime)?;
            sim::remove_world(&opening).map_err(|e| CliError::from(e).with_exit(exit_code::FAILED))?;
        }
        let ids: Vec<&str> = stranded.iter().map(|run| run.id.as_str()).collect();
        let answer = json!({ "target": self.target.name, "removed": is_there, "stranded_runs": ids });
        output::print_value(&answer, &["target", "removed", "stranded_runs"].map(String::from), output)?;
        Ok(0)
    }

    /// Returns the runs that were in this world and have not ended: after the reset they no longer find it.
    ///
    /// # Errors
    /// One of them is at work.
    fn find_open_runs(&self, runtime: &Runtime) -> Result<Vec<RunSummary>, CliError> {
        let Some(journal) = runtime.open_existing_journal()? else { return Ok(vec![]) };
        let world = open_world(runtime, self.target)?;
        let identity = runtime.block_on(world.identity()).map_err(CliError::from_provider_error)?;
        let mut open = Vec::new();
        for run in journal.list_runs()? {
            if run.status.is_final() || !was_run_in_world(&journal, &run, &identity.id)? {
                continue;
            }
            if journal.is_run_held(&run.id) {
                let name = &self.target.name;
                return Err(CliError::usage(format!(
                    "the world of `{name}` is in use by the run `{}`",
                    run.id
                ))
                .with_exit(exit_code::REFUSED)
                .with_hint("wait for it, or stop it; nothing was done")
                .with_next_command(format!("redrill runs show {}", run.id)));
            }
            open.push(run);
        }
        Ok(open)
    }

    fn ask_to_confirm_reset(&self, open: &[RunSummary]) -> Result<(), CliError> {
        let name = &self.target.name;
        let again = if self.target.protect {
            format!("--confirm {}", shell::quote_shell_word(name))
        } else {
            "--yes".to_owned()
        };
        let is_answered = if self.target.protect { self.named == Some(name) } else { self.is_confirmed };
        if is_answered {
            return Ok(());
        }
        let refused = || {
            let exit = if self.target.protect { exit_code::REFUSED } else { exit_code::USAGE };
            CliError::usage(format!("everything in the world of `{name}` would be gone"))
                .with_exit(exit)
                .with_hint("nothing was done")
                .with_next_command(format!(
                    "redrill world reset -t {} {again}",
                    shell::quote_shell_word(name)
                ))
        };
        if !terminal::can_prompt() {
            return Err(refused());
        }
        for run in open {
            let line = format!("the run {} ({}) would not find its world any more", run.id, run.status);
            terminal::print_message(&line);
        }
        let question = format!("Everything in the world of `{name}` goes. Type its name to go on:");
        if terminal::prompt_line(&question)? == *name { Ok(()) } else { Err(refused()) }
    }
}

/// Returns whether a run has a lease on a world, or was in it before.
fn was_run_in_world(journal: &Journal, run: &RunSummary, identity: &str) -> Result<bool, CliError> {
    if journal.list_leases(&run.id)?.iter().any(|lease| lease.target == identity) {
        return Ok(true);
    }
    let (entries, _) = journal.read_intact_records(&run.id)?;
    let is_of_world = |record: &Record| matches!(record, Record::Target { identity: recorded, .. } if recorded["id"] == identity);
    Ok(entries.iter().any(|entry| is_of_world(&entry.record)))
}
