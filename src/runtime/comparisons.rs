//! Comparisons between different types are errors, where Rhai would answer with a silent `false`.

use super::{script_error::misuse_error, values::Handle};
use crate::base::moment::{Moment, Span};
use rhai::{
    Array, Dynamic, Engine, EvalAltResult, FLOAT, FuncRegistration, INT, ImmutableString, Map, Module, Shared,
};
use std::{any::TypeId, sync::LazyLock};

const ORDERING_OPERATORS: &[&str] = &["<", "<=", ">", ">="];
const EQUALITY_OPERATORS: &[&str] = &["==", "!="];

/// The comparisons that are errors, built once for every engine of the process.
static COMPARISONS: LazyLock<Shared<Module>> = LazyLock::new(|| {
    let mut module = Module::new();
    let (int, float, text, char) =
        (TypeId::of::<INT>(), TypeId::of::<FLOAT>(), TypeId::of::<ImmutableString>(), TypeId::of::<char>());
    let types = [
        int,
        float,
        text,
        char,
        TypeId::of::<()>(),
        TypeId::of::<bool>(),
        TypeId::of::<Array>(),
        TypeId::of::<Map>(),
        TypeId::of::<Moment>(),
        TypeId::of::<Span>(),
        TypeId::of::<Handle>(),
    ];
    let alike = |a, b| a == b || [(int, float), (text, char)].iter().any(|p| *p == (a, b) || *p == (b, a));
    for (a, b) in
        types.iter().flat_map(|a| types.iter().map(move |b| (*a, *b))).filter(|(a, b)| !alike(*a, *b))
    {
        for operator in ORDERING_OPERATORS {
            forbid_comparison(&mut module, operator, a, b);
        }
        let numbers = [int, float];
        if (a == text && numbers.contains(&b)) || (b == text && numbers.contains(&a)) {
            for operator in EQUALITY_OPERATORS {
                forbid_comparison(&mut module, operator, a, b);
            }
        }
    }
    module.build_index();
    module.into()
});

fn forbid_comparison(module: &mut Module, operator: &'static str, a: TypeId, b: TypeId) {
    let complain = move |_: Option<rhai::NativeCallContext<'_>>, args: &mut [&mut Dynamic]| {
        let of = |value: &Dynamic| match value.type_name() {
            "()" => "nothing, `()`,".to_owned(),
            name => format!("{} ({value})", name.rsplit("::").next().unwrap_or(name)),
        };
        let message =
            format!("`{operator}` compares {} with {}, which are different types", of(args[0]), of(args[1]));
        Err::<Dynamic, Box<EvalAltResult>>(misuse_error(&message))
    };
    let func = rhai::RhaiFunc::Pure {
        func: Shared::new(complain),
        has_context: false,
        is_pure: true,
        is_volatile: true,
    };
    FuncRegistration::new(operator).set_into_module_raw(module, [a, b], func);
}

/// Makes an engine's comparisons strict.
pub(super) fn register_comparisons(engine: &mut Engine) {
    // Rhai's short cut for built-in operators would answer first.
    engine.set_fast_operators(false);
    engine.register_global_module(Shared::clone(&COMPARISONS));
}
