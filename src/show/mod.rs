//! What people and programs read: values, errors and runs as text, tables and JSON.
//!
//! Nothing here prints, and nothing here knows whether anybody looks: width and ink are handed in.

pub mod data;
pub mod table;
pub mod timeline;
pub mod trouble;

pub use data::Format;
pub use trouble::Trouble;

/// Returns a length of time as people read it: `0.2s`, `42s`, `2m 05s`.
pub fn took(seconds: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a time that passed, in whole seconds"
    )]
    let whole = seconds.round().max(0.0) as u64;
    match whole {
        _ if seconds.fract() == 0.0 && whole < 60 => format!("{whole}s"),
        0..60 => format!("{seconds:.1}s"),
        60..3600 => format!("{}m {:02}s", whole / 60, whole % 60),
        _ => format!("{}h {:02}m", whole / 3600, whole / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        for (seconds, text) in
            [(0.0, "0s"), (0.04, "0.0s"), (12.34, "12.3s"), (125.0, "2m 05s"), (7260.0, "2h 01m")]
        {
            assert_eq!(took(seconds), text);
        }
    }
}
