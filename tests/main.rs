//! The tests that look at redrill from outside, in one binary.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    missing_docs,
    unreachable_pub,
    reason = "a test that cannot go on panics, and says what it does"
)]

mod approvals;
mod arrows;
mod catalogue;
mod decisions;
mod disk;
mod docs;
mod edited_files;
mod edited_params;
mod env;
mod former_name;
mod imports;
mod kills;
mod late;
mod leases;
mod logs;
mod names;
mod next_step;
mod openapi;
mod operations;
mod placement;
mod postgres;
mod recorded;
mod rehearse;
mod repl;
mod runs;
mod source;
mod unfit_runs;
mod usage;
mod whose_run;
mod world;
