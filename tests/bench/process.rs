//! A whole process: how long it takes, how much of a processor, and how much memory.

use crate::{
    Result, bench_env,
    measure::{Sample, TableRow, format_mebibytes, format_millis, format_ratio, time_work},
};
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

/// Processes of each sort a round.
const PROCESSES: u32 = 10;
pub(crate) const BINARY_PATH: &str = env!("CARGO_BIN_EXE_redrill");
const FLAGSHIP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/runbooks/restore_to_branch.rhai");
const ONE_CALL: &str = r#"const RUNBOOK = #{ title: "One call", params: #{}, needs: ["db.read"] };
db::query("sandbox", "select count(*) as n from orders");
"#;

/// What a sort of process costs: wall and processor seconds of one.
#[derive(Default)]
struct ProcessCost {
    wall: Sample,
    cpu: f64,
    rounds: u32,
}

impl ProcessCost {
    fn measure_round(&mut self, make: &dyn Fn() -> Command) -> Result<()> {
        let before = children_cpu_seconds()?;
        let (seconds, done) = time_work(|| (0..PROCESSES).try_for_each(|_| run_to_success(&mut make())));
        done?;
        self.wall.push(seconds / f64::from(PROCESSES));
        self.cpu += children_cpu_seconds()? - before;
        self.rounds += 1;
        Ok(())
    }

    /// Returns the processor seconds over all rounds: the kernel tells them in hundredths, too coarse for one.
    fn cpu_sample(&self) -> Sample {
        let mut all = Sample::default();
        all.push(self.cpu / f64::from(PROCESSES * self.rounds));
        all
    }
}

/// Measures a runbook of one call against a bare process, and against a script that keeps one line.
pub(crate) fn measure_process(rounds: usize) -> Result<()> {
    let folder = bench_env::make_folder()?;
    let (runbook, kept) = (folder.path().join("one.rhai"), folder.path().join("kept"));
    fs::write(&runbook, ONE_CALL)?;
    let ours = || runbook_command(&runbook, &folder.path().join("state"));
    let bare = || Command::new("/bin/true");
    let script = || {
        let mut bash = Command::new("bash");
        bash.args(["-c", r#"echo "one call" >> "$1" && sync "$1""#, "bash"]).arg(&kept);
        bash
    };
    let repository = folder.path().join("repository");
    run_to_success(Command::new("git").args(["init", "--quiet"]).arg(&repository))?;
    let tracked = repository.join("one.rhai");
    fs::copy(&runbook, &tracked)?;
    let in_repository = || runbook_command(&tracked, &folder.path().join("state"));
    let (mut a, mut b, mut c, mut d) = <(ProcessCost, ProcessCost, ProcessCost, ProcessCost)>::default();
    run_to_success(&mut ours())?;
    for _ in 0..rounds {
        a.measure_round(&ours)?;
        b.measure_round(&bare)?;
        c.measure_round(&script)?;
        d.measure_round(&in_repository)?;
    }
    let line = |what, ours: &Sample, name, floor: &Sample, aim| {
        let (measured, ratio) =
            (ours.render_with(format_millis), ours.divide_by(floor).render_with(format_ratio));
        TableRow {
            what,
            measured,
            floor: format!("{}: {name}", floor.render_with(format_millis)),
            ratio,
            aim,
        }
        .print_row();
    };
    let (wall, cpu) = ("a process with one call, wall", "a process with one call, processor");
    line(wall, &a.wall, "`/bin/true`", &b.wall, "10 ms");
    line(wall, &a.wall, "a script that appends and syncs a line", &c.wall, "");
    line(cpu, &a.cpu_sample(), "`/bin/true`", &b.cpu_sample(), "6 ms");
    line(cpu, &a.cpu_sample(), "a script that appends and syncs a line", &c.cpu_sample(), "");
    line("the same in a git repository, wall", &d.wall, "`/bin/true`", &b.wall, "");
    measure_memory(rounds)
}

/// Measures the most memory that the flagship has at any time.
fn measure_memory(rounds: usize) -> Result<()> {
    let folder = bench_env::make_folder()?;
    let (mut ours, mut bare) = <(Sample, Sample)>::default();
    for _ in 0..rounds {
        ours.push(peak_memory(&mut runbook_command(Path::new(FLAGSHIP), folder.path()))?);
        bare.push(peak_memory(Command::new("sleep").arg("0.05"))?);
    }
    TableRow {
        what: "the flagship on the sandbox, peak memory",
        measured: ours.render_with(format_mebibytes),
        floor: format!("{}: `sleep`", bare.render_with(format_mebibytes)),
        ratio: ours.divide_by(&bare).render_with(format_ratio),
        aim: "16 MiB",
    }
    .print_row();
    Ok(())
}

/// Returns the command that runs a runbook.
fn runbook_command(runbook: &Path, state: &Path) -> Command {
    let mut command = Command::new(BINARY_PATH);
    command.arg("run").arg(runbook).arg("--state").arg(state);
    command
}

/// Runs a command to its end, which must be a good one.
pub(crate) fn run_to_success(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into())
}

/// Runs a command and returns the most memory that was seen of it, in bytes. The kernel keeps the highest; it is
/// asked for until the process is gone.
pub(crate) fn peak_memory(command: &mut Command) -> Result<f64> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let path = format!("/proc/{}/status", child.id());
    let mut most = 0.0_f64;
    while child.try_wait()?.is_none() {
        let status = fs::read_to_string(&path).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes: Option<f64> = line.and_then(|l| l.split_whitespace().next()?.parse().ok());
        most = most.max(kibibytes.unwrap_or_default() * 1024.0);
        thread::sleep(Duration::from_micros(500));
    }
    if child.wait()?.success() { Ok(most) } else { Err(format!("{command:?} failed").into()) }
}

/// Returns the processor seconds of every child that was waited for.
fn children_cpu_seconds() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The name of the program may hold anything; after it come the third field and the rest.
    let (_, rest) = stat.rsplit_once(')').ok_or("no name in /proc/self/stat")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field - 3).and_then(|text| text.parse::<f64>().ok());
    let (user, system) = ticks(16).zip(ticks(17)).ok_or("no times in /proc/self/stat")?;
    // The unit of this file is a hundredth of a second wherever Linux runs.
    Ok((user + system) / 100.0)
}
