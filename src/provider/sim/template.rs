//! A world that was made once, to be copied: thousands of rehearsals begin in the same one.

use super::{
    LazyStore, Sim, demand_file_name, load_world_text, parse_config, shelf::ContentCache, store::WorldStore,
    world::WorldSpec,
};
use crate::{
    base::{clock::Clock, sqlite::DbPool},
    provider::{OpenContext, Result},
};
use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
};

/// A world as it was when it was made.
pub struct WorldTemplate {
    target: String,
    protect: bool,
    id: String,
    world: Arc<WorldSpec>,
    shelf: Arc<ContentCache>,
    image: Vec<u8>,
    idle: Arc<DbPool>,
}

impl WorldTemplate {
    /// Makes the world of a target's settings, in memory, under the identity `id`; the state folder is not looked at.
    ///
    /// # Errors
    /// What its settings or its world file lack.
    pub fn from_config(opening: &OpenContext<'_>, id: &str) -> Result<Self> {
        let target = opening.target;
        demand_file_name(&target.name)?;
        let text = load_world_text(&parse_config(target)?, opening.base)?;
        let made = Self::from_text(&target.name, &text, id, Arc::clone(opening.clock))?;
        Ok(Self { protect: target.protect, ..made })
    }

    /// Makes the world of a text, in memory, under the identity `id`.
    ///
    /// # Errors
    /// What the world lacks.
    pub fn from_text(target: &str, text: &str, id: &str, clock: Arc<dyn Clock>) -> Result<Self> {
        let made = WorldStore::in_memory(target, text, id, clock)?;
        let (world, image) = made.export_image()?;
        let (shelf, idle) = (Arc::default(), Arc::default());
        Ok(Self { target: target.into(), protect: false, id: id.into(), world, shelf, image, idle })
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
        let shared = (Arc::clone(&self.world), Arc::clone(&self.shelf), &self.idle);
        let store = WorldStore::from_image(&self.image, &self.target, &self.id, shared, Arc::clone(&clock))?;
        let store = Mutex::new(Some(Arc::new(store)));
        let door = LazyStore { path: PathBuf::new(), text: String::new(), clock, store };
        Ok(Sim { target: self.target.clone(), protect: self.protect, door: Arc::new(door), branch: None })
    }
}
