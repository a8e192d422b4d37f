//! A world that was made once, to be copied: thousands of rehearsals begin in the same one.

use super::{Door, Sim, demand_file_name, settings, shelf::Shelf, store::Store, text, world::World};
use crate::{
    base::{clock::Clock, sqlite::Idle},
    provider::{Result, fleet::Opening},
};
use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
};

/// A world as it was when it was made.
pub struct Template {
    target: String,
    protect: bool,
    id: String,
    world: Arc<World>,
    shelf: Arc<Shelf>,
    image: Vec<u8>,
    idle: Arc<Idle>,
}

impl Template {
    /// Makes the world of a target's settings, in memory, under the identity `id`; the state folder is not looked at.
    ///
    /// # Errors
    /// What its settings or its world file lack.
    pub fn make(opening: &Opening<'_>, id: &str) -> Result<Self> {
        let target = opening.target;
        demand_file_name(&target.name)?;
        let text = text(&settings(target)?, opening.base)?;
        let made = Self::of_text(&target.name, &text, id, Arc::clone(opening.clock))?;
        Ok(Self { protect: target.protect, ..made })
    }

    /// Makes the world of a text, in memory, under the identity `id`.
    ///
    /// # Errors
    /// What the world lacks.
    pub fn of_text(target: &str, text: &str, id: &str, clock: Arc<dyn Clock>) -> Result<Self> {
        let made = Store::in_memory(target, text, id, clock)?;
        let (world, image) = made.image()?;
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
    pub fn copy(&self, clock: Arc<dyn Clock>) -> Result<Sim> {
        let shared = (Arc::clone(&self.world), Arc::clone(&self.shelf), &self.idle);
        let store = Store::of_image(&self.image, &self.target, &self.id, shared, Arc::clone(&clock))?;
        let store = Mutex::new(Some(Arc::new(store)));
        let door = Door { path: PathBuf::new(), text: String::new(), clock, store };
        Ok(Sim { target: self.target.clone(), protect: self.protect, door: Arc::new(door), branch: None })
    }
}
