//! What a fixture can do: `world::*`, which prepares simulated worlds before anything runs in them.

use super::{
    modules::{FileError, find_file_below},
    script_error::{RhaiResult, codes, from_operation_error, raise_at_call, to_rhai_error},
    values::{to_dynamic, to_json},
};
use crate::{
    base::{
        lock::lock_unpoisoned,
        moment::{self, GivenMoment, Moment, Span},
        suggest,
    },
    ops::spec::parse_target_ref,
    provider::{self, Code, sim::WorldDraft},
};
use rhai::{Dynamic, Engine, FuncRegistration, Module, NativeCallContext};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

/// The functions that prepare worlds, each with the number of its arguments.
pub(super) const WORLD_NATIVES: &[(&str, usize)] = &[("load", 2), ("sql", 3), ("advance", 2), ("look", 1)];

/// The namespace of the functions that prepare worlds.
pub(super) const WORLD_NAMESPACE: &str = "world";

/// The worlds that a fixture prepares. It travels in the engine's call state, as the scope of a call does in a run.
#[derive(Clone)]
pub(super) struct FixtureScope(Arc<FixtureState>);

struct FixtureState {
    drafts: Mutex<BTreeMap<String, WorldDraft>>,
    /// The folder of the runbook.
    root: PathBuf,
}

impl FixtureScope {
    pub(super) fn new(drafts: BTreeMap<String, WorldDraft>, root: PathBuf) -> Self {
        Self(Arc::new(FixtureState { drafts: Mutex::new(drafts), root }))
    }

    /// Returns the drafts as they are now.
    pub(super) fn take_drafts(&self) -> BTreeMap<String, WorldDraft> {
        std::mem::take(&mut *lock_unpoisoned(&self.0.drafts))
    }
}

/// Registers the functions that prepare worlds. Outside a fixture each of them says so.
pub(super) fn register_world_natives(engine: &mut Engine) {
    let mut module = Module::new();
    let new = |name: &'static str| FuncRegistration::new(name).with_volatility(true);
    new("load").set_into_module(
        &mut module,
        |cx: NativeCallContext<'_>, target: Dynamic, path: &str| -> RhaiResult<()> {
            change_draft(&cx, "world::load", &target, |draft, root| {
                let text = read_world_file(root, path)?;
                draft.replace_with_text(text, path)
            })
        },
    );
    new("sql").set_into_module(
        &mut module,
        |cx: NativeCallContext<'_>, target: Dynamic, when: Dynamic, sql: &str| -> RhaiResult<()> {
            change_draft(&cx, "world::sql", &target, |draft, _| {
                draft.add_statement(read_moment(&when, draft.now())?, sql)
            })
        },
    );
    new("advance").set_into_module(
        &mut module,
        |cx: NativeCallContext<'_>, target: Dynamic, span: Dynamic| -> RhaiResult<()> {
            change_draft(&cx, "world::advance", &target, |draft, _| draft.advance_by(read_span(&span)?))
        },
    );
    new("look").set_into_module(&mut module, |cx: NativeCallContext<'_>, target: Dynamic| {
        let look = |draft: &mut WorldDraft, _: &Path| draft.open_world(draft.now())?.facts_for_script();
        RhaiResult::<Dynamic>::Ok(to_dynamic(&change_draft(&cx, "world::look", &target, look)?))
    });
    engine.register_static_module(WORLD_NAMESPACE, module.into());
}

/// Gives `work` the draft of a target. An error is raised where the native was called.
fn change_draft<T>(
    cx: &NativeCallContext<'_>,
    native: &str,
    target: &Dynamic,
    work: impl FnOnce(&mut WorldDraft, &Path) -> provider::Result<T>,
) -> RhaiResult<T> {
    let Some(scope) = cx.tag().and_then(|tag| tag.clone().try_cast::<FixtureScope>()) else {
        return raise_at_call(
            cx,
            codes::SCRIPT,
            &format!("`{native}` works in `fn fixture()` only: a run takes its targets as they are"),
        );
    };
    let raise =
        |e: provider::Error| Err(to_rhai_error(&from_operation_error(&e, native, None), cx.call_position()));
    let name = match read_target_name(target) {
        Ok(name) => name,
        Err(e) => return raise(e),
    };
    let mut drafts = lock_unpoisoned(&scope.0.drafts);
    let known: Vec<String> = drafts.keys().cloned().collect();
    let Some(draft) = drafts.get_mut(&name) else {
        let error = provider::Error::new(Code::NotFound, format!("there is no simulated target `{name}`"));
        return raise(
            error.with_hint(suggest::suggest_name_or_list_known(&name, known.iter().map(String::as_str))),
        );
    };
    work(draft, &scope.0.root).or_else(raise)
}

fn read_target_name(given: &Dynamic) -> provider::Result<String> {
    let wrong = || {
        provider::Error::new(Code::Invalid, format!("`{given}` names no target"))
            .with_hint("write its name, such as \"sandbox\"")
    };
    let place = parse_target_ref(&to_json(given).map_err(|_| wrong())?).map_err(|_| wrong())?;
    if place.branch.is_some() { Err(wrong()) } else { Ok(place.target) }
}

/// Reads when something happened: a moment, or text of one, which may be counted back from the world's `now`.
fn read_moment(given: &Dynamic, now: Moment) -> provider::Result<Moment> {
    let invalid = |e: &moment::Error| {
        provider::Error::new(Code::Invalid, e.to_string()).with_hint(format!("{}; or `-10m`", e.hint()))
    };
    if let Some(moment) = given.clone().try_cast::<Moment>() {
        return moment.require_plausible().map_err(|e| invalid(&e));
    }
    let text = given.clone().into_string().map_err(|kind| {
        provider::Error::new(Code::Invalid, format!("expected a moment, found {kind}"))
            .with_hint("write `\"-10m\"`, or RFC 3339 with a zone")
    })?;
    GivenMoment::parse(&text).and_then(|given| given.resolve(now)).map_err(|e| invalid(&e))
}

/// Reads how much time passes; it does not run backwards.
fn read_span(given: &Dynamic) -> provider::Result<Span> {
    let invalid = |message: String| {
        provider::Error::new(Code::Invalid, message).with_hint("write how much time passes, such as `\"2h\"`")
    };
    let span = if let Some(span) = given.clone().try_cast::<Span>() {
        span
    } else {
        let text = given.clone().into_string();
        let text = text.map_err(|kind| invalid(format!("expected a duration, found {kind}")))?;
        Span::parse(&text).map_err(|e| invalid(e.to_string()))?
    };
    if span < Span::ZERO { Err(invalid(format!("time does not pass by {span}"))) } else { Ok(span) }
}

/// Reads a world file from below the runbook's own folder.
fn read_world_file(root: &Path, path: &str) -> provider::Result<String> {
    let invalid = |message: String| {
        provider::Error::new(Code::Invalid, message)
            .with_hint("world files are below the runbook's own folder: `world::load(\"sandbox\", \"worlds/shop.toml\")`")
    };
    let unreadable = |why: &str| invalid(format!("the world file `{path}` cannot be read: {why}"));
    let file = find_file_below(root, path).map_err(|e| match e {
        FileError::Outside(how) => invalid(format!("`{path}` leads out of the runbook's folder{how}")),
        FileError::Unreadable(why) => unreadable(&why),
    })?;
    fs::read_to_string(file).map_err(|e| unreadable(&e.to_string()))
}
