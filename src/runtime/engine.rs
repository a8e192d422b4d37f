//! The sealed engine: what a runbook can do, and how much of it.

use super::{
    bind, flow,
    live::{CallScope, is_fork_abandoned},
    modules::PreloadedModules,
    strict, values,
};
use rhai::{
    Dynamic, Engine, OptimizationLevel,
    packages::{Package as _, StandardPackage},
};
use std::sync::{
    Arc, LazyLock,
    atomic::{AtomicBool, Ordering},
};

/// The stack of the thread that runs a script: nested calls to the limits below fit with room to spare.
pub(super) const STACK_BYTES: usize = 64 << 20;

/// Returns the shared engine, which belongs to no run: it compiles and checks runbooks.
///
/// Building one takes longer than compiling a runbook with it, so there is one for all.
pub(super) fn language_engine() -> &'static Engine {
    static LANGUAGE: LazyLock<Engine> = LazyLock::new(build_engine);
    &LANGUAGE
}

/// Builds an engine that belongs to no run.
pub(super) fn build_engine() -> Engine {
    let mut engine = Engine::new_raw();
    engine.register_global_module(StandardPackage::new().as_shared_module());
    set_limits(&mut engine);
    // `Full` would perform operations while compiling; `None` also leaves every branch for the checks to see.
    engine.set_optimization_level(OptimizationLevel::None);
    engine.set_strict_variables(true);
    engine.set_fail_on_invalid_map_property(true);
    // What is printed would be in no record; `note` is.
    for symbol in ["eval", "print", "debug"] {
        engine.disable_symbol(symbol);
    }
    values::register_values(&mut engine);
    strict::register_comparisons(&mut engine);
    flow::register_natives(&mut engine);
    bind::register_operations(&mut engine);
    engine
}

/// Returns an engine for one run: natives find the run through `frame`, modules come from `modules`, and nothing more
/// is evaluated once `stopped` is set.
pub(super) fn build_engine_for_run(
    frame: &CallScope,
    modules: PreloadedModules,
    stopped: Arc<AtomicBool>,
) -> Engine {
    let mut engine = build_engine();
    attach_run(&mut engine, frame, modules, stopped);
    engine
}

/// Attaches an engine to a run, in place of any other.
pub(super) fn attach_run(
    engine: &mut Engine,
    frame: &CallScope,
    modules: PreloadedModules,
    stopped: Arc<AtomicBool>,
) {
    engine.set_default_tag(Dynamic::from(frame.clone()));
    engine.set_module_resolver(modules);
    engine.on_progress(move |_| {
        (stopped.load(Ordering::Relaxed) || is_fork_abandoned()).then_some(Dynamic::UNIT)
    });
}

/// Sets every limit explicitly: Rhai's presets differ between debug and release.
fn set_limits(engine: &mut Engine) {
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
