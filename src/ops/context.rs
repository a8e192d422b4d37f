//! What an operation works with: the fleet, the key of its call, its caller.

use super::{canonical::parse_target_ref, evidence::Evidence, thing::Thing};
use crate::{
    base::{
        clock::Uptime,
        moment::{Moment, Span},
        value,
    },
    provider::{
        Code, Error, Fleet, Provider, Result,
        model::{CallKey, Progress},
    },
};
use async_trait::async_trait;
use serde_json::Value;
use std::{any::Any, sync::Arc};

/// The caller of an operation, as the operation sees it.
#[async_trait]
pub trait CallHost: Send + Sync {
    /// Reports the progress of the operation.
    fn report_progress(&self, progress: &Progress);
    /// Reports the column order of a query's rows.
    fn report_columns(&self, _columns: &[String]) {}
    /// Records what the call is about to do, or was given to wait on. It is on disk when this returns.
    async fn record_evidence(&self, evidence: &Evidence) -> Result<()>;
    /// Waits until no other call of this state folder is at these things, and no request of one can still land at them;
    /// others wait until the claim is dropped. [`Code::Timeout`] when that takes longer than `limit`.
    async fn wait_and_claim_things(&self, things: &[Thing], limit: Option<Span>) -> Result<ThingClaim>;
    /// Puts things under quarantine: a request of this call, sent until `sent_by` at the latest, may land there for
    /// `span` after that, or for a time that nobody knows.
    async fn begin_quarantine(&self, things: &[Thing], sent_by: &Uptime, span: Option<Span>) -> Result<()>;
    /// Ends the quarantines of this call at these things.
    async fn lift_quarantines_at(&self, things: &[Thing]) -> Result<()>;
    /// Ends every quarantine of this call.
    async fn lift_quarantines(&self) -> Result<()>;
    /// Keeps what elements were before this call in the place of what is kept of it: it changed them at `changed_by` at the
    /// latest, and a look may lag behind by `lag`.
    async fn keep_past_values(&self, before: &[ElementValue], changed_by: &Uptime, lag: Span) -> Result<()>;
    /// Returns what elements of these places were before other calls of this state folder changed them, and how long a look may
    /// still show that.
    async fn list_past_values(&self, places: &[String]) -> Result<Vec<(ElementValue, Span)>>;
    /// Returns whether a run has ended, or is not known any more: nobody takes up what it has begun.
    fn is_run_over(&self, _run: &str) -> bool {
        false
    }
    /// Asks a person whether a lost request is looked for until `until`, when it can land no more. Returns who ends the
    /// looking; `None` when it goes on, also because nobody is there. The question is withdrawn when this is dropped.
    async fn offer_to_stop_looking(&self, _subject: &str, _until: Moment) -> Option<String> {
        None
    }
}

/// How the name of an element begins that is something with an id.
pub(super) const ID_PREFIX: &str = "id:";

/// A value of an element of a target or branch.
#[derive(Debug, Clone, PartialEq)]
pub struct ElementValue {
    /// The target or branch, as a [`Thing`] has it.
    pub place: String,
    /// The element, unique there: `tls/tls`, `ranges/10.0.0.0/8`, `id:b1` for what can be made and removed.
    pub element: String,
    /// Its value; `None` where nobody knows. What is not there is null.
    pub value: Option<Value>,
}

impl ElementValue {
    /// Returns the name of the element that has this id.
    pub(super) fn name_of_id(id: &str) -> String {
        format!("{ID_PREFIX}{id}")
    }

    /// Returns that what has this id is not there.
    pub(super) fn absent(place: String, id: &str) -> Self {
        Self { place, element: Self::name_of_id(id), value: Some(Value::Null) }
    }

    /// Returns that what has this id is there.
    pub(super) fn present(place: String, id: &str) -> Self {
        Self { place, element: Self::name_of_id(id), value: Some(true.into()) }
    }

    /// Returns whether a look that shows this value can be taken for one that shows another: what is not known may be any.
    pub(super) fn may_be_taken_for(&self, other: &ElementValue) -> bool {
        (&self.place, &self.element) == (&other.place, &other.element)
            && (self.value.is_none() || self.value == other.value)
    }
}

/// A claim to things, given back on drop.
#[derive(Debug, Default)]
pub struct ThingClaim {
    /// What keeps other calls away until it is dropped.
    pub hold: Option<ThingHold>,
    /// Until when an earlier attempt of this call may have sent a request that may still land, as of the last of them.
    pub open_since: Option<Uptime>,
    /// Whether an earlier attempt of this call was accepted, so that nobody knows until when it is at work.
    pub is_at_work: bool,
}

/// What keeps other calls away from things for as long as it is there.
pub type ThingHold = Box<dyn Any + Send + Sync>;

/// What one call of an operation works with.
pub struct CallContext<'a> {
    pub fleet: &'a Fleet,
    /// The call's identity in the world.
    pub key: &'a CallKey,
    /// The id of the run, when there is one.
    pub run: Option<&'a str>,
    /// What was recorded of the call before.
    pub recorded: Option<Evidence>,
    /// Whether the call was begun before, by this process or another one.
    pub is_taken_up: bool,
    /// How often the call was begun: after the first time, a request of an earlier attempt may still land.
    pub attempts: u32,
    /// Whether the effect may have been made although nothing is recorded of it: the journal was rolled back.
    pub is_doubtful: bool,
    /// Whether the call is only settled: nothing that was not asked for is asked for any more.
    pub settles_only: bool,
    pub host: &'a dyn CallHost,
}

impl CallContext<'_> {
    /// Returns whether it was decided to make the call anew.
    pub(super) fn is_to_be_redone(&self) -> bool {
        self.attempts > 1
    }

    /// Returns the target or branch that a parameter names, opened.
    ///
    /// # Errors
    /// [`Code::NotFound`], also when the branch of that name is a later one. [`Code::Unknown`], whatever the reason, when a
    /// call that was begun cannot ask there what came of it: a branch that is not shown may have been changed all the same.
    pub(super) async fn open_target(&self, given: &Value) -> Result<Arc<dyn Provider>> {
        self.open_recorded_target(given).await.map_err(|e| {
            if self.is_taken_up {
                Error::new(Code::Unknown, format!("its target cannot be asked: {}", e.message_with_hint()))
            } else {
                e
            }
        })
    }

    async fn open_recorded_target(&self, given: &Value) -> Result<Arc<dyn Provider>> {
        let target_ref = parse_target_ref(given)?;
        if let Some(id) = value::untag_as(given, value::BRANCH_TAG).and_then(|b| b["id"].as_str()) {
            let name = target_ref.branch.as_deref().unwrap_or_default();
            let branch = self.fleet.open_target(&target_ref.target)?.branches()?.get(name).await?;
            if branch.id != id {
                return Err(Error::new(Code::NotFound, format!("branch `{target_ref}` is gone"))
                    .with_hint(format!("a later branch has its name: it was made {}", branch.created_at)));
            }
        }
        self.fleet.open_target_ref(&target_ref).await
    }
}
