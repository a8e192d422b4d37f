//! The command line: words in, exit codes out, and what is said on the way.
//!
//! Data goes to stdout and everything else to stderr. Nothing is asked where no person can answer. Every command comes
//! to an exit code or to a [`Trouble`], which knows its own.

mod activity;
mod approve;
mod asking;
mod check;
mod ending;
mod exit;
mod fake;
mod lab;
mod ops;
mod rehearse;
mod run;
mod runs;
mod script;
mod takeover;
mod targets;
mod watch;

use crate::{
    base::terminal,
    config::{self, Locations},
    ops::reference,
    repl,
    runtime::{VERSION, World},
    show::{Trouble, trouble},
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

/// The commands that are no operations.
#[derive(Debug, Subcommand)]
enum Fixed {
    /// Run a runbook
    Run(run::Run),
    /// Take up a run where it stopped
    Resume(run::ResumeRun),
    /// Approve what a run waits for
    Approve(approve::Approve),
    /// Reject what a run waits for: there it fails
    Reject(approve::Approve),
    /// Check runbooks without running them
    Check(check::Check),
    /// Run a runbook under every fault, against copies of a simulated world
    Rehearse(rehearse::Rehearse),
    /// Look at runs, and decide about them
    #[command(subcommand, arg_required_else_help = true)]
    Runs(runs::Runs),
    /// Look at targets
    #[command(subcommand, arg_required_else_help = true)]
    Targets(targets::Targets),
    /// A throw-away PostgreSQL cluster to practise on
    #[command(subcommand, arg_required_else_help = true)]
    Lab(lab::Lab),
    /// A platform that is not the real one, to practise on and for tests
    #[command(subcommand, arg_required_else_help = true)]
    Fake(fake::Fake),
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
struct Global {
    /// The configuration; else `REDRILL_CONFIG`, else `redrill.toml` from here upward
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The state folder; else `REDRILL_STATE`, else `.redrill` beside the configuration
    #[arg(long, global = true, value_name = "FOLDER")]
    state: Option<PathBuf>,
    /// Say more; twice for more still
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
}

/// Does what the arguments say.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    panic::set_hook(Box::new(|panic| {
        terminal::clear();
        let at = panic.location().map(|at| format!(" at {}:{}", at.file(), at.line())).unwrap_or_default();
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let what =
            text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
        terminal::say(&format!("error: this is a bug in redrill, please report it: {what}{at}"));
    }));
    let args: Vec<OsString> = args.into_iter().collect();
    let code = panic::catch_unwind(AssertUnwindSafe(|| perform(args))).unwrap_or(trouble::BUG);
    ExitCode::from(code)
}

fn perform(args: Vec<OsString>) -> u8 {
    let matches = match command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(e) => return of_clap(&e),
    };
    dispatch(&matches).unwrap_or_else(|trouble| exit::say(&trouble))
}

/// Returns the whole tree of commands.
fn command() -> Command {
    let root = Command::new("redrill").version(VERSION).disable_help_subcommand(true);
    // What derives a group of commands or options takes its own description for that of the whole.
    Fixed::augment_subcommands(Global::augment_args(root))
        .subcommands(ops::commands())
        .subcommand_required(true)
        .arg_required_else_help(true)
        .about("Runs disaster-recovery runbooks: kill it anywhere, resume, nothing happens twice")
        .long_about(None)
}

/// Says what clap has to say: help is data, everything else is an error of usage.
fn of_clap(error: &clap::Error) -> u8 {
    let text = error.render();
    if error.use_stderr() {
        let text = if terminal::colour() { text.ansi().to_string() } else { text.to_string() };
        terminal::say(text.trim_end());
        return trouble::USAGE;
    }
    terminal::out(text.to_string().trim_end());
    0
}

fn dispatch(matches: &clap::ArgMatches) -> Result<u8, Trouble> {
    let global = Global::from_arg_matches(matches).map_err(|e| Trouble::usage(e.to_string()))?;
    trace(global.verbose)?;
    if let Some((area, below)) = matches.subcommand().filter(|(word, _)| ops::has(word)) {
        return ops::perform(&world(&global)?, area, below);
    }
    match Fixed::from_arg_matches(matches).map_err(|e| Trouble::usage(e.to_string()))? {
        Fixed::Run(run) => Ok(run.perform(&world(&global)?)),
        Fixed::Resume(resume) => Ok(resume.perform(&world(&global)?)),
        Fixed::Approve(approve) => approve.perform(&world(&global)?, true),
        Fixed::Reject(reject) => reject.perform(&world(&global)?, false),
        Fixed::Check(check) => Ok(check.perform()),
        Fixed::Rehearse(rehearse) => Ok(rehearse.perform(&world(&global)?)),
        Fixed::Runs(runs) => runs.perform(&world(&global)?),
        Fixed::Targets(targets) => targets.perform(&world(&global)?),
        Fixed::Lab(lab) => lab.perform(&world(&global)?),
        Fixed::Fake(fake) => fake.perform(),
        Fixed::Repl { target, confirm } => {
            let confirmed = confirm.into_iter().collect();
            let watch = Arc::new(watch::Tree::new(asking::Asking::only_to_approve()));
            repl::run(&world(&global)?, target.as_deref(), confirmed, watch)
        }
        Fixed::Reference => {
            terminal::out(reference::markdown().trim_end());
            Ok(0)
        }
    }
}

fn world(global: &Global) -> Result<World, Trouble> {
    let at = Locations { config: global.config.clone(), state: global.state.clone() };
    Ok(World::new(config::load(&at)?)?)
}

/// Switches tracing on: by `REDRILL_LOG`, else by `-v`.
fn trace(verbose: u8) -> Result<(), Trouble> {
    let level = match std::env::var("REDRILL_LOG") {
        Ok(word) if !word.is_empty() => word.parse().map_err(|_| {
            Trouble::usage(format!("`{word}` in REDRILL_LOG is no level"))
                .hint("write `error`, `warn`, `info`, `debug` or `trace`")
        })?,
        _ => match verbose {
            0 => return Ok(()),
            1 => LevelFilter::INFO,
            _ => LevelFilter::DEBUG,
        },
    };
    let subscriber = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr);
    // A second subscriber in one process is a test's business; the first one stays.
    drop(subscriber.with_ansi(terminal::colour()).try_init());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_of_commands_is_sound() {
        command().debug_assert();
    }
}
