//! The command line: the command tree, its dispatch, and the exit code.
//!
//! Data goes to stdout and everything else to stderr. Nothing is asked where no person can answer. Every command returns
//! an exit code, or a [`CliError`] that has one.

mod activity;
mod adoption;
mod approve;
mod check;
mod decide;
mod fake;
mod lab;
mod one_call;
mod operations;
mod output;
mod prune;
mod questions;
mod rehearse;
mod resume;
mod run;
mod run_output;
mod runbook_file;
mod runs;
mod session;
mod takeover;
mod targets;
mod watch;
mod world;

use crate::{
    base::{
        former_name,
        shell::{CommandOption, own_command_line_with, store_location_options_once},
        terminal,
    },
    config::{self, Locations},
    journal::StateFolderConsent,
    ops::reference,
    repl,
    report::{CliError, exit_code},
    runtime::{Runtime, VERSION},
};
use clap::{ArgAction, Args as _, Command, FromArgMatches as _, Subcommand};
use std::{
    ffi::OsString,
    panic::{self, AssertUnwindSafe},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    Layer as _, filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// The commands that are not operations of the catalogue.
#[derive(Debug, Subcommand)]
enum BuiltinCommand {
    /// Run a runbook
    Run(run::RunCommand),
    /// Take up a run where it stopped
    Resume(resume::ResumeCommand),
    /// Approve what a run waits for
    Approve(approve::ApproveCommand),
    /// Reject what a run waits for, which fails the call
    Reject(approve::ApproveCommand),
    /// Check runbooks without running them
    Check(check::CheckCommand),
    /// Run a runbook under every fault, against copies of a simulated world
    Rehearse(rehearse::RehearseCommand),
    /// Look at runs, and decide about them
    #[command(subcommand, arg_required_else_help = true)]
    Runs(runs::RunsCommand),
    /// Look at targets
    #[command(subcommand, arg_required_else_help = true)]
    Targets(targets::TargetsCommand),
    /// Look at the worlds of simulated targets, and begin them anew
    #[command(subcommand, arg_required_else_help = true)]
    World(world::WorldCommand),
    /// A throw-away PostgreSQL cluster to practise on
    #[command(subcommand, arg_required_else_help = true)]
    Lab(lab::LabCommand),
    /// A platform that is not the real one, to practise on and for tests
    #[command(subcommand, arg_required_else_help = true)]
    Fake(fake::FakeCommand),
    /// Work at a prompt: the same operations, journaled as a run
    Repl {
        /// The target that the variable `db` names
        #[arg(short, long)]
        target: Option<String>,
        /// A protected target that may be changed; may be given again
        #[arg(long, value_name = "TARGET")]
        confirm: Vec<String>,
    },
    /// Write out the reference of every operation
    Reference,
}

/// The options of every command.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Everywhere")]
struct GlobalOptions {
    /// The configuration; else `REDRILL_CONFIG`, else `redrill.toml` from here upward
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The state folder; else `REDRILL_STATE`, else `.redrill` beside the configuration
    #[arg(long, global = true, value_name = "FOLDER")]
    state: Option<PathBuf>,
    /// Act in a state folder that was copied or moved to another disk: it acts here from now on
    #[arg(long, global = true)]
    adopt: bool,
    /// With `--adopt`: it may be older than what was done; effects are looked for before they are made
    #[arg(long, global = true)]
    rolled_back: bool,
    /// Act in a state folder on a file system that several machines may share
    #[arg(long, global = true)]
    state_unsafe: bool,
    /// Say more; twice for more still
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
}

impl GlobalOptions {
    /// Returns those options that the next command needs to find the same configuration and the same state. A variable stays
    /// in the shell, and an adopted state stays adopted.
    fn list_locations(&self) -> Vec<CommandOption> {
        let with_path = |name, path: &Option<PathBuf>| {
            path.as_ref().map(|path| CommandOption { name, word: Some(path.display().to_string()) })
        };
        let is_unsafe = self.state_unsafe.then_some(CommandOption { name: "--state-unsafe", word: None });
        [with_path("--config", &self.config), with_path("--state", &self.state), is_unsafe]
            .into_iter()
            .flatten()
            .collect()
    }

    /// Returns what these options consent to about the state folder.
    fn to_state_folder_consent(&self) -> Result<StateFolderConsent, CliError> {
        // Clap does not see one of the two where they stand before and behind the name of the command.
        if self.rolled_back && !self.adopt {
            let error = CliError::usage("`--rolled-back` says how a state folder is taken over");
            return Err(error
                .with_hint("add `--adopt` to take it over")
                .with_next_command(own_command_line_with("--adopt")));
        }
        Ok(StateFolderConsent {
            adopt: self.adopt,
            rolled_back: self.rolled_back,
            shared_file_system: self.state_unsafe,
            by: questions::current_user(),
            announce: adoption::announce_adoption,
            ..StateFolderConsent::default()
        })
    }
}

/// Runs the command that the arguments name, and returns the exit code. A panic is reported as a bug.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    panic::set_hook(Box::new(|panic| {
        terminal::clear_status();
        let at = panic.location().map(|at| format!(" at {}:{}", at.file(), at.line())).unwrap_or_default();
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let what =
            text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
        terminal::print_message(&format!("error: this is a bug in redrill, please report it: {what}{at}"));
    }));
    let args: Vec<OsString> = args.into_iter().collect();
    let code = panic::catch_unwind(AssertUnwindSafe(|| parse_and_dispatch(args))).unwrap_or(exit_code::BUG);
    ExitCode::from(report_write_failure(code))
}

/// Says that something could not be printed, and returns the exit code: a command that did its work and could not say so
/// has not succeeded.
fn report_write_failure(code: u8) -> u8 {
    let Some(why) = terminal::take_stdout_failure() else { return code };
    let error = CliError::usage(format!("not everything could be written to stdout: {why}"))
        .with_hint("what the command did is done: a change is in `redrill runs list`")
        .with_exit(if code == 0 { exit_code::OUTPUT } else { code });
    output::print_error(&error)
}

fn parse_and_dispatch(args: Vec<OsString>) -> u8 {
    let matches = match build_command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(e) => return print_clap_error(&e),
    };
    dispatch_command(&matches).unwrap_or_else(|error| output::print_error(&error))
}

/// Checks that a command line is one that can be typed; nothing is done.
///
/// # Errors
/// What is wrong with it.
pub fn check_command_line(args: impl IntoIterator<Item = OsString>) -> Result<(), String> {
    let matches = build_command().try_get_matches_from(args).map_err(|e| e.to_string())?;
    if matches.subcommand().is_some_and(|(word, _)| operations::has_area(word)) {
        return Ok(());
    }
    BuiltinCommand::from_arg_matches(&matches).map(drop).map_err(|e| e.to_string())
}

/// Builds the whole command tree.
fn build_command() -> Command {
    let root = Command::new("redrill").version(VERSION).disable_help_subcommand(true);
    // The derived groups overwrite the description of the root with their own, so it is set last.
    BuiltinCommand::augment_subcommands(GlobalOptions::augment_args(root))
        .subcommands(operations::build_area_commands())
        .subcommand_required(true)
        .arg_required_else_help(true)
        .about("Runs disaster-recovery runbooks: kill it anywhere, resume, nothing happens twice")
        .long_about(None)
}

/// Prints what clap returned: help to stdout, anything else to stderr as a usage error.
fn print_clap_error(error: &clap::Error) -> u8 {
    let text = error.render();
    if error.use_stderr() {
        let text =
            if terminal::is_stderr_colour_enabled() { text.ansi().to_string() } else { text.to_string() };
        terminal::print_message(text.trim_end());
        return exit_code::USAGE;
    }
    terminal::print_data(text.to_string().trim_end());
    0
}

fn dispatch_command(matches: &clap::ArgMatches) -> Result<u8, CliError> {
    let global = GlobalOptions::from_arg_matches(matches).map_err(|e| CliError::usage(e.to_string()))?;
    init_tracing(global.verbose)?;
    store_location_options_once(global.list_locations());
    if let Some((area, below)) = matches.subcommand().filter(|(word, _)| operations::has_area(word)) {
        return operations::perform_operation(&load_runtime(&global)?, area, below);
    }
    match BuiltinCommand::from_arg_matches(matches).map_err(|e| CliError::usage(e.to_string()))? {
        BuiltinCommand::Run(run) => Ok(run.run_runbook(&load_runtime(&global)?)),
        BuiltinCommand::Resume(resume) => Ok(resume.resume_run(&load_runtime(&global)?)),
        BuiltinCommand::Approve(approve) => {
            approve.record_decision_and_maybe_resume(&load_runtime(&global)?, true)
        }
        BuiltinCommand::Reject(reject) => {
            reject.record_decision_and_maybe_resume(&load_runtime(&global)?, false)
        }
        BuiltinCommand::Check(check) => Ok(check.check_runbooks()),
        BuiltinCommand::Rehearse(rehearse) => Ok(rehearse.rehearse_and_report(&load_runtime(&global)?)),
        BuiltinCommand::Runs(runs) => runs.dispatch_subcommand(&load_runtime(&global)?),
        BuiltinCommand::Targets(targets) => targets.dispatch_subcommand(&load_runtime(&global)?),
        BuiltinCommand::Lab(lab) => lab.dispatch_subcommand(&load_runtime(&global)?),
        BuiltinCommand::World(world) => world.dispatch_subcommand(&load_runtime(&global)?),
        BuiltinCommand::Fake(fake) => fake.dispatch_subcommand(),
        BuiltinCommand::Repl { target, confirm } => {
            let confirmed = confirm.into_iter().collect();
            let watch = Arc::new(watch::TreeWatch::new(questions::QuestionPolicy::approvals_only()));
            repl::run_session(&load_runtime(&global)?, target.as_deref(), confirmed, watch)
        }
        BuiltinCommand::Reference => {
            terminal::print_data(reference::render_reference().trim_end());
            Ok(0)
        }
    }
}

fn load_runtime(global: &GlobalOptions) -> Result<Runtime, CliError> {
    let at = Locations { config: global.config.clone(), state: global.state.clone() };
    let config = config::load_config(&at)?;
    for line in
        former_name::describe_ignored_former_names(&config.base, &[config::FILE_NAME, config::STATE_FOLDER])
    {
        terminal::print_message(&format!("warning: {line}"));
    }
    Ok(Runtime::new(config)?.with_consent(global.to_state_folder_consent()?))
}

/// Switches tracing on: by `REDRILL_LOG`, else by `-v`.
fn init_tracing(verbose: u8) -> Result<(), CliError> {
    let level = match std::env::var("REDRILL_LOG") {
        Ok(word) if !word.is_empty() => word.parse().map_err(|_| {
            CliError::usage(format!("`{word}` in REDRILL_LOG is no level"))
                .with_hint("write `error`, `warn`, `info`, `debug` or `trace`")
        })?,
        _ => match verbose {
            0 => return Ok(()),
            1 => LevelFilter::INFO,
            _ => LevelFilter::DEBUG,
        },
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(|| terminal::LogWriter);
    let lines = lines.with_ansi(terminal::is_stderr_colour_enabled());
    // Only what redrill itself does: libraries may log what they send, and with it secrets.
    let own = Targets::new().with_target("redrill", level);
    // Fails where a subscriber is set already, which only tests do.
    drop(tracing_subscriber::registry().with(lines.with_filter(own)).try_init());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_of_commands_is_sound() {
        build_command().debug_assert();
    }

    #[test]
    fn consent_is_what_was_typed_wherever_it_was_typed() {
        let read = |words: &str| {
            let matches = build_command().try_get_matches_from(words.split(' ')).ok()?;
            let consent = GlobalOptions::from_arg_matches(&matches).ok()?.to_state_folder_consent().ok()?;
            Some((consent.adopt, consent.rolled_back, consent.shared_file_system))
        };
        assert_eq!(read("redrill resume last"), Some((false, false, false)));
        assert_eq!(read("redrill resume last --adopt"), Some((true, false, false)));
        assert_eq!(read("redrill --adopt backup create -t x --rolled-back"), Some((true, true, false)));
        assert_eq!(read("redrill run r.rhai --state-unsafe"), Some((false, false, true)));
        assert_eq!(read("redrill run r.rhai --rolled-back"), None, "it says how a state is taken over");
    }
}
