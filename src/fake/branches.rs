//! Branches: projects of their own, with a row each, and one row more for what they are branches of.

use super::{
    actions::Run,
    backups::{self, Nowhere},
    call::{Answer, Call, Outcome},
    options::Plan,
    platform::Platform,
    project::{Project, Source},
    reference,
};
use crate::{
    base::{
        clock::Machine,
        moment::{Moment, Span},
    },
    provider::{
        model::{At, RecoveryPoint, RestoreRequest},
        sim::Sim,
    },
};
use serde_json::{Value, json};
use std::sync::Arc;

/// How long a branch that was just made is not found.
const UNSEEN: Span = Span::seconds(3);
/// How long an empty branch takes.
const TAKES: Span = Span::seconds(120);
/// How long a branch is kept after its deletion was asked for with `force=false`.
const GRACE: Span = Span::seconds(3600);
/// A world in which nothing has happened.
const EMPTY: &str = "title = \"an empty branch\"\n";

/// A branch as the platform keeps it.
#[derive(Debug, Clone)]
pub(super) struct Row {
    id: String,
    name: String,
    /// The letters of its own project: of production, for the default one.
    pub(super) reference: String,
    parent: String,
    is_default: bool,
    persistent: bool,
    with_data: bool,
    git_branch: Option<String>,
    notify_url: Option<String>,
    created_at: Moment,
    updated_at: Moment,
    review_requested_at: Option<Moment>,
    deleted_at: Option<Moment>,
    /// Its name and id in the world of its parent, where it was made of that.
    grown: Option<(String, String)>,
}

/// Lists the branches of a project, the default one too.
pub(super) async fn list(call: &Call) -> Outcome {
    let project = call.root()?;
    let mut shown = Vec::new();
    for row in rows_of(call, &project).await {
        shown.push(show(call, &row).await);
    }
    Ok(Answer::json(200, shown.into()))
}

/// Shows a branch by its name.
pub(super) async fn named(call: &Call) -> Outcome {
    let project = call.root()?;
    let rows = rows_of(call, &project).await;
    let row = rows.iter().find(|row| row.name == call.captured("name") && is_seen(call, row));
    let row = row.ok_or_else(|| Answer::message(404, "Branch not found"))?;
    Ok(Answer::json(200, show(call, row).await))
}

/// Makes a branch: empty, or with the data of the newest backup.
pub(super) async fn create(call: &Call) -> Outcome {
    let parent = call.root()?;
    call.demand_plan(Plan::Pro)?;
    let name = call.text("branch_name")?;
    let asked = Row {
        git_branch: call.text_if_any("git_branch")?.map(Into::into),
        notify_url: call.text_if_any("notify_url")?.map(Into::into),
        persistent: call.flag("persistent")?,
        with_data: call.flag("with_data")?,
        ..row(call, &parent, name)
    };
    let row = make(call, &parent, asked).await?;
    Ok(Answer::json(201, show(call, &row).await))
}

/// The same, as the second version of the API asks and answers.
pub(super) async fn create_v2(call: &Call) -> Outcome {
    let parent = call.root()?;
    call.demand_plan(Plan::Pro)?;
    let attributes = &call.body["data"]["attributes"];
    let Some(name) = attributes["name"].as_str().filter(|_| call.body["data"]["type"] == "branch") else {
        return Err(Answer::message(400, "data.attributes.name: Required"));
    };
    let text = |field: &str| attributes[field].as_str().map(Into::into);
    let asked = Row {
        git_branch: text("git_branch"),
        notify_url: text("notify_url"),
        persistent: attributes["persistent"] == true,
        with_data: attributes["with_data"] == true,
        ..row(call, &parent, name)
    };
    let row = make(call, &parent, asked).await?;
    let mut shown = show(call, &row).await;
    let id = shown["id"].clone();
    if let Some(fields) = shown.as_object_mut() {
        for gone in ["id", "status", "preview_project_status"] {
            fields.remove(gone);
        }
    }
    Ok(Answer::json(201, json!({ "data": { "type": "branch", "id": id, "attributes": shown } })))
}

fn row(call: &Call, parent: &Project, name: &str) -> Row {
    let number = call.platform.next_number();
    let now = call.platform.now();
    Row {
        id: parent.id_of(&format!("branch {number}")),
        name: name.into(),
        reference: reference::letters(&format!("{} branch {number}", parent.reference)),
        parent: parent.reference.clone(),
        is_default: false,
        persistent: false,
        with_data: false,
        git_branch: None,
        notify_url: None,
        created_at: now,
        updated_at: now,
        review_requested_at: None,
        deleted_at: None,
        grown: None,
    }
}

async fn make(call: &Call, parent: &Project, mut asked: Row) -> Result<Row, Answer> {
    let there = rows_of(call, parent).await;
    if there.iter().any(|row| row.name == asked.name) {
        return Err(Answer::message(409, format!("A branch named {} already exists", asked.name)));
    }
    let project = begin(call, parent, &mut asked).await?;
    call.platform.put(project);
    let mut rows = call.platform.branches();
    if there.is_empty() {
        // The first branch brings one for production itself.
        let id = parent.id_of("branch main");
        let reference = parent.reference.clone();
        let main = Row { id, name: "main".into(), reference, is_default: true, ..row(call, parent, "main") };
        rows.push(Row { persistent: true, ..main });
    }
    rows.push(asked.clone());
    Ok(asked)
}

/// Begins the project of a branch.
async fn begin(call: &Call, parent: &Project, asked: &mut Row) -> Result<Project, Answer> {
    let (reference, name, above) = (asked.reference.clone(), asked.name.clone(), Some(asked.parent.clone()));
    if !asked.with_data {
        let empty = Sim::in_memory(&asked.name, EMPTY, "empty", Arc::new(Machine))?;
        let source = Source::Open(Box::new(empty));
        let project = Project::new(reference, name, above, asked.created_at, source);
        project.notes().ready_at = Some(asked.created_at.plus(call.platform.takes(TAKES)));
        return Ok(project);
    }
    let database = parent.database()?;
    let Some(newest) = backups::newest(database.as_ref()).await? else {
        return Err(Answer::message(422, "The project has no physical backup to seed the branch from"));
    };
    let key = call.fresh_key();
    let grown = format!("branch-{key}");
    let request = RestoreRequest {
        backup: Some(newest.id),
        to: RecoveryPoint { at: At::BackupEnd, inclusive: true, timeline: None },
        into: Some(grown.clone()),
        temporary: false,
        run: None,
    };
    database.backups()?.restore(&request, &key, &Nowhere).await?;
    let branch = database.branches()?.get(&grown).await?;
    let source = Source::Open(Box::new(parent.sim()?.opened(&grown).await?));
    asked.grown = Some((grown, branch.id));
    Ok(Project::new(reference, name, above, asked.created_at, source))
}

/// Shows how a branch is reached, with its secrets.
pub(super) async fn detail(call: &Call) -> Outcome {
    let row = one(call).await?;
    let Some(project) = call.platform.project(&row.reference).filter(|_| is_seen(call, &row)) else {
        return Err(Answer::message(404, "Branch not found"));
    };
    let door = project.door(&call.platform).await;
    Ok(Answer::json(
        200,
        json!({
            "ref": row.reference,
            "postgres_version": call.platform.version(),
            "postgres_engine": call.platform.engine(),
            "release_channel": "ga",
            "status": project.status(&call.platform).await,
            "db_host": door.host,
            "db_port": door.port,
            "db_user": door.user,
            "db_pass": format!("pass-{}", reference::letters(&format!("pass {}", row.id))),
            "jwt_secret": format!("jwt-{}", reference::letters(&format!("jwt {}", row.id))),
        }),
    ))
}

/// Changes a branch.
pub(super) async fn update(call: &Call) -> Outcome {
    let found = one(call).await?;
    call.fields()?;
    let (name, git) = (call.text_if_any("branch_name")?, call.text_if_any("git_branch")?);
    let (url, review) = (call.text_if_any("notify_url")?, call.flag("request_review")?);
    let persistent = call.body.get("persistent").map(|_| call.flag("persistent")).transpose()?;
    let now = call.platform.now();
    let changed = {
        let mut rows = call.platform.branches();
        let Some(row) = rows.iter_mut().find(|row| row.id == found.id) else {
            return Err(Answer::message(404, "Branch not found"));
        };
        row.name = name.map_or_else(|| row.name.clone(), Into::into);
        row.git_branch = git.map(Into::into).or(row.git_branch.take());
        row.notify_url = url.map(Into::into).or(row.notify_url.take());
        row.persistent = persistent.unwrap_or(row.persistent);
        row.review_requested_at = if review { Some(now) } else { row.review_requested_at };
        row.updated_at = now;
        row.clone()
    };
    Ok(Answer::json(200, show(call, &changed).await))
}

/// Deletes a branch at once, or with `force=false` in an hour.
pub(super) async fn delete(call: &Call) -> Outcome {
    let row = one(call).await?;
    if row.is_default {
        return Err(Answer::message(422, "Cannot delete default branch"));
    }
    if row.persistent {
        return Err(Answer::message(422, "Cannot delete persistent branch"));
    }
    if call.asked("force") == Some("false") {
        let at = call.platform.now().plus(GRACE);
        call.platform.branches().iter_mut().filter(|r| r.id == row.id).for_each(|r| r.deleted_at = Some(at));
    } else {
        remove(&call.platform, &row).await;
    }
    Ok(Answer::json(200, json!({ "message": "ok" })))
}

/// Takes a deletion back that has not come to pass.
pub(super) async fn undelete(call: &Call) -> Outcome {
    let row = one(call).await?;
    if row.deleted_at.is_none() {
        return Err(Answer::message(422, "Branch is not scheduled for deletion"));
    }
    call.platform.branches().iter_mut().filter(|r| r.id == row.id).for_each(|r| r.deleted_at = None);
    Ok(Answer::json(200, json!({ "message": "Branch restoration initiated" })))
}

/// Deletes every branch of a project, and branching with them.
pub(super) async fn disable(call: &Call) -> Outcome {
    let project = call.root()?;
    for row in rows_of(call, &project).await.iter().filter(|row| !row.is_default) {
        remove(&call.platform, row).await;
    }
    call.platform.branches().retain(|row| row.parent != project.reference);
    Ok(Answer::empty(200))
}

/// Takes a branch back to what it was when it was made.
pub(super) async fn reset(call: &Call) -> Outcome {
    let row = one(call).await?;
    if row.is_default {
        return Err(Answer::message(422, "Cannot reset default branch"));
    }
    let missing = || Answer::message(404, "Branch not found");
    let parent = call.platform.project(&row.parent).ok_or_else(missing)?;
    if let Some((grown, _)) = &row.grown {
        let database = parent.database()?;
        let branches = database.branches()?;
        let branch = branches.get(grown).await?;
        branches.reset(&branch, &call.fresh_key(), &Nowhere).await?;
        call.platform.project(&row.reference).ok_or_else(missing)?.return_to_world().await;
    } else {
        let mut again = Row { created_at: call.platform.now(), ..row.clone() };
        let project = begin(call, &parent, &mut again).await?;
        call.platform.put(project);
    }
    Ok(begun(call, &row))
}

/// Carries the migrations of a branch over to its parent. A simulated world has none, so nothing of it changes.
pub(super) async fn merge(call: &Call) -> Outcome {
    let row = one(call).await?;
    if row.is_default {
        return Err(Answer::message(422, "Cannot merge default branch"));
    }
    Ok(begun(call, &row))
}

/// Returns the answer to what goes on as a workflow.
fn begun(call: &Call, row: &Row) -> Answer {
    let number = call.platform.next_number();
    let id = reference::uuid(&format!("{} run {number}", row.id));
    call.platform.runs().push(Run { id: id.clone(), branch: row.id.clone(), at: call.platform.now() });
    Answer::json(201, json!({ "workflow_run_id": id, "message": "ok" }))
}

async fn remove(platform: &Platform, row: &Row) {
    platform.branches().retain(|r| r.id != row.id);
    if let (Some((name, id)), Some(parent)) = (&row.grown, platform.project(&row.parent))
        && let Ok(database) = parent.database()
        && let Ok(branches) = database.branches()
    {
        // One that its world has lost is gone all the same.
        drop(branches.delete(name, id).await);
    }
    platform.remove(&row.reference);
}

/// Returns the row that the path names, by its id or its letters.
async fn one(call: &Call) -> Result<Row, Answer> {
    sweep(&call.platform).await;
    let asked = call.captured("branch_id_or_ref");
    let rows = call.platform.branches();
    let found = rows.iter().find(|row| row.id == asked || row.reference == asked);
    found.cloned().ok_or_else(|| Answer::message(404, "Branch not found"))
}

async fn rows_of(call: &Call, project: &Project) -> Vec<Row> {
    sweep(&call.platform).await;
    let rows = call.platform.branches();
    rows.iter().filter(|row| row.parent == project.reference).cloned().collect()
}

/// Removes the branches whose hour is over.
async fn sweep(platform: &Platform) {
    let now = platform.now();
    let over: Vec<Row> =
        platform.branches().iter().filter(|r| r.deleted_at.is_some_and(|at| at <= now)).cloned().collect();
    for row in over {
        remove(platform, &row).await;
    }
}

fn is_seen(call: &Call, row: &Row) -> bool {
    row.is_default || row.created_at.plus(call.platform.takes(UNSEEN)) <= call.platform.now()
}

async fn show(call: &Call, row: &Row) -> Value {
    let project = call.platform.project(&row.reference);
    let health = match &project {
        Some(project) => project.status(&call.platform).await,
        None => "REMOVED",
    };
    let settles = project.is_some_and(|p| p.notes().settles_until.is_some_and(|at| call.platform.now() < at));
    let status = match health {
        "ACTIVE_HEALTHY" if settles && !row.is_default => "RUNNING_MIGRATIONS",
        "ACTIVE_HEALTHY" => "FUNCTIONS_DEPLOYED",
        "COMING_UP" => "CREATING_PROJECT",
        _ => "MIGRATIONS_PASSED",
    };
    let mut shown = json!({
        "id": row.id,
        "name": row.name,
        "project_ref": row.reference,
        "parent_project_ref": row.parent,
        "is_default": row.is_default,
        "persistent": row.persistent,
        "status": status,
        "created_at": row.created_at.to_string(),
        "updated_at": row.updated_at.to_string(),
        "with_data": row.with_data,
        "preview_project_status": health,
    });
    let more = [
        ("git_branch", row.git_branch.clone()),
        ("notify_url", row.notify_url.clone()),
        ("review_requested_at", row.review_requested_at.map(|at| at.to_string())),
        ("deletion_scheduled_at", row.deleted_at.map(|at| at.to_string())),
    ];
    for (name, value) in more {
        if let Some(value) = value {
            shown[name] = value.into();
        }
    }
    shown
}
