//! How many scenarios of the flagship are rehearsed in a second.

use crate::{
    Result,
    measure::{Line, Sample, rate, timed},
};
use redrill::{
    config::{self, Locations},
    rehearsal::{self, Faults, Order},
    runtime::Runbook,
};
use std::{collections::BTreeMap, path::Path};

const SEEDS: u64 = 1_000;

/// Measures whole rehearsals: the undisturbed run, every single fault, and a thousand schedules of several.
pub(crate) fn measure(rounds: usize) -> Result<()> {
    let config = config::load(&Locations { config: None, state: Some("/nowhere".into()) })?;
    let mut scenarios = Sample::default();
    for round in 0..=rounds {
        let runbook = Runbook::load(Path::new("runbooks/restore_to_branch.rhai"))?;
        let (params, faults) = (BTreeMap::new(), Faults::All);
        let order = Order { runbook, params, faults, seeds: SEEDS, seed: 1, only: None };
        let (seconds, report) = timed(|| rehearsal::rehearse(&order, &config));
        let report = report?;
        if report.violations() > 0 {
            return Err(format!("{} scenarios violated something", report.violations()).into());
        }
        if round > 0 {
            scenarios.push(f64::from(u32::try_from(report.scenes().count())?) / seconds);
        }
    }
    let measured = scenarios.show(rate);
    let (what, floor, ratio) = ("scenarios of the flagship, rehearsed", String::new(), String::new());
    Line { what, measured, floor, ratio, aim: "10,000/s" }.print();
    Ok(())
}
