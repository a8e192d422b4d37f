//! A run as it is looked at: a tree of steps and calls for people, a line of JSON an event for programs.

use super::{activity::Activity, asking::Asking};
use crate::{
    base::{moment::Moment, terminal, value},
    runtime::{Answer, Event, Question, Watch},
    show::{figure, to_the_second, took},
};
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

/// Writes every event to stdout as a line of JSON.
pub(super) struct Lines {
    /// Who can be asked.
    pub(super) asking: Asking,
}

impl Watch for Lines {
    fn event(&self, event: &Event<'_>) {
        if let Ok(event) = serde_json::to_value(event) {
            terminal::out(&value::plain(&event).to_string());
        }
    }

    fn ask(&self, question: &Question) -> Option<Answer> {
        self.asking.of_program().ask(question)
    }
}

/// Writes a run to stderr as an indented tree.
pub(super) struct Tree {
    activity: Activity,
    state: Mutex<State>,
    asking: Asking,
}

#[derive(Default)]
struct State {
    /// The steps that are open, outermost first.
    steps: Vec<(String, Instant)>,
    /// What the calls that are open are about.
    targets: Vec<(String, String)>,
    /// Until when the last wait is that was told.
    waiting: Option<Moment>,
}

impl Tree {
    pub(super) fn new(asking: Asking) -> Self {
        Self { activity: Activity::new(), state: Mutex::default(), asking }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says a line where the steps that are open put it. `path` is what it is about, where it has a path.
    fn say(&self, path: Option<&str>, text: &str) {
        let depth = self.state().depth(path);
        terminal::say(&format!("{}{text}", "  ".repeat(depth)));
    }
}

impl State {
    /// Returns how many of the open steps `path` lies in.
    fn depth(&self, path: Option<&str>) -> usize {
        let within =
            |step: &str| path.is_none_or(|p| p.strip_prefix(step).is_some_and(|rest| rest.starts_with('/')));
        self.steps.iter().filter(|(step, _)| within(step)).count()
    }
}

impl Watch for Tree {
    fn event(&self, event: &Event<'_>) {
        match event {
            Event::Started { run, title, .. } => {
                terminal::say(&format!(
                    "{}  {}",
                    terminal::ink().bold(title),
                    terminal::ink().dim(&format!("run {run}"))
                ));
            }
            Event::Resumed { run, title, age, .. } => {
                let age = took(age.as_seconds().floor());
                let run = terminal::ink().dim(&format!("run {run}, last record {age} ago"));
                terminal::say(&format!("{}  {run}", terminal::ink().bold(title)));
            }
            Event::StepStarted { step, name } => {
                self.say(Some(step), &format!("{} {name}", terminal::ink().dim("▸")));
                self.state().steps.push(((*step).to_owned(), Instant::now()));
            }
            Event::StepFinished { step, name, ok } => self.step_finished(step, name, *ok),
            Event::CallStarted { call, op, target, .. } => self.call_started(call, op, *target),
            Event::CallFinished { call, op, ok, seconds, error } => {
                self.call_finished(call, op, *ok, *seconds, *error);
            }
            Event::CallReplayed { call, op } => {
                self.say(Some(call), &terminal::ink().dim(&format!("· {op} (done before)")));
            }
            Event::Progress { call, progress, .. } => self.activity.progress(call, progress),
            Event::Columns { .. } => {}
            Event::Retrying { attempt, attempts, message, pause } => {
                let text = format!("attempt {attempt} of {attempts} failed, again in {pause}: {message}");
                self.say(None, &format!("{} {text}", terminal::ink().yellow("↻")));
            }
            Event::Waiting { until, every, .. } => {
                if self.state().waiting.replace(*until) != Some(*until) {
                    self.say(
                        None,
                        &terminal::ink()
                            .dim(&format!("… waits, until {until} at most, and asks every {every}")),
                    );
                }
            }
            Event::Sleeping { until } => {
                self.say(None, &terminal::ink().dim(&format!("… sleeps until {}", to_the_second(*until))));
            }
            Event::Note { text } => self.say(None, &format!("• {text}")),
            Event::Metric { name, value, unit } => {
                self.say(None, &format!("• {name}: {}", figure(value, unit)));
            }
            Event::Attached { name, value } => {
                let what = match value {
                    serde_json::Value::Array(items) if items.len() == 1 => " (1 item)".into(),
                    serde_json::Value::Array(items) => format!(" ({} items)", items.len()),
                    _ => String::new(),
                };
                self.say(None, &format!("• attached {name}{what}"));
            }
            Event::Ending { .. } => terminal::say(&terminal::ink().dim("cleaning up")),
        }
    }

    fn ask(&self, question: &Question) -> Option<Answer> {
        self.asking.ask(question)
    }
}

impl Tree {
    fn step_finished(&self, step: &str, name: &str, ok: bool) {
        let began = {
            let mut state = self.state();
            let at = state.steps.iter().rposition(|(open, _)| open == step);
            at.map(|at| state.steps.remove(at).1)
        };
        let seconds = began.map_or(0.0, |began| began.elapsed().as_secs_f64());
        self.say(Some(step), &format!("{} {name}  {}", mark(ok), terminal::ink().dim(&took(seconds))));
    }

    fn call_started(&self, call: &str, op: &str, target: Option<&str>) {
        let target = target.unwrap_or_default().to_owned();
        self.activity.begin(call, format!("{op} {target}").trim_end().to_owned());
        self.state().targets.push((call.to_owned(), target));
    }

    fn call_finished(&self, call: &str, op: &str, ok: bool, seconds: f64, error: Option<&str>) {
        self.activity.end(call);
        let target = {
            let mut state = self.state();
            let at = state.targets.iter().rposition(|(open, _)| open == call);
            at.map(|at| state.targets.remove(at).1).unwrap_or_default()
        };
        let what = format!("{op} {target}");
        let time = terminal::ink().dim(&took(seconds));
        let error = error.map(|error| format!("  {error}")).unwrap_or_default();
        self.say(Some(call), &format!("{} {}  {time}{error}", mark(ok), what.trim_end()));
    }
}

fn mark(ok: bool) -> String {
    if ok { terminal::ink().green("✓") } else { terminal::ink().red("✗") }
}
