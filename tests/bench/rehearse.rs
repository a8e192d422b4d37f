//! How many scenarios of the flagship are rehearsed in a second.

use crate::{
    Result,
    measure::{Sample, TableRow, format_rate, time_work},
};
use redrill::{
    config::{self, Locations},
    rehearsal::{self, FaultSelection, RehearsalRequest},
    runtime::Runbook,
};
use std::{collections::BTreeMap, path::Path};

const SEEDS: u64 = 1_000;

/// Measures whole rehearsals: the undisturbed run, every single fault, and a thousand schedules of several.
pub(crate) fn measure_rehearsal(rounds: usize) -> Result<()> {
    let config = config::load_config(&Locations { config: None, state: Some("/nowhere".into()) })?;
    let mut scenarios = Sample::default();
    for round in 0..=rounds {
        let runbook = Runbook::load_file(Path::new("runbooks/restore_to_branch.rhai"))?;
        let (params, faults) = (BTreeMap::new(), FaultSelection::ALL);
        let order = RehearsalRequest { runbook, params, faults, seeds: SEEDS, seed: 1, only: None };
        let (seconds, report) = time_work(|| rehearsal::rehearse_runbook(&order, &config));
        let report = report?;
        if report.count_violated() > 0 {
            return Err(format!("{} scenarios violated something", report.count_violated()).into());
        }
        if round > 0 {
            scenarios.push(f64::from(u32::try_from(report.scenario_verdicts().count())?) / seconds);
        }
    }
    let measured = scenarios.render_with(format_rate);
    let (what, floor, ratio) = ("scenarios of the flagship, rehearsed", String::new(), String::new());
    TableRow { what, measured, floor, ratio, aim: "10,000/s" }.print_row();
    Ok(())
}
