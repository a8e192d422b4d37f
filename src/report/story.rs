//! The story of a rehearsed scenario: as text for people, as one object for programs.

use super::transcript::{TranscriptWriter, error_message, record_to_json};
use crate::{
    base::{painter::Painter, value},
    rehearsal::{ProcessEnd, Story, StoryEvent, WorldDifference},
};
use serde_json::{Value, json};

/// Returns a story as lines of text: the transcript of the run with its processes and faults, then how it ended, then
/// what differs from the world of the undisturbed run.
pub fn render_story(story: &Story, ink: Painter) -> String {
    let mut transcript = TranscriptWriter::new(story.started_at);
    for event in &story.events {
        match event {
            StoryEvent::Process { number, after, act } => {
                transcript.push_heading(ink.bold(&render_process_heading(*number, *after, act.as_deref())));
            }
            StoryEvent::Record(entry) => transcript.push_entry(entry),
            StoryEvent::Fault { at, call, point, what, lost_records } => {
                let lost = describe_lost_records(*lost_records);
                transcript.push_line(*at, &ink.red(&format!("!! {what} {point} of {call}{lost}")));
            }
        }
    }
    let mut lines = vec![ink.bold(&format!("The story of {}", story.scenario)), String::new()];
    lines.extend(transcript.into_lines());
    lines.push(String::new());
    lines.extend(render_story_end(story));
    lines.push(String::new());
    lines.extend(render_differences(&story.differences, ink));
    lines.join("\n")
}

fn render_process_heading(number: usize, after: Option<ProcessEnd>, act: Option<&str>) -> String {
    let heading = match after {
        None => format!("process {number}"),
        Some(ProcessEnd::Killed) => format!("process {number}, after process {} was killed", number - 1),
        Some(ProcessEnd::Stopped) => format!("process {number}, after process {} stopped", number - 1),
    };
    act.map_or(heading.clone(), |act| format!("{heading}; {act}"))
}

/// Returns what a kill took with it, as the end of a sentence.
fn describe_lost_records(records: usize) -> String {
    match records {
        0 => String::new(),
        1 => "; 1 record that was not on disk is lost".into(),
        n => format!("; {n} records that were not on disk are lost"),
    }
}

/// Returns how the run ended, labelled as the summary of a run is.
fn render_story_end(story: &Story) -> Vec<String> {
    let status = match (story.fold.status(), story.fold.reason()) {
        (None, _) => "there is no run".to_owned(),
        (Some(status), Some(reason)) => format!("{status}: {}", reason.replace('\n', "\n              ")),
        (Some(status), None) => status.to_string(),
    };
    let facts = [
        ("status", Some(status)),
        ("error", story.fold.error().map(error_message)),
        ("refused", story.refused.clone()),
        ("left behind", Some(story.fold.left_behind().join(", ")).filter(|left| !left.is_empty())),
    ];
    facts.into_iter().filter_map(|(name, text)| Some(format!("  {name:<12}{}", text?))).collect()
}

fn render_differences(differences: &[WorldDifference], ink: Painter) -> Vec<String> {
    if differences.is_empty() {
        return vec!["The world is as the undisturbed run leaves it.".into()];
    }
    let mut lines = vec!["The world is not as the undisturbed run leaves it:".to_owned()];
    for difference in differences {
        lines.push(format!("  {}", ink.bold(&difference.path)));
        lines.push(format!("    undisturbed  {}", difference.undisturbed_text()));
        lines.push(format!("    here         {}", difference.scenario_text()));
    }
    lines
}

/// Returns a story as the event `rehearsal.story`.
pub fn story_to_json(story: &Story) -> Value {
    json!({
        "event": "rehearsal.story",
        "scenario": story.scenario,
        "status": story.fold.status(),
        "reason": story.fold.reason(),
        "error": story.fold.error().map(value::strip_tags),
        "refused": story.refused,
        "left_behind": story.fold.left_behind(),
        "timeline": story.events.iter().map(event_to_json).collect::<Vec<_>>(),
        "differences": story.differences,
    })
}

fn event_to_json(event: &StoryEvent) -> Value {
    match event {
        StoryEvent::Process { number, after, act } => {
            json!({"kind": "process", "process": number, "after": after, "act": act})
        }
        StoryEvent::Record(entry) => record_to_json(entry),
        StoryEvent::Fault { at, call, point, what, lost_records } => json!({
            "kind": "fault", "at": at.to_string(), "call": call, "point": point, "what": what,
            "lost_records": lost_records,
        }),
    }
}
