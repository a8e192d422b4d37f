//! firedrill: a runtime for disaster-recovery runbooks.

pub mod base;
pub mod config;
pub mod journal;
pub mod provider;
