//! Moments and spans of time as people write them: RFC 3339 with a zone, and `45m`.

use super::value;
use jiff::{SignedDuration, SpanRelativeTo, Timestamp, fmt::temporal::DateTimeParser};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::fmt;

/// An instant. Written as RFC 3339 in UTC; never naive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub Timestamp);

/// A moment as a person gives it: fixed, or counted back from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GivenMoment {
    /// An instant.
    Fixed(Moment),
    /// So long before now; the span is negative, or zero.
    Back(Span),
}

/// A length of time, written `1h 30m`, `45s`, `250ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(pub SignedDuration);

/// The first and the last moment that somebody can give: no target has anything from before or after, and the calendars
/// of targets end before this one's does.
const EARLIEST: Moment = Moment(Timestamp::UNIX_EPOCH);
const LATEST: Moment = Moment(Timestamp::constant(32_503_679_999, 0));

/// Why a text is not a moment or a span.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A date and time without a zone: it means another instant on every machine.
    #[error("`{0}` has no time zone")]
    MissingZone(String),
    /// Not RFC 3339.
    #[error("`{0}` is not a moment")]
    NotAMoment(String),
    /// A moment that is counted back from now, where only a fixed one means the same at every resume.
    #[error("`{0}` is counted back from now, and would be another moment at every resume")]
    Unfixed(String),
    /// A moment of which no target can have anything.
    #[error("`{0}` is not between {EARLIEST} and {LATEST}")]
    OutOfRange(Moment),
    /// Not a length of time.
    #[error("`{0}` is not a duration")]
    NotASpan(String),
}

impl Error {
    /// Returns what to write instead.
    pub fn hint(&self) -> String {
        match self {
            Error::MissingZone(text) => {
                format!(
                    "write the zone: `{}Z` for UTC, or an offset such as `+02:00`",
                    text.replacen(' ', "T", 1)
                )
            }
            Error::NotAMoment(_) => "write RFC 3339 with a zone, such as `2026-11-20T03:00:00Z`".into(),
            Error::Unfixed(text) => format!(
                "take it as a parameter of type `time`, which is resolved once: `-p to={text}`; or write `now() - \"{}\"`, which is recorded",
                text.trim().trim_start_matches('-')
            ),
            Error::OutOfRange(_) => format!("give a moment from {EARLIEST} to {LATEST}"),
            Error::NotASpan(_) => "write a number and a unit, such as `45s`, `30m`, `1h 30m`".into(),
        }
    }
}

impl Moment {
    /// Reads RFC 3339 with a zone.
    ///
    /// # Errors
    /// [`Error::MissingZone`] where the zone is missing, [`Error::Unfixed`] for one that is counted back from now,
    /// [`Error::NotAMoment`] for anything else.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        if parse_negative_span(text).is_some() {
            return Err(Error::Unfixed(text.into()));
        }
        text.parse::<Timestamp>().map(Moment).map_err(|_| match DateTimeParser::new().parse_datetime(text) {
            Ok(_) => Error::MissingZone(text.into()),
            Err(_) => Error::NotAMoment(text.into()),
        })
    }

    /// Returns the next whole second, for people.
    #[must_use]
    pub fn round_up_to_second(self) -> Self {
        let second = jiff::Timestamp::from_second(self.0.as_second().saturating_add(1));
        Self(second.unwrap_or(self.0))
    }

    /// Returns the time from `earlier` to this moment; negative when it lies before.
    pub fn duration_since(self, earlier: Moment) -> Span {
        Span(self.0.duration_since(earlier.0))
    }

    /// Refuses a moment that somebody gave and can not have meant.
    ///
    /// # Errors
    /// [`Error::OutOfRange`].
    pub fn require_plausible(self) -> Result<Self, Error> {
        if (EARLIEST..=LATEST).contains(&self) { Ok(self) } else { Err(Error::OutOfRange(self)) }
    }

    /// Returns the moment `span` later (earlier if it is negative), clamped to the ends of the calendar.
    #[must_use]
    pub fn saturating_add(self, span: Span) -> Moment {
        let end = if span.0.is_negative() { Timestamp::MIN } else { Timestamp::MAX };
        Moment(self.0.checked_add(span.0).unwrap_or(end))
    }
}

impl GivenMoment {
    /// Reads RFC 3339 with a zone, or how long ago: `-30m`, `-1d 2h`.
    ///
    /// # Errors
    /// As [`Moment::parse`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        match parse_negative_span(text) {
            Some(span) => Ok(Self::Back(span)),
            None => Moment::parse(text).map(Self::Fixed),
        }
    }

    /// Returns whether a text is counted back from now.
    pub fn is_relative_text(text: &str) -> bool {
        parse_negative_span(text).is_some()
    }

    /// Returns whether it is counted back from now.
    pub const fn is_counted_back(self) -> bool {
        matches!(self, Self::Back(_))
    }

    /// Returns the instant, as of `now`.
    ///
    /// # Errors
    /// [`Error::OutOfRange`].
    pub fn resolve(self, now: Moment) -> Result<Moment, Error> {
        self.resolve_unchecked(now).require_plausible()
    }

    /// Returns the instant, as of `now`, also one that nobody can have meant.
    #[must_use]
    pub fn resolve_unchecked(self, now: Moment) -> Moment {
        match self {
            Self::Fixed(moment) => moment,
            Self::Back(span) => now.saturating_add(span),
        }
    }
}

/// Returns the span of `-30m`; nothing for a text of another form.
fn parse_negative_span(text: &str) -> Option<Span> {
    let digits = text.trim().strip_prefix('-')?;
    digits
        .starts_with(|c: char| c.is_ascii_digit())
        .then(|| Span::parse(digits).ok())?
        .map(|span| Span(-span.0))
}

impl Span {
    /// The empty span.
    pub const ZERO: Span = Span(SignedDuration::ZERO);

    /// Returns a span of whole seconds.
    pub const fn from_secs(n: i64) -> Span {
        Span(SignedDuration::from_secs(n))
    }

    /// Returns a span of milliseconds.
    pub const fn from_millis(n: i64) -> Span {
        Span(SignedDuration::from_millis(n))
    }

    /// Returns a standard `Duration` in whole milliseconds.
    pub fn from_std(duration: std::time::Duration) -> Span {
        Span::from_millis(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
    }

    /// Reads `45m`, `1h 30m`, `2d`, `250ms`; a day is 24 hours.
    ///
    /// # Errors
    /// [`Error::NotASpan`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        let wrong = || Error::NotASpan(text.into());
        let span: jiff::Span = text.trim().parse().map_err(|_| wrong())?;
        span.to_duration(SpanRelativeTo::days_are_24_hours()).map(Span).map_err(|_| wrong())
    }

    /// Returns this span as a standard `Duration`; a negative span becomes zero.
    pub fn to_std(self) -> std::time::Duration {
        self.0.try_into().unwrap_or_default()
    }

    /// Returns this span in whole milliseconds.
    pub fn as_millis(self) -> i64 {
        i64::try_from(self.0.as_millis()).unwrap_or(i64::MAX)
    }

    /// Returns this span in seconds.
    pub fn as_secs_f64(self) -> f64 {
        self.0.as_secs_f64()
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.0)
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        value::tag_value(value::MOMENT_TAG, self.to_string()).serialize(to)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = value::expect_text_or_tagged(&serde_json::Value::deserialize(from)?, value::MOMENT_TAG)
            .map_err(D::Error::custom)?;
        Moment::parse(&text).map_err(D::Error::custom)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        value::tag_value(value::DURATION_TAG, self.to_string()).serialize(to)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = value::expect_text_or_tagged(&serde_json::Value::deserialize(from)?, value::DURATION_TAG)
            .map_err(D::Error::custom)?;
        Span::parse(&text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_may_be_counted_back_from_now_where_a_person_gives_it() {
        let now = Moment::parse("2026-11-20T12:00:00Z").expect("a moment");
        let resolve = |text: &str| GivenMoment::parse(text)?.resolve(now).map(|moment| moment.to_string());
        assert_eq!(resolve("-30m").as_deref(), Ok("2026-11-20T11:30:00Z"));
        assert_eq!(resolve(" -1d 2h ").as_deref(), Ok("2026-11-19T10:00:00Z"));
        assert_eq!(resolve("-0s").as_deref(), Ok("2026-11-20T12:00:00Z"));
        assert_eq!(resolve("2026-11-20T03:00:00Z").as_deref(), Ok("2026-11-20T03:00:00Z"));
        for wrong in ["30m", "+30m", "--30m", "-soon", "-30", "- 30m"] {
            assert_eq!(resolve(wrong), Err(Error::NotAMoment(wrong.into())), "{wrong}");
        }
        assert_eq!(resolve("2026-11-20T03:00"), Err(Error::MissingZone("2026-11-20T03:00".into())));
        let unfixed = Moment::parse("-30m").expect_err("a script has it fixed");
        assert_eq!(unfixed, Error::Unfixed("-30m".into()));
        assert!(unfixed.hint().contains("`-p to=-30m`") && unfixed.hint().contains("now() - \"30m\""));
    }

    #[test]
    fn a_moment_that_nobody_can_mean_is_refused_with_the_range() {
        let now = Moment::parse("2026-11-20T12:00:00Z").expect("a moment");
        let resolve = |text: &str| GivenMoment::parse(text).and_then(|given| given.resolve(now));
        for text in
            ["-99999999h", "-20820d", "1969-12-31T23:59:59Z", "3000-01-01T00:00:00Z", "9999-01-01T00:00:00Z"]
        {
            let refused = resolve(text).expect_err(text);
            assert!(matches!(refused, Error::OutOfRange(_)), "{text}: {refused}");
            for end in ["1970-01-01T00:00:00Z", "2999-12-31T23:59:59Z"] {
                assert!(
                    refused.to_string().contains(end) && refused.hint().contains(end),
                    "{text}: {refused}"
                );
            }
        }
        for text in ["-20454d", "1970-01-01T00:00:00Z", "2999-12-31T23:59:59Z"] {
            assert!(resolve(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_moment_needs_a_zone() {
        for naive in ["2026-11-20T03:00:00", "2026-11-20 03:00:00", "2026-11-20T03:00"] {
            assert_eq!(Moment::parse(naive), Err(Error::MissingZone(naive.into())), "{naive}");
        }
        assert_eq!(Moment::parse("yesterday"), Err(Error::NotAMoment("yesterday".into())));
        let zoned = Moment::parse("2026-11-20T03:00:00+02:00").expect("has a zone");
        assert_eq!(zoned.to_string(), "2026-11-20T01:00:00Z");
    }

    #[test]
    fn a_span_reads_and_prints() {
        for (text, printed) in
            [("45m", "45m"), ("90s", "90s"), ("1h30m", "1h 30m"), ("2d", "48h"), ("250ms", "250ms")]
        {
            let span = Span::parse(text).expect(text);
            assert_eq!(Span::parse(&span.to_string()), Ok(span));
            if text != "90s" {
                assert_eq!(span.to_string(), printed);
            }
        }
        assert!(Span::parse("45").is_err());
        assert!(Span::parse("soon").is_err());
    }

    #[test]
    fn both_survive_json() {
        let moment = Moment::parse("2026-11-20T01:00:00.123456Z").expect("a moment");
        let json = serde_json::to_value(moment).expect("serializes");
        assert_eq!(json, serde_json::json!({"$moment": "2026-11-20T01:00:00.123456Z"}));
        assert_eq!(serde_json::from_value::<Moment>(json).expect("reads"), moment);
        assert_eq!(
            serde_json::from_str::<Moment>("\"2026-11-20T01:00:00.123456Z\"").expect("plain text reads too"),
            moment
        );
    }
}
