//! Operations as functions of a script: one registration for all of them.

use super::{
    call::{CallRequest, replay_or_run_call},
    scope::{CallScope, format_position},
    script_error::{RhaiResult, from_operation_error, to_rhai_error},
    values::{to_dynamic, to_json},
};
use crate::{
    ops::{self, args::CallArgs, spec::Operation},
    provider::{Code, Error},
};
use rhai::{Dynamic, Engine, FuncRegistration, Module, NativeCallContext};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

type NativeContext<'a> = NativeCallContext<'a>;
type D = Dynamic;

/// Registers every operation under its namespace.
pub(super) fn register_operations(engine: &mut Engine) {
    let mut modules: BTreeMap<&str, Module> = BTreeMap::new();
    for op in ops::all_operations() {
        bind_operation(modules.entry(op.namespace).or_default(), op);
    }
    // Sorted, so that a namespace comes before those inside it.
    for (namespace, module) in modules {
        engine.register_static_module(namespace, module.into());
    }
}

/// Binds an operation for every number of arguments, so that a wrong number is answered by the operation itself.
fn bind_operation(module: &mut Module, op: &'static Operation) {
    let new = || FuncRegistration::new(op.name).with_volatility(true);
    new().set_into_module(module, move |cx: NativeContext<'_>| call_operation(&cx, op, &[]));
    new().set_into_module(module, move |cx: NativeContext<'_>, a: D| call_operation(&cx, op, &[a]));
    new().set_into_module(module, move |cx: NativeContext<'_>, a: D, b: D| call_operation(&cx, op, &[a, b]));
    new().set_into_module(module, move |cx: NativeContext<'_>, a: D, b: D, c: D| {
        call_operation(&cx, op, &[a, b, c])
    });
    new().set_into_module(module, move |cx: NativeContext<'_>, a: D, b: D, c: D, d: D| {
        call_operation(&cx, op, &[a, b, c, d])
    });
}

fn call_operation(cx: &NativeContext<'_>, op: &'static Operation, given: &[Dynamic]) -> RhaiResult<Dynamic> {
    let scope = CallScope::from_native_context(cx)?;
    let at = format_position(cx);
    let args = decode_args(op, given)
        .map_err(|e| to_rhai_error(&from_operation_error(&e, &op.path(), None), cx.call_position()))?;
    replay_or_run_call(&scope, CallRequest { op, args, at: &at, implied: false })
        .map(|value| to_dynamic(&value))
        .map_err(|halt| halt.into_rhai_error(cx.call_position()))
}

/// Reads positional arguments and, after them, the options map.
fn decode_args(op: &Operation, given: &[Dynamic]) -> Result<CallArgs, Error> {
    let mut values = given
        .iter()
        .map(|d| {
            to_json(d)
                .map_err(|why| Error::new(Code::Invalid, format!("an argument of `{}`: {why}", op.path())))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let options = if values.len() == op.positional_params().count() + 1 { values.pop() } else { None };
    match options {
        None => CallArgs::decode(op, values, Map::new()),
        Some(Value::Object(options)) => CallArgs::decode(op, values, options),
        Some(_) => Err(Error::new(
            Code::Invalid,
            format!("the last argument of `{}` is a map of options", op.path()),
        )
        .with_hint(format!("write `{}`", op.script_signature()))),
    }
}
