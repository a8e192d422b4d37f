//! Gates: where a run waits for a person. `approve` is one; a call that failed and was held is the other.
//!
//! - Whoever can be asked is asked; where nobody can, the run stops as waiting, and no process waits.
//! - An approval covers what was shown: the gate, its message, the run's parameters and who its targets are. When one
//!   of them is another at the resume, the approval is void.
//! - What was decided is a record, whoever decided it.

use super::{
    Answer, Choice, Failure, Question,
    fault::{self, codes},
    flow::Fallible,
    live::{Frame, Halt, Live, Stop, lock, position},
    permit::{self, Unrecognised},
};
use crate::{
    base::value,
    journal::{Durability, Outcome, Past, Record},
    ops::spec::{Effect, Need},
};
use rhai::NativeCallContext as Cx;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::{collections::BTreeSet, sync::Arc};

/// What an approval is called in the journal.
pub const APPROVE: &str = "approve";

/// Waits until a person approves; that nobody does is an error.
pub(super) fn approve(cx: &Cx<'_>, message: &str) -> Fallible<()> {
    let frame = Frame::of(cx)?;
    let name = frame.next(APPROVE);
    let gate = Gate { frame: &frame, live: frame.live(), name: &name, message, at: &position(cx) };
    gate.pass().map_err(|halt| halt.at(cx.call_position()))
}

struct Gate<'a> {
    frame: &'a Frame,
    live: &'a Arc<Live>,
    name: &'a str,
    message: &'a str,
    at: &'a str,
}

impl Gate<'_> {
    fn pass(&self) -> Result<(), Halt> {
        if self.frame.is_halted() {
            return Err(Halt::Stop);
        }
        if let Some(asked_for) = &self.live.asked {
            lock(asked_for).insert(self.name.to_owned());
        }
        match self.live.run.past(self.name) {
            Past::Ended { op, args, outcome } => {
                self.must_match(&op, &args)?;
                match outcome {
                    Outcome::Ok(_) => Ok(()),
                    Outcome::Err(fault) => Err(Halt::Raise(fault)),
                }
            }
            Past::Begun { .. } | Past::Nothing if self.live.settling() => Err(self.frame.give_up()),
            Past::Begun { op, args, accepted, decision, .. } => {
                self.must_match(&op, &args)?;
                let covers = accepted.unwrap_or_default();
                let targets: BTreeSet<String> =
                    serde_json::from_value(covers["targets"].clone()).unwrap_or_default();
                self.recognise(&targets).map_err(|e| self.unchecked(e))?;
                let hash = self.hash(&targets)?;
                match decision {
                    Some(decision) => self.decided(&decision, &hash),
                    None => self.ask(&hash),
                }
            }
            Past::Nothing => {
                let targets = self.live.run.targets().into_keys();
                let targets = targets.chain(self.named()?).collect();
                match self.recognise(&targets) {
                    Ok(()) => {}
                    Err(Unrecognised::Halt(halt)) => return Err(halt),
                    // Recorded: a script that went on without its target goes the same way at a resume.
                    Err(Unrecognised::Unreachable(e)) => {
                        return self.end(Outcome::Err(fault::of_operation(&e, APPROVE, None)));
                    }
                }
                let hash = self.hash(&targets)?;
                self.begin(&hash, &targets)?;
                self.ask(&hash)
            }
        }
    }

    /// Returns the targets that the run's parameters name.
    fn named(&self) -> Result<Vec<String>, Halt> {
        let summary = self.live.journaled(self.live.journal.summary(self.live.run.id()))?;
        let values = summary.params.as_object().into_iter().flatten().map(|(_, value)| value);
        let named = values.filter_map(|v| value::inside(v, value::TARGET)).filter_map(Value::as_str);
        Ok(named.map(str::to_owned).collect())
    }

    fn args(&self) -> Value {
        json!({ "message": self.message })
    }

    fn begin(&self, hash: &str, targets: &BTreeSet<String>) -> Result<(), Halt> {
        let (call, op, args) = (self.name.to_owned(), APPROVE.to_owned(), self.args());
        let key = hash.chars().take(10).collect();
        let begin = Record::Begin { call: call.clone(), op, args, key, at: self.at.to_owned() };
        self.live.journaled(self.live.run.append(begin, Durability::Rides))?;
        let accepted = Record::Accepted { call, what: json!({"hash": hash, "targets": targets}) };
        self.live.journaled(self.live.run.append(accepted, Durability::Now))
    }

    /// Makes sure that every target is who it was.
    fn recognise(&self, targets: &BTreeSet<String>) -> Result<(), Unrecognised> {
        let need = Need::new("db", Effect::Read);
        targets.iter().try_for_each(|target| permit::recognise(self.live, target, &need))
    }

    /// Returns the hash of what an approval covers.
    fn hash(&self, targets: &BTreeSet<String>) -> Result<String, Halt> {
        let known = self.live.run.targets();
        let known: Vec<_> =
            targets.iter().map(|name| (name, known.get(name).map(|who| &who["id"]))).collect();
        let summary = self.live.journaled(self.live.journal.summary(self.live.run.id()))?;
        let covered = json!([self.live.run.id(), self.name, self.message, summary.params, known]);
        Ok(data_encoding::HEXLOWER.encode(&Sha256::digest(covered.to_string())))
    }

    fn ask(&self, hash: &str) -> Result<(), Halt> {
        let question = Question::Approve { message: self.message.to_owned() };
        let Some(Answer { choice, by }) = ask(self.live, question)? else { return Err(self.wait()) };
        let kind = if choice == Choice::Approve { "approve" } else { "reject" };
        let decision = json!({"kind": kind, "hash": hash, "by": by});
        let record = Record::Decided { call: self.name.to_owned(), decision: decision.clone(), by };
        self.live.journaled(self.live.run.append(record, Durability::Now))?;
        self.decided(&decision, hash)
    }

    /// Goes on as a person decided, if what they saw is what there is.
    fn decided(&self, decision: &Value, hash: &str) -> Result<(), Halt> {
        if decision["hash"] != hash {
            return Err(self.live.stopper.stop(Stop::Mismatch {
                message: format!(
                    "what was approved at {} is not what is asked now\n  approved  {}\n  asked     {hash}",
                    self.name,
                    decision["hash"].as_str().unwrap_or("nothing"),
                ),
            }));
        }
        let outcome = if decision["kind"] == "approve" {
            Outcome::Ok(Value::Null)
        } else {
            let by = decision["by"].as_str().unwrap_or("somebody");
            let message = format!("{by} rejected: {}", self.message);
            Outcome::Err(fault::of_runtime(codes::REJECTED, &message, None, None))
        };
        self.end(outcome)
    }

    fn end(&self, outcome: Outcome) -> Result<(), Halt> {
        let (call, op, args) = (self.name.to_owned(), APPROVE.to_owned(), self.args());
        let end = Record::End { call, op, args, at: self.at.to_owned(), outcome: outcome.clone() };
        self.live.journaled(self.live.run.append(end, Durability::Now))?;
        match outcome {
            Outcome::Ok(_) => Ok(()),
            Outcome::Err(fault) => Err(Halt::Raise(fault)),
        }
    }

    /// Stops at an approval that nobody can check: a target does not answer.
    fn unchecked(&self, why: Unrecognised) -> Halt {
        match why {
            Unrecognised::Halt(halt) => halt,
            Unrecognised::Unreachable(e) => self.live.stopper.stop(Stop::Refused {
                message: format!("nobody can say whether {} is still about the same target: {e}", self.name),
                hint: "go on when the target answers".into(),
            }),
        }
    }

    fn wait(&self) -> Halt {
        let (run, since) = (self.live.run.id(), since(self.live, self.name));
        // Beside others a branch's gate is one of several, and has to be named.
        let gate = if self.frame.is_in_branch() { format!(" '{}'", self.name) } else { String::new() };
        let next = format!("redrill approve {run}{gate} --resume");
        let reason = format!(
            "waits since {since} for an approval: {} (whoever can write the state folder unblocks it: `{next}`, or `redrill reject {run}{gate}`)",
            self.message
        );
        self.live.stopper.stop(Stop::Waiting { call: self.name.to_owned(), reason, next })
    }

    fn must_match(&self, op: &str, args: &Value) -> Result<(), Halt> {
        if op == APPROVE && *args == self.args() {
            return Ok(());
        }
        Err(self.live.stopper.stop(Stop::Mismatch {
            message: format!(
                "{} is not what was recorded\n  recorded  {op}({})\n  asked     {APPROVE}({})\n  at        {}",
                self.name,
                value::plain(args),
                self.args(),
                self.at
            ),
        }))
    }
}

/// Asks whoever looks at the run, one question at a time. A run that is stopped waits for no answer.
fn ask(live: &Arc<Live>, question: Question) -> Result<Option<Answer>, Halt> {
    let turn = lock(&live.asking);
    let (tell, told) = tokio::sync::oneshot::channel();
    let watch = Arc::clone(&live.watch);
    // A person who reads takes time, and a thread that reads a terminal cannot be interrupted.
    let asking = std::thread::Builder::new().name("question".into()).spawn(move || {
        drop(tell.send(watch.ask(&question)));
    });
    let answer = live.wait(told)?;
    drop((asking, turn));
    Ok(answer.ok().flatten())
}

/// Returns since when a call waits, for people.
fn since(live: &Live, call: &str) -> String {
    let entries = live.journal.records(live.run.id()).unwrap_or_default();
    let begun = entries.iter().rfind(|e| {
        matches!(&e.record, Record::Begin { call: name, .. } | Record::End { call: name, .. } if name == call)
    });
    let at = begun.map_or_else(|| live.fleet.clock().now(), |entry| entry.at);
    at.0.round(jiff::Unit::Second).unwrap_or(at.0).to_string()
}

/// What becomes of a run that a call has failed.
pub(super) enum Verdict {
    /// It ends as failed.
    Ends,
    /// It is evaluated once more, over what was decided.
    GoesOn,
    /// It stops.
    Stops,
}

/// Asks what is to be done about the call that failed a run. What the script raised itself is nobody's to decide.
pub(super) fn failed(live: &Arc<Live>, failure: &Failure) -> Result<Verdict, Halt> {
    let fault = &failure.fault;
    let call = match fault[fault::CALL].as_str() {
        Some(call) if fault[fault::DECIDED].is_null() && live.run.ending().is_none() && !live.settling() => {
            call
        }
        _ => return Ok(Verdict::Ends),
    };
    let text = |name: &str| fault[name].as_str().unwrap_or_default().to_owned();
    let (op, message) = (text("operation"), text("message"));
    let held = matches!(live.run.past(call), Past::Begun { decision: Some(d), .. } if d["kind"] == "hold");
    let question = Question::Failed { call: call.to_owned(), op: op.clone(), message: message.clone() };
    let answer = ask(live, question)?;
    let (kind, by) = match answer {
        None if !held => return Ok(Verdict::Ends),
        None => ("hold", String::new()),
        Some(Answer { choice: Choice::Again, by }) => ("redo", by),
        Some(Answer { choice: Choice::Hold, by }) => ("hold", by),
        Some(Answer { by, .. }) => ("fail", by),
    };
    if kind != "hold" || !held {
        let decision = json!({"kind": kind, "error": fault});
        let record = Record::Decided { call: call.to_owned(), decision, by };
        live.journaled(live.run.append(record, Durability::Now))?;
    }
    if kind != "hold" {
        return Ok(Verdict::GoesOn);
    }
    let (run, since) = (live.run.id(), since(live, call));
    let next = format!("redrill runs decide {run} '{call}' redo");
    let reason = format!(
        "is held since {since} at {call}: `{op}` failed: {message} (whoever can write the state folder unblocks it: `{next}`, or with `fail`, `done --id ID` or `done --result JSON`, and then `redrill resume {run}`)"
    );
    drop(live.stopper.stop(Stop::Waiting { call: call.to_owned(), reason, next }));
    Ok(Verdict::Stops)
}
