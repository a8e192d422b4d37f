//! A fleet of projects of a fake platform, audited at once: against the same requests without redrill around them.

use crate::{
    Result, bench_env,
    measure::{Sample, TableRow, format_mebibytes, format_rate, format_ratio, time_work},
    process,
};
use redrill::fake::{FakeServer, ServerOptions};
use std::{env, fmt::Write as _, fs, path::Path, process::Command, sync::Arc};

const TOKEN: &str = "sbp_00112233445566778899aabbccddeeff00112233";
/// How many projects, unless `REDRILL_BENCH_PROJECTS` says otherwise.
const PROJECTS: usize = 1000;
/// How many are audited at once.
const WIDTH: usize = 16;
/// What an audit asks of a project.
const AUDIT_REQUESTS: &[(&str, &str, &str)] = &[
    ("GET", "", ""),
    ("GET", "/advisors/security", ""),
    ("GET", "/database/backups", ""),
    ("GET", "/network-restrictions", ""),
    ("GET", "/ssl-enforcement", ""),
    ("GET", "/jit-access", ""),
    ("POST", "/network-bans/retrieve", ""),
    ("POST", "/database/query/read-only", r#"{"query":"select 1 as one"}"#),
];

/// Measures requests a second, and the memory of the process that makes them.
pub(crate) fn measure_projects(rounds: usize) -> Result<()> {
    let projects = env::var("REDRILL_BENCH_PROJECTS").ok().and_then(|n| n.parse().ok()).unwrap_or(PROJECTS);
    let (mut ours, mut bare, mut memory) = <(Sample, Sample, Sample)>::default();
    let server =
        FakeServer::start(ServerOptions { projects, per_minute: 1_000_000, ..ServerOptions::default() })?;
    let references = Arc::new(server.list_root_references());
    let folder = bench_env::make_folder()?;
    write_project_files(folder.path(), &server)?;
    let tokio = tokio::runtime::Runtime::new()?;
    for round in 0..=rounds {
        let before = server.request_count();
        let (seconds, peak) = time_work(|| process::peak_memory(&mut audit_command(folder.path())));
        let peak = peak?;
        let asked = request_rate(server.request_count() - before, seconds);
        let before = server.request_count();
        let (seconds, done) =
            time_work(|| tokio.block_on(send_all_requests(server.url(), Arc::clone(&references))));
        done?;
        if round > 0 {
            ours.push(asked);
            bare.push(request_rate(server.request_count() - before, seconds));
            memory.push(peak);
        }
    }
    let what = format!("requests of {projects} audits, {WIDTH} at once");
    let floor = format!("{}: the client by itself", bare.render_with(format_rate));
    let share = ours.divide_by(&bare).render_with(format_ratio);
    TableRow { what: &what, measured: ours.render_with(format_rate), floor, ratio: share, aim: "0.8" }
        .print_row();
    let (floor, ratio) = (String::new(), String::new());
    let measured = memory.render_with(format_mebibytes);
    TableRow { what: "… peak memory", measured, floor, ratio, aim: "100 MiB" }.print_row();
    Ok(())
}

fn request_rate(requests: u64, seconds: f64) -> f64 {
    f64::from(u32::try_from(requests).unwrap_or(u32::MAX)) / seconds
}

/// Writes the targets, and a runbook that audits all of them.
fn write_project_files(folder: &Path, server: &FakeServer) -> Result<()> {
    fs::write(folder.join("token"), TOKEN)?;
    let mut config = String::new();
    let mut names = String::new();
    for (n, reference) in server.list_root_references().iter().enumerate() {
        let (url, token) = (server.url(), folder.join("token"));
        write!(
            config,
            "[targets.p{n}]\nprovider = \"supabase\"\nref = \"{reference}\"\napi_url = \"{url}\"\ntoken = \"file:{}\"\nlanding_time = \"1s\"\n",
            token.display(),
        )?;
        write!(names, "\"p{n}\", ")?;
    }
    fs::write(folder.join("redrill.toml"), config)?;
    let runbook = format!(
        "const RUNBOOK = #{{ title: \"audits\", params: #{{}}, needs: [\"security.read\"] }};\n\
         each([{names}], #{{ limit: {WIDTH} }}, |name| security::audit(target(name)).findings.len());\n"
    );
    Ok(fs::write(folder.join("audits.rhai"), runbook)?)
}

fn audit_command(folder: &Path) -> Command {
    let mut command = Command::new(process::BINARY_PATH);
    command.current_dir(folder).args(["run", "audits.rhai"]);
    command
}

/// Asks everything of every project, as many at once as the audits.
async fn send_all_requests(url: String, references: Arc<Vec<String>>) -> Result<()> {
    // No request here is encrypted, and the client wants to know how it would be.
    drop(rustls::crypto::ring::default_provider().install_default());
    let client = reqwest::Client::new();
    let workers: Vec<_> = (0..WIDTH)
        .map(|worker| {
            let (client, url, references) = (client.clone(), url.clone(), Arc::clone(&references));
            tokio::spawn(async move {
                for reference in references.iter().skip(worker).step_by(WIDTH) {
                    for (method, path, body) in AUDIT_REQUESTS {
                        let address = format!("{url}/v1/projects/{reference}{path}");
                        let method = method.parse().unwrap_or_default();
                        let mut request = client.request(method, address).bearer_auth(TOKEN);
                        if !body.is_empty() {
                            request = request.header("content-type", "application/json").body(*body);
                        }
                        request.send().await?.error_for_status()?.bytes().await?;
                    }
                }
                Ok::<(), reqwest::Error>(())
            })
        })
        .collect();
    for worker in workers {
        worker.await??;
    }
    Ok(())
}
