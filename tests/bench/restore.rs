//! A restore to a branch of the lab, against the same restore typed by hand with PostgreSQL's own tools.

use crate::{
    Result,
    bench_env::{self, BenchEnv},
    measure::{Sample, TableRow, format_millis, format_ratio, time_work},
    process,
};
use redrill::{
    base::terminal,
    config::{self, Locations},
    provider::{self, postgres::lab},
};
use serde_json::Value;
use std::{
    fs,
    os::unix::{fs::MetadataExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
};

/// What a person types: copies the backup, gives the copy the configuration of a branch, starts it, and waits until
/// it is open for writing.
const RESTORE_SCRIPT: &str = r#"
    set -eu
    mkdir -m 700 "$copy" "$copy/socket"
    cp -a "$backup/data" "$copy/data"
    for file in postgresql.conf postgresql.auto.conf pg_hba.conf pg_ident.conf; do
        cp "$configured/$file" "$copy/data/$file"
    done
    touch "$copy/data/recovery.signal"
    pg_ctl start --silent --no-wait -D "$copy/data" -l "$copy/log" -o "-c unix_socket_directories=$copy/socket"
    until [ "$(psql -h "$copy/socket" -p "$port" -U postgres -Atc 'select pg_is_in_recovery()' 2>&1)" = f ]; do
        sleep 0.02
    done
"#;
const CLEANUP_SCRIPT: &str = r#"pg_ctl stop --silent -m immediate -D "$copy/data"; rm -r "$copy""#;
/// What the shop gets beside its own few rows: a database worth restoring.
const MORE_ROWS_SQL: &str =
    "create table more as select n, repeat(md5(n::text), 8) as text from generate_series(1, $ROWS) n";

/// Measures the lab as it is, and with half a gigabyte more in it.
pub(crate) fn measure_restore(rounds: usize) -> Result<()> {
    for (what, rows) in
        [("restore to a branch, the lab as it is", 0), ("restore to a branch, 500 MiB more", 1_700_000)]
    {
        let folder = bench_env::make_folder()?;
        let place = RestoreBench { state: folder.path().join("state"), hand: folder.path().join("hand") };
        let machine = BenchEnv::new()?;
        let up = machine.runtime.block_on(lab::start_lab(&place.state));
        if let Some(e) = up.as_ref().err().filter(|e| e.code == provider::Code::Unavailable) {
            terminal::print_data(&format!("| {what} | skipped: {e} | | | |"));
            continue;
        }
        let measured = up.map_err(Into::into).and_then(|_| place.compare_restores(what, rows, rounds));
        machine.runtime.block_on(lab::remove_lab(&place.state))?;
        measured?;
    }
    Ok(())
}

/// Where everything is.
struct RestoreBench {
    state: PathBuf,
    hand: PathBuf,
}

/// A backup of the lab, and what a person has to know to restore it.
struct LabBackup {
    id: String,
    files: PathBuf,
    data: PathBuf,
    owner: fs::Metadata,
}

impl RestoreBench {
    fn compare_restores(&self, what: &str, rows: u32, rounds: usize) -> Result<()> {
        let backup = self.back_up_lab(rows)?;
        let (mut ours, mut hand) = <(Sample, Sample)>::default();
        for round in 0..=rounds {
            let asked = ["backup", "restore", "-t", "lab", &backup.id, "--into", "drill"];
            let (seconds, branch) = time_work(|| self.run_cli(&asked));
            let branch = branch?;
            let (seconds_by_hand, done) = time_work(|| self.run_by_hand(RESTORE_SCRIPT, &backup, &branch));
            let away = self.run_by_hand(CLEANUP_SCRIPT, &backup, &branch);
            done?;
            away?;
            self.run_cli(&["branch", "delete", "-t", "lab", "drill"])?;
            if round > 0 {
                ours.push(seconds);
                hand.push(seconds_by_hand);
            }
        }
        let (measured, floor) =
            (ours.render_with(format_millis), format!("{}: by hand", hand.render_with(format_millis)));
        TableRow {
            what,
            measured,
            floor,
            ratio: ours.divide_by(&hand).render_with(format_ratio),
            aim: "1.10",
        }
        .print_row();
        Ok(())
    }

    /// Puts so many rows into the lab and backs it up.
    fn back_up_lab(&self, rows: u32) -> Result<LabBackup> {
        let config = config::load_config(&Locations { config: None, state: Some(self.state.clone()) })?;
        let settings = &config.targets.get(config::LAB).ok_or("the lab is no target")?.settings;
        let setting = |name: &str| settings.get(name).and_then(toml::Value::as_str).unwrap_or_default();
        if rows > 0 {
            let sql = MORE_ROWS_SQL.replace("$ROWS", &rows.to_string());
            process::run_to_success(Command::new("psql").args([
                "-qh",
                setting("host"),
                "-U",
                "postgres",
                "-c",
                &sql,
            ]))?;
        }
        let data = PathBuf::from(setting("data_dir"));
        let owner = fs::metadata(&data)?;
        fs::create_dir(&self.hand)?;
        std::os::unix::fs::chown(&self.hand, Some(owner.uid()), Some(owner.gid()))?;
        let backup = self.run_cli(&["backup", "create", "-t", "lab"])?;
        let id = backup["id"].as_str().ok_or("a backup without an id")?.to_owned();
        let files = Path::new(setting("backup_dir")).join(&id).join("files");
        Ok(LabBackup { id, files, data, owner })
    }

    /// Runs a script as the user that the lab's data belongs to.
    fn run_by_hand(&self, script: &str, backup: &LabBackup, branch: &Value) -> Result<()> {
        let mut bash = Command::new("bash");
        bash.args(["-c", script]).current_dir(&self.hand);
        bash.uid(backup.owner.uid()).gid(backup.owner.gid());
        bash.env("PATH", path_with_tools(&backup.data));
        bash.env("backup", &backup.files).env("copy", self.hand.join("copy"));
        bash.env("configured", self.branch_data_dir(branch)?).env("port", branch["port"].to_string());
        process::run_to_success(&mut bash)
    }

    /// Runs a command of redrill and returns what it wrote.
    fn run_cli(&self, words: &[&str]) -> Result<Value> {
        let mut command = Command::new(process::BINARY_PATH);
        let output = command.args(words).args(["-o", "json", "--state"]).arg(&self.state).output()?;
        if output.status.success() {
            return Ok(serde_json::from_slice(&output.stdout)?);
        }
        Err(format!("{words:?}: {}", String::from_utf8_lossy(&output.stderr)).into())
    }

    /// Returns the data folder of a branch.
    fn branch_data_dir(&self, branch: &Value) -> Result<PathBuf> {
        let id = branch["id"].as_str().ok_or("a branch without an id")?;
        Ok(self.state.join("postgres/lab/data").join(id).join("files/data"))
    }
}

/// Returns the search path with the tools of the version that made `data` first.
fn path_with_tools(data: &Path) -> String {
    let version = fs::read_to_string(data.join("PG_VERSION")).unwrap_or_default();
    let path = std::env::var("PATH").unwrap_or_default();
    format!("/usr/lib/postgresql/{}/bin:{path}", version.trim())
}
