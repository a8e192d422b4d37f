//! Operations, made callable: one registration for all of them.

use super::{
    call::{Asked, take},
    fault,
    live::{Frame, position},
    values::{to_dynamic, to_value},
};
use crate::{
    ops::{self, args::Args, spec::Op},
    provider::{Code, Error},
};
use rhai::{Dynamic, Engine, EvalAltResult, FuncRegistration, Module, NativeCallContext};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

type Cx<'a> = NativeCallContext<'a>;
type D = Dynamic;

/// Registers every operation under its namespace.
pub(super) fn register(engine: &mut Engine) {
    let mut modules: BTreeMap<&str, Module> = BTreeMap::new();
    for op in ops::all() {
        bind(modules.entry(op.namespace).or_default(), op);
    }
    // Sorted, so that a namespace comes before those inside it.
    for (namespace, module) in modules {
        engine.register_static_module(namespace, module.into());
    }
}

/// Binds an operation for every number of arguments, so that a wrong number is answered by the operation itself.
fn bind(module: &mut Module, op: &'static Op) {
    let new = || FuncRegistration::new(op.name).with_volatility(true);
    new().set_into_module(module, move |cx: Cx<'_>| called(&cx, op, &[]));
    new().set_into_module(module, move |cx: Cx<'_>, a: D| called(&cx, op, &[a]));
    new().set_into_module(module, move |cx: Cx<'_>, a: D, b: D| called(&cx, op, &[a, b]));
    new().set_into_module(module, move |cx: Cx<'_>, a: D, b: D, c: D| called(&cx, op, &[a, b, c]));
    new().set_into_module(module, move |cx: Cx<'_>, a: D, b: D, c: D, d: D| called(&cx, op, &[a, b, c, d]));
}

fn called(cx: &Cx<'_>, op: &'static Op, given: &[Dynamic]) -> Result<Dynamic, Box<EvalAltResult>> {
    let frame = Frame::of(cx)?;
    let at = position(cx);
    let args = decode(op, given)
        .map_err(|e| fault::raise(&fault::of_operation(&e, &op.path(), None), cx.call_position()))?;
    take(&frame, Asked { op, args, at: &at, implied: false })
        .map(|value| to_dynamic(&value))
        .map_err(|halt| halt.at(cx.call_position()))
}

/// Reads positional arguments and, after them, the options map.
fn decode(op: &Op, given: &[Dynamic]) -> Result<Args, Error> {
    let mut values = given
        .iter()
        .map(|d| {
            to_value(d)
                .map_err(|why| Error::new(Code::Invalid, format!("an argument of `{}`: {why}", op.path())))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let options = if values.len() == op.positional().count() + 1 { values.pop() } else { None };
    match options {
        None => Args::decode(op, values, Map::new()),
        Some(Value::Object(options)) => Args::decode(op, values, options),
        Some(_) => Err(Error::new(
            Code::Invalid,
            format!("the last argument of `{}` is a map of options", op.path()),
        )
        .hint(format!("write `{}`", op.signature()))),
    }
}
