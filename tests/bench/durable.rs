//! How many calls a second can be made durable, against the commits and the work that they cannot do without.

use crate::{
    Result,
    bare::Bare,
    measure::{Line, Sample, rate, ratio, timed},
    stage::{Stage, Stamps},
};
use redrill::{
    base::moment::Span,
    journal::{Durability, Entry, NewRun, Outcome, Record},
    provider::model::Key,
};
use serde_json::json;
use std::sync::Arc;

/// Calls a round: few, so that ours and the floor's see the same disk.
const CALLS: u32 = 25;
/// Rounds for each that was asked for.
const FINER: usize = 5;
/// How many branches go on side by side.
const WIDTH: usize = 64;
const QUERY: &str = "select count(*) as n from orders";
const AIM: &str = "0.8";

/// Measures a read, an effect, and the journal by itself.
pub(crate) fn measure(rounds: usize) -> Result<()> {
    let rounds = rounds * FINER;
    reads(rounds)?;
    effects(rounds)?;
    appends(rounds)?;
    branches(rounds)
}

/// Measures reads of branches that go on side by side, whose records share commits; the floor commits as many records
/// at once as there are branches.
fn branches(rounds: usize) -> Result<()> {
    let each = CALLS / 5;
    let script = format!(
        "let all = []; all.pad({WIDTH}, 0); db::query(db, \"{QUERY}\");
         each(all, #{{ limit: {WIDTH} }}, |one| {{ for i in 0..{each} {{ db::query(db, \"{QUERY}\"); }} }});
         db::query(db, \"{QUERY}\");"
    );
    let stage = Stage::new()?;
    let (mut ours, mut lowest) = <(Sample, Sample)>::default();
    for round in 0..=rounds {
        let stamps = Arc::new(Stamps::default());
        let ended = stage.run(&script, &stamps)?;
        let begun = stamps.begun();
        let (first, last) = begun.get(1).zip(begun.last()).ok_or("the script made no calls")?;
        let sizes = sizes(&stage.world.journal()?.records(&ended.run)?);
        let mut commits = Bare::open(stage.state())?;
        let sandbox = stage.sandbox()?;
        let bare = || -> Result<()> {
            for _ in 0..each {
                for _ in 0..WIDTH {
                    stage.world.wait(sandbox.sql()?.query(QUERY, Span::seconds(30)))?;
                }
                commits.commit_all(&vec![sizes[0]; WIDTH])?;
            }
            Ok(())
        };
        let (seconds, done) = timed(bare);
        done?;
        if round > 0 {
            ours.push(last.duration_since(*first).as_secs_f64());
            lowest.push(seconds);
        }
    }
    let calls = f64::from(each) * f64::from(u32::try_from(WIDTH)?);
    let a_second = |sample: &Sample| sample.map(|seconds| calls / seconds).show(rate);
    let what = "reads of 64 branches of `each`";
    let floor = format!("{}: 64 bare queries, 1 commit of 64 records", a_second(&lowest));
    Line { what, measured: a_second(&ours), floor, ratio: lowest.over(&ours).show(ratio), aim: "" }.print();
    Ok(())
}

fn reads(rounds: usize) -> Result<()> {
    let script = |_| format!("for i in 0..={CALLS} {{ db::query(db, \"{QUERY}\"); }}");
    let bare = |stage: &Stage, commits: &mut Bare, sizes: &[usize], _: usize| -> Result<()> {
        let sandbox = stage.sandbox()?;
        for call in 0..CALLS {
            stage.world.wait(sandbox.sql()?.query(QUERY, Span::seconds(30)))?;
            commits.commit(sizes[call as usize])?;
        }
        Ok(())
    };
    calls("a read, `db::query`", "the bare query, 1 commit", script, bare, rounds)
}

fn effects(rounds: usize) -> Result<()> {
    let script = |round| format!("for i in 0..={CALLS} {{ backup::pitr::mark(db, `run-{round}-${{i}}`); }}");
    let bare = |stage: &Stage, commits: &mut Bare, sizes: &[usize], round: usize| -> Result<()> {
        let sandbox = stage.sandbox()?;
        for call in 0..CALLS {
            let (name, key) = (format!("bare-{round}-{call}"), Key(format!("k{round}-{call}")));
            commits.commit(sizes[2 * call as usize])?;
            stage.world.wait(sandbox.backups()?.mark(&name, &key))?;
            commits.commit(sizes[2 * call as usize + 1])?;
        }
        Ok(())
    };
    calls("an effect, `backup::pitr::mark`", "1 commit, the bare mark, 1 commit", script, bare, rounds)
}

/// Measures the calls of a script, from the beginning of the first to the beginning of the last, round by round
/// with the provider's own work between bare commits of records of the same sizes.
fn calls(
    what: &str,
    floor: &str,
    script: impl Fn(usize) -> String,
    bare: impl Fn(&Stage, &mut Bare, &[usize], usize) -> Result<()>,
    rounds: usize,
) -> Result<()> {
    let stage = Stage::new()?;
    let (mut ours, mut lowest) = <(Sample, Sample)>::default();
    // The first round warms up.
    for round in 0..=rounds {
        let stamps = Arc::new(Stamps::default());
        let ended = stage.run(&script(round), &stamps)?;
        let begun = stamps.begun();
        let (first, last) = begun.first().zip(begun.last()).ok_or("the script made no calls")?;
        let sizes = sizes(&stage.world.journal()?.records(&ended.run)?);
        let mut commits = Bare::open(stage.state())?;
        let (seconds, done) = timed(|| bare(&stage, &mut commits, &sizes, round));
        done?;
        if round > 0 {
            ours.push(last.duration_since(*first).as_secs_f64());
            lowest.push(seconds);
        }
    }
    line(what, floor, AIM, &ours, &lowest);
    Ok(())
}

fn line(what: &str, floor: &str, aim: &str, ours: &Sample, least: &Sample) {
    let a_second = |sample: &Sample| sample.map(|seconds| f64::from(CALLS) / seconds).show(rate);
    let (measured, floor) = (a_second(ours), format!("{}: {floor}", a_second(least)));
    Line { what, measured, floor, ratio: least.over(ours).show(ratio), aim }.print();
}

/// Returns the sizes of the records of calls.
fn sizes(entries: &[Entry]) -> Vec<usize> {
    let of_calls = entries.iter().filter_map(|entry| match &entry.record {
        Record::Begin { op, .. } | Record::End { op, .. } if op.contains("::") => {
            serde_json::to_string(&entry.record).ok().map(|body| body.len())
        }
        _ => None,
    });
    of_calls.collect()
}

fn appends(rounds: usize) -> Result<()> {
    let stage = Stage::new()?;
    let journal = stage.world.journal()?;
    let run = journal.create(&NewRun {
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
    let mut commits = Bare::open(stage.state())?;
    let (mut ours, mut bare) = <(Sample, Sample)>::default();
    for round in 0..=rounds {
        let mut records = (0..CALLS).map(|n| record(u32::try_from(round).unwrap_or_default() * CALLS + n));
        let (seconds, done) = timed(|| records.try_for_each(|r| run.append(r, Durability::Now)));
        done?;
        let (floor, done) = timed(|| (0..CALLS).try_for_each(|_| commits.commit(size)));
        done?;
        if round > 0 {
            ours.push(seconds);
            bare.push(floor);
        }
    }
    line("the journal alone, `Run::append`", "1 commit", "", &ours, &bare);
    Ok(())
}
