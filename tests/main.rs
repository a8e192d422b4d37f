//! The tests that look at redrill from outside, in one binary.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    missing_docs,
    unreachable_pub,
    reason = "a test that cannot go on panics, and says what it does"
)]

mod arrows;
mod catalogue;
mod cli;
mod contract;
mod disk;
mod docs;
mod gates;
mod imports;
mod kills;
mod leases;
mod names;
mod openapi;
mod operations;
mod rehearse;
mod repl;
mod source;
mod stage;
mod undo;
