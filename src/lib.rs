//! redrill: a runtime for disaster-recovery runbooks.
//!
//! The floor plan, in reading order. Every arrow points down, and `tests/arrows.rs` holds it.
//!
//! | room | what it is | never sees |
//! |---|---|---|
//! | [`cli`] | the command tree, one dispatch, errors to message, hint and exit code | how a provider works |
//! | [`repl`] | read, evaluate, print over a runtime session | providers, journal files |
//! | [`report`] | values, errors and runs as text, tables and JSON | terminals |
//! | [`rehearsal`] | a runbook under every fault, and the verdict | terminals, state folders |
//! | [`runtime`] | the only room with Rhai: from a runbook's text to a run that ended or can go on | terminals |
//! | [`ops`] | what can be asked: the catalogue of operations | scripts, journals, rights |
//! | [`fake`] | a Management API on loopback over simulated worlds | scripts, journals |
//! | [`journal`] | what happened: records, their fold, their chain, leases | operations, providers, scripts |
//! | [`provider`] | the world: one folder a kind, behind small traits | scripts, journals, terminals |
//! | [`config`] | `redrill.toml` and the environment as plain data | providers |
//! | `testing` | for tests only: whether PostgreSQL runs here, and labs; every room's tests may name it | scripts, journals |
//! | [`base`] | what knows nothing of databases, scripts or runs | the trade |

pub mod base;
pub mod cli;
pub mod config;
pub mod fake;
pub mod journal;
pub mod ops;
pub mod provider;
pub mod rehearsal;
pub mod repl;
pub mod report;
pub mod runtime;
#[cfg(test)]
mod testing;
