//! Times, moments, sizes and metrics as people read them.

use crate::base::{moment::Moment, value};
use serde_json::Value;

/// Formats seconds for people: `35ms`, `4.2s`, `2m 05s`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a time that passed, in whole units"
)]
pub fn format_seconds(seconds: f64) -> String {
    let whole = seconds.round().max(0.0) as u64;
    match whole {
        _ if seconds.fract() == 0.0 && whole < 60 => format!("{whole}s"),
        _ if seconds < 0.9995 => format!("{}ms", (seconds * 1000.0).round().max(0.0) as u64),
        0..60 => format!("{seconds:.1}s"),
        60..3600 => format!("{}m {:02}s", whole / 60, whole % 60),
        _ => format!("{}h {:02}m", whole / 3600, whole / 60 % 60),
    }
}

/// Formats a moment rounded to the second, for people.
pub fn format_moment(moment: Moment) -> String {
    moment.0.round(jiff::Unit::Second).unwrap_or(moment.0).to_string()
}

/// Formats a metric with its unit, with at most three decimals.
pub fn format_metric(value: &Value, unit: &str) -> String {
    let number = value.as_f64().filter(|_| value.is_f64());
    let text = match number {
        Some(x) => format!("{x:.3}").trim_end_matches('0').trim_end_matches('.').to_owned(),
        None => value.as_str().map_or_else(|| value::strip_tags(value).to_string(), str::to_owned),
    };
    format!("{text} {unit}").trim_end().to_owned()
}

/// Returns a size as people read it: `1.5 MiB`.
pub fn format_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "two digits of it are shown")]
    let mut amount = bytes as f64 / 1024.0;
    let mut unit = 0;
    while amount >= 1023.95 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    format!("{amount:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        for (seconds, text) in [
            (0.0, "0s"),
            (0.0351, "35ms"),
            (0.9999, "1.0s"),
            (12.34, "12.3s"),
            (125.0, "2m 05s"),
            (7260.0, "2h 01m"),
        ] {
            assert_eq!(format_seconds(seconds), text);
        }
    }

    #[test]
    fn figures_are_short() {
        assert_eq!(format_metric(&0.035_404_902.into(), "s"), "0.035 s");
        assert_eq!(format_metric(&211.into(), "orders"), "211 orders");
        assert_eq!(format_metric(&2.0.into(), ""), "2");
    }

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_048_575, "1.0 MiB"),
            (u64::MAX, "16384.0 PiB"),
        ] {
            assert_eq!(format_bytes(bytes), text);
        }
    }
}
