//! What an operation is: its name, parameters, effect, and how to recover it after a crash.
//!
//! Handed on from here: what its parameters are made of, and what it works with.

use super::args::CallArgs;
use crate::{base::moment::Span, provider::Result};
use serde_json::Value;
use std::{fmt, future::Future, pin::Pin};

pub(super) use super::param::TARGET;
pub use super::{
    canonical::parse_target_ref,
    context::{CallContext, CallHost, ElementValue, ThingClaim, ThingHold},
    evidence::Evidence,
    param::{Param, ParamKind, ParamSlot, TIMEOUT_PARAM},
    protocol::{EffectFailure, EffectResult},
    thing::{Thing, ThingPart},
};

/// One operation of the catalogue.
pub struct Operation {
    /// Where it lives: `backup`, `backup::pitr`.
    pub namespace: &'static str,
    /// Its own name: `restore`.
    pub name: &'static str,
    /// What it does, imperative, without a full stop.
    pub summary: &'static str,
    /// Its parameters: the positional ones first, in order, then the options.
    pub params: &'static [Param],
    /// What it gives back.
    pub returns: ReturnShape,
    /// The worst it can do.
    pub effect: Effect,
    /// The permission it needs, where that depends on the arguments; otherwise its namespace and effect.
    pub needs: Option<fn(&CallArgs) -> Permission>,
    /// How it is performed, and what becomes of a call that was begun and not ended.
    pub protocol: Protocol,
    /// Script lines that run on the sandbox.
    pub examples: &'static [&'static str],
}

/// A future that the function of an operation returns.
pub type OperationFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
/// The function of an operation that only looks.
pub type ReadFn = for<'a> fn(&'a CallContext<'a>, &'a CallArgs) -> OperationFuture<'a, Result<Value>>;
/// The function of an operation that takes effect: it begins the call, or takes it up.
pub type EffectFn = for<'a> fn(&'a CallContext<'a>, &'a CallArgs) -> OperationFuture<'a, EffectResult<Value>>;

/// How an operation is performed.
pub enum Protocol {
    /// It only looks. Taken up, it looks again.
    Read(ReadFn),
    /// It only looks, as often as it takes until something is so. Taken up, it goes on looking.
    Wait(ReadFn),
    /// It takes effect, by the protocol of its shape.
    Effect(EffectFn),
}

/// What an operation does to the world, from harmless to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// Looks.
    Read,
    /// Makes something new.
    Create,
    /// Changes something that is there.
    Change,
    /// Removes or overwrites something.
    Destroy,
}

impl Effect {
    /// Returns the name of the effect.
    pub const fn as_str(self) -> &'static str {
        match self {
            Effect::Read => "read",
            Effect::Create => "create",
            Effect::Change => "change",
            Effect::Destroy => "destroy",
        }
    }
}

/// A permission, such as `backup.create`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Permission {
    /// The first segment of a namespace.
    pub area: String,
    pub effect: Effect,
}

impl Permission {
    /// Returns the permission to `effect` in the namespaces whose first segment is `area`.
    pub fn new(area: &str, effect: Effect) -> Self {
        Self { area: area.into(), effect }
    }

    /// Parses `backup.create`.
    pub fn parse(text: &str) -> Option<Self> {
        let (area, effect) = text.split_once('.')?;
        let effect = [Effect::Read, Effect::Create, Effect::Change, Effect::Destroy]
            .into_iter()
            .find(|e| e.as_str() == effect)?;
        Some(Self::new(area, effect))
    }

    /// Returns whether this permission includes `other`: the same one, or a read in the same area.
    pub fn covers(&self, other: &Permission) -> bool {
        self.area == other.area && (self.effect == other.effect || other.effect == Effect::Read)
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.area, self.effect.as_str())
    }
}

/// The shape of what an operation returns.
pub enum ReturnShape {
    /// One object.
    One(&'static [Field]),
    /// A list of objects.
    List(&'static [Field]),
    /// The rows of a query: a list of objects whose fields the query decides.
    Rows,
    /// Whatever the platform answers.
    Any,
}

impl ReturnShape {
    /// Returns the fields, in the order in which people read them.
    pub fn fields(&self) -> &'static [Field] {
        match self {
            ReturnShape::One(fields) | ReturnShape::List(fields) => fields,
            ReturnShape::Rows | ReturnShape::Any => &[],
        }
    }
}

/// One field of a result.
pub struct Field {
    pub name: &'static str,
    /// Its type, for people: `text`, `int`, `moment`.
    pub kind: &'static str,
    /// One line that describes it, with its unit where it has one.
    pub help: &'static str,
}

/// Returns a field. A short name keeps lists of fields readable.
pub const fn field(name: &'static str, kind: &'static str, help: &'static str) -> Field {
    Field { name, kind, help }
}

impl Operation {
    /// Returns the name that scripts use: `backup::pitr::restore`.
    pub fn path(&self) -> String {
        format!("{}::{}", self.namespace, self.name)
    }

    /// Returns the words of the command line: `backup`, `pitr`, `restore`.
    pub fn command_words(&self) -> impl Iterator<Item = &'static str> {
        self.namespace.split("::").chain([self.name])
    }

    /// Returns the first segment of the namespace, after which permissions are named.
    pub fn area(&self) -> &'static str {
        self.namespace.split("::").next().unwrap_or(self.namespace)
    }

    /// Returns the permission that a call with these arguments needs.
    pub fn required_permission(&self, args: &CallArgs) -> Permission {
        self.needs.map_or_else(|| Permission::new(self.area(), self.effect), |needs| needs(args))
    }

    /// Returns the worst permission that any call could need: a call of unknown arguments needs that one.
    pub fn worst_permission(&self) -> Permission {
        self.required_permission(&CallArgs::from_unchecked(serde_json::Map::new()))
    }

    /// Returns the timeout of a call that gives none.
    pub fn default_timeout(&self) -> Span {
        if matches!(self.protocol, Protocol::Read(_)) { Span::from_secs(30) } else { Span::from_secs(3600) }
    }

    /// Returns the positional parameters.
    pub fn positional_params(&self) -> impl Iterator<Item = &'static Param> {
        self.params.iter().filter(|p| p.slot == ParamSlot::Positional)
    }

    /// Returns the options, `timeout` included.
    pub fn option_params(&self) -> impl Iterator<Item = &'static Param> {
        self.params.iter().filter(|p| p.slot != ParamSlot::Positional).chain([&TIMEOUT_PARAM])
    }

    /// Returns the call as a person would write it: `backup::get(target, backup)`.
    pub fn script_signature(&self) -> String {
        let mut args: Vec<_> = self.positional_params().map(|p| p.name.to_owned()).collect();
        if self.option_params().count() > 0 {
            args.push("#{…}".into());
        }
        format!("{}({})", self.path(), args.join(", "))
    }
}
