//! Our own backups of a project: logical dumps, since the platform takes none when asked.
//!
//! A dump is a folder `<backup_dir>/<id>` with
//! - `redrill.json`: its record, written before anything else and replaced as a whole;
//! - `dump.partial`, and `dump` once it is whole, read through and on disk;
//! - the logs and exit codes of the programs.
//!
//! A folder whose name begins with a dot is being created or deleted.
//!
//! What a dump does not hold: roles and their passwords, the objects of Storage, the project's settings, secrets and
//! functions, and the platform's own schemas except those of users and buckets.

mod client_programs;
mod contents;
mod create;
mod detached;
mod login;
mod store;
mod verify;

pub(super) use client_programs::parse_major_version;
pub(super) use contents::{platform_schemas, select_branch_entries};
pub(super) use create::{DUMP_JOB, dump_job};
pub(super) use detached::{DetachedProgram, ProgramStatus, file_error, vanished_error};
pub(super) use store::Dump;
pub(super) use verify::pg_restore_list_args;
