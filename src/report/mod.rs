//! What people and programs read: values, errors and runs as text, tables and JSON.
//!
//! Nothing here prints or looks at the terminal: width and colours are passed in.

mod data;
mod diff;
mod error;
mod error_sources;
pub mod exit_code;
mod fault_text;
mod next_step;
mod quantities;
mod record_age;
mod run_error;
mod standing;
mod story;
mod table;
mod transcript;

pub use data::{DataFormat, render_data};
pub use diff::diff_sources;
pub use error::CliError;
pub use fault_text::{failure_to_json, render_place};
pub use next_step::{
    NextStep, find_next_step, is_given_up_before_its_end, list_targets_to_confirm, write_command_to_go_on,
    write_consent_options,
};
pub use quantities::{format_bytes, format_metric, format_moment, format_seconds};
pub use record_age::RecordAge;
pub use standing::find_standing_reason;
pub use story::{render_story, story_to_json};
pub use transcript::{record_to_json, render_transcript};
