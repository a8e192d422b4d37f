//! `lab`: a throw-away PostgreSQL cluster to learn and rehearse on.

use super::{activity::Activity, exit};
use crate::{
    provider::postgres::lab,
    runtime::World,
    show::{Format, Trouble, trouble},
};
use clap::Subcommand;
use serde_json::json;

/// `lab`.
#[derive(Debug, Subcommand)]
pub(super) enum Lab {
    /// Make the lab and start it: the target `lab`
    Up {
        /// How its state is written
        #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
        output: Format,
    },
    /// Stop the lab and its branches, and remove everything of them
    Down {
        /// How its state is written
        #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
        output: Format,
    },
    /// Say whether the lab is up, and where
    Status {
        /// How its state is written
        #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
        output: Format,
    },
}

impl Lab {
    /// Does it.
    pub(super) fn perform(&self, world: &World) -> Result<u8, Trouble> {
        let state = &world.config.state;
        let activity = Activity::new();
        let (status, output) = match self {
            Lab::Up { output } => {
                activity.begin("lab", "making the lab".into());
                (world.wait(lab::up(state)), *output)
            }
            Lab::Down { output } => {
                activity.begin("lab", "removing the lab".into());
                (world.wait(lab::down(state)), *output)
            }
            Lab::Status { output } => (lab::status(state), *output),
        };
        drop(activity);
        let status = status.map_err(|e| Trouble::from(e).exit(trouble::FAILED))?;
        let columns = ["status", "folder", "host", "port", "branches"].map(String::from);
        exit::write(&json!(status), &columns, output)?;
        Ok(0)
    }
}
