//! `rehearse`: a runbook under every fault, and the verdict.

use super::{
    ending::{Shown, refused},
    exit,
    run::pairs,
};
use crate::{
    base::terminal,
    rehearsal::{self, Faults, Order, Report},
    runtime::{Runbook, World},
    show::{Trouble, trouble},
};
use clap::ValueEnum;

/// `rehearse`.
#[derive(Debug, clap::Args)]
pub(super) struct Rehearse {
    /// The runbook, a `.rhai` file
    runbook: std::path::PathBuf,
    /// A parameter of the runbook
    #[arg(short, long = "param", value_name = "KEY=VALUE")]
    params: Vec<String>,
    /// Which faults happen, each on its own
    #[arg(long, value_enum, default_value = "all", value_name = "FAULTS")]
    faults: Kinds,
    /// How many schedules of several faults there are besides
    #[arg(long, default_value_t = 0, value_name = "N")]
    seeds: u64,
    /// The seed of the first of them
    #[arg(long, default_value_t = 1, value_name = "S")]
    seed: u64,
    /// Play one scenario and no other
    #[arg(long, value_name = "SCENARIO")]
    only: Option<String>,
    /// How the verdict is shown
    #[arg(short, long, value_enum, default_value = "text", value_name = "FORMAT")]
    output: Shown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kinds {
    /// Deaths of the process and failures of requests
    All,
    /// Deaths of the process
    Crash,
    /// Failures of requests
    Api,
}

impl Rehearse {
    /// Rehearses a runbook; the exit code is 0 when no invariant was violated.
    pub(super) fn perform(&self, world: &World) -> u8 {
        match self.rehearse(world) {
            Ok(report) => self.say(&report),
            Err(trouble) => refused(self.output, &trouble),
        }
    }

    fn rehearse(&self, world: &World) -> Result<Report, Trouble> {
        let order = Order {
            runbook: Runbook::load(&self.runbook)?,
            params: pairs(&self.params)?,
            faults: match self.faults {
                Kinds::All => Faults::All,
                Kinds::Crash => Faults::Crash,
                Kinds::Api => Faults::Api,
            },
            seeds: self.seeds,
            seed: self.seed,
            only: self.only.clone(),
        };
        Ok(rehearsal::rehearse(&order, &world.config)?)
    }

    fn say(&self, report: &Report) -> u8 {
        let replay = |scenario: &str| self.replay(scenario);
        match self.output {
            Shown::Text => terminal::out(&report.text(terminal::ink(), &replay)),
            Shown::Json => report.lines(&replay).iter().for_each(|line| terminal::out(line)),
        }
        if report.violations() == 0 { 0 } else { trouble::FAILED }
    }

    /// Returns the command that repeats one scenario.
    fn replay(&self, scenario: &str) -> String {
        let file = self.runbook.display().to_string();
        let mut words = vec!["redrill", "rehearse", &file];
        words.extend(self.params.iter().flat_map(|param| ["-p", param]));
        words.extend(["--only", scenario]);
        words.into_iter().map(exit::quoted).collect::<Vec<_>>().join(" ")
    }
}
