//! A restore to a branch of the lab, against the same restore typed by hand with PostgreSQL's own tools.

use crate::{
    Result,
    measure::{Line, Sample, millis, ratio, timed},
    process,
    stage::{self, Stage},
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
const BY_HAND: &str = r#"
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
const AWAY: &str = r#"pg_ctl stop --silent -m immediate -D "$copy/data"; rm -r "$copy""#;
/// What the shop gets beside its own few rows: a database worth restoring.
const MORE: &str =
    "create table more as select n, repeat(md5(n::text), 8) as text from generate_series(1, $ROWS) n";

/// Measures the lab as it is, and with half a gigabyte more in it.
pub(crate) fn measure(rounds: usize) -> Result<()> {
    for (what, rows) in
        [("restore to a branch, the lab as it is", 0), ("restore to a branch, 500 MiB more", 1_700_000)]
    {
        let folder = stage::folder()?;
        let place = Place { state: folder.path().join("state"), hand: folder.path().join("hand") };
        let machine = Stage::new()?;
        let up = machine.world.wait(lab::up(&place.state));
        if let Some(e) = up.as_ref().err().filter(|e| e.code == provider::Code::Unavailable) {
            terminal::out(&format!("| {what} | skipped: {e} | | | |"));
            continue;
        }
        let measured = up.map_err(Into::into).and_then(|_| place.compare(what, rows, rounds));
        machine.world.wait(lab::down(&place.state))?;
        measured?;
    }
    Ok(())
}

/// Where everything is.
struct Place {
    state: PathBuf,
    hand: PathBuf,
}

/// A backup of the lab, and what a person has to know to restore it.
struct Backup {
    id: String,
    files: PathBuf,
    data: PathBuf,
    owner: fs::Metadata,
}

impl Place {
    fn compare(&self, what: &str, rows: u32, rounds: usize) -> Result<()> {
        let backup = self.back_up(rows)?;
        let (mut ours, mut hand) = <(Sample, Sample)>::default();
        for round in 0..=rounds {
            let asked = ["backup", "restore", "-t", "lab", &backup.id, "--into", "drill"];
            let (seconds, branch) = timed(|| self.redrill(&asked));
            let branch = branch?;
            let (seconds_by_hand, done) = timed(|| self.by_hand(BY_HAND, &backup, &branch));
            let away = self.by_hand(AWAY, &backup, &branch);
            done?;
            away?;
            self.redrill(&["branch", "delete", "-t", "lab", "drill"])?;
            if round > 0 {
                ours.push(seconds);
                hand.push(seconds_by_hand);
            }
        }
        let (measured, floor) = (ours.show(millis), format!("{}: by hand", hand.show(millis)));
        Line { what, measured, floor, ratio: ours.over(&hand).show(ratio), aim: "1.10" }.print();
        Ok(())
    }

    /// Puts so many rows into the lab and backs it up.
    fn back_up(&self, rows: u32) -> Result<Backup> {
        let config = config::load(&Locations { config: None, state: Some(self.state.clone()) })?;
        let settings = &config.targets.get(config::LAB).ok_or("the lab is no target")?.settings;
        let setting = |name: &str| settings.get(name).and_then(toml::Value::as_str).unwrap_or_default();
        if rows > 0 {
            let sql = MORE.replace("$ROWS", &rows.to_string());
            process::run(Command::new("psql").args(["-qh", setting("host"), "-U", "postgres", "-c", &sql]))?;
        }
        let data = PathBuf::from(setting("data_dir"));
        let owner = fs::metadata(&data)?;
        fs::create_dir(&self.hand)?;
        std::os::unix::fs::chown(&self.hand, Some(owner.uid()), Some(owner.gid()))?;
        let backup = self.redrill(&["backup", "create", "-t", "lab"])?;
        let id = backup["id"].as_str().ok_or("a backup without an id")?.to_owned();
        let files = Path::new(setting("backup_dir")).join(&id).join("files");
        Ok(Backup { id, files, data, owner })
    }

    /// Runs a script as the user that the lab's data belongs to.
    fn by_hand(&self, script: &str, backup: &Backup, branch: &Value) -> Result<()> {
        let mut bash = Command::new("bash");
        bash.args(["-c", script]).current_dir(&self.hand);
        bash.uid(backup.owner.uid()).gid(backup.owner.gid());
        bash.env("PATH", path_with_tools(&backup.data));
        bash.env("backup", &backup.files).env("copy", self.hand.join("copy"));
        bash.env("configured", self.data_of(branch)?).env("port", branch["port"].to_string());
        process::run(&mut bash)
    }

    /// Runs a command of redrill and returns what it wrote.
    fn redrill(&self, words: &[&str]) -> Result<Value> {
        let mut command = Command::new(process::REDRILL);
        let output = command.args(words).args(["-o", "json", "--state"]).arg(&self.state).output()?;
        if output.status.success() {
            return Ok(serde_json::from_slice(&output.stdout)?);
        }
        Err(format!("{words:?}: {}", String::from_utf8_lossy(&output.stderr)).into())
    }

    /// Returns the data folder of a branch.
    fn data_of(&self, branch: &Value) -> Result<PathBuf> {
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
