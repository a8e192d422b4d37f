//! `targets`: list the targets, and check whether they answer.

use super::{activity::Activity, output};
use crate::{
    base::{moment::Span, shell::add_options_to_quoted_commands},
    config::{self, Config, TargetConfig},
    provider,
    report::{CliError, DataFormat, exit_code},
    runtime::Runtime,
};
use clap::Subcommand;
use serde_json::{Value, json};

/// How long a target has to answer.
const ANSWER_TIMEOUT: Span = Span::from_secs(15);

/// `targets`.
#[derive(Debug, Subcommand)]
pub(super) enum TargetsCommand {
    /// List every target and where it is configured
    List {
        /// How they are written
        #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
        output: DataFormat,
    },
    /// Ask every target who it is and how it is
    Check {
        /// How the answers are written
        #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
        output: DataFormat,
    },
}

impl TargetsCommand {
    /// Runs the subcommand.
    pub(super) fn dispatch_subcommand(&self, runtime: &Runtime) -> Result<u8, CliError> {
        match self {
            TargetsCommand::List { output } => list_targets(runtime, *output),
            TargetsCommand::Check { output } => check_targets(runtime, *output),
        }
    }
}

fn list_targets(runtime: &Runtime, output: DataFormat) -> Result<u8, CliError> {
    let targets: Value = runtime.fleet.target_configs().map(|t| target_to_json(&runtime.config, t)).collect();
    output::print_value(
        &targets,
        &["name", "provider", "protect", "tags", "configured"].map(String::from),
        output,
    )?;
    Ok(0)
}

fn target_to_json(config: &Config, target: &TargetConfig) -> Value {
    let built_in = toml::Table::from_iter([("world".to_owned(), config::SANDBOX.into())]);
    let from = match (target.name.as_str(), &config.file) {
        (config::SANDBOX, _) if target.settings == built_in => "built in".to_owned(),
        (config::LAB, None) => config::lab_target_path(&config.state).display().to_string(),
        (_, Some(file)) => file.display().to_string(),
        (_, None) => String::new(),
    };
    json!({
        "name": target.name, "provider": target.provider, "protect": target.protect, "tags": target.tags,
        "configured": from,
    })
}

fn check_targets(runtime: &Runtime, output: DataFormat) -> Result<u8, CliError> {
    let activity = Activity::new();
    let mut answers = Vec::new();
    for target in runtime.fleet.target_configs() {
        activity.start_item(&target.name, format!("asking {}", target.name));
        let answer = runtime.block_on(async {
            let answer =
                tokio::time::timeout(ANSWER_TIMEOUT.to_std(), query_target_health(runtime, &target.name))
                    .await;
            answer.unwrap_or_else(|_| {
                let slow = format!("no answer within {ANSWER_TIMEOUT}");
                Err(provider::Error::new(provider::Code::Timeout, slow))
            })
        });
        activity.finish_item(&target.name);
        answers.push(answer.unwrap_or_else(
            |e| json!({"name": target.name, "ok": false, "status": e.message, "hint": e.hint.as_deref().map(add_options_to_quoted_commands)}),
        ));
    }
    drop(activity);
    let well = answers.iter().all(|answer| answer["ok"] == json!(true));
    let columns = ["name", "ok", "status", "version", "identity", "hint"].map(String::from);
    output::print_value(&answers.into(), &columns, output)?;
    Ok(if well { 0 } else { exit_code::FAILED })
}

async fn query_target_health(runtime: &Runtime, name: &str) -> provider::Result<Value> {
    let target = runtime.fleet.open_target(name)?;
    let identity = target.identity().await?;
    let health = target.sql()?.health().await?;
    Ok(json!({
        "name": name, "ok": health.ok, "status": health.status, "version": health.version,
        "identity": identity.description,
    }))
}
