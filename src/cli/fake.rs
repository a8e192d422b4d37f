//! `fake supabase`: a Management API to practise on.

use crate::{
    base::{file, terminal},
    fake::{Options, Plan, Server, World, faults::Rule},
    provider::sim::SANDBOX,
    show::{Trouble, trouble},
};
use clap::{Args, Subcommand, ValueEnum};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// `fake`.
#[derive(Debug, Subcommand)]
pub(super) enum Fake {
    /// Serve the Management API of Supabase over simulated worlds, on loopback, until Ctrl-C
    Supabase(Serve),
}

/// `fake supabase`.
#[derive(Debug, Args)]
pub(super) struct Serve {
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
    plan: PlanWord,
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
enum PlanWord {
    Free,
    Pro,
    Team,
    Enterprise,
}

impl Fake {
    /// Does it.
    pub(super) fn perform(&self) -> Result<u8, Trouble> {
        let Fake::Supabase(serve) = self;
        serve.perform()
    }
}

impl Serve {
    fn perform(&self) -> Result<u8, Trouble> {
        let options = self.options()?;
        let token = self.token_file.as_deref().map(write_token).transpose()?;
        let server = Server::start(options).map_err(|e| Trouble::from(e).exit(trouble::USAGE))?;
        terminal::out(&shown(&server, token.as_deref()));
        until_told()?;
        drop(server);
        Ok(0)
    }

    fn options(&self) -> Result<Options, Trouble> {
        let faults = self.faults.as_deref().map(read).transpose()?;
        let faults = faults.map(|text| Rule::read(&text)).transpose();
        let worlds = self.world.iter().map(|path| world(path)).collect::<Result<Vec<_>, _>>()?;
        let preset = Options::default();
        Ok(Options {
            port: self.port,
            worlds: if worlds.is_empty() { preset.worlds } else { worlds },
            projects: self.projects,
            plan: match self.plan {
                PlanWord::Free => Plan::Free,
                PlanWord::Pro => Plan::Pro,
                PlanWord::Team => Plan::Team,
                PlanWord::Enterprise => Plan::Enterprise,
            },
            pitr: !self.no_pitr,
            speed: self.speed,
            per_minute: self.per_minute,
            postgres: self.postgres,
            faults: faults.map_err(|e| Trouble::from(e).exit(trouble::USAGE))?.unwrap_or_default(),
        })
    }
}

fn world(path: &Path) -> Result<World, Trouble> {
    if path == Path::new("sandbox") {
        return Ok(World { name: "sandbox".into(), text: SANDBOX.into() });
    }
    let name = path.file_stem().map_or_else(|| "world".into(), |stem| stem.to_string_lossy().into_owned());
    Ok(World { name, text: read(path)? })
}

fn read(path: &Path) -> Result<String, Trouble> {
    fs::read_to_string(path)
        .map_err(|why| Trouble::usage(format!("the file `{}` cannot be read: {why}", path.display())))
}

/// Writes a token that the server takes, as it takes any that begins so.
fn write_token(path: &Path) -> Result<String, Trouble> {
    let mut bytes = [0; 20];
    getrandom::fill(&mut bytes).map_err(|e| Trouble::usage(format!("no random number: {e}")))?;
    let token = format!("sbp_{}\n", data_encoding::HEXLOWER.encode(&bytes));
    let failed = |why| Trouble::usage(format!("the file `{}` cannot be written: {why}", path.display()));
    file::replace(path, token.as_bytes()).map_err(failed)?;
    let path = fs::canonicalize(path).map_err(failed)?;
    Ok(path.display().to_string())
}

/// Returns where it is, and what to write into the configuration.
fn shown(server: &Server, token: Option<&str>) -> String {
    let references = server.references();
    let url = server.url();
    let first = references.first().map_or("", String::as_str);
    let mut text = format!("{url}  {first}\n");
    for reference in &references {
        let name = server.name(reference).unwrap_or_else(|| reference.clone());
        let token = token.map_or_else(|| "env:SUPABASE_ACCESS_TOKEN".into(), |path| format!("file:{path}"));
        let entry = format!(
            "\n[targets.{name}]\nprovider = \"supabase\"\nref = \"{reference}\"\napi_url = \"{url}\"\ntoken = \"{token}\"\n"
        );
        text.push_str(&entry);
    }
    if token.is_none() {
        text.push_str("\n# any token that begins with `sbp_` is let in\n");
    }
    text.trim_end().to_owned()
}

/// Waits for Ctrl-C, or that somebody ends us.
fn until_told() -> Result<(), Trouble> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Trouble::usage(format!("signals cannot be waited for: {e}")))?;
    runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let failed = |e| Trouble::usage(format!("signals cannot be waited for: {e}"));
        let mut ended = signal(SignalKind::terminate()).map_err(failed)?;
        let mut hung_up = signal(SignalKind::hangup()).map_err(failed)?;
        tokio::select! {
            told = tokio::signal::ctrl_c() => told.map_err(failed),
            _ = ended.recv() => Ok(()),
            _ = hung_up.recv() => Ok(()),
        }
    })
}
