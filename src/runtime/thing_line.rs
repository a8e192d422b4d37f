//! Who is at which thing, among the calls of one process.
//!
//! A call stands in line for all of its things at once, and gets all of them at once: when nobody before it in the line is
//! in its way. Who has something waits for nothing, and who waits has nothing, so no two calls wait for each other.

use crate::{
    base::{lock::lock_unpoisoned, moment::Moment},
    ops::spec::{Thing, ThingPart},
};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// The calls of one process that are at something, or wait for it.
#[derive(Default)]
pub(super) struct ThingLine {
    calls: Mutex<Vec<CallInLine>>,
    /// Tells whoever waits that somebody has left.
    has_moved: watch::Sender<()>,
}

/// A call in the line: at its things, if nobody before it wants any of them.
struct CallInLine {
    number: u64,
    call: String,
    things: Vec<Thing>,
}

/// A place in the line, left on drop.
pub(super) struct PlaceInLine {
    line: Arc<ThingLine>,
    number: u64,
}

/// A call that another one waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CallAhead {
    pub(super) call: String,
    /// What both want.
    part: ThingPart,
}

impl ThingLine {
    /// Lets a call stand in line for things.
    pub(super) fn join(self: &Arc<Self>, call: &str, things: &[Thing]) -> PlaceInLine {
        let mut calls = lock_unpoisoned(&self.calls);
        let number = calls.last().map_or(0, |last| last.number + 1);
        calls.push(CallInLine { number, call: call.into(), things: things.into() });
        PlaceInLine { line: Arc::clone(self), number }
    }
}

impl PlaceInLine {
    /// Waits until nobody before it is in the way; `tell` is told who is, whenever that is another call.
    pub(super) async fn await_turn(&self, mut tell: impl FnMut(&CallAhead)) {
        let mut moved = self.line.has_moved.subscribe();
        let mut told = None;
        loop {
            moved.borrow_and_update();
            let Some(ahead) = self.find_call_ahead() else { return };
            if told.as_ref() != Some(&ahead) {
                tell(&ahead);
            }
            told = Some(ahead);
            // The line has its sender, so it is there as long as this place is.
            drop(moved.changed().await);
        }
    }

    /// Returns the first call before it that wants one of its things.
    pub(super) fn find_call_ahead(&self) -> Option<CallAhead> {
        let calls = lock_unpoisoned(&self.line.calls);
        let own = calls.iter().find(|call| call.number == self.number)?;
        let before = calls.iter().take_while(|call| call.number < self.number);
        let mut wanted = before.flat_map(|call| call.things.iter().map(move |thing| (call, thing)));
        let (ahead, thing) = wanted.find(|(_, thing)| own.things.iter().any(|own| collide(own, thing)))?;
        Some(CallAhead { call: ahead.call.clone(), part: thing.part.clone() })
    }
}

impl Drop for PlaceInLine {
    fn drop(&mut self) {
        lock_unpoisoned(&self.line.calls).retain(|call| call.number != self.number);
        self.line.has_moved.send_replace(());
    }
}

impl CallAhead {
    /// Says what a call waits for, and since when.
    pub(super) fn describe_wait(&self, since: Moment) -> String {
        let part = match &self.part {
            ThingPart::Whole => "all of it",
            ThingPart::Rows => "its rows",
            ThingPart::Named(part) => part,
        };
        format!("waiting since {since}: {} of this run is at {part}", self.call)
    }
}

/// Returns whether calls at these two things exclude each other. Those that write rows do not: the database itself
/// keeps them apart.
fn collide(one: &Thing, other: &Thing) -> bool {
    let parts = match (&one.part, &other.part) {
        (ThingPart::Whole, _) | (_, ThingPart::Whole) => true,
        (ThingPart::Named(one), ThingPart::Named(other)) => one == other,
        (ThingPart::Rows, _) | (_, ThingPart::Rows) => false,
    };
    one.place == other.place && parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thing(place: &str, part: ThingPart) -> Thing {
        Thing { place: place.into(), part }
    }

    fn named(name: &str) -> Thing {
        thing("x", ThingPart::Named(name.into()))
    }

    #[test]
    fn calls_at_one_thing_come_one_after_the_other_and_others_at_once() {
        let (whole, rows) = (thing("x", ThingPart::Whole), thing("x", ThingPart::Rows));
        for (first, second, at_once) in [
            (named("a"), named("a"), false),
            (named("a"), named("b"), true),
            (named("a"), whole.clone(), false),
            (whole.clone(), named("a"), false),
            (whole.clone(), rows.clone(), false),
            (rows.clone(), rows.clone(), true),
            (rows, named("a"), true),
            (whole, thing("x/look", ThingPart::Whole), true),
        ] {
            let line = Arc::<ThingLine>::default();
            let things = [first, second];
            let one = line.join("one", &things[..1]);
            let other = line.join("other", &things[1..]);
            assert_eq!(one.find_call_ahead(), None);
            assert_eq!(other.find_call_ahead().is_none(), at_once, "{things:?}");
            drop(one);
            assert_eq!(other.find_call_ahead(), None);
        }
    }

    #[test]
    fn nobody_overtakes_who_waits_for_the_same() {
        let line = Arc::<ThingLine>::default();
        let setting = line.join("set#0", &[named("a")]);
        let whole = line.join("pause#0", &[thing("x", ThingPart::Whole)]);
        let later = line.join("set#1", &[named("b")]);
        let ahead = |place: &PlaceInLine| place.find_call_ahead().map(|ahead| ahead.call);
        assert_eq!((ahead(&whole), ahead(&later)), (Some("set#0".into()), Some("pause#0".into())));
        drop(whole);
        assert_eq!((ahead(&setting), ahead(&later)), (None, None));
    }
}
