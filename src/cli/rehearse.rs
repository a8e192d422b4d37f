//! `rehearse`: a runbook under every fault, and the verdict.

use super::{
    run::parse_params,
    run_output::{ReportFormat, report_refusal},
};
use crate::{
    base::{shell, terminal},
    rehearsal::{self, DEFAULT_FAULTS, FaultFamily, FaultSelection, RehearsalReport, RehearsalRequest},
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
    /// Which faults happen: one family, or several after commas
    #[arg(long, value_enum, value_delimiter = ',', default_value = DEFAULT_FAULTS, value_name = "FAULTS")]
    faults: Vec<FaultsArg>,
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
    /// All that follow
    All,
    /// Deaths of the process
    Crash,
    /// Requests that fail at once, or are answered late or never
    Api,
    /// Requests that take effect later than they should, or only in part
    Late,
    /// What other people do meanwhile: a colleague changes something beside the run, an operator gives the run up,
    /// decides, edits its text or takes it over, a gate is not given; and steps of the machine's clock
    Operators,
}

impl FaultsArg {
    /// Returns some families with those that a word stands for.
    fn add_families(families: FaultSelection, more: Self) -> FaultSelection {
        match more {
            Self::All => FaultSelection::ALL,
            Self::Crash => families.with(FaultFamily::Crash),
            Self::Api => families.with(FaultFamily::Api),
            Self::Late => families.with(FaultFamily::Late),
            Self::Operators => families.with(FaultFamily::Operators),
        }
    }

    /// Returns the word that stands for it.
    fn to_word(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

impl RehearseCommand {
    /// Rehearses a runbook; the exit code is 0 when no invariant was violated.
    pub(super) fn rehearse_and_report(&self, runtime: &Runtime) -> u8 {
        match self.rehearse_runbook(runtime) {
            Ok(report) => self.print_report(&report),
            Err(error) => report_refusal(self.output.into(), &error),
        }
    }

    fn rehearse_runbook(&self, runtime: &Runtime) -> Result<RehearsalReport, CliError> {
        let request = RehearsalRequest {
            runbook: Runbook::load_file(&self.runbook)?,
            params: parse_params(&self.params)?,
            faults: self.faults.iter().copied().fold(FaultSelection::NONE, FaultsArg::add_families),
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
        let faults = self.faults.iter().map(|faults| faults.to_word()).collect::<Vec<_>>().join(",");
        // What a seed draws depends on the families.
        if scenario.starts_with("seed:") && faults != DEFAULT_FAULTS {
            words.extend(["--faults", &faults]);
        }
        words.extend(["--only", scenario]);
        let words: Vec<String> = words.into_iter().map(shell::quote_shell_word).collect();
        shell::with_location_options(&words.join(" "))
    }
}
