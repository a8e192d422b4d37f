//! The limits of a script, and the stack on which they fit.
//!
//! Rhai's own limits of size walk a whole list at every change of it, so that a list of n items costs n² to build. Here the
//! memory of the process is the limit, looked at between any two steps of a script; what could make a huge value in one
//! step is refused by its size.

use super::script_error::{RhaiResult, codes, raise_at_call};
use crate::base::memory::allocated_bytes;
use rhai::{Array, Blob, Dynamic, Engine, INT, ImmutableString, NativeCallContext as NativeContext};

/// The stack of a thread that runs a script: calls nested to the limits below fit with room to spare.
pub(super) const STACK_BYTES: usize = 64 << 20;
/// The memory that a script may take beyond what the process had when it began.
const MEMORY_LIMIT: usize = 1 << 30;
/// The most items, characters or bytes that one step may make of nothing.
const PADDING_LIMIT: usize = 10_000_000;

/// Sets every limit of an engine: Rhai's presets differ between debug and release.
pub(super) fn set_limits(engine: &mut Engine) {
    engine
        .set_max_call_levels(128)
        .set_max_expr_depths(128, 64)
        .set_max_operations(500_000_000)
        .set_max_variables(10_000)
        .set_max_functions(10_000)
        .set_max_modules(1_000)
        .set_max_string_size(0)
        .set_max_array_size(0)
        .set_max_map_size(0);
    engine
        .register_fn("pad", |cx: NativeContext<'_>, list: &mut Array, len: INT, item: Dynamic| {
            let len = require_padding_length(&cx, len)?.max(list.len());
            list.resize(len, item);
            RhaiResult::Ok(())
        })
        .register_fn("pad", |cx: NativeContext<'_>, text: &mut ImmutableString, len: INT, with: char| {
            pad_text(&cx, text, len, with.encode_utf8(&mut [0; 4]))
        })
        .register_fn("pad", |cx: NativeContext<'_>, text: &mut ImmutableString, len: INT, with: &str| {
            pad_text(&cx, text, len, with)
        })
        .register_fn("pad", |cx: NativeContext<'_>, bytes: &mut Blob, len: INT, with: INT| {
            let len = require_padding_length(&cx, len)?.max(bytes.len());
            bytes.resize(len, with.to_le_bytes()[0]);
            RhaiResult::Ok(())
        })
        .register_fn("blob", |cx: NativeContext<'_>, len: INT| {
            RhaiResult::Ok(vec![0_u8; require_padding_length(&cx, len)?])
        })
        .register_fn("blob", |cx: NativeContext<'_>, len: INT, with: INT| {
            RhaiResult::Ok(vec![with.to_le_bytes()[0]; require_padding_length(&cx, len)?])
        });
}

/// Lengthens a text to `len` characters at least.
fn pad_text(cx: &NativeContext<'_>, text: &mut ImmutableString, len: INT, with: &str) -> RhaiResult<()> {
    let (len, has) = (require_padding_length(cx, len)?, text.chars().count());
    if len > has && !with.is_empty() {
        let times = (len - has).div_ceil(with.chars().count());
        let padded: String = text.chars().chain(with.repeat(times).chars()).take(len).collect();
        *text = padded.into();
    }
    Ok(())
}

/// Returns a length that one step of a script may make.
fn require_padding_length(cx: &NativeContext<'_>, len: INT) -> RhaiResult<usize> {
    match usize::try_from(len) {
        Err(_) => Ok(0),
        Ok(len) if len <= PADDING_LIMIT => Ok(len),
        Ok(len) => {
            let message = format!("a length of {len} is too large: one step makes {PADDING_LIMIT} at most");
            raise_at_call(cx, codes::SCRIPT, &message)
        }
    }
}

/// The memory that one script may take.
pub(super) struct MemoryAllowance {
    /// What the process may have allocated at most.
    end: usize,
}

impl MemoryAllowance {
    /// Returns the allowance of a script that begins now.
    pub(super) fn from_now() -> Self {
        Self { end: allocated_bytes().saturating_add(MEMORY_LIMIT) }
    }

    /// Returns why the script may not go on, if it has taken more.
    pub(super) fn find_excess(&self) -> Option<String> {
        let taken = allocated_bytes();
        (taken > self.end).then(|| {
            format!(
                "the script takes more than {} MiB of memory; it keeps too much at a time",
                MEMORY_LIMIT >> 20
            )
        })
    }
}
