//! The restart of a server for which settings wait: the second effect of a call that sets them.
//!
//! A change of settings may be asked for twice, a restart may not: it breaks every connection. So it is asked for on its own,
//! with what was written down of it, once something is seen to wait for it; and whatever else is done there waits meanwhile.

use super::{
    args::CallArgs,
    canonical::setting_to_text,
    evidence::decode_part,
    protocol::{MakeEffect, begin_or_continue_make},
    spec::{CallContext, EffectFailure, EffectResult},
    thing::Thing,
};
use crate::{
    base::moment::Span,
    provider::{
        Code, Error, Provider, Result, Settings, SideEffects,
        model::{EffectKind, Setting},
    },
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What is written down before a restart is asked for.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BeforeRestart {
    /// What tells this start of the server from the next.
    start: Value,
    /// The settings of the call as they were set: the result of the call, but for what waits for the restart.
    set: Value,
}

/// Restarts the server when settings that were set wait for it, and returns them as they are then.
pub(super) async fn restart_for_settings(
    cx: &CallContext<'_>,
    args: &CallArgs,
    provider: &dyn Provider,
    (set, left): (Value, Span),
) -> EffectResult<Value> {
    let settings = provider.settings()?;
    if !rows(&set).any(|row| waits_for_restart(settings, row)) {
        return Ok(set);
    }
    let unasked = |code, why: &str| {
        let error = Error::new(code, format!("the restart of the server was not asked for: {why}"));
        fail_after_settings(&set, error.with_hint("see `db config get`, and ask again").into())
    };
    if cx.settles_only {
        return Err(unasked(Code::Refused, "the run was given up before"));
    }
    if left == Span::ZERO {
        return Err(unasked(Code::Timeout, "the time of the call was over"));
    }
    let restart = ServerRestart { thing: Thing::whole_target(args)?, settings, set: set.clone() };
    // The restart was not begun: what was recorded is of the settings.
    let begins = CallContext { recorded: None, is_taken_up: false, ..*cx };
    let restarted = begin_or_continue_make(&begins, &args.with_timeout(left), provider, &restart).await;
    restarted.map_err(|failure| fail_after_settings(&set, failure))
}

/// Takes a restart up that was begun, after its settings were set.
pub(super) async fn take_restart_up(
    cx: &CallContext<'_>,
    args: &CallArgs,
    provider: &dyn Provider,
    before: &Value,
) -> EffectResult<Value> {
    let BeforeRestart { set, .. } = decode_part(before).map_err(EffectFailure::Unreadable)?;
    let settings = provider.settings()?;
    let restart = ServerRestart { thing: Thing::whole_target(args)?, settings, set: set.clone() };
    let restarted = begin_or_continue_make(cx, args, provider, &restart).await;
    restarted.map_err(|failure| fail_after_settings(&set, failure))
}

/// A restart for the settings of a call.
struct ServerRestart<'a> {
    thing: Thing,
    settings: &'a dyn Settings,
    /// The settings as they were set.
    set: Value,
}

#[async_trait]
impl MakeEffect for ServerRestart<'_> {
    fn name_effect_for_messages(&self) -> String {
        "the restart of the server".into()
    }

    fn kind(&self) -> EffectKind {
        EffectKind::Power
    }

    fn changed_things(&self) -> Vec<Thing> {
        vec![self.thing.clone()]
    }

    async fn plan(&self) -> Result<Value> {
        Ok(json!(BeforeRestart { start: self.settings.server_start().await?, set: self.set.clone() }))
    }

    /// Looks whether the server has started since, and none of the settings waits any more.
    async fn find(&self, before: &Value) -> Result<Option<Value>> {
        if self.settings.server_start().await? == before["start"] {
            return Ok(None);
        }
        let names: Vec<String> =
            rows(&self.set).filter_map(|row| row["name"].as_str()).map(str::to_owned).collect();
        let now = self.settings.get(&names).await?;
        let still_waits = now.iter().any(|setting| setting.pending_restart);
        Ok((!still_waits).then(|| update_rows(&self.set, &now)))
    }

    async fn send_request(&self) -> Result<Value> {
        self.settings.restart().await.map(|()| Value::Null)
    }
}

fn rows(set: &Value) -> impl Iterator<Item = &Value> {
    set.as_array().into_iter().flatten()
}

/// Returns whether a setting waits for a restart: as a look shows, or because the call has changed what holds only then.
fn waits_for_restart(settings: &dyn Settings, row: &Value) -> bool {
    let needs_restart = row["name"].as_str().is_some_and(|name| settings.needs_restart(name));
    row["pending_restart"] == true || needs_restart && is_changed(row)
}

fn is_changed(row: &Value) -> bool {
    row["before"] != setting_to_text(&row["overridden"])
}

/// Returns the settings with what a look shows of them.
fn update_rows(set: &Value, now: &[Setting]) -> Value {
    let mut set = set.clone();
    for row in set.as_array_mut().into_iter().flatten() {
        let Some(shown) = now.iter().find(|setting| row["name"] == *setting.name) else { continue };
        row["overridden"] = shown.overridden.clone();
        row["effective"] = shown.effective.clone();
        row["pending_restart"] = shown.pending_restart.into();
    }
    set
}

/// Returns the failure of a restart, which says that its settings were set.
fn fail_after_settings(set: &Value, failure: EffectFailure) -> EffectFailure {
    let told = |message: &str| format!("the settings are set; {message}");
    match failure {
        EffectFailure::Failed(error) => {
            let changed = rows(set).any(is_changed);
            let side_effects = if changed { SideEffects::Some } else { error.side_effects };
            EffectFailure::Failed(Error { message: told(&error.message), side_effects, ..error })
        }
        EffectFailure::Undecided(why) => EffectFailure::Undecided(told(&why)),
        other => other,
    }
}
