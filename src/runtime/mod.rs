//! Runbooks and runs. The only room with Rhai in it.
//!
//! - A run is a deterministic script over recorded calls. No stack is saved: a resume evaluates the recorded
//!   text from the top, and calls that have ended return their recorded outcome.
//! - `call` holds the whole policy of a call. How a run ends is in `evaluate` (whether), `end_run` (in which order) and
//!   `clean_up`.
//! - A script cannot catch what must stop its run: a flag stops the engine, every native and every wait.

// What a script is made of, and what it can do.
mod bind;
mod comparisons;
mod engine;
mod fan_out;
mod flow;
mod limits;
mod modules;
mod native_call;
mod native_options;
mod script_error;
mod stdlib;
mod thing_claims;
mod thing_line;
mod value_methods;
mod values;
mod world_natives;

// What a runbook says.
pub mod check;
mod fixture;
mod header;
mod hosted_call;
mod prelude;
mod remainder;
mod runbook;
mod runbook_error;

// What a run does.
mod approval;
mod awaited_gates;
mod call;
mod call_host;
mod call_path;
mod call_text;
mod clean_up;
mod decidable_call;
mod decision;
mod deferral_place;
mod deferred_cleanup;
mod edit_barrier;
mod edit_gate;
mod end_run;
mod evaluate;
mod events;
mod frontier;
mod git;
mod held_calls;
mod leave;
mod lost_history;
mod lost_target;
#[cfg(test)]
pub(crate) mod mutant;
mod observer;
mod open_approval;
mod permit;
mod reached_text;
mod read;
mod refusal;
mod rejections;
mod resume_check;
mod run_clock;
mod run_context;
mod runs;
mod scope;
mod script_runner;
mod session;
mod settle;
mod signals;
mod stop;

#[cfg(test)]
mod tests;

pub use awaited_gates::list_awaited_gates;
pub use call_path::{CLEAN_UP_PATH, are_in_different_forks};
pub use decidable_call::{DecidableCall, DecisionRefusal, NeverMadeAgain};
pub use deferred_cleanup::names_missed_clean_up;
pub use end_run::RunResult;
pub use events::Event;
pub use fixture::run_fixture;
pub use flow::NATIVES;
pub use held_calls::is_gone_past;
pub use leave::end_as_abandoned;
pub use lost_target::{AskForTargets, LostTarget};
pub use observer::{Answer, Choice, ForkOrder, Question, RunObserver, Withdrawal};
pub use open_approval::{OpenApproval, is_gate};
pub use permit::unconfirmed_message_and_hint;
pub use read::is_read_only;
pub use refusal::Refusal;
pub use remainder::{Remainder, RemainderKind, RemainderRule};
pub use runbook::{RelativeParam, ResolvedParams, Runbook};
pub use runbook_error::RunbookError;
pub use runs::{ResumeRequest, Runtime, StartRequest};
pub use script_runner::{ProcessKilled, RunResources, ScriptRunner, StopRequester};
pub use session::{EvalError, SESSION_NAME as SESSION, Session};
pub use stop::StopReason;

/// The version of this program, as runs record it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
