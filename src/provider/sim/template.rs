//! A world that is made once and copied: thousands of rehearsals begin in the same one.

use super::{
    config::read_world_text,
    target::Sim,
    world::{ContentCache, WorldSpec, WorldStore},
};
use crate::{
    base::{clock::Clock, sqlite::DbPool},
    provider::{OpenContext, Result},
};
use std::sync::Arc;

/// A world as it was when it was made.
pub struct WorldTemplate {
    target: String,
    protect: bool,
    id: String,
    spec: Arc<WorldSpec>,
    cache: Arc<ContentCache>,
    image: Vec<u8>,
    idle: Arc<DbPool>,
}

impl WorldTemplate {
    /// Makes the world that a target's settings name, in memory, under the identity `id`; reads nothing of the state folder.
    ///
    /// # Errors
    /// What its settings or its world file lack.
    pub fn from_config(opening: &OpenContext<'_>, id: &str) -> Result<Self> {
        let target = opening.target;
        let text = read_world_text(opening)?;
        let made = Self::from_text(&target.name, &text, id, Arc::clone(opening.clock))?;
        Ok(Self { protect: target.protect, ..made })
    }

    /// Makes a world from its text, in memory, under the identity `id`.
    ///
    /// # Errors
    /// What the world lacks.
    pub fn from_text(target: &str, text: &str, id: &str, clock: Arc<dyn Clock>) -> Result<Self> {
        let made = WorldStore::in_memory(target, text, id, clock)?;
        let (spec, image) = made.export_image()?;
        let (cache, idle) = (Arc::default(), Arc::default());
        Ok(Self { target: target.into(), protect: false, id: id.into(), spec, cache, image, idle })
    }

    /// Returns the identity of the world.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns a copy of the world that lives by `clock`.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn copy_world(&self, clock: Arc<dyn Clock>) -> Result<Sim> {
        let shared = (Arc::clone(&self.spec), Arc::clone(&self.cache), &self.idle);
        let store = WorldStore::from_image(&self.image, &self.target, &self.id, shared, Arc::clone(&clock))?;
        Ok(Sim::with_store(&self.target, self.protect, store, clock))
    }
}
