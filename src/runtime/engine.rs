//! The engine: what a runbook can do, and nothing else.

use super::{
    bind, comparisons, flow, limits, modules::PreloadedModules, scope::CallScope, stop, value_methods,
    world_natives,
};
use rhai::{
    Dynamic, Engine, OptimizationLevel,
    packages::{Package as _, StandardPackage},
};
use std::sync::{
    Arc, LazyLock,
    atomic::{AtomicBool, Ordering},
};

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
    limits::set_limits(&mut engine);
    // `Full` would perform operations while compiling; `None` also leaves every branch for the checks to see.
    engine.set_optimization_level(OptimizationLevel::None);
    engine.set_strict_variables(true);
    engine.set_fail_on_invalid_map_property(true);
    // What they print would be in no record, as what `note` says is.
    for symbol in ["eval", "print", "debug"] {
        engine.disable_symbol(symbol);
    }
    value_methods::register_values(&mut engine);
    comparisons::register_comparisons(&mut engine);
    flow::register_natives(&mut engine);
    bind::register_operations(&mut engine);
    world_natives::register_world_natives(&mut engine);
    engine
}

/// Returns an engine for one run: natives find the run through `scope`, modules come from `modules`, and nothing more
/// is evaluated once `stopped` is set.
pub(super) fn build_engine_for_run(
    scope: &CallScope,
    modules: PreloadedModules,
    stopped: Arc<AtomicBool>,
) -> Engine {
    let mut engine = build_engine();
    attach_run(&mut engine, scope, modules, stopped);
    engine
}

/// Attaches an engine to a run, in place of any other.
pub(super) fn attach_run(
    engine: &mut Engine,
    scope: &CallScope,
    modules: PreloadedModules,
    stopped: Arc<AtomicBool>,
) {
    engine.set_default_tag(Dynamic::from(scope.clone()));
    engine.set_module_resolver(modules);
    let memory = limits::MemoryAllowance::from_now();
    let observer = Arc::clone(&scope.run_context().observer);
    engine.on_progress(move |_| {
        observer.on_step();
        if stopped.load(Ordering::Relaxed) || stop::is_fork_abandoned() {
            return Some(Dynamic::UNIT);
        }
        memory.find_excess().map(Dynamic::from)
    });
}
