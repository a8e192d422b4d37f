//! Branches: each is a project of its own, with its own reference, listed under the project it is of.
//!
//! - A branch is called `<name>-<key>`: the platform keeps no label, and its names are unique.
//! - Its id is its reference, which no later branch ever has.
//! - The platform lists the project itself as a default branch. Here that is none, and nothing touches it.

use super::{Supabase, asking, statuses};
use crate::{
    base::moment::{Moment, Span},
    provider::{
        Accept, Branches, Code, Error, Provider, Result,
        model::{Branch, Job, Key},
    },
};
use async_trait::async_trait;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// How many characters a key has.
const KEY_LENGTH: usize = 10;
/// How often, and how far apart, the list is looked at for a branch that was deleted.
const GONE_LOOKS: u32 = 15;

/// A branch, as the list of a project's branches shows it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Row {
    /// Its own id.
    pub id: String,
    /// Its name, with the key of the call that made it.
    pub name: String,
    /// Its reference.
    pub project_ref: String,
    #[serde(default)]
    parent_project_ref: String,
    #[serde(default)]
    is_default: bool,
    #[serde(default)]
    persistent: bool,
    /// How its workflow is.
    #[serde(default)]
    pub status: String,
    created_at: String,
    preview_project_status: Option<String>,
}

/// A branch's own project. The answer holds the password of its database and the secret of its tokens, which is why
/// this is read out of it and the rest is dropped.
#[derive(Deserialize)]
pub(super) struct Inside {
    /// How it is, in the platform's word.
    pub status: String,
    /// Where its database is.
    pub db_host: String,
    /// The port there.
    pub db_port: u16,
    /// The server's version.
    #[serde(default)]
    pub postgres_version: String,
}

impl Row {
    /// Returns the key that the name ends with.
    pub(super) fn key(&self) -> Option<Key> {
        let (_, key) = self.name.rsplit_once('-')?;
        let is_key = key.len() == KEY_LENGTH && key.chars().all(|c| matches!(c, 'a'..='z' | '2'..='7'));
        is_key.then(|| Key(key.into()))
    }

    /// Returns whether this is the project itself.
    pub(super) fn is_the_project(&self) -> bool {
        self.is_default || self.project_ref == self.parent_project_ref
    }

    fn is_called(&self, name: &str) -> bool {
        self.name == name
            || self.key().is_some_and(|key| self.name.strip_suffix(&format!("-{key}")) == Some(name))
    }

    /// Returns the branch as it is seen from outside.
    ///
    /// # Errors
    /// [`Code::Internal`] for a moment that is none.
    pub(super) fn branch(&self, target: &str, inside: Option<&Inside>) -> Result<Branch> {
        let project = inside.map(|i| i.status.as_str()).or(self.preview_project_status.as_deref());
        let created_at = Moment::parse(&self.created_at)
            .map_err(|e| Error::new(Code::Internal, format!("branch `{}`: {e}", self.name)))?;
        Ok(Branch {
            name: self.name.clone(),
            id: self.project_ref.clone(),
            target: target.into(),
            status: statuses::of_branch(&self.status, project),
            created_at,
            backup: None,
            reached: None,
            timeline: None,
            host: inside.map(|i| i.db_host.clone()),
            port: inside.map(|i| i.db_port),
            temporary: false,
            run: None,
            key: self.key(),
        })
    }
}

/// Returns the name of a branch that `key` makes.
///
/// # Errors
/// [`Code::Invalid`].
pub(super) fn full_name(name: &str, key: &Key) -> Result<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || ['-', '_', '.'].contains(&c);
    if name.is_empty() || name.len() > 40 || !name.chars().all(fits) {
        return Err(Error::new(Code::Invalid, format!("a branch cannot be called `{name}`"))
            .hint("use up to 40 letters, digits, `-`, `_` and `.`"));
    }
    Ok(format!("{name}-{key}"))
}

impl Supabase {
    /// Returns every branch, the project itself left out, oldest first.
    ///
    /// # Errors
    /// What the API says.
    pub(super) async fn branch_rows(&self) -> Result<Vec<Row>> {
        let mut rows: Vec<Row> = self.ask("/branches").await?;
        rows.retain(|row| !row.is_the_project() && row.project_ref != self.reference);
        rows.sort_by(|a, b| (&a.created_at, &a.name).cmp(&(&b.created_at, &b.name)));
        Ok(rows)
    }

    /// Returns a branch by its name, with or without the key that it ends with.
    ///
    /// # Errors
    /// [`Code::NotFound`]; [`Code::Conflict`] when the short name fits two.
    pub(super) async fn branch_row(&self, name: &str) -> Result<Row> {
        let rows = self.branch_rows().await?;
        if let Some(row) = rows.iter().find(|row| row.name == name) {
            return Ok(row.clone());
        }
        let called: Vec<&Row> = rows.iter().filter(|row| row.is_called(name)).collect();
        match called[..] {
            [row] => Ok(row.clone()),
            [] => {
                let names: Vec<_> = rows.iter().map(|row| format!("`{}`", row.name)).collect();
                let there = if names.is_empty() { "there is none".into() } else { names.join(", ") };
                Err(Error::new(Code::NotFound, format!("`{}` has no branch `{name}`", self.target))
                    .hint(format!("its branches: {there}")))
            }
            _ => {
                let names: Vec<_> = called.iter().map(|row| format!("`{}`", row.name)).collect();
                Err(Error {
                    retryable: false,
                    ..Error::new(Code::Conflict, format!("`{name}` fits several branches"))
                }
                .hint(format!("name one of {}", names.join(", "))))
            }
        }
    }

    /// Returns how a branch's own project is; `None` while it is too young to be found.
    ///
    /// # Errors
    /// What the API says.
    pub(super) async fn inside(&self, reference: &str) -> Result<Option<Inside>> {
        let path = format!("/v1/branches/{reference}");
        match self.api.get(&path).await {
            Ok(answer) => asking::read(answer, &path).map(Some),
            Err(e) if e.code == Code::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    async fn shown(&self, row: &Row) -> Result<Branch> {
        let inside = self.inside(&row.project_ref).await?;
        let mut branch = row.branch(&self.target, inside.as_ref())?;
        if inside.is_none() && branch.status == "ready" {
            branch.status = "preparing".into();
        }
        Ok(branch)
    }

    /// Deletes a branch; one that is gone is no error.
    ///
    /// # Errors
    /// [`Code::Refused`] for the project itself, and what the API says.
    pub(super) async fn delete_branch(&self, reference: &str) -> Result<()> {
        let rows: Vec<Row> = self.ask("/branches").await?;
        let Some(row) = rows.into_iter().find(|row| row.project_ref == reference) else { return Ok(()) };
        if row.is_the_project() || row.project_ref == self.reference {
            return Err(Error::new(Code::Refused, format!("`{}` is the project itself", row.name)));
        }
        let path = format!("/v1/branches/{reference}");
        if row.persistent {
            self.api.send(Method::PATCH, &path, Some(&json!({ "persistent": false }))).await?;
        }
        match self.api.send(Method::DELETE, &path, None).await {
            Ok(_) => {}
            Err(e) if e.code == Code::NotFound => {}
            Err(e) => return Err(e),
        }
        for _ in 0..GONE_LOOKS {
            if self.branch_rows().await?.iter().all(|row| row.project_ref != reference) {
                break;
            }
            self.clock.sleep(Span::seconds(2)).await;
        }
        Ok(())
    }

    /// Returns the branch that a handle is about, which must be that one and not the project itself.
    async fn existing(&self, branch: &Branch) -> Result<Row> {
        let rows = self.branch_rows().await?;
        rows.into_iter()
            .find(|row| row.project_ref == branch.id)
            .ok_or_else(|| Error::new(Code::NotFound, format!("branch `{}` is gone", branch.name)))
    }

    /// Asks a branch to do something that a workflow does, and returns the job of waiting for it.
    async fn workflow(&self, verb: &str, branch: &Branch, intent: &dyn Accept) -> Result<Job> {
        let row = self.existing(branch).await?;
        let before = self.workflows().await?;
        let detail = json!({
            "reference": row.project_ref, "branch": row.id, "name": row.name, "asked_at": self.clock.now(),
        });
        intent.accepted(json!({ "kind": verb, "before": before, "detail": detail })).await?;
        let path =
            format!("/v1/branches/{}/{}", row.project_ref, if verb == "promote" { "merge" } else { verb });
        let answer = self.api.send(Method::POST, &path, Some(&json!({}))).await?;
        let id = answer["workflow_run_id"].as_str().unwrap_or_default();
        Ok(Job { kind: verb.into(), id: id.into(), detail })
    }

    /// Returns the ids of the latest workflows.
    pub(super) async fn workflows(&self) -> Result<Vec<String>> {
        let runs: Vec<Value> = self.ask("/actions?limit=50").await?;
        Ok(runs.iter().filter_map(|run| run["id"].as_str().map(str::to_owned)).collect())
    }
}

#[async_trait]
impl Branches for Supabase {
    async fn list(&self) -> Result<Vec<Branch>> {
        let mut branches = Vec::new();
        for row in self.branch_rows().await? {
            branches.push(match row.preview_project_status {
                Some(_) => row.branch(&self.target, None)?,
                None => self.shown(&row).await?,
            });
        }
        Ok(branches)
    }

    async fn get(&self, name: &str) -> Result<Branch> {
        let row = self.branch_row(name).await?;
        self.shown(&row).await
    }

    async fn open(&self, name: &str) -> Result<Arc<dyn Provider>> {
        let row = self.branch_row(name).await?;
        let branch = row.branch(&self.target, None)?;
        Ok(Arc::new(Self { reference: row.project_ref, branch: Some(branch), ..self.clone() }))
    }

    async fn delete(&self, _: &str, id: &str) -> Result<()> {
        self.delete_branch(id).await
    }

    async fn reset(&self, branch: &Branch, _: &Key, intent: &dyn Accept) -> Result<Job> {
        self.workflow("reset", branch, intent).await
    }

    async fn promote(&self, branch: &Branch, _: &Key, intent: &dyn Accept) -> Result<Job> {
        self.workflow("promote", branch, intent).await
    }
}
