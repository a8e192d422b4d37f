//! firedrill: a runtime for disaster-recovery runbooks.

pub mod base;
pub mod cli;
pub mod config;
pub mod journal;
pub mod ops;
pub mod provider;
pub mod repl;
pub mod runtime;
