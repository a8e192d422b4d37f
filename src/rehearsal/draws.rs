//! What a seed lets go wrong at a point.

use super::{
    operators::{clock_jump_fault_at, take_over_fault_at},
    points::{
        DELAY_PAST_TIMEOUT, DELAY_WITHIN_TIMEOUT, Fault, HELD_BACK, LANDING_LATE, LANDING_SOON, Point,
        PointKind,
    },
};
use crate::{
    ops::{self, spec::Effect},
    provider::sim::{
        ColleagueTurn,
        faults::{RequestKind, RequestOutcome},
    },
    runtime::is_gate,
};
use sha2::{Digest as _, Sha256};

/// Returns what goes wrong at a point, which follows from the seed and the point alone; of several the first counts that
/// is of a family that happens.
pub(super) fn draw_faults(seed: u64, process: u32, point: &Point) -> impl Iterator<Item = Fault> + use<> {
    let mut hash = Sha256::new();
    hash.update(seed.to_be_bytes());
    hash.update(process.to_be_bytes());
    hash.update(format!("{point:?}"));
    let dice: [u8; 32] = hash.finalize().into();
    draw_held_refusal(point, &dice)
        .into_iter()
        .chain(draw_fault(seed, point, &dice))
        .chain(draw_take_over_fault(point, &dice))
        .chain(draw_clock_jump_fault(point, &dice))
        .chain(draw_colleague_fault(point, &dice))
        .chain(draw_gate_fault(point, &dice))
        .chain(draw_lag(point, &dice))
}

/// Returns the fault of a request that is refused, and whose call a person holds, if other dice than those of a request's fault
/// have it.
fn draw_held_refusal(point: &Point, dice: &[u8; 32]) -> Option<Fault> {
    let is_drawn = matches!(point.at, PointKind::Acts(_)) && dice[12].is_multiple_of(24);
    is_drawn.then_some(Fault::HeldRefusal)
}

/// Returns the fault of a read that is answered from an old world, if the dice have it: only in a call that changes
/// something.
fn draw_lag(point: &Point, dice: &[u8; 32]) -> Option<Fault> {
    let outcome = RequestOutcome::LagsBehind(1 + usize::from(dice[11] % 2));
    let PointKind::Looks(name) = point.at else { return None };
    let lags = dice[10].is_multiple_of(4) && outcome.fits_request(name, RequestKind::Read);
    (lags && changes_something(&point.call)).then_some(Fault::Request(outcome))
}

/// Returns what a person does who is asked for an approval at a point, other than to give it.
fn draw_gate_fault(point: &Point, dice: &[u8; 32]) -> Option<Fault> {
    let is_asked = point.at.asks_person() && is_approval(&point.call);
    match dice[9] % 6 {
        0 if is_asked => Some(Fault::Rejection),
        1 if is_asked => Some(Fault::Absence),
        _ => None,
    }
}

/// Returns whether a call is an approval, of the script or of its text, by its name.
fn is_approval(call: &str) -> bool {
    is_gate(called_name(call))
}

/// Returns the name of the operation or native that a call is of.
pub(super) fn called_name(call: &str) -> &str {
    call.rsplit('/').next().and_then(|last| last.split('#').next()).unwrap_or_default()
}

/// Returns whether a call is one of an operation that changes something, by its name. What a script reads for itself, and
/// goes by, is its own.
pub(super) fn changes_something(call: &str) -> bool {
    ops::find_operation(called_name(call)).is_some_and(|op| op.effect != Effect::Read)
}

/// Returns the fault of a clock that is set forward while a request of a point is looked for, if the dice have it once
/// that breaks nothing.
fn draw_clock_jump_fault(point: &Point, dice: &[u8; 32]) -> Option<Fault> {
    let is_drawn = dice[8].is_multiple_of(8);
    clock_jump_fault_at(point.at).filter(|_| is_drawn)
}

/// Returns the fault of a take-over of the run at a point, if other dice than those of a request's fault have it.
fn draw_take_over_fault(point: &Point, dice: &[u8; 32]) -> Option<Fault> {
    take_over_fault_at(point.at).filter(|_| dice[7].is_multiple_of(8))
}

/// Returns the fault of a colleague who is there at a point, if other dice than those of a request's fault have it.
fn draw_colleague_fault(point: &Point, dice: &[u8; 32]) -> Option<Fault> {
    let turn = [ColleagueTurn::Before, ColleagueTurn::After][usize::from(dice[5] % 2)];
    let outcome = RequestOutcome::BesideColleague(turn);
    let PointKind::Acts(name) = point.at else { return None };
    let is_there = dice[4].is_multiple_of(4) && outcome.fits_request(name, RequestKind::Change);
    is_there.then_some(Fault::Request(outcome))
}

fn draw_fault(seed: u64, point: &Point, dice: &[u8; 32]) -> Option<Fault> {
    // A seed has one of three fault rates.
    let odds = [6, 4, 2][usize::from(seed.to_be_bytes()[7] % 3)] * 5;
    if u32::from(u16::from_be_bytes([dice[0], dice[1]])) % odds != 0 {
        return None;
    }
    let landing = [LANDING_SOON, LANDING_LATE][usize::from(dice[3] % 2)];
    // Only what acts lands late.
    let sides = if matches!(point.at, PointKind::Acts(_)) { 13 } else { 9 };
    Some(match (point.at, dice[2] % sides) {
        (PointKind::Adding(_) | PointKind::Added(_) | PointKind::Served(_), _) | (_, 0 | 1) => Fault::Crash,
        (_, 2) => Fault::Request(RequestOutcome::Refused),
        (_, 3) => Fault::Request(RequestOutcome::Throttled),
        (_, 4) => Fault::Request(RequestOutcome::Failed),
        (_, 5) => Fault::Request(RequestOutcome::Late(DELAY_WITHIN_TIMEOUT)),
        (_, 6) => Fault::Request(RequestOutcome::Late(DELAY_PAST_TIMEOUT)),
        (PointKind::Acts(_), 7) => Fault::Request(RequestOutcome::Unanswered),
        (PointKind::Acts(_), 9) if dice[6].is_multiple_of(3) => {
            Fault::Request(RequestOutcome::SentLate(HELD_BACK))
        }
        (PointKind::Acts(_), 9) => Fault::Request(RequestOutcome::LandsLate(landing)),
        (PointKind::Acts(_), 10) => Fault::Request(RequestOutcome::AnsweredEarly(landing)),
        (PointKind::Acts(_), 11) => Fault::Request(RequestOutcome::StaleReads(landing)),
        (PointKind::Acts(_), 12) => Fault::Request(RequestOutcome::PartlyDone),
        (PointKind::Acts(_) | PointKind::Looks(_), _) => Fault::Request(RequestOutcome::Lost),
    })
}
