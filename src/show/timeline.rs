//! What the records of a run come to: which calls are open, and the run as a timeline.

use super::{figure, to_the_second, took};
use crate::{
    base::{moment::Moment, value},
    journal::{Entry, Outcome, Record, Status, Summary},
    ops::spec::place_of,
};
use serde_json::{Value, json};

/// A call of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Its name within the run.
    pub name: String,
    /// What is done.
    pub op: String,
}

/// Returns the calls that were begun and are not over.
pub fn open(entries: &[Entry]) -> Vec<Call> {
    let mut open: Vec<Call> = Vec::new();
    for entry in entries {
        match &entry.record {
            Record::Begin { call, op, .. } => {
                open.retain(|c| c.name != *call);
                open.push(Call { name: call.clone(), op: op.clone() });
            }
            Record::End { call, .. } => open.retain(|c| c.name != *call),
            _ => {}
        }
    }
    open
}

/// Returns the calls that somebody can decide about: those that are held, or decided about already, and the one of
/// which the run stopped because nobody knows. Of a call that was cut short the world has not been asked yet, and a
/// failure that nobody held is what the script went on with.
pub fn decidable(entries: &[Entry]) -> Vec<Call> {
    let mut known: Vec<(Call, Standing)> = Vec::new();
    for entry in entries {
        let call = |call: &String, op: &String| Call { name: call.clone(), op: op.clone() };
        let (call, standing) = match &entry.record {
            Record::Begin { call: name, op, .. } => (call(name, op), Standing::Open),
            Record::End { call: name, op, .. } => (call(name, op), Standing::Over),
            Record::Decided { call: name, .. } => {
                let decided = known.iter_mut().filter(|(call, _)| call.name == *name);
                decided.for_each(|(_, standing)| *standing = Standing::Asked);
                continue;
            }
            _ => continue,
        };
        known.retain(|(other, _)| other.name != call.name);
        known.push((call, standing));
    }
    let mut records = entries.iter().rev().map(|entry| &entry.record);
    let last = records.find(|r| matches!(r, Record::Stopped { .. } | Record::Resumed { .. }));
    let is_unknown = |name: &str| match last {
        Some(Record::Stopped { status: Status::Undecided, at_call, .. }) => {
            at_call.as_ref().is_none_or(|unknown| unknown == name)
        }
        _ => false,
    };
    known.retain(|(call, standing)| match standing {
        Standing::Open => is_unknown(&call.name),
        Standing::Asked => true,
        Standing::Over => false,
    });
    known.into_iter().map(|(call, _)| call).collect()
}

/// What is known of a call that was begun, or failed.
enum Standing {
    Open,
    /// It is held, or somebody has decided.
    Asked,
    Over,
}

/// Returns a record for programs: tags taken off.
pub fn plain(entry: &Entry) -> Value {
    let mut record = value::plain(&json!(entry.record));
    record["seq"] = entry.seq.into();
    record["at"] = entry.at.to_string().into();
    record["hash"] = entry.hash.as_str().into();
    record
}

/// Returns a run as lines of text, a line for everything that happened.
pub fn timeline(run: &Summary, entries: &[Entry]) -> String {
    let mut lines = head(run, entries);
    let mut timeline = Timeline { start: run.started_at, steps: vec![], begun: vec![], lines: vec![] };
    for entry in entries {
        timeline.add(entry);
    }
    lines.append(&mut timeline.lines);
    let open = open(entries);
    if !open.is_empty() {
        lines.push(String::new());
        lines.extend(open.iter().map(|call| format!("open  {}  {}", call.op, call.name)));
    }
    lines.join("\n")
}

fn head(run: &Summary, entries: &[Entry]) -> Vec<String> {
    let params = value::plain(&run.params);
    let params: Vec<String> = params
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, v)| format!("{name}={}", v.as_str().map_or_else(|| v.to_string(), str::to_owned)))
        .collect();
    let end = run.finished_at.unwrap_or(run.last_at);
    let mut lines = vec![run.title.clone()];
    let mut line = |name: &str, text: &str| {
        if !text.is_empty() {
            lines.push(format!("  {name:<12}{text}"));
        }
    };
    line("run", &run.id);
    line("runbook", &run.runbook);
    line(
        "status",
        &match &run.reason {
            Some(reason) => format!("{}: {}", run.status, reason.replace('\n', "\n              ")),
            None => run.status.to_string(),
        },
    );
    line("error", &run.error.as_ref().map(message).unwrap_or_default());
    line("left behind", &run.left_behind.join(", "));
    line("params", &params.join(", "));
    line("started", &to_the_second(run.started_at));
    line("took", &took(end.since(run.started_at).as_seconds()));
    line("version", &run.version);
    line("head", entries.last().map_or("", |entry| &entry.hash));
    lines.push(String::new());
    lines
}

/// Returns the message of a recorded error.
fn message(error: &Value) -> String {
    let fault = error.get("fault").unwrap_or(error);
    match (fault["message"].as_str(), fault["cleanup"].as_array()) {
        (Some(message), _) => match fault["code"].as_str() {
            Some(code) => format!("{code} {message}"),
            None => message.to_owned(),
        },
        (None, Some(wrong)) => {
            let wrong: Vec<&str> = wrong.iter().filter_map(Value::as_str).collect();
            format!("clean-up failed: {}", wrong.join("; "))
        }
        (None, None) => value::plain(fault).to_string(),
    }
}

struct Timeline {
    start: Moment,
    /// The steps that the last line lay in.
    steps: Vec<String>,
    /// When each open call was begun.
    begun: Vec<(String, Moment)>,
    lines: Vec<String>,
}

impl Timeline {
    fn add(&mut self, entry: &Entry) {
        let at = entry.at;
        match &entry.record {
            Record::Started { .. } => self.line(at, "started"),
            Record::Resumed { version, edited, .. } => {
                let edited = if *edited { " with an edited runbook" } else { "" };
                self.line(at, &format!("resumed{edited} by version {version}"));
            }
            Record::Target { name, identity } => {
                let who = identity["description"].as_str().unwrap_or_default();
                self.line(at, &format!("{name} is {who}"));
            }
            Record::Begin { call, op, args, key, .. } => {
                self.begun.push((call.clone(), at));
                self.within(call);
                self.line(at, &format!("▸ {op}({})  key {key}", arguments(args)));
            }
            Record::Accepted { call, what } => {
                self.within(call);
                self.line(at, &format!("  accepted {}", value::plain(what)));
            }
            Record::End { call, op, args, outcome, .. } => self.end(at, call, op, args, outcome),
            Record::Decided { call, decision, by } => {
                self.within(call);
                let word = decision["kind"].as_str().unwrap_or_default();
                self.line(at, &format!("decided {word} by {by}"));
            }
            Record::Ending { .. } => {
                self.steps.clear();
                self.line(at, "ending");
            }
            Record::Finished { status, left_behind, .. } => {
                self.steps.clear();
                let left = if left_behind.is_empty() {
                    String::new()
                } else {
                    format!(", left behind: {}", left_behind.join(", "))
                };
                self.line(at, &format!("{status}{left}"));
            }
            Record::Stopped { status, reason, .. } => {
                self.steps.clear();
                self.line(at, &format!("{status}: {}", reason.lines().next().unwrap_or_default()));
            }
        }
    }

    fn end(&mut self, at: Moment, call: &str, op: &str, args: &Value, outcome: &Outcome) {
        // The script's own clock is of no interest to people, nor is which branches had begun.
        if matches!(op, "now" | "sleep" | "failed") {
            return;
        }
        self.within(call);
        let text = match (op, outcome) {
            ("note", _) => format!("• {}", args["text"].as_str().unwrap_or_default()),
            ("metric", _) => {
                let unit = args["unit"].as_str().unwrap_or_default();
                format!("• {}: {}", args["name"].as_str().unwrap_or_default(), figure(&args["value"], unit))
            }
            ("attach", _) => format!("• attached {}", args["name"].as_str().unwrap_or_default()),
            (_, outcome) => self.call(at, call, op, args, outcome),
        };
        self.line(at, text.trim_end());
    }

    fn call(&mut self, at: Moment, call: &str, op: &str, args: &Value, outcome: &Outcome) -> String {
        let open = self.begun.iter().rposition(|(name, _)| name == call).map(|i| self.begun.remove(i).1);
        let what = match open {
            Some(since) => format!("{op}  {}", took(at.since(since).as_seconds())),
            None => format!("{op}({})", arguments(args)),
        };
        match outcome {
            Outcome::Ok(_) => format!("✓ {what}"),
            Outcome::Err(error) => format!("✗ {what}  {}", message(error)),
        }
    }

    /// Says which steps the next line lies in, where they are others than those of the last one.
    fn within(&mut self, call: &str) {
        let mut parts: Vec<&str> = call.split('/').filter(|part| !part.is_empty()).collect();
        parts.pop();
        // What was deferred is named by where that was; it is shown where it is done.
        if call.starts_with("//") {
            parts = vec!["end#0"];
        }
        let steps: Vec<String> =
            parts.iter().filter(|part| !part.starts_with("retry#")).map(|part| step(part)).collect();
        let same = self.steps.iter().zip(&steps).take_while(|(a, b)| a == b).count();
        self.steps.truncate(same);
        for name in &steps[same..] {
            let indent = "  ".repeat(self.steps.len());
            self.lines.push(format!("{:>9}  {indent}{name}", ""));
            self.steps.push(name.clone());
        }
    }

    fn line(&mut self, at: Moment, text: &str) {
        let indent = "  ".repeat(self.steps.len());
        let since = at.since(self.start).as_seconds();
        let since = if since < 60.0 { format!("+{since:.1}s") } else { format!("+{}", took(since)) };
        self.lines.push(format!("{since:>9}  {indent}{text}"));
    }
}

/// Returns the name of a step of a call's path, and which use of the name it is unless it is the first.
fn step(part: &str) -> String {
    match part.rsplit_once('#') {
        Some(("end", _)) => "clean-up".into(),
        Some((name, "0")) => name.to_owned(),
        Some((name, n)) => match n.parse::<u64>() {
            Ok(n) => format!("{name} ({})", n + 1),
            Err(_) => part.to_owned(),
        },
        None => part.to_owned(),
    }
}

/// Returns arguments as a call would have them: the target first, without the names of the obvious ones.
fn arguments(args: &Value) -> String {
    let mut given: Vec<(&String, &Value)> = args.as_object().into_iter().flatten().collect();
    given.sort_by_key(|(name, _)| *name != "target");
    let words = given.iter().map(|(name, v)| match name.as_str() {
        "target" => shown(v),
        name => format!("{name}: {}", shown(v)),
    });
    words.collect::<Vec<_>>().join(", ")
}

fn shown(value: &Value) -> String {
    match place_of(value) {
        Ok(place) => place.to_string(),
        Err(_) => value::plain(value).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_named_by_its_use() {
        assert_eq!(step("back up#0"), "back up");
        assert_eq!(step("attempt#2"), "attempt (3)");
        assert_eq!(step("end#1"), "clean-up");
    }
}
