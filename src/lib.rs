//! redrill: a runtime for disaster-recovery runbooks.
//!
//! The library is the program's own: `src/main.rs` calls [`cli::main`], and the tests use the rest. What it promises and
//! how it keeps that is in `docs/ARCHITECTURE.md`; the words are in `docs/GLOSSARY.md`; how to work on it is in
//! `CONTRIBUTING.md`.
//!
//! # Where to begin
//!
//! 1. [`provider`]: the capability traits, and [`provider::model`], the plain data that crosses them.
//! 2. One operation from its catalogue entry to a provider: `src/ops/backup.rs`, over [`ops::spec::Operation`].
//! 3. `src/runtime/call.rs`: how a call is replayed, permitted, recorded, performed and recorded again.
//! 4. [`journal::RunFold`]: from a run's records to where it stands.
//! 5. [`rehearsal`]: the same run a thousand times, with a fault at every point.
//!
//! # The floor plan
//!
//! The rooms, from the doors down to the ground. Every arrow points down, no files go in a circle, and `tests/arrows.rs`
//! holds both.
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
