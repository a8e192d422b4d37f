//! `fake supabase`: a Management API to practise on.

use crate::{
    base::{file, terminal},
    fake::{BillingPlan, FakeServer, ServerOptions, WorldFile, faults::FaultRule},
    provider::sim::SANDBOX,
    report::{CliError, exit_code},
};
use clap::{Args, Subcommand, ValueEnum};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// `fake`.
#[derive(Debug, Subcommand)]
pub(super) enum FakeCommand {
    /// Serve the Management API of Supabase over simulated worlds, on loopback, until Ctrl-C
    Supabase(ServeCommand),
}

/// `fake supabase`.
#[derive(Debug, Args)]
pub(super) struct ServeCommand {
    /// The port on loopback; else any that is free
    #[arg(long, value_name = "N", default_value_t = 0)]
    port: u16,
    /// A world file behind a project, or `sandbox`; may be given again
    #[arg(long, value_name = "FILE")]
    world: Vec<PathBuf>,
    /// How many projects there are; they take the worlds in turn
    #[arg(long, value_name = "N", default_value_t = 1)]
    projects: usize,
    /// Write a token into a file, for the configuration to refer to
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The plan of the organization: what it lacks is refused
    #[arg(long, value_enum, default_value = "enterprise", value_name = "PLAN")]
    plan: PlanArg,
    /// Daily backups instead of going back to a moment
    #[arg(long)]
    no_pitr: bool,
    /// Shorten what takes time by this factor
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    speed: u32,
    /// Serve this many requests a minute for one endpoint and project
    #[arg(long, value_name = "N", default_value_t = 120)]
    per_minute: u32,
    /// Start a throw-away PostgreSQL when a login role is asked for
    #[arg(long)]
    postgres: bool,
    /// What goes wrong: a file of `[[rule]]` with `method`, `path`, `nth` and `fate`
    #[arg(long, value_name = "FILE")]
    faults: Option<PathBuf>,
}

/// A plan on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum PlanArg {
    Free,
    Pro,
    Team,
    Enterprise,
}

impl FakeCommand {
    /// Runs the subcommand.
    pub(super) fn dispatch_subcommand(&self) -> Result<u8, CliError> {
        let FakeCommand::Supabase(serve) = self;
        serve.serve_until_signal()
    }
}

impl ServeCommand {
    fn serve_until_signal(&self) -> Result<u8, CliError> {
        let options = self.server_options()?;
        let token = self.token_file.as_deref().map(write_token_file).transpose()?;
        let server = FakeServer::start(options).map_err(|e| CliError::from(e).with_exit(exit_code::USAGE))?;
        terminal::print_data(&render_server_info(&server, token.as_deref()));
        wait_for_signal()?;
        drop(server);
        Ok(0)
    }

    fn server_options(&self) -> Result<ServerOptions, CliError> {
        let faults = self.faults.as_deref().map(read_text_file).transpose()?;
        let faults = faults.map(|text| FaultRule::parse_rules(&text)).transpose();
        let worlds = self.world.iter().map(|path| read_world_file(path)).collect::<Result<Vec<_>, _>>()?;
        let preset = ServerOptions::default();
        Ok(ServerOptions {
            port: self.port,
            worlds: if worlds.is_empty() { preset.worlds } else { worlds },
            projects: self.projects,
            plan: match self.plan {
                PlanArg::Free => BillingPlan::Free,
                PlanArg::Pro => BillingPlan::Pro,
                PlanArg::Team => BillingPlan::Team,
                PlanArg::Enterprise => BillingPlan::Enterprise,
            },
            pitr: !self.no_pitr,
            speed: self.speed,
            per_minute: self.per_minute,
            postgres: self.postgres,
            faults: faults.map_err(|e| CliError::from(e).with_exit(exit_code::USAGE))?.unwrap_or_default(),
        })
    }
}

fn read_world_file(path: &Path) -> Result<WorldFile, CliError> {
    if path == Path::new("sandbox") {
        return Ok(WorldFile { name: "sandbox".into(), text: SANDBOX.into() });
    }
    let name = path.file_stem().map_or_else(|| "world".into(), |stem| stem.to_string_lossy().into_owned());
    Ok(WorldFile { name, text: read_text_file(path)? })
}

fn read_text_file(path: &Path) -> Result<String, CliError> {
    fs::read_to_string(path)
        .map_err(|why| CliError::usage(format!("the file `{}` cannot be read: {why}", path.display())))
}

/// Writes a random access token to a file and returns its path; the server accepts any `sbp_…`.
fn write_token_file(path: &Path) -> Result<String, CliError> {
    let mut bytes = [0; 20];
    getrandom::fill(&mut bytes).map_err(|e| CliError::usage(format!("no random number: {e}")))?;
    let token = format!("sbp_{}\n", data_encoding::HEXLOWER.encode(&bytes));
    let failed = |why| CliError::usage(format!("the file `{}` cannot be written: {why}", path.display()));
    file::write_atomic(path, token.as_bytes()).map_err(failed)?;
    let path = fs::canonicalize(path).map_err(failed)?;
    Ok(path.display().to_string())
}

/// Returns the URL of the server and the configuration entries of its projects.
fn render_server_info(server: &FakeServer, token: Option<&str>) -> String {
    let references = server.list_root_references();
    let url = server.url();
    let first = references.first().map_or("", String::as_str);
    let mut text = format!("{url}  {first}\n");
    for reference in &references {
        let name = server.project_name(reference).unwrap_or_else(|| reference.clone());
        let token = token.map_or_else(|| "env:SUPABASE_ACCESS_TOKEN".into(), |path| format!("file:{path}"));
        let entry = format!(
            "\n[targets.{name}]\nprovider = \"supabase\"\nref = \"{reference}\"\napi_url = \"{url}\"\ntoken = \"{token}\"\nlanding_time = \"10s\"\n"
        );
        text.push_str(&entry);
    }
    if token.is_none() {
        text.push_str("\n# any token that begins with `sbp_` is let in\n");
    }
    text.trim_end().to_owned()
}

/// Waits for Ctrl-C, SIGTERM or SIGHUP.
fn wait_for_signal() -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| CliError::usage(format!("signals cannot be waited for: {e}")))?;
    runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let failed = |e| CliError::usage(format!("signals cannot be waited for: {e}"));
        let mut ended = signal(SignalKind::terminate()).map_err(failed)?;
        let mut hung_up = signal(SignalKind::hangup()).map_err(failed)?;
        tokio::select! {
            told = tokio::signal::ctrl_c() => told.map_err(failed),
            _ = ended.recv() => Ok(()),
            _ = hung_up.recv() => Ok(()),
        }
    })
}
