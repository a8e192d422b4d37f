//! An embedded, simulated platform.
//!
//! A target is a world: a database whose content is a history of statements, with backups, branches and a clock of its
//! own that runs with the wall clock and is set forward instead of waited for. A world lives in one file under the state
//! folder and is made, from a world file or the built-in one, when first used.
//!
//! `world` is all of that; the files beside it make a provider of it, one file for each trait.

mod arguments;
mod backups;
mod branches;
mod colleague;
mod config;
mod draft;
pub mod faults;
mod faulty_capabilities;
mod jobs;
mod late;
mod lifecycle;
mod log;
mod look;
mod network;
mod normalized;
mod raw;
mod replicas;
mod schedules;
mod security;
mod settings;
mod sql;
mod tables;
mod target;
mod template;
#[cfg(test)]
mod tests;
mod world;

pub use colleague::{COLLEAGUE_KINDS, COLLEAGUE_RANGE, COLLEAGUE_SETTING, ColleagueTurn};
pub use config::{has_world, remove_world};
pub use draft::WorldDraft;
pub use log::LogLine;
pub use look::WorldFacts;
pub use normalized::NormalizedWorld;
pub use tables::{Column, ForeignKey, Table};
pub(in crate::provider) use target::landing_limit_of_kind;
pub use target::{Sim, open_target};
pub use template::WorldTemplate;
pub use world::{EffectRow, SANDBOX};
