//! What a request of a simulated target still does after its sender has gone on: it lands late, or leaves reads behind.

use super::target::Sim;
use crate::{
    base::{
        lock::lock_unpoisoned,
        moment::{Moment, Span},
    },
    provider::{Result, model::CallKey},
};
use futures_util::future::BoxFuture;
use std::sync::{Mutex, MutexGuard};

/// A request on its way, with everything that it needs once its sender is gone.
pub(super) struct LateRequest {
    /// Its name, as in a [`SimRequest`](super::faults::SimRequest).
    pub(super) name: &'static str,
    /// When it was sent, and when it takes effect, by the world's clock.
    pub(super) sent: Moment,
    pub(super) due: Moment,
    /// The key of the call that sent it, where it carries one.
    pub(super) key: Option<CallKey>,
    /// Who sent it.
    pub(super) sender: String,
    /// What it does to the world.
    pub(super) effect: BoxFuture<'static, ()>,
}

/// A world as it was before a change, and when that was sent.
struct ChangedWorld {
    sent: Moment,
    sim: Sim,
}

/// A world as it was before a write, from which reads are still answered.
struct OldWorld {
    until: Moment,
    sim: Sim,
}

/// The most changes that a read can lag behind.
const OLD_WORLDS_MAX: usize = 2;

/// What is still to come of the requests of one target and its branches.
#[derive(Default)]
pub(super) struct LateEffects {
    landings: Mutex<Vec<LateRequest>>,
    old_world: Mutex<Option<OldWorld>>,
    /// The worlds before the last changes, the newest last.
    before_changes: Mutex<Vec<ChangedWorld>>,
}

impl LateEffects {
    /// Adds a request that lands late.
    pub(super) fn add_late_request(&self, landing: LateRequest) {
        self.lock_landings().push(landing);
    }

    /// Returns whether any request has not landed yet.
    pub(super) fn has_unlanded_requests(&self) -> bool {
        !self.lock_landings().is_empty()
    }

    /// Returns whether a request with this key has not landed yet.
    pub(super) fn has_in_flight(&self, key: &CallKey) -> bool {
        self.lock_landings().iter().any(|landing| landing.key.as_ref() == Some(key))
    }

    /// Takes the request that lands first, if its time has come.
    pub(super) fn take_due_request(&self, sim: &Sim) -> Result<Option<LateRequest>> {
        let mut landings = self.lock_landings();
        // Nearly always there is none, and the world is not asked for its time.
        let Some(first) = (0..landings.len()).min_by_key(|at| landings[*at].due) else { return Ok(None) };
        let is_due = landings[first].due <= sim.world_time()?;
        Ok(is_due.then(|| landings.remove(first)))
    }

    /// Lets reads be answered from the world as it is now, until a moment.
    pub(super) fn serve_stale_until(&self, sim: &Sim, until: Moment) -> Result<()> {
        let old = OldWorld { until, sim: sim.copy_world()? };
        *lock_unpoisoned(&self.old_world) = Some(old);
        Ok(())
    }

    /// Returns `sim` in the old world from which its reads are answered; nothing when they are answered as they should be.
    pub(super) fn find_stale_view(&self, sim: &Sim) -> Result<Option<Sim>> {
        let mut old_world = lock_unpoisoned(&self.old_world);
        let Some(old) = old_world.as_ref() else { return Ok(None) };
        if sim.world_time()? < old.until {
            return Ok(Some(sim.same_target_in_world_of(&old.sim)));
        }
        *old_world = None;
        Ok(None)
    }

    /// Keeps the world as it was before a change that was sent at this moment, for reads that lag behind.
    pub(super) fn keep_old_world(&self, sim: Sim, sent: Moment) {
        let mut worlds = lock_unpoisoned(&self.before_changes);
        worlds.push(ChangedWorld { sent, sim });
        let surplus = worlds.len().saturating_sub(OLD_WORLDS_MAX);
        worlds.drain(..surplus);
    }

    /// Returns `sim` in the world before the last `changes` changes, or before those of them that a read may still
    /// miss: each is shown within `bound` after it was sent. `None` where every change is shown.
    pub(super) fn find_old_view(&self, sim: &Sim, changes: usize, bound: Span) -> Result<Option<Sim>> {
        let now = sim.world_time()?;
        let worlds = lock_unpoisoned(&self.before_changes);
        let unshown = worlds.iter().rev().take_while(|old| now < old.sent.saturating_add(bound));
        Ok(unshown.take(changes).last().map(|old| sim.same_target_in_world_of(&old.sim)))
    }

    fn lock_landings(&self) -> MutexGuard<'_, Vec<LateRequest>> {
        lock_unpoisoned(&self.landings)
    }
}
