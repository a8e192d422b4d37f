//! `targets`: which there are, and whether they answer.

use super::{activity::Activity, exit};
use crate::{
    base::moment::Span,
    config::{self, Config, Target},
    provider,
    runtime::World,
    show::{Format, Trouble, trouble},
};
use clap::Subcommand;
use serde_json::{Value, json};

/// How long a target has for its answer.
const PATIENCE: Span = Span::seconds(15);

/// `targets`.
#[derive(Debug, Subcommand)]
pub(super) enum Targets {
    /// List every target and where it is configured
    List {
        /// How they are written
        #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
        output: Format,
    },
    /// Ask every target who it is and how it is
    Check {
        /// How the answers are written
        #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
        output: Format,
    },
}

impl Targets {
    /// Does it.
    pub(super) fn perform(&self, world: &World) -> Result<u8, Trouble> {
        match self {
            Targets::List { output } => list(world, *output),
            Targets::Check { output } => check(world, *output),
        }
    }
}

fn list(world: &World, output: Format) -> Result<u8, Trouble> {
    let targets: Value = world.fleet.targets().map(|t| listed(&world.config, t)).collect();
    exit::write(&targets, &["name", "provider", "protect", "tags", "configured"].map(String::from), output)?;
    Ok(0)
}

fn listed(config: &Config, target: &Target) -> Value {
    let built_in = toml::Table::from_iter([("world".to_owned(), config::SANDBOX.into())]);
    let from = match (target.name.as_str(), &config.file) {
        (config::SANDBOX, _) if target.settings == built_in => "built in".to_owned(),
        (config::LAB, None) => config::lab_file(&config.state).display().to_string(),
        (_, Some(file)) => file.display().to_string(),
        (_, None) => String::new(),
    };
    json!({
        "name": target.name, "provider": target.provider, "protect": target.protect, "tags": target.tags,
        "configured": from,
    })
}

fn check(world: &World, output: Format) -> Result<u8, Trouble> {
    let activity = Activity::new();
    let mut answers = Vec::new();
    for target in world.fleet.targets() {
        activity.begin(&target.name, format!("asking {}", target.name));
        let answer = world.wait(async {
            let asked = tokio::time::timeout(PATIENCE.to_std(), ask(world, &target.name)).await;
            asked.unwrap_or_else(|_| {
                let slow = format!("no answer within {PATIENCE}");
                Err(provider::Error::new(provider::Code::Timeout, slow))
            })
        });
        activity.end(&target.name);
        answers.push(answer.unwrap_or_else(
            |e| json!({"name": target.name, "ok": false, "status": e.message, "hint": e.hint}),
        ));
    }
    drop(activity);
    let well = answers.iter().all(|answer| answer["ok"] == json!(true));
    let columns = ["name", "ok", "status", "version", "identity", "hint"].map(String::from);
    exit::write(&answers.into(), &columns, output)?;
    Ok(if well { 0 } else { trouble::FAILED })
}

async fn ask(world: &World, name: &str) -> provider::Result<Value> {
    let target = world.fleet.target(name)?;
    let identity = target.identity().await?;
    let health = target.sql()?.health().await?;
    Ok(json!({
        "name": name, "ok": health.ok, "status": health.status, "version": health.version,
        "identity": identity.description,
    }))
}
