//! The protocol of an effect: the only place that knows the order in which things are written down, asked for, waited
//! for and looked up.
//!
//! Every effect has a shape, and every shape its function here. It is called when the call begins and again whenever the
//! call is taken up; what was recorded in between tells the two apart. Each keeps to the same rules:
//! - What is about to be asked for is on disk before it is asked for.
//! - An effect is done when a fresh look shows it, not when a request was answered.
//! - No answer is no answer. Absence proves nothing until the time has passed in which the request may still land
//!   ([`LandingLimit`]); until then the thing is under quarantine, and the next effect on it waits.
//! - An error that comes from here is certain. What is not certain is [`EffectFailure::Undecided`].

mod commit;
mod elements;
mod failure;
mod job;
mod lost;
mod make;
#[cfg(test)]
mod mutant;
mod opaque;
mod past_values;
mod plan;
mod planned_from;
mod remove;
mod sending;
mod set;
mod set_effect;
#[cfg(test)]
mod tests;
mod watch;

pub(super) use commit::begin_or_continue_commit;
pub(super) use elements::SetLook;
pub use failure::{EffectFailure, EffectResult};
pub(super) use job::{JobEffect, StateSwitch, begin_or_continue_job};
pub(super) use make::{MakeEffect, begin_or_continue_make};
pub(super) use opaque::send_opaque_or_report_undecided;
pub(super) use planned_from::{POWER, PlannedFrom};
pub(super) use remove::{RemoveEffect, begin_or_continue_removal};
pub(super) use set::begin_or_continue_set;
pub(super) use set_effect::SetEffect;
