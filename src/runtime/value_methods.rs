//! What a script can do with moments, durations and handles.

use super::{
    script_error::{RhaiResult, misuse_error},
    values::Handle,
};
use crate::base::moment::{Moment, Span};
use rhai::{Engine, INT, ImmutableString};

/// Registers moments, durations and handles with an engine.
pub(super) fn register_values(engine: &mut Engine) {
    register_moments(engine);
    register_spans(engine);
    engine
        .register_type_with_name::<Handle>("handle")
        .register_indexer_get(|handle: &mut Handle, field: ImmutableString| {
            handle.get_field(&field).map_err(|why| misuse_error(&why))
        })
        .register_fn("to_string", |handle: &mut Handle| handle.to_string())
        .register_fn("to_debug", |handle: &mut Handle| handle.to_string())
        .register_fn("==", |a: Handle, b: Handle| a == b)
        .register_fn("!=", |a: Handle, b: Handle| a != b);
}

fn register_moments(engine: &mut Engine) {
    engine
        .register_type_with_name::<Moment>("moment")
        .register_fn("to_string", |m: &mut Moment| m.to_string())
        .register_fn("to_debug", |m: &mut Moment| m.to_string())
        .register_fn("-", Moment::duration_since)
        .register_fn("+", Moment::saturating_add)
        .register_fn("-", |m: Moment, s: Span| m.saturating_add(Span(-s.0)))
        .register_fn("+", |m: Moment, text: &str| RhaiResult::Ok(m.saturating_add(parse_span(text)?)))
        .register_fn("-", |m: Moment, text: &str| {
            RhaiResult::Ok(m.saturating_add(Span(-parse_span(text)?.0)))
        })
        .register_fn("==", |a: Moment, b: Moment| a == b)
        .register_fn("!=", |a: Moment, b: Moment| a != b)
        .register_fn("<", |a: Moment, b: Moment| a < b)
        .register_fn("<=", |a: Moment, b: Moment| a <= b)
        .register_fn(">", |a: Moment, b: Moment| a > b)
        .register_fn(">=", |a: Moment, b: Moment| a >= b);
}

fn register_spans(engine: &mut Engine) {
    engine
        .register_type_with_name::<Span>("duration")
        .register_fn("to_string", |s: &mut Span| s.to_string())
        .register_fn("to_debug", |s: &mut Span| s.to_string())
        .register_get("seconds", |s: &mut Span| s.as_secs_f64())
        .register_fn("+", |a: Span, b: Span| Span(a.0.saturating_add(b.0)))
        .register_fn("-", |a: Span, b: Span| Span(a.0.saturating_sub(b.0)))
        .register_fn("*", |a: Span, n: INT| Span(a.0.saturating_mul(n.try_into().unwrap_or(i32::MAX))))
        .register_fn("==", |a: Span, b: Span| a == b)
        .register_fn("!=", |a: Span, b: Span| a != b)
        .register_fn("<", |a: Span, b: Span| a < b)
        .register_fn("<=", |a: Span, b: Span| a <= b)
        .register_fn(">", |a: Span, b: Span| a > b)
        .register_fn(">=", |a: Span, b: Span| a >= b);
}

/// Reads a moment from the text of a script.
pub(super) fn parse_moment(text: &str) -> RhaiResult<Moment> {
    Moment::parse(text).map_err(|e| misuse_error(&format!("{e}: {}", e.hint())))
}

/// Reads a duration from the text of a script.
pub(super) fn parse_span(text: &str) -> RhaiResult<Span> {
    Span::parse(text).map_err(|e| misuse_error(&format!("{e}: {}", e.hint())))
}
