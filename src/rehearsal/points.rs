//! The points of a run at which something can go wrong, and what does.
//!
//! A point is a record about to be written, or written; a request about to be made, or served. It is named by the call
//! it belongs to and how often that call has been there, never by a count over the whole run: so a point is the same
//! one whatever runs beside it.

use crate::{
    base::moment::{Moment, Span},
    provider::sim::{ColleagueTurn, faults::RequestOutcome},
};
use serde_json::Value;

/// The delay of an answer that is still within every timeout.
pub(super) const DELAY_WITHIN_TIMEOUT: Span = Span::from_secs(5);
/// The delay of an answer that comes after every usual timeout.
pub(super) const DELAY_PAST_TIMEOUT: Span = Span::from_secs(25 * 3600);

/// The delay of an effect that is there when somebody looks a second time.
pub(super) const LANDING_SOON: Span = Span::from_secs(4);
/// The delay of an effect that is there only after its sender has given up waiting for an answer.
pub(super) const LANDING_LATE: Span = Span::from_secs(40);

/// How long a request is held back in its sender that goes out only just within its time, which is three minutes.
pub(super) const HELD_BACK: Span = Span::from_secs(170);

/// A family of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultFamily {
    /// Deaths of the process.
    Crash,
    /// Requests that fail at once, or are answered late or never.
    Api,
    /// Requests that take effect later than they should, or only in part.
    Late,
    /// What other people do meanwhile, and what becomes of the machine's clock.
    Operators,
}

/// Which families of faults happen: a set of [`FaultFamily`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultSelection(u8);

impl FaultSelection {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// All of them.
    pub const ALL: Self = Self::NONE
        .with(FaultFamily::Crash)
        .with(FaultFamily::Api)
        .with(FaultFamily::Late)
        .with(FaultFamily::Operators);

    /// Returns the selection with one more family.
    #[must_use]
    pub const fn with(self, family: FaultFamily) -> Self {
        Self(self.0 | 1 << family as u8)
    }

    /// Returns whether a family is among them.
    pub(super) const fn has(self, family: FaultFamily) -> bool {
        self.0 & 1 << family as u8 != 0
    }

    /// Returns whether a fault is of one of the families.
    pub(super) fn includes_fault(self, fault: Fault) -> bool {
        self.has(fault.family())
    }
}

/// Where something can go wrong. A seed's faults are drawn from its `Debug` text: other names would be other faults.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Point {
    /// The call; empty for what belongs to the run itself.
    pub(super) call: String,
    /// What happens there.
    pub(super) at: PointKind,
    /// How often the call was there before, in this process.
    pub(super) nth: u32,
}

/// What happens at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum PointKind {
    /// A record is about to be added.
    Adding(&'static str),
    /// A record was added.
    Added(&'static str),
    /// A request that only looks is about to be made.
    Looks(&'static str),
    /// A request that does something is about to be made.
    Acts(&'static str),
    /// A request was served, and nobody else knows.
    Served(&'static str),
}

impl PointKind {
    /// Returns the point in words.
    pub(super) fn describe(self) -> String {
        match self {
            PointKind::Adding(kind) => format!("before the record `{kind}`"),
            PointKind::Added(kind) => format!("after the record `{kind}`"),
            PointKind::Looks(name) | PointKind::Acts(name) => format!("at the request `{name}`"),
            PointKind::Served(name) => format!("after the request `{name}` was served"),
        }
    }

    /// Returns whether a person is asked for an approval next, where the point is one of an approval.
    pub(super) fn asks_person(self) -> bool {
        self == PointKind::Added("accepted")
    }

    /// Returns whether the point belongs to a request rather than to a record.
    pub(super) fn is_request(self) -> bool {
        matches!(self, PointKind::Looks(_) | PointKind::Acts(_) | PointKind::Served(_))
    }
}

impl Fault {
    /// Returns the family that it is of.
    fn family(self) -> FaultFamily {
        match self {
            Fault::Crash => FaultFamily::Crash,
            Fault::TakeOver(_)
            | Fault::Silence(_)
            | Fault::ClockJump(_)
            | Fault::Rejection
            | Fault::Absence
            | Fault::HeldRefusal
            | Fault::Request(RequestOutcome::BesideColleague(_)) => FaultFamily::Operators,
            Fault::Request(_) if self.makes_answer_untrue() => FaultFamily::Late,
            Fault::Request(_) => FaultFamily::Api,
        }
    }

    /// Returns what happens, in words.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Fault::Crash => "killed",
            Fault::TakeOver(_) => "taken over by another process, while its request was on its way,",
            Fault::ClockJump(_) => {
                "no answer, the clock set 3 hours forward while it was looked for, and an effect after that,"
            }
            Fault::Rejection => "rejected",
            Fault::Absence => "nobody there to be asked",
            Fault::HeldRefusal => "refused, and held by the person who is asked,",
            Fault::Silence(RequestOutcome::Lost) => "lost, and nothing answered after that,",
            Fault::Silence(_) => "served, no answer, and nothing answered after that,",
            Fault::Request(RequestOutcome::Served) => "served",
            Fault::Request(RequestOutcome::Refused) => "refused",
            Fault::Request(RequestOutcome::Throttled) => "throttled",
            Fault::Request(RequestOutcome::Failed) => "server error",
            Fault::Request(RequestOutcome::Late(DELAY_PAST_TIMEOUT)) => "answered too late",
            Fault::Request(RequestOutcome::Late(_)) => "answered late",
            Fault::Request(RequestOutcome::Lost) => "lost, no answer",
            Fault::Request(RequestOutcome::Unanswered) => "served, no answer",
            Fault::Request(RequestOutcome::LandsLate(_)) => "no answer, and an effect after that",
            Fault::Request(RequestOutcome::SentLate(_)) => {
                "held back and sent just within its time, no answer, and an effect after that"
            }
            Fault::Request(RequestOutcome::AnsweredEarly(_)) => "answered before its effect",
            Fault::Request(RequestOutcome::StaleReads(_)) => "served, and not seen by reads for a while",
            Fault::Request(RequestOutcome::LagsBehind(0 | 1)) => "answered from before the last change",
            Fault::Request(RequestOutcome::LagsBehind(_)) => "answered from before the last change but one",
            Fault::Request(RequestOutcome::PartlyDone) => "answered as done, and done in part",
            Fault::Request(RequestOutcome::BesideColleague(ColleagueTurn::Before)) => {
                "served, and a colleague changed another element right before"
            }
            Fault::Request(RequestOutcome::BesideColleague(ColleagueTurn::After)) => {
                "served, and a colleague changed another element right after"
            }
        }
    }

    /// Returns whether it makes a request of the run fail, to a target or to a person, so that a call or the run may end
    /// otherwise for it.
    pub(super) fn fails_request(self) -> bool {
        match self {
            Fault::Rejection | Fault::HeldRefusal => true,
            Fault::Crash | Fault::TakeOver(_) | Fault::Silence(_) | Fault::ClockJump(_) | Fault::Absence => {
                false
            }
            Fault::Request(outcome) => !matches!(outcome, RequestOutcome::BesideColleague(_)),
        }
    }

    /// Returns whether the world is for a while, or stays, other than an answer says.
    pub(super) fn makes_answer_untrue(self) -> bool {
        matches!(
            self,
            Fault::TakeOver(_)
                | Fault::ClockJump(_)
                | Fault::Request(
                    RequestOutcome::LandsLate(_)
                        | RequestOutcome::SentLate(_)
                        | RequestOutcome::AnsweredEarly(_)
                        | RequestOutcome::StaleReads(_)
                        | RequestOutcome::LagsBehind(_)
                        | RequestOutcome::PartlyDone
                )
        )
    }
}

impl InjectedFault {
    /// Returns what went wrong, and where, in words.
    pub(super) fn describe(&self) -> String {
        let Point { call, at, .. } = &self.point;
        format!("{} {} of {}", self.fault.describe(), at.describe(), render_call(call))
    }
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The process dies.
    Crash,
    /// A request is not simply served.
    Request(RequestOutcome),
    /// Another process asks this one to stop, and takes the run over, while a request is on its way to this outcome.
    TakeOver(RequestOutcome),
    /// A request has this outcome, and its process gets no answer to any later one.
    Silence(RequestOutcome),
    /// A request has this outcome, and the machine's clock is set forward when its process makes the next one.
    ClockJump(RequestOutcome),
    /// A person who is asked for an approval rejects.
    Rejection,
    /// Nobody is there whom the process could ask for an approval.
    Absence,
    /// A request is refused, and a person who is asked about the failed call holds it.
    HeldRefusal,
}

/// A fault that struck.
#[derive(Debug, Clone)]
pub(super) struct InjectedFault {
    pub(super) point: Point,
    pub(super) fault: Fault,
    pub(super) at: Moment,
    /// The number of its process, from 0.
    pub(super) process: usize,
    /// How many records its process had appended to the run, in memory or on disk.
    pub(super) appended: usize,
}

/// One visit to a point.
#[derive(Debug, Clone)]
pub(super) struct Visit {
    pub(super) point: Point,
    /// The operation or native that a record is about.
    pub(super) op: Option<String>,
    /// What a call gives back, where it is about to be recorded that it ended well.
    pub(super) result: Option<Value>,
}

/// Returns a call's name as text.
pub(super) fn render_call(call: &str) -> &str {
    if call.is_empty() { "the run" } else { call }
}

/// Returns whether a request that looks is the first of its name after the call took effect.
pub(super) fn is_first_after_effect(point: &Point, own: &[&Point]) -> bool {
    let effect = own.iter().position(|p| matches!(p.at, PointKind::Served(_)));
    let after = own.iter().skip(effect.unwrap_or(own.len())).find(|p| p.at == point.at);
    matches!(point.at, PointKind::Looks(_)) && after.is_some_and(|first| *first == point)
}
