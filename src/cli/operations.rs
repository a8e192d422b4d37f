//! Every operation of the catalogue as a command. A read is performed at once; any other becomes a run.

use super::{
    activity::Activity,
    one_call, output,
    questions::QuestionPolicy,
    run::start_run,
    run_output::{RunReport, run_and_report},
};
use crate::base::lock::{into_unpoisoned, lock_unpoisoned};
use crate::{
    base::terminal,
    ops::{
        self,
        args::CallArgs,
        spec::{Effect, Operation, Param, ParamKind, ParamSlot, parse_target_ref},
    },
    report::{CliError, DataFormat, exit_code},
    runtime::{self, Event, RunObserver, Runbook, Runtime},
};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde_json::{Map, Value};
use std::sync::Mutex;

/// Returns a command for every area of the catalogue, with its operations below it.
pub(super) fn build_area_commands() -> Vec<Command> {
    let mut areas: Vec<&str> = Vec::new();
    for op in ops::all_operations().filter(|op| op.namespace == op.area() || op.namespace.contains("::")) {
        if !areas.contains(&op.area()) {
            areas.push(op.area());
        }
    }
    areas.into_iter().map(|area| build_namespace_command(area, area)).collect()
}

/// Returns the command of a namespace, whose last segment is `name`.
fn build_namespace_command(path: &str, name: &'static str) -> Command {
    let own: Vec<&'static Operation> = ops::all_operations().filter(|op| op.namespace == path).collect();
    let prefix = format!("{path}::");
    let mut inner: Vec<&'static str> = Vec::new();
    for below in ops::all_operations().filter_map(|op| op.namespace.strip_prefix(&prefix)) {
        let segment = below.split("::").next().unwrap_or(below);
        if !inner.contains(&segment) {
            inner.push(segment);
        }
    }
    let verbs: Vec<&str> = own.iter().map(|op| op.name).chain(inner.iter().copied()).collect();
    Command::new(name)
        .about(format!("Operations: {}", verbs.join(", ")))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(own.into_iter().map(build_op_command))
        .subcommands(
            inner.into_iter().map(|segment| build_namespace_command(&format!("{prefix}{segment}"), segment)),
        )
}

fn build_op_command(op: &'static Operation) -> Command {
    let mut command = Command::new(op.name).about(op.summary).after_help(render_examples(op));
    for param in op.positional_params().chain(op.option_params()) {
        command = command.arg(build_argument(param));
    }
    if op.effect != Effect::Read {
        command = command.arg(
            Arg::new("confirm")
                .long("confirm")
                .value_name("TARGET")
                .action(ArgAction::Append)
                .help("Name a protected target that may be changed"),
        );
    }
    command.arg(
        Arg::new("output")
            .short('o')
            .long("output")
            .value_name("FORMAT")
            .value_parser(value_parser!(DataFormat))
            .default_value("table")
            .help("How the result is written"),
    )
}

fn build_argument(param: &'static Param) -> Arg {
    let arg = Arg::new(param.name).help(param_help(param));
    match param.slot {
        // Not required by clap: our own error lists the targets to choose from.
        ParamSlot::Positional if param.name == "target" => arg.short('t').long("target").value_name("TARGET"),
        ParamSlot::Positional if param.kind.takes_several_words() => {
            arg.required(true).num_args(1..).value_name(value_placeholder(param.kind))
        }
        ParamSlot::Positional => arg.required(true),
        ParamSlot::Named | ParamSlot::Optional(_) => {
            // `temporary` is parsed only to be refused with a reason, so it is hidden.
            let arg = arg.required(param.slot == ParamSlot::Named).hide(param.name == "temporary");
            // With hyphens as on the command line; the spelling of scripts is an alias.
            let long = param.name.replace('_', "-");
            let arg = if long == param.name { arg.long(long) } else { arg.long(long).alias(param.name) };
            if param.kind == ParamKind::Bool {
                arg.num_args(0..=1).require_equals(true).default_missing_value("true").value_name("BOOL")
            } else if param.kind.may_be_moment() {
                arg.allow_hyphen_values(true)
                    .value_name(param.kind.type_name().replace(' ', "-").to_uppercase())
            } else if param.kind.takes_several_words() {
                arg.value_name(value_placeholder(param.kind)).num_args(1..)
            } else {
                arg.value_name(param.kind.type_name().replace(' ', "-").to_uppercase())
            }
        }
    }
}

/// Returns what the help writes in the place of a parameter of several words.
fn value_placeholder(kind: ParamKind) -> &'static str {
    match kind {
        ParamKind::Settings => "NAME=VALUE",
        ParamKind::Cidrs => "CIDR",
        ParamKind::Addresses => "ADDRESS",
        _ => "NAME",
    }
}

fn param_help(param: &Param) -> String {
    match param.slot {
        ParamSlot::Optional(without) => format!("{}; without it: {without}", param.help),
        ParamSlot::Positional | ParamSlot::Named => param.help.to_owned(),
    }
}

fn render_examples(op: &Operation) -> String {
    let mut text = String::from("In a script:\n");
    for example in op.examples {
        text.push_str("  ");
        text.push_str(example);
        text.push('\n');
    }
    text
}

/// Returns whether the catalogue has operations in this area.
pub(super) fn has_area(area: &str) -> bool {
    ops::all_operations().any(|op| op.area() == area)
}

/// Performs the operation that the command line names.
///
/// # Errors
/// The arguments are invalid, or the read fails.
pub(super) fn perform_operation(runtime: &Runtime, area: &str, matches: &ArgMatches) -> Result<u8, CliError> {
    let mut path = area.to_owned();
    let mut matches = matches;
    while let Some((word, below)) = matches.subcommand() {
        path = format!("{path}::{word}");
        matches = below;
    }
    let op = ops::find_operation(&path)
        .ok_or_else(|| CliError::usage(format!("there is no operation `{path}`")))?;
    let format = matches.get_one::<DataFormat>("output").copied().unwrap_or(DataFormat::Table);
    let args = read_arguments(runtime, op, matches)?;
    if runtime::is_read_only(op, &args) {
        return print_read(runtime, op, &args, format);
    }
    let confirm: Vec<String> = matches.get_many("confirm").into_iter().flatten().cloned().collect();
    let columns: Vec<String> = field_names(op);
    let report = if format == DataFormat::Json { RunReport::JsonValue } else { RunReport::Text };
    Ok(run_and_report(
        runtime,
        report,
        QuestionPolicy::approvals_only(),
        &|value| print_result(op, value, &columns, format),
        |watch| {
            let (text, params) = one_call::build_one_call_runbook(op, &args);
            let name = op.command_words().collect::<Vec<_>>().join(" ");
            let mut ended = start_run(
                runtime,
                || Ok(Runbook::from_text(&name, text.clone())?),
                &params,
                &confirm,
                false,
                &watch,
            )?;
            // The script is generated: a place in it means nothing to whoever typed the command.
            if let Some(failure) = &mut ended.failure {
                failure.place = None;
            }
            Ok(ended)
        },
    ))
}

fn read_arguments(
    runtime: &Runtime,
    op: &'static Operation,
    matches: &ArgMatches,
) -> Result<CallArgs, CliError> {
    let mut positional = Vec::new();
    let mut options = Map::new();
    for param in op.positional_params().chain(op.option_params()) {
        let given: Vec<&str> =
            matches.get_many::<String>(param.name).into_iter().flatten().map(String::as_str).collect();
        if given.is_empty() {
            if param.slot == ParamSlot::Positional {
                return Err(output::unknown_target_error(&runtime.config, None));
            }
            continue;
        }
        let fixed = resolve_and_announce_moment(runtime, param, &given, positional.first())?;
        let given = fixed.as_ref().map_or(given, |word| vec![word.as_str()]);
        let value = param.kind.parse_words(&given).map_err(|e| argument_error(op, param, e))?;
        if param.kind == ParamKind::Target {
            require_configured_target(runtime, given[0])?;
        }
        match param.slot {
            ParamSlot::Positional => positional.push(value),
            ParamSlot::Named | ParamSlot::Optional(_) => drop(options.insert(param.name.into(), value)),
        }
    }
    if options.get("temporary") == Some(&Value::Bool(true)) {
        return Err(CliError::usage(
            "`--temporary` makes no sense here: the run ends with this command, and the branch with it",
        )
        .with_hint(
            "leave it out, and remove the branch when you are done: `redrill branch delete NAME -t TARGET`",
        ));
    }
    options.remove("temporary");
    CallArgs::decode(op, positional, options).map_err(CliError::from_provider_error)
}

/// Fixes a moment that is counted back from now, by the target's clock: returns the word with the moment in its place,
/// and prints which moment that is.
fn resolve_and_announce_moment(
    runtime: &Runtime,
    param: &Param,
    given: &[&str],
    target: Option<&Value>,
) -> Result<Option<String>, CliError> {
    let [word] = given else { return Ok(None) };
    let now = || {
        let targets = target.and_then(|target| parse_target_ref(target).ok()).map(|place| place.target);
        runtime.read_target_time(targets.as_slice())
    };
    let fixed = param.kind.resolve_relative_moment(word, now)?;
    Ok(fixed.map(|(text, moment)| {
        terminal::print_message(&format!("{} {moment} ({word})", param.name));
        text
    }))
}

fn argument_error(op: &Operation, param: &Param, error: crate::provider::Error) -> CliError {
    let hint = error.hint.unwrap_or_else(|| format!("{}: {}", param.name, param.help));
    let words: Vec<&str> = op.command_words().collect();
    CliError::usage(format!("`{}` of `{}`: {}", param.name, words.join(" "), error.message)).with_hint(hint)
}

fn require_configured_target(runtime: &Runtime, given: &str) -> Result<(), CliError> {
    let name = given.split('/').next().unwrap_or(given);
    if runtime.config.targets.contains_key(name) {
        return Ok(());
    }
    Err(output::unknown_target_error(&runtime.config, Some(name)))
}

/// Watches a read: shows its progress, and keeps the columns of a query.
struct ReadWatch {
    activity: Activity,
    columns: Mutex<Vec<String>>,
}

const READ_ACTIVITY: &str = "look";

impl RunObserver for ReadWatch {
    fn on_event(&self, event: &Event<'_>) {
        match event {
            Event::Progress { progress, .. } => self.activity.update_progress(READ_ACTIVITY, progress),
            Event::Columns { columns } => {
                *lock_unpoisoned(&self.columns) = columns.to_vec();
            }
            _ => {}
        }
    }
}

/// Performs a read and returns its result, with the column order where it is a query.
pub(super) fn perform_read_with_columns(
    runtime: &Runtime,
    op: &'static Operation,
    args: &CallArgs,
) -> Result<(Value, Vec<String>), CliError> {
    let watch = ReadWatch { activity: Activity::new(), columns: Mutex::default() };
    watch.activity.start_item(READ_ACTIVITY, op.path());
    let result = runtime.perform_read(op, args, &watch);
    watch.activity.finish_item(READ_ACTIVITY);
    let columns = into_unpoisoned(watch.columns);
    Ok((result.map_err(CliError::from_provider_error)?, columns))
}

fn print_read(
    runtime: &Runtime,
    op: &'static Operation,
    args: &CallArgs,
    format: DataFormat,
) -> Result<u8, CliError> {
    let (value, columns) = perform_read_with_columns(runtime, op, args)?;
    let columns = if columns.is_empty() { field_names(op) } else { columns };
    print_result(op, &value, &columns, format)?;
    // `ok: false` is a failure to a shell script too: `backup verify … && rm old` must stop.
    Ok(if value["ok"] == false { exit_code::FAILED } else { 0 })
}

fn field_names(op: &Operation) -> Vec<String> {
    op.returns.fields().iter().map(|f| f.name.to_owned()).collect()
}

fn print_result(
    op: &Operation,
    value: &Value,
    columns: &[String],
    format: DataFormat,
) -> Result<(), CliError> {
    if format == DataFormat::Table && op.path() == "security::audit" {
        let of_findings = ["check", "level", "status", "object", "category", "detail", "reason", "fix"];
        let columns: Vec<String> = columns.iter().cloned().chain(of_findings.map(String::from)).collect();
        return output::print_value(&keep_unfinished_checks(value), &columns, format);
    }
    output::print_value(value, columns, format)
}

/// Keeps only the checks of an audit that neither passed nor failed, and why. Where there are none,
/// the summary is enough.
fn keep_unfinished_checks(audit: &Value) -> Value {
    let mut audit = audit.clone();
    let unseen = |check: &&Value| !matches!(check["status"].as_str(), Some("passed" | "failed"));
    let checks: Vec<Value> =
        audit["checks"].as_array().into_iter().flatten().filter(unseen).cloned().collect();
    audit["checks"] = if checks.is_empty() { Value::Null } else { checks.into() };
    audit
}
