//! The transcript of a run: a line for every record, and the calls that are open.

use super::{
    fault_text::list_clean_up_lines,
    quantities::{format_metric, format_moment, format_seconds},
};
use crate::{
    base::{moment::Moment, value},
    journal::{
        Decision, FoldedCall, JournalEntry, Outcome, PlaceNote, Record, RecordedOutcome, RunError, RunFold,
        RunSummary, ScriptError,
    },
    ops::spec::parse_target_ref,
};
use serde_json::{Value, json};

/// Returns a record for programs: tags taken off.
pub fn record_to_json(entry: &JournalEntry) -> Value {
    let mut record = value::strip_tags(&json!(entry.record));
    record["seq"] = entry.seq.into();
    record["at"] = entry.at.to_string().into();
    record["hash"] = entry.hash.as_str().into();
    record
}

/// Returns a run as lines of text, a line for everything that happened.
pub fn render_transcript(run: &RunSummary, entries: &[JournalEntry]) -> String {
    let mut lines = render_summary(run, entries);
    let mut transcript = TranscriptWriter::new(run.started_at);
    for entry in entries {
        transcript.push_entry(entry);
    }
    let open: Vec<String> =
        transcript.fold.open_calls().map(|(name, call)| format!("open  {}  {name}", call.op)).collect();
    lines.extend(transcript.into_lines());
    if !open.is_empty() {
        lines.push(String::new());
        lines.extend(open);
    }
    lines.join("\n")
}

fn render_summary(run: &RunSummary, entries: &[JournalEntry]) -> Vec<String> {
    let (fold, _) = RunFold::fold_until_illegal(entries);
    let params = value::strip_tags(&fold.complete_params(&run.params));
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
    line("error", &run.error.as_ref().map(error_message).unwrap_or_default());
    line("clean-up", &run.error.as_ref().map(render_clean_up).unwrap_or_default());
    line("left behind", &run.left_behind.join(", "));
    line("params", &params.join(", "));
    line("started", &format_moment(run.started_at));
    line("took", &format_seconds(end.duration_since(run.started_at).as_secs_f64()));
    line("version", &run.version);
    line("head", entries.last().map_or("", |entry| &entry.hash));
    lines.push(String::new());
    lines
}

/// Returns the message of the recorded error of a run; what does not read as one is shown as it is.
pub(super) fn error_message(error: &Value) -> String {
    match RunError::decode(error) {
        Ok(RunError { fault: Some(fault), .. }) => fault_message(&fault),
        Ok(RunError { cleanup, .. }) => format!("clean-up failed: {}", cleanup.join("; ")),
        Err(_) => value::strip_tags(error).to_string(),
    }
}

/// Returns what the recorded error of a run says of its clean-up; nothing where only messages are recorded that the error
/// has already.
fn render_clean_up(error: &Value) -> String {
    let Ok(RunError { fault, cleanup, cleanup_errors, .. }) = RunError::decode(error) else {
        return String::new();
    };
    let lines: Vec<String> = if cleanup_errors.is_empty() && fault.is_some() {
        cleanup.iter().map(|message| format!("clean-up failed: {message}")).collect()
    } else {
        cleanup_errors.iter().flat_map(list_clean_up_lines).collect()
    };
    lines.join("\n              ")
}

/// Returns the code and the message of an error.
fn fault_message(fault: &ScriptError) -> String {
    match fault.code.as_str() {
        "" => fault.message.clone(),
        code => format!("{code} {}", fault.message),
    }
}

/// Writes the lines of a run, record by record.
pub(super) struct TranscriptWriter {
    start: Moment,
    /// The steps that the last line lay in.
    steps: Vec<String>,
    /// The records up to the last line, or to the first that does not fit.
    fold: RunFold,
    is_legal: bool,
    lines: Vec<String>,
}

impl TranscriptWriter {
    /// Returns the writer of a run that started at `start`.
    pub(super) fn new(start: Moment) -> Self {
        Self { start, steps: Vec::new(), fold: RunFold::default(), is_legal: true, lines: Vec::new() }
    }

    /// Adds a record.
    pub(super) fn push_entry(&mut self, entry: &JournalEntry) {
        self.render_entry(entry);
        self.is_legal = self.is_legal && self.fold.apply_entry(entry).is_ok();
    }

    fn render_entry(&mut self, entry: &JournalEntry) {
        let at = entry.at;
        match &entry.record {
            Record::Started { .. } => self.push_line(at, "started"),
            Record::Resumed { version, edited, gives_up, .. } => {
                let how = match (*gives_up, *edited) {
                    (true, _) => " to be given up,",
                    (false, true) => " with an edited runbook",
                    (false, false) => "",
                };
                self.push_line(at, &format!("resumed{how} by version {version}"));
            }
            Record::Target { name, identity } => {
                let who = identity["description"].as_str().unwrap_or_default();
                self.push_line(at, &format!("{name} is {who}"));
            }
            Record::Begin { call, op, args, key, .. } => {
                self.push_step_headings(call);
                self.push_line(at, &format!("▸ {op}({})  key {key}", render_arguments(args)));
            }
            Record::Accepted { call, what } => {
                self.push_step_headings(call);
                // Only a job was accepted; all other evidence is of what is about to be asked for.
                let word = if what["shape"] == "accepted" { "accepted" } else { "written down" };
                self.push_line(at, &format!("  {word} {}", value::strip_tags(what)));
            }
            Record::End { call, op, args, outcome, .. } => self.push_call_end(at, call, op, args, outcome),
            Record::Decided { call, decision, by } => {
                self.push_step_headings(call);
                let decided = Decision::decode(decision);
                let word = decided.map_or_else(|_| decision.to_string(), |known| known.as_str().into());
                self.push_line(at, &format!("decided {word} by {by}"));
            }
            Record::EditAllowed { missing, by } => {
                self.push_line(at, &format!("{by} allowed something new before {}", missing.join(", ")));
            }
            Record::EditReached { name } => {
                self.push_line(at, &format!("the edited runbook asks for {name} after all"));
            }
            Record::Adopted { by, from, to, rolled_back } => {
                self.steps.clear();
                let from =
                    from.as_ref().map_or_else(String::new, |from| format!("{}, ", render_place_note(from)));
                let since = if *rolled_back { "; what was done before may not be recorded" } else { "" };
                let to = render_place_note(to);
                self.push_line(at, &format!("the state was taken over by {by}: {from}now {to}{since}"));
            }
            Record::Ending { .. } => {
                self.steps.clear();
                self.push_line(at, "ending");
            }
            Record::Finished { status, left_behind, .. } => {
                self.steps.clear();
                let left = if left_behind.is_empty() {
                    String::new()
                } else {
                    format!(", left behind: {}", left_behind.join(", "))
                };
                self.push_line(at, &format!("{status}{left}"));
            }
            Record::Stopped { status, reason, .. } => {
                self.steps.clear();
                self.push_line(at, &format!("{status}: {}", reason.lines().next().unwrap_or_default()));
            }
        }
    }

    /// Adds a heading, after which the steps are named anew.
    pub(super) fn push_heading(&mut self, text: String) {
        self.steps.clear();
        self.lines.push(text);
    }

    /// Returns the lines.
    pub(super) fn into_lines(self) -> Vec<String> {
        self.lines
    }

    fn push_call_end(&mut self, at: Moment, call: &str, op: &str, args: &Value, outcome: &RecordedOutcome) {
        // Clock readings and the bookkeeping of `parallel` are of no interest to people.
        if matches!(op, "now" | "sleep" | "failed" | "defer") {
            return;
        }
        self.push_step_headings(call);
        let text = match (op, outcome) {
            ("note", _) => format!("• {}", args["text"].as_str().unwrap_or_default()),
            ("metric", _) => {
                let unit = args["unit"].as_str().unwrap_or_default();
                format!(
                    "• {}: {}",
                    args["name"].as_str().unwrap_or_default(),
                    format_metric(&args["value"], unit)
                )
            }
            ("attach", _) => format!("• attached {}", args["name"].as_str().unwrap_or_default()),
            (_, outcome) => self.render_call_end(at, call, op, args, outcome),
        };
        self.push_line(at, text.trim_end());
    }

    fn render_call_end(
        &self,
        at: Moment,
        call: &str,
        op: &str,
        args: &Value,
        outcome: &RecordedOutcome,
    ) -> String {
        let what = match self.fold.call(call).and_then(FoldedCall::running_since) {
            Some(since) => format!("{op}  {}", format_seconds(at.duration_since(since).as_secs_f64())),
            None => format!("{op}({})", render_arguments(args)),
        };
        match (outcome.decode(), outcome) {
            (Ok(Outcome::Err(error)), _) => format!("✗ {what}  {}", fault_message(&error)),
            (_, Outcome::Ok(_)) => format!("✓ {what}"),
            (_, Outcome::Err(error)) => format!("✗ {what}  {}", value::strip_tags(error)),
        }
    }

    /// Says which steps the next line lies in, where they are others than those of the last one.
    fn push_step_headings(&mut self, call: &str) {
        let mut parts: Vec<&str> = call.split('/').filter(|part| !part.is_empty()).collect();
        parts.pop();
        // A deferred call is named after where it was deferred, but shown where it is made.
        if call.starts_with("//") {
            parts = vec!["end#0"];
        }
        let steps: Vec<String> =
            parts.iter().filter(|part| !part.starts_with("retry#")).map(|part| step_label(part)).collect();
        let same = self.steps.iter().zip(&steps).take_while(|(a, b)| a == b).count();
        self.steps.truncate(same);
        for name in &steps[same..] {
            let indent = "  ".repeat(self.steps.len());
            self.lines.push(format!("{:>9}  {indent}{name}", ""));
            self.steps.push(name.clone());
        }
    }

    /// Adds a line with its time, at the depth of the steps that the last record lay in.
    pub(super) fn push_line(&mut self, at: Moment, text: &str) {
        let indent = "  ".repeat(self.steps.len());
        let since = at.duration_since(self.start).as_secs_f64();
        // A clock that was set back shows times before the start.
        let (sign, since) = if since < 0.0 { ('-', -since) } else { ('+', since) };
        let since = if since < 60.0 { format!("{since:.1}s") } else { format_seconds(since) };
        let since = format!("{sign}{since}");
        self.lines.push(format!("{since:>9}  {indent}{text}"));
    }
}

/// Returns where a state acts, for people.
fn render_place_note(note: &PlaceNote) -> String {
    format!("on {} in `{}`", note.host, note.path.display())
}

/// Returns the name of a step of a call's path, and which use of the name it is unless it is the first.
fn step_label(part: &str) -> String {
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
fn render_arguments(args: &Value) -> String {
    let mut given: Vec<(&String, &Value)> = args.as_object().into_iter().flatten().collect();
    given.sort_by_key(|(name, _)| *name != "target");
    let words = given.iter().map(|(name, v)| match name.as_str() {
        "target" => render_argument(v),
        name => format!("{name}: {}", render_argument(v)),
    });
    words.collect::<Vec<_>>().join(", ")
}

fn render_argument(value: &Value) -> String {
    match parse_target_ref(value) {
        Ok(place) => place.to_string(),
        Err(_) => value::strip_tags(value).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_read_is_shown_as_it_is() {
        let at = Moment(jiff::Timestamp::UNIX_EPOCH);
        let mut transcript = TranscriptWriter::new(at);
        let (call, op, args) = ("/a#0".to_owned(), "backup::create".to_owned(), json!({}));
        let outcome = Outcome::Err(json!({"odd": {"$moment": "then"}}));
        for record in [
            Record::Decided { call: call.clone(), decision: json!({"kind": "undo"}), by: "ann".into() },
            Record::End { call, op, args, at: "1:1".into(), outcome },
        ] {
            transcript.push_entry(&JournalEntry { seq: 1, at, record, hash: String::new() });
        }
        let text = transcript.into_lines().join("\n");
        assert!(text.contains(r#"decided {"kind":"undo"} by ann"#), "{text}");
        assert!(text.contains(r#"✗ backup::create()  {"odd":"then"}"#), "{text}");
        assert_eq!(error_message(&json!({"odd": 1})), r#"{"odd":1}"#);
        assert_eq!(error_message(&json!({"cleanup": ["a", "b"]})), "clean-up failed: a; b");
        let fault = ScriptError::new("X", "m").to_json();
        assert_eq!(error_message(&json!({"fault": fault, "cleanup": ["a"]})), "X m");
    }

    #[test]
    fn a_step_is_named_by_its_use() {
        assert_eq!(step_label("back up#0"), "back up");
        assert_eq!(step_label("attempt#2"), "attempt (3)");
        assert_eq!(step_label("end#1"), "clean-up");
    }
}
