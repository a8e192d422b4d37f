//! `rehearse`: a runbook under every fault, and the verdict.

use super::{
    run::parse_params,
    run_output::{ReportFormat, report_refusal},
};
use crate::{
    base::{shell, terminal},
    rehearsal::{self, FaultSelection, RehearsalReport, RehearsalRequest},
    report::{CliError, exit_code, render_story, story_to_json},
    runtime::{Runbook, Runtime},
};
use clap::ValueEnum;

/// `rehearse`.
#[derive(Debug, clap::Args)]
pub(super) struct RehearseCommand {
    /// The runbook, a `.rhai` file
    runbook: std::path::PathBuf,
    /// A parameter of the runbook
    #[arg(short, long = "param", value_name = "KEY=VALUE")]
    params: Vec<String>,
    /// Which faults happen, each on its own
    #[arg(long, value_enum, default_value = "all", value_name = "FAULTS")]
    faults: FaultsArg,
    /// How many schedules of several faults to play as well
    #[arg(long, default_value_t = 0, value_name = "N")]
    seeds: u64,
    /// The seed of the first schedule
    #[arg(long, default_value_t = 1, value_name = "S")]
    seed: u64,
    /// Play one scenario and no other, and tell its story
    #[arg(long, value_name = "SCENARIO")]
    only: Option<String>,
    /// How the verdict is shown
    #[arg(short, long, value_enum, default_value = "text", value_name = "FORMAT")]
    output: ReportFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FaultsArg {
    /// Deaths of the process and failures of requests
    All,
    /// Deaths of the process
    Crash,
    /// Failures of requests
    Api,
}

impl RehearseCommand {
    /// Rehearses a runbook; the exit code is 0 when no invariant was violated.
    pub(super) fn rehearse_and_report(&self, runtime: &Runtime) -> u8 {
        match self.rehearse_runbook(runtime) {
            Ok(report) => self.print_report(&report),
            Err(error) => report_refusal(self.output, &error),
        }
    }

    fn rehearse_runbook(&self, runtime: &Runtime) -> Result<RehearsalReport, CliError> {
        let request = RehearsalRequest {
            runbook: Runbook::load_file(&self.runbook)?,
            params: parse_params(&self.params)?,
            faults: match self.faults {
                FaultsArg::All => FaultSelection::All,
                FaultsArg::Crash => FaultSelection::Crash,
                FaultsArg::Api => FaultSelection::Api,
            },
            seeds: self.seeds,
            seed: self.seed,
            only: self.only.clone(),
        };
        Ok(rehearsal::rehearse_runbook(&request, &runtime.config)?)
    }

    fn print_report(&self, report: &RehearsalReport) -> u8 {
        let replay = |scenario: &str| self.replay_command(scenario);
        match self.output {
            ReportFormat::Text => {
                let ink = terminal::stderr_painter();
                terminal::print_data(&report.render_text(ink, &replay));
                if let Some(story) = &report.story {
                    terminal::print_data(&format!("\n{}", render_story(story, ink)));
                }
            }
            ReportFormat::Json => {
                let mut events = report.scenario_events(&replay);
                events.extend(report.story.as_ref().map(story_to_json));
                events.push(report.finished_event());
                for event in &events {
                    terminal::print_data(&event.to_string());
                }
            }
        }
        if report.count_violated() == 0 { 0 } else { exit_code::FAILED }
    }

    /// Returns the command that repeats one scenario.
    fn replay_command(&self, scenario: &str) -> String {
        let file = self.runbook.display().to_string();
        let mut words = vec!["redrill", "rehearse", &file];
        words.extend(self.params.iter().flat_map(|param| ["-p", param]));
        words.extend(["--only", scenario]);
        words.into_iter().map(shell::quote_shell_word).collect::<Vec<_>>().join(" ")
    }
}
