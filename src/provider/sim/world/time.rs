//! Times of a world's file: microseconds since 1970.

use crate::base::moment::{Moment, Span};

/// Returns a moment in microseconds since 1970.
pub(super) fn to_micros(moment: Moment) -> i64 {
    moment.0.as_microsecond()
}

/// Returns the moment that many microseconds after 1970.
pub(in crate::provider::sim) fn from_micros(micros: i64) -> Moment {
    Moment(jiff::Timestamp::from_microsecond(micros).unwrap_or(jiff::Timestamp::MAX))
}

/// Returns the span of that many microseconds.
pub(super) fn micros_to_span(micros: i64) -> Span {
    Span(jiff::SignedDuration::from_micros(micros))
}

/// Returns a span in microseconds.
pub(super) fn span_to_micros(span: Span) -> i64 {
    i64::try_from(span.0.as_micros()).unwrap_or(i64::MAX)
}
