//! The provider against a small loopback server, each trap of the platform by its number.

mod audits;
mod branches;
mod odd_answers;
mod platform_backups;
mod postgres;
mod recovery;
mod replicas;
mod restores;

use super::{
    mock_api::{MockApi, MockReply, REF, ReceivedRequest},
    platform_backups::moment_from_unix,
    project::Supabase,
};
use crate::{
    base::moment::Moment,
    provider::{
        Code, PlannedJob, Provider as _, Result,
        model::{CallKey, Job, JobStatus, RecoveryPoint, RecoveryTarget, RestoreRequest},
    },
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The reference of a branch.
const BRANCH: &str = "bbbbbbbbbbbbbbbbbbbb";
/// The key of every call here.
const KEY: &str = "abcdefgh23";
/// The window of [`windowed`], in seconds since 1970: a day that ends ten minutes before the mock's clock begins.
const WINDOW: (i64, i64) = (1_795_056_600, 1_795_143_000);

/// The time of every database here.
const DATABASE_TIME: &str = "2026-11-20T03:00:00.500000Z";

fn key() -> CallKey {
    CallKey(KEY.into())
}

fn at(unix: i64) -> Moment {
    moment_from_unix(unix).expect("a moment")
}

/// Returns a project of the mock with folders of its own.
fn project(server: &MockApi) -> (Supabase, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let project = Supabase {
        backups: folder.path().join("backups"),
        state: folder.path().join("state"),
        ..server.project()
    };
    (project, folder)
}

fn ask(backup: Option<&str>, at: RecoveryTarget, into: Option<&str>) -> RestoreRequest {
    RestoreRequest {
        backup: backup.map(str::to_owned),
        to: RecoveryPoint { at, inclusive: true, timeline: None },
        into: into.map(str::to_owned),
        temporary: true,
        run: Some("r1".into()),
    }
}

/// Asks for a job that was planned; returns its traces, too.
async fn ask_planned(planned: Result<PlannedJob<'_>>) -> (Value, Result<Job>) {
    let PlannedJob { traces, request, .. } = planned.expect("it is planned");
    (traces, request.await)
}

/// Observes a job to its end; what is not shown yet may be late. What may lag behind is taken as it is.
async fn follow(project: &Supabase, job: &Job) -> Result<Value> {
    for _ in 0..500 {
        let status = match project.poll_project_job(job).await {
            Ok(JobStatus::Lagging(end, _)) => Ok(*end),
            status => status,
        };
        match status {
            Ok(JobStatus::Done(value)) => return Ok(value),
            Ok(JobStatus::Running(_) | JobStatus::NotBegun(_) | JobStatus::Lagging(..)) => {}
            Err(e) if e.code == Code::NotFound => {}
            Ok(JobStatus::Failed(e)) => return Err(project.remove_what_failed_job_made(job, e).await),
            Err(e) => return Err(e),
        }
        project.clock.sleep(crate::base::moment::Span::from_secs(2)).await;
    }
    panic!("the {} is never done", job.kind)
}

/// Returns the requests that changed something: reads with a body are none.
fn writes(server: &MockApi) -> Vec<String> {
    let reads = ["GET ", "POST /v1/projects/abcdefghijklmnopqrst/database/query/"];
    let is_read = |line: &str| {
        reads.iter().any(|read| line.starts_with(read)) || line.contains("/database/query/read-only")
    };
    server.request_lines().into_iter().filter(|line| !is_read(line)).collect()
}

/// Answers as a healthy project with a window of moments, no daily backups, no branches and no replicas.
fn windowed(seen: &ReceivedRequest) -> MockReply {
    let line = seen.line.replace(REF, "REF");
    match line.as_str() {
        "GET /v1/projects/REF" => described("ACTIVE_HEALTHY"),
        "GET /v1/projects/REF/database/backups" => MockReply::from_json(200, &kept(true, &[])),
        "GET /v1/projects/REF/branches" => MockReply::from_json(200, &json!([])),
        "POST /v1/projects/REF/database/query/read-only" => answered(seen),
        line if line.contains("/health?services=db") => healthy(),
        line if line.starts_with("GET /v1/organizations/acme/projects") => {
            MockReply::from_json(200, &organization(&[]))
        }
        _ => MockReply::from_json(404, &json!({ "message": "Not Found" })),
    }
}

fn described(status: &str) -> MockReply {
    MockReply::from_json(
        200,
        &json!({
            "id": REF, "ref": REF, "name": "shop", "organization_slug": "acme", "region": "eu-central-1",
            "created_at": "2026-01-01T00:00:00Z", "status": status,
            "database": { "host": "db.example.com", "version": "15.8.1.079" },
        }),
    )
}

fn healthy() -> MockReply {
    MockReply::from_json(200, &json!([{ "name": "db", "healthy": true, "status": "ACTIVE_HEALTHY" }]))
}

/// Answers a query as far as the tests need it.
fn answered(seen: &ReceivedRequest) -> MockReply {
    let sql = seen.body["query"].as_str().unwrap_or_default();
    if sql.contains("select 1") {
        MockReply::from_json(201, &json!([{ "one": 1 }]))
    } else if sql.contains("clock_timestamp") {
        MockReply::from_json(201, &json!([{ "answer": DATABASE_TIME }]))
    } else if sql.contains("pg_walfile_name") {
        on_timeline(1)
    } else {
        MockReply::from_json(201, &json!([]))
    }
}

/// Answers a query as a database does that takes no connections.
fn no_database() -> MockReply {
    MockReply::from_json(400, &json!({ "message": "the database system is starting up" }))
}

/// Answers the query for a project's fingerprint.
fn on_timeline(number: u32) -> MockReply {
    MockReply::from_json(201, &json!([{ "timeline": format!("{number:08X}"), "lsn": "50331648" }]))
}

/// Returns what the platform says of its backups: `(number, physical, status, moment)` each.
fn kept(pitr: bool, backups: &[(i64, bool, &str, &str)]) -> Value {
    let backups: Vec<_> = backups
        .iter()
        .map(|(id, physical, status, at)| {
            json!({ "id": id, "is_physical_backup": physical, "status": status, "inserted_at": at })
        })
        .collect();
    let window = if pitr {
        json!({ "earliest_physical_backup_date_unix": WINDOW.0, "latest_physical_backup_date_unix": WINDOW.1 })
    } else {
        json!({})
    };
    json!({
        "region": "eu-central-1", "walg_enabled": true, "pitr_enabled": pitr, "backups": backups,
        "physical_backup_data": window,
    })
}

/// Returns a page with the project, which has these databases.
fn organization(databases: &[Value]) -> Value {
    json!({
        "projects": [{ "ref": REF, "name": "shop", "status": "ACTIVE_HEALTHY", "databases": databases }],
        "pagination": { "count": 1, "limit": 100, "offset": 0 },
    })
}

fn row(name: &str, reference: &str, status: &str) -> Value {
    json!({
        "id": "11111111-1111-4111-8111-111111111111", "name": name, "project_ref": reference,
        "parent_project_ref": REF, "is_default": false, "persistent": false, "status": status,
        "created_at": "2026-11-20T02:00:00.123Z", "updated_at": "2026-11-20T02:00:00Z", "with_data": false,
    })
}

fn main_row() -> Value {
    let mut main = row("main", REF, "FUNCTIONS_DEPLOYED");
    main["is_default"] = true.into();
    main
}

fn inside(status: &str) -> MockReply {
    MockReply::from_json(
        200,
        &json!({
            "ref": BRANCH, "postgres_version": "15.8.1.079", "postgres_engine": "15", "release_channel": "ga",
            "status": status, "db_host": "db.branch.example.com", "db_port": 5432, "db_user": "postgres",
            "db_pass": "the password", "jwt_secret": "the secret",
        }),
    )
}
