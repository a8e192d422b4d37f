//! Scenarios in which a look lags behind.

use super::{
    draws::changes_something,
    fault_plan::FaultPlan,
    points::{Fault, LANDING_LATE, Point, PointKind, is_first_after_effect},
    scenario::Scenario,
};
use crate::provider::sim::faults::{RequestKind, RequestOutcome};

/// What becomes of a request before a look at it lags behind.
const BEFORE_LAGGING_LOOK: &[(&str, RequestOutcome)] = &[
    ("lost", RequestOutcome::Lost),
    ("unanswered", RequestOutcome::Unanswered),
    ("lands-late", RequestOutcome::LandsLate(LANDING_LATE)),
    ("answered-early", RequestOutcome::AnsweredEarly(LANDING_LATE)),
];

/// How far such a look lags behind.
const LAGS: &[(&str, RequestOutcome)] =
    &[("lagging", RequestOutcome::LagsBehind(1)), ("lagging-two", RequestOutcome::LagsBehind(2))];

/// Returns the scenarios in which a request of a call gets no answer, or one before it takes effect, or its process dies with it
/// on record; and the first look at what came of it lags behind, or the two after it.
pub(super) fn lagging_scenarios(number: usize, own: &[&Point]) -> Vec<Scenario> {
    let act = own.iter().find_map(|point| match point.at {
        PointKind::Acts(request) => Some((*point, request)),
        _ => None,
    });
    let look = own.iter().find(|point| is_first_after_effect(point, own) && may_lag(point));
    let (Some((act, request)), Some(look)) = (act, look) else { return Vec::new() };
    let failed = BEFORE_LAGGING_LOOK
        .iter()
        .map(|(word, outcome)| (format!("{request}:{word}"), (act, Fault::Request(*outcome)), look.nth));
    let record = own.iter().find(|point| point.at == PointKind::Added("accepted") && point.nth == 0);
    let killed = record.map(|record| ("accepted:killed".to_owned(), (*record, Fault::Crash), 0));
    let pair = |(word, (point, fault), nth): (String, (&Point, Fault), u32)| -> Vec<Scenario> {
        let then = |(lag, outcome): &(&'static str, RequestOutcome)| {
            let look = Point { nth, ..Point::clone(look) };
            Scenario {
                id: format!("api:{number}:{word}:{lag}"),
                cell: Some((number, *lag)),
                plan: FaultPlan::Pair([(point.clone(), fault), (look, Fault::Request(*outcome))]),
            }
        };
        LAGS.iter().map(then).collect()
    };
    failed.chain(killed).flat_map(pair).chain(true_look_scenarios(number, act)).collect()
}

/// Returns the scenarios in which a request is lost, and the first look shows that, before two lag behind: that it was not there
/// once says nothing of a look that calls it done.
fn true_look_scenarios(number: usize, act: &Point) -> Vec<Scenario> {
    let PointKind::Acts(request) = act.at else { return Vec::new() };
    let scenario = |(lag, outcome): &(&'static str, RequestOutcome)| Scenario {
        id: format!("api:{number}:{request}:lost:true-look:{lag}"),
        cell: Some((number, *lag)),
        plan: FaultPlan::TrueLookThenLags(act.clone(), *outcome),
    };
    LAGS.iter().map(scenario).collect()
}

/// Returns whether a look may lag behind.
pub(super) fn may_lag(look: &Point) -> bool {
    let fits = |name| LAGS.iter().all(|(_, outcome)| outcome.fits_request(name, RequestKind::Read));
    matches!(look.at, PointKind::Looks(name) if fits(name)) && changes_something(&look.call)
}
