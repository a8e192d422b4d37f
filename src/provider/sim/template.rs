//! A world that is made once and copied: thousands of rehearsals begin in the same one.

use super::{
    target::Sim,
    world::{ContentCache, WorldSpec, WorldStart, WorldStore},
};
use crate::{
    base::{clock::Clock, sqlite::DbPool},
    provider::Result,
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
    /// Makes a world from its text, in memory, under the identity `id`.
    ///
    /// # Errors
    /// What the world lacks.
    pub fn from_text(target: &str, text: &str, id: &str, clock: Arc<dyn Clock>) -> Result<Self> {
        Self::from_text_and_history(
            (target, false),
            text,
            id,
            &WorldStart { anchor: clock.now(), statements: &[] },
            clock,
        )
    }

    /// Makes a world from its text and more statements, in memory, under the identity `id`.
    pub(super) fn from_text_and_history(
        (target, protect): (&str, bool),
        text: &str,
        id: &str,
        beginning: &WorldStart<'_>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let made = WorldStore::in_memory(target, text, id, beginning, clock)?;
        let (spec, image) = made.export_image()?;
        let (cache, idle) = (Arc::default(), Arc::default());
        Ok(Self { target: target.into(), protect, id: id.into(), spec, cache, image, idle })
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
