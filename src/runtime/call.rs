//! One call, from asked to known: replay, permit, record, perform, record. The whole policy of a run is here.
//!
//! What holds after a kill at any point:
//! - before `begin`: nothing happened, and the call is made;
//! - after `begin`: the operation's recovery rule asks the world, and the call is taken up where it is;
//! - after `accepted`: the call goes on waiting for what was accepted;
//! - after `end`: the recorded outcome is given back, and nothing is done.

use super::{
    Event,
    fault::{self, Fault, codes},
    live::{Deferred, Due, Frame, Halt, Live, Stop, lock},
    permit::{self, Unrecognised},
};
use crate::{
    base::value,
    journal::{Durability, Outcome, Past, Record},
    ops::{
        args::Args,
        branch,
        spec::{Context, Effect, Host, Kind, Need, Op, Probed, Recovery, is_intent, place_of},
    },
    provider::{
        Accept, Code, Error,
        model::{Key, Progress},
    },
};
use async_trait::async_trait;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::time::Instant;

/// One call, as it is asked.
pub(super) struct Asked<'a> {
    /// The operation.
    pub(super) op: &'static Op,
    /// Its arguments.
    pub(super) args: Args,
    /// Where in the script.
    pub(super) at: &'a str,
    /// Whether an earlier call of the run was allowed this one too: what it made is its to remove.
    pub(super) implied: bool,
}

/// Takes a call.
pub(super) fn take(frame: &Frame, asked: Asked<'_>) -> Result<Value, Halt> {
    let live = frame.live();
    if frame.is_halted() {
        return Err(Halt::Stop);
    }
    let name = frame.next(&asked.op.path());
    if let Some(asked_for) = &live.asked {
        lock(asked_for).insert(name.clone());
    }
    let call = Call { live, frame, name: &name, target: target_name(asked.op, &asked.args), asked };
    match live.run.past(&name) {
        Past::Ended { op, args, outcome } => {
            call.must_match(&op, &args)?;
            call.tell_replayed();
            call.conclude(outcome)
        }
        Past::Begun { op, args, key, accepted, decision } => {
            call.must_match(&op, &args)?;
            call.take_up(&Key(key), accepted, decision)
        }
        Past::Nothing if live.settling() => Err(frame.give_up()),
        Past::Nothing => call.make(),
    }
}

/// Settles a call that was begun, of a run whose text is not there: `name`, `op` and `args` are as they were recorded.
pub(super) fn settle(frame: &Frame, name: &str, asked: Asked<'_>) -> Result<Value, Halt> {
    let live = frame.live();
    let call = Call { live, frame, name, target: target_name(asked.op, &asked.args), asked };
    match live.run.past(name) {
        Past::Begun { key, accepted, decision, .. } => call.take_up(&Key(key), accepted, decision),
        Past::Nothing | Past::Ended { .. } => Ok(Value::Null),
    }
}

struct Call<'a> {
    live: &'a Live,
    frame: &'a Frame,
    name: &'a str,
    target: Option<String>,
    asked: Asked<'a>,
}

impl Call<'_> {
    /// Makes a call that was never begun. That its target does not answer is its outcome, and recorded like any other:
    /// a script that went on without it goes the same way at a resume.
    fn make(&self) -> Result<Value, Halt> {
        if !self.asked.implied {
            permit::allow(self.live, self.asked.op, &self.asked.args)?;
        }
        self.must_be_new()?;
        match self.recognise() {
            Ok(()) => {}
            Err(Unrecognised::Halt(halt)) => return Err(halt),
            Err(Unrecognised::Unreachable(e)) => return self.end(Err(e), Instant::now()),
        }
        match self.asked.op.recovery {
            Recovery::Read | Recovery::Wait => self.read(),
            Recovery::Probe(_) => self.begin(),
        }
    }

    /// Takes up a call that was begun. While its target does not answer, nobody knows about it.
    fn take_up(&self, key: &Key, accepted: Option<Value>, decision: Option<Value>) -> Result<Value, Halt> {
        match self.recognise() {
            Ok(()) => self.recover(key, accepted, decision),
            Err(Unrecognised::Halt(halt)) => Err(halt),
            Err(Unrecognised::Unreachable(e)) => Err(self.undecided(&e.message)),
        }
    }

    /// Performs a call that only looks.
    fn read(&self) -> Result<Value, Halt> {
        self.live.journaled(self.live.run.flush())?;
        let started = Instant::now();
        self.tell_started();
        let timeout = self.asked.args.timeout();
        let key = self.key(0);
        let cx = self.context(&key, None);
        let performed = self.live.wait(async {
            let slow = || {
                Error::new(Code::Timeout, format!("no answer within {timeout}"))
                    .hint("give it more with `timeout:`")
            };
            tokio::select! {
                biased;
                performed = (self.asked.op.perform)(&cx, &self.asked.args) => performed,
                () = self.live.fleet.clock().sleep(timeout) => Err(slow()),
            }
        })?;
        self.end(performed, started)
    }

    /// Records that the call is about to take effect, and performs it.
    fn begin(&self) -> Result<Value, Halt> {
        let key = self.key(self.live.run.attempts(self.name));
        let (call, op, args) = (self.name.to_owned(), self.asked.op.path(), self.asked.args.to_value());
        let begin = Record::Begin { call, op, args, key: key.0.clone(), at: self.asked.at.to_owned() };
        #[cfg(not(test))]
        let durability = Durability::Now;
        #[cfg(test)]
        let durability = super::mutant::begin();
        self.live.journaled(self.live.run.append(begin, durability))?;
        self.perform(&key, None)
    }

    /// Performs a call that is begun, or goes on with it.
    fn perform(&self, key: &Key, accepted: Option<Value>) -> Result<Value, Halt> {
        let started = Instant::now();
        self.tell_started();
        let cx = self.context(key, accepted);
        match self.live.wait((self.asked.op.perform)(&cx, &self.asked.args))? {
            Err(e) if e.code == Code::Unknown => self.settle(key, &e, started),
            performed => self.end(performed, started),
        }
    }

    /// Settles an outcome that the provider could not tell, by the call's own key. What stays unknown stops the run.
    fn settle(&self, key: &Key, unknown: &Error, started: Instant) -> Result<Value, Halt> {
        match self.probe(key) {
            Ok(Probed::Done(value)) => self.end(Ok(value), started),
            Ok(Probed::Accepted(job)) => self.go_on(key, job),
            Ok(Probed::NotDone) => {
                let mut certain = unknown.clone();
                (certain.code, certain.retryable) = (Code::Unavailable, true);
                self.end(Err(certain), started)
            }
            Err(Halt::Raise(why)) => {
                Err(self.undecided(&format!("{unknown}; asked again: {}", why["message"])))
            }
            Err(stop @ Halt::Stop) => Err(stop),
        }
    }

    /// Takes up a call that was begun and has no end.
    fn recover(&self, key: &Key, accepted: Option<Value>, decision: Option<Value>) -> Result<Value, Halt> {
        if let Some(decision) = decision {
            return match decision["kind"].as_str() {
                Some("redo" | "hold") if self.live.settling() => Err(self.frame.give_up()),
                _ => self.decided(&decision),
            };
        }
        // The world is asked also where it is known what was accepted: an error on the way there is no end of the call.
        let probed = self.probe(key);
        // What was only about to be asked has been compared with the world by now.
        let accepted = accepted.filter(|recorded| !is_intent(recorded));
        match probed {
            Ok(Probed::Done(value)) => self.end(Ok(value), Instant::now()),
            Ok(Probed::Accepted(job)) if accepted.is_none() => self.go_on(key, job),
            Ok(Probed::NotDone) if accepted.is_none() && self.live.settling() => Err(self.frame.give_up()),
            Ok(Probed::Accepted(_) | Probed::NotDone) => self.perform(key, accepted),
            Err(Halt::Raise(why)) => {
                Err(self.undecided(why["message"].as_str().unwrap_or("the world could not be asked")))
            }
            Err(stop @ Halt::Stop) => Err(stop),
        }
    }

    /// Writes down what a probe found, and waits for it.
    fn go_on(&self, key: &Key, job: Value) -> Result<Value, Halt> {
        let accepted = Record::Accepted { call: self.name.to_owned(), what: job.clone() };
        self.live.journaled(self.live.run.append(accepted, Durability::Now))?;
        self.perform(key, Some(job))
    }

    fn probe(&self, key: &Key) -> Result<Probed, Halt> {
        let Recovery::Probe(probe) = self.asked.op.recovery else { return Ok(Probed::NotDone) };
        #[cfg(test)]
        if super::mutant::is_blind() {
            return Ok(Probed::NotDone);
        }
        let accepted = match self.live.run.past(self.name) {
            Past::Begun { accepted, .. } => accepted,
            Past::Nothing | Past::Ended { .. } => None,
        };
        let cx = self.context(key, accepted);
        let found = self.live.wait(probe(&cx, &self.asked.args))?;
        found.map_err(|e| Halt::Raise(self.fault(&e)))
    }

    /// Does what a person decided about a call of which nobody could know.
    fn decided(&self, decision: &Value) -> Result<Value, Halt> {
        match decision["kind"].as_str() {
            Some("redo") => self.begin(),
            // It is still open: the run comes to its end with the same error, and there somebody is asked again.
            Some("hold") => self.conclude(Outcome::Err(decision["error"].clone())),
            Some("done") => self.record(Outcome::Ok(decision["result"].clone())),
            _ => {
                let op = self.asked.op.path();
                let message = format!("`{op}` was decided to have failed");
                let mut fault = match &decision["error"] {
                    known @ Value::Object(_) => known.clone(),
                    _ => fault::of_runtime(codes::DECIDED, &message, None, Some(&op)),
                };
                fault[fault::DECIDED] = true.into();
                self.record(Outcome::Err(fault))
            }
        }
    }

    /// Records how the call came out, and only then says so.
    fn end(&self, performed: Result<Value, Error>, started: Instant) -> Result<Value, Halt> {
        let outcome = match performed {
            Ok(value) => Outcome::Ok(value),
            Err(e) => Outcome::Err(self.fault(&e)),
        };
        let error = match &outcome {
            Outcome::Err(fault) => fault["message"].as_str().map(str::to_owned),
            Outcome::Ok(_) => None,
        };
        let concluded = self.record(outcome);
        if concluded != Err(Halt::Stop) {
            self.live.tell(&Event::CallFinished {
                call: self.name,
                op: &self.asked.op.path(),
                ok: error.is_none(),
                seconds: started.elapsed().as_secs_f64(),
                error: error.as_deref(),
            });
        }
        concluded
    }

    fn record(&self, outcome: Outcome) -> Result<Value, Halt> {
        let (call, op, args) = (self.name.to_owned(), self.asked.op.path(), self.asked.args.to_value());
        let end = Record::End { call, op, args, at: self.asked.at.to_owned(), outcome: outcome.clone() };
        self.live.journaled(self.live.run.append(end, Durability::Now))?;
        self.conclude(outcome)
    }

    /// Gives a known outcome to the script, live and replayed alike.
    fn conclude(&self, outcome: Outcome) -> Result<Value, Halt> {
        match outcome {
            Outcome::Ok(value) => {
                let made = value::inside(&value, value::BRANCH);
                if self.asked.args.flag("temporary") && made.is_some() {
                    let (name, due) = (self.name.to_owned(), Due::Branch(value.clone()));
                    self.frame.deferred().push(Deferred { name, due });
                }
                if self.asked.op.effect == Effect::Destroy {
                    self.forget_branch(&value);
                }
                if self.asked.op.effect != Effect::Read {
                    self.live.note_effect(self.name);
                }
                Ok(value)
            }
            Outcome::Err(mut fault) => {
                fault[fault::CALL] = self.name.into();
                if fault["side_effects"] == "some" {
                    self.live.note_effect(self.name);
                }
                self.live.remember_left_behind(&fault);
                Err(Halt::Raise(fault))
            }
        }
    }

    /// Stops the run when the script asks for something else than was recorded here.
    fn must_match(&self, op: &str, args: &Value) -> Result<(), Halt> {
        let (asked_op, asked_args) = (self.asked.op.path(), self.asked.args.to_value());
        if op == asked_op && *args == asked_args {
            return Ok(());
        }
        Err(self.live.stopper.stop(Stop::Mismatch {
            message: format!(
                "the call {} is not the one that was recorded\n  recorded  {op}({})\n  asked     {asked_op}({})\n  at        {}",
                self.name, value::plain(args), value::plain(&asked_args), self.asked.at
            ),
        }))
    }

    /// Stops an edited script that would do again under another name what was done: a step was renamed or moved.
    fn must_be_new(&self) -> Result<(), Halt> {
        let Some(asked_for) = self.live.asked.as_ref().filter(|_| self.asked.op.effect != Effect::Read)
        else {
            return Ok(());
        };
        let (op, args) = (self.asked.op.path(), self.asked.args.to_value());
        let asked_for = lock(asked_for).clone();
        let is_it = |past: &Past| match past {
            Past::Begun { op: o, args: a, .. } | Past::Ended { op: o, args: a, .. } => *o == op && *a == args,
            Past::Nothing => false,
        };
        let done = self.live.run.begun_calls();
        let twin = done.iter().find(|name| !asked_for.contains(*name) && is_it(&self.live.run.past(name)));
        let Some(twin) = twin else { return Ok(()) };
        Err(self.live.stopper.stop(Stop::Mismatch {
            message: format!(
                "the call {} was done before as {twin}\n  recorded  {op}({})\n  asked     the same, in another place\n  at        {}",
                self.name, value::plain(&args), self.asked.at
            ),
        }))
    }

    /// Takes a branch that the script has removed itself off what is to be removed at the end.
    fn forget_branch(&self, removed: &Value) {
        let is_it = |due: &Due| match due {
            Due::Branch(branch) => {
                value::inside(branch, value::BRANCH).is_some_and(|b| b["id"] == removed["id"])
            }
            Due::Closure { .. } => false,
        };
        self.frame.deferred().retain(|deferred| !is_it(&deferred.due));
        if self.asked.op.path() == branch::DELETE {
            self.live.forget_left_behind(&branch::named(&self.asked.args));
        }
    }

    /// Makes sure that every target of the call is who it was, and that the run may use it.
    fn recognise(&self) -> Result<(), Unrecognised> {
        let Asked { op, args, implied, .. } = &self.asked;
        let need = if *implied { Need::new("branch", Effect::Create) } else { op.need(args) };
        let given = op.params.iter().filter(|p| p.kind == Kind::Target).map(|p| args.get(p.name));
        for place in given.filter_map(|g| place_of(g).ok()) {
            permit::recognise(self.live, &place.target, &need)?;
        }
        Ok(())
    }

    fn undecided(&self, reason: &str) -> Halt {
        let op = self.asked.op.path();
        let reason = format!("nobody knows whether `{op}` ({}) took effect: {reason}", self.name);
        self.live.stopper.stop(Stop::Undecided { call: self.name.to_owned(), reason })
    }

    fn fault(&self, error: &Error) -> Fault {
        let mut fault = fault::of_operation(error, &self.asked.op.path(), self.target.as_deref());
        // A branch that could not be removed is there, unless it never was.
        if self.asked.op.path() == branch::DELETE && ![Code::NotFound, Code::Invalid].contains(&error.code) {
            fault["left_behind"] = vec![branch::named(&self.asked.args)].into();
        }
        fault
    }

    /// Returns the call's identity in the world: the same at every resume, another for every attempt.
    fn key(&self, attempt: u32) -> Key {
        let mut hash = Sha256::new();
        for part in
            [self.live.run.id(), self.name, &self.asked.args.to_value().to_string(), &attempt.to_string()]
        {
            hash.update(part.len().to_be_bytes());
            hash.update(part.as_bytes());
        }
        let mut text = data_encoding::BASE32_NOPAD.encode(&hash.finalize()).to_lowercase();
        text.truncate(10);
        Key(text)
    }

    fn context<'c>(&'c self, key: &'c Key, accepted: Option<Value>) -> Context<'c> {
        Context { fleet: &self.live.fleet, key, run: Some(self.live.run.id()), accepted, host: self }
    }

    fn tell_started(&self) {
        let op = self.asked.op.path();
        self.live.tell(&Event::CallStarted {
            call: self.name,
            op: &op,
            target: self.target.as_deref(),
            effect: self.asked.op.effect != Effect::Read,
        });
    }

    fn tell_replayed(&self) {
        self.live.tell(&Event::CallReplayed { call: self.name, op: &self.asked.op.path() });
    }
}

#[async_trait]
impl Accept for Call<'_> {
    async fn accepted(&self, what: Value) -> Result<(), Error> {
        let record = Record::Accepted { call: self.name.to_owned(), what };
        self.live.run.append(record, Durability::Now).map_err(|e| {
            let message = format!("what was accepted could not be written down: {e}");
            drop(self.live.stopper.stop(Stop::Journal(e)));
            Error::new(Code::Internal, message)
        })
    }
}

impl Host for Call<'_> {
    fn progress(&self, progress: &Progress) {
        self.live.tell(&Event::Progress { call: self.name, op: &self.asked.op.path(), progress });
    }

    fn columns(&self, columns: &[String]) {
        self.live.tell(&Event::Columns { columns });
    }
}

fn target_name(op: &Op, args: &Args) -> Option<String> {
    let target = op.positional().find(|p| p.kind == Kind::Target)?;
    place_of(args.get(target.name)).ok().map(|place| place.to_string())
}

/// A small thing that only the script and the journal know: the time, a note, a figure. Recorded like a call, so that
/// a replay has the same; written with the next record that must be durable.
pub(super) fn note_down(
    frame: &Frame,
    native: &str,
    args: &Value,
    at: &str,
    make: impl FnOnce() -> Value,
) -> Result<Value, Halt> {
    let live = frame.live();
    if frame.is_halted() {
        return Err(Halt::Stop);
    }
    let name = frame.next(native);
    match live.run.past(&name) {
        Past::Ended { op, args: recorded, outcome } if op == native && recorded == *args => match outcome {
            Outcome::Ok(value) => Ok(value),
            Outcome::Err(fault) => Err(Halt::Raise(fault)),
        },
        Past::Ended { op, args: recorded, .. } | Past::Begun { op, args: recorded, .. } => {
            Err(live.stopper.stop(Stop::Mismatch {
                message: format!(
                    "{name} is not what was recorded\n  recorded  {op}({})\n  asked     {native}({})\n  at        {at}",
                    value::plain(&recorded), value::plain(args)
                ),
            }))
        }
        Past::Nothing if live.settling() => Err(frame.give_up()),
        Past::Nothing => {
            let value = make();
            let end = Record::End { call: name, op: native.into(), args: args.clone(), at: at.into(), outcome: Outcome::Ok(value.clone()) };
            live.journaled(live.run.append(end, Durability::Rides))?;
            Ok(value)
        }
    }
}
