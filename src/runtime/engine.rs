//! The sealed engine: what a runbook can do, and how much of it.

use super::{
    bind, flow,
    live::{Frame, is_giving_up},
    modules::Modules,
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

/// Returns the engine that knows the whole language of runbooks and nothing of any run. It can compile and check.
///
/// Building one takes longer than compiling a runbook with it, so there is one for all.
pub(super) fn language() -> &'static Engine {
    static LANGUAGE: LazyLock<Engine> = LazyLock::new(build);
    &LANGUAGE
}

/// Builds an engine that belongs to no run.
pub(super) fn build() -> Engine {
    let mut engine = Engine::new_raw();
    engine.register_global_module(StandardPackage::new().as_shared_module());
    limits(&mut engine);
    // `Full` would perform operations while compiling; `None` also leaves every branch for the checks to see.
    engine.set_optimization_level(OptimizationLevel::None);
    engine.set_strict_variables(true);
    engine.set_fail_on_invalid_map_property(true);
    // What is printed would be in no record; `note` is.
    for symbol in ["eval", "print", "debug"] {
        engine.disable_symbol(symbol);
    }
    values::register(&mut engine);
    strict::register(&mut engine);
    flow::register(&mut engine);
    bind::register(&mut engine);
    engine
}

/// Returns an engine for one run: natives find the run through `frame`, modules come from `modules`, and nothing more
/// is evaluated once `stopped` is set.
pub(super) fn for_run(frame: &Frame, modules: Modules, stopped: Arc<AtomicBool>) -> Engine {
    let mut engine = build();
    turn_to(&mut engine, frame, modules, stopped);
    engine
}

/// Turns an engine to one run, and away from any other.
pub(super) fn turn_to(engine: &mut Engine, frame: &Frame, modules: Modules, stopped: Arc<AtomicBool>) {
    engine.set_default_tag(Dynamic::from(frame.clone()));
    engine.set_module_resolver(modules);
    engine.on_progress(move |_| (stopped.load(Ordering::Relaxed) || is_giving_up()).then_some(Dynamic::UNIT));
}

/// Sets every limit explicitly: Rhai's presets differ between debug and release.
fn limits(engine: &mut Engine) {
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
