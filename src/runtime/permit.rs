//! What a run may do, to whom, and beside whom.

use super::{
    Refusal,
    live::{Halt, Known, Live, Stop, lock},
};
use crate::{
    journal::{Durability, Holder, Lease, Mode, Record, Run},
    ops::{
        args::Args,
        spec::{Effect, Need, Op},
    },
    provider::{Error, Fleet, model::Identity},
};
use std::{collections::BTreeSet, sync::Arc};

/// Stops the run when it lacks the right for a call.
pub(super) fn allow(live: &Live, op: &Op, args: &Args) -> Result<(), Halt> {
    let need = op.need(args);
    match &live.rights {
        Some(rights) if !rights.iter().any(|right| right.covers(&need)) => {
            Err(live.stopper.stop(Stop::Refused {
                message: format!("`{}` needs `{need}`, and the runbook's `needs` do not have it", op.path()),
                hint: format!("add \"{need}\" to `needs` in the header, if the runbook is meant to do this"),
            }))
        }
        _ => Ok(()),
    }
}

/// Returns the protected ones of some targets, when these rights change anything.
pub(super) fn guarded(fleet: &Fleet, targets: &[String], needs: &[Need]) -> Vec<String> {
    if !needs.iter().any(|need| need.effect >= Effect::Change) {
        return Vec::new();
    }
    let protected = |name: &&String| fleet.settings(name).is_ok_and(|t| t.protect);
    targets.iter().filter(protected).cloned().collect()
}

/// Refuses to begin while a protected target's name was not typed.
pub(super) fn guard(
    fleet: &Fleet,
    targets: &[String],
    needs: &[Need],
    confirmed: &BTreeSet<String>,
) -> Result<(), Refusal> {
    match guarded(fleet, targets, needs).into_iter().find(|name| !confirmed.contains(name)) {
        None => Ok(()),
        Some(name) => {
            let (message, hint) = unconfirmed(&name);
            Err(Refusal::Policy { message, hint, place: None })
        }
    }
}

fn unconfirmed(name: &str) -> (String, String) {
    (
        format!("the target `{name}` is protected, and this may change it"),
        format!("name it: `--confirm {name}`"),
    )
}

/// Why a target could not be recognised.
pub(super) enum Unrecognised {
    /// It does not answer; nothing is known.
    Unreachable(Error),
    /// The run was stopped.
    Halt(Halt),
}

/// Makes sure that a target is who it was when the run first used it, that its name was typed where it is protected,
/// and that the run has leased it. A person at the prompt has every right, and is asked and leased for call by call.
pub(super) fn recognise(live: &Live, target: &str, need: &Need) -> Result<(), Unrecognised> {
    let known = Arc::clone(lock(&live.recognised).entry(target.to_owned()).or_default());
    let mut known = lock(&known);
    let rights = live.rights.as_deref().unwrap_or(std::slice::from_ref(need));
    if !guarded(&live.fleet, &[target.to_owned()], rights).is_empty() && !live.confirmed.contains(target) {
        let (message, hint) = unconfirmed(target);
        return Err(Unrecognised::Halt(live.stopper.stop(Stop::Refused { message, hint })));
    }
    if known.is_none() {
        let identity =
            live.wait(async { live.fleet.target(target)?.identity().await }).map_err(Unrecognised::Halt)?;
        let identity = identity.map_err(Unrecognised::Unreachable)?;
        remember(live, target, &identity).map_err(Unrecognised::Halt)?;
        *known = Some(Known { identity, mode: None });
    }
    match known.as_mut() {
        Some(known) => claim(live, target, known, rights).map_err(Unrecognised::Halt),
        None => Ok(()),
    }
}

/// Leases a target, unless the run has it already in the way that these rights need.
fn claim(live: &Live, target: &str, known: &mut Known, rights: &[Need]) -> Result<(), Halt> {
    let Some(wanted) = lease(target, &known.identity, rights) else { return Ok(()) };
    if known.mode.is_some_and(|has| has == Mode::Exclusive || has == wanted.mode) {
        return Ok(());
    }
    let mode = wanted.mode;
    let leased = live.journal.lease(&[wanted], live.run.id(), &Holder::this_process());
    leased.map_err(|e| live.stopper.stop(Stop::Leased(e)))?;
    known.mode = Some(mode);
    Ok(())
}

/// Compares a target with who it was, or writes down who it is.
fn remember(live: &Live, target: &str, identity: &Identity) -> Result<(), Halt> {
    let Some(recorded) = live.run.target(target) else {
        let identity = serde_json::json!(identity);
        let record = Record::Target { name: target.to_owned(), identity };
        return live.journaled(live.run.append(record, Durability::Rides));
    };
    if recorded["id"].as_str() == Some(&identity.id) {
        return Ok(());
    }
    Err(live.stopper.stop(Stop::Mismatch {
        message: format!(
            "the target `{target}` is not the one that the run began with\n  recorded  {}\n  now       {}",
            recorded["description"].as_str().unwrap_or_default(),
            identity.description
        ),
    }))
}

/// Returns the leases that a run needs of every target that it has used.
pub(super) fn leases(run: &Run, rights: &[Need]) -> Vec<Lease> {
    let known =
        run.targets().into_iter().filter_map(|(name, who)| Some((name, serde_json::from_value(who).ok()?)));
    known.filter_map(|(name, who): (String, Identity)| lease(&name, &who, rights)).collect()
}

/// Returns the lease that a run with these rights needs of a target.
pub(super) fn lease(name: &str, target: &Identity, rights: &[Need]) -> Option<Lease> {
    mode(rights).map(|mode| Lease { target: target.id.clone(), name: name.to_owned(), mode })
}

/// Returns how a run with these rights uses its targets: beside others when it only adds, alone when it changes them,
/// and without a lease when it only looks.
fn mode(rights: &[Need]) -> Option<Mode> {
    let changes_source = |need: &&Need| need.effect >= Effect::Change && need.area != "branch";
    let adds = |need: &&Need| need.effect != Effect::Read;
    match (rights.iter().find(changes_source), rights.iter().find(adds)) {
        (Some(_), _) => Some(Mode::Exclusive),
        (None, Some(_)) => Some(Mode::Shared),
        (None, None) => None,
    }
}
