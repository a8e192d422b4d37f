//! When a schedule takes its next backup.

use super::time::{from_micros, to_micros};
use crate::{
    base::moment::Moment,
    provider::{Code, Error, Result, model::Frequency},
};
use jiff::{civil, tz::TimeZone};

/// Reads `HH:MM`.
///
/// # Errors
/// [`Code::Invalid`].
pub(in crate::provider::sim) fn parse_time_of_day(text: &str) -> Result<civil::Time> {
    civil::Time::strptime("%H:%M", text).map_err(|_| {
        Error::new(Code::Invalid, format!("`{text}` is no time of day"))
            .with_hint("write it as `03:00`, in UTC")
    })
}

/// Returns the first moment after `from` (microseconds since 1970) at which a schedule is due.
pub(super) fn next_occurrence(every: Frequency, time: civil::Time, from: i64) -> Moment {
    let mut day = from_micros(from).0.to_zoned(TimeZone::UTC).date();
    loop {
        let is_its_day = match every {
            Frequency::Day => true,
            Frequency::Week => day.weekday() == civil::Weekday::Monday,
            Frequency::Month => day.day() == 1,
        };
        let at = day.to_datetime(time).to_zoned(TimeZone::UTC).map(|zoned| Moment(zoned.timestamp()));
        match (at, day.tomorrow()) {
            (Ok(at), _) if is_its_day && to_micros(at) > from => return at,
            (Ok(_), Ok(next)) => day = next,
            // The calendar ends: never again.
            _ => return Moment(jiff::Timestamp::MAX),
        }
    }
}

pub(in crate::provider::sim) fn frequency_word(every: Frequency) -> &'static str {
    match every {
        Frequency::Day => "day",
        Frequency::Week => "week",
        Frequency::Month => "month",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_time_is_after_now_and_on_its_day() {
        let from = |text: &str| to_micros(Moment::parse(text).expect("a moment"));
        let time = parse_time_of_day("03:00").expect("a time");
        let cases = [
            (Frequency::Day, "2026-11-20T02:59:59Z", "2026-11-20T03:00:00Z"),
            (Frequency::Day, "2026-11-20T03:00:00Z", "2026-11-21T03:00:00Z"),
            (Frequency::Week, "2026-11-20T12:00:00Z", "2026-11-23T03:00:00Z"),
            (Frequency::Month, "2026-12-01T03:00:00Z", "2027-01-01T03:00:00Z"),
        ];
        for (every, now, next) in cases {
            assert_eq!(next_occurrence(every, time, from(now)).to_string(), next);
        }
        assert!(parse_time_of_day("25:00").is_err() && parse_time_of_day("three").is_err());
    }
}
