//! A world: its file, its rows, its time. It knows neither [`Sim`](super::Sim) nor the traits of providers.
//!
//! `file` and `spec` read the text that a world is made from; `create` makes it, `store` opens it. All else reads and
//! writes inside a transaction, [`WorldTx`]. The database of a world is not stored: `content` makes it by running the
//! statements of its `history`.

pub(super) mod audit;
mod backups;
mod branches;
pub(super) mod calendar;
mod checks;
mod content;
mod content_cache;
mod create;
mod effects;
mod entry;
mod file;
mod functions;
mod history;
pub(super) mod jobs;
mod lsn;
mod network;
pub(super) mod parameters;
mod populate;
mod recovery;
mod replicas;
mod restore_points;
mod restores;
mod schedules;
pub(super) mod settings;
mod source;
mod spec;
pub(super) mod statement;
mod store;
pub(super) mod switches;
mod table_events;
mod time;
mod tx;

pub(super) use create::WorldStart;
pub use effects::EffectRow;
pub use spec::SANDBOX;

pub(super) use backups::{BackupRow, new_backup_row};
pub(super) use branches::demand_branch_name;
pub(super) use content::{Content, version_text};
pub(super) use content_cache::{ContentCache, ContentSummary};
pub(super) use effects::{from_json, to_json};
pub(super) use entry::HistoryEntry;
pub(super) use spec::WorldSpec;
pub(super) use store::WorldStore;
pub(super) use time::from_micros;
pub(super) use tx::{WorldTx, store_error};
