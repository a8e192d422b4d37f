//! firedrill: a runtime for disaster-recovery runbooks.

pub mod base;
pub mod config;
pub mod journal;
pub mod ops;
pub mod provider;
pub mod runtime;
