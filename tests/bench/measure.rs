//! Figures: a median with the smallest and the largest, against a floor measured in the same round.

use redrill::base::terminal;
use std::time::Instant;

/// One figure, measured once a round.
#[derive(Default, Clone)]
pub(crate) struct Sample(Vec<f64>);

impl Sample {
    /// Adds the figure of the next round.
    pub(crate) fn push(&mut self, figure: f64) {
        self.0.push(figure);
    }

    /// Returns every figure changed in the same way.
    pub(crate) fn map(&self, change: impl Fn(f64) -> f64) -> Sample {
        Sample(self.0.iter().map(|figure| change(*figure)).collect())
    }

    /// Returns the figures divided by those of the same rounds of another sample.
    pub(crate) fn divide_by(&self, floor: &Sample) -> Sample {
        Sample(self.0.iter().zip(&floor.0).map(|(a, b)| a / b).collect())
    }

    /// Returns `median (smallest–largest)`.
    pub(crate) fn render_with(&self, unit: fn(f64) -> String) -> String {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        match (sorted.first(), sorted.get(sorted.len() / 2), sorted.last()) {
            (Some(least), Some(median), Some(most)) if sorted.len() > 1 => {
                format!("{} ({}–{})", unit(*median), unit(*least), unit(*most))
            }
            (Some(only), ..) => unit(*only),
            _ => "not measured".into(),
        }
    }
}

/// One line of the table.
pub(crate) struct TableRow<'a> {
    pub(crate) what: &'a str,
    pub(crate) measured: String,
    pub(crate) floor: String,
    pub(crate) ratio: String,
    pub(crate) aim: &'a str,
}

impl TableRow<'_> {
    /// Prints the line as one of a Markdown table.
    pub(crate) fn print_row(&self) {
        let TableRow { what, measured, floor, ratio, aim } = self;
        terminal::print_data(&format!("| {what} | {measured} | {floor} | {ratio} | {aim} |"));
    }
}

/// Prints the head of the table.
pub(crate) fn print_header() {
    terminal::print_data("| what | measured | floor | ratio | aim |\n|---|---|---|---|---|");
}

/// Returns how many seconds `work` took, and what came of it.
pub(crate) fn time_work<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let started = Instant::now();
    let value = work();
    (started.elapsed().as_secs_f64(), value)
}

/// Shows seconds as milliseconds.
pub(crate) fn format_millis(seconds: f64) -> String {
    format!("{:.1} ms", seconds * 1e3)
}

/// Shows bytes as mebibytes.
pub(crate) fn format_mebibytes(bytes: f64) -> String {
    format!("{:.1} MiB", bytes / f64::from(1 << 20))
}

/// Shows a number without a unit.
pub(crate) fn format_ratio(ratio: f64) -> String {
    format!("{ratio:.2}")
}

/// Shows a number of things a second.
pub(crate) fn format_rate(rate: f64) -> String {
    format!("{rate:.0}/s")
}
