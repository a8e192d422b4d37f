//! The events of a run as output: a tree of steps and calls for people, one JSON object a line for programs.

use super::{activity::Activity, questions::QuestionPolicy};
use crate::base::lock::lock_unpoisoned;
use crate::{
    base::{moment::Moment, terminal, value},
    report::{RecordAge, format_metric, format_moment, format_seconds},
    runtime::{Answer, Event, Question, RunObserver, Withdrawal},
};
use std::{
    sync::{Mutex, MutexGuard},
    time::Instant,
};

/// Writes every event to stdout as a line of JSON.
pub(super) struct JsonWatch {
    /// Who can be asked.
    pub(super) policy: QuestionPolicy,
}

impl RunObserver for JsonWatch {
    fn on_event(&self, event: &Event<'_>) {
        if let Ok(event) = serde_json::to_value(event) {
            terminal::print_data(&value::strip_tags(&event).to_string());
        }
    }

    fn ask_person(&self, question: &Question, withdrawal: &Withdrawal) -> Option<Answer> {
        self.policy.without_asking_anyone().answer_question(question, withdrawal)
    }
}

/// Writes a run to stderr as an indented tree.
pub(super) struct TreeWatch {
    activity: Activity,
    state: Mutex<TreeState>,
    policy: QuestionPolicy,
}

#[derive(Default)]
struct TreeState {
    /// The steps that are open, outermost first.
    steps: Vec<(String, Instant)>,
    /// The open calls and their targets.
    targets: Vec<(String, String)>,
    /// The end of the wait that was printed last.
    waiting: Option<Moment>,
}

impl TreeWatch {
    pub(super) fn new(policy: QuestionPolicy) -> Self {
        Self { activity: Activity::new(), state: Mutex::default(), policy }
    }

    fn lock_state(&self) -> MutexGuard<'_, TreeState> {
        lock_unpoisoned(&self.state)
    }

    /// Prints a line, indented by the open steps that `path` lies in; without a path, by all of them.
    fn print_line(&self, path: Option<&str>, text: &str) {
        let depth = self.lock_state().count_enclosing_steps(path);
        terminal::print_message(&format!("{}{text}", "  ".repeat(depth)));
    }
}

impl TreeState {
    /// Returns how many of the open steps `path` lies in.
    fn count_enclosing_steps(&self, path: Option<&str>) -> usize {
        let within =
            |step: &str| path.is_none_or(|p| p.strip_prefix(step).is_some_and(|rest| rest.starts_with('/')));
        self.steps.iter().filter(|(step, _)| within(step)).count()
    }
}

impl RunObserver for TreeWatch {
    fn on_event(&self, event: &Event<'_>) {
        match event {
            Event::Started { run, title, .. } => {
                terminal::print_message(&format!(
                    "{}  {}",
                    terminal::stderr_painter().bold(title),
                    terminal::stderr_painter().dim(&format!("run {run}"))
                ));
            }
            Event::Resolved { name, moment, given } => {
                terminal::print_message(&format!("{name} {moment} ({given})"));
            }
            Event::Resumed { run, title, age, .. } => {
                let age = RecordAge::from_span(*age).describe();
                let run = terminal::stderr_painter().dim(&format!("run {run}, last record {age}"));
                terminal::print_message(&format!("{}  {run}", terminal::stderr_painter().bold(title)));
            }
            Event::StepStarted { step, name } => {
                self.print_line(Some(step), &format!("{} {name}", terminal::stderr_painter().dim("▸")));
                self.lock_state().steps.push(((*step).to_owned(), Instant::now()));
            }
            Event::StepFinished { step, name, ok, stopped } => {
                let mark = if *stopped { stop_mark() } else { status_mark(*ok) };
                self.print_step_finished(step, name, &mark);
            }
            Event::CallStarted { call, op, target, .. } => self.show_running_call(call, op, *target),
            Event::CallFinished { call, op, ok, seconds, error } => {
                self.print_call_finished(call, op, *ok, *seconds, *error);
            }
            Event::CallReplayed { call, op } => {
                self.print_line(
                    Some(call),
                    &terminal::stderr_painter().dim(&format!("· {op} (done before)")),
                );
            }
            Event::Progress { call, progress, .. } => self.activity.update_progress(call, progress),
            Event::Columns { .. } => {}
            Event::Retrying { attempt, attempts, message, pause } => {
                let text = format!("attempt {attempt} of {attempts} failed, again in {pause}: {message}");
                self.print_line(None, &format!("{} {text}", terminal::stderr_painter().yellow("↻")));
            }
            Event::Waiting { until, every, clock, .. } => {
                if self.lock_state().waiting.replace(*until) != Some(*until) {
                    self.print_line(
                        None,
                        &terminal::stderr_painter().dim(&format!(
                            "… waits, until {} at most, and asks every {every}",
                            render_moment_with_clock(until, *clock)
                        )),
                    );
                }
            }
            Event::Sleeping { until, clock } => {
                let until = render_moment_with_clock(&format_moment(*until), *clock);
                self.print_line(None, &terminal::stderr_painter().dim(&format!("… sleeps until {until}")));
            }
            Event::Note { text } => self.print_line(None, &format!("• {text}")),
            Event::Metric { name, value, unit } => {
                self.print_line(None, &format!("• {name}: {}", format_metric(value, unit)));
            }
            Event::Attached { name, value } => {
                let what = match value {
                    serde_json::Value::Array(items) if items.len() == 1 => " (1 item)".into(),
                    serde_json::Value::Array(items) => format!(" ({} items)", items.len()),
                    _ => String::new(),
                };
                self.print_line(None, &format!("• attached {name}{what}"));
            }
            Event::Ending { .. } => terminal::print_message(&terminal::stderr_painter().dim("cleaning up")),
        }
    }

    fn ask_person(&self, question: &Question, withdrawal: &Withdrawal) -> Option<Answer> {
        self.policy.answer_question(question, withdrawal)
    }
}

impl TreeWatch {
    fn print_step_finished(&self, step: &str, name: &str, mark: &str) {
        let began = {
            let mut state = self.lock_state();
            let at = state.steps.iter().rposition(|(open, _)| open == step);
            at.map(|at| state.steps.remove(at).1)
        };
        let seconds = began.map_or(0.0, |began| began.elapsed().as_secs_f64());
        self.print_line(
            Some(step),
            &format!("{mark} {name}  {}", terminal::stderr_painter().dim(&format_seconds(seconds))),
        );
    }

    fn show_running_call(&self, call: &str, op: &str, target: Option<&str>) {
        let target = target.unwrap_or_default().to_owned();
        self.activity.start_item(call, format!("{op} {target}").trim_end().to_owned());
        self.lock_state().targets.push((call.to_owned(), target));
    }

    fn print_call_finished(&self, call: &str, op: &str, ok: bool, seconds: f64, error: Option<&str>) {
        self.activity.finish_item(call);
        let target = {
            let mut state = self.lock_state();
            let at = state.targets.iter().rposition(|(open, _)| open == call);
            at.map(|at| state.targets.remove(at).1).unwrap_or_default()
        };
        let what = format!("{op} {target}");
        let time = terminal::stderr_painter().dim(&format_seconds(seconds));
        let error = error.map(|error| format!("  {error}")).unwrap_or_default();
        self.print_line(Some(call), &format!("{} {}  {time}{error}", status_mark(ok), what.trim_end()));
    }
}

/// Returns the mark of a step in which the run stopped: it has neither failed nor ended.
fn stop_mark() -> String {
    terminal::stderr_painter().yellow("…")
}

fn status_mark(ok: bool) -> String {
    if ok { terminal::stderr_painter().green("✓") } else { terminal::stderr_painter().red("✗") }
}

/// Returns a moment as text, with the clock that shows it where that is not this machine's.
fn render_moment_with_clock(moment: &dyn std::fmt::Display, world: Option<&str>) -> String {
    match world {
        Some(target) => format!("{moment} of {target}'s clock"),
        None => moment.to_string(),
    }
}
