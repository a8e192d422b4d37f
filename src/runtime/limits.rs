//! The limits of a script, and the stack on which they fit.

use rhai::Engine;

/// The stack of a thread that runs a script: calls nested to the limits below fit with room to spare.
pub(super) const STACK_BYTES: usize = 64 << 20;

/// Sets every limit of an engine: Rhai's presets differ between debug and release.
pub(super) fn set_limits(engine: &mut Engine) {
    engine
        .set_max_call_levels(128)
        .set_max_expr_depths(128, 64)
        .set_max_operations(500_000_000)
        .set_max_variables(10_000)
        .set_max_functions(10_000)
        .set_max_modules(1_000)
        .set_max_string_size(64 << 20)
        .set_max_array_size(1_000_000)
        .set_max_map_size(1_000_000);
}
