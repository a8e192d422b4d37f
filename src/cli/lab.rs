//! `lab`: a throw-away PostgreSQL cluster to learn and rehearse on.

use super::{activity::Activity, output};
use crate::{
    provider::postgres::lab,
    report::{CliError, DataFormat, exit_code},
    runtime::Runtime,
};
use clap::Subcommand;
use serde_json::json;

/// `lab`.
#[derive(Debug, Subcommand)]
pub(super) enum LabCommand {
    /// Make the lab and start it: the target `lab`
    Up {
        /// How its state is written
        #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
        output: DataFormat,
    },
    /// Stop the lab and its branches, and remove everything of them
    Down {
        /// How its state is written
        #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
        output: DataFormat,
    },
    /// Say whether the lab is up, and where
    Status {
        /// How its state is written
        #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
        output: DataFormat,
    },
}

impl LabCommand {
    /// Runs the subcommand.
    pub(super) fn dispatch_subcommand(&self, runtime: &Runtime) -> Result<u8, CliError> {
        let state = &runtime.config.state;
        let activity = Activity::new();
        let (status, output) = match self {
            LabCommand::Up { output } => {
                activity.start_item("lab", "making the lab".into());
                (runtime.block_on(lab::start_lab(state)), *output)
            }
            LabCommand::Down { output } => {
                activity.start_item("lab", "removing the lab".into());
                (runtime.block_on(lab::remove_lab(state)), *output)
            }
            LabCommand::Status { output } => (lab::lab_status(state), *output),
        };
        drop(activity);
        let status = status.map_err(|e| CliError::from(e).with_exit(exit_code::FAILED))?;
        let columns = ["status", "folder", "host", "port", "branches"].map(String::from);
        output::print_value(&json!(status), &columns, output)?;
        Ok(0)
    }
}
