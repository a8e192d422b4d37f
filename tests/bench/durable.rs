//! How many calls a second can be made durable, against the commits and the work that they cannot do without.

use crate::{
    Result,
    bare::BareJournal,
    bench_env::{BenchEnv, CallTimes},
    measure::{Sample, TableRow, format_rate, format_ratio, time_work},
};
use redrill::{
    base::moment::Span,
    journal::{Durability, JournalEntry, NewRun, Outcome, Record},
    provider::model::CallKey,
};
use serde_json::json;
use std::sync::Arc;

/// Calls a round: few, so that ours and the floor's see the same disk.
const CALLS: u32 = 25;
/// How many rounds are measured for each one requested.
const ROUND_FACTOR: usize = 5;
/// How many branches go on side by side.
const WIDTH: usize = 64;
const QUERY: &str = "select count(*) as n from orders";
const AIM: &str = "0.8";

/// Measures a read, an effect, and the journal by itself.
pub(crate) fn measure_durability(rounds: usize) -> Result<()> {
    let rounds = rounds * ROUND_FACTOR;
    measure_reads(rounds)?;
    measure_effects(rounds)?;
    measure_appends(rounds)?;
    measure_parallel_reads(rounds)
}

/// Measures reads of branches that go on side by side, whose records share commits; the floor commits as many records
/// at once as there are branches.
fn measure_parallel_reads(rounds: usize) -> Result<()> {
    let each = CALLS / 5;
    let script = format!(
        "let all = []; all.pad({WIDTH}, 0); db::query(db, \"{QUERY}\");
         each(all, #{{ limit: {WIDTH} }}, |one| {{ for i in 0..{each} {{ db::query(db, \"{QUERY}\"); }} }});
         db::query(db, \"{QUERY}\");"
    );
    let env = BenchEnv::new()?;
    let (mut ours, mut lowest) = <(Sample, Sample)>::default();
    for round in 0..=rounds {
        let stamps = Arc::new(CallTimes::default());
        let ended = env.run_script(&script, &stamps)?;
        let begun = stamps.start_times();
        let (first, last) = begun.get(1).zip(begun.last()).ok_or("the script made no calls")?;
        let sizes = record_sizes(&env.runtime.open_journal()?.read_records(&ended.run)?);
        let mut commits = BareJournal::open(env.state_dir())?;
        let sandbox = env.open_sandbox()?;
        let bare = || -> Result<()> {
            for _ in 0..each {
                for _ in 0..WIDTH {
                    env.runtime.block_on(sandbox.sql()?.query(QUERY, Span::from_secs(30)))?;
                }
                commits.commit_records(&vec![sizes[0]; WIDTH])?;
            }
            Ok(())
        };
        let (seconds, done) = time_work(bare);
        done?;
        if round > 0 {
            ours.push(last.duration_since(*first).as_secs_f64());
            lowest.push(seconds);
        }
    }
    let calls = f64::from(each) * f64::from(u32::try_from(WIDTH)?);
    let a_second = |sample: &Sample| sample.map(|seconds| calls / seconds).render_with(format_rate);
    let what = "reads of 64 branches of `each`";
    let floor = format!("{}: 64 bare queries, 1 commit of 64 records", a_second(&lowest));
    TableRow {
        what,
        measured: a_second(&ours),
        floor,
        ratio: lowest.divide_by(&ours).render_with(format_ratio),
        aim: "",
    }
    .print_row();
    Ok(())
}

fn measure_reads(rounds: usize) -> Result<()> {
    let script = |_| format!("for i in 0..={CALLS} {{ db::query(db, \"{QUERY}\"); }}");
    let bare = |env: &BenchEnv, commits: &mut BareJournal, sizes: &[usize], _: usize| -> Result<()> {
        let sandbox = env.open_sandbox()?;
        for call in 0..CALLS {
            env.runtime.block_on(sandbox.sql()?.query(QUERY, Span::from_secs(30)))?;
            commits.commit_record(sizes[call as usize])?;
        }
        Ok(())
    };
    measure_calls("a read, `db::query`", "the bare query, 1 commit", script, bare, rounds)
}

fn measure_effects(rounds: usize) -> Result<()> {
    let script = |round| format!("for i in 0..={CALLS} {{ backup::pitr::mark(db, `run-{round}-${{i}}`); }}");
    let bare = |env: &BenchEnv, commits: &mut BareJournal, sizes: &[usize], round: usize| -> Result<()> {
        let sandbox = env.open_sandbox()?;
        for call in 0..CALLS {
            let (name, key) = (format!("bare-{round}-{call}"), CallKey(format!("k{round}-{call}")));
            commits.commit_record(sizes[2 * call as usize])?;
            env.runtime.block_on(sandbox.backups()?.create_restore_point(&name, &key))?;
            commits.commit_record(sizes[2 * call as usize + 1])?;
        }
        Ok(())
    };
    measure_calls(
        "an effect, `backup::pitr::mark`",
        "1 commit, the bare mark, 1 commit",
        script,
        bare,
        rounds,
    )
}

/// Measures the calls of a script, from the beginning of the first to the beginning of the last, round by round
/// with the provider's own work between bare commits of records of the same sizes.
fn measure_calls(
    what: &str,
    floor: &str,
    script: impl Fn(usize) -> String,
    bare: impl Fn(&BenchEnv, &mut BareJournal, &[usize], usize) -> Result<()>,
    rounds: usize,
) -> Result<()> {
    let env = BenchEnv::new()?;
    let (mut ours, mut lowest) = <(Sample, Sample)>::default();
    // The first round warms up.
    for round in 0..=rounds {
        let stamps = Arc::new(CallTimes::default());
        let ended = env.run_script(&script(round), &stamps)?;
        let begun = stamps.start_times();
        let (first, last) = begun.first().zip(begun.last()).ok_or("the script made no calls")?;
        let sizes = record_sizes(&env.runtime.open_journal()?.read_records(&ended.run)?);
        let mut commits = BareJournal::open(env.state_dir())?;
        let (seconds, done) = time_work(|| bare(&env, &mut commits, &sizes, round));
        done?;
        if round > 0 {
            ours.push(last.duration_since(*first).as_secs_f64());
            lowest.push(seconds);
        }
    }
    print_line(what, floor, AIM, &ours, &lowest);
    Ok(())
}

fn print_line(what: &str, floor: &str, aim: &str, ours: &Sample, least: &Sample) {
    let a_second =
        |sample: &Sample| sample.map(|seconds| f64::from(CALLS) / seconds).render_with(format_rate);
    let (measured, floor) = (a_second(ours), format!("{}: {floor}", a_second(least)));
    TableRow { what, measured, floor, ratio: least.divide_by(ours).render_with(format_ratio), aim }
        .print_row();
}

/// Returns the sizes of the records of calls.
fn record_sizes(entries: &[JournalEntry]) -> Vec<usize> {
    let of_calls = entries.iter().filter_map(|entry| match &entry.record {
        Record::Begin { op, .. } | Record::End { op, .. } if op.contains("::") => {
            serde_json::to_string(&entry.record).ok().map(|body| body.len())
        }
        _ => None,
    });
    of_calls.collect()
}

fn measure_appends(rounds: usize) -> Result<()> {
    let env = BenchEnv::new()?;
    let journal = env.runtime.open_journal()?;
    let run = journal.create_run(&NewRun {
        runbook: "bench.rhai".into(),
        title: "bench".into(),
        params: json!({}),
        sources: vec![],
        git: None,
        leases: vec![],
        version: "0".into(),
    })?;
    let record = |n: u32| Record::End {
        call: format!("/db::query#{n}"),
        op: "db::query".into(),
        args: json!({ "target": {"$target": "sandbox"}, "sql": QUERY }),
        at: "bench.rhai:3:1".into(),
        outcome: Outcome::Ok(json!([{ "n": 400 }])),
    };
    let size = serde_json::to_string(&record(CALLS))?.len();
    let mut commits = BareJournal::open(env.state_dir())?;
    let (mut ours, mut bare) = <(Sample, Sample)>::default();
    for round in 0..=rounds {
        let mut records = (0..CALLS).map(|n| record(u32::try_from(round).unwrap_or_default() * CALLS + n));
        let (seconds, done) =
            time_work(|| records.try_for_each(|r| run.append_record(r, Durability::Synced)));
        done?;
        let (floor, done) = time_work(|| (0..CALLS).try_for_each(|_| commits.commit_record(size)));
        done?;
        if round > 0 {
            ours.push(seconds);
            bare.push(floor);
        }
    }
    print_line("the journal alone, `Run::append`", "1 commit", "", &ours, &bare);
    Ok(())
}
