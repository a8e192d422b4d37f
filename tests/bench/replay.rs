//! How fast a run of ten thousand calls is taken up again: from taking it to its first new call.

use crate::{
    Result,
    bench_env::{BenchEnv, CallTimes},
    measure::{Sample, TableRow, format_millis, format_rate, format_ratio, time_work},
};
use rusqlite::Connection;
use serde_json::Value;
use std::{path::Path, time::Instant};

const CALLS: u32 = 10_000;

/// Measures the whole and its two halves: the journal's, and the script's.
pub(crate) fn measure_replay(rounds: usize) -> Result<()> {
    let env = BenchEnv::new()?;
    let script = format!("for i in 0..={CALLS} {{ db::query(db, \"select count(*) as n from orders\"); }}");
    drop(env.run_script(&script, &CallTimes::killed_at(CALLS as usize + 1)));
    let (mut whole, mut load, mut replay, mut bare) = <(Sample, Sample, Sample, Sample)>::default();
    for round in 0..=rounds {
        let (seconds_bare, read) = time_work(|| read_records(env.state_dir()));
        let records = read?;
        let stamps = CallTimes::killed_at(1);
        let asked = Instant::now();
        let taken = env.resume_last_run(&stamps)?;
        let (replayed, begun) = (stamps.replay_times(), stamps.start_times());
        let (first, new) = replayed.first().zip(begun.first()).ok_or("nothing was replayed")?;
        if replayed.len() != CALLS as usize || records < replayed.len() {
            return Err(format!("{} calls of {records} records were replayed", replayed.len()).into());
        }
        if round > 0 {
            whole.push(new.duration_since(asked).as_secs_f64());
            load.push(taken.duration_since(asked).as_secs_f64());
            replay.push(new.duration_since(*first).as_secs_f64());
            bare.push(seconds_bare);
        }
    }
    let calls = f64::from(CALLS);
    TableRow {
        what: "replay of 10,000 calls, to the first new one",
        measured: format!(
            "{}, {}",
            whole.map(|s| calls / s).render_with(format_rate),
            whole.render_with(format_millis)
        ),
        floor: format!("{} (the records read and parsed, bare)", bare.render_with(format_millis)),
        ratio: whole.divide_by(&bare).render_with(format_ratio),
        aim: "100,000/s",
    }
    .print_row();
    for (what, part) in
        [("… the journal read and verified", &load), ("… the script's calls replayed", &replay)]
    {
        let (measured, ratio) =
            (part.render_with(format_millis), part.divide_by(&bare).render_with(format_ratio));
        TableRow { what, measured, floor: String::new(), ratio, aim: "" }.print_row();
    }
    Ok(())
}

/// Reads and parses every record as it lies there, and returns how many there are.
fn read_records(state: &Path) -> Result<usize> {
    let db = Connection::open(state.join("journal.db"))?;
    let mut all = db.prepare("select body from records order by run, seq")?;
    let mut rows = all.query([])?;
    let mut count = 0;
    while let Some(row) = rows.next()? {
        count += usize::from(serde_json::from_str::<Value>(row.get_ref(0)?.as_str()?)?.is_object());
    }
    Ok(count)
}
